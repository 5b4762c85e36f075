"""Edit, as a person would: a picture in, words, a mask, the slider, and on from there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from glmimage import metadata
from tests.browser.visits import NARROW, WIDE, Visit, barriers, browsed, expect, loaded
from tests.test_uploads import REFUSED

pytestmark = browsed


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Left half red, right half blue."""
    picture = np.zeros((192, 256, 3), np.uint8)
    picture[:, :128] = (200, 30, 30)
    picture[:, 128:] = (30, 30, 200)
    path = tmp_path / "my cat.png"
    Image.fromarray(picture).save(path)
    return path


def opened(visit: Visit, size: tuple[int, int] = WIDE, scheme: str = "light") -> Any:
    page = visit.open(size, scheme)
    page.get_by_role("tab", name="Edit").click()
    expect(page.locator("#edit-paint")).to_be_visible()
    return page


def bring(page: Any, picture: Path) -> None:
    page.locator("#edit-easel input[type=file]").set_input_files(picture)
    expect(page.locator("#edit-easel .canvas img")).to_be_visible()
    assert loaded(page, "#edit-easel .canvas img")


def change(page: Any, instruction: str) -> None:
    page.locator("#edit-instruction textarea").fill(instruction)
    page.locator("#edit-paint").click()
    expect(page.locator("#edit-shelf .said")).to_have_text(instruction)
    expect(page.locator("#edit-easel .progress.is-busy")).to_have_count(0)


