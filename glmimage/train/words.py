"""What is written in the sticker world: letters, Chinese characters, words, and random strings of them.

Half of what is drawn are words and half random strings: with words alone a model memorises words. The evaluation's
words are its own; its Chinese ones are made of the characters of the training's, since a character that was never
seen cannot be written.
"""

from __future__ import annotations

import random

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
LONGEST = 8
"""Letters of the longest word."""
_LENGTHS = (1, 2, 3, 3, 4, 4, 5, 5, 5, 6, 6, 6, 7, 7, 7, 8, 8, 8)
"""Of training's random strings. The evaluation's are longer than evenly drawn ones, and so are the words that people
write: with equal shares and short words the prior had a letter wrong in 0.1 of words of three to five, in 0.3 of eight.
"""

_WORDS = (
    "love hello happy party pizza fresh smile dream sunny magic super cool wow yes sale open peace music dance "
    "jump play game star moon sun sky sea tree leaf rose bloom seed farm wild zoo cat dog fox owl bear lion frog fish "
    "bird bunny panda honey sweet candy cake cookie milk bread juice lemon apple berry melon mango peach coffee tea "
    "lunch bake cook yummy tasty hot ice snow cold winter summer spring autumn rain cloud storm light fire water earth "
    "wind space rocket robot pixel code data web chat mail news book read write draw paint color art photo film video "
    "studio show live tour rock jazz soul funk disco beat drum piano band club team goal win best top star1 run walk "
    "swim bike ride drive car road trip travel map city town park home house room door bed sleep night day week year "
    "time now soon today new free big small fast slow easy good great nice kind cute joy fun luck hope faith brave "
    "bold "
    "king queen crown gold silver ruby gem jewel gift card ring baby mom dad kids girl boy friend hug kiss heart wish "
    "thanks please bye hi hey okay yeah ahoy boom bang pop zap buzz beep vroom meow woof quack roar oink tweet "
    "alpha beta delta omega zen yoga spa gym fit bio eco green blue red pink black white retro vintage classic modern "
    "2024 2025 2026 100 24 365 007 1984 10 50 99 "
    "balloon blanket blossom bottle branch bright butter candle captain caravan carrot central chapter chicken "
    "citizen climber cottage country crystal curious customer daughter daylight delight diamond discover dolphin "
    "elephant engineer evening explore factory fantasy feather festival firefly flower fortune freedom friendly "
    "gallery gentle glacier goodbye grateful hedgehog highway holiday horizon hundred imagine journey justice kingdom "
    "lantern laughter leather library lobster machine marble meadow melody message midnight million moment morning "
    "mountain mystery natural notebook october organic outdoor package parade passport pattern penguin perfect "
    "pioneer popcorn portrait present promise quality question rainfall random recipe remember resort romance sailor "
    "sandwich scooter seaside shadow shelter silence snowman special sparkle station stranger strong "
    "surprise teacher theatre thunder tomato tonight tractor treasure triangle twelve universe vacation vanilla "
    "victory walnut weekend whisper wildlife wonder workshop"
)
WORDS = tuple(_WORDS.split())
_HELD_OUT_WORDS = (
    "welcome orange monkey planet garden guitar market school doctor island bridge castle mirror camera button "
    "dragon forest sunset coffee4 picnic pirate rabbit ticket tunnel velvet window yellow zebra violet rainbow "
    "harbor hotel jungle kitchen ladder magnet needle ocean pocket puzzle ribbon saddle temple turtle unicorn "
    "village whale wizard anchor basket circus dinner eagle falcon giraffe hammer"
)
HELD_OUT_WORDS = tuple(_HELD_OUT_WORDS.split())
"""Only the evaluation writes these."""

_GREETINGS = (
    "新年快乐 生日快乐 你好 福 春 喜 春节 中秋 元旦 国庆 恭喜发财 万事如意 心想事成 年年有余 大吉大利 平安 幸福 健康 "
    "快乐 吉祥 如意 谢谢 欢迎 早安 晚安 再见 加油 我爱你 开心 好运 圣诞快乐 节日快乐 周末愉快 一路平安 天天开心 "
    "身体健康 财 寿 爱 团圆"
)
GREETINGS = tuple(_GREETINGS.split())
_HELD_OUT_GREETINGS = (
    "新春快乐 中秋快乐 国庆快乐 春节快乐 元旦快乐 周末快乐 天天快乐 生日愉快 吉祥如意 万事大吉 年年平安 一生平安 "
    "幸福安康 欢迎你 安康 好事 发大财"
)
HELD_OUT_GREETINGS = tuple(_HELD_OUT_GREETINGS.split())
"""Only the evaluation writes these."""
CHARACTERS = "".join(dict.fromkeys("".join(GREETINGS)))
LONGEST_GREETING = 4


def columns(text: str) -> int:
    """Columns of the code grid that a text takes: one for a letter, two for a Chinese character."""
    return sum(1 if letter in LETTERS else 2 for letter in text)


def sample_text(rng: random.Random, held_out: bool = False, longest: int = LONGEST) -> str:
    """A word or a random string of 1 to 8 letters and digits (3 to 8 for the evaluation), at most `longest`."""
    while True:
        if rng.random() < 0.5:
            text = rng.choice(HELD_OUT_WORDS if held_out else WORDS)
            text = rng.choice((text.upper(), text.upper(), text, text.capitalize()))
        else:
            length = rng.choice((3, 4, 5, 6, 7, 8) if held_out else _LENGTHS)
            alphabet = rng.choice((LETTERS[:26], LETTERS[:26], LETTERS[26:52], LETTERS, LETTERS[52:] + LETTERS[:26]))
            text = "".join(rng.choice(alphabet) for _ in range(length))
        if len(text) <= longest:
            return text


def sample_greeting(rng: random.Random, held_out: bool = False, longest: int = LONGEST_GREETING) -> str:
    """A Chinese greeting or a random string of 1 to 4 characters (2 to 4 for the evaluation), at most `longest`."""
    others = GREETINGS if held_out else HELD_OUT_GREETINGS
    while True:
        if rng.random() < 0.5:
            text = rng.choice(HELD_OUT_GREETINGS if held_out else GREETINGS)
        else:
            text = "".join(rng.choice(CHARACTERS) for _ in range(rng.choice((2, 3, 4) if held_out else (1, 2, 3, 4))))
        # Random strings are short enough to hit a word of the other split by chance.
        if len(text) <= longest and text not in others:
            return text
