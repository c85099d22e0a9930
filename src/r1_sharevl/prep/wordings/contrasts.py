"""Words whose exchange turns a question into another: area and perimeter, left and right, red and blue."""

import re
from collections.abc import Mapping

# One line per group; within it `|` separates meanings, a space two ways to say the same.
_GROUPS = """
area areas | perimeter perimeters circumference | volume volumes | length lengths long distance | angle angles
radius radii | diameter diameters
left leftmost | right rightmost
above top upper higher highest | below bottom lower beneath lowest underneath
most largest greatest maximum highest tallest longest biggest max | least smallest lowest minimum shortest fewest min
more greater larger taller longer bigger exceed exceeds exceeded above higher | fewer less smaller shorter lower below
increase increases increased increasing rise rises rose grew grows | decrease decreases decreased decreasing fall fell
odd | even
positive | negative
parallel | perpendicular
acute | obtuse
inside inscribed within | outside circumscribed
before earlier prior | after later
first earliest | last latest final
north | south | east | west
red | green | blue | yellow | purple violet | orange | black | white | brown | pink | gray grey | cyan
circle circles circular circumference round | square squares | triangle triangles triangular | rectangle rectangular
clockwise | counterclockwise anticlockwise counter-clockwise anti-clockwise
difference subtract subtracting minus | sum total altogether combined add | product multiply | ratio quotient
mean average | median | mode | range
sin | cos | tan
面积 | 周长 | 体积 | 长度
半径 | 直径
左侧 左边 左面 | 右侧 右边 右面
上方 上面 | 下方 下面
最大 最多 最高 最长 | 最小 最少 最低 最短
大于 多于 高于 超过 | 小于 少于 低于 不足
增加 上升 增长 增大 | 减少 下降 降低 减小
奇数 | 偶数
正数 | 负数
平行 | 垂直
锐角 | 钝角
顺时针 | 逆时针
红色 | 绿色 | 蓝色 | 黄色 | 黑色 | 白色
平均数 平均值 | 中位数 | 众数
之和 总和 一共 共有 | 之差 相差 | 之积 乘积
"""
_MEANINGS: dict[str, list[tuple[int, int]]] = {}
for _group, _line in enumerate(_GROUPS.strip().splitlines()):
    for _meaning, _words in enumerate(_line.split("|")):
        for _word in _words.split():
            _MEANINGS.setdefault(_word, []).append((_group, _meaning))
_ENGLISH_WORD = re.compile(r"[a-z]{3,}(?:-[a-z]+)?")
_CHINESE_WORD = re.compile("|".join(word for word in _MEANINGS if not word.isascii()))

# "Which is not …?" asks for the opposite of "Which is …?".
_ASKS_FOR_EXCEPTION = re.compile(
    r"\b(?:which|what|who)\b[^.?!\n]{0,60}(?:\b(?:not|cannot|never)\b|n['’]t\b)|\bexcept\b"
    r"|不(?:正确|是|能|属于|符合|一定|成立|相等|可能|对)的?[^。\n]{0,12}(?:是|有|为)|错误的(?:是|有)",
    re.IGNORECASE,
)
_EXCEPTION = re.compile(
    r"\b(?:not|cannot|never|neither|nor|no|none|non|except|excluding|excluded?|exception|other than|without|false"
    r"|incorrect|wrong|untrue|invalid|impossible|inconsistent|unrelated|unlike|different|differs?|odd|only|but|fails?|lacks?|lacking"
    r"|absent|missing|rest|remaining|outsider?|contradicts?|rules? out|ruled out|violates?)\b"
    r"|\bnon-|n['’]t\b|[不没非无错除]",
    re.IGNORECASE,
)


def meanings(text: str) -> Mapping[int, frozenset[int]]:
    """Give, for each group that a text has words of, the meanings of those words."""
    text = text.casefold()
    found: dict[int, set[int]] = {}
    words = set(_ENGLISH_WORD.findall(text))
    if not text.isascii():
        words.update(_CHINESE_WORD.findall(text))
    for word in words:
        for group, meaning in _MEANINGS.get(word, ()):
            found.setdefault(group, set()).add(meaning)
    return {group: frozenset(values) for group, values in found.items()}


def same_meanings(first: Mapping[int, frozenset[int]], second: Mapping[int, frozenset[int]]) -> bool:
    """Tell whether two texts use the same side of each contrast, wherever each of them takes sides."""
    return all(
        not (first[group] - second[group] and second[group] - first[group]) for group in first.keys() & second.keys()
    )


def loses_exception(first: str, second: str) -> bool:
    """Tell whether one of two texts asks which is *not* so, and the other has no word at all for that."""
    return any(
        _ASKS_FOR_EXCEPTION.search(one) is not None and _EXCEPTION.search(other) is None
        for one, other in ((first, second), (second, first))
    )
