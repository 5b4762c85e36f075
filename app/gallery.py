"""The gallery as HTML: its frame, the thumbnails of one page, one picture with its settings.

Pure functions of entries and words; assets/gallery.js puts them in their places. A click says what it wants in
`data-act` and about what in `data-key`. Everything that a person or a file said is escaped. Knows no widgets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from app.easel import facts, file_url, proof
from app.history import Counts, Entry, Found, History, Lineage, Picture, Query, Relative
from app.library import Kind, Preset
from app.words import Words
from glmimage.metadata import Settings

MOST_TAGS = 24
"""Offered as filters; more are found by searching."""
KINDS = ("text", "regions", "edit", "style", "subjects")


@dataclass(frozen=True, kw_only=True, slots=True)
class Roads:
    """Where a picture and its settings can go: tabs by what they take."""

    pictures: Sequence[str] = ()
    parts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """"settings", "prompt", "seed", "layout" -> the tabs that take it, the one where it belongs first."""


def frame(words: Words) -> str:
    """All that stands still: the search line, places for filters, wall, selection and the large picture."""
    clear = _button("clear", "", words("gallery.clear"))
    return f"""
<div class="gallery" data-words="{escape(words.language)}">
  <div class="ask">
    <input type="search" class="query" maxlength="500" placeholder="{escape(words("gallery.search"))}"
      aria-label="{escape(words("gallery.search"))}" autocomplete="off" spellcheck="false">
    <label class="bring">{escape(words("gallery.bring"))}<input type="file" accept="image/*" multiple></label>
    <div class="tools"></div>
  </div>
  <div class="sieve" role="group" aria-label="{escape(words("gallery.filters"))}"></div>
  <div class="told" role="status" aria-live="polite"></div>
  <div class="shots" role="group" aria-label="{escape(words("gallery.wall"))}"></div>
  <div class="end" aria-hidden="true">{escape(words("gallery.more"))}</div>
  <p class="hint keys">{escape(words("gallery.keys"))}</p>
  <div class="hands" hidden>{_hands(words)}</div>
  <div class="viewer" role="dialog" aria-modal="true" aria-label="{escape(words("gallery.dialog"))}" hidden></div>
  <div class="drop" hidden>{escape(words("gallery.drop"))}</div>
  <template class="no-match"><div class="nothing"><h2>{escape(words("gallery.nothing"))}</h2>
    <p>{escape(words("gallery.nothing.how"))}</p>{clear}</div></template>
  <template class="no-pictures">{_nothing(words("gallery.empty"), words("gallery.empty.how"))}</template>
  <template class="no-trash">{_nothing(words("gallery.trash.empty"), words("gallery.trash.how"))}</template>