def drag(page: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Over the picture, in shares of it."""
    box = page.locator("#edit-easel .canvas svg").bounding_box()
    places = [(box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in (start, end)]
    page.mouse.move(*places[0])
    page.mouse.down()
    page.mouse.move(*places[1], steps=8)
    page.mouse.up()


def test_a_picture_is_changed_and_the_change_is_changed(visit: Visit, source: Path) -> None:
    page = opened(visit)
    bring(page, source)
    change(page, "make it green")
    assert loaded(page, "#edit-easel .compare .before")
    assert loaded(page, "#edit-easel .compare img")
    page.get_by_text("Edit further").click()
    expect(page.locator("#edit-easel .canvas img")).to_be_visible()
    change(page, "make it yellow")
    second, first = visit.history.newest(9)
    settings = [metadata.read(picture.path) for picture in (second, first)]
    assert all(one is not None and one.request.task == "edit" for one in settings)
    assert settings[0] is not None
    assert settings[0].request.references[0].path == f"pictures/{first.key}"
    assert (settings[0].request.width, settings[0].request.height) == (256, 192), "it keeps its picture's size"
    family = visit.history.lineage(second.key).ancestors
    assert [relative.state for relative in family] == ["kept", "given"]
    with Image.open(source) as brought, Image.open(str(family[1].path)) as kept:
        assert brought.tobytes() == kept.tobytes()
    frames = page.locator("#edit-shelf .frame")
    expect(frames).to_have_count(3)
    frames.nth(1).click()
    expect(page.locator("#edit-shelf .said")).to_have_text("make it green")
    frames.nth(0).click()
    expect(page.locator("#edit-easel .canvas img")).to_be_visible()


def test_the_slider_moves_by_mouse_and_by_keys(visit: Visit, source: Path) -> None:
    page = opened(visit)
    bring(page, source)
    change(page, "make it green")
    slider = page.get_by_role("slider", name="How much of the picture before is shown")
    box = slider.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.25, box["y"] + box["height"] / 2)
    cut = "element => parseFloat(getComputedStyle(element).getPropertyValue('--cut'))"
    assert page.locator("#edit-easel .compare").evaluate(cut) == pytest.approx(25, abs=2)
    before = float(slider.input_value())
    slider.press("ArrowRight")
    assert float(slider.input_value()) == before + 1
    assert page.locator("#edit-easel .compare").evaluate(cut) == before + 1


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_a_mask_is_what_was_painted(visit: Visit, source: Path, size: tuple[int, int]) -> None:
    page = opened(visit, size)
    bring(page, source)
    page.locator("#edit-part input").check()
    page.locator("#edit-instruction textarea").fill("make it green")
    page.locator("#edit-paint").click()
    expect(page.locator("#edit-complaint")).to_contain_text("Nothing is marked")
    page.locator("#edit-easel .canvas svg").scroll_into_view_if_needed()
    drag(page, (0.2, 0.5), (0.4, 0.5))
    drag(page, (0.8, 0.2), (0.8, 0.8))
    expect(page.locator("#edit-easel .strokes polyline")).to_have_count(2)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#edit-easel .strokes polyline")).to_have_count(1)
    change(page, "make it green")
    (request,) = visit.engine.requests
    assert request.mask is not None
    with Image.open(request.mask) as mask:
        drawn = np.asarray(mask.convert("L"))
    assert drawn.shape == (192, 256)
    assert (drawn[96, 52:102] == 255).all()
    assert drawn[96, 180:].max() == 0, "the second stroke was undone"
    assert drawn[:60].max() == drawn[130:].max() == 0
    (picture,) = visit.history.newest(9)
    settings = metadata.read(picture.path)
    assert settings is not None
    assert settings.request.mask == f"inputs/{Path(request.mask).name}"


def test_a_mask_is_painted_with_keys_alone(visit: Visit, source: Path) -> None:
    page = opened(visit)
    bring(page, source)
    page.locator("#edit-part input").check()
    board = page.get_by_role("application")
    board.focus()
    board.press(" ")
    expect(page.locator("#edit-easel .strokes polyline")).to_have_count(1)
    for _ in range(4):
        board.press("Shift+ArrowRight")
    expect(page.locator("#edit-easel .strokes polyline")).to_have_count(5)
    board.press("Backspace")
    expect(page.locator("#edit-easel .strokes polyline")).to_have_count(4)
    change(page, "make it green")
    mask = visit.engine.requests[0].mask
    assert mask is not None
    with Image.open(mask) as drawn:
        assert drawn.getpixel((128, 96)) == 255
        assert drawn.getpixel((150, 96)) == 255
        assert drawn.getpixel((60, 96)) == 0


def test_settings_bring_back_picture_mask_and_words(visit: Visit, source: Path) -> None:
    page = opened(visit)
    bring(page, source)
    page.locator("#edit-part input").check()
    drag(page, (0.2, 0.5), (0.4, 0.5))
    change(page, "make it green")
    page.get_by_text("Remove", exact=True).last.click()
    page.locator("#edit-instruction textarea").fill("")
    page.get_by_role("tab", name="Create").click()
    page.locator("#create-shelf .frame").first.click()
    page.locator("#create-shelf").get_by_text("Use settings").click()
    expect(page.locator("#edit-instruction textarea")).to_have_value("make it green")
    expect(page.locator("#edit-part input")).to_be_checked()
    expect(page.locator("#edit-lock input")).to_be_checked()
    page.locator("#edit-paint").click()
    expect(page.locator("#edit-shelf .frame")).to_have_count(3)
    first, again = visit.engine.requests
    assert (again.seed, again.references) == (first.seed, first.references)
    assert first.mask
    assert again.mask
    with Image.open(first.mask) as one, Image.open(again.mask) as other:
        assert one.tobytes() == other.tobytes()


def test_settings_of_a_repainted_edit_make_it_again(visit: Visit, source: Path) -> None:
    page = opened(visit)
    bring(page, source)
    change(page, "make it green")
    page.locator("#edit-shelf").get_by_role("button", name="Repaint").click()
    expect(page.locator("#edit-shelf .frame")).to_have_count(3)
    page.locator("#edit-shelf .frame").last.click()
    page.locator("#edit-shelf").get_by_text("Use settings").click()
    expect(page.locator("#edit-lock input")).to_be_checked()
    page.locator("#edit-paint").click()
    expect(page.locator("#edit-shelf .frame")).to_have_count(4)
    first, repainted, again = visit.engine.requests
    assert repainted.layout_seed_of(0) == first.layout_seed_of(0) == again.layout_seed_of(0)
    assert repainted.paint_seed_of(0) == again.paint_seed_of(0) != first.paint_seed_of(0)


def test_pictures_come_by_drop_paste_and_from_other_tabs(visit: Visit, source: Path) -> None:
    page = visit.open()
    page.locator("#prompt textarea").fill("a cat")
    page.locator("#create-paint").click()
    expect(page.locator("#create-shelf .frame")).to_have_count(1)
    page.locator("#create-shelf").get_by_role("button", name="Edit").click()
    expect(page.locator("#edit-easel .canvas img")).to_be_visible()
    (painted,) = visit.history.newest(9)
    shown = page.locator("#edit-easel .canvas img")
    assert painted.path.name in (shown.get_attribute("src") or "")
    for kind in ("drop", "paste"):
        page.evaluate(
            """([kind, bytes]) => {
              const files = new DataTransfer();
              files.items.add(new File([new Uint8Array(bytes)], 'cat.png', {type: 'image/png'}));
              const target = document.querySelector(kind === 'drop' ? '#edit-easel .from img' : 'body');
              target.dispatchEvent(kind === 'drop'
                ? new DragEvent('drop', {bubbles: true, cancelable: true, dataTransfer: files})
                : new ClipboardEvent('paste', {bubbles: true, cancelable: true, clipboardData: files}));
            }""",
            [kind, list(source.read_bytes())],
        )
        expect(shown).not_to_have_attribute("src", f"gradio_api/file={painted.path}")
        assert "inputs/" in (shown.get_attribute("src") or "")
        page.locator("#edit-well").get_by_text("Remove").click()
        expect(page.locator("#edit-easel .slot.is-empty")).to_be_visible()
        page.locator("#edit-shelf .frame").first.click()
        expect(shown).to_be_visible()


def test_hostile_files_are_one_sentence_and_change_nothing(visit: Visit, source: Path, tmp_path: Path) -> None:
    page = opened(visit)
    bring(page, source)
    page.locator("#edit-instruction textarea").fill("make it green")
    shown = page.locator("#edit-easel .canvas img").get_attribute("src")
    kept = sorted(path.name for path in visit.history.storage.inputs.iterdir())
    for number, (make, words) in enumerate(REFUSED.values()):
        brought = tmp_path / f"brought{number}.png"
        brought.write_bytes(make())
        page.locator("#edit-well input[type=file]").set_input_files(brought)
        expect(page.locator("#edit-complaint .complaint")).to_contain_text(words)
        expect(page.locator("#edit-complaint .complaint")).to_contain_text(brought.name)
    expect(page.locator("#edit-instruction textarea")).to_have_value("make it green")
    assert page.locator("#edit-easel .canvas img").get_attribute("src") == shown
    assert sorted(path.name for path in visit.history.storage.inputs.iterdir()) == kept
    assert [path for path in visit.history.storage.arriving.rglob("*") if path.is_file()] == []
    change(page, "make it green")
    expect(page.locator("#edit-complaint .complaint")).to_have_count(0)


def test_outside_the_mask_the_picture_is_the_same_to_the_bit(
    make_visit: Callable[..., Visit], source: Path, tiny: Path
) -> None:
    """With the real engine, on tiny weights that paint noise."""
    from glmimage.engine import Engine
    from glmimage.source import SEAM

    visit = make_visit(lambda fake: Engine.load(str(tiny), device="cpu"))
    page = opened(visit)
    bring(page, source)
    page.locator("#edit-part input").check()
    drag(page, (0.2, 0.5), (0.3, 0.5))
    expect(page.locator("#edit-easel .strokes polyline")).to_have_count(1)
    change(page, "make it green")
    (picture,) = visit.history.newest(9)
    settings = visit.history.settings(picture)
    assert settings is not None
    assert settings.request.mask is not None
    with Image.open(picture.path) as after, Image.open(source) as before, Image.open(settings.request.mask) as mask:
        assert after.size == before.size
        near = np.asarray(mask.convert("L").filter(ImageFilter.MaxFilter(2 * SEAM + 3))) > 0
        changed = (np.asarray(after.convert("RGB")) != np.asarray(before)).any(-1)
    assert not changed[~near].any()
    assert changed[near].mean() > 0.5


def test_what_is_missing_is_said_before_anything_runs(visit: Visit, source: Path) -> None:
    page = opened(visit)
    page.locator("#edit-paint").click()
    expect(page.locator("#edit-complaint")).to_contain_text("There is no picture to change")
    bring(page, source)
    page.locator("#edit-paint").click()
    expect(page.locator("#edit-complaint")).to_contain_text("There is no instruction")
    assert visit.engine.requests == []


def test_a_typical_edit_is_written_with_its_blank_chosen(visit: Visit) -> None:
    page = opened(visit)
    page.get_by_role("button", name="Replace", exact=True).click()
    text = page.locator("#edit-instruction textarea")
    expect(text).to_have_value("replace the … with a …")
    page.keyboard.type("cat")
    expect(text).to_have_value("replace the cat with a …")


def test_an_edit_of_ones_own_is_kept_with_its_settings(visit: Visit, source: Path) -> None:
    page = opened(visit)
    bring(page, source)
    page.locator("#edit-instruction textarea").fill("make the … golden")
    page.locator("#edit-advanced button").first.click()
    steps = page.get_by_label("number input for Steps").and_(page.locator("#tab-edit input"))
    steps.fill("7")
    steps.press("Tab")
    page.get_by_role("button", name="New edit").click()
    page.locator("#new-edit-drop").click()
    expect(page.locator("#new-edit-keep")).to_be_hidden()
    page.get_by_role("button", name="New edit").click()
    expect(page.locator("#new-edit-words textarea, #new-edit-words input")).to_have_value("make the … golden")
    page.locator("#new-edit-keep").click()
    expect(page.locator("#tab-edit .small-form .complaint")).to_contain_text("its name is empty")
    page.locator("#new-edit-name textarea, #new-edit-name input").fill("Golden")
    page.locator("#new-edit-keep").click()
    expect(page.locator("#new-edit-keep")).to_be_hidden()
    steps.fill("3")
    steps.press("Tab")
    page.get_by_role("button", name="Golden", exact=True).click()
    page.keyboard.type("cat")
    expect(steps).to_have_value("7")
    page.locator("#edit-paint").click()
    expect(page.locator("#edit-easel .compare")).to_be_visible()
    [asked] = visit.engine.requests
    assert (asked.prompt, asked.steps, asked.guidance) == ("make the cat golden", 7, visit.engine.defaults.guidance)
    assert asked.sampling.temperature is None
    temperature = page.locator("#edit-temperature textarea, #edit-temperature input")
    page.get_by_role("button", name="Remove", exact=True).first.click()
    expect(temperature).to_have_value("0.3")
    page.get_by_role("button", name="Background", exact=True).click()
    expect(temperature).to_have_value("")
    page.reload()
    page.get_by_role("tab", name="Edit").click()
    expect(page.get_by_role("button", name="Golden", exact=True)).to_be_visible()


def test_a_reload_in_the_middle_finds_picture_and_job(visit: Visit, source: Path) -> None:
    page = opened(visit)
    bring(page, source)
    visit.engine.hold("painting")
    page.locator("#edit-instruction textarea").fill("make it green")
    page.locator("#edit-paint").click()
    expect(page.locator("#edit-easel .what")).to_have_text("Painting")
    page.reload()
    page.get_by_role("tab", name="Edit").click()
    expect(page.locator("#edit-easel .what")).to_have_text("Painting")
    expect(page.locator("#edit-instruction textarea")).to_have_value("make it green")
    assert loaded(page, "#edit-well .slot img")
    visit.engine.release()
    expect(page.locator("#edit-easel .compare")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_stands_in_anybodys_way(visit: Visit, source: Path, scheme: str) -> None:
    page = opened(visit, scheme=scheme)
    assert barriers(page) == []
    bring(page, source)
    page.locator("#edit-part input").check()
    expect(page.locator("#edit-easel .canvas svg")).to_be_visible()
    assert barriers(page) == []
