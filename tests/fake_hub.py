"""A hub on this machine: as much of the HTTP interface as a download asks for, with faults on demand."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

HUB_ID = "someone/tiny-image"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
LICENCE = "apache-2.0"
PATIENCE = 120.0


class FakeHub:
    """Serves one folder as `HUB_ID`; large files (safetensors) come from another address, as the real ones do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.revisions = {"main": COMMIT, "v1": COMMIT, COMMIT: COMMIT}
        self.token = ""
        """Where set, the files are given only to those who bring it."""
        self.private = False
        """Whether even the list of files needs the token."""
        self.cuts: dict[str, list[int]] = {}
        """path -> after how many bytes the next answers break off."""
        self.damaged: set[str] = set()
        self.busy = 0
        """How many requests are answered with status 503 first."""
        self.gate = threading.Event()
        """Files wait for it."""
        self.gate.set()
        self.asked: list[str] = []
        """Paths of the requests."""
        self.ranges: dict[str, list[str]] = {}
        """path -> the Range of each request for it, "" for the whole."""
        self.sent: dict[str, int] = {}
        """path -> bytes."""
        self.url = ""

    def files(self) -> list[str]:
        return sorted(path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file())

    def info(self) -> dict[str, Any]:
        siblings = []
        for name in self.files():
            data = (self.folder / name).read_bytes()
            header = f"blob {len(data)}\0".encode()
            entry: dict[str, Any] = {
                "rfilename": name,
                "size": len(data),
                "blobId": hashlib.sha1(header + data).hexdigest(),
            }
            if is_large(name):
                entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
            siblings.append(entry)
        return {"id": HUB_ID, "sha": COMMIT, "siblings": siblings, "cardData": {"license": LICENCE}}

    @contextmanager
    def serving(self) -> Iterator[FakeHub]:
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.gate.set()
            server.shutdown()
            server.server_close()
            thread.join(PATIENCE)


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub

    def log_message(self, *words: object) -> None:
        pass

    def do_GET(self) -> None:
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        hub.asked.append(path)
        allowed = not hub.token or self.headers.get("Authorization") == f"Bearer {hub.token}"
        if hub.busy:
            hub.busy -= 1
            self.refuse(503)
        elif path.startswith(f"/api/models/{HUB_ID}/revision/"):
            if hub.private and not allowed:
                self.refuse(401, "RepoNotFound")
            elif path.rsplit("/", 1)[1] in hub.revisions:
                self.answer(json.dumps(hub.info()).encode())
            else:
                self.refuse(404, "RevisionNotFound")
        elif path.startswith(f"/{HUB_ID}/resolve/{COMMIT}/"):
            name = path.split("/", 5)[5]
            if not allowed:
                self.refuse(401, "GatedRepo")
            elif is_large(name):
                self.send_response(302)
                self.send_header("Location", f"/large/{name}")
                self.send_header("Content-Length", "0")
                self.end_headers()
            else:
                self.give(name)
        elif path.startswith("/large/"):
            self.give(path.removeprefix("/large/"))
        else:
            self.refuse(404, "RepoNotFound")

    def give(self, name: str) -> None:
        hub = self.hub
        hub.gate.wait(PATIENCE)
        data = (hub.folder / name).read_bytes()
        if name in hub.damaged:
            data = data[:-1] + bytes([data[-1] ^ 1])
        wanted = self.headers.get("Range", "")
        hub.ranges.setdefault(name, []).append(wanted)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(data) - start))
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        part = data[start:]
        if cuts := hub.cuts.get(name):
            part = part[: cuts.pop(0)]
        self.wfile.write(part)
        hub.sent[name] = hub.sent.get(name, 0) + len(part)

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, status: int, code: str = "") -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


def is_large(name: str) -> bool:
    return name.endswith(".safetensors")


def point_to(hub: FakeHub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the hub client of this process ask `hub` and keep files in `cache`; nobody is logged in."""
    from huggingface_hub import close_session, constants

    from glmimage import download

    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(cache / "tokens"))
    monkeypatch.setattr(download, "PAUSES", ())
    monkeypatch.setattr(download, "REPORT_EVERY", 0.0)
    close_session()
