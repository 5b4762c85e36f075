"""Fetching from a hub on this machine: all of it, the rest of it, none of it, and what each fault is called."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from app import serve
from app.choice import Choice
from app.history import History
from app.run import Worker
from glmimage import checkpoint, download
from glmimage.__main__ import main
from glmimage.errors import CheckpointError, HubUnreachable, Stopped
from glmimage.request import Defaults
from tests.fake_hub import COMMIT, HUB_ID, LICENCE, PATIENCE, FakeHub, point_to

ROOT = Path(__file__).parent.parent
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def hub(tiny: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    folder = Path(shutil.copytree(tiny, tmp_path / "served"))
    (folder / "README.md").write_text("a card")
    (folder / "vae" / "model.bin").write_text("a pickle")
    with FakeHub(folder).serving() as served:
        point_to(served, cache, monkeypatch)
        yield served


def wanted(hub: FakeHub) -> list[str]:
    return [name for name in hub.files() if name not in ("README.md", "vae/model.bin")]


def test_a_whole_checkpoint_is_fetched_once(hub: FakeHub, cache: Path) -> None:
    reports: list[download.Transfer] = []
    folder = checkpoint.find(HUB_ID, reports.append)
    checkpoint.verify(folder)
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert files == wanted(hub), "and no pickle and no card"
    for name in files:
        assert (folder / name).read_bytes() == (hub.folder / name).read_bytes()
    assert not list(cache.rglob("*.incomplete"))

    first, last = reports[0], reports[-1]
    assert (first.release.hub_id, first.release.licence) == (HUB_ID, LICENCE)
    assert (first.doing, first.done, last.done) == ("downloading", 0, last.total)
    assert [one.done for one in reports] == sorted(one.done for one in reports)

    asked, reports = len(hub.asked), []
    assert checkpoint.find(HUB_ID, reports.append) == folder
    assert (len(hub.asked), reports) == (asked, []), "a later start asks nobody"
    assert checkpoint.fetch(HUB_ID, reports.append) == folder
    assert (len(hub.asked), reports) == (asked + 1, []), "fetch asks whether there is a newer one"


def test_the_hub_clients_own_functions_find_it(hub: FakeHub) -> None:
    import huggingface_hub

    folder = checkpoint.find(HUB_ID)
    assert huggingface_hub.snapshot_download(HUB_ID, local_files_only=True) == str(folder)
    assert [repo.repo_id for repo in huggingface_hub.scan_cache_dir(folder.parents[2]).repos] == [HUB_ID]
    assert checkpoint.read_defaults(folder).width == 64


def test_without_the_hub_the_copy_in_the_cache_does(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    folder = checkpoint.find(HUB_ID)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # the discard port: nobody answers
    assert checkpoint.find(HUB_ID) == folder
    assert checkpoint.fetch(HUB_ID) == folder
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert checkpoint.fetch(HUB_ID) == folder
    # Another program's copy counts too, but an incomplete one is named.
    (folder.parents[1] / download.RECORD).unlink()
    assert checkpoint.find(HUB_ID) == folder
    (folder / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=rf"{WEIGHTS} missing.* cannot be completed.*HF_HUB_OFFLINE"):
        checkpoint.find(HUB_ID)


def test_nothing_in_the_cache_and_no_hub_is_one_sentence(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubUnreachable, match=r"http://127\.0\.0\.1:9 cannot be reached .*check the network"):
        checkpoint.find(HUB_ID)


def test_a_cut_download_goes_on_where_it_ended(hub: FakeHub, cache: Path) -> None:
    hub.cuts[WEIGHTS] = [1000]
    with pytest.raises(HubUnreachable, match="what has arrived is kept"):
        checkpoint.find(HUB_ID)
    assert hub.sent[WEIGHTS] == 1000
    arrived = {path.name for path in cache.glob("models--*/blobs/*") if path.suffix != ".incomplete"}
    files = {file.path: file for file in checkpoint._look_up(HUB_ID).files if file.digest in arrived}

    reports: list[download.Transfer] = []
    folder = checkpoint.find(HUB_ID, reports.append)
    checkpoint.verify(folder)
    assert hub.ranges[WEIGHTS] == ["", "bytes=1000-"]
    assert hub.sent[WEIGHTS] == (hub.folder / WEIGHTS).stat().st_size, "no byte twice"
    assert all(len(hub.ranges[name]) == 1 for name in hub.ranges if name in files), "nor what had arrived in full"
    downloading = [one for one in reports if one.doing == "downloading"]
    assert downloading[0].done >= max((file.size for file in files.values()), default=0)
    assert downloading[-1].done == downloading[-1].total


def test_short_troubles_are_sat_out(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSES", (0.0,))
    monkeypatch.setattr(download, "CONNECTIONS", 1)
    hub.cuts[WEIGHTS] = [1000, 2000, 3000]
    release = checkpoint._look_up(HUB_ID)
    hub.busy = 1
    checkpoint.verify(download.fetch(release))
    assert hub.ranges[WEIGHTS] == ["", "bytes=1000-", "bytes=3000-", "bytes=6000-"]


def test_a_wrong_hash_is_named_and_fetched_again(hub: FakeHub, cache: Path) -> None:
    hub.damaged = {WEIGHTS}
    with pytest.raises(CheckpointError, match=rf"{WEIGHTS} of {HUB_ID} arrived damaged .* fetch the checkpoint again"):
        checkpoint.find(HUB_ID)
    assert not list(cache.glob("models--*/snapshots/*")), "nobody finds half a checkpoint"
    hub.damaged = set()
    checkpoint.verify(checkpoint.find(HUB_ID))
    assert hub.ranges[WEIGHTS] == ["", ""], "and from its beginning"
    hub.damaged = {"vae/config.json"}
    shutil.rmtree(cache)
    with pytest.raises(CheckpointError, match=r"vae/config\.json"):
        checkpoint.find(HUB_ID)


def test_what_other_programs_left_is_checked_once(hub: FakeHub) -> None:
    folder = checkpoint.find(HUB_ID)
    (folder.parents[1] / download.RECORD).unlink()
    weights = folder / WEIGHTS
    data = weights.read_bytes()
    weights.write_bytes(data[:-1] + b"?")
    reports: list[download.Transfer] = []
    assert checkpoint.find(HUB_ID, reports.append) == folder
    assert {one.doing for one in reports} == {"checking", "downloading"}
    assert weights.read_bytes() == data
    assert {name: len(ranges) for name, ranges in hub.ranges.items() if len(ranges) > 1} == {WEIGHTS: 2}
    reports.clear()
    checkpoint.fetch(HUB_ID, reports.append)
    assert reports == []


def test_a_file_that_vanished_is_fetched_again(hub: FakeHub) -> None:
    folder = checkpoint.find(HUB_ID)
    for path in ((folder / WEIGHTS).resolve(), folder / "vae" / "config.json"):
        path.unlink()
    checkpoint.verify(checkpoint.find(HUB_ID))
    assert [name for name, ranges in hub.ranges.items() if len(ranges) > 1] == [WEIGHTS], "the other's content is there"


def test_where_links_are_forbidden_the_files_stand_themselves(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: object, target_is_directory: bool = False) -> None:
        raise OSError("A required privilege is not held by the client")

    twin = (hub.folder / "vae" / "config.json").read_bytes()
    (hub.folder / "vae" / "twin.json").write_bytes(twin)
    monkeypatch.setattr(Path, "symlink_to", refuse)
    folder = checkpoint.find(HUB_ID)
    checkpoint.verify(folder)
    assert (folder / "vae" / "config.json").read_bytes() == (folder / "vae" / "twin.json").read_bytes() == twin
    assert not list((folder.parents[1] / "blobs").iterdir()), "no gigabyte lies there twice"
    assert checkpoint.fetch(HUB_ID) == folder


def test_too_little_space_is_said_before_anything_is_fetched(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 12345
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=free, used=0, free=free))
    with pytest.raises(CheckpointError, match=r"needs \d\S* [GM]iB more in .*, where 0\.0 MiB are free; make room"):
        checkpoint.find(HUB_ID)
    assert hub.sent == {}


def test_unknown_ids_and_revisions(hub: FakeHub) -> None:
    with pytest.raises(CheckpointError, match=r"has no checkpoint someone/else .*correct the name.*HF_TOKEN"):
        checkpoint.find("someone/else")
    with pytest.raises(CheckpointError, match=rf"{HUB_ID}@v9 has no such revision"):
        checkpoint.find(f"{HUB_ID}@v9")
    assert checkpoint.find(f"{HUB_ID}@v1") == checkpoint.find(f"{HUB_ID}@{COMMIT}")
    for name in (f"{HUB_ID}@", f"{HUB_ID}@../v1", "../x@v1"):
        with pytest.raises(CheckpointError, match="no checkpoint"):
            checkpoint.find(name)


def test_a_token_opens_what_is_gated_or_private(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.token = "hf_right"
    with pytest.raises(
        CheckpointError, match=rf"accept them at {hub.url}/{HUB_ID}, log in with `hf auth login` or set"
    ):
        checkpoint.find(HUB_ID)
    hub.private = True
    with pytest.raises(CheckpointError, match=r"if it is private, log in with `hf auth login` or set HF_TOKEN"):
        checkpoint.find(HUB_ID)
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    checkpoint.verify(checkpoint.find(HUB_ID))


def test_the_token_of_the_clients_own_log_in_is_used(hub: FakeHub, cache: Path) -> None:
    hub.token, hub.private = "hf_kept", True
    cache.mkdir()
    (cache / "token").write_text("hf_kept")
    checkpoint.verify(checkpoint.find(HUB_ID))


def test_another_model_is_refused_before_it_is_fetched(hub: FakeHub) -> None:
    (hub.folder / "vision_language_encoder" / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"not a GLM-Image checkpoint: it has no vision_language_encoder/config"):
        checkpoint.find(HUB_ID)
    assert hub.sent == {}


@pytest.mark.parametrize(
    "changes",
    [{"rfilename": "vae/../../evil.json"}, {"rfilename": "vae//evil.json"}, {"blobId": "../evil"}, {"size": None}],
)
def test_a_hub_that_lies_is_not_believed(
    changes: dict[str, object], hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = hub.info()
    next(one for one in info["siblings"] if one["rfilename"] == "vae/config.json").update(changes)
    monkeypatch.setattr(hub, "info", lambda: info)
    with pytest.raises(CheckpointError, match="no size, hash or proper name"):
        checkpoint.find(HUB_ID)


@pytest.mark.parametrize("answer", [[], {}, {"id": HUB_ID, "sha": "../x"}])
def test_what_is_no_hub_is_said(answer: object, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "info", lambda: answer)
    with pytest.raises(CheckpointError, match="HF_ENDPOINT"):
        checkpoint.find(HUB_ID)


def test_an_unwritable_cache_is_one_sentence(hub: FakeHub, cache: Path) -> None:
    cache.write_text("not a folder")
    with pytest.raises(CheckpointError, match=r"cannot be stored in .*HF_HOME"):
        checkpoint.find(HUB_ID)


def test_what_a_report_raises_ends_the_fetch_and_keeps_what_arrived(hub: FakeHub, cache: Path) -> None:
    def report(transfer: download.Transfer) -> None:
        if transfer.done > transfer.total // 2:
            raise Stopped

    with pytest.raises(Stopped):
        checkpoint.find(HUB_ID, report)
    sent = dict(hub.sent)
    assert list(cache.glob("models--*/blobs/*"))
    checkpoint.verify(checkpoint.find(HUB_ID))
    assert any(hub.sent[name] == count for name, count in sent.items()), "not everything came twice"


def test_a_damaged_record_means_checking_again(hub: FakeHub) -> None:
    folder = checkpoint.find(HUB_ID)
    for text in ("{", "[]", '{"hashes": 3}', json.dumps({"hashes": [], "commits": {COMMIT: 3}})):
        (folder.parents[1] / download.RECORD).write_text(text)
        reports: list[download.Transfer] = []
        assert checkpoint.find(HUB_ID, reports.append) == folder
        assert {one.doing for one in reports} == {"checking"}


def test_the_command_line(hub: FakeHub, capsys: pytest.CaptureFixture[str], tiny: Path) -> None:
    assert main(["fetch", HUB_ID, "--check"]) == 2
    assert f"{WEIGHTS} (" in capsys.readouterr().err
    assert hub.sent == {}
    assert main(["fetch", HUB_ID]) == 0
    printed = capsys.readouterr()
    assert f"{HUB_ID} is whole, in " in printed.out
    for words in (HUB_ID, "MiB to download", f"licence: {LICENCE}", "into ", "downloading", "100%"):
        assert words in printed.err
    for name in (HUB_ID, "miniature", str(tiny)):
        assert main(["fetch", name, "--check"]) == 0
        assert main(["fetch", name]) == 0
    assert main(["fetch", "nothing"]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1


def surroundings(hub: FakeHub, cache: Path) -> dict[str, str]:
    """Of a process that finds `hub` by itself."""
    own = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1"}
    return {**os.environ, **own}


def test_the_environment_names_endpoint_and_cache(hub: FakeHub, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "glmimage", "fetch", HUB_ID],
        cwd=ROOT,
        env=surroundings(hub, tmp_path / "mine"),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "mine" / "models--someone--tiny-image" / "snapshots" / COMMIT) in done.stdout
    assert "Traceback" not in done.stderr


def test_ctrl_c_keeps_what_arrived(hub: FakeHub, tmp_path: Path) -> None:
    hub.gate.clear()
    process = subprocess.Popen(
        [sys.executable, "-m", "glmimage", "fetch", HUB_ID],
        cwd=ROOT,
        env=surroundings(hub, tmp_path / "mine"),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    assert HUB_ID in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    hub.gate.set()
    said = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 130, said
    assert "Stopped." in said
    assert "Traceback" not in said
    assert not list((tmp_path / "mine").glob("models--*/snapshots"))


def test_the_page_follows_the_download(hub: FakeHub, tmp_path: Path) -> None:
    hub.gate.clear()
    worker = serve._worker(
        serve.Options(choice=Choice(checkpoint=HUB_ID), data_dir=tmp_path / "data"), None, print, None
    )
    worker.start()
    assert worker.wait(lambda now: now.transfer is not None, PATIENCE)
    transfer = worker.snapshot().transfer
    assert transfer is not None
    assert transfer.release is not None
    assert (transfer.doing, transfer.done, transfer.release.licence) == ("downloading", 0, LICENCE)
    hub.gate.set()
    assert worker.wait(lambda now: now.readiness != "loading", PATIENCE)
    now = worker.snapshot()
    assert (now.readiness, now.message, now.transfer) == ("ready", "", None)
    worker.close()


def test_a_closed_page_ends_the_download(hub: FakeHub, tmp_path: Path) -> None:
    reports: list[download.Transfer] = []

    def load(choice: Choice) -> serve.Painter:
        def report(transfer: download.Transfer) -> None:
            reports.append(transfer)
            worker.report(transfer)

        checkpoint.find(HUB_ID, report)
        raise AssertionError("the download went on")

    hub.gate.clear()
    worker = Worker(load, History(tmp_path / "data"), Defaults(name=HUB_ID))
    worker.start()
    assert worker.wait(lambda now: now.transfer is not None, PATIENCE)
    with worker._lock:
        worker._closed = True
    hub.gate.set()
    assert worker.wait(lambda now: now.readiness == "failed", PATIENCE)
    assert worker.snapshot().message == str(Stopped())
    worker.close()
