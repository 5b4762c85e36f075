"""Puts the page on the network: finds a port, starts the server, then the worker, and waits for Ctrl+C.

The page comes first: torch and the weights are loaded by the worker, behind the page that is already up.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from app.run import Painter, Worker
from glmimage.errors import GLMImageError
from glmimage.request import Defaults

if TYPE_CHECKING:
    import gradio as gr

PORTS_TRIED = 50
OFFLINE = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}
"""Set before any of the libraries that would send something is imported."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What the command line says."""

    host: str = "127.0.0.1"
    port: int = 7860
    checkpoint: str = "miniature"
    bits: int | None = None
    """8 or 4: the model is quantized as it is loaded; None: as it is stored."""
    offload: str = "none"
    """What stays in host memory: one of `glmimage.residency.OFFLOADS`."""
    data_dir: Path | None = None
    share: bool = False
    auth: tuple[str, str] | None = None
    open_browser: bool = True


def serve(options: Options, load: Callable[[], Painter] | None = None, say: Callable[[str], None] = print) -> int:
    """Runs the studio until Ctrl+C; `load` makes another engine than the checkpoint's. Returns an exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        studio = Studio.open(options, load, say)
    except (GLMImageError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    say(f"GLM-Image Atelier is open at {studio.url} (Ctrl+C ends it); pictures are kept in {studio.pictures}.")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        say("Closing.")
        studio.close()
    return 0


@dataclass(frozen=True, slots=True, eq=False)
class Studio:
    """A page that is up, and the worker behind it."""

    url: str
    worker: Worker
    page: gr.Blocks

    @classmethod
    def open(
        cls, options: Options, load: Callable[[], Painter] | None = None, say: Callable[[str], None] = print
    ) -> Self:
        """Raises GLMImageError or OSError with a sentence."""
        os.environ.update(OFFLINE)
        port = free_port(options.host, options.port)
        if port != options.port:
            say(f"Port {options.port} is busy; the page opens on port {port} instead.")
        worker = _worker(options, load)
        page, url = _page(worker, options, port)
        worker.start()
        return cls(url, worker, page)

    @property
    def pictures(self) -> Path:
        return self.worker.history.folder

    def close(self) -> None:
        self.worker.close()
        self.page.close(verbose=False)


def free_port(host: str, wanted: int) -> int:
    """The wanted port or the next free one. Raises OSError with a sentence."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in range(wanted, min(wanted + PORTS_TRIED, 65536)):
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            if os.name != "nt":
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((host, port))
            except PermissionError:
                raise OSError(
                    f"Port {port} may not be used by this account; choose one above 1023 with --port."
                ) from None
            except OSError as error:
                if _is_busy(error):
                    continue
                raise OSError(
                    f"The address {host!r} is not one of this machine's; leave out --host or correct it."
                ) from None
        return port
    raise OSError(f"No port from {wanted} on is free; choose another with --port.")


def _is_busy(error: OSError) -> bool:
    return error.errno in (errno.EADDRINUSE, errno.EACCES)


def _worker(options: Options, load: Callable[[], Painter] | None) -> Worker:
    from app.history import History

    data_dir = options.data_dir
    if data_dir is None:
        import platformdirs

        data_dir = Path(platformdirs.user_data_dir("glm-image-atelier", appauthor=False))
    try:
        history = History(data_dir.expanduser().resolve())
    except OSError as error:
        raise OSError(
            f"The data folder {data_dir} cannot be used ({error.strerror}); choose another with --data-dir."
        ) from None
    worker = Worker(load or (lambda: _engine(options, worker)), history, expected(options.checkpoint))
    return worker


def _engine(options: Options, worker: Worker) -> Painter:
    """A download is followed on the page and in the terminal."""
    from glmimage import checkpoint, quantize
    from glmimage.download import Terminal, Transfer

    with Terminal() as terminal:

        def report(transfer: Transfer) -> None:
            terminal(transfer)
            worker.report(transfer)

        folder = checkpoint.find(options.checkpoint, report)
    quantize.hush()
    from glmimage.engine import Engine

    formats = quantize.Formats.of_bits(options.bits) if options.bits else None
    return Engine.load(str(folder), formats=formats, offload=options.offload)


def expected(name: str) -> Defaults:
    """What the checkpoint says of itself without a download: of a hub id only the name is known."""
    from glmimage import checkpoint

    if name == checkpoint.MINIATURE or Path(name).expanduser().is_dir():
        return checkpoint.read_defaults(checkpoint.find(name))
    return Defaults(name=name)


def _page(worker: Worker, options: Options, port: int) -> tuple[gr.Blocks, str]:
    from app import presets, theme, ui

    sizes = presets.read_sizes()
    page = ui.build(worker, sizes, presets.read_examples())
    _, local, shared = page.queue(default_concurrency_limit=None).launch(
        server_name=options.host,
        server_port=port,
        share=options.share,
        auth=options.auth,
        inbrowser=options.open_browser,
        prevent_thread_lock=True,
        quiet=True,
        theme=theme.theme(),
        head=theme.head(sizes.shapes),
        allowed_paths=[
            str(worker.history.folder),
            str(worker.history.thumbnails),
            str(presets.ROOT / "assets" / "examples"),
        ],
        footer_links=[],
        favicon_path=presets.ROOT / "assets" / "favicon.svg",
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
    )
    return page, f"{local} and {shared}" if shared else local
