"""Which column of a data set holds what: guessed from the names that people use, or said by the user."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import PIL.Image

from ..errors import UserError
from .choices import read_choices
from .conversations import ends_with_answer
from .row_checks import COLUMNS
from .row_error import RowError

ROLES = ("id", "problem", "images", "answer", "variants", "source", "options", "answer_index", "hint")
"""What a column can be: `options` are texts of a multiple choice question, `answer_index` counts them from 0, and
`hint` stands in front of the question."""

# In order of preference, as `_plain_name` gives them.
_NAMES: dict[str, tuple[str, ...]] = {
    "id": ("id", "qid", "pid", "question_id", "problem_id", "sample_id", "uid", "sample_index", "index"),
    "problem": ("problem", "question", "prompt", "query", "instruction", "messages", "conversations", "text"),
    "images": (
        *("images", "image", "decoded_image", "image_path", "image_paths", "img", "imgs", "img_path", "picture"),
        *("pictures", "image_file", "image_files", "file_name", "file_names", "image_url", "image_urls"),
    ),
    "answer": (
        *("answer", "gt_answer", "ground_truth", "final_answer", "gold_answer", "gold", "correct_answer", "answers"),
        *("solution", "label", "target", "reward_model", "response", "output"),
    ),
    "variants": (
        *("variants", "new_questions", "rewrites", "paraphrases", "rewritten_questions", "question_variants"),
        "wordings",
    ),
    "source": ("source", "data_source", "dataset", "dataset_name"),
    "options": ("options", "choices"),
    "answer_index": ("answer_index", "answer_idx", "correct_index", "correct_idx", "correct_option_index"),
    "hint": ("hint",),
}
_SERIES = re.compile(r"(?:image|img|picture)_?(\d{1,2})")
_LETTERED = re.compile(r"(?:option|choice)_([a-z])")
_MANY = ("images", "options")

_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")
_MAX_LISTED = 40


@dataclass(frozen=True)
class Layout:
    """Which columns hold what.

    Attributes:
        columns: Role -> the columns that hold it: one, or several for `images` (each with one image or more) and
            `options` (each with one option). An answer in the same column as the problem is the assistant's message.
    """

    columns: Mapping[str, tuple[str, ...]]

    def describe(self) -> str:
        """Say in one line which columns are used, like `problem=question images=decoded_image answer=answer`."""
        return " ".join(f"{role}={','.join(self.columns[role])}" for role in ROLES if role in self.columns)

    def meta_columns(self, columns: Sequence[str]) -> list[str]:
        """Give those of `columns` that no role uses; a name that the schema needs itself is none of them."""
        used = {column for names in self.columns.values() for column in names}
        return [column for column in columns if column not in used and column not in COLUMNS]


def guess_layout(
    columns: Sequence[str],
    sample: Sequence[Mapping[str, Any]],
    mapping: Mapping[str, str],
    where: str,
    *,
    answer_needed: bool = True,
) -> Layout:
    """Find out which column holds what.

    Args:
        columns: The names of all columns.
        sample: Some records; they decide where names alone do not.
        mapping: What the user says: role -> column, several separated by commas for `images` and `options`, or an
            empty text for a role that no column has. Roles that are not in it are guessed.
        where: The file or data set, for error messages.
        answer_needed: Whether a data set without answers is refused.

    Returns:
        The layout; an empty one where there are no columns at all, that is no readable row.

    Raises:
        UserError: `mapping` names a role or a column that there is not, no column holds the problem or the answer, or
            several columns of unknown names hold pictures.
    """
    said = {role: _named(role, names, columns, where) for role, names in mapping.items()}
    if not columns:
        return Layout({})
    taken = {column for names in said.values() for column in names}
    free = [column for column in columns if column not in taken]
    guessed = {role: _guess(role, free, sample) for role in ("id", "problem", "variants", "source", "answer_index")}
    guessed["images"] = _guess_images(free, sample, where) if "images" not in said else ()
    guessed["options"] = _guess_options(free, sample)
    # Who says where the index is means that no text is the answer; a solution may well be there.
    guessed["answer"] = _guess("answer", free, sample) if not said.get("answer_index") else ()
    found = {**guessed, **said}
    if found["options"] and "hint" not in said:
        found["hint"] = _guess("hint", free, sample)
    if not {"answer", "answer_index"} & said.keys() and _counts_options(found, sample):
        found["answer"], found["answer_index"] = (), found["answer"]
    problem = found["problem"]
    if not {"answer", "answer_index"} & said.keys() and not found["answer"] and problem:
        # ms-swift: the conversation goes on with the answer.
        found["answer"] = problem if any(ends_with_answer(record.get(problem[0])) for record in sample) else ()
    if not problem:
        raise _no_column("problem", columns, where)
    if answer_needed and not found["answer"] and not found["answer_index"]:
        raise _no_column("answer", columns, where)
    return Layout({role: found[role] for role in ROLES if found.get(role)})


def _named(role: str, names: str, columns: Sequence[str], where: str) -> tuple[str, ...]:
    """Check what the user says about a role."""
    if role not in ROLES:
        raise UserError(f"--map {role}={names}: there is no role {role!r}: choose one of {', '.join(ROLES)}")
    if not names.strip():
        return ()
    found = (names,) if names in columns or role not in _MANY else tuple(name.strip() for name in names.split(","))
    # Nothing readable at all: the rejected rows will say so.
    for name in found if columns else ():
        if name not in columns:
            raise UserError(f"{where}: --map {role}={names}: no column {name!r} (found: {_listed(columns)})")
    return found


def _no_column(role: str, columns: Sequence[str], where: str) -> UserError:
    return UserError(f"{where}: no column for '{role}' (found: {_listed(columns)}): name it with --map {role}=COLUMN")


def _listed(columns: Sequence[str]) -> str:
    names = [name if name.isprintable() else ascii(name) for name in sorted(columns)[:_MAX_LISTED]]
    return ", ".join(names) + (", …" if len(columns) > _MAX_LISTED else "")


def _plain_name(column: str) -> str:
    return re.sub(r"[\s-]+", "_", column.strip()).lower()


def _by_rank(role: str, columns: Sequence[str]) -> list[str]:
    ranks = {name: rank for rank, name in enumerate(_NAMES[role])}
    known = [column for column in columns if _plain_name(column) in ranks]
    return sorted(known, key=lambda column: ranks[_plain_name(column)])


def _guess(role: str, columns: Sequence[str], sample: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Take the best name whose values are of a fitting kind; without any value, the best name."""
    fits = _FITS.get(role, _is_given)
    candidates = _by_rank(role, columns)
    for column in candidates:
        if any(fits(record.get(column)) for record in sample):
            return (column,)
    for column in candidates:
        if not any(_is_given(record.get(column)) for record in sample):
            return (column,)
    # A required one of a wrong kind is still the one meant: its rows say what is wrong.
    return (candidates[0],) if candidates and role in ("problem", "answer") else ()


