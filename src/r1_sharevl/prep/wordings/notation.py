r"""One plain notation for questions: LaTeX, Unicode signs and a few phrases that mean the same become the same text."""

import re
import unicodedata
from collections.abc import Callable

_GREEK_NAMES = "alpha beta gamma delta epsilon theta lambda mu rho sigma tau phi omega pi Delta Omega Sigma Theta"
_GREEK = dict(zip(_GREEK_NAMES.split(), "αβγδεθλμρστφωπΔΩΣΘ", strict=True))
_GREEK |= {"varepsilon": "ε", "vartheta": "θ", "varphi": "φ"}

_FUNCTIONS = ("sin", "cos", "tan", "cot", "sec", "csc", "log", "ln", "lg", "exp", "lim")
_SYMBOLS = {
    **{name: f" {name} " for name in _FUNCTIONS},
    **_GREEK,
    **dict.fromkeys(("cdot", "times", "ast"), "*"),
    **dict.fromkeys(("le", "leq", "leqslant"), "≤"),
    **dict.fromkeys(("ge", "geq", "geqslant"), "≥"),
    **dict.fromkeys(("ne", "neq"), "≠"),
    **dict.fromkeys(("approx", "thickapprox"), "≈"),
    **dict.fromkeys(("ldots", "dots", "cdots"), " ... "),
    **dict.fromkeys(("sim", "backsim"), " ~ "),
    **dict.fromkeys(("quad", "qquad", "displaystyle", "thinspace", "enspace", "limits", "nolimits"), " "),
    **dict.fromkeys(("left", "right", "big", "Big", "bigl", "bigr", "Bigl", "Bigr"), ""),
    **dict.fromkeys(("angle", "measuredangle"), " angle "),
    **dict.fromkeys(("triangle", "bigtriangleup", "vartriangle"), " triangle "),
    **dict.fromkeys(("circ", "degree"), "°"),
    "lt": "<",
    "gt": ">",
    "div": "/",
    "pm": "±",
    "odot": " circle ",
    "parallel": " is parallel to ",
    "perp": " is perpendicular to ",
    "square": " parallelogram ",
    "Box": " parallelogram ",
    "cong": " ≅ ",
    "infty": "∞",
    "cup": " ∪ ",
    "cap": " ∩ ",
    "subset": " ⊂ ",
    "subseteq": " ⊆ ",
    "notin": " ∉ ",
    "to": " → ",
    "rightarrow": " → ",
    "equiv": " ≡ ",
    "propto": " ∝ ",
    "in": " ∈ ",
    "colon": ":",
    "mid": "|",
    "prime": "'",
    "item": " ",
    "sqrt": " sqrt ",
}

_CHARACTERS = str.maketrans(
    {
        **dict.fromkeys("−–—‐‑﹣－", "-"),
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad", ""),
        **dict.fromkeys("‘’′`", "'"),
        **dict.fromkeys("“”„″«»", '"'),
        **{
            vulgar: f" {over}/{under}"
            for vulgar, over, under in ("½12", "⅓13", "⅔23", "¼14", "¾34", "⅕15", "⅖25", "⅗35", "⅘45", "⅙16", "⅛18")
        },
        **{chr(0x2460 + number): f" {number + 1} " for number in range(20)},  # ① to ⑳
        **dict.fromkeys("×⋅·∙∗", "*"),
        "÷": "/",
        "⁄": "/",
        "∶": ":",
        "∠": " angle ",
        "∟": " angle ",
        "△": " triangle ",
        "▲": " triangle ",
        "⊙": " circle ",
        "▱": " parallelogram ",
        "∥": " is parallel to ",
        "⊥": " is perpendicular to ",
        "√": " sqrt ",
        "∼": " ~ ",
        "µ": "μ",
        "ϕ": "φ",
        "ϵ": "ε",
        "º": "°",
        "…": " ... ",
        "≦": "≤",
        "≧": "≥",
    }
)
_SUPERSCRIPT = re.compile("[⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹ⁿ]+")
_SUBSCRIPT = re.compile("[₀₁₂₃₄₅₆₇₈₉ₙ]+")
_TO_BASE_LINE = str.maketrans("⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹ⁿ₀₁₂₃₄₅₆₇₈₉ₙ", "+-0123456789n0123456789n")

