"""When two questions' texts are the same text, or nearly."""

import hashlib
import re
import unicodedata
from collections.abc import Sequence

from ...prompts import IMAGE_MARK

_IMAGE = "\ufffc"  # Unicode's own stand-in for an object in a text

_DASHES = dict.fromkeys(map(ord, "‐‑‒–—―−"), "-")
_QUOTES = dict.fromkeys(map(ord, "‘’‚`´"), "'") | dict.fromkeys(map(ord, "“”„«»"), '"')
_INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u2060\ufeff"))
_FULL_WIDTH = {ord("!") + offset + 0xFEE0: chr(ord("!") + offset) for offset in range(94)}
_CHARACTERS = {**_FULL_WIDTH, **_DASHES, **_QUOTES, **_INVISIBLE}

_IDEOGRAPH = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_TOKEN = re.compile(
    r"\\[A-Za-z]+|\\[^\w\s]"  # LaTeX
    r"|\d+(?:[.,]\d+)*|\.\d+"
    rf"|[{_IDEOGRAPH}]"
    rf"|[^\W\d_{_IDEOGRAPH}]+(?:'[^\W\d_{_IDEOGRAPH}]{{2,}})?"
    r"|_{2,}|\S"
)
_LEADING_MARKS = re.compile(rf"(?:\s*{IMAGE_MARK})*")
_OPTION_LABEL = re.compile(r"(?<!\S)[(\[]([A-Z])[)\]](?=[\s.:])|(?<!\S)([A-Z])\)(?=\s)")

# What sets a text without changing what it says.
_IDLE = frozenset('$?;.,"。、…') | {r"\(", r"\)", r"\[", r"\]", r"\,", r"\;", r"\:", r"\!", "\\", r"\quad"}
_IDLE |= {r"\left", r"\right", r"\displaystyle"}

_AMBIGUOUS = frozenset(":!'-")

# Words that can come and go in an English question. None of them counts, compares, negates, points in a direction or
# names anything: "which", "how", "not", "more", "below" and "to" all change what is asked.
_FILLERS = frozenset(
    """
    the an of in as and is are was were be been do does did can could you we it its this that these following
    find calculate compute determine evaluate what what's give state tell please answer question solve
    figure image picture diagram drawing illustration photo photograph shown show shows showing see seen depicted
    given let suppose assume consider using use based according then if us our your here there
    """.split()  # noqa: SIM905 - one word per line would fill two pages
)


def text_tokens(text: str, num_images: int) -> list[str]:
    """Split a question's text into what counts when texts are compared.

    Left out are white space, punctuation between sentences and around words, math delimiters, the brackets of option
    labels, and the place of image marks (with several images: only where all of them stand in front). Case counts in
    LaTeX commands and in single letters, which may be names: side a is not point A.

    Args:
        text: The text.
        num_images: How many images the question has.

    Returns:
        Words in lower case, numbers, LaTeX commands and single characters.
    """
    text = unicodedata.normalize("NFC", text).translate(_CHARACTERS)
    if num_images > 1 and IMAGE_MARK in _LEADING_MARKS.sub("", text, count=1):
        text = text.replace(IMAGE_MARK, f" {_IMAGE} ")
    else:
        text = text.replace(IMAGE_MARK, " ")
    text = _OPTION_LABEL.sub(r"\1\2", text)
    matches = list(_TOKEN.finditer(text))
    tokens: list[str] = []
    for position, match in enumerate(matches):
        token = match[0]
        if token in _IDLE or token.startswith("__"):
            continue
        if token in _AMBIGUOUS and not _is_mathematical(text, matches, position):
            continue
        tokens.append(token.casefold() if len(token) > 1 and not token.startswith("\\") else token)
    return tokens


def exact_form(tokens: Sequence[str]) -> str:
    """Give the form in which texts that are the same are equal, from `text_tokens`."""
    return " ".join(tokens)


def near_hash(tokens: Sequence[str]) -> int:
    """Hash what nearly equal texts have in common.

    Two texts are nearly the same when nothing but filler words differs ("Find …", "What is … in the figure?"): all
    numbers, names, LaTeX, options and other words are the same in the same order. A share of equal words, as in Jaccard
    similarity, would take "the area of the rectangle" for "the perimeter of the rectangle" in every longer question.

    Args:
        tokens: From `text_tokens`.

    Returns:
        64 bits, signed.
    """
    content = [token for token in tokens if token not in _FILLERS]
    return _hash64(" ".join(content or tokens))


def _hash64(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest(), signed=True)


def _is_mathematical(text: str, matches: Sequence[re.Match[str]], position: int) -> bool:
    """Tell a ratio from a colon, a factorial from an exclamation, a prime from a quote, a minus from a hyphen."""
    match = matches[position]
    before, after = text[: match.start()][-1:], text[match.end() :][:1]
    tight_before, tight_after = bool(before.strip()), bool(after.strip())
    previous = matches[position - 1][0] if position else ""
    following = matches[position + 1][0] if position + 1 < len(matches) else ""
    if match[0] == ":":
        return tight_before and tight_after
    if match[0] in "!'":
        return tight_before and not _is_word(previous) and previous not in _IDLE
    return not (tight_before and tight_after and _is_word(previous) and _is_word(following))


def _is_word(token: str) -> bool:
    return len(token) > 1 and token.replace("'", "").isalpha() and token[1:].islower()
