"""The pictures on disk: whole or not there, newest first, found only under keys of our own making."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path

import pytest
from PIL import Image

from app.history import THUMBNAIL_SIDE, History, Query, StoreError
from glmimage import metadata
from glmimage.errors import GLMImageError
from glmimage.events import Result
from glmimage.request import Request
from tests.fakes import FakeEngine

ROOT = Path(__file__).resolve().parent.parent


def result(seed: int = 7, prompt: str = 'a cat and "HELLO"', side: int = 256) -> Result:
    events = FakeEngine().run(Request(prompt=prompt, seed=seed, steps=1, width=side, height=side))
    return next(event for event in events if isinstance(event, Result))


class Clock:
    """A day that passes by the minute."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 1, 31, 23, 58)

    def __call__(self) -> datetime:
        self.moment += timedelta(minutes=1)
        return self.moment


def test_a_stored_picture_opens_and_carries_its_settings(tmp_path: Path) -> None:
    history = History(tmp_path)
    made = result()
    picture = history.add(made)
    with Image.open(picture.path) as stored:
        assert stored.tobytes() == made.image.tobytes()
    settings = history.settings(picture)
    assert settings is not None
    assert settings.request == made.request
    assert (settings.layout_seed, settings.paint_seed) == (7, 7)


def test_newest_come_first_across_midnight(tmp_path: Path) -> None:
    history = History(tmp_path, now=Clock())
    added = [history.add(result(seed)) for seed in (1, 2, 3)]
    assert [picture.key[:10] for picture in added] == ["2026-01-31", "2026-02-01", "2026-02-01"]
    assert history.newest(10) == added[::-1]
    assert history.newest(2) == added[:0:-1]
    assert History(tmp_path).newest(10) == added[::-1], "a restart finds the same from the files alone"


def test_two_pictures_of_one_moment_keep_apart(tmp_path: Path) -> None:
    history = History(tmp_path, now=lambda: datetime(2026, 1, 31))
    assert len({history.add(result(seed=1)).path for _ in range(5)}) == 5


def test_a_failing_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = History(tmp_path)

    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(GLMImageError, match="No space left"):
        history.add(result())
    assert history.newest(1) == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_unfinished_files_are_not_listed_and_old_ones_are_swept(tmp_path: Path) -> None:
    day = tmp_path / "pictures" / "2026-01-31"
    day.mkdir(parents=True)
    recent, old = day / ".093000-120-7-1f2e.png.1.part", day / ".093000-120-7-1f2f.png.1.part"
    recent.write_bytes(b"half")
    old.write_bytes(b"half")
    abandoned = tmp_path / "arriving" / "0123" / "cat.png"
    abandoned.parent.mkdir(parents=True)
    abandoned.write_bytes(b"an upload that nobody took in")
    for path in (old, abandoned):
        os.utime(path, (time.time() - 7200,) * 2)
    history = History(tmp_path)
    assert history.newest(10) == []
    assert recent.exists(), "another run may be writing it"
    assert not old.exists()
    assert not abandoned.parent.exists()


@pytest.mark.parametrize(
    "key",
    [
        "",
        "..",
        "../../etc/passwd",
        "2026-01-31/../secret.png",
        "/etc/passwd",
        "2026-01-31/x.png",
        "2026-01-31",
        "a/b/c",
    ],
)
def test_foreign_keys_find_nothing(tmp_path: Path, key: str) -> None:
    (tmp_path / "secret.png").write_bytes(b"x")
    assert History(tmp_path).find(key) is None


def test_a_key_finds_its_picture_until_the_file_is_gone(tmp_path: Path) -> None:
    history = History(tmp_path)
    picture = history.add(result())
    assert history.find(picture.key) == picture
    picture.path.unlink()
    assert history.find(picture.key) is None


def test_thumbnails_are_small_and_made_once(tmp_path: Path) -> None:
    history = History(tmp_path)
    picture = history.add(result(side=512))
    small = history.thumbnail(picture)
    with Image.open(small) as image:
        assert max(image.size) == THUMBNAIL_SIDE
    stamp = small.stat().st_mtime_ns
    assert history.thumbnail(picture) == small
    assert small.stat().st_mtime_ns == stamp


def test_a_broken_picture_has_no_settings_and_stands_for_itself(tmp_path: Path) -> None:
    history = History(tmp_path)
    picture = history.add(result())
    picture.path.write_bytes(b"not a picture")
    # What a machine that lost power may leave.
    history.thumbnail(picture).write_bytes(b"")
    assert history.settings(picture) is None
    assert history.thumbnail(picture) == picture.path


