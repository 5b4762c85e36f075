"""The presets that people choose from, make, keep and pass on: styles, sizes, edits, templates of texts.

One JSON file each, as presets/README.md describes: those of the program in `presets/<kind>s/`, a person's own in
`<data folder>/presets/`, under names that we make (what people type never becomes a path). What is imported or was
edited by hand is checked like anything from outside; a file that is not usable is named and left out.
Knows no page and no model.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from app import presets
from app.presets import FOLDER, PresetError
from glmimage.errors import GLMImageError, RequestError
from glmimage.files import write_whole
from glmimage.request import Region

Kind = Literal["style", "size", "edit", "template"]
KINDS: tuple[Kind, ...] = get_args(Kind)

LARGEST_FILE = 256 * 1024
LARGEST_IMPORT = 8 * 1024 * 1024
LONGEST_NAME = 60
LONGEST_WORDS = 2000
MOST_REGIONS = 40
SETTINGS: Mapping[str, tuple[float, float]] = {
    "steps": (1, 100),
    "guidance": (0, 30),
    "temperature": (0.01, 100),
    "top_p": (0.01, 1),
    "content": (0, 1),
    "region_strength": (0, 4),
}
"""What a preset may set besides -> its range."""
_THUMBNAIL = re.compile(r"data:image/(?:webp|png|jpeg);base64,[A-Za-z0-9+/]+={0,2}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """One of them, checked."""

    kind: Kind
    name: Mapping[str, str]
    """Language -> name; always with "en"."""
    words: Mapping[str, str] = field(default_factory=dict)
    """Language -> what it adds to a prompt (style), tells (edit) or starts from (template)."""
    width: int | None = None
    height: int | None = None
    regions: tuple[Region, ...] = ()
    settings: Mapping[str, float] = field(default_factory=dict)
    thumbnail: str = ""
    """A small picture as a data URL."""
    key: str = ""
    """Its file, "styles/flat.json" or "own/0123456789ab.json"."""

    @property
    def own(self) -> bool:
        return self.key.startswith("own/")

    def title(self, language: str) -> str:
        return self.name.get(language) or self.name["en"]

    def said(self, language: str) -> str:
        return self.words.get(language) or self.words.get("en", "")

    def to_json(self) -> dict[str, Any]:
        """As in its file; `from_json` gives an equal preset back."""
        data: dict[str, Any] = {"kind": self.kind, "name": dict(self.name)}
        if self.words:
            data["words"] = dict(self.words)
        if self.width is not None:
            data |= {"width": self.width, "height": self.height}
        if self.regions:
            data["regions"] = [region.to_json() for region in self.regions]
        if self.settings:
            data["settings"] = dict(self.settings)
        return data | ({"thumbnail": self.thumbnail} if self.thumbnail else {})

    @classmethod
    def from_json(cls, data: object, key: str = "") -> Preset:
        """Raises RequestError that says what is wrong."""
        if not isinstance(data, Mapping):
            raise RequestError("it is not a JSON object")
        known = {"kind", "name", "words", "width", "height", "regions", "settings", "thumbnail"}
        if unknown := sorted(str(name) for name in data if name not in known):
            raise RequestError(f"it has unknown fields {', '.join(unknown)}")
        kind = data.get("kind")
        if kind not in KINDS:
            raise RequestError(f"its kind {kind!r} is none of {', '.join(KINDS)}")
        made = cls(
            kind=kind,
            name=_texts("name", data.get("name"), LONGEST_NAME),
            words=_texts("words", data["words"], LONGEST_WORDS) if "words" in data else {},
            width=_side(data, "width"),
            height=_side(data, "height"),
            regions=_regions(data.get("regions", ())),
            settings=_settings(data.get("settings", {})),
            thumbnail=_thumbnail(data.get("thumbnail", "")),
            key=key,
        )
        needed = {"style": made.words, "edit": made.words, "template": made.regions, "size": made.width and made.height}
        if not needed[kind]:
            lacking = {"style": "words", "edit": "words", "template": "regions", "size": "width and height"}
            raise RequestError(f"a preset of kind {kind} needs {lacking[kind]}")
        return made


class Library:
    """The program's presets and a person's own. Files are read anew each time, so that an edit by hand is seen."""

    def __init__(self, data_dir: Path, shipped: Path = FOLDER) -> None:
        self._own = data_dir / "presets"
        self._shipped = shipped

    def presets(self, kind: Kind) -> tuple[Preset, ...]:
        """The program's own by file name, then the person's own by name."""
        found = [one for one in self._read() if isinstance(one, Preset) and one.kind == kind]
        return tuple(sorted(found, key=lambda one: (one.own, one.title("en").lower() if one.own else one.key)))

    def faults(self) -> tuple[str, ...]:
        """A sentence for each file that was left out, also of the sizes and examples of the program."""
        return (*presets.faults(self._shipped), *(one for one in self._read() if isinstance(one, str)))

    def find(self, key: str) -> Preset | None:
        """The preset under a key that came from outside."""
        return next((one for one in self._read() if isinstance(one, Preset) and one.key == key), None)

    def keep(self, preset: Preset) -> Preset:
        """Stores a new one of the person's own; raises PresetError."""
        checked = self.check(preset.to_json())
        path = self._own / f"{secrets.token_hex(6)}.json"
        self._write(path, checked)
        return replace(checked, key=f"own/{path.name}")

    def rename(self, key: str, name: str, language: str = "en") -> None:
        """Gives one of the person's own another name, in the language where it has several; raises PresetError."""
        preset, path = self._found(key)
        names = {**preset.name, language: name} if language in preset.name else {"en": name}
        self._write(path, self.check(preset.to_json() | {"name": names}))

    def delete(self, key: str) -> None:
        """Raises PresetError for what is not the person's own."""
        _, path = self._found(key)
        path.unlink(missing_ok=True)

    def export(self, *keys: str) -> str:
        """These presets as the text of one file that `adopt` takes."""
        chosen = [preset.to_json() for key in keys if (preset := self.find(key)) is not None]
        return json.dumps({"presets": chosen}, ensure_ascii=False, indent=1)

    def adopt(self, path: Path) -> tuple[Preset, ...]:
        """Keeps what is in an exported file, or in one preset's own; all of it or nothing. Raises PresetError."""
        try:
            if path.stat().st_size > LARGEST_IMPORT:
                raise PresetError("The file is too large for presets; choose one that was exported here.")
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            raise PresetError("The file is no JSON that can be read; choose one that was exported here.") from None
        entries = data.get("presets") if isinstance(data, Mapping) and "presets" in data else [data]
        if not isinstance(entries, list) or not entries:
            raise PresetError("The file holds no presets; choose one that was exported here.")
        checked = [self.check(entry) for entry in entries]
        return tuple(self.keep(preset) for preset in checked)

    def _read(self) -> Iterator[Preset | str]:
        for kind in KINDS:
            for path in sorted((self._shipped / f"{kind}s").glob("*.json")):
                yield _open(path, f"{kind}s/{path.name}")
        if self._own.is_dir():
            for path in sorted(self._own.glob("*.json")):
                yield _open(path, f"own/{path.name}")

    def _found(self, key: str) -> tuple[Preset, Path]:
        preset = self.find(key)
        name = key.removeprefix("own/")
        if preset is None or not preset.own or Path(name).name != name:
            raise PresetError("This preset is not one of yours; choose another.")
        return preset, self._own / name

    def _write(self, path: Path, preset: Preset) -> None:
        text = json.dumps(preset.to_json(), ensure_ascii=False, indent=1)
        try:
            self._own.mkdir(parents=True, exist_ok=True)
            write_whole(path, lambda file: file.write(text.encode()))
        except OSError as error:
            raise PresetError(
                f"The preset cannot be stored ({error.strerror or error}); make room and try again."
            ) from None

    def check(self, data: object) -> Preset:
        """What somebody typed or sent, as a preset; raises PresetError."""
        try:
            return Preset.from_json(data)
        except GLMImageError as error:
            raise PresetError(f"The preset cannot be used: {error}.") from None


