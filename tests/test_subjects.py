"""Subjects keep their picture and name until they are deleted for good."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
from PIL import Image

from app.subjects import LONGEST_NAME, SubjectError, Subjects
from glmimage import latents, references, tasks
from glmimage.engine import Engine
from glmimage.errors import GLMImageError, PictureError
from glmimage.events import Result
from glmimage.request import Reference, Request
from glmimage.shelf import Shelf


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "brought.jpg"
    Image.new("RGB", (64, 48), "red").save(path)
    return path


@pytest.fixture
def library(tmp_path: Path) -> Subjects:
    return Subjects(tmp_path / "data")


def names(library: Subjects) -> list[str]:
    return [subject.name for subject in library.all()]


def test_a_subject_is_kept_with_its_picture(library: Subjects, picture: Path, tmp_path: Path) -> None:
    assert library.all() == []
    mia = library.add("  Mia\n ", picture, "wears a hat")
    robot = library.add("the red robot", picture)
    picture.unlink()
    again = Subjects(tmp_path / "data")
    assert again.all() == [mia, robot]
    assert again.find(mia.id) == mia
    assert again.named("MIA") == mia
    assert (mia.name, mia.notes) == ("Mia", "wears a hat")
    with Image.open(mia.picture) as kept:
        assert (kept.size, kept.mode) == ((64, 48), "RGB")


def scene(name: str, library: Subjects, tiny: Path) -> tuple[Result, int]:
    """Painted by an engine that knows nothing yet; how often it had to encode a picture."""
    subject = library.named(name)
    assert subject is not None
    reference = Reference(path=str(subject.picture), name=subject.name)
    request = tasks.subjects(Request(prompt="-", width=64, height=64, steps=2), f"{name} sleeps", [reference])
    engine = Engine.load(str(tiny), device="cpu", shelf=Shelf(library.folder.parent / "encoded"))
    with (
        mock.patch.object(references, "encode_codes", wraps=references.encode_codes) as codes,
        mock.patch.object(latents, "encode", wraps=latents.encode) as pixels,
    ):
        (result,) = (event for event in engine.run(request, previews=False) if isinstance(event, Result))
    assert codes.call_count == pixels.call_count
    return result, codes.call_count


def test_the_second_use_of_a_subject_encodes_nothing(
    library: Subjects, picture: Path, tmp_path: Path, tiny: Path
) -> None:
    mia = library.add("Mia", picture)
    first, encoded = scene("Mia", library, tiny)
    assert encoded == 1
    later = Subjects(tmp_path / "data")
    later.rename(mia.id, "Mina")
    later.rename(mia.id, "Mia")
    later.describe(mia.id, "cat")
    again, encoded = scene("Mia", later, tiny)
    assert encoded == 0
    assert again.image.tobytes() == first.image.tobytes()
    Image.new("RGB", (64, 48), "blue").save(picture)
    library.add("Tom", picture)
    assert scene("Tom", later, tiny)[1] == 1


def test_names_are_of_one_subject(library: Subjects, picture: Path) -> None:
    mia = library.add("Mia", picture)
    with pytest.raises(SubjectError, match="already"):
        library.add("mia", picture)
    other = library.add("Ben", picture)
    with pytest.raises(SubjectError, match="already"):
        library.rename(other.id, "MIA")
    assert library.rename(mia.id, "MIA").name == "MIA"
    for name in ("", " \n", '""', "x" * (LONGEST_NAME + 1)):
        with pytest.raises(SubjectError):
            library.add(name, picture)
    assert library.add('the "red" 「robot」', picture).name == "the red robot"


def test_notes_are_replaced(library: Subjects, picture: Path) -> None:
    mia = library.add("Mia", picture)
    assert library.describe(mia.id, "新的\n notes").notes == "新的\n notes"
    assert library.find(mia.id) == library.all()[0]


def test_a_deleted_subject_comes_back(library: Subjects, picture: Path) -> None:
    mia = library.add("Mia", picture, "notes")
    library.delete(mia.id)
    assert library.all() == []
    assert library.deleted() == [mia]
    assert library.restore(mia.id) == mia
    assert library.all() == [mia]
    library.delete(mia.id)
    library.add("Mia", picture)
    assert library.restore(mia.id).name == "Mia (2)"
    assert names(library) == ["Mia", "Mia (2)"]


def test_the_trash_is_emptied_on_demand(library: Subjects, picture: Path) -> None:
    mia, ben = library.add("Mia", picture), library.add("Ben", picture)
    library.delete(mia.id)
    assert library.empty_trash() == 1
    assert not mia.picture.exists()
    assert library.all() == [ben]
    with pytest.raises(SubjectError):
        library.restore(mia.id)


@pytest.mark.parametrize("number", ["", "..", "../../x", "0" * 15, "Z" * 16, "0" * 16])
def test_foreign_ids_find_nothing(library: Subjects, number: str) -> None:
    assert library.find(number) is None
    for act in (library.delete, library.restore, lambda one: library.rename(one, "x")):
        with pytest.raises(GLMImageError):
            act(number)


def test_files_that_are_no_subjects_are_left_out(library: Subjects, picture: Path) -> None:
    mia = library.add("Mia", picture)
    for number, text in enumerate(("", "[]", '{"name": 7}', '{"name": ""}', '{"name": "x", "made": "y"}', "\xff")):
        (library.folder / f"{number:016x}.json").write_text(text, encoding="latin-1")
        (library.folder / f"{number:016x}.png").write_bytes(b"x")
    (library.folder / f"{99:016x}.json").write_text('{"name": "without a picture"}')
    assert {subject.id for subject in library.all()} - {f"{2:016x}"} == {mia.id}


def test_what_is_no_picture_is_not_kept(library: Subjects, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("text")
    with pytest.raises(PictureError):
        library.add("Mia", tmp_path / "a.png")
    assert library.all() == []