def test_a_picture_without_our_settings_is_listed(tmp_path: Path) -> None:
    history = History(tmp_path)
    picture = history.add(result())
    Image.new("RGB", (8, 8)).save(picture.path)
    assert history.settings(picture) is None
    assert history.newest(1) == [picture]


def test_stars_and_tags_are_found_and_the_first_spelling_stays(tmp_path: Path) -> None:
    history = History(tmp_path, now=Clock())
    one, two = (history.add(result(seed, f"picture {seed}")).key for seed in (1, 2))
    assert history.star(one, two, "2026-01-31/none.png", "../x") == (one, two)
    assert history.star(two, on=False) == (two,)
    history.tag(one, add=["  Best of\n2026 ", "best OF 2026", "", "\0"])
    history.tag(two, add=["best of 2026", "新"])
    entries = {entry.key: entry for entry in history.search(Query()).pictures}
    assert (entries[one].star, entries[one].tags) == (True, ("Best of 2026",))
    assert (entries[two].star, entries[two].tags) == (False, ("best of 2026", "新"))
    assert [entry.key for entry in history.search(Query(tag="BEST of 2026")).pictures] == [two, one]
    assert [entry.key for entry in history.search(Query(text="best", star=True)).pictures] == [one]
    counts = history.counts()
    assert (counts.total, counts.starred, dict(counts.tags)) == (2, 1, {"Best of 2026": 2, "新": 1})
    history.tag(one, two, remove=["BEST OF 2026"])
    assert history.counts().tags == {"新": 1}


def test_more_tags_than_a_picture_carries_are_refused(tmp_path: Path) -> None:
    history = History(tmp_path)
    key = history.add(result()).key
    history.tag(key, add=["kept"])
    with pytest.raises(StoreError, match="at most 30"):
        history.tag(key, add=map(str, range(40)))
    entry = history.entry(key)
    assert entry is not None
    assert entry.tags == ("kept",)


def test_the_trash_gives_back_everything(tmp_path: Path) -> None:
    history = History(tmp_path)
    picture = history.add(result())
    history.star(picture.key)
    history.tag(picture.key, add=["kept"])
    before = history.entry(picture.key), picture.path.read_bytes()
    assert history.trash(picture.key, picture.key, "nonsense") == (picture.key,)
    assert history.find(picture.key) is None
    assert history.newest(5) == []
    assert history.search(Query()).total == 0
    (trashed,) = history.search(Query(trashed=True)).pictures
    assert trashed.star
    assert trashed.picture == history.find_trashed(picture.key)
    assert history.restore(picture.key) == (picture.key,)
    assert (history.entry(picture.key), picture.path.read_bytes()) == before


def test_the_trash_is_emptied_only_on_demand(tmp_path: Path) -> None:
    history = History(tmp_path, now=Clock())
    kept, first, second = (history.add(result(seed)) for seed in (1, 2, 3))
    history.star(first.key)
    history.thumbnail(first)
    history.trash(first.key, second.key)
    assert history.empty_trash(kept.key) == 0, "what is not in the trash stays"
    assert history.empty_trash(second.key) == 1
    assert History(tmp_path).counts().trashed == 1
    assert history.empty_trash() == 1
    left = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*") if path.is_file()}
    assert left - {"index.sqlite", "index.sqlite-wal", "index.sqlite-shm"} == {"pictures", "thumbnails"}
    assert [path.stem for path in tmp_path.glob("thumbnails/*/*")] == [kept.path.stem]
    assert history.newest(9) == [kept]


SAVING = """
import sys
from pathlib import Path
from PIL import Image
from app.history import History
from glmimage.events import PriorTokens, Result
from glmimage.request import Request
import numpy as np
history = History(Path(sys.argv[1]))
image = Image.effect_noise((512, 512), 90).convert("RGB")
while True:
    request = Request(prompt="noise", width=512, height=512, steps=1, guidance=1.0)
    print(history.add(Result(image, request, 0, 1, 1, PriorTokens(np.zeros((16, 16), np.int64)))).key, flush=True)
"""


def test_a_kill_while_saving_leaves_only_whole_pictures(tmp_path: Path) -> None:
    said = []
    for number in range(3):
        command = [sys.executable, "-c", SAVING, str(tmp_path)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            said += [line.strip() for line in islice(child.stdout, 3 + number)]
            child.kill()
    history = History(tmp_path)
    listed = history.newest(1000)
    assert set(said) <= {picture.key for picture in listed}
    for picture in listed:
        assert metadata.read(picture.path) is not None


def test_the_store_is_imported_in_milliseconds() -> None:
    code = (
        "import sys, app.history; print(sorted(set(sys.modules) & {'torch', 'gradio', 'numpy', 'PIL', 'transformers'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