</div>"""


def sieve(query: Query, counts: Counts, words: Words) -> str:
    """The filters that are one click: stars, tasks, tags."""
    chips = [_chip("starred", "", words("gallery.starred"), counts.starred, query.star)]
    chips += [
        _chip("task", kind, words(f"gallery.task.{kind}"), counts.tasks[kind], query.task == kind)
        for kind in KINDS
        if kind in counts.tasks and (len(counts.tasks) > 1 or query.task == kind)
    ]
    tags = list(counts.tags.items())[:MOST_TAGS]
    chips += [_chip("tag", tag, f"#{tag}", number, query.tag.casefold() == tag.casefold()) for tag, number in tags]
    return "".join(chips)


def tools(query: Query, counts: Counts, presets: Mapping[Kind, Sequence[Preset]], chosen: str, words: Words) -> str:
    """The other filters and the trash; `chosen` is the key of the preset whose pictures are shown."""
    options = f'<option value="">{escape(words("gallery.preset.any"))}</option>'
    for kind, there in presets.items():
        rows = "".join(
            f'<option value="{escape(one.key)}"{" selected" if one.key == chosen else ""}>'
            f"{escape(one.title(words.language))}</option>"
            for one in there
        )
        options += f'<optgroup label="{escape(words(f"gallery.preset.{kind}"))}">{rows}</optgroup>' if rows else ""
    days = "".join(
        f'<label class="day"><span>{escape(words(f"gallery.{end}"))}</span>'
        f'<input type="date" class="{end}" value="{day.isoformat() if day else ""}"></label>'
        for end, day in (("since", query.since), ("until", query.until))
    )
    trash = _chip("trash", "", words("gallery.trash"), counts.trashed, query.trashed)
    empty = ""
    if query.trashed and counts.trashed:
        sure = escape(words("gallery.sure", count=counts.trashed))
        empty = _button("empty", "", words("gallery.empty_trash"), f'data-sure="{sure}"')
    select = f'<select class="preset" aria-label="{escape(words("gallery.preset"))}">{options}</select>'
    return f'{select}<span class="days">{days}</span>{empty}{trash}'


def summary(found: Found, words: Words) -> str:
    """How many there are, and whether more are being read."""
    one = words("gallery.count.one") if found.total == 1 else words("gallery.count", total=found.total)
    return f"{one} · {words('gallery.unread', count=found.unread)}" if found.unread else one


def shots(entries: Sequence[Entry], history: History, words: Words) -> str:
    """The thumbnails of one page."""
    return "".join(_shot(entry, history, words) for entry in entries)


def viewer(entry: Entry, settings: Settings | None, family: str, roads: Roads, words: Words) -> str:
    """One picture large, with everything that is known of it and can be done with it."""
    prompt = entry.prompt or words("easel.no_settings")
    items = "".join(f"<li>{escape(fact)}</li>" for fact in (facts(settings, words) if settings else ()))
    steps = "".join(
        f'<button type="button" class="step is-{act}" data-act="{act}" aria-label="{escape(words(f"gallery.{act}"))}">'
        "</button>"
        for act in ("previous", "next")
    )
    side = "".join(
        (
            f'<div class="bar">{_star(entry, words)}<button type="button" class="close" data-act="close" data-close'
            f' aria-label="{escape(words("gallery.close"))}"></button></div>',
            f'<p class="said">{escape(prompt)}</p><ul class="facts">{items}</ul>',
            _report(settings, words),
            _labels(entry, words),
            _trashed(entry, words) if entry.trashed else _acts(entry, settings, roads, words),
            family,
        )
    )
    ratio = entry.width / entry.height if entry.width and entry.height else 1
    return (
        f'<div class="large" style="--ratio:{ratio:.4f}">{steps}'
        f'<img src="{file_url(entry.picture.path)}" alt="{escape(prompt)}"></div>'
        f'<aside data-key="{escape(entry.key)}">{side}</aside>'
    )


def lineage(entry: Entry, family: Lineage, history: History, words: Words) -> str:
    """What the picture came from and what came from it, oldest first; "" for one that stands alone."""
    if not family.ancestors and not family.descendants:
        return ""
    own = _small(file_url(history.thumbnail(entry.picture)), words("gallery.family.this"), "", "")
    parts = (
        _generation(words("gallery.family.before"), family.ancestors[::-1], history, words),
        f'<div class="is-this">{own}</div>',
        _generation(words("gallery.family.after"), family.descendants, history, words),
    )
    title = escape(words("gallery.family"))
    return f'<section class="family"><h2>{title}</h2><div class="kin">{"".join(parts)}</div></section>'


def _hands(words: Words) -> str:
    """What can be done with a selection; the script shows what fits."""
    left = "".join(
        _button(act, "", words(key), f'class="{where}"')
        for act, key, where in (
            ("star", "gallery.star", "kept"),
            ("unstar", "gallery.unstar", "kept"),
            ("compare", "gallery.compare", "kept pair"),
            ("zip", "gallery.zip", "kept"),
            ("discard", "gallery.discard", "kept"),
            ("restore", "gallery.restore", "gone"),
            ("delete", "gallery.delete", "gone"),
            ("all", "gallery.all", ""),
        )
    )
    add = escape(words("gallery.tag.add"))
    return (
        f'<span class="number"><b></b> {escape(words("gallery.chosen"))}</span>{left}'
        f'<input type="text" class="tag-many kept" maxlength="40" placeholder="{escape(words("gallery.tag"))}"'
        f' aria-label="{add}">{_strip("kept", words)}'
        + _button("unselect", "", words("gallery.unselect"), 'class="quiet" data-close')
    )


def _strip(where: str, words: Words) -> str:
    """Whether what is downloaded is pixels alone; the browser remembers it."""
    return (
        f'<label class="bare {where}" title="{escape(words("gallery.strip.how"))}">'
        f'<input type="checkbox" class="strip"> {escape(words("gallery.strip"))}</label>'
    )


def _nothing(title: str, how: str) -> str:
    return f'<div class="nothing"><h2>{escape(title)}</h2><p>{escape(how)}</p></div>'


def _chip(act: str, key: str, text: str, number: int, on: bool) -> str:
    return (
        f'<button type="button" class="chip" data-act="{act}" data-key="{escape(key)}"'
        f' aria-pressed="{"true" if on else "false"}">{escape(text)} <span>{number}</span></button>'
    )


def _button(act: str, key: str, text: str, more: str = "") -> str:
    return f'<button type="button" data-act="{act}" data-key="{escape(key)}" {more}>{escape(text)}</button>'


def _shot(entry: Entry, history: History, words: Words) -> str:
    ratio = entry.width / entry.height if entry.width and entry.height else 1
    said = entry.prompt or words("easel.unnamed")
    return (
        f'<div class="shot{" is-starred" if entry.star else ""}" data-key="{escape(entry.key)}"'
        f' style="--ratio:{ratio:.4f}">'
        f'<button type="button" class="open" aria-label="{escape(words("gallery.open", title=said))}"'
        f' title="{escape(said[:300])}"><img src="{file_url(history.thumbnail(entry.picture))}" alt="" loading="lazy">'
        '</button><i class="mark" aria-hidden="true"></i>'
        f'<button type="button" class="pick" role="checkbox" aria-checked="false" tabindex="-1"'
        f' aria-label="{escape(words("gallery.pick"))}"></button></div>'
    )


def _star(entry: Entry, words: Words) -> str:
    text = words("gallery.unstar" if entry.star else "gallery.star")
    pressed = "true" if entry.star else "false"
    return (
        f'<button type="button" class="star" data-act="toggle-star" aria-pressed="{pressed}"'
        f' aria-label="{escape(words("gallery.star"))}" title="{escape(text)}"></button>'
    )


def _labels(entry: Entry, words: Words) -> str:
    tags = "".join(
        f'<li>{escape(tag)}<button type="button" data-act="untag" data-key="{escape(tag)}"'
        f' aria-label="{escape(words("gallery.tag.remove", tag=tag))}"></button></li>'
        for tag in entry.tags
    )
    add = escape(words("gallery.tag.add"))
    return (
        f'<section class="tags"><h2>{escape(words("gallery.tags"))}</h2><ul>{tags}</ul>'
        f'<input type="text" class="tag-one" maxlength="40" placeholder="{add}" aria-label="{add}"></section>'
    )


def _acts(entry: Entry, settings: Settings | None, roads: Roads, words: Words) -> str:
    rows = []
    if settings is not None:
        parts = [
            _part(part, tabs, words)
            for part, tabs in roads.parts.items()
            if tabs and (part != "layout" or settings.prior is not None)
        ]
        rows.append((words("gallery.use"), "".join(parts)))
    sends = "".join(_button("send", "picture", words(f"tab.{to}"), f'data-to="{to}"') for to in roads.pictures)
    rows.append((words("gallery.send"), sends))
    name = escape(entry.picture.path.name)
    file = words("gallery.export.file")
    # The script shows one of the two, so that no link with settings is there where none are to leave.
    whole = f'<a class="whole" href="{file_url(entry.picture.path)}" download="{name}">{escape(file)}</a>'
    rows.append((words("gallery.export"), f"{whole}{_button('bare', '', file)}{_strip('', words)}"))
    made = "".join(f"<section><h2>{escape(title)}</h2><div>{row}</div></section>" for title, row in rows if row)
    discard = _button("discard-one", "", words("gallery.discard"), 'class="discard"')
    return f'<div class="acts">{made}{discard}</div>'


def _part(part: str, tabs: Sequence[str], words: Words) -> str:
    """A part of the settings, for the first of the tabs with one click; the others are in a menu."""
    home, *others = tabs
    text = words(f"gallery.use.{part}")
    whole = _button("reuse", part, text, f'data-to="{home}" title="{escape(words(f"tab.{home}"))}"')
    if not others:
        return whole
    title = escape(words("gallery.use.elsewhere", part=text))
    rows = "".join(_button("reuse", part, words(f"tab.{to}"), f'data-to="{to}"') for to in others)
    return (
        f'<div class="part">{whole}<details name="elsewhere"><summary aria-label="{title}" title="{title}"></summary>'
        f'<div class="menu" role="group" aria-label="{title}"><p>{title}</p>{rows}</div></details></div>'
    )


def _trashed(entry: Entry, words: Words) -> str:
    restore = _button("restore-one", "", words("gallery.restore"))
    sure = f'data-sure="{escape(words("gallery.sure", count=1))}"'
    return f'<div class="acts">{restore}{_button("delete-one", "", words("gallery.delete"), sure)}</div>'


def _report(settings: Settings | None, words: Words) -> str:
    if settings is None or settings.report is None:
        return ""
    return f'<section class="read"><h2>{escape(words("gallery.read"))}</h2>{proof(settings.report, words)}</section>'


def _generation(title: str, relatives: Sequence[Relative], history: History, words: Words) -> str:
    if not relatives:
        return ""
    made = "".join(_kin(relative, history, words) for relative in relatives)
    return f'<div role="group" aria-label="{escape(title)}">{made}</div>'


def _kin(relative: Relative, history: History, words: Words) -> str:
    said = "" if relative.state == "kept" else words(f"gallery.family.{relative.state}")
    url = ""
    if relative.path is not None:
        url = file_url(history.thumbnail(Picture(relative.key or relative.name, relative.path)))
    return _small(url, said or relative.key, relative.key if relative.state in ("kept", "trashed") else "", said)


def _small(url: str, title: str, key: str, said: str) -> str:
    image = f'<img src="{url}" alt="">' if url else '<span class="blank"></span>'
    note = f"<small>{escape(said)}</small>" if said else ""
    acts = f'data-act="relative" data-key="{escape(key)}"' if key else "disabled"
    return f'<button type="button" title="{escape(title)}" aria-label="{escape(title)}" {acts}>{image}{note}</button>'
