"""Wordings of the tasks with references: many for each, in English and Chinese, some for the evaluation alone.

Slots: {old} and {new} things or quoted words, {place}, {scene} ("a blue background"), {color} ("blue",
"a meadow"), {style}.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Frames = Mapping[str, Mapping[str, Sequence[str]]]
"""Task -> language -> sentence frames."""

INSTRUCTIONS: Frames = {
    "replace": {
        "en": (
            "replace {old} with {new}",
            "replace {old} by {new}",
            "turn {old} into {new}",
            "swap {old} for {new}",
            "change {old} to {new}",
            "put {new} in place of {old}",
            "instead of {old}, show {new}",
            "{new} instead of {old}",
        ),
        "zh": (
            "把{old}换成{new}",
            "将{old}替换为{new}",
            "把{old}变成{new}",
            "用{new}代替{old}",
            "{old}改成{new}",
            "不要{old}，换上{new}",
        ),
    },
    "remove": {
        "en": (
            "remove {old}",
            "delete {old}",
            "take away {old}",
            "take {old} out of the picture",
            "erase {old}",
            "get rid of {old}",
            "without {old}",
        ),
        "zh": ("去掉{old}", "删除{old}", "把{old}去掉", "移除{old}", "不要{old}", "擦掉{old}"),
    },
    "add": {
        "en": (
            "add {new} {place}",
            "put {new} {place}",
            "place {new} {place}",
            "draw {new} {place}",
            "{place}, add {new}",
            "also show {new} {place}",
            "add to the picture {new} {place}",
        ),
        "zh": (
            "在{place}加上{new}",
            "在{place}添加{new}",
            "{place}画{new}",
            "在{place}放{new}",
            "把{new}放在{place}",
            "{place}再加{new}",
        ),
    },
    "background": {
        "en": (
            "change the background to {color}",
            "make the background {color}",
            "set the background to {color}",
            "replace the background with {color}",
            "put everything in front of {scene}",
            "background: {color}",
            "use {scene}",
            "the background becomes {color}",
        ),
        "zh": (
            "把背景换成{color}",
            "背景改成{color}",
            "将背景替换为{color}",
            "换成{scene}",
            "把背景变成{color}",
            "背景：{color}",
        ),
    },
    "word": {
        "en": (
            "change {old} to {new}",
            "replace the word {old} with {new}",
            "write {new} instead of {old}",
            "turn {old} into {new}",
            "let it say {new}, not {old}",
            "the word {old} should be {new}",
            "change the text {old} to {new}",
        ),
        "zh": (
            "把{old}改成{new}",
            "将文字{old}换成{new}",
            "把{old}换成{new}",
            "写{new}，不要写{old}",
            "文字{old}改为{new}",
        ),
    },
    "only_word": {
        "en": (
            "change the word to {new}",
            "change the text to {new}",
            "write {new} instead",
            "let it say {new}",
            "replace the word with {new}",
            "the word should be {new}",
        ),
        "zh": ("把文字改成{new}", "文字换成{new}", "改写成{new}", "文字改为{new}"),
    },
    "style": {
        "en": (
            "in {style} style",
            "make it {style}",
            "turn the picture into {style} style",
            "redraw it in {style} style",
            "everything in {style} style",
            "change the style to {style}",
            "convert it to {style} style",
            "restyle it as {style}",
        ),
        "zh": (
            "改成{style}风格",
            "变成{style}风格",
            "用{style}风格重画",
            "全部换成{style}风格",
            "{style}风格",
            "把画风改成{style}",
        ),
    },
    "style_reference": {
        "en": (
            "paint the first picture in the style of the second",
            "use the style of the second picture",
            "restyle picture 1 like picture 2",
            "make the first picture look like the second",
            "apply the style of picture 2 to picture 1",
            "picture 1 in the style of picture 2",
            "the content of picture 1, the style of picture 2",
        ),
        "zh": (
            "把图1画成图2的风格",
            "用第二张图的风格画第一张图",
            "将图2的风格用到图1上",
            "图1，图2的风格",
            "第一张图换成第二张图的风格",
        ),
    },
}

HELD_OUT_INSTRUCTIONS: Frames = {
    "replace": {
        "en": ("exchange {old} for {new}", "where {old} is, I want {new}", "{old} should become {new}"),
        "zh": ("请把{old}换为{new}", "我想用{new}取代{old}"),
    },
    "remove": {
        "en": ("make {old} disappear", "the same picture, but no more {old}", "leave out {old}"),
        "zh": ("让{old}消失", "请将{old}移走"),
    },
    "add": {
        "en": ("I also want {new} {place}", "insert {new} {place}", "{place} there should be {new}, too"),
        "zh": ("请在{place}增加{new}", "{place}还要有{new}"),
    },
    "background": {
        "en": ("I want {scene}", "give it {scene}", "let the background be {color}"),
        "zh": ("我想要{scene}", "请把背景设为{color}"),
    },
    "word": {
        "en": ("make it say {new} in place of {old}", "rewrite {old} as {new}", "{new} should stand where {old} is"),
        "zh": ("请把{old}改写为{new}", "用{new}代替{old}这几个字"),
    },
    "only_word": {
        "en": ("make it say {new}", "I want the word {new} there", "rewrite it as {new}"),
        "zh": ("请写成{new}", "我想让文字变成{new}"),
    },
    "style": {
        "en": ("I want this in {style} style", "repaint all of it in {style} style", "show the same in {style} style"),
        "zh": ("请用{style}风格画出来", "我想要{style}风格的"),
    },
    "style_reference": {
        "en": (
            "give the first picture the look of the second",
            "take the style from image 2 for image 1",
            "redraw picture 1 with the style that picture 2 has",
        ),
        "zh": ("请让图1的风格和图2一样", "参照第二张图的画风，重画第一张图"),
    },
}
"""Only the evaluation says these."""
