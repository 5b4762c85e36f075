"""Subjects, as a person would: pictures with names, a scene that says them, a library for the next time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from app.subjects import Subjects
from glmimage import metadata
from tests.browser.visits import NARROW, WIDE, Visit, barriers, browsed, expect, loaded
from tests.test_uploads import REFUSED

pytestmark = browsed


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    made = [tmp_path / f"{color}.png" for color in ("red", "blue", "green", "yellow", "black")]
    for path in made:
        Image.new("RGB", (160, 160), path.stem).save(path)
    return made


def opened(visit: Visit, size: tuple[int, int] = WIDE, scheme: str = "light") -> Any:
    page = visit.open(size, scheme)
    page.get_by_role("tab", name="Subjects").click()
    expect(page.locator("#subjects-paint")).to_be_visible()
    return page


def bring(page: Any, *pictures: Path) -> None:
    page.locator("#subjects-easel input[type=file]").set_input_files(pictures)
    expect(page.locator(".subject:visible")).to_have_count(len(pictures))


def call(page: Any, number: int, name: str, kind: str = "") -> None:
    for field, text in (("kind", kind), ("name", name)):
        page.locator(f"#subject-{field}-{number}").locator("input, textarea").fill(text)
    # The card is drawn anew; a click in that moment meets nothing.
    face = page.locator(f"#subject-{number} .portrait img")
    expect(face).to_have_attribute("alt", name or f"Picture {number + 1}")


def scene(page: Any, prompt: str) -> None:
    page.locator("#subjects-prompt textarea").fill(prompt)


def paint(page: Any, pictures: int) -> None:
    page.locator("#subjects-paint").click()
    expect(page.locator("#subjects-shelf .frame:not(.is-live)")).to_have_count(pictures)
    expect(page.locator("#subjects-easel .progress.is-busy")).to_have_count(0)


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_names_light_up_and_a_scene_is_painted(visit: Visit, pictures: list[Path], size: tuple[int, int]) -> None:
    page = opened(visit, size)
    bring(page, *pictures[:2])
    call(page, 0, "Mia", "cat")
    call(page, 1, "the red robot")
    expect(page.locator("#subjects-easel figcaption")).to_have_text(["Mia", "the red robot"])
    scene(page, "Mia greets")
    expect(page.locator(".behind mark")).to_have_text(["Mia"])
    expect(page.locator("#subjects-told")).to_contain_text("does not say the red robot")
    scene(page, "Mia greets the red robot")
    expect(page.locator(".behind mark")).to_have_text(["Mia", "the red robot"])
    expect(page.locator("#subjects-told")).not_to_contain_text("does not say")
    paint(page, 1)
    (picture,) = visit.history.newest(9)
    settings = metadata.read(picture.path)
    assert settings is not None
    assert settings.request.task == "subjects"
    assert settings.request.prompt == "the cat from picture 1 greets the red robot from picture 2"
    assert [one.name for one in settings.request.references] == ["Mia", "the red robot"]
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]


def test_the_lights_stand_behind_their_names(visit: Visit, pictures: list[Path]) -> None:
    """The mark of a name at the start of the second line lies where the text's second line does."""
    page = opened(visit)
    bring(page, pictures[0])
    call(page, 0, "Mia")
    scene(page, "a quiet evening\nMia reads")
    mark = page.locator(".behind mark")
    expect(mark).to_have_text("Mia")
    place, text = mark.bounding_box(), page.locator("#subjects-prompt textarea").bounding_box()
    assert place["x"] - text["x"] == pytest.approx(15, abs=2), "the padding of the text"
    assert place["y"] - text["y"] == pytest.approx(13 + 24 + 2, abs=4), "one line further down"
    assert (
        page.locator("#subjects-prompt textarea").evaluate("text => getComputedStyle(text).backgroundColor")
        == "rgba(0, 0, 0, 0)"
    )
    fonts = [one.evaluate("e => getComputedStyle(e).font") for one in (mark, page.locator("#subjects-prompt textarea"))]
    assert fonts[0] == fonts[1]


def test_what_does_not_fit_is_said_before_anything_runs(visit: Visit, pictures: list[Path]) -> None:
    page = opened(visit)
    said = page.locator("#subjects-complaint")
    page.locator("#subjects-paint").click()
    expect(said).to_contain_text("There is nobody yet")
    bring(page, *pictures[:2])
    page.locator("#subjects-paint").click()
    expect(said).to_contain_text("The scene is empty")
    scene(page, "Mia waves")
    page.locator("#subjects-paint").click()
    expect(said).to_contain_text("Picture 1 has no name")
    call(page, 0, "Mia")
    call(page, 1, "Tom")
    page.locator("#subjects-paint").click()
    expect(said).to_contain_text("The scene does not say Tom")
    assert visit.engine.requests == []
    scene(page, "Mia waves at Tom")
    paint(page, 1)
    expect(page.locator("#subjects-complaint .complaint")).to_have_count(0)


