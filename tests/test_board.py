"""The board: what a page may send, how boxes become a request and come back, what is said of a checkpoint's limits."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app import canvas
from app.board import MOST_BOXES, Board, Box, Pen, advise, board_of
from app.library import Library
from app.words import Words
from glmimage.errors import RequestError
from glmimage.geometry import Size
from glmimage.request import Defaults, Request

BASE = Request(prompt="-", width=256, height=256)
BOX = Box(box=(0.0, 0.75, 1.0, 1.0), text="SUMMER", color="red", style="bold", align="left")
SMALL = Defaults(width=256, height=256, min_side=128, max_side=512)
PEN = Pen.of({"lettering": {"letters": "ABCDEMNORSU", "longest": 8, "colors": ["white", "red"], "letter": [32, 64]}})


def test_json_there_and_back() -> None:
    board = Board(boxes=(BOX, Box(box=(0.1, 0.1, 0.5, 0.5))), shape="3:4", edit=7)
    assert Board.from_json(board.to_json()) == board
    assert Board.from_json("") == Board()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("{", "reload the page"),
        ("[]", "reload the page"),
        ("[" * 50_000, "reload the page"),
        ({"boxes": [{"box": [0, 0, 2, 1]}]}, "region box"),
        ({"boxes": [{"box": "abcd"}]}, "region box"),
        ({"boxes": [{"box": [0, 0, 1, 1], "text": 5}]}, "text of a box"),
        ({"boxes": [{"box": [0, 0, 1, 1], "text": "x" * 301}]}, "text of a box"),
        ({"boxes": [{"box": [0, 0, 1, 1], "align": "up"}]}, "align"),
        ({"boxes": ["box"]}, "object in JSON"),
        ({"boxes": [{"box": [0, 0, 1, 1]}] * (MOST_BOXES + 1)}, "at most"),
        ({"boxes": [], "edit": "1"}, "reload the page"),
    ],
)
def test_what_a_page_may_not_send(data: Any, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        Board.from_json(data if isinstance(data, str) else json.dumps(data))


def test_a_request_there_and_back() -> None:
    request = Board(boxes=(BOX,)).request(BASE, "a cat on a blue background,", Pen(), SMALL)
    assert request.prompt.startswith('a cat on a blue background, the text "SUMMER" in red bold letters, left-aligned,')
    assert board_of(request) == (Board(boxes=(BOX,)), "a cat on a blue background")
    chinese = Board(boxes=(BOX,)).request(BASE, "蓝色背景", Pen(), SMALL)
    assert chinese.regions[0].color == "红色"
    assert board_of(chinese) == (Board(boxes=(BOX,)), "蓝色背景")
    assert board_of(Request(prompt="a cat")) == (Board(), "a cat")


def test_where_letters_have_one_size_the_prompt_says_where_the_text_begins() -> None:
    board = Board(boxes=(Box(box=(0.1, 0.6, 1.0, 1.0), text="SUN", align="left"), Box(box=(0, 0, 1, 0.3), text="RED")))
    request = board.request(BASE, "a cat", PEN, SMALL)
    assert request.prompt == (
        'a cat, the text "SUN" at the bottom, column 2, row 6 and the text "RED" at the top, column 3, row 1'
    )
    # The boxes stay what was drawn, for the check afterwards and for the next picture.
    assert [region.box for region in request.regions] == [box.box for box in board.boxes]
    assert board_of(request) == (board, "a cat")
    again = Request.from_json(json.loads(json.dumps(request.to_json())))
    assert board_of(again) == (board, "a cat")


def test_the_prompts_language_is_one_that_the_checkpoint_knows() -> None:
    greeting = Board(boxes=(Box(box=(0.0, 0.0, 1.0, 0.5), text="你好"),))
    assert greeting.request(BASE, "", Pen(), SMALL).prompt.startswith("文字")
    assert greeting.request(BASE, "", Pen(languages=("en",)), SMALL).prompt.startswith("the text")
    assert greeting.request(BASE, "a cat", Pen(), SMALL).prompt.startswith("a cat, the text")


def test_a_box_without_text_is_named() -> None:
    with pytest.raises(RequestError, match="Box 2 has no text"):
        Board(boxes=(BOX, Box(box=(0.0, 0.0, 1.0, 0.5)))).request(BASE, "", Pen(), SMALL)


@pytest.mark.parametrize(
    ("box", "said"),
    [
        (BOX, ""),
        (Box(box=(0.0, 0.0, 1.0, 0.5)), ""),
        (Box(box=(0.0, 0.0, 1.0, 0.5), text="ÉA"), "not learned to write É"),
        (Box(box=(0.0, 0.0, 1.0, 0.5), text="SUMMERSUN"), "8 letters at most, these are 9"),
        (Box(box=(0.0, 0.0, 0.5, 0.5), text="SUMMER"), "needs 192 × 64 pixels, the box has 128 × 128"),
        (Box(box=(0.0, 0.0, 1.0, 0.5), text="SUN", color="gold"), "letters in white, red; gold"),
    ],
)
def test_what_the_checkpoint_may_not_do_well_is_said(box: Box, said: str) -> None:
    advice = advise(box, Size(256, 256), PEN, "miniature", Words())
    assert said in advice
    assert bool(said) == bool(advice)
    assert advise(box, Size(256, 256), Pen.of(None), "large", Words()) == ""


def test_a_world_says_what_it_likes() -> None:
    assert Pen.of({"lettering": [1], "languages": "en"}) == Pen()
    assert Pen.of({"lettering": {"letters": 5, "longest": "8", "colors": [1, "red"], "letter": [1]}}) == Pen(
        colors=("red",)
    )


def test_the_shipped_templates_are_whole(tmp_path: Any) -> None:
    library = Library(tmp_path)
    presets = library.presets("template")
    assert library.faults() == ()
    assert [preset.title("en") for preset in presets] == [
        "Poster",
        "Business card",
        "Menu",
        "Banner",
        "Comic bubbles",
        "Infographic",
    ]
    assert canvas.templates(presets, Words("zh")).count("<svg") == 6


def test_no_word_ends_the_script() -> None:
    assert "<" not in canvas.furnish()
