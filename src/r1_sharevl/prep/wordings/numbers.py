"""The numbers that a question states, in digits and in English or Chinese words."""

import re
from collections import Counter
from dataclasses import dataclass

_UP_TO_19 = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
nineteen
"""
_BY_TEN = "zero ten twenty thirty forty fifty sixty seventy eighty ninety"
_TENS = _BY_TEN.split()[2:]
_ONES = "|".join(_UP_TO_19.split()[1:10])
_ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth"
_PARTS = {name: value for value, name in enumerate(_ORDINALS.split(), 1)} | {"quarter": 4}
_VALUES = {name: value for value, name in enumerate(_UP_TO_19.split())}
_VALUES |= {name: 10 * value for value, name in enumerate(_BY_TEN.split()) if value > 1}
# Words that may come and go in a good rewording ("both", "the second side") and words that may not.
_LOOSE = {
    **{name: value for value, name in enumerate(_ORDINALS.split(), 1)},
    "both": 2,
    "pair": 2,
    "double": 2,
    "triple": 3,
}
_LOOSE |= {"once": 1, "single": 1, "only": 1}
_FIRM = {"half": "1/2", "twice": "2", "doubled": "2", "thrice": "3", "tripled": "3", "dozen": "12"}

_CARDINAL = "|".join(sorted(_VALUES, key=len, reverse=True))
_UP_TO_99 = rf"(?:{'|'.join(_TENS)})(?:[- ](?:{_ONES}))?|{_CARDINAL}"
_WORDS = re.compile(
    rf"\b(?:(?P<over>an?|{_ONES})[- ]"
    rf"(?P<under>hal(?:f|ves)|(?:third|fourth|quarter|fifth|sixth|seventh|eighth|tenth)s?)(?=\s+(?:of|the|as|that|its)\b|\s*[.,;?!)]|\s*$)"
    rf"|(?:(?P<hundreds>{_ONES}|a)[- ])hundred(?:(?:[- ]and)?[- ](?P<below>{_UP_TO_99}))?"
    rf"|(?P<cardinal>{_UP_TO_99})"
    rf"|(?P<loose>{'|'.join(_LOOSE)})|(?P<firm>{'|'.join(_FIRM)})(?![- ](?:circle|plane|line|sphere|disk|disc)))\b",
    re.IGNORECASE,
)

# Looked for first: most texts have none of them.
_NUMBER_WORDS = frozenset({*_VALUES, *_LOOSE, *_FIRM, "hundred", "quarter"})
_LETTERS = re.compile("[a-z]+")

_HAN_DIGITS = {character: value for value, character in enumerate("零一二三四五六七八九")} | {"两": 2, "〇": 0}
_HAN_NUMERAL = "零〇一二两三四五六七八九十百"
# 三角形 and 四边形 are figures, 一次函数 and 二次函数 kinds of functions, 十字 is a cross, 一半 a half.
_HAN = re.compile(
    rf"(?P<under>[{_HAN_NUMERAL}]{{1,5}})分之(?P<over>[{_HAN_NUMERAL}]{{1,5}})"
    rf"|(?P<half>一半)|(?P<plain>[{_HAN_NUMERAL}]{{1,7}})(?![{_HAN_NUMERAL}角边次元字般])"
)

_DIGITS = re.compile(
    r"(?<![A-Za-zα-ωΑ-Ω\d])(?P<whole>\d+) (?P<over>\d+)/(?P<under>\d+)(?![\d/.])"
    r"|(?<![A-Za-zα-ωΑ-Ω\d/])(?<!/\s)(?P<a>\d+)\s?/\s?(?P<b>\d+)(?![\d/.])(?!\s?/)"
    r"|(?<![A-Za-zα-ωΑ-Ω_\d])(?P<number>\d{1,3}(?:,\d{3})+(?!,?\d)(?:\.\d+)?|\d+(?:\.\d+)?|(?<!\d)\.\d+)"
)
_OPERAND_BEFORE = re.compile(r"(?:[\d)\]]|(?<![A-Za-z])[A-Za-zα-ω]|[A-Z]{2})\s*-$")


@dataclass(frozen=True, slots=True)
class Numbers:
    """The numbers of a text, each as a canonical decimal ("3", "-0.5") or fraction ("1/2").

    Attributes:
        digits: Those written in digits.
        words: Those written in words.
        firm: The part of `words` that changes the question when it is left out: "twice", "half", "two thirds".
    """

    digits: Counter[str]
    words: Counter[str]
    firm: Counter[str]


def find_numbers(text: str) -> Numbers:
    """Find the numbers in a text in plain notation, without units. Digits inside a name (`x1`, `H2O`) do not count."""
    digits: Counter[str] = Counter()
    for match in _DIGITS.finditer(text):
        if match["number"]:
            value = canonical(match["number"])
        elif match["whole"]:
            value = f"{canonical(match['whole'])} {canonical(match['over'])}/{canonical(match['under'])}"
        else:
            value = f"{canonical(match['a'])}/{canonical(match['b'])}"
        start = match.start()
        if text[start - 1 : start] == "-" and not _OPERAND_BEFORE.search(text, max(0, start - 8), start):
            value = f"-{value}"
        digits[value] += 1
    words: Counter[str] = Counter()
    firm: Counter[str] = Counter()
    has_words = not _NUMBER_WORDS.isdisjoint(_LETTERS.findall(text.lower()))
    for match in _WORDS.finditer(text) if has_words else ():
        value, is_firm = _english(match)
        words[value] += 1
        firm[value] += is_firm
    if not text.isascii():
        for match in _HAN.finditer(text):
            value, is_firm = _chinese(match)
            words[value] += 1
            firm[value] += is_firm
    return Numbers(digits, words, +firm)


def same_numbers(first: Numbers, second: Numbers) -> bool:
    """Tell whether two texts state the same numbers.

    Digits on one side must be digits or a word on the other. Small words come and go in good rewordings ("both", "the
    four bars"), so those left over are a difference only where the other text has other ones left over, or where the
    word is firm. "One" is never left over: it is a pronoun as often as a number.
    """
    only_first, only_second = first.digits - second.digits, second.digits - first.digits
    if only_first - second.words or only_second - first.words:
        return False
    words_first, words_second = first.words - only_second, second.words - only_first
    left_first, left_second = words_first - words_second, words_second - words_first
    if left_first & first.firm or left_second & second.firm:
        return False
    del left_first["1"], left_second["1"]
    # A digit 1 that stands where "three" stood is not the "one" that is somewhere in the other text.
    if ("1" in only_second and left_first) or ("1" in only_first and left_second):
        return False
    return not (left_first and left_second)


def canonical(digits: str) -> str:
    """Write a decimal without thousands separators and idle zeros: `1,000.50` as `1000.5`."""
    digits = digits.replace(",", "")
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    return digits.lstrip("0") if digits.lstrip("0")[:1].isdigit() else "0" + digits.lstrip("0")


def _english(match: re.Match[str]) -> tuple[str, bool]:
    if match["under"]:
        under = match["under"].lower()
        part = 2 if under.startswith("hal") else _PARTS[under.removesuffix("s")]
        return f"{_VALUES.get(match['over'].lower(), 1)}/{part}", True
    if match["hundreds"]:
        below = _cardinal(match["below"]) if match["below"] else 0
        return str(100 * _VALUES.get(match["hundreds"].lower(), 1) + below), False
    if match["cardinal"]:
        return str(_cardinal(match["cardinal"])), False
    if match["loose"]:
        return str(_LOOSE[match["loose"].lower()]), False
    return _FIRM[match["firm"].lower()], True


def _cardinal(words: str) -> int:
    return sum(_VALUES[word] for word in re.split("[- ]", words.lower()))


def _chinese(match: re.Match[str]) -> tuple[str, bool]:
    if match["under"]:
        return f"{_han_value(match['over'])}/{_han_value(match['under'])}", True
    if match["half"]:
        return "1/2", True
    return str(_han_value(match["plain"])), False


def _han_value(numeral: str) -> int:
    total, digit = 0, 0
    for character in numeral:
        if character in "十百":
            total += (digit or 1) * (10 if character == "十" else 100)
            digit = 0
        else:
            digit = _HAN_DIGITS[character]
    return total + digit
