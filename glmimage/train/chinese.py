"""Captions in Chinese: the grammar of `captions` with Chinese names, measure words and sentence frames."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import ClassVar

from glmimage.train.captions import Grammar, size_of
from glmimage.train.grounds import ABOVE, LANDSCAPES, halves
from glmimage.train.layout import Scene, Thing, Word

NAMES: Mapping[str, tuple[str, ...]] = {
    "cat": ("只", "猫", "猫咪"),
    "dog": ("只", "狗", "狗狗"),
    "rabbit": ("只", "兔子"),
    "panda": ("只", "熊猫"),
    "fox": ("只", "狐狸"),
    "lion": ("头", "狮子"),
    "frog": ("只", "青蛙"),
    "penguin": ("只", "企鹅"),
    "owl": ("只", "猫头鹰"),
    "fish": ("条", "鱼"),
    "butterfly": ("只", "蝴蝶"),
    "snail": ("只", "蜗牛"),
    "turtle": ("只", "乌龟", "海龟"),
    "unicorn": ("只", "独角兽"),
    "apple": ("个", "苹果", "红苹果"),
    "banana": ("根", "香蕉"),
    "strawberry": ("颗", "草莓"),
    "pizza": ("块", "披萨", "比萨"),
    "cake": ("个", "蛋糕", "生日蛋糕"),
    "cup of coffee": ("杯", "咖啡", "热咖啡"),
    "car": ("辆", "汽车", "红色汽车"),
    "rocket": ("枚", "火箭"),
    "sailboat": ("艘", "帆船"),
    "house": ("座", "房子"),
    "castle": ("座", "城堡"),
    "pine tree": ("棵", "松树"),
    "cactus": ("棵", "仙人掌"),
    "sunflower": ("朵", "向日葵"),
    "sun": ("个", "太阳"),
    "star": ("颗", "星星"),
    "heart": ("颗", "爱心", "红心"),
    "crown": ("顶", "皇冠", "王冠"),
    "robot": ("个", "机器人"),
    "bear": ("只", "熊"),
    "octopus": ("只", "章鱼"),
    "watermelon": ("块", "西瓜"),
    "pineapple": ("个", "菠萝"),
    "cherries": ("串", "樱桃"),
    "mushroom": ("个", "蘑菇"),
    "doughnut": ("个", "甜甜圈"),
    "ice cream": ("个", "冰淇淋"),
    "bicycle": ("辆", "自行车", "单车"),
    "airplane": ("架", "飞机"),
    "palm tree": ("棵", "棕榈树", "椰子树"),
    "tulip": ("朵", "郁金香"),
    "rainbow": ("道", "彩虹"),
    "snowflake": ("片", "雪花"),
    "balloon": ("个", "气球"),
    "umbrella": ("把", "雨伞", "伞"),
}
"""Kind -> its measure word, then its names."""
STYLES: Mapping[str, tuple[str, ...]] = {
    "soft 3D": ("立体", "3D", "柔和3D"),
    "flat": ("扁平", "平面"),
    "cartoon": ("卡通",),
    "ink": ("墨线", "黑墨"),
}
SIZES = ("小小的", "", "大大的")
COLORS: Mapping[str, str] = {
    "white": "白色",
    "black": "黑色",
    "red": "红色",
    "orange": "橙色",
    "yellow": "黄色",
    "green": "绿色",
    "blue": "蓝色",
    "purple": "紫色",
    "pink": "粉色",
    "gray": "灰色",
}
VIEWS: Mapping[str, tuple[str, ...]] = {
    "meadow": ("草地", "绿草地"),
    "night sky": ("夜空", "星空"),
    "beach": ("海滩", "沙滩"),
    "snow": ("雪地", "雪景"),
}
PLACES: Mapping[str, tuple[str, ...]] = {
    "top left": ("左上角", "左上方"),
    "top centre": ("顶部", "正上方", "上方中间"),
    "top right": ("右上角", "右上方"),
    "left": ("左边", "左侧"),
    "centre": ("中间", "中央", "正中"),
    "right": ("右边", "右侧"),
    "bottom left": ("左下角", "左下方"),
    "bottom centre": ("底部", "正下方", "下方中间"),
    "bottom right": ("右下角", "右下方"),
}
LINES: Mapping[str, tuple[str, ...]] = {
    "top": ("上方", "顶部", "最上面"),
    "centre": ("中间", "中央", "正中"),
    "bottom": ("下方", "底部", "最下面"),
}
FRAMES: Sequence[str] = (
    "{things}，{word}，{ground}",
    "{ground}，{things}，{word}",
    "{ground}，{word}，{things}",
    "{word}，{things}，{ground}",
    "{ground}：{things}；{word}",
    "一张海报，{things}，{word}，{ground}",
    "一张贴纸海报：{things}，{ground}，{word}",
    "画面上{things}，{word}，{ground}",
)
HELD_OUT_FRAMES: Sequence[str] = (
    "请画：{things}，{word}，{ground}",
    "一幅画，{ground}，{word}，{things}",
    "{things}。{word}。{ground}。",
    "海报上，{ground}，{things}，{word}",
)
WORDLESS_FRAMES: Sequence[str] = (
    "{things}，{ground}",
    "{ground}，{things}",
    "{ground}：{things}",
    "一张海报，{things}，{ground}",
    "一张贴纸海报：{ground}，{things}",
    "画面上{things}，{ground}",
)
HELD_OUT_WORDLESS_FRAMES: Sequence[str] = (
    "请画：{things}，{ground}",
    "一幅画，{ground}，{things}",
    "{things}。{ground}。",
)
GROUND_FRAMES = ("{}背景", "以{}为背景", "背景是{}", "在{}的背景前")
ABOVE_FRAMES = ("上面{}、下面{}的双色背景", "背景上半部分是{}、下半部分是{}")
BESIDE_FRAMES = ("左面{}、右面{}的双色背景", "背景左半部分是{}、右半部分是{}")
WORD_FRAMES = (
    "{line}写着{color}{quote}",
    "{line}有{color}文字{quote}",
    "{color}文字{quote}在{line}",
    "{line}是{color}字样{quote}",
    "{color}的字{quote}写在{line}",
)
LINELESS_FRAMES = ("写着{color}{quote}", "{color}文字{quote}", "有{color}字样{quote}")
STACK_FRAMES = (
    "{line}分两行写着{color}{first}和{second}",
    "{line}有两行{color}文字，{first}和{second}",
    "{line}是{color}的{first}，下一行是{second}",
)
QUOTES = ("“”",) * 6 + ('""', "「」")

MEANINGS: Mapping[str, tuple[str, ...]] = {
    **{kind: names[1:] for kind, names in NAMES.items()},
    **STYLES,
    **{color: (name, name[0]) for color, name in COLORS.items()},
    **VIEWS,
    **PLACES,
    **LINES,
    ",": ("，", "、"),
    ";": ("；",),
    ":": ("：",),
    ".": ("。",),
}
"""English -> what says the same."""


class Chinese(Grammar):
    language: ClassVar[str] = "zh"
    frames: ClassVar[Sequence[str]] = FRAMES
    held_out_frames: ClassVar[Sequence[str]] = HELD_OUT_FRAMES
    wordless_frames: ClassVar[Sequence[str]] = WORDLESS_FRAMES
    held_out_wordless_frames: ClassVar[Sequence[str]] = HELD_OUT_WORDLESS_FRAMES

    def noun(self, thing: Thing, rng: random.Random, style: bool) -> str:
        size = SIZES[size_of(thing)] if rng.random() < 0.3 else ""
        look = ""
        if style:
            look = self.style(thing.style, rng) + rng.choice(("风格的", "风格的", "的"))
        count = f"一{NAMES[thing.kind][0]}" if rng.random() < 0.85 else ""
        return f"{count}{size}{look}{self.name(thing.kind, rng)}"

    def placed(self, noun: str, place: str, rng: random.Random) -> str:
        if not place:
            return noun
        where = self.at(place, rng)
        kind = rng.random()
        if kind < 0.5:
            return f"{where}有{noun}"
        return f"{noun}在{where}" if kind < 0.85 else f"{where}：{noun}"

    def word(self, word: Word, rng: random.Random, held_out: bool, where: str | None = None) -> tuple[str, set[str]]:
        quote, color, open_ = self.quote(word.text, rng), self.ink(word.color), set()
        if rng.random() < 0.35:
            color = ""
            open_.add("ink")
        line = where or rng.choice(LINES[word.line])
        if where is None and not held_out and rng.random() < 0.1:
            open_.add("line")
            return rng.choice(LINELESS_FRAMES).format(quote=quote, color=color), open_
        said = rng.choice(WORD_FRAMES).format(quote=quote, color=color, line=line)
        return said.removeprefix("的"), open_

    def stack(self, scene: Scene, rng: random.Random) -> tuple[str, set[str]]:
        marks = rng.choice(QUOTES)
        first, second = (f"{marks[0]}{word.text}{marks[1]}" for word in scene.words)
        color, open_ = self.ink(scene.words[0].color), set()
        if rng.random() < 0.35:
            color, open_ = "", {"ink"}
        line = rng.choice(LINES[scene.stack_line])
        said = rng.choice(STACK_FRAMES).format(first=first, second=second, color=color, line=line)
        return said.replace("是的", "是"), open_

    def ground(self, ground: str, rng: random.Random) -> str:
        pair = halves(ground)
        if pair:
            frame = rng.choice(ABOVE_FRAMES if ABOVE in ground else BESIDE_FRAMES)
            return frame.format(*(COLORS[name] for name in pair))
        return rng.choice(GROUND_FRAMES).format(self.color(ground, rng))

    def backdrop(self, ground: str, rng: random.Random) -> str:
        return f"{self.color(ground, rng)}{'的背景' if halves(ground) else '背景'}"

    def color(self, ground: str, rng: random.Random) -> str:
        if ground in LANDSCAPES:
            return rng.choice(VIEWS[ground])
        pair = halves(ground)
        if pair:
            first, second = (COLORS[name] for name in pair)
            return f"上{first}下{second}" if ABOVE in ground else f"左{first}右{second}"
        return COLORS[ground]

    def name(self, kind: str, rng: random.Random) -> str:
        return rng.choice(NAMES[kind][1:])

    def the(self, thing: Thing, rng: random.Random, place: bool) -> str:
        name = self.name(thing.kind, rng)
        return f"{self.at(thing.place, rng)}的{name}" if place else name

    def pictured(self, kind: str, number: int, rng: random.Random) -> str:
        name = self.name(kind, rng)
        if not number:
            return f"这{NAMES[kind][0]}{name}"
        figure = "一二三"[number - 1]
        return rng.choice((f"图{number}的{name}", f"第{figure}张图里的{name}", f"图{number}中的{name}"))

    def at(self, place: str, rng: random.Random) -> str:
        return rng.choice(PLACES[place])

    def style(self, style: str, rng: random.Random) -> str:
        return rng.choice(STYLES[style])

    def ink(self, color: str) -> str:
        return COLORS[color]

    def quote(self, text: str, rng: random.Random) -> str:
        marks = rng.choice(QUOTES)
        return f"{marks[0]}{text}{marks[1]}"

    def in_row(self, things: str) -> str:
        return f"{things}排成一行"

    def in_style(self, things: str, style: str, rng: random.Random) -> str:
        name = self.style(style, rng)
        return rng.choice((f"{things}，{name}风格", f"{name}风格，{things}", f"{name}风格：{things}"))

    def join(self, parts: list[str], rng: random.Random) -> str:
        return rng.choice(("，", "，", "；")).join(parts)

    def join_words(self, parts: list[str]) -> str:
        return "，".join(parts)

    def tidy(self, text: str) -> str:
        return text