_FORMULA = re.compile(
    r"\$\$?(?=\S)([^$]{1,400}?)(?<=\S)\$\$?(?!\d)|\$ ([^$]{1,400}?) \$|\\\((.{1,400}?)\\\)|\\\[(.{1,400}?)\\\]"
)
_UPRIGHT = re.compile(
    r"\\(?:text(?:bf|it|rm|normal|sf|tt|up)?|math(?:rm|bf|it|sf|tt|bb|cal)|mbox|operatorname|boldsymbol|bm|emph)"
    r"\s?\{([^{}]*)\}"
)
_WORD_IN_FORMULA = re.compile(r"(?<![A-Za-z\\])[a-z]{4,}")
_FORMULA_SPACE = re.compile(r"(\\[A-Za-z]+)?\s+")
_DIGIT_GROUP = re.compile(r"(?<=\d)(?:\\,|\{,\}|\\ |[\u2009\u202f])(?=\d{3}(?!\d))")
_DRESSED = re.compile(
    r"\\(?:overline|overrightarrow|overleftrightarrow|widehat|vec|bar|hat|underline|boxed|fbox)\s?\{([^{}]*)\}"
)
_SHORT_FRACTION = re.compile(r"\\[dtc]?frac\s?(?:(\w)\s?(\w)|(\w)\s?(?=\{))")
_FRACTION = re.compile(r"\\[dtc]?frac\s?\{([^{}]*)\}\s?\{([^{}]*)\}")
_ROOT = re.compile(r"\\sqrt\s?(?:\[([^\[\]{}]{1,9})\])?\s?(?:\{([^{}]*)\}|(\w))")
_SCRIPT = re.compile(r"([\^_])\s?\{([^{}]*)\}")
_DEGREE = re.compile(r"\^\s?\{?\s?\\(?:circ|degree)(?![A-Za-z])\s?\}?")
_SPACING = re.compile(r"\\[,;:!> ~]|~")
_COMMAND = re.compile(r"\\([A-Za-z]+) ?")
_STRAY_BACKSLASH = re.compile(r"\\(?![A-Za-z])")
_ATOM = re.compile(r"-?\w+(?:\.\d+)?|\d*\.\d+|sqrt\([^()]*\)")
_MIXED_NUMBER = re.compile(r"(?<=\d)\((\d+/\d+)\)")
_DEEPEST = 8

_PLAIN_ROOT = re.compile(
    r"(?<![A-Za-z])sqrt\s*(?:\(([^()]*)\)|(\d+(?:\.\d+)?|[A-Za-zα-ω]))"
    r"|(?<![A-Za-z])(?:the )?square root of (\d+(?:\.\d+)?|[a-z](?![a-z]))",
    re.IGNORECASE,
)
_QUOTIENT_IN_BRACKETS = re.compile(r"(?<![\w)\]/^])\((-?[\w.]+/[\w.]+)\)(?![\w(^/])")
_FRACTION_OF_LETTER = re.compile(r"(?<![\w/)(.])(\d+/\d+) ?(?=[b-zπα-ω](?![A-Za-z]))")