def test_a_subject_is_kept_renamed_deleted_and_brought_back(visit: Visit, pictures: list[Path]) -> None:
    page = opened(visit)
    library = Subjects(visit.history.storage.root)
    bring(page, pictures[0])
    page.get_by_role("button", name="Keep picture 1 in the library").click()
    expect(page.locator("#subjects-complaint")).to_contain_text("has no name")
    call(page, 0, "Mia", "cat")
    page.get_by_role("button", name="Keep picture 1 in the library").click()
    expect(page.locator("#subjects-library .pick")).to_have_text("Mia")
    call(page, 0, "Mina", "cat")
    page.get_by_role("button", name="Keep the change").click()
    expect(page.locator("#subjects-library .pick")).to_have_text("Mina")
    assert [(one.name, one.notes) for one in library.all()] == [("Mina", "cat")]
    page.locator("#subjects-library .pick").click()
    expect(page.locator(".subject:visible")).to_have_count(0)
    page.reload()
    page.get_by_role("tab", name="Subjects").click()
    page.locator("#subjects-library .pick").click()
    expect(page.locator(".subject:visible")).to_have_count(1)
    expect(page.locator("#subject-name-0").locator("input, textarea")).to_have_value("Mina")
    scene(page, "Mina sleeps")
    paint(page, 1)
    (kept,) = library.all()
    assert visit.engine.requests[0].references[0].path == str(kept.picture)
    page.get_by_role("button", name="Delete Mina from the library").click()
    expect(page.locator("#subjects-library .pick")).to_have_count(0)
    assert library.all() == []
    page.get_by_role("button", name="Bring back").click()
    expect(page.locator("#subjects-library .pick")).to_have_text("Mina")
    assert library.all() == [kept]


def test_cards_keep_their_names_when_one_goes_and_four_are_the_most(visit: Visit, pictures: list[Path]) -> None:
    page = opened(visit)
    bring(page, *pictures[:3])
    for number, name in enumerate(("Ann", "Ben", "Cat")):
        call(page, number, name)
    page.get_by_role("button", name="Remove: Ben").click()
    expect(page.locator(".subject:visible")).to_have_count(2)
    expect(page.locator("#subject-name-1").locator("input, textarea")).to_have_value("Cat")
    page.locator("#subjects-more input[type=file]").set_input_files(pictures[:4])
    expect(page.locator("#subjects-complaint")).to_contain_text("4 subjects at most")
    expect(page.locator(".subject:visible")).to_have_count(4)
    expect(page.locator("#subject-name-0").locator("input, textarea")).to_have_value("Ann")


def test_settings_bring_the_scene_back(visit: Visit, pictures: list[Path]) -> None:
    page = opened(visit)
    bring(page, *pictures[:2])
    call(page, 0, "Mia", "cat")
    call(page, 1, "Tom")
    scene(page, "Mia waves at Tom")
    paint(page, 1)
    page.get_by_role("button", name="Remove: Tom").click()
    page.get_by_role("button", name="Remove: Mia").click()
    scene(page, "")
    page.locator("#subjects-shelf .frame").click()
    page.reload()
    page.get_by_role("tab", name="Create").click()
    page.locator("#create-shelf .frame").click()
    page.locator("#create-shelf").get_by_text("Use settings").click()
    expect(page.locator("#subject-name-0").locator("input, textarea")).to_have_value("Mia")
    expect(page.locator("#subject-name-1").locator("input, textarea")).to_have_value("Tom")
    expect(page.locator("#subjects-prompt textarea")).to_have_value(
        "the cat from picture 1 waves at Tom from picture 2"
    )
    expect(page.locator("#subjects-lock input")).to_be_checked()
    paint(page, 2)
    first, again = visit.engine.requests
    assert (again.prompt, again.references, again.seed) == (first.prompt, first.references, first.seed)


def test_hostile_files_are_one_sentence_and_change_nothing(visit: Visit, pictures: list[Path], tmp_path: Path) -> None:
    page = opened(visit)
    bring(page, pictures[0])
    call(page, 0, "Mia")
    for number, (make, words) in enumerate(REFUSED.values()):
        brought = tmp_path / f"brought{number}.png"
        brought.write_bytes(make())
        page.locator("#subjects-more input[type=file]").set_input_files(brought)
        expect(page.locator("#subjects-complaint .complaint")).to_contain_text(words)
        expect(page.locator("#subjects-complaint .complaint")).to_contain_text(brought.name)
    expect(page.locator(".subject:visible")).to_have_count(1)
    expect(page.locator("#subject-name-0").locator("input, textarea")).to_have_value("Mia")
    scene(page, "Mia waves")
    paint(page, 1)
    assert loaded(page, "#subjects-easel .sheet img")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_stands_in_anybodys_way(visit: Visit, pictures: list[Path], scheme: str) -> None:
    page = opened(visit, scheme=scheme)
    bring(page, *pictures[:2])
    call(page, 0, "Mia")
    page.get_by_role("button", name="Keep picture 1 in the library").click()
    expect(page.locator("#subjects-library .pick")).to_have_text("Mia")
    page.add_style_tag(content=".behind { display: none; }")
    assert barriers(page) == []
