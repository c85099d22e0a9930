"""The units of measurement that a question names, each in one spelling."""

import re
from collections.abc import Set
from dataclasses import dataclass

from ...rewards.units import canonical_unit

_PREFIX = r"(?:(?:square|sq\.?|cubic|cu\.?)[ -])?"
_POWER = r"(?:\^-?\d)?"
_WORD = r"[A-Za-zμΩ]+"
_TAIL = rf"(?:\s?/\s?{_WORD}{_POWER}|\s?[* ]\s?{_WORD}\^-\d|\sper\s(?:square\s|cubic\s)?{_WORD}{_POWER})?"
_SPELLED_NUMBERS = "one|two|three|four|five|six|seven|eight|nine|ten|twelve|twenty|thirty|hundred"
# Words that are units wherever they stand. Others (m, s, foot, pound, day …) are units right behind a number only.
_SURE = (
    "mm cm dm km mg kg ml mL kJ kW Hz kPa kmh mph "
    "millimet(?:er|re)s? centimet(?:er|re)s? decimet(?:er|re)s? kilomet(?:er|re)s? met(?:er|re)s? inch(?:es)? "
    "grams? kilograms? milligrams? millilit(?:er|re)s? lit(?:er|re)s? newtons? joules? watts? volts? amperes? ohms? "
    "celsius fahrenheit radians?"
).replace(" ", "|")
_UNIT = re.compile(
    rf"(?:(?P<value>[\d)π])|(?<![A-Za-z])(?P<spelled>(?i:{_SPELLED_NUMBERS})))[ -]?"
    rf"(?:(?P<sign>[%°€£¥¢])|(?P<near>{_PREFIX}{_WORD}{_POWER})(?P<tail>{_TAIL}))"
    rf"|(?P<currency>[€£¥])(?=\s?\d)|(?<![A-Za-z])(?P<far>{_PREFIX}(?:{_SURE})(?![A-Za-z]){_POWER})(?P<far_tail>{_TAIL})"
)
_NUMBER_BEFORE = re.compile(r"(?<![A-Za-z\d])\d[\d.,]*$")

# "3 in the figure" is no length, and "4A" hardly ever a current.
_END_OF_INCHES = re.compile(r"\s*(?:$|[.,;:)?!^*]|(?:and|by|long|wide|tall|high|deep|thick)\b)")
_LETTER_UNITS = frozenset("mgshLNJVWKA")
_LETTER_ALONE = re.compile(r"(?<![A-Za-z'/\d])(?<!\d[ -])[A-Za-z](?![A-Za-z'])")
_PART_OF_FORMULA = re.compile(r"\s?(?:[+^=(_'/-]|\*(?!\s?\d))")

_CHINESE = {
    "平方": "square",
    "立方": "cubic",
    "毫米": "mm",
    "厘米": "cm",
    "分米": "dm",
    "千米": "km",
    "公里": "km",
    "千克": "kg",
    "公斤": "kg",
    "毫克": "mg",
    "毫升": "mL",
    "摄氏度": "celsius",
    "分钟": "min",
    "小时": "h",
    "米": "m",
    "克": "g",
    "升": "L",
    "秒": "s",
    "时": "h",
    "天": "day",
    "牛": "N",
    "焦": "J",
    "伏": "V",
    "瓦": "W",
    "安": "A",
}
_CHINESE_WORD = "|".join(word for word in _CHINESE if word not in ("平方", "立方"))
_CHINESE_UNIT = re.compile(
    rf"(?<=[\dπ)A-Za-z])\s?(平方|立方)?({_CHINESE_WORD})(?:(?:/|每)(小时|时|分钟|秒))?(?!角形)"
    rf"|(平方|立方)?(毫米|厘米|分米|千米|公里|千克|毫升|摄氏度)"
)


@dataclass(frozen=True, slots=True)
class Units:
    """The units of a text.

    Attributes:
        rest: The text without them.
        names: Their canonical spellings.
        loose: Those behind a number in words, which may be missing elsewhere ("one day", "both hours").
        of_number: (number, unit) for each unit right behind a number written in digits.
    """

    rest: str
    names: frozenset[str]
    loose: frozenset[str]
    of_number: frozenset[tuple[str, str]]


def find_units(text: str) -> Units:
    """Find the units in a text in plain notation.

    A unit is a known one (`rewards.units`) behind a number, or one of the words that mean nothing else. Dollars are
    left out, since `$` is as often the sign of a formula, and so is the bare word "units".
    """
    if not text.isascii():
        text = _CHINESE_UNIT.sub(_from_chinese, text)
    letters = set(_LETTER_ALONE.findall(text))
    names: set[str] = set()
    loose: set[str] = set()
    of_number: set[tuple[str, str]] = set()

    def blank(match: re.Match[str]) -> str:
        unit, length = _unit_of(match, text, letters)
        if unit is None:
            return match[0]
        if unit not in ("", "dollar"):
            (loose if match["spelled"] else names).add(unit)
            number = _NUMBER_BEFORE.search(text, max(0, match.start() - 20), match.start() + 1)
            if match["value"] and number:
                of_number.add((number[0], unit))
        return f"{match['value'] or match['spelled'] or ''} {match[0][length:]}"

    rest = _UNIT.sub(blank, text)
    return Units(rest, frozenset(names), frozenset(loose), frozenset(of_number))


def same_units(first: Units, second: Units) -> bool:
    """Tell whether two texts name the same units, and no number has other ones here than there."""
    if first.names - second.names - second.loose or second.names - first.names - first.loose:
        return False
    units_first, units_second = _by_number(first), _by_number(second)
    return all(units_first[number] & units_second[number] for number in units_first.keys() & units_second.keys())


def _by_number(units: Units) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for number, unit in units.of_number:
        found.setdefault(number, set()).add(unit)
    return found


def _unit_of(match: re.Match[str], text: str, letters: Set[str]) -> tuple[str | None, int]:
    """Give the unit's canonical spelling, None where it is none, and how much of the match it takes."""
    if match["sign"] or match["currency"]:
        sign = match["sign"] or match["currency"]
        return ("%" if sign == "%" else canonical_unit(sign)), len(match[0])
    group = "near" if match["near"] else "far"
    head, tail = match[group], match["tail" if match["near"] else "far_tail"]
    if tail and (unit := canonical_unit(head + tail, known_only=True)) is not None:
        return unit, len(match[0])
    # A letter is a unit where it occurs nowhere else by itself, as a variable would.
    is_letter = len(head) == 1 and head != "Ω"
    if is_letter and (head not in _LETTER_UNITS or head in letters or _PART_OF_FORMULA.match(text, match.end(group))):
        return None, 0
    if head == "in" and not _END_OF_INCHES.match(text, match.end(group)):
        return None, 0
    return canonical_unit(head, known_only=True), match.end(group) - match.start()


def _from_chinese(match: re.Match[str]) -> str:
    power, word = match[1] or match[4], match[2] or match[5]
    over = f"/{_CHINESE[match[3]]}" if match[3] else ""
    return f" {_CHINESE[power] + ' ' if power else ''}{_CHINESE[word]}{over} "