_OPERAND = r"(?=[-(]?(?:\d|[A-Za-zα-ω](?![A-Za-z])|(?-i:[A-Z]{2})))"
_GREEK_WORDS = "|".join(name for name in _GREEK if name.isascii())
# What to look for in the text, the pattern to try where it is there, and what to write instead.
_PHRASES: list[tuple[tuple[str, ...], re.Pattern[str], str | Callable[[re.Match[str]], str]]] = [
    (tuple(needles.split("|")), re.compile(pattern, re.IGNORECASE), replacement)
    for needles, pattern, replacement in (
        ("squared", r"(?<=[\w)])[ -]squared\b", "^2"),
        ("cubed", r"(?<=[\w)])[ -]cubed\b", "^3"),
        ("to the power", r"(?<=[\w)]) (?:raised )?to the power (?:of )?(?=[\w-])", "^"),
        ("degree|度", r"(?<=\d)[ -]?degrees?\b|(?<=\d)\s?度(?!数)", "°"),
        ("°", r"(?<=\d)\s?°\s?", "° "),
        ("平行", r"平行于?", " is parallel to "),
        ("垂直", r"垂直于?(?!平分)", " is perpendicular to "),
        ("百分之", r"百分之(\d+(?:\.\d+)?)", r"\1%"),
        ("°", r"°\s?(?:celsius\b|C(?![A-Za-z]))", " celsius "),
        ("°", r"°\s?(?:fahrenheit\b|F(?![A-Za-z]))", " fahrenheit "),
        ("cent", r"(?<=\d)[ -]?per ?cent\b", "%"),
        ("minus|negative|负", r"\b(?:minus|negative) (?=\d|[a-z](?![a-z]))|负(?=\d)", "-"),
        ("plus", rf"\bplus {_OPERAND}", "+"),
        ("times|multiplied", rf"(?<=\d) times {_OPERAND}|(?<=[\d)]) ?(?:multiplied by) {_OPERAND}", "*"),
        ("divided by", rf"\bdivided by {_OPERAND}", "/"),
        ("x| by ", r"(?<=\d) ?x ?(?=\d)|(?<=\d) by (?=\d)", "*"),
        ("equal|等于", r"\b(?:is |are )?equals? to\b|\bequals\b|等于", "="),
        ("or =|at least", r"\b(?:is |are )?(?:greater|larger|more|bigger) than or =|\bis at least (?=\d)", "≥"),
        ("or =|at most", r"\b(?:is |are )?(?:less|smaller) than or =|\bis at most (?=\d)", "≤"),
        (" than ", rf"\b(?:is |are )?(?:greater|larger|bigger) than (?=\d|{_OPERAND})", ">"),
        (" than ", rf"\b(?:is |are )?(?:less|smaller) than (?=\d|{_OPERAND})", "<"),
        (">=", ">=", "≥"),
        ("<=", "<=", "≤"),
        ("!=", "!=", "≠"),
        ("ratio", r"\bratio\b([^.?!\n\d]{1,60})\b(\d+) to (\d+)\b", r"ratio\1\2:\3"),
        ("sine", r"\b(?:the )?(co)?sine(?: of)?\b", lambda match: "cos" if match[1] else "sin"),
        ("tangent of", r"\b(?:the )?tangent of (?=(?:angle )?(?-i:[A-Zα-ω]))", "tan "),
        ("angle", r"\b(sin|cos|tan) {1,3}angle\b", r"\1"),
        (
            "sin|cos|tan|cot|log|ln",
            r"(?<![A-Za-z])((?-i:sin|cos|tan|cot|log|ln))(?=(?-i:[A-Zα-ω\d]))",
            r"\1 ",
        ),
        (
            "ratio of",
            r"\bratio of (?=\S+ to )((?-i:[A-Z]{1,3}|[b-z])) to ((?-i:[A-Z]{1,3}|[b-z]))\b",
            r"ratio \1:\2",
        ),
        ("_", r"(?<![A-Za-zα-ωΑ-Ω])_+|_{2,}", " "),
        (".", r"\be\.g\.|\bi\.e\.", " "),
        (".m.", r"\b([ap])\.m\.", r"\1m"),
        (_GREEK_WORDS.lower(), rf"\b(?-i:{_GREEK_WORDS})\b", lambda match: _GREEK[match[0]]),
    )
]
_DIGIT_BEHIND_WORD = re.compile(r"(?<=[a-z]{3})_?(?=\d)")