def _is_given(value: Any) -> bool:
    is_nan = isinstance(value, float) and math.isnan(value)
    return not is_nan and value is not None and value not in ("", [], {})


def _is_name(value: Any) -> bool:
    # pandas makes floats of whole numbers with gaps.
    return (isinstance(value, str) and value != "") or (type(value) in (int, float) and value == value // 1)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_question(value: Any) -> bool:
    return _is_text(value) or (isinstance(value, list | tuple) and bool(value))


_FITS: dict[str, Callable[[Any], bool]] = {
    "id": _is_name,
    "source": _is_text,
    "problem": _is_question,
    "hint": _is_text,
}


def _guess_options(columns: Sequence[str], sample: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    lettered = sorted(column for column in columns if re.fullmatch("[A-Z]", column))
    if lettered[:2] != ["A", "B"]:
        lettered = sorted((column for column in columns if _LETTERED.fullmatch(_plain_name(column))), key=_plain_name)
    # Columns after a missing letter are something else.
    series = [
        column
        for column, letter in zip(lettered, "abcdefghijklmnopqrstuvwxyz", strict=False)
        if _plain_name(column)[-1] == letter
    ]
    series = series if len(series) >= 2 else []
    whole = _guess("options", columns, sample)
    if whole and (not series or any(_is_given(record.get(whole[0])) for record in sample)):
        return whole
    return tuple(series)


def _counts_options(found: Mapping[str, tuple[str, ...]], sample: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether the answers are numbers that count the options from 0, as in ScienceQA and AI2D.

    One zero that is no option's text shows it; a number that no option has speaks against it.
    """
    if len(found["answer"]) != 1 or not found["options"] or found["answer_index"]:
        return False
    shown = False
    for record in sample:
        value = record.get(found["answer"][0])
        text = str(value).strip()
        choices = _choices_of(record, found["options"])
        if value is None or not choices:
            continue
        if not text.isdecimal() or isinstance(value, bool) or int(text[:9]) >= len(choices):
            return False
        shown = shown or (text == "0" and text not in choices.values())
    return shown


def _choices_of(record: Mapping[str, Any], columns: Sequence[str]) -> Mapping[str, str]:
    try:
        choices = read_choices([record.get(column) for column in columns], "")
    except RowError:
        return {}
    return choices.texts if choices else {}


def _guess_images(columns: Sequence[str], sample: Sequence[Mapping[str, Any]], where: str) -> tuple[str, ...]:
    numbered = [(int(match[1]), column) for column in columns if (match := _SERIES.fullmatch(_plain_name(column)))]
    candidates: list[tuple[str, ...]] = [(column,) for column in _by_rank("images", columns)]
    if numbered:
        candidates.append(tuple(column for _, column in sorted(numbered)))
    if candidates:
        # `max` takes the first of equals.
        best = max(candidates, key=lambda names: max((_kind(r.get(name)) for r in sample for name in names), default=0))
        return _with_twin(best, columns, sample)
    unnamed = [column for column in columns if any(_holds_picture(record.get(column)) for record in sample)]
    if len(unnamed) > 1:
        raise UserError(
            f"{where}: the columns {_listed(unnamed)} hold pictures: say which are meant with --map images=COLUMN, "
            "or with --map images= that none is"
        )
    return tuple(unnamed)


def _with_twin(best: tuple[str, ...], columns: Sequence[str], sample: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Take `image` and `images` both where some rows have the one and some the other."""
    pair = tuple(column for column in columns if _plain_name(column) in ("image", "images"))
    if best[0] not in pair:
        return best
    filled = [[_is_given(record.get(column)) for column in pair] for record in sample]
    # A row with both is a fault, unless that is what the rows are like.
    return best if 2 * sum(map(all, filled)) > sum(map(any, filled)) else pair


def _kind(value: Any) -> int:
    """Rank a value: 2 holds a picture itself, 1 is some text, perhaps a path, 0 is nothing of use."""
    if _holds_picture(value):
        return 2
    if isinstance(value, list | tuple):
        return max((_kind(item) for item in value if not isinstance(item, list | tuple)), default=0)
    return int(_is_text(value) or isinstance(value, Mapping))


def _holds_picture(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return bool(value) and not isinstance(value[0], list | tuple) and _holds_picture(value[0])
    if isinstance(value, Mapping):
        value = value.get("bytes")
    return isinstance(value, PIL.Image.Image) or (isinstance(value, bytes) and value.startswith(_SIGNATURES))
