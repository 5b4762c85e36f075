"""Style, as a person would: a picture in, a style by name or by picture, side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from glmimage import metadata
from tests.browser.visits import NARROW, WIDE, Visit, barriers, browsed, expect, knowing, loaded
from tests.test_uploads import REFUSED

pytestmark = browsed


@pytest.fixture
def pictures(tmp_path: Path) -> tuple[Path, Path]:
    """A content and a style."""
    made = tmp_path / "content.png", tmp_path / "style.png"
    for path, color, size in zip(made, ("red", "blue"), ((256, 192), (160, 160)), strict=True):
        Image.new("RGB", size, color).save(path)
    return made


def opened(visit: Visit, size: tuple[int, int] = WIDE, scheme: str = "light") -> Any:
    page = visit.open(size, scheme)
    page.get_by_role("tab", name="Style").click()
    expect(page.locator("#style-paint")).to_be_visible()
    return page


def bring(page: Any, picture: Path) -> None:
    page.locator("#style-easel input[type=file]").set_input_files(picture)
    expect(page.locator("#style-easel .is-main img")).to_be_visible()
    assert loaded(page, "#style-easel .is-main img")


def restyle(page: Any, pictures: int) -> None:
    page.locator("#style-paint").click()
    expect(page.locator("#style-shelf .frame:not(.is-live)")).to_have_count(pictures)
    expect(page.locator("#style-easel .progress.is-busy")).to_have_count(0)


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_a_named_style_and_the_style_of_a_picture(
    visit: Visit, pictures: tuple[Path, Path], size: tuple[int, int]
) -> None:
    page = opened(visit, size)
    bring(page, pictures[0])
    page.get_by_role("button", name="Ink").click()
    expect(page.get_by_role("button", name="Ink")).to_have_attribute("aria-pressed", "true")
    restyle(page, 1)
    expect(page.locator("#style-shelf .said")).to_have_text("turn the picture into ink style")
    assert all(loaded(page, f"#style-easel figure >> nth={place} >> img") for place in (0, 1))
    page.locator("#style-like input[type=file]").set_input_files(pictures[1])
    expect(page.get_by_role("button", name="Ink")).to_have_attribute("aria-pressed", "false")
    restyle(page, 2)
    assert all(loaded(page, f"#style-easel figure >> nth={place} >> img") for place in (0, 1, 2))
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    second, first = (metadata.read(picture.path) for picture in visit.history.newest(9))
    assert first is not None
    assert second is not None
    assert (first.request.task, second.request.task) == ("style", "style")
    assert [reference.role for reference in second.request.references] == ["content", "style"]
    assert (second.request.width, second.request.height) == (256, 192)
    family = visit.history.lineage(visit.history.newest(1)[0].key).ancestors
    for relative, brought in zip(family, pictures, strict=True):
        with Image.open(str(relative.path)) as kept, Image.open(brought) as given:
            assert kept.tobytes() == given.tobytes()


def test_styles_are_those_that_the_checkpoint_was_taught(make_visit: Callable[..., Visit]) -> None:
    visit = make_visit(knowing)
    page = opened(visit)
    expect(page.locator("#style-names .swatch .name")).to_have_text(["Soft 3D", "Flat", "Cartoon", "Ink"])
    visit.engine.world = {"words": ["rocket"]}
    page = opened(visit)
    expect(page.locator("#style-names .calm")).to_contain_text("was taught no style by name")


def test_a_stop_while_references_are_looked_at_keeps_them_on_the_desk(
    visit: Visit, pictures: tuple[Path, Path]
) -> None:
    page = opened(visit)
    bring(page, pictures[0])
    page.get_by_role("button", name="Flat").click()
    visit.engine.hold("references")
    page.locator("#style-paint").click()
    expect(page.locator("#style-easel .what")).to_have_text("Looking at the reference pictures")
    page.locator("#style-stop").click()
    expect(page.locator("#style-stop")).to_be_hidden()
    expect(page.locator("#style-complaint .complaint")).to_have_count(0)
    assert visit.history.newest(1) == []
    visit.engine.release()
    restyle(page, 1)


def test_strength_is_the_share_that_is_painted(visit: Visit, pictures: tuple[Path, Path]) -> None:
    page = opened(visit)
    bring(page, pictures[0])
    page.get_by_role("button", name="Flat").click()
    page.locator("#style-strength input[type=number]").fill("0.3")
    page.locator("#style-strength input[type=number]").press("Enter")
    restyle(page, 1)
    assert visit.engine.requests[0].content == pytest.approx(0.7)


def test_settings_bring_everything_back(visit: Visit, pictures: tuple[Path, Path]) -> None:
    page = opened(visit)
    bring(page, pictures[0])
    page.locator("#style-like input[type=file]").set_input_files(pictures[1])
    expect(page.locator("#style-like .slot img")).to_be_visible()
    restyle(page, 1)
    page.locator("#style-like").get_by_text("Remove").click()
    page.locator("#style-well").get_by_text("Remove").click()
    expect(page.locator("#style-easel .slot.is-empty")).to_be_visible()
    page.get_by_role("tab", name="Create").click()
    page.locator("#create-shelf .frame").click()
    page.locator("#create-shelf").get_by_text("Use settings").click()
    expect(page.locator("#style-like .slot img")).to_be_visible()
    restyle(page, 2)
    first, again = visit.engine.requests
    assert (again.references, again.seed, again.prompt) == (first.references, first.seed, first.prompt)


def test_what_is_missing_is_said_and_hostile_files_change_nothing(
    visit: Visit, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    page = opened(visit)
    page.locator("#style-paint").click()
    expect(page.locator("#style-complaint")).to_contain_text("There is no picture to restyle")
    bring(page, pictures[0])
    page.locator("#style-paint").click()
    expect(page.locator("#style-complaint")).to_contain_text("There is no style")
    page.get_by_role("button", name="Flat").click()
    for number, (make, words) in enumerate(REFUSED.values()):
        brought = tmp_path / f"brought{number}.png"
        brought.write_bytes(make())
        page.locator("#style-like input[type=file]").set_input_files(brought)
        expect(page.locator("#style-complaint .complaint")).to_contain_text(words)
        expect(page.locator("#style-complaint .complaint")).to_contain_text(brought.name)
    expect(page.get_by_role("button", name="Flat")).to_have_attribute("aria-pressed", "true")
    restyle(page, 1)
    expect(page.locator("#style-complaint .complaint")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_stands_in_anybodys_way(visit: Visit, pictures: tuple[Path, Path], scheme: str) -> None:
    page = opened(visit, scheme=scheme)
    bring(page, pictures[0])
    page.get_by_role("button", name="Ink").click()
    restyle(page, 1)
    assert barriers(page) == []
