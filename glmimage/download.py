"""Fetches what the cache lacks of a checkpoint of the hub, and checks what arrived.

Files end in the hub client's own cache, in its layout (blobs named by their hash, snapshots that link to them), so that
other programs find them and we find theirs. Three things are our own, because huggingface_hub 2.4 offers none of them:
it throws away what a broken download left, it never compares a download with its hash, and it tells its progress to
nobody but its own bars. So files come by plain HTTP ranges, not by the client's Xet transfer, and one is seen under its
name only after its hash was found right. `verified.json` beside the blobs remembers that: a later start opens no
connection and reads no weights.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from glmimage.errors import CheckpointError, Stopped
from glmimage.hub import HubFile, Release, bytes_text, cached, has, in_words, passes

if TYPE_CHECKING:
    from tqdm import tqdm

CONNECTIONS = 4
"""One stream seldom fills a line to a server far away."""
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before each further try; anything that arrives starts the count anew."""
REPORT_EVERY = 0.25
"""Seconds between two reports; each one makes the page look again."""
RECORD = "verified.json"


@dataclass(frozen=True, slots=True)
class Transfer:
    """How far a checkpoint is on its way to the disk, and from there to memory: `done` of `total` bytes, of a fetch
    those that were there already included."""

    release: Release | None
    """None while weights are loaded."""
    doing: Literal["checking", "downloading", "loading"]
    done: int
    total: int


Report = Callable[[Transfer], None]
"""Told how a fetch or a load goes on, never by two threads at once. What it raises ends it."""


def fetch(release: Release, report: Report | None = None) -> Path:
    """Downloads what the cache lacks of a release, and answers with the snapshot's folder.

    Goes on where an earlier attempt ended. Files that other programs downloaded are checked once. Raises
    CheckpointError for too little space and for a file whose hash is wrong (it is removed), HubUnreachable where the
    connection ended.
    """
    from huggingface_hub.utils import WeakFileLock

    report = report or (lambda transfer: None)
    locks = release.folder.parent / ".locks" / release.folder.name
    with in_words(release.hub_id):
        locks.mkdir(parents=True, exist_ok=True)
        # Two fetches would append to the same unfinished files.
        with WeakFileLock(locks / "fetch.lock"):
            record = _Record.read(release.folder)
            _check(release, record, report)
            _make_sure_it_fits(release)
            _download(release, record, report)
            _link(release)
            record.commits[release.commit] = {file.path: file.size for file in release.files}
            record.write(release.folder)
    return release.snapshot


def verified(name: str) -> Path | None:
    """The snapshot of `name` that was fetched and checked earlier and is still all there; opens no connection."""
    folder, commit = cached(name)
    files = _Record.read(folder).commits.get(commit, {})
    snapshot = folder / "snapshots" / commit
    return snapshot if files and all(has(snapshot / path, size) for path, size in files.items()) else None


