"""Puts the page on the network: finds a port, starts the server, then the worker, and waits for Ctrl+C.

The page comes first: torch and the weights are loaded by the worker, behind the page that is already up.
"""

from __future__ import annotations

import atexit
import errno
import importlib
import logging
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from app import choice as choices
from app.choice import Choice
from app.run import Painter, Worker
from app.space import Space
from app.visitors import Visitors
from glmimage.errors import GLMImageError
from glmimage.pictures import LARGEST_FILE

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
    choice: Choice | None = None
    """The checkpoint and how it is to fit; None: what was chosen on the page last, at first the miniature."""
    loras: tuple[str, ...] = ()
    """Adapters to paint with, as "FOLDER" or "FOLDER:WEIGHT"."""
    data_dir: Path | None = None
    share: bool = False
    auth: tuple[str, str] | None = None
    open_browser: bool = True


def serve(options: Options, load: Callable[[Choice], Painter] | None = None, say: Callable[[str], None] = print) -> int:
    """Runs the studio until Ctrl+C; `load` makes another engine than the checkpoint's. Returns an exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        studio = Studio.open(options, load, say)
    except (GLMImageError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    say(f"GLM-Image Atelier is open at {studio.url} (Ctrl+C ends it); pictures are kept in {studio.pictures}.")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
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
        cls, options: Options, load: Callable[[Choice], Painter] | None = None, say: Callable[[str], None] = print
    ) -> Self:
        """Raises GLMImageError or OSError with a sentence."""
        os.environ.update(OFFLINE)
        space = Space.found()
        if space is not None:
            options = replace(options, host="0.0.0.0", port=space.port, open_browser=False)
            atexit.register(shutil.rmtree, space.house, ignore_errors=True)
        port = free_port(options.host, options.port)
        if port != options.port:
            say(f"Port {options.port} is busy; the page opens on port {port} instead.")
        worker = _worker(options, load, say, space)
        os.environ["GRADIO_TEMP_DIR"] = str(worker.history.storage.arriving)
        if space is not None and space.zero:
            # The lender takes the weights over when the page opens.
            worker.prepare()
        page, url = _page(worker, options, port)
        worker.start()
        return cls(url, worker, page)

    @property
    def pictures(self) -> Path:
        return self.worker.visitors.rooms or self.worker.history.folder

    def close(self) -> None:
        self.worker.close()
        self.page.close(verbose=False)
        self.worker.visitors.close()


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


def _worker(
    options: Options, load: Callable[[Choice], Painter] | None, say: Callable[[str], None], space: Space | None
) -> Worker:
    from app.history import History

    data_dir = options.data_dir or (space.data_dir() if space is not None else None)
    if data_dir is None:
        import platformdirs

        data_dir = Path(platformdirs.user_data_dir("glm-image-atelier", appauthor=False))
    try:
        history = History(data_dir.expanduser().resolve())
    except OSError as error:
        raise OSError(
            f"The data folder {data_dir} cannot be used ({error.strerror}); choose another with --data-dir."
        ) from None
    choice = options.choice or choices.read(history.storage.root) or (space.choice if space is not None else Choice())
    rooms = None if space is None or space.shared else space.house / "rooms"
    visitors = Visitors(history, rooms, hosted=space is not None)

    def engine(choice: Choice) -> Painter:
        return _engine(choice, options.loras, worker, say)

    def lent(choice: Choice) -> Painter:
        from app.lent import Lent

        lender = importlib.import_module("spaces")
        return Lent((load or engine)(choice), lender.GPU, worker.speeds.expect)

    loading = lent if space is not None and space.zero else load or engine
    worker = Worker(loading, history, choice.expected(), choice, visitors=visitors)
    return worker


def _engine(choice: Choice, loras: Sequence[str], worker: Worker, say: Callable[[str], None]) -> Painter:
    """What is fetched and loaded is followed on the page, a download also in the terminal, which then says how the
    model fits the machine."""
    from glmimage import checkpoint, quantize
    from glmimage.download import Terminal, Transfer

    with Terminal() as terminal:

        def report(transfer: Transfer) -> None:
            terminal(transfer)
            worker.report(transfer)

        folder = checkpoint.find(choice.checkpoint, report)
    quantize.hush()
    from glmimage.adapters import Adapter
    from glmimage.engine import Engine
    from glmimage.shelf import Shelf

    adapters = [Adapter.parse(text) for text in loras]
    shelf = Shelf(worker.history.storage.encoded)
    # What is not whole is refused before what was there is given up for it.
    checkpoint.verify(folder)
    worker.make_room()
    engine = Engine.load(str(folder), wishes=choice.wishes, shelf=shelf, adapters=adapters, report=worker.report)
    for sentence in engine.workshop.sentences:
        say(sentence)
    return engine


def _page(worker: Worker, options: Options, port: int) -> tuple[gr.Blocks, str]:
    from starlette.middleware import Middleware

    from app import presets, theme, ui
    from app.head import Head
    from app.words import browser_words

    sizes, examples = presets.usable()
    worker.visitors.shown.append(str(presets.ROOT / "assets" / "examples"))
    page = ui.build(worker, sizes, examples)
    _, local, shared = page.queue(default_concurrency_limit=None).launch(
        server_name=options.host,
        server_port=port,
        share=options.share,
        auth=options.auth,
        inbrowser=options.open_browser,
        prevent_thread_lock=True,
        quiet=True,
        theme=theme.theme(),
        app_kwargs={"middleware": [Middleware(Head, html=theme.head(sizes.shapes))]},
        i18n=browser_words(),
        pwa=True,
        # Not copied, for it grows with the visitors.
        allowed_paths=worker.visitors.shown,
        max_file_size=LARGEST_FILE,
        footer_links=[],
        favicon_path=presets.ROOT / "assets" / "favicon.svg",
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        # Gradio would ask for the whole page before anybody does, and give up where a busy machine takes 3 s for it; by
        # then it has seen that the server answers.
        _frontend=False,
    )
    return page, f"{local} and {shared}" if shared else local
