"""The board of the text layout: boxes with their texts, and how they become a Request and come back from one.

It travels between page and studio as one JSON value, which is checked here as anything that a browser says. Colours
and letterings have names of ours, which are said in the prompt's language; any other word is said as it stands.
Knows no widgets.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.words import Words
from glmimage import tasks
from glmimage.checkpoint import letter_of
from glmimage.errors import RequestError
from glmimage.geometry import Size
from glmimage.request import ALIGNMENTS, Defaults, Region, Request

MOST_BOXES = 40
LONGEST_TEXT = 300
"""Characters of one box; the glyph encoder has its own limit for all of them."""
LARGEST_JSON = 100_000

COLORS: Mapping[str, tuple[str, str]] = {
    "white": ("白色", "#ffffff"),
    "black": ("黑色", "#16161a"),
    "gray": ("灰色", "#8b8f97"),
    "red": ("红色", "#d8282c"),
    "orange": ("橙色", "#f0801a"),
    "yellow": ("黄色", "#f7c91f"),
    "green": ("绿色", "#239152"),
    "blue": ("蓝色", "#2864dc"),
    "purple": ("紫色", "#7e3ebe"),
    "pink": ("粉色", "#f07aae"),
    "brown": ("棕色", "#7a4a24"),
    "gold": ("金色", "#c99b2e"),
}
"""Name -> (in Chinese, how the page shows it)."""
LETTERINGS: Mapping[str, str] = {
    "bold": "粗",
    "thin": "细",
    "serif": "衬线",
    "rounded": "圆润",
    "italic": "倾斜",
    "handwritten": "手写",
    "brush": "毛笔",
    "neon": "霓虹灯",
    "chalk": "粉笔",
    "pixel": "像素",
}
"""Name -> in Chinese, as it stands before 字体."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """A text and its place; a box that has just been drawn has no text yet."""

    box: tuple[float, float, float, float]
    """Left, top, right, bottom as shares of the picture, 0..1."""
    text: str = ""
    color: str = ""
    style: str = ""
    align: str = "centre"

    def region(self, language: str) -> Region:
        """Raises RequestError where there is no text."""
        color, style = self.color, self.style
        if language == "zh":
            color = COLORS[color][0] if color in COLORS else color
            style = LETTERINGS.get(style, style)
        return Region(text=self.text, box=self.box, color=color, style=style, align=self.align)

    @classmethod
    def of(cls, region: Region) -> Box:
        colors = {chinese: name for name, (chinese, _) in COLORS.items()}
        letterings = {chinese: name for name, chinese in LETTERINGS.items()}
        return cls(
            box=region.box,
            text=region.text,
            color=colors.get(region.color, region.color),
            style=letterings.get(region.style, region.style),
            align=region.align,
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "box": list(self.box),
            "text": self.text,
            "color": self.color,
            "style": self.style,
            "align": self.align,
        }

    @classmethod
    def from_json(cls, data: object) -> Box:
        """Raises RequestError saying what is wrong."""
        if not isinstance(data, Mapping):
            raise RequestError(f"A box is an object in JSON, not {data!r:.60}; write its fields by name.")
        texts = {name: data.get(name, "") for name in ("text", "color", "style")}
        for name, text in texts.items():
            if not isinstance(text, str) or len(text) > LONGEST_TEXT:
                raise RequestError(f"The {name} of a box is not a text of at most {LONGEST_TEXT} letters; shorten it.")
        # A region checks box, alignment and half characters; its text may not be empty, a box's may.
        sides, align = data.get("box"), data.get("align", "centre")
        known = Region(
            text=texts["text"].strip() or "-",
            box=tuple(sides) if isinstance(sides, (list, tuple)) else (),
            color=texts["color"],
            style=texts["style"],
            align=align if align in ALIGNMENTS else str(align),
        )
        return cls(box=known.box, align=known.align, **texts)


@dataclass(frozen=True, kw_only=True, slots=True)
class Board:
    """All boxes of a layout, in the order in which they are said."""

    boxes: tuple[Box, ...] = ()
    shape: str = ""
    """The label of the canvas's shape, as the person chose it; "" = whatever is set."""
    edit: int = 0
    """Counts a page's changes, so that an answer can be told from one that comes too late."""

    def to_json(self) -> str:
        boxes = [box.to_json() for box in self.boxes]
        return json.dumps({"boxes": boxes, "shape": self.shape, "edit": self.edit}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: object) -> Board:
        """Reads what a page sends; nothing at all is an empty board. Raises RequestError."""
        if not text:
            return cls()
        try:
            if not isinstance(text, str) or len(text) > LARGEST_JSON:
                raise ValueError
            data = json.loads(text)
            boxes, shape, edit = data["boxes"], data.get("shape", ""), data.get("edit", 0)
            if not (isinstance(boxes, list) and isinstance(shape, str) and type(edit) is int):
                raise ValueError
        # RecursionError: brackets without end.
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
            raise RequestError("The boxes that the page sent cannot be read; reload the page.") from None
        if len(boxes) > MOST_BOXES:
            raise RequestError(f"There are {len(boxes)} boxes; a picture takes {MOST_BOXES} at most, remove some.")
        return cls(boxes=tuple(map(Box.from_json, boxes)), shape=shape[:20], edit=edit)

    def request(self, base: Request, scene: str, pen: Pen, defaults: Defaults) -> Request:
        """The boxes and the rest of the picture as a request, for what the checkpoint can write and its defaults.

        Raises RequestError naming the box it is about.
        """
        for number, box in enumerate(self.boxes, 1):
            if not box.text.strip():
                raise RequestError(f"Box {number} has no text; write what it should say or remove it.")
        language = self._language(scene, pen.languages)
        request = tasks.regions(base, scene, [box.region(language) for box in self.boxes], language)
        return tasks.with_cells(request, pen.letter, defaults)

    def _language(self, scene: str, languages: Sequence[str]) -> str:
        """The scene's; without a scene the texts'. A model that knows one language alone is spoken to in that."""
        said = scene if scene.strip() else "".join(box.text for box in self.boxes)
        language = tasks.language_of(said)
        return language if not languages or language in languages else languages[0]


