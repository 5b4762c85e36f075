#!/usr/bin/env python3
"""Starts the studio: `python launch.py`. Runs its tests: `python launch.py test`.

The first run installs what is needed (bootstrap.py) and starts again inside. Standard library alone up to there.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, List, NoReturn, Optional, Tuple

import bootstrap

if TYPE_CHECKING:
    from app.choice import Choice

ROOT = Path(__file__).resolve().parent
EVERYWHERE = ("0.0.0.0", "::")
SPREAD = ["-n", "logical", "--maxprocesses", "4", "--dist", "worksteal"]
"""Of pytest-xdist. Each process has a browser and the libraries, about 1.5 GB; more than processors gained nothing."""


class Arguments(argparse.ArgumentParser):
    """One line for a wrong argument, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, "launch.py: %s; 'python launch.py --help' lists what there is.\n" % message)


def parser() -> Arguments:
    words = Arguments(
        prog="python launch.py",
        description="Opens GLM-Image Atelier in the browser. 'python launch.py test [pytest options]' runs the tests.",
    )
    # A Space says in the environment where it expects the page.
    host = os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1")
    words.add_argument("--host", default=host, help="address to listen on (%(default)s); 0.0.0.0 = everyone")
    words.add_argument(
        "--port",
        type=_port,
        default=os.environ.get("GRADIO_SERVER_PORT", "7860"),
        help="port to listen on (%(default)s); if busy, the next free",
    )
    words.add_argument(
        "--checkpoint",
        help="miniature, a folder, or a hub id such as zai-org/GLM-Image (what was chosen on the page, or miniature)",
    )
    words.add_argument(
        "--bits",
        choices=("auto", "16", "8", "4"),
        default="auto",
        help="of the model's large parts; 16 is as they are stored (what fits this machine)",
    )
    words.add_argument(
        "--offload",
        choices=("auto", "none", "stage", "stream"),
        default="auto",
        help="keep weights off the GPU: none, all but one stage at a time, or the painter block by block (what fits)",
    )
    words.add_argument("--memory", type=float, metavar="GIB", help="of the GPU that may be used (what is free)")
    words.add_argument(
        "--lora",
        action="append",
        default=[],
        metavar="FOLDER[:WEIGHT]",
        help="LoRA adapter in peft's format to paint with; may be repeated",
    )
    words.add_argument(
        "--data-dir", type=Path, help="where pictures are kept (the system's folder for application data)"
    )
    words.add_argument(
        "--share", action="store_true", help="also open a public link for a week, through Gradio's servers"
    )
    words.add_argument("--auth", type=_auth, metavar="USER:PASSWORD", help="ask visitors for this name and password")
    words.add_argument("--no-browser", action="store_true", help="do not open the browser")
    return words


def _choice(options: argparse.Namespace) -> Optional[Choice]:
    """What is said here of the model goes before what was chosen on the page; None where nothing is.

    Raises RequestError.
    """
    from app.choice import Choice

    if options.checkpoint is None and (options.bits, options.offload, options.memory) == ("auto", "auto", None):
        return None
    return Choice(
        checkpoint=options.checkpoint or "miniature",
        bits=None if options.bits == "auto" else int(options.bits),
        offload=options.offload,
        memory=options.memory,
    )


def _port(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError("%r is not a port between 1 and 65535" % text)
    return int(text)


def _auth(text: str) -> Tuple[str, str]:
    user, _, password = text.partition(":")
    if not user or not password:
        raise argparse.ArgumentTypeError("write a name and a password as USER:PASSWORD")
    return user, password


def test(arguments: List[str]) -> int:
    """The whole suite, spread over the processor, or what pytest is told here; with the development packages."""
    outcome = bootstrap.ensure(ROOT, ROOT / "requirements-dev.txt", [str(ROOT / "launch.py"), "test", *arguments])
    if outcome is not None:
        return outcome
    import pytest

    os.chdir(ROOT)
    return int(pytest.main(arguments or SPREAD))


def studio(arguments: List[str]) -> int:
    options = parser().parse_args(arguments)
    hosted = bool(os.environ.get("SPACE_ID")) or os.environ.get("SYSTEM") == "spaces"
    if options.host in EVERYWHERE and options.auth is None and not hosted:
        print(
            "Warning: with --host %s everyone in the network can use this page; add --auth USER:PASSWORD."
            % options.host
        )
    command = [str(ROOT / "launch.py"), *arguments]
    outcome = bootstrap.ensure(ROOT, ROOT / "requirements.txt", command, hosted=hosted)
    if outcome is not None:
        return outcome
    note = bootstrap.gpu_note(Path(sys.executable), shutil.which, bootstrap.torch_has_gpu())
    if note:
        print(note)
    from app.serve import Options, serve
    from glmimage.errors import GLMImageError

    try:
        choice = _choice(options)
    except GLMImageError as error:
        print(error, file=sys.stderr)
        return 2
    return serve(
        Options(
            host=options.host,
            port=options.port,
            choice=choice,
            loras=tuple(options.lora),
            data_dir=options.data_dir,
            share=options.share,
            auth=options.auth,
            open_browser=not options.no_browser,
        )
    )


def main(argv: Optional[List[str]] = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    try:
        if arguments[:1] == ["test"]:
            return test(arguments[1:])
        return studio(arguments)
    except bootstrap.BootstrapError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
