"""The gallery in a real browser: found, opened, marked, compared, packed, thrown away and brought back, by hand."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from app.choice import Choice
from app.history import History, Picture, Query
from app.serve import Options, Studio
from glmimage import metadata, tasks
from glmimage.events import Result
from glmimage.geometry import Size
from glmimage.request import Reference, Request
from tests.browser.test_page import paint
from tests.browser.visits import NARROW, WIDE, Visit, barriers, browsed, expect
from tests.fakes import FakeEngine
from tests.test_index import delete
from tests.test_parameters import WEBUI
from tests.test_uploads import REFUSED

pytestmark = browsed


def made(prompt: str = "a cat", seed: int = 1, size: tuple[int, int] = (256, 256), **changes: Any) -> Result:
    request = Request(prompt=prompt, seed=seed, width=size[0], height=size[1], steps=1)
    result = next(event for event in FakeEngine().run(request) if isinstance(event, Result))
    return replace(result, request=replace(result.request, **changes))


def fill(history: History, *prompts: str) -> list[Picture]:
    return [history.add(made(prompt, seed)) for seed, prompt in enumerate(prompts)]


def enter(visit: Visit, size: tuple[int, int] = WIDE, scheme: str = "light") -> Any:
    page = visit.open(size, scheme)
    page.get_by_role("tab", name="Gallery").click()
    expect(page.locator("#gallery .sieve .total")).to_be_visible()
    return page


def reenter(page: Any) -> None:
    for tab in ("create", "gallery"):
        page.locator(f"#tabs [data-tab-id='{tab}']").first.evaluate("tab => tab.click()")


def shown(page: Any) -> list[str]:
    return [one.get_attribute("data-key") for one in page.locator(".shot").all()]


def shot(page: Any, picture: Picture) -> Any:
    return page.locator(f'.shot[data-key="{picture.key}"]')


def pick(page: Any, *pictures: Picture) -> None:
    for picture in pictures:
        shot(page, picture).hover()
        shot(page, picture).locator(".pick").click()
    expect(page.locator(".hands b")).to_have_text(str(len(pictures)))


def open_large(page: Any, picture: Picture) -> Any:
    shot(page, picture).locator(".open").click()
    expect(page.locator(".viewer aside")).to_have_attribute("data-key", picture.key)
    return page.locator(".viewer")


def test_the_wall_has_every_picture_once_newest_first(visit: Visit) -> None:
    pictures = fill(visit.history, *(f"picture {number}" for number in range(130)))
    page = enter(visit)
    expect(page.locator(".total")).to_have_text("130 pictures")
    assert shown(page)[:3] == [picture.key for picture in pictures[:-4:-1]]
    assert page.locator(".shot img").first.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    for _ in range(2):
        page.locator(".shot").last.scroll_into_view_if_needed()
        page.locator(".gallery .keys").scroll_into_view_if_needed()
    expect(page.locator(".shot")).to_have_count(130)
    assert shown(page) == [picture.key for picture in reversed(pictures)]
    expect(page.locator(".gallery .end")).to_be_hidden()
    page.evaluate("for (const shot of document.querySelectorAll('.shot')) shot.there = true")
    new = visit.history.add(made("new", seed=500))
    reenter(page)
    expect(shot(page, new)).to_have_count(1)
    # What hangs there is not taken from under a hand, whichever page it came with.
    assert page.evaluate("[...document.querySelectorAll('.shot')].filter(shot => !shot.there).length") == 1


def test_far_down_the_wall_stars_and_news_are_seen(visit: Visit) -> None:
    result, storage = made(), visit.history.storage
    first = visit.history.add(result)
    # More than are fetched anew: the same file under other names is quicker than to encode it each time.
    for number in range(520):
        path = storage.pictures / "2020-01-01" / f"000000-{number % 1000:03d}-1-{number:04x}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(first.path.read_bytes())
    page = enter(visit)
    expect(page.locator(".total")).to_have_text("521 pictures")
    for count in (*range(120, 521, 60), 521):
        page.locator(".shot").last.scroll_into_view_if_needed()
        page.locator(".gallery .keys").scroll_into_view_if_needed()
        expect(page.locator(".shot")).to_have_count(count)
    oldest = page.locator(".shot").last
    key = oldest.get_attribute("data-key")
    oldest.locator(".open").focus()
    for starred in (True, False, True):
        page.keyboard.press("s")
        expect(page.locator(f'.shot.is-starred[data-key="{key}"]')).to_have_count(int(starred))
    page.locator(".chip[data-act=starred] span").get_by_text("1").wait_for()
    visit.history.add(made("new", seed=9))
    reenter(page)
    expect(page.locator(".total")).to_have_text("522 pictures")
    expect(page.locator(".shot")).to_have_count(522)
    assert len(set(shown(page))) == 522
    expect(page.locator(f'.shot.is-starred[data-key="{key}"]')).to_have_count(1)


def test_words_stars_tags_tasks_and_days_find_pictures(visit: Visit) -> None:
    cat, poster, _ = fill(visit.history, "a cat in flat style", "写着“新年快乐”的海报", "a caterpillar")
    edit = visit.history.add(made("make it blue", task="edit"))
    visit.history.star(poster.key)
    visit.history.tag(cat.key, add=["for Mia"])
    page = enter(visit)
    asked = {"cat": 2, '"cat"': 1, "新年": 1, "mia": 1, "(((": 0, "nothing like it": 0, " ": 4}
    for text, number in asked.items():
        page.locator(".query").fill(text)
        expect(page.locator(".shot")).to_have_count(number)
    page.locator(".chip[data-act=starred]").click()
    expect(page.locator(".shot")).to_have_count(1)
    assert shown(page) == [poster.key]
    page.locator(".chip[data-act=starred]").click()
    page.locator(".chip[data-key=edit]").click()
    expect(page.locator(".shot")).to_have_count(1)
    assert shown(page) == [edit.key]
    page.locator(".chip[data-key=edit]").click()
    page.locator(".chip", has_text="#for Mia").click()
    expect(page.locator(".shot")).to_have_count(1)
    assert shown(page) == [cat.key]
    page.locator(".chip", has_text="#for Mia").click()
    page.locator("select.preset").select_option(label="Flat")
    expect(page.locator(".shot")).to_have_count(1)
    page.locator("select.preset").select_option(index=0)
    expect(page.locator(".shot")).to_have_count(4)
    # The Style tab and a typical edit have other words than Create.
    ink = tasks.style(made().request, "content.png", "ink")
    restyled = visit.history.add(replace(made(), request=ink))
    removed = visit.history.add(made("remove the big cat", task="edit"))
    for preset, picture in (("Ink", restyled), ("Remove", removed)):
        page.locator("select.preset").select_option(label=preset)
        expect(page.locator(".shot")).to_have_count(1)
        expect(shot(page, picture)).to_be_visible()
    page.locator("select.preset").select_option(index=0)
    expect(page.locator(".shot")).to_have_count(6)
    page.locator(".until").fill("2001-01-01")
    expect(page.locator(".nothing h2")).to_have_text("Nothing matches")
    page.get_by_text("Clear search and filters").click()
    expect(page.locator(".shot")).to_have_count(6)


def test_a_picture_is_opened_walked_starred_and_thrown_away_by_keys(visit: Visit) -> None:
    old, middle, new = fill(visit.history, "old", "middle", "new")
    page = enter(visit)
    page.keyboard.press("ArrowRight")
    expect(shot(page, new).locator(".open")).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("s")
    expect(shot(page, middle)).to_have_class("shot is-starred")
    assert visit.history.storage.read_marks(middle.key).star
    expect(shot(page, middle).locator(".open")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".viewer .said")).to_have_text("middle")
    image = page.locator(".viewer .large img")
    assert image.evaluate("image => image.decode().then(() => [image.naturalWidth, image.naturalHeight])") == [256, 256]
    page.keyboard.press("ArrowRight")
    expect(page.locator(".viewer .said")).to_have_text("old")
    expect(page.locator(".viewer .is-next")).to_be_disabled()
    page.keyboard.press("ArrowLeft")
    # Keys act on the picture that is seen.
    expect(page.locator(".viewer .said")).to_have_text("middle")
    page.keyboard.press("S")
    expect(page.locator(".viewer .star")).to_have_attribute("aria-pressed", "false")
    page.keyboard.press("Delete")
    expect(page.locator(".viewer .said")).to_have_text("old")
    assert not middle.path.exists()
    page.keyboard.press("Escape")
    expect(page.locator(".viewer")).to_be_hidden()
    expect(shot(page, old).locator(".open")).to_be_focused()
    expect(page.locator(".told")).to_contain_text("1 moved to the trash.")
    page.get_by_text("Undo").click()
    expect(page.locator(".shot")).to_have_count(3)
    assert middle.path.exists()


def test_keys_are_letters_while_somebody_types(visit: Visit) -> None:
    (picture,) = fill(visit.history, "sassy")
    page = enter(visit)
    shot(page, picture).locator(".open").focus()
    page.locator(".query").press_sequentially("sas")
    page.keyboard.press("Delete")
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".shot")).to_have_count(1)
    open_large(page, picture)
    page.locator(".tag-one").press_sequentially("sS")
    page.keyboard.press("Enter")
    expect(page.locator(".viewer .tags li")).to_have_text("sS")
    expect(page.locator(".tag-one")).to_be_focused()
    marks = visit.history.storage.read_marks(picture.key)
    assert (marks.star, marks.tags) == (False, ("sS",))
    page.locator(".viewer .tags li button").click()
    expect(page.locator(".viewer .tags li")).to_have_count(0)
    assert visit.history.storage.read_marks(picture.key).tags == ()


def test_escape_closes_what_is_open_first_and_then_stops_the_work(visit: Visit) -> None:
    one, two = fill(visit.history, "one", "two")
    page = visit.open()
    visit.engine.hold("painting")
    paint(page)
    expect(page.locator("#create-stop")).to_be_visible()
    page.get_by_role("tab", name="Gallery").click()
    pick(page, one, two)
    page.locator(".hands [data-act=compare]").click()
    expect(page.locator("#compare")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#compare")).to_be_hidden()
    page.keyboard.press("Escape")
    expect(page.locator(".hands")).to_be_hidden()
    open_large(page, one)
    page.keyboard.press("Escape")
    expect(page.locator(".viewer")).to_be_hidden()
    snapshot = visit.studio.worker.snapshot()
    assert snapshot.current is not None
    assert not snapshot.current.stopping


def test_many_are_chosen_starred_tagged_and_packed(visit: Visit, tmp_path: Path) -> None:
    pictures = fill(visit.history, *"abcdef")
    page = enter(visit)
    pick(page, pictures[4])
    shot(page, pictures[1]).locator(".pick").click(modifiers=["Shift"])
    expect(page.locator(".hands b")).to_have_text("4")
    page.locator(".hands [data-act=star]").click()
    expect(page.locator(".shot.is-starred")).to_have_count(4)
    expect(page.locator(".hands [data-act=unstar]")).to_be_visible()
    page.locator(".tag-many").fill("set")
    page.keyboard.press("Enter")
    expect(page.locator(".chip", has_text="#set")).to_contain_text("4")
    with page.expect_download() as download:
        page.locator(".hands [data-act=zip]").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        about = json.loads(archive.read("pictures.json"))
        assert [one["settings"]["request"]["prompt"] for one in about] == ["e", "d", "c", "b"]
        assert all(one["star"] and one["tags"] == ["set"] for one in about)
        assert archive.read(about[0]["file"]) == pictures[4].path.read_bytes()
    page.locator(".hands .strip").check()
    with page.expect_download() as download:
        page.locator(".hands [data-act=zip]").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert archive.namelist() == [f"{number:04d}.png" for number in range(1, 5)]
        assert b"glmimage" not in archive.read("0001.png")


def test_two_are_compared_with_a_slider(visit: Visit) -> None:
    one, two = visit.history.add(made("one", 1)), visit.history.add(made("two", 2, (512, 256)))
    page = enter(visit)
    pick(page, one, two)
    page.locator(".hands [data-act=compare]").click()
    expect(page.locator("#compare-slider img")).to_have_count(2)
    sizes = page.locator("#compare-slider img").evaluate_all(
        "images => Promise.all(images.map((one) => one.decode().then(() => [one.naturalWidth, one.naturalHeight])))"
    )
    assert sizes == [[512, 256], [512, 256]], "those of another shape get a margin"
    before = page.locator("#compare .before")
    assert page.locator("#compare .compare").bounding_box()["width"] > WIDE[0] * 0.9
    expect(page.locator("#compare input")).to_be_focused()
    expect(before).to_have_css("clip-path", "inset(0px 50% 0px 0px)")
    for _ in range(5):
        page.keyboard.press("ArrowLeft")
    expect(before).to_have_css("clip-path", "inset(0px 55% 0px 0px)")
    assert barriers(page) == []
    page.locator("#compare-close").click()
    expect(page.locator("#compare")).to_be_hidden()


def test_the_trash_gives_back_and_is_emptied_only_when_it_is_meant(visit: Visit) -> None:
    one, two, three = fill(visit.history, "one", "two", "three")
    page = enter(visit)
    pick(page, one, two)
    page.locator(".hands [data-act=discard]").click()
    expect(page.locator(".shot")).to_have_count(1)
    page.locator(".chip[data-act=trash]").click()
    expect(page.locator(".shot")).to_have_count(2)
    viewer = open_large(page, one)
    assert viewer.locator(".large img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 256
    viewer.get_by_text("Restore").click()
    expect(page.locator(".shot")).to_have_count(1)
    assert one.path.exists()
    page.keyboard.press("Escape")
    page.locator("[data-act=empty]").click()
    expect(page.locator("[data-act=empty]")).to_have_text("Delete 1 for good?")
    assert visit.history.find_trashed(two.key) is not None
    page.locator("[data-act=empty]").click()
    expect(page.locator(".nothing h2")).to_have_text("The trash is empty")
    assert visit.history.find_trashed(two.key) is None
    page.locator(".chip[data-act=trash]").click()
    expect(page.locator(".shot")).to_have_count(2)
    assert shown(page) == [three.key, one.key]


def test_settings_are_used_whole_or_in_part(visit: Visit) -> None:
    picture = visit.history.add(made("a prompt from before", 4711, (384, 256)))
    page = enter(visit)
    page.get_by_role("tab", name="Create").click()
    page.locator("#prompt textarea").fill("mine")
    page.locator("#create-seed input").fill("5")
    page.get_by_role("tab", name="Gallery").click()
    open_large(page, picture).get_by_role("button", name="Prompt").click()
    expect(page.locator("#prompt textarea")).to_have_value("a prompt from before")
    expect(page.locator("#create-seed input")).to_have_value("5")
    page.locator("#prompt textarea").fill("mine")
    page.get_by_role("tab", name="Gallery").click()
    open_large(page, picture).get_by_role("button", name="Seed").click()
    expect(page.locator("#create-seed input")).to_have_value("4711")
    expect(page.locator("#prompt textarea")).to_have_value("mine")
    expect(page.locator("#create-shape label").filter(has_text="1:1").locator("input")).to_be_checked()
    page.get_by_role("tab", name="Gallery").click()
    open_large(page, picture).get_by_role("button", name="All").click()
    expect(page.locator("#prompt textarea")).to_have_value("a prompt from before")
    expect(page.locator("#create-shape label").filter(has_text="3:2").locator("input")).to_be_checked()


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_a_part_goes_to_any_tab_that_takes_it_by_keys(visit: Visit, size: tuple[int, int]) -> None:
    picture = visit.history.add(made("a prompt from before", 4711))
    page = enter(visit, size)
    viewer = open_large(page, picture)
    part = viewer.locator(".part").filter(has=page.get_by_role("button", name="Prompt", exact=True))
    menu = part.locator(".menu")
    part.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(menu).to_be_visible()
    assert menu.get_by_role("button").all_inner_texts() == ["Text layout", "Edit", "Subjects"]
    assert viewer.evaluate("one => one.scrollWidth") <= size[0]
    assert barriers(page) == []
    page.keyboard.press("Escape")
    expect(menu).to_be_hidden()
    expect(viewer).to_be_visible()
    expect(part.locator("summary")).to_be_focused()
    for key in ("Space", "Tab", "Tab", "Enter"):
        page.keyboard.press(key)
    expect(viewer).to_be_hidden()
    expect(page.locator("#edit-instruction textarea")).to_have_value("a prompt from before")
    expect(page.locator("#edit-instruction")).to_be_visible()


def test_a_layout_alone_is_painted_in_other_words(visit: Visit) -> None:
    picture = visit.history.add(made("as it was", 4711, (384, 256)))
    layout = visit.history.settings(picture).prior.layout
    page = enter(visit)
    page.get_by_role("tab", name="Create").click()
    page.locator("#prompt textarea").fill("mine")
    page.get_by_role("tab", name="Gallery").click()
    open_large(page, picture).get_by_role("button", name="Layout").click()
    kept = page.locator("#create-kept")
    expect(kept).to_contain_text("The layout of this picture is kept")
    expect(page.locator("#prompt textarea")).to_have_value("mine")
    expect(page.locator("#create-shape label").filter(has_text="3:2").locator("input")).to_be_checked()
    for count in (1, 2):
        page.locator("#create-paint").click()
        assert visit.studio.worker.wait(lambda now, count=count: len(visit.engine.requests) == count, 60)
        if count == 1:
            kept.get_by_role("button", name="Let it go").click()
            expect(kept.locator("img")).to_have_count(0)
    first, second = visit.engine.requests
    assert (first.prompt, first.layout, first.layout_seed, first.size) == ("mine", layout, 4711, Size(384, 256))
    assert (second.layout, second.layout_seed) == (None, None)


def test_a_kept_layout_whose_picture_was_thrown_away_is_missed(visit: Visit) -> None:
    picture = visit.history.add(made("as it was"))
    page = enter(visit)
    page.get_by_role("tab", name="Create").click()
    page.locator("#prompt textarea").fill("mine")
    page.get_by_role("tab", name="Gallery").click()
    open_large(page, picture).get_by_role("button", name="Layout").click()
    kept = page.locator("#create-kept")
    expect(kept.locator("img")).to_have_count(1)
    visit.history.trash(picture.key)
    page.locator("#create-paint").click()
    expect(page.locator("#create-complaint")).to_contain_text("not in the gallery any more")
    assert not visit.engine.requests
    kept.get_by_role("button", name="Let it go").click()
    expect(kept.locator("img")).to_have_count(0)
    page.locator("#create-paint").click()
    assert visit.studio.worker.wait(lambda now: len(visit.engine.requests) == 1, 60)


def test_a_chain_of_edits_can_be_walked(visit: Visit) -> None:
    history = visit.history
    first = history.add(made("first"))
    second = history.add(made("second", references=(Reference(path=str(first.path)),), task="edit"))
    third = history.add(made("third", references=(Reference(path=str(second.path)),), task="edit"))
    page = enter(visit)
    viewer = open_large(page, third)
    expect(viewer.locator(".kin button")).to_have_count(3)
    viewer.locator(".kin button").nth(1).click()
    expect(viewer.locator(".said")).to_have_text("second")
    viewer.locator(".kin button").nth(0).click()
    expect(viewer.locator(".said")).to_have_text("first")
    page.keyboard.press("Escape")
    history.trash(second.key)
    history.empty_trash()
    viewer = open_large(page, third)
    expect(viewer.locator(".kin button")).to_have_count(3)
    expect(viewer.locator(".kin small")).to_have_text("deleted")


def test_hostile_files_are_a_sentence_each_and_nothing_is_kept(visit: Visit, tmp_path: Path) -> None:
    # A small or a long one can hang here, though nothing can be made from it.
    refused = {name: each for name, each in REFUSED.items() if not name.startswith("too")}
    brought = [tmp_path / f"brought{number}.png" for number in range(len(refused))]
    for path, (make, _) in zip(brought, refused.values(), strict=True):
        path.write_bytes(make())
    page = enter(visit)
    page.locator(".bring input").set_input_files(brought)
    wrong = page.locator(".told .is-wrong")
    expect(wrong).to_have_count(len(brought), timeout=60_000)
    for path, (_, words) in zip(brought, refused.values(), strict=True):
        expect(wrong.filter(has_text=path.name)).to_contain_text(words)
    expect(page.locator(".shot")).to_have_count(0)
    storage = visit.history.storage
    assert [path for path in storage.root.rglob("*.png") if path.is_file()] == []


def test_a_dropped_file_is_taken_in_and_what_is_lost_is_said(visit: Visit, tmp_path: Path) -> None:
    chunks = PngInfo()
    chunks.add_text("parameters", WEBUI)
    Image.effect_noise((96, 64), 90).convert("RGB").save(tmp_path / "foreign.png", pnginfo=chunks)
    (tmp_path / "text.png").write_text("no picture")
    page = enter(visit)
    expect(page.locator(".nothing h2")).to_have_text("No pictures yet")
    page.locator(".bring input").set_input_files(tmp_path / "foreign.png")
    expect(page.locator(".shot")).to_have_count(1)
    expect(page.locator(".told li").first).to_contain_text("“boats”")
    (picture,) = visit.history.newest(9)
    expect(open_large(page, picture).locator(".said")).to_contain_text("a foggy harbour")
    page.keyboard.press("Escape")
    page.locator(".bring input").set_input_files(tmp_path / "text.png")
    expect(page.locator(".told .is-wrong")).to_contain_text("no picture that can be read")
    other = History(tmp_path / "other").add(made("from another studio"))
    data = page.evaluate_handle(
        "bytes => { const files = new DataTransfer();"
        " files.items.add(new File([Uint8Array.from(bytes)], 'x.png', {type: 'image/png'})); return files; }",
        list(other.path.read_bytes()),
    )
    page.dispatch_event(".gallery", "dragover", {"dataTransfer": data})
    expect(page.locator(".drop")).to_be_visible()
    page.dispatch_event(".gallery", "drop", {"dataTransfer": data})
    expect(page.locator(".shot")).to_have_count(2)
    assert visit.history.find(other.key) is not None
    expect(page.locator(".told")).to_contain_text("Taken in with its settings.")


def test_a_download_carries_everything_or_nothing_and_the_browser_remembers_which(visit: Visit) -> None:
    (picture,) = fill(visit.history, "words")
    page = enter(visit)

    def downloaded() -> Path:
        with page.expect_download() as download:
            page.locator(".viewer").get_by_text("PNG file").locator("visible=true").click()
        return Path(download.value.path())

    open_large(page, picture)
    assert downloaded().read_bytes() == picture.path.read_bytes()
    page.locator(".viewer .strip").check()
    expect(page.locator(".viewer a[download]")).to_be_hidden()
    assert metadata.read_texts(downloaded()) == {}
    page.reload()
    page.get_by_role("tab", name="Gallery").click()
    open_large(page, picture)
    expect(page.locator(".viewer .strip")).to_be_checked()
    assert metadata.read_texts(downloaded()) == {}
    page.locator(".viewer .strip").uncheck()
    page.keyboard.press("Escape")
    pick(page, picture)
    expect(page.locator(".hands .strip")).not_to_be_checked()


def test_a_new_picture_appears_while_one_looks(visit: Visit) -> None:
    (before,) = fill(visit.history, "before")
    page = enter(visit)
    shot(page, before).evaluate("one => { one.mine = true; }")
    visit.studio.worker.submit(Request(prompt="fresh", width=256, height=256), "create")
    expect(page.locator(".shot")).to_have_count(2)
    expect(page.locator(".shot .open").first).to_have_attribute("title", "fresh")
    assert shot(page, before).evaluate("one => one.mine"), "a picture that is being clicked was taken away"


def test_what_another_browser_threw_away_is_said(visit: Visit) -> None:
    (picture,) = fill(visit.history, "one")
    page = enter(visit)

    def discard_first(route: Any) -> None:
        # Between the click and its answer: any earlier, and the wall may have noticed by itself.
        if '"show"' in (route.request.post_data or ""):
            visit.history.trash(picture.key)
            visit.history.empty_trash()
        route.continue_()

    page.route(re.compile("component_server"), discard_first)
    shot(page, picture).locator(".open").click()
    expect(page.locator(".told")).to_have_text("This picture is no longer there.")


def test_a_prompt_is_text_and_never_markup(visit: Visit) -> None:
    prompt = '<img src=x onerror="document.title=1"> ${1+1} {{value}} "<b>&"'
    (picture,) = fill(visit.history, prompt)
    visit.history.tag(picture.key, add=["<b onclick=alert(1)>"])
    page = enter(visit)
    expect(page.locator(".chip[data-act=tag]")).to_contain_text("#<b onclick=alert(1)>")
    expect(open_large(page, picture).locator(".said")).to_have_text(prompt)
    expect(page.locator(".viewer .tags li")).to_have_text("<b onclick=alert(1)>")


def test_after_a_restart_and_without_its_index_the_gallery_is_the_same(
    visit: Visit, browser: Any, tmp_path: Path
) -> None:
    one, two, three = fill(visit.history, "one", "two", "three")
    visit.history.star(two.key)
    visit.history.tag(two.key, add=["kept"])
    visit.history.trash(three.key)
    assert visit.history.search(Query()).total == 2
    visit.history.close()
    delete(tmp_path / "data")
    choice = Choice(checkpoint=str(tmp_path / "checkpoint"))
    options = Options(port=7930, choice=choice, data_dir=tmp_path / "data", open_browser=False)
    studio = Studio.open(options, lambda choice: FakeEngine(), lambda text: None)
    again = Visit(visit.engine, studio, browser, visit.strangers, visit.faults)
    page = enter(again)
    expect(page.locator(".shot")).to_have_count(2)
    assert shown(page) == [two.key, one.key]
    expect(page.locator(".shot.is-starred")).to_have_count(1)
    expect(page.locator(".chip[data-act=trash]")).to_contain_text("1")
    expect(open_large(page, two).locator(".tags li")).to_have_text("kept")
    page.close()
    studio.close()


def test_narrow_everything_is_in_reach(visit: Visit) -> None:
    pictures = fill(visit.history, *(f"picture {number}" for number in range(12)))
    page = enter(visit, NARROW)
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW[0]
    shot(page, pictures[-1]).locator(".pick").click()
    expect(page.locator(".hands")).to_be_in_viewport(ratio=1)
    page.locator(".hands [data-act=unselect]").click()
    viewer = open_large(page, pictures[-1])
    large, aside = (viewer.locator(part).bounding_box() for part in (".large", "aside"))
    assert large["y"] + large["height"] <= aside["y"] + 1, "the picture first, and nothing over it"
    viewer.locator("[data-act=discard-one]").scroll_into_view_if_needed()
    expect(viewer.locator(".close")).to_be_in_viewport(ratio=1)
    assert viewer.evaluate("one => one.scrollWidth") <= NARROW[0]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_stands_in_anybodys_way(make_visit: Callable[..., Visit], scheme: str) -> None:
    visit = make_visit()
    one, two = fill(visit.history, "one", "two")
    visit.history.tag(one.key, add=["tag"])
    page = enter(visit, scheme=scheme)
    page.locator(".chip[data-act=tag]").click()
    pick(page, one)
    assert barriers(page) == []
    page.keyboard.press("Escape")
    open_large(page, one)
    assert barriers(page) == []
    page.keyboard.press("Delete")
    expect(page.locator(".told button")).to_be_visible()
    assert barriers(page) == []
    assert two.path.exists()
