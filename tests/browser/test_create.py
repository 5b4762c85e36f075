"""Create, as a person uses it: sketches, repainting, what is read of a prompt, words to take, styles and sizes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from glmimage import memory, metadata, weights
from glmimage.fitting import Fitting, Wishes
from glmimage.machines import tabulated
from glmimage.memory import GIB
from glmimage.system import System, Use
from glmimage.workshop import too_little
from tests.browser.visits import NARROW, PROMPT, Visit, barriers, browsed, expect, knowing, loaded, paint

pytestmark = browsed
ENGLISH = re.compile(r"\b[A-Za-z]?[a-z]+(?:[ ,;]+[A-Za-z]?[a-z]+){2,}")
GRADIOS = re.compile("(number input|range slider) for|Reset to default value")
"""Labels that its sliders have in no other language."""
TABS = ("create", "regions", "edit", "style", "subjects", "gallery", "system")


def finished(page: Any, frames: int = 1) -> None:
    expect(page.locator("#create-shelf .frame[data-act=choose]")).to_have_count(frames)
    expect(page.locator("#create-easel .progress.is-busy")).to_have_count(0)


@pytest.fixture
def world(make_visit: Callable[..., Visit]) -> Visit:
    return make_visit(knowing)


def settings(visit: Visit, count: int) -> list[metadata.Settings]:
    found = [metadata.read(picture.path) for picture in visit.history.newest(count)]
    return [one for one in found if one is not None]


def test_sketches_appear_are_picked_and_painted(visit: Visit) -> None:
    page = visit.open()
    visit.engine.hold("layout", 2)
    page.locator("#prompt textarea").fill(PROMPT)
    page.locator("#create-sketch").click()
    expect(page.locator("#create-easel .sheet")).to_have_count(6)
    expect(page.locator("#create-easel .sheet img")).to_have_count(2), "those that are finished"
    visit.engine.release()
    expect(page.locator(".is-pick")).to_have_count(6)
    assert visit.history.newest(1) == [], "a sketch is no picture"
    for number in (1, 4):
        page.locator(".is-pick").nth(number).click()
        expect(page.locator(".is-pick").nth(number)).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#create-paint")).to_have_text("Paint 2 picked")
    seed = int(page.locator("#create-seed input").input_value())
    page.locator("#create-paint").click()
    finished(page, 2)
    expect(page.locator("#create-easel .sheet")).to_have_count(2)
    assert loaded(page, "#create-easel .sheet img")
    expect(page.locator("#create-paint")).to_have_text("Paint")
    later, first = settings(visit, 2)
    assert [first.layout_seed, later.layout_seed] == [(seed + 1), (seed + 4)]
    assert first.request.layout is not None
    page.locator(".is-sketches").click()
    expect(page.locator(".is-pick")).to_have_count(6)


@pytest.mark.parametrize("stage", ["layout", "painting"])
def test_a_stop_among_the_sketches_keeps_those_that_are_done(visit: Visit, stage: str) -> None:
    page = visit.open()
    visit.engine.hold(stage, 2)
    page.locator("#prompt textarea").fill(PROMPT)
    page.locator("#create-sketch").click()
    expect(page.locator("#create-easel .sheet img")).to_have_count(2)
    page.locator("body").press("Escape")
    expect(page.locator(".is-pick")).to_have_count(2)
    expect(page.locator(".complaint")).to_have_count(0)


def test_repaint_keeps_the_layout_and_takes_the_desks_steps(visit: Visit) -> None:
    page = visit.open()
    paint(page)
    finished(page)
    page.locator("#create-advanced button").first.click()
    page.get_by_label("number input for Steps").fill("11")
    page.keyboard.press("Tab")
    page.get_by_role("button", name="Repaint").click()
    finished(page, 2)
    again, before = settings(visit, 2)
    assert before.prior is not None
    assert again.request.layout == before.prior.layout
    assert again.layout_seed == before.layout_seed
    assert again.paint_seed != before.paint_seed
    assert (before.request.steps, again.request.steps) == (8, 11)


def test_settings_of_a_repainted_picture_make_it_again(visit: Visit) -> None:
    page = visit.open()
    paint(page)
    finished(page)
    page.get_by_role("button", name="Repaint").click()
    finished(page, 2)
    page.locator("#prompt textarea").fill("something else")
    page.locator("#create-shelf .frame").first.click()
    page.locator("#create-shelf").get_by_text("Use settings").click()
    expect(page.locator("#prompt textarea")).to_have_value(PROMPT)
    expect(page.locator("#create-kept")).to_contain_text("layout")
    for count in (3, 4):
        page.locator("#create-paint").click()
        finished(page, count)
    *same, first = settings(visit, 4)
    assert first.layout_seed == first.paint_seed
    assert len({(one.layout_seed, one.paint_seed, one.request.layout) for one in same}) == 1
    assert same[0].paint_seed != first.paint_seed
    pixels = []
    for picture in visit.history.newest(4):
        with Image.open(picture.path) as image:
            pixels.append(image.tobytes())
    assert pixels[0] == pixels[1] == pixels[2] != pixels[3]
    # Another seed is no longer that picture's.
    page.locator("#create-seed input").fill("5")
    page.locator("#create-kept").get_by_role("button").click()
    page.locator("#create-paint").click()
    finished(page, 5)
    (last,) = settings(visit, 1)
    assert (last.layout_seed, last.paint_seed, last.request.layout) == (5, 5, None)


def test_what_is_read_is_said_while_it_is_typed(world: Visit) -> None:
    page = world.open()
    expect(page.locator(".vocabulary")).to_be_visible()
    page.locator("#prompt textarea").fill('a zebra, a sign saying OPEN and the word "HELLOWORLD" and "half')
    expect(page.locator(".written mark")).to_have_text(["HELLOWORLD"])
    lines = page.locator(".read")
    expect(lines.filter(has_text="Put it in quotation marks: OPEN")).to_be_visible()
    expect(lines.filter(has_text='Not closed, so nothing is read from it: "')).to_be_visible()
    expect(lines.filter(has_text="may misspell it: HELLOWORLD")).to_be_visible()
    expect(lines.filter(has_text="miniature has never seen: zebra, half.")).to_be_visible()
    page.locator("#prompt textarea").fill('a cat and the word "HI" on a blue background')
    expect(lines).to_have_count(0)


def test_a_checkpoint_that_says_nothing_shows_nothing_of_this(visit: Visit) -> None:
    page = visit.open()
    page.locator("#prompt textarea").fill("a zebra on the moon")
    expect(page.locator(".written.hint")).to_be_visible()
    expect(page.locator(".read")).to_have_count(0)
    expect(page.locator(".vocabulary")).to_have_count(0)


def test_words_are_taken_by_click_and_completed_by_tab(world: Visit) -> None:
    page = world.open()
    page.locator(".vocabulary summary").click()
    assert barriers(page) == []
    page.locator(".vocabulary").get_by_text("a panda", exact=True).click()
    prompt = page.locator("#prompt textarea")
    expect(prompt).to_have_value("a panda")
    prompt.press("End")
    prompt.press_sequentially(" and a roc")
    expect(page.locator(".completion li")).to_have_text(["a rocket"])
    prompt.press("Tab")
    expect(prompt).to_have_value("a panda and a rocket")
    expect(page.locator(".completion")).to_have_count(0)
    prompt.press_sequentially(" pen")
    expect(page.locator(".completion li")).to_have_count(1)
    prompt.press("Escape")
    expect(page.locator(".completion")).to_have_count(0)
    prompt.press("Control+Enter")
    finished(page)
    assert world.engine.requests[0].prompt == "a panda and a rocket pen"


@pytest.mark.parametrize(
    ("tab", "field"), [("regions", "regions-scene"), ("edit", "edit-instruction"), ("subjects", "subjects-prompt")]
)
def test_every_prompt_completes_and_tells_of_unknown_words(world: Visit, tab: str, field: str) -> None:
    page = world.open()
    page.locator(f"#tabs [data-tab-id='{tab}']").first.evaluate("tab => tab.click()")
    here, prompt = page.locator(f"#tab-{tab}"), page.locator(f"#{field} textarea")
    expect(here.locator(".vocabulary")).to_have_count(1)
    prompt.press_sequentially("a zebra and a roc")
    prompt.press("Tab")
    expect(prompt).to_have_value("a zebra and a rocket")
    expect(here.locator(".read.is-unknown")).to_contain_text("miniature has never seen: zebra.")
    here.locator(".vocabulary summary").click()
    here.locator(".vocabulary").get_by_text("a panda", exact=True).click()
    expect(prompt).to_have_value("a zebra and a rocket a panda")
    prompt.fill('write "HI" and "half')
    expect(here.locator(".reading mark")).to_have_text("HI")
    expect(here.locator(".read.is-warning")).to_contain_text("Not closed")


def test_a_style_adds_its_words_and_one_of_ones_own_is_kept(world: Visit) -> None:
    page = world.open()
    tiles = page.locator("#create-styles .tile")
    expect(tiles.locator(".name")).to_have_text(["None", "Soft 3D", "Flat", "Cartoon", "Ink", "New style"])
    tiles.filter(has_text="Cartoon").click()
    expect(tiles.filter(has_text="Cartoon")).to_have_attribute("aria-pressed", "true")
    paint(page, "a cat on a red background")
    finished(page)
    assert world.engine.requests[0].prompt == "a cat on a red background, in cartoon style"
    expect(page.locator("#prompt textarea")).to_have_value("a cat on a red background")
    tiles.filter(has_text="New style").click()
    page.locator("#new-style-keep").click()
    expect(page.locator(".small-form .complaint")).to_contain_text("its name is empty")
    page.locator("#new-style-name textarea, #new-style-name input").fill("Mine <b>")
    page.locator("#new-style-words textarea, #new-style-words input").fill("in soft colours")
    page.locator("#new-style-keep").click()
    mine = tiles.filter(has_text="Mine <b>")
    expect(mine).to_have_attribute("aria-pressed", "true")
    assert loaded(page, "#create-styles .tile[aria-pressed=true] img"), "with the picture that was shown"
    expect(page.locator(".small-form")).to_be_hidden()
    page.locator("#create-paint").click()
    finished(page, 2)
    assert world.engine.requests[1].prompt == "a cat on a red background, in soft colours"
    page.reload()
    expect(page.locator("#create-styles .tile").filter(has_text="Mine <b>")).to_be_visible()


def test_a_size_by_numbers_is_kept_and_chosen_again(visit: Visit) -> None:
    page = visit.open()
    page.locator("#create-advanced button").first.click()
    page.locator("#create-width input").fill("320")
    page.locator("#create-height input").fill("192")
    page.get_by_role("button", name="Keep this size").click()
    chip = page.locator("#create-sizes button").filter(has_text="320 × 192")
    expect(chip).to_be_visible()
    paint(page)
    finished(page)
    assert (settings(visit, 1)[0].request.width, settings(visit, 1)[0].request.height) == (320, 192)
    page.locator("#create-shape label").filter(has_text="16:9").click()
    expect(page.locator("#create-width input")).to_have_value("352")
    chip.click()
    expect(page.locator("#create-width input")).to_have_value("320")
    expect(page.locator("#create-height input")).to_have_value("192")


def test_a_picture_with_words_is_painted_again_until_it_reads_right(visit: Visit, reader: list[str]) -> None:
    reader[:] = ["MON", "MOON"]
    page = visit.open()
    tries = page.locator("#create-tries")
    expect(page.locator("#create-shape")).to_be_visible()
    expect(tries).to_be_hidden()
    page.locator("#prompt textarea").fill(PROMPT)
    tries.locator("label").filter(has_text="3").click()
    assert barriers(page) == []
    page.locator("#create-paint").click()
    finished(page)
    expect(page.locator("#create-shelf .proof li")).to_have_text(["MOON: reads right"])
    assert [request.count for request in visit.engine.requests] == [1, 1]
    page.locator("#prompt textarea").fill("a cat")
    expect(tries).to_be_hidden()
    paint(page, "a cat")
    finished(page, 2)
    expect(page.locator("#create-shelf .proof")).to_have_count(0)


def test_a_shape_or_a_size_counts_however_fast_one_paints(visit: Visit) -> None:
    page = visit.open()
    page.locator("#prompt textarea").fill(PROMPT)
    page.locator("#create-advanced button").first.click()
    expect(page.locator("#create-width input")).to_be_visible()
    # In one go of the page's own thread, as no test from outside would be fast enough.
    click = """async () => {
        [...document.querySelectorAll("#create-shape label")].find((one) => one.innerText == "16:9").click();
        await new Promise((resume) => setTimeout(resume));
        document.querySelector("#create-paint").click();
    }"""
    page.evaluate(click)
    finished(page)
    expect(page.locator("#create-width input")).to_have_value("352")
    expect(page.locator("#create-height input")).to_have_value("192")
    write = """async () => {
        for (const [name, edge] of [["width", "320"], ["height", "192"]]) {
            const number = document.querySelector(`#create-${name} input`);
            Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(number, edge);
            number.dispatchEvent(new Event("input", { bubbles: true }));
        }
        await new Promise((resume) => setTimeout(resume));
        document.querySelector("#create-paint").click();
    }"""
    page.evaluate(write)
    finished(page, 2)
    assert [(each.width, each.height) for each in visit.engine.requests] == [(352, 192), (320, 192)]


def test_the_page_speaks_chinese_and_remembers_it(world: Visit) -> None:
    page = world.open()
    page.locator("#prompt textarea").fill("a cat")
    page.locator("[data-switch=language]").click()
    expect(page.locator("#create-paint")).to_have_text("绘制")
    expect(page.locator("#tab-create-button")).to_have_text("创作")
    expect(page.locator("#prompt textarea")).to_have_value("a cat")
    expect(page.locator(".written.hint")).to_contain_text("引号")
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    # Written last.
    expect(page.locator("#create-easel .card").first).to_contain_text("蓝色背景")
    expect(page.locator("#create-styles")).to_contain_text("风格")
    left = page.locator("#tab-create").inner_text() + page.locator("#top").inner_text()
    english = set(re.findall(r"[A-Za-z]{3,}", re.sub(r"“[A-Z]+”", "", left)))
    assert english <= {"Atelier", "miniature", "English"}, "nothing is left in English"
    for tab in TABS:
        page.locator(f"#tab-{tab}-button").click()
        assert left_in_english(page, tab) == []
    page.reload()
    expect(page.locator("#create-paint")).to_have_text("绘制")
    page.locator("[data-switch=language]").click()
    expect(page.locator("#create-paint")).to_have_text("Paint")


def test_what_goes_wrong_is_told_in_chinese(world: Visit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitting = Fitting(weights.read("miniature"), tabulated("cuda", 2 * GIB, 24 * GIB), Wishes(bits=4))
    plan = fitting.usual()
    system = System(
        machine=plan.machine,
        plan=plan,
        wishes=fitting.wishes,
        sentences=tuple(memory.sentences(plan)),
        use=Use(process=GIB, host_free=8 * GIB, host_total=24 * GIB),
    )
    monkeypatch.setattr(world.engine, "look", lambda: system)
    page = world.open()
    page.locator("[data-switch=language]").click()
    expect(page.locator("#create-paint")).to_have_text("绘制")
    page.locator("#create-paint").click()
    expect(page.locator("#create-complaint .complaint")).to_have_text("提示词是空的；请写下画面的内容。")
    world.engine.note = "The size 100x100 became 96x96, because sides are multiples of 32 pixels."
    world.engine.fault = too_little("painting")
    paint(page, "a cat")
    expect(page.locator("#create-complaint .complaint")).to_contain_text("内存也不足以绘制")
    expect(page.locator("#create-easel .note")).to_have_text("尺寸 100x100 已改为 96x96，因为边长须为 32 像素的倍数。")
    brought, preset = tmp_path / "mine.png", tmp_path / "mine.json"
    Image.new("RGB", (4, 4)).save(brought)
    preset.write_text("{}", encoding="utf-8")
    page.locator("#tab-edit-button").click()
    page.locator("#edit-easel input[type=file]").set_input_files(brought)
    expect(page.locator("#edit-complaint .complaint")).to_have_text(
        "图片 mine.png 只有 4x4 像素；请选择边长至少 16 的图片。"
    )
    page.locator("#tab-gallery-button").click()
    page.locator("#gallery input[type=file]").first.set_input_files(brought)
    expect(page.locator("#gallery .told")).to_contain_text("图片 mine.png 只有 4x4 像素")
    page.locator("#tab-system-button").click()
    expect(page.locator("#system-jobs .error")).to_contain_text("内存也不足以绘制")
    expect(page.locator("#system-plan .said")).to_contain_text("先验模型和解码器为 4 位")
    page.locator("#system-presets input[type=file]").set_input_files(preset)
    expect(page.locator("#system-presets [role=alert]")).to_contain_text("预设无法使用")
    page.evaluate("document.querySelectorAll('details:not(.vocabulary)').forEach((one) => { one.open = true; })")
    for tab in TABS:
        page.locator(f"#tab-{tab}-button").click()
        assert left_in_english(page, tab) == []


def left_in_english(page: Any, tab: str) -> list[str]:
    """Three words in a row that are read, or read aloud, but for what a checkpoint takes in no other language."""
    here = page.locator(f"#tab-{tab}")
    expect(here).to_contain_text(re.compile("[\u4e00-\u9fff]"))
    # What a tab shows is written when it is looked at.
    expect(here).not_to_contain_text(ENGLISH, use_inner_text=True)
    said: str = here.evaluate(
        "tab => [...tab.querySelectorAll(':not(.vocabulary *)')].flatMap((one) =>"
        " ['aria-label', 'title', 'placeholder', 'alt'].map((name) => one.getAttribute(name) ?? '')).join('\\n')"
    )
    return ENGLISH.findall(GRADIOS.sub("", said))


def test_light_and_dark_are_a_choice_that_stays(visit: Visit) -> None:
    page = visit.open(scheme="light")
    page.locator("[data-switch=theme]").click()
    expect(page.locator("body")).to_have_class(re.compile("dark"))
    page.reload()
    expect(page.locator("#create-paint")).to_be_visible()
    expect(page.locator("body")).to_have_class(re.compile("dark"))
    page.locator("[data-switch=theme]").click()
    expect(page.locator("body")).not_to_have_class(re.compile("dark"))


def test_escape_stops_but_not_while_typing(visit: Visit) -> None:
    page = visit.open()
    visit.engine.hold("painting")
    paint(page)
    expect(page.locator(".what")).to_have_text("Painting")
    page.locator("#prompt textarea").press("Escape")
    expect(page.locator("#create-stop")).to_be_visible()
    page.locator("body").press("Escape")
    expect(page.locator("#create-stop")).to_be_hidden()
    assert visit.history.newest(1) == []


def test_the_queue_is_one_across_tabs_and_browsers(visit: Visit) -> None:
    first, second = visit.open(), visit.open()
    paint(first, "measured")
    finished(first)
    visit.engine.hold("painting")
    paint(first, "first")
    paint(second, "second")
    for page in (first, second):
        expect(page.locator(".waiting li span")).to_have_text(["second"])
        expect(page.locator(".waiting li b")).to_have_text(["2"])
        expect(page.locator(".waiting li small")).to_have_text(re.compile(r"begins in \d+:\d\d"))
    first.locator("#tab-edit-button").click()
    expect(first.locator("#edit-easel .what")).to_have_text(re.compile("At work in Create"))
    visit.engine.release()
    finished(second, 3)


def test_narrow_nothing_is_wider_than_the_screen(world: Visit) -> None:
    page = world.open(NARROW)
    page.locator(".vocabulary summary").click()
    page.locator("#prompt textarea").fill('a zebra and the word "HI')
    expect(page.locator(".read")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW[0]
    box: Any = page.locator("#create-sketch").bounding_box()
    assert box["x"] + box["width"] <= NARROW[0]