def board_of(request: Request) -> tuple[Board, str]:
    """The boxes and the scene that a request was made from; all of its prompt where they cannot be told apart."""
    boxes = tuple(map(Box.of, request.regions))
    for language in ("en", "zh"):
        said = tasks.region_clauses(request.regions, language)
        if request.regions and request.prompt.endswith(said):
            return Board(boxes=boxes), request.prompt.removesuffix(said).rstrip(" ,，")
    return Board(boxes=boxes), request.prompt


# --- what a checkpoint can do -----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Pen:
    """What a checkpoint can write, as far as its world.json says."""

    letters: str = ""
    """All that it knows; "" = it does not say."""
    longest: int = 0
    """Letters of the longest text."""
    colors: tuple[str, ...] = ()
    letter: Size | None = None
    """What a letter takes."""
    languages: tuple[str, ...] = field(default=())

    @classmethod
    def of(cls, world: Mapping[str, Any] | None) -> Pen:
        """Whatever of it can be read: a world says what it likes."""
        world = world or {}
        told = world.get("lettering")
        lettering: Mapping[str, Any] = told if isinstance(told, Mapping) else {}
        letters, longest = lettering.get("letters"), lettering.get("longest")
        return cls(
            letters=(letters if isinstance(letters, str) else "") + "".join(_texts(lettering.get("greetings"))),
            longest=longest if type(longest) is int else 0,
            colors=_texts(lettering.get("colors")),
            letter=letter_of(world),
            languages=_texts(world.get("languages")),
        )


def _texts(data: object) -> tuple[str, ...]:
    return tuple(text for text in data if isinstance(text, str)) if isinstance(data, list) else ()


def advise(box: Box, size: Size, pen: Pen, name: str, words: Words) -> str:
    """One calm sentence about a box that the checkpoint called `name` may not do well; "" for any other."""
    text = "".join(box.text.split())
    if not text:
        return ""
    if pen.letters and (strange := sorted(set(text) - set(pen.letters))):
        return words("board.advice.letters", name=name, strange=" ".join(strange[:6]))
    if pen.longest and len(text) > pen.longest:
        return words("board.advice.longest", name=name, count=len(text), longest=pen.longest)
    if pen.letter is not None:
        wide, high = pen.letter.width * len(text), pen.letter.height
        has = round((box.box[2] - box.box[0]) * size.width), round((box.box[3] - box.box[1]) * size.height)
        if has[0] < wide or has[1] < high:
            return words("board.advice.small", name=name, wide=wide, high=high, width=has[0], height=has[1])
    if pen.colors and box.color and box.color not in pen.colors:
        known = ", ".join(color_words(color, words) for color in pen.colors)
        return words("board.advice.color", name=name, color=color_words(box.color, words), known=known)
    return ""


def color_words(color: str, words: Words) -> str:
    """A colour's name in the page's language."""
    return COLORS[color][0] if words.language == "zh" and color in COLORS else color
