"""The studio as a Space starts it: in its own process, with a Space's environment and a stand-in for `spaces`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.presets import ROOT
from glmimage import metadata
from tests.browser.visits import PATIENCE, WIDE, browsed, expect, paint

pytestmark = browsed
STAND_IN = """
import json, os, pickle

def GPU(duration):
    def decorate(task):
        def call(*arguments):
            line = {"seconds": duration(*arguments), "events": []}
            try:
                for outcome in task(*pickle.loads(pickle.dumps(arguments))):
                    line["events"].append(type(outcome).__name__)
                    yield pickle.loads(pickle.dumps(outcome))
            finally:
                with open(os.environ["LENDER_LOG"], "a") as log:
                    print(json.dumps(line), file=log)
        return call
    return decorate

def gradio_auto_wrap(task):
    return task  # Gradio asks for this
"""
COPIED, LINKED = ("launch.py", "bootstrap.py"), ("app", "glmimage", "presets", "assets")


class Hosted:
    """The child, and what it leaves on the disk. On a card that is lent the owner wishes for the miniature; without one
    nobody says what is loaded."""

    def __init__(self, folder: Path, *, zero: bool) -> None:
        self.program = folder / "program"
        self.program.mkdir()
        # Where launch.py finds no environment of ours beside it, as on a Space.
        for name in COPIED:
            shutil.copy(ROOT / name, self.program)
        for name in (*LINKED, "requirements.txt", "constraints.txt"):
            (self.program / name).symlink_to(ROOT / name)
        self.temporary, self.log = folder / "tmp", folder / "log"
        (folder / "packages").mkdir()
        self.temporary.mkdir()
        if zero:
            (folder / "packages" / "spaces.py").write_text(STAND_IN)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        space = {
            "SYSTEM": "spaces",
            "SPACE_ID": "someone/atelier",
            "SPACE_HOST": "someone-atelier.hf.space",
            "GRADIO_SERVER_NAME": "0.0.0.0",
            "GRADIO_SERVER_PORT": str(self.port),
        }
        if zero:
            space |= {"SPACES_ZERO_GPU": "true", "ATELIER_CHECKPOINT": "miniature"}
        ours = {
            "TMPDIR": str(self.temporary),
            "HOME": str(folder / "home"),
            "LENDER_LOG": str(self.log),
            "PYTHONPATH": str(folder / "packages"),
            # No GPU is found there.
            "PATH": str(folder / "packages"),
        }
        self.process = subprocess.Popen(
            [sys.executable, str(self.program / "launch.py")],
            env={**os.environ, **space, **ours},
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def greeting(self) -> str:
        """What it says once it listens."""
        assert self.process.stdout is not None
        said = ""
        for line in self.process.stdout:
            said += line
            if "is open at" in line:
                return said
        raise AssertionError(said)

    def listens_everywhere(self) -> bool:
        """Linux alone says this without another machine's help."""
        sockets = Path("/proc/net/tcp")
        return not sockets.exists() or f" 00000000:{self.port:04X} " in sockets.read_text()

    def status(self, path: str) -> int:
        try:
            with urllib.request.urlopen(self.url + path, timeout=60) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def files(self) -> list[Path]:
        return [path for path in self.temporary.rglob("*") if path.is_file()]


@pytest.fixture
def hosted(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Hosted]:
    hosted = Hosted(tmp_path, zero=request.param)
    yield hosted
    hosted.process.kill()
    hosted.process.wait()


on_a_lent_card = pytest.mark.parametrize("hosted", [True], ids=["lent card"], indirect=True)
without_a_gpu = pytest.mark.parametrize("hosted", [False], ids=["no GPU"], indirect=True)


def enter(hosted: Hosted, browser: Any) -> Any:
    context = browser.new_context(viewport={"width": WIDE[0], "height": WIDE[1]})
    context.set_default_timeout(2 * PATIENCE)
    page = context.new_page()
    page.goto(hosted.url)
    expect(page.locator("#create-paint")).to_be_visible()
    return page


@on_a_lent_card
def test_visitors_paint_on_a_lent_card_each_in_a_room_of_their_own(hosted: Hosted, browser: Any) -> None:
    assert "Installing" not in hosted.greeting()
    assert hosted.listens_everywhere()
    mine, yours = enter(hosted, browser), enter(hosted, browser)
    paint(mine, "a cat on a blue background")
    expect(mine.locator("#create-shelf .frame[data-act=choose]")).to_have_count(1, timeout=4 * PATIENCE)

    calls = [json.loads(line) for line in hosted.log.read_text().splitlines()]
    assert [call["events"][-1] for call in calls] == ["Result"]
    assert 10 <= calls[0]["seconds"] <= 120

    yours.reload()
    expect(yours.locator("#create-paint")).to_be_visible()
    yours.locator("#tabs [data-tab-id=gallery]").click()
    expect(yours.locator("#tab-gallery")).to_be_visible()
    assert "/pictures/" not in yours.content()
    yours.locator("#tabs [data-tab-id=system]").click()
    expect(yours.locator("#system-machine")).to_be_visible()
    expect(yours.locator("#system-load")).to_have_count(0)

    served = {path for path in hosted.files() if hosted.status(f"/gradio_api/file={path}") == 200}
    assert {path.parent.parent.name for path in served if path.suffix == ".png"} == {"pictures"}
    private = [path for path in hosted.files() if path.name.startswith(("index.sqlite", "speeds"))]
    assert private
    assert not served & set(private)

    for context in list(browser.contexts):
        context.close()
    hosted.process.send_signal(signal.SIGTERM)
    hosted.process.wait(60)
    assert not hosted.files(), "visitors' pictures go with the process"
    assert sorted(path.name for path in hosted.program.iterdir() if path.name != "__pycache__") == sorted(
        (*COPIED, *LINKED, "requirements.txt", "constraints.txt")
    )


@without_a_gpu
def test_without_a_gpu_the_miniature_paints(hosted: Hosted, browser: Any) -> None:
    hosted.greeting()
    page = enter(hosted, browser)
    expect(page.locator(".status.is-ready")).to_contain_text("miniature", timeout=2 * PATIENCE)
    paint(page, "a cat on a blue background")
    expect(page.locator("#create-shelf .frame[data-act=choose]")).to_have_count(1, timeout=4 * PATIENCE)
    (picture,) = (path for path in hosted.files() if path.suffix == ".png" and path.parent.parent.name == "pictures")
    settings = metadata.read(picture)
    assert settings is not None
    assert settings.checkpoint == "miniature"
    page.context.close()


@without_a_gpu
def test_the_page_can_be_installed_as_an_app(hosted: Hosted) -> None:
    hosted.greeting()
    with urllib.request.urlopen(f"{hosted.url}/manifest.json", timeout=60) as answer:
        manifest = json.load(answer)
    assert manifest["name"] == "GLM-Image Atelier"
    assert manifest["display"] == "standalone"
    for icon in manifest["icons"]:
        assert hosted.status("/" + icon["src"].lstrip("/")) == 200