def _open(path: Path, key: str) -> Preset | str:
    """A preset, or why there is none."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise RequestError("it is too large")
        return Preset.from_json(json.loads(path.read_text(encoding="utf-8")), key)
    except (OSError, ValueError, RecursionError) as error:
        reason = "it is no JSON" if isinstance(error, ValueError) else str(error)
    except GLMImageError as error:
        reason = str(error)
    return f"The preset {path} is left out: {reason}."


def _texts(name: str, value: object, longest: int) -> dict[str, str]:
    texts = {"en": value} if isinstance(value, str) else value
    if not isinstance(texts, Mapping) or not {"en"} <= set(texts) <= {"en", "zh"}:
        raise RequestError(f"its {name} is neither text nor an object with en and zh")
    for text in texts.values():
        if not isinstance(text, str) or not text.strip() or len(text) > longest:
            raise RequestError(f"its {name} is empty or longer than {longest} characters")
    return {language: " ".join(text.split()) for language, text in texts.items()}


def _side(data: Mapping[str, Any], name: str) -> int | None:
    side = data.get(name)
    if side is not None and (isinstance(side, bool) or not isinstance(side, int) or not 32 <= side <= 4096):
        raise RequestError(f"its {name} {side!r} is not a whole number between 32 and 4096")
    return side


def _regions(value: object) -> tuple[Region, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) > MOST_REGIONS:
        raise RequestError(f"its regions are not a list of at most {MOST_REGIONS}")
    return tuple(Region.from_json(one) for one in value)


def _settings(value: object) -> dict[str, float]:
    if not isinstance(value, Mapping):
        raise RequestError("its settings are not an object")
    for name, number in value.items():
        low, high = SETTINGS.get(name, (1, 0))
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not low <= number <= high:
            raise RequestError(f"its setting {name} = {number!r} is unknown or out of range")
    return {str(name): number for name, number in value.items()}


def _thumbnail(value: object) -> str:
    if not isinstance(value, str) or (value and not _THUMBNAIL.fullmatch(value)):
        raise RequestError("its thumbnail is no picture as a data URL")
    return value
