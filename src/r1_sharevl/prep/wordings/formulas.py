"""The names and formulas of a question: points, variables, functions, expressions, and what is said to equal what."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from .numbers import canonical

_TOKEN = re.compile(
    r"(?P<number>\d{1,3}(?:,\d{3})+(?!,?\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
    r"|(?P<command>\\[A-Za-z]+)"
    r"|(?P<word>[A-Za-zα-ωΑ-ΩÀ-ɏ]+(?:'(?:s|t|re|ve|ll|d|m)(?![a-z])|_?\d+(?!\d|\.\d)[A-Za-z\d]*|_[A-Za-z])*(?:_\([^()]{1,20}\))?'*(?![a-z]))"
    r"|(?P<operator>[-+*/^=<>≤≥≠≈~≅±∈∉⊂⊆∪∩→≡∝:()\[\]|!,])|(?P<other>[^\s\d])"
)
_CONTRACTION = re.compile(r"'(?:s|t|re|ve|ll|d|m)$")
_FUNCTIONS = frozenset({"sin", "cos", "tan", "cot", "sec", "csc", "log", "ln", "lg", "exp", "sqrt", "lim", "root3"})
_RELATIONS = frozenset("=<>≤≥≠≈~≅∈∉⊂⊆→≡∝")
_FLIPPED = {"<": ">", "≤": "≥"}
_BINARY = frozenset("-+*/^:±|!∪∩")
_OPENING, _CLOSING = frozenset("(["), frozenset(")]")

# Words in capitals that are stressed, not names.
_STRESSED_WORDS = """
A I AN AND ANY ALL ALWAYS ARE AS AT BE BEST BOTH BUT BY CAN CANNOT CORRECT DO DOES EACH EXCEPT EXACTLY FALSE FIND FOR
FROM GIVEN HAS HAVE HOW IF IN INCORRECT IS IT LEAST LEFT MORE MOST MUST NEVER NO NONE NOT NOTE OF ON ONE ONLY OR RIGHT
SHOW THAT THE THEN THERE THESE THIS TO TRUE TWO WAS WHAT WHEN WHERE WHICH WHO WHY WITH WRONG YES YOU YOUR
"""
_STRESSED = frozenset(_STRESSED_WORDS.split())
# Behind an article comes a noun; behind a point or variable called "A" or "a" one of these.
_WORDS_AFTER_NAME = """
and or is to of in on at be are has have lies moves equals intersects with from as if where meets meet lie bisects such
that for by we denotes represents which can then denote
"""
_AFTER_NAME = frozenset(_WORDS_AFTER_NAME.split())
_ARTICLE = re.compile(r"\s+(?:([A-Za-z]{2,})|\d|\S-)")
_SENTENCE_START = re.compile(r"(?:^|[.?!:;,\n。？！：；，(])\s*$")
_ROMANCE_WORDS = frozenset("aeouy")
_TUPLE = re.compile(r"[(\[]((?:[^()\[\]]|\([^()\[\]]{0,30}\)){1,60},(?:[^()\[\]]|\([^()\[\]]{0,30}\)){1,60})[)\]]")
_SAID_TO_BE = re.compile(
    r"(?<![A-Za-z])(?P<name>[A-Z]{1,4}|[b-zα-ω]|radius|diameter|height|width|volume|area|perimeter|mass)\s?"
    r"(?:\s(?:is|measures|has (?:a )?(?:length|measure|radius|value)(?: of)?|being|of|of length)\s"
    r"|的?(?:长度?|度数|值|大小)?(?:为|是|=)|长)\s?"
    r"(?P<number>-?\d+(?:\.\d+)?)(?![\dA-Za-z/]|\.\d|\s?[*+^:(]|\s?-\s?\d)"
)
_LOOSE_SUM = re.compile(r"[\d.]+(?:([-*/:])[\d.]+)(?:\1[\d.]+)*")
_RATIO = re.compile(r"[A-Za-z]{1,3}:[A-Za-z]{1,3}")
_LONGEST = 200  # tokens of a formula that is still taken apart
_ASKED = re.compile(
    r"(?:(?i:\b(?:find|determine|compute|calculate|evaluate|give|work out|what(?:'s| is| are)|how long is))\s+"
    r"|求出?|则|那么|计算)"
    r"(?:(?:the|length|measure|degree|size|value|area|perimeter|of|segment|side|angle|chord|arc|line|triangle|diagonal|m)\s+"
    r"|\s|线段|边)*"
    r"(?P<name>[A-Z]{1,4}'?|[b-ln-zα-ω]'?)(?![A-Za-z\d_'(])(?!\s?[-+*/^:])"
)
_SAID_OF_NAME = re.compile(
    r"(?<![A-Za-z])(?P<one>[A-Z]{1,2})\s+(?:is |are )?(?P<how>parallel|perpendicular)(?: to)?\s+"
    r"(?P<two>[A-Z]{1,2})(?![A-Za-z])"
    r"|(?P<role>midpoint of|bisects|diameter of)\s+(?:(?:side|segment|angle|circle|line|the|chord)\s+)*"
    r"(?P<name>[A-Z]{1,4})(?![A-Za-z])"
    r"|(?<![A-Za-z])(?P<before>[A-Z]{2})(?:边|的)*(?P<what>中点|直径)"
)
_PART_OF_SUBJECT = re.compile(r"(?:[-+*/^:,]|\b(?:to|from|and|than|between|or|by|circle|point))\s*$")


@dataclass(frozen=True, slots=True)
class Formulas:
    """What a text says in mathematical notation.

    Attributes:
        names: Points, variables, functions and other symbols.
        terms: Expressions with an operation in them (`2x+1`, `sqrt(3)`, `(3,4)`), without spaces.
        claims: (kind, claim) of what rewordings may say in words as well: inequalities, equal names, ratios and sums
            of plain numbers, parallels, midpoints.
        asked: The names that the text asks for, as in "find AB".
        values: Name -> the numbers that it is said to equal.
        equations: (name, number) where that is said with a sign.
    """

    names: set[str] = field(default_factory=set)
    terms: set[str] = field(default_factory=set)
    claims: set[tuple[str, str]] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)
    values: dict[str, set[str]] = field(default_factory=dict)
    equations: set[tuple[str, str]] = field(default_factory=set)


class _Token(NamedTuple):
    text: str
    kind: str  # "number", "name", "function" or "operator"
    is_glued: bool  # no space before it


def find_formulas(text: str, is_romance: bool = False) -> Formulas:
    """Find the names and formulas in a text in plain notation, without units.

    Args:
        text: The text.
        is_romance: The text is Spanish, French, Italian or Portuguese, where letters such as `y` and `e` are words.
    """
    found = Formulas()
    for match in _SAID_TO_BE.finditer(text):
        # Not in "AB + BC is 7", nor in "the distance from O to AB is 3".
        if not _PART_OF_SUBJECT.search(text, max(0, match.start() - 12), match.start()):
            found.values.setdefault(match["name"], set()).add(canonical_signed(match["number"]))
    for match in _SAID_OF_NAME.finditer(text):
        if match["how"]:
            found.claims.add((match["how"], " ".join(sorted((match["one"], match["two"])))))
        elif match["role"]:
            found.claims.add((match["role"], match["name"]))
        else:
            found.claims.add((match["what"], match["before"]))
    found.asked.update(match["name"] for match in _ASKED.finditer(text))

    def take_tuple(match: re.Match[str]) -> str:
        inner = match[1]
        if not any(character.isdigit() for character in inner) or re.search("[A-Za-z]{3}|[\u4e00-\u9fff]", inner):
            return match[0]
        found.terms.add(f"({_compact(inner)})")
        found.names.update(name for name in re.findall(r"[A-Za-zα-ω]+\d*", inner) if name not in ("and", "or"))
        return " ; "

    if "," in text and ("(" in text or "[" in text):
        text = _TUPLE.sub(take_tuple, text)
    run: list[_Token] = []
    end = 0
    for match in _TOKEN.finditer(text):
        is_glued = match.start() == end and end > 0
        end = match.end()
        token = _classified(match, text, is_romance, is_glued)
        if token is None:
            if run:
                _close(run, found)
                run = []
            continue
        if token.kind in ("name", "function"):
            found.names.add(token.text)
        if run and not _continues(run[-1], token):
            _close(run, found)
            run = []
        run.append(token)
    _close(run, found)
    return found


def same_names(first: Formulas, second: Formulas) -> bool:
    """Tell whether two texts use the same names."""
    return first.names == second.names


def same_formulas(first: Formulas, second: Formulas) -> bool:
    """Tell whether two texts do not contradict each other in their formulas.

    Terms must be the same. Claims and values may be put in words, so they differ only where each text has one that
    the other lacks.
    """
    if first.terms != second.terms:
        return False
    only_first, only_second = first.claims - second.claims, second.claims - first.claims
    if {kind for kind, _ in only_first} & {kind for kind, _ in only_second}:
        return False
    for name in first.values.keys() & second.values.keys():
        if not first.values[name] & second.values[name]:
            return False
    # One value given to another name: AB = 5 and AC = 5.
    holders_first, holders_second = _holders(first), _holders(second)
    return all(holders_first[value] & holders_second[value] for value in holders_first.keys() & holders_second.keys())


def asks_same(first: Formulas, second: Formulas) -> bool:
    """Tell whether two texts ask for the same name, where each of them asks for one."""
    return not (first.asked and second.asked) or not first.asked.isdisjoint(second.asked)


def canonical_signed(number: str) -> str:
    """Write a decimal with its sign in canonical form."""
    return "-" + canonical(number[1:]) if number.startswith("-") else canonical(number)


def _holders(formulas: Formulas) -> dict[str, set[str]]:
    holders: dict[str, set[str]] = {}
    for name, value in formulas.equations:
        holders.setdefault(value, set()).add(name)
    return holders


def _classified(match: re.Match[str], text: str, is_romance: bool, is_glued: bool) -> _Token | None:
    """Read a token; None for an ordinary word or sign, at which a formula ends."""
    if match["number"]:
        return _Token(canonical(match["number"]), "number", is_glued)
    if match["operator"]:
        if match["operator"] == ":" and is_glued and text[match.end() : match.end() + 1].isspace():
            return None  # the colon of a sentence
        return _Token(match["operator"], "operator", is_glued)
    if match["other"]:
        return None
    if match["command"]:
        return _Token(match["command"], "name", is_glued)
    word = match["word"]
    if len(word) > 1 and word[1:].islower() and word.isalpha():
        if word.lower() in _FUNCTIONS:
            return _Token(word.lower(), "function", is_glued)
        return _Token(word, "name", is_glued) if _is_product(match, text) else None
    word = _CONTRACTION.sub("", match["word"])
    name = word.replace("_", "").replace("(", "").replace(")", "")
    stem = name.rstrip("'0123456789")
    if len(stem) == 1:
        if _is_word(word, match, text, is_romance):
            return None
    elif not (stem.isupper() and stem not in _STRESSED) and not _is_mixed(name):
        return None
    return _Token(name, "name", is_glued)


def _is_word(letter: str, match: re.Match[str], text: str, is_romance: bool) -> bool:
    """Tell whether a single letter is a word: an article, "I", or a Romance word of one letter."""
    if letter == "I" or not letter.isascii():
        return letter == "I" or letter in "àáéèóòú"
    if letter in "aA" and (following := _ARTICLE.match(text, match.end())):
        is_name = following[1] is not None and (following[1] in _AFTER_NAME or following[1].isupper())
        starts = letter == "a" or _SENTENCE_START.search(text, max(0, match.start() - 4), match.start()) is not None
        return starts and not is_name
    if not is_romance or letter not in _ROMANCE_WORDS:
        return False
    before, after = text[max(0, match.start() - 2) : match.start()], text[match.end() : match.end() + 2]
    return not any(sign in _BINARY | _RELATIONS for sign in before + after)


def _is_mixed(name: str) -> bool:
    """Tell whether letters of both cases or with digits make a symbol: `NaCl`, `mAB`, `CO2`; not `Find` or `iPhone`."""
    if any(character.isdigit() for character in name):
        return True
    return len(name) <= 6 and sum(character.isupper() for character in name) >= 2 and not name.isupper()


def _is_product(match: re.Match[str], text: str) -> bool:
    """Tell whether two or three small letters are a product: right behind a digit or at an operator (`2xy`, `ab+c`)."""
    word = match["word"]
    if len(word) > 3 or not word.islower():
        return False
    before, after = text[match.start() - 1 : match.start()], text[match.end() : match.end() + 1]
    if before.isdigit():
        return word not in ("st", "nd", "rd", "th", "am", "pm")
    return before in tuple("+*^=") or after in tuple("+*^=")


def _continues(last: _Token, token: _Token) -> bool:
    """Tell whether a token belongs to the formula before it."""
    if "operator" in (last.kind, token.kind):
        # "AB (see the figure)", "x + y, 3": a bracket or number after a space or comma may begin something else.
        if token.text in _OPENING and not token.is_glued:
            return last.kind in ("operator", "function")
        return last.text not in _CLOSING or token.kind == "operator" or token.is_glued
    return token.is_glued or "function" in (last.kind, token.kind)


def _close(run: Sequence[_Token], found: Formulas) -> None:
    """Take a whole formula apart into its sides and note what they say."""
    if len(run) > _LONGEST:
        found.terms.add("".join(token.text for token in run))
        return
    run = _unbracketed(run)
    if len(run) < 2:
        return
    sides: list[list[_Token]] = [[]]
    relations: list[str] = []
    depth = 0
    for token in run:
        depth += (token.text in _OPENING) - (token.text in _CLOSING)
        if token.text == "," or (token.text in _RELATIONS and depth <= 0):
            relations.append(token.text)
            sides.append([])
        else:
            sides[-1].append(token)
    texts = [_side(side, found) for side in sides]
    for relation, left, right in zip(relations, texts, texts[1:], strict=False):
        if left and right and relation != ",":
            _note_relation(relation, left, right, found)


def _unbracketed(run: Sequence[_Token]) -> Sequence[_Token]:
    """Drop brackets without a partner at either end, and those around all of a formula."""
    while run and (run[0].text in _OPENING or run[-1].text in _CLOSING):
        depth = 0
        depths = [depth := depth + (token.text in _OPENING) - (token.text in _CLOSING) for token in run]
        if run[0].text in _OPENING and depths[-1] > 0:
            run = run[1:]
        elif run[-1].text in _CLOSING and depths[-1] < 0:
            run = run[:-1]
        elif run[0].text in _OPENING and depths.index(0) == len(run) - 1:
            run = run[1:-1]
        else:
            break
    return run


def _side(side: list[_Token], found: Formulas) -> str:
    """Note a side's term and give its text."""
    text = _trimmed("".join(token.text for token in side))
    kinds = [token.kind for token in side if token.kind != "operator"]
    if len(text) < 2 or not kinds:
        return text
    has_operation = any(token.text in _BINARY for token in side[1:-1]) or "function" in kinds
    if kinds.count("name") == 0 and "function" not in kinds:
        # Plain numbers: 3:4 may be "3 to 4" in words, 2010-2015 "from 2010 to 2015", 5*5 "5 by 5"; 1/2 is one number.
        if has_operation and not re.fullmatch(r"-?\d+/\d+", text) and re.search(r"\d\)?[-+*/^:±]", text):
            if _LOOSE_SUM.fullmatch(text):
                found.claims.add(("numbers", text))
            else:
                found.terms.add(text)
    elif _RATIO.fullmatch(text):
        found.claims.add(("ratio", text))
    elif has_operation or len(kinds) > 1:
        text = re.sub(r"(?<!\d)\*|\*(?!\d)", "", text)
        found.terms.add(text)
    return text


def _note_relation(relation: str, left: str, right: str, found: Formulas) -> None:
    if relation == "=":
        for name, number in ((left, right), (right, left)):
            if re.fullmatch(r"-?[\d.]+", number) and not re.fullmatch(r"-?[\d.]+", name):
                found.values.setdefault(name, set()).add(canonical_signed(number))
                found.equations.add((name, canonical_signed(number)))
                return
    if relation in _FLIPPED:
        relation, left, right = _FLIPPED[relation], right, left
    elif relation not in ">≥∈∉⊂⊆→":
        left, right = sorted((left, right))
    found.claims.add(("relation", f"{left}{relation}{right}"))


def _trimmed(text: str) -> str:
    """Drop operators and brackets left over at the ends, and brackets around all of a term."""
    text = text.strip(",:*/").rstrip("-+^")
    while text.count("(") != text.count(")") and text[:1] == "(":
        text = text[1:]
    while text.count("(") != text.count(")") and text[-1:] in ("(", ")"):
        text = text[:-1]
    if re.fullmatch(r"\([^()]*\)", text):
        text = text[1:-1]
    return text.strip(",:*/").rstrip("-+^")


def _compact(text: str) -> str:
    return re.sub(r"\s+", "", text)