def plain(text: str) -> str:
    r"""Write a question's text in one plain notation.

    Args:
        text: The text, without `<image>` marks.

    Returns:
        The text with formulas spelled as in plain text: `\dfrac12` and `½` become `(1/2)` or `1/2`, `x^{2}`, `x²` and
        "x squared" `x^2`, `\sqrt{3}` and `√3` `sqrt(3)`, `\angle ABC` and `∠ABC` `angle ABC`, `30^\circ`, "30 degrees"
        and 30度 `30°`, `×` and `\cdot` `*`, a Greek letter one character. Other commands, and the case of words, stay;
        any white space becomes one space.
    """
    text = " ".join(text.split())
    if not text.isascii():
        text = _SUPERSCRIPT.sub(lambda match: "^" + match[0].translate(_TO_BASE_LINE), text)
        text = _SUBSCRIPT.sub(lambda match: "_" + match[0].translate(_TO_BASE_LINE), text)
        text = unicodedata.normalize("NFKC", text.translate(_CHARACTERS)).translate(_CHARACTERS)
    if "\\" in text or "$" in text or "{" in text:
        text = " ".join(_without_latex(text).split())
    if "sqrt" in text or "root" in text:
        text = _PLAIN_ROOT.sub(lambda match: f"sqrt({match[1] or match[2] or match[3] or ''})", text)
    text = text.replace(" ^", "^").replace(" _", "_")
    lower = text.lower()
    for needles, pattern, replacement in _PHRASES:
        for needle in needles:
            if needle in lower:
                text = pattern.sub(replacement, text)
                lower = text.lower()
                break
    text = _DIGIT_BEHIND_WORD.sub(" ", text)
    if "/" in text:
        text = _MIXED_NUMBER.sub(r" \1", text)
        text = _QUOTIENT_IN_BRACKETS.sub(r"\1", text)
        text = _FRACTION_OF_LETTER.sub(r"(\1)", text)
    return text


def _without_latex(text: str) -> str:
    text = _DIGIT_GROUP.sub("", text)
    text = _FORMULA.sub(_compact, text).replace("\\$", " ").replace("$", " ")
    text = text.replace("\\{", "(").replace("\\}", ")").replace("\\%", "%").replace("\\\\", " ")
    text = _DEGREE.sub("°", text)
    text = _SPACING.sub(" ", text)
    for _ in range(_DEEPEST):
        before = text
        text = _UPRIGHT.sub(r" \1 ", text)
        text = _DRESSED.sub(r" \1 ", text)
        text = _SHORT_FRACTION.sub(_braced_fraction, text)
        text = _FRACTION.sub(lambda match: f"({_grouped(match[1])}/{_grouped(match[2])})", text)
        text = _ROOT.sub(
            lambda match: f"{f'root{match[1]}' if match[1] else 'sqrt'}({match[2] or match[3] or ''})", text
        )
        text = _SCRIPT.sub(lambda match: match[1] + _grouped(match[2]), text)
        if text == before:
            break
    text = _COMMAND.sub(lambda match: _SYMBOLS.get(match[1], f" \\{match[1]} "), text)
    return _STRAY_BACKSLASH.sub(" ", text).replace("{", " ").replace("}", " ")


def _compact(match: re.Match[str]) -> str:
    """Drop the spaces inside a formula, where they mean nothing; leave two prices (`$5 and $7`) as they are."""
    formula = match[1] or match[2] or match[3] or match[4] or ""
    formula = _SPACING.sub("", formula)
    bare = _UPRIGHT.sub("", formula)
    if _WORD_IN_FORMULA.search(bare):
        return f" {formula} "
    formula = _UPRIGHT.sub(lambda upright: upright[0].replace(" ", "\u00a0"), formula)
    return f" {_FORMULA_SPACE.sub(lambda space: f'{space[1]} ' if space[1] else '', formula)} ".replace("\u00a0", " ")


def _braced_fraction(match: re.Match[str]) -> str:
    return f"\\frac{{{match[1]}}}{{{match[2]}}}" if match[1] else f"\\frac{{{match[3]}}}"


def _grouped(part: str) -> str:
    part = part.strip()
    return part if _ATOM.fullmatch(part) else f"({part})"