class Terminal:
    """A `Report` that says what is fetched, and then shows a bar for each step; leaving it ends the bar."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None
        self._doing = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._close()

    def __call__(self, transfer: Transfer) -> None:
        from tqdm import tqdm

        release = transfer.release
        if release is not None and not self._doing:
            lacking = sum(file.size for file in release.missing())
            print(
                f"{release.hub_id}@{release.commit[:8]}: {bytes_text(release.size)}, {bytes_text(lacking)} to download,"
                f" licence: {release.licence or 'not stated'}, into {release.folder}",
                file=sys.stderr,
            )
        if transfer.doing != self._doing:
            self._close()
            self._doing = transfer.doing
            self._bar = tqdm(
                desc=f"{transfer.doing:<12}",
                total=transfer.total,
                initial=transfer.done,
                unit="B",
                unit_scale=True,
                unit_divisor=1024,
                dynamic_ncols=True,
            )
        assert self._bar is not None
        self._bar.update(transfer.done - self._bar.n)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


@dataclass(slots=True)
class _Record:
    """What was found right: hashes one by one as they arrive, and whole commits as {path: size}."""

    hashes: set[str] = field(default_factory=set)
    commits: dict[str, dict[str, int]] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> _Record:
        """Empty where there is none or it is damaged: then everything is checked again."""
        try:
            data = json.loads((folder / RECORD).read_text(encoding="utf-8"))
            return cls(
                set(map(str, data["hashes"])), {str(commit): dict(files) for commit, files in data["commits"].items()}
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return cls()

    def write(self, folder: Path) -> None:
        data = {"hashes": sorted(self.hashes), "commits": self.commits}
        _replace(folder / RECORD, json.dumps(data, indent=1))


class Meter:
    """Adds up bytes, from whatever thread they come, and reports them now and then."""

    def __init__(self, report: Report, transfer: Transfer) -> None:
        self._report = report
        self._transfer = transfer
        self._done = transfer.done
        self._lock = threading.Lock()
        self._said = time.monotonic()
        report(transfer)

    def add(self, count: int) -> None:
        with self._lock:
            self._done += count
            now = time.monotonic()
            if now - self._said >= REPORT_EVERY or self._done == self._transfer.total:
                self._said = now
                transfer = self._transfer
                self._report(Transfer(transfer.release, transfer.doing, self._done, transfer.total))


def _check(release: Release, record: _Record, report: Report) -> None:
    """Hashes the files that are there and were not hashed before; wrong ones are removed, so they are fetched anew."""
    there = [file for file in release.files if file.digest not in record.hashes and release.present(file)]
    if not there:
        return
    meter = Meter(report, Transfer(release, "checking", 0, sum(file.size for file in there)))
    for file in there:
        path = release.present(file)
        if path is not None and _digest(path, file) == file.digest:
            record.hashes.add(file.digest)
        else:
            for path in (release.snapshot / file.path, release.blob(file)):
                path.unlink(missing_ok=True)
        meter.add(file.size)
    record.write(release.folder)


def _make_sure_it_fits(release: Release) -> None:
    needed = sum(file.size - _size(_unfinished(release, file)) for file in release.missing())
    release.folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(release.folder).free
    if needed > free:
        raise CheckpointError(
            f"The checkpoint {release.hub_id} needs {bytes_text(needed)} more in {release.folder}, where"
            f" {bytes_text(free)} are free; make room, or set HF_HOME to a folder on a larger disk."
        )


def _download(release: Release, record: _Record, report: Report) -> None:
    # The same content under two names is fetched once.
    missing = {file.digest: file for file in release.missing()}
    if not missing:
        return
    total = sum(file.size for file in {file.digest: file for file in release.files}.values())
    meter = Meter(report, Transfer(release, "downloading", total - sum(file.size for file in missing.values()), total))
    release.blob(release.files[0]).parent.mkdir(parents=True, exist_ok=True)
    stop = threading.Event()
    with ThreadPoolExecutor(CONNECTIONS, "download") as pool:
        try:
            jobs = {pool.submit(_obtain, release, file, meter, stop): file for file in missing.values()}
            for job in as_completed(jobs):
                job.result()
                record.hashes.add(jobs[job].digest)
                record.write(release.folder)
        except BaseException:
            # Also Ctrl-C: the other connections end at their next piece, and what they brought stays.
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _obtain(release: Release, file: HubFile, meter: Meter, stop: threading.Event) -> None:
    """One file, from the hub to the name of its hash."""
    part = _unfinished(release, file)
    _receive(release, file, part, meter, stop)
    if _size(part) != file.size or _digest(part, file) != file.digest:
        part.unlink()
        raise CheckpointError(
            f"The file {file.path} of {release.hub_id} arrived damaged (its hash is not the one that the hub states)"
            " and was removed; fetch the checkpoint again."
        )
    part.replace(release.blob(file))


def _receive(release: Release, file: HubFile, part: Path, meter: Meter, stop: threading.Event) -> None:
    """Appends to `part` until it has the file's size; cut connections are taken up where they ended."""
    import httpx2  # the client's own HTTP library, for the errors that it passes on
    from huggingface_hub.errors import HfHubHTTPError

    if _size(part) > file.size:
        part.unlink()
    part.touch()
    meter.add(_size(part))
    tries = 0
    while (had := _size(part)) < file.size:
        try:
            _append(release, file, part, meter, stop)
            if _size(part) < file.size:
                raise httpx2.ReadError("the answer ended early")
        except (httpx2.TransportError, HfHubHTTPError) as error:
            if isinstance(error, HfHubHTTPError) and not passes(error.response.status_code):
                raise
            tries = 1 if _size(part) > had else tries + 1
            if tries > len(PAUSES):
                raise
            stop.wait(PAUSES[tries - 1])
            if stop.is_set():
                raise Stopped from None


def _append(release: Release, file: HubFile, part: Path, meter: Meter, stop: threading.Event) -> None:
    """One request for the rest of the file."""
    from huggingface_hub import constants, get_session, hf_hub_url
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

    had = _size(part)
    url = hf_hub_url(release.hub_id, file.path, revision=release.commit)
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    if had:
        headers["Range"] = f"bytes={had}-"
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream("GET", url, headers=headers, timeout=timeout) as response:
        hf_raise_for_status(response)
        goes_on = response.status_code == 206
        if not goes_on:
            meter.add(-had)
        with part.open("ab" if goes_on else "wb") as out:
            for piece in response.iter_bytes():
                if stop.is_set():
                    raise Stopped
                out.write(piece)
                meter.add(len(piece))


def _link(release: Release) -> None:
    """Gives every file its name in the snapshot, and the snapshot its revision's."""
    for file in release.files:
        path, blob = release.snapshot / file.path, release.blob(file)
        if has(path, file.size):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        try:
            path.symlink_to(os.path.relpath(blob, path.parent))
        except OSError:
            # Windows allows links to few: the name gets the content itself, moved unless another name needs it too.
            others = [other for other in release.files if other.digest == file.digest and other != file]
            if all(has(release.snapshot / other.path, other.size) for other in others):
                blob.replace(path)
            else:
                shutil.copyfile(blob, path)
    if release.revision != release.commit:
        _replace(release.folder / "refs" / release.revision, release.commit)


def _unfinished(release: Release, file: HubFile) -> Path:
    return release.folder / "blobs" / f"{file.digest}.incomplete"


def _digest(path: Path, file: HubFile) -> str:
    """As the hub would state it; git puts a header before a small file's content."""
    with path.open("rb") as content:
        if len(file.digest) == 64:
            return hashlib.file_digest(content, "sha256").hexdigest()
        header = f"blob {file.size}\0".encode()
        return hashlib.file_digest(content, lambda: hashlib.sha1(header, usedforsecurity=False)).hexdigest()


def _size(path: Path) -> int:
    """Bytes; 0 where there is no file."""
    return path.stat().st_size if path.is_file() else 0


def _replace(path: Path, text: str) -> None:
    """Another program never reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)
