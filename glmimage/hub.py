"""The hub: what a checkpoint there holds, where its files lie in the hub client's cache, and its errors in words.

The client (huggingface_hub) does the talking: the endpoint or its mirror, the token of the environment or of its own
log-in, the cache's place. Downloads nothing; knows nothing of what a checkpoint must hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from glmimage.errors import CheckpointError, HubUnreachable, reason

_NAME = re.compile(r"(\w[\w.-]*/\w[\w.-]*)(?:@(\w[\w.-]*(?:/\w[\w.-]*)*))?", re.ASCII)
_PATH = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)*", re.ASCII)
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of a release."""

    path: str
    size: int
    digest: str
    """sha256 of a large file, or the sha1 of a small one's git blob; the cache's name for the content."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """One commit of a repository of the hub, and its place in the cache."""

    hub_id: str
    revision: str
    commit: str
    licence: str
    """As the model card names it; empty where it does not."""
    files: tuple[HubFile, ...]
    folder: Path

    @property
    def snapshot(self) -> Path:
        return self.folder / "snapshots" / self.commit

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def blob(self, file: HubFile) -> Path:
        return self.folder / "blobs" / file.digest

    def present(self, file: HubFile) -> Path | None:
        """Where the file lies, under its name or its hash; None where it is not there in full."""
        for path in (self.snapshot / file.path, self.blob(file)):
            if has(path, file.size):
                return path
        return None

    def missing(self) -> tuple[HubFile, ...]:
        return tuple(file for file in self.files if self.present(file) is None)


def is_name(name: str) -> bool:
    """Whether `name` has the form of a hub id, `owner/model` or `owner/model@revision`."""
    return _NAME.fullmatch(name) is not None


def look_up(name: str, patterns: Sequence[str]) -> Release:
    """Asks the hub what `name` holds, as far as it matches one of `patterns`.

    Raises CheckpointError for what the hub does not have or does not give, HubUnreachable where it does not answer.
    """
    from huggingface_hub import HfApi, constants

    hub_id, revision = _split(name)
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with in_words(name):
        try:
            info = HfApi().model_info(hub_id, revision=revision, files_metadata=True, timeout=timeout)
        # A log-in page of the network or an endpoint that is no hub; the client also refuses odd names this way.
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{constants.ENDPOINT} does not answer as a hub does for {name} ({reason(error)}); correct the name,"
                " the network's log-in, or HF_ENDPOINT if it is set."
            ) from error
    if not _HASH.fullmatch(info.sha or ""):
        raise CheckpointError(f"{constants.ENDPOINT} gives no commit for {name}; use another endpoint (HF_ENDPOINT).")
    files = []
    for sibling in info.siblings or ():
        if not any(fnmatch(sibling.rfilename, pattern) for pattern in patterns):
            continue
        digest = (sibling.lfs.sha256 if sibling.lfs else sibling.blob_id) or ""
        # Both become paths here, and a mirror may be anybody's.
        if sibling.size is None or not _PATH.fullmatch(sibling.rfilename) or not _HASH.fullmatch(digest):
            raise CheckpointError(
                f"{constants.ENDPOINT} gives no size, hash or proper name for {sibling.rfilename!r} of {name};"
                " use another endpoint (HF_ENDPOINT) or another checkpoint."
            )
        files.append(HubFile(sibling.rfilename, sibling.size, digest))
    return Release(
        hub_id=hub_id,
        revision=revision,
        commit=str(info.sha),
        licence=_licence(info.card_data),
        files=tuple(files),
        folder=_folder(hub_id),
    )


def snapshot(name: str) -> Path | None:
    """The snapshot of `name` that any program left in the cache, whole or not; opens no connection."""
    folder, commit = cached(name)
    path = folder / "snapshots" / commit
    return path if commit and path.is_dir() else None


def _split(name: str) -> tuple[str, str]:
    match = _NAME.fullmatch(name)
    assert match, f"{name!r} is not a hub id"
    return match[1], match[2] or "main"


def _folder(hub_id: str) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{hub_id.replace('/', '--')}"


def cached(name: str) -> tuple[Path, str]:
    """The repository's folder in the cache and the commit that `name` meant when it was last fetched, or ""."""
    hub_id, revision = _split(name)
    folder = _folder(hub_id)
    try:
        commit = (folder / "refs" / revision).read_text(encoding="utf-8").strip()
    except OSError:
        commit = revision
    return folder, commit if _HASH.fullmatch(commit) else ""


def bytes_text(count: int) -> str:
    """For people: 33.1 GiB, 0.4 MiB."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 / 10 else f"{count / 2**20:.1f} MiB"


def has(path: Path, size: int) -> bool:
    """Whether a file of that many bytes is there."""
    return path.is_file() and path.stat().st_size == size


def _licence(card: Any) -> str:
    name = getattr(card, "license_name", None) or getattr(card, "license", None) or ""
    return ", ".join(map(str, name)) if isinstance(name, list) else str(name)


def passes(status: int) -> bool:
    """Whether an answer of the hub may be another one in a while."""
    return status in (408, 429) or status >= 500


@contextmanager
def in_words(name: str) -> Iterator[None]:
    """One sentence for each of the hub client's errors, httpx's and the system's."""
    import httpx2
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    log_in = "log in with `hf auth login` or set HF_TOKEN"
    try:
        yield
    except GatedRepoError as error:
        raise CheckpointError(
            f"The checkpoint {name} is given only to those who accepted its terms; accept them at"
            f" {constants.ENDPOINT}/{name.partition('@')[0]}, {log_in}, and try again."
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"{constants.ENDPOINT} has no checkpoint {name} for everyone; correct the name, or, if it is private,"
            f" {log_in}."
        ) from error
    except RevisionNotFoundError as error:
        raise CheckpointError(
            f"The checkpoint {name} has no such revision; name a branch, a tag or a commit after the @."
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise CheckpointError(
                f"{constants.ENDPOINT} refuses to give {name} (status {status}); {log_in} (the present token may be"
                " wrong), and try again."
            ) from error
        if passes(status):
            raise HubUnreachable(
                f"{constants.ENDPOINT} cannot give {name} now (status {status}); try again later, what has arrived is"
                " kept."
            ) from error
        raise CheckpointError(
            f"{constants.ENDPOINT} cannot give {name} (status {status}); correct the name, or HF_ENDPOINT if it is set."
        ) from error
    except OfflineModeIsEnabled as error:
        raise HubUnreachable(
            f"The checkpoint {name} is not here in full and HF_HUB_OFFLINE forbids fetching it; unset HF_HUB_OFFLINE."
        ) from error
    except httpx2.HTTPError as error:
        raise HubUnreachable(
            f"{constants.ENDPOINT} cannot be reached for {name} ({reason(error)}); check the network, or HF_ENDPOINT"
            " if it is set, and try again: what has arrived is kept."
        ) from error
    except OSError as error:
        raise CheckpointError(
            f"The checkpoint {name} cannot be stored in {constants.HF_HUB_CACHE} ({reason(error)}); make room and give"
            " this account the right to write there, or set HF_HOME to another folder."
        ) from error
