"""The stages that rows pass on their way into the set, one after the other and in order."""

import hashlib
from collections import deque
from collections.abc import Callable, Container, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ..data.images import open_image
from ..data.rejected import Rejected
from ..data.row_error import RowError
from .checking import PROMPT_TOO_LONG, Candidate, CheckSettings, RawRecord, excess_tokens, images_of
from .selection.index import QuestionIndex
from .selection.keys import question_keys
from .selection.mixing import Quota
from .selection.pass_rate import AskedQuestion, PassRateRange, PassRates
from .wordings.rewriter import DroppedWording, Question, Rewording, Rewriter

NO_GOOD_WORDING = "no good wording"
NOT_REWORDED = "wordings could not be asked for"
TOO_EASY_OR_HARD = "outside the pass rate"
PASS_RATE = "pass_rate"  # noqa: S105 - a column's name
SAME_AS_OTHER_QUESTION = "asks another row's question"


@dataclass(frozen=True)
class NotDrawn:
    """A good row that the weights leave out."""


@dataclass(frozen=True)
class Refused(Rejected):
    """A good row that a stage leaves out.

    Attributes:
        dropped: Its wordings that did not pass, which may be the cause.
    """

    dropped: tuple[DroppedWording, ...] = ()


@dataclass(frozen=True)
class Draw:
    """Draws rows of one source.

    Attributes:
        quota: Of the input that the source belongs to.
        offset: Raw rows of that input before this source.
    """

    quota: Quota
    offset: int

    def take(self, record: RawRecord) -> bool:
        """Say whether a good row is drawn."""
        return self.quota.take(self.offset + record.position)


Outcome = Candidate | Rejected | NotDrawn
Items = Generator[tuple[RawRecord, Outcome], None, None]

_Result = TypeVar("_Result")


def make_ids_unique(items: Items, labels: Sequence[str]) -> Items:
    """Refuse a row whose id an earlier row of its source has; where it is another source's, put the label in front.

    Args:
        items: The rows.
        labels: Label of each source: numbers that several sources count from 0 are no reason to lose rows.
    """
    # Hashes, not the ids themselves: memory for millions of rows.
    seen: dict[int, int] = {}
    for record, item in items:
        if isinstance(item, Candidate):
            key = _id_key(item.row["id"])
            if seen.get(key, record.source) != record.source:
                item.row["id"] = f"{labels[record.source]}/{item.row['id']}"
                key = _id_key(item.row["id"])
            if key in seen:
                detail = (
                    f"{record.where}: id {item.row['id']!r} was used before: give each row its own, or leave ids out"
                )
                yield record, _refused(item, "duplicate id", detail)
                continue
            seen[key] = record.source
        yield record, item


def select(
    items: Items,
    index: QuestionIndex,
    evaluation: QuestionIndex | None,
    draws: Sequence[Draw] | None,
    *,
    near_duplicates: bool = True,
    as_they_are: Container[int] = (),
) -> Items:
    """Refuse rows that ask a question of an evaluation set or of an earlier row; draw by weight.

    Args:
        items: The rows.
        index: Gets every row that passes.
        evaluation: The questions of the evaluation sets; None where there are none.
        draws: How rows are drawn of each source; None draws all.
        near_duplicates: Whether to refuse near-duplicates of earlier rows, too.
        as_they_are: Numbers of the sources whose rows are not compared with earlier ones.
    """
    for record, item in items:
        if isinstance(item, Candidate):
            contaminating = None if evaluation is None else evaluation.find_contamination(item.keys)
            if contaminating is not None:
                detail = f"{record.where}: asks what {contaminating.name} asks: it would be trained on what is tested"
                yield record, _refused(item, contaminating.kind, detail)
                continue
            compared = record.source not in as_they_are
            match = index.find(item.keys, near=near_duplicates) if compared else None
            if match is not None:
                yield record, _refused(item, match.kind, f"{record.where}: {match.kind}: see {match.name}")
                continue
            if draws is not None and not draws[record.source].take(record):
                yield record, NotDrawn()
                continue
            index.add(item.keys, record.where)
        yield record, item


def reword(items: Items, rewriter: Rewriter, wanted: int) -> Items:
    """Have other wordings written until each row has `wanted` of them."""

    def ask(candidates: Iterator[Candidate]) -> Iterator[Rewording]:
        return rewriter.reword((_question(candidate) for candidate in candidates), wanted)

    def merge(candidate: Candidate, rewording: Rewording) -> Outcome:
        candidate.dropped.extend(rewording.dropped)
        candidate.row["variants"] = [*candidate.row["variants"], *rewording.wordings]
        if rewording.failure is not None:
            where = candidate.record.where
            return _refused(
                candidate,
                NOT_REWORDED,
                f"{where}: {NOT_REWORDED}: {rewording.failure}: run again, only what is missing is asked",
            )
        return candidate

    return _through(items, ask, merge)


def check_new_wordings(
    items: Items,
    index: QuestionIndex,
    evaluation: QuestionIndex | None,
    checks: CheckSettings,
    *,
    near_duplicates: bool = True,
    as_they_are: Container[int] = (),
) -> Items:
    """Drop written wordings that are too long or ask an earlier row's question, and rows that an earlier wording asks.

    The written wordings of a row are known only after later rows were compared with it, hence an index of their own.

    Args:
        items: Rows with their written wordings.
        index: An empty index; gets every row that passes with all its wordings.
        evaluation: The questions of the evaluation sets; None where there are none.
        checks: Says how long a prompt may be.
        near_duplicates: Whether near-duplicates count, too.
        as_they_are: Numbers of the sources whose rows are not compared with earlier ones.
    """
    for record, item in items:
        if isinstance(item, Candidate):
            row = item.row
            images = [open_image(data, record.where) for data in images_of(row)]
            sizes = [image.size for image in images]
            compared = record.source not in as_they_are
            match = index.find(item.keys, near=near_duplicates) if compared else None
            if match is not None:
                yield record, _refused(item, match.kind, f"{record.where}: {match.kind}: see {match.name}")
                continue
            kept = []
            for wording in row["variants"]:
                keys = question_keys(wording, (), images, row["answer"])
                if excess_tokens(wording, sizes, checks):
                    item.dropped.append(DroppedWording(wording, PROMPT_TOO_LONG))
                elif evaluation is not None and (found := evaluation.find_contamination(keys)) is not None:
                    item.dropped.append(DroppedWording(wording, found.kind))
                elif compared and index.find(keys, near=near_duplicates) is not None:
                    item.dropped.append(DroppedWording(wording, SAME_AS_OTHER_QUESTION))
                else:
                    kept.append(wording)
            row["variants"] = kept
            index.add(question_keys(row["problem"], kept, images, row["answer"]), record.where)
        yield record, item


def reject_unworded(items: Items) -> Items:
    """Refuse rows without any other wording."""
    for record, item in items:
        if isinstance(item, Candidate) and not item.row["variants"]:
            reasons = sorted({dropped.reason for dropped in item.dropped})
            why = f"all were dropped: {', '.join(reasons)}" if reasons else "it came with none"
            yield record, _refused(item, NO_GOOD_WORDING, f"{record.where}: {NO_GOOD_WORDING}: {why}")
            continue
        yield record, item


def filter_by_pass_rate(items: Items, pass_rates: PassRates, allowed: PassRateRange) -> Items:
    """Refuse rows that a model answers rightly too often or too seldom; the others get a column `pass_rate`."""

    def rate(candidates: Iterator[Candidate]) -> Iterator[float]:
        return pass_rates.rates(_asked(candidate.row) for candidate in candidates)

    def merge(candidate: Candidate, rate: float) -> Outcome:
        candidate.row[PASS_RATE] = rate
        if rate in allowed:
            return candidate
        where = candidate.record.where
        return _refused(
            candidate, TOO_EASY_OR_HARD, f"{where}: pass rate {rate:.3f}, outside {allowed.low:g}:{allowed.high:g}"
        )

    return _through(items, rate, merge)


def convert(items: Items, to_format: Callable[[Mapping[str, Any], str], dict[str, Any]]) -> Items:
    """Bring rows into another format, and refuse those that it cannot hold.

    Args:
        items: The rows.
        to_format: Gives a row in that format from the row and its place; raises `RowError`.
    """
    for record, item in items:
        if isinstance(item, Candidate):
            try:
                item.converted = to_format(item.row, record.where)
            except RowError as error:
                yield record, _refused(item, error.reason, str(error))
                continue
        yield record, item


def _through(
    items: Items,
    stage: Callable[[Iterator[Candidate]], Iterator[_Result]],
    merge: Callable[[Candidate, _Result], Outcome],
) -> Items:
    """Run a stage that looks ahead over the rows, and keep everything else in its place between them."""
    waiting: deque[tuple[RawRecord, Outcome]] = deque()

    def candidates() -> Iterator[Candidate]:
        for record, item in items:
            waiting.append((record, item))
            if isinstance(item, Candidate):
                yield item

    for result in stage(candidates()):
        record, item = waiting.popleft()
        while not isinstance(item, Candidate):
            yield record, item
            record, item = waiting.popleft()
        yield record, merge(item, result)
    yield from waiting


def _id_key(row_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(row_id.encode(), digest_size=8).digest())


def _question(candidate: Candidate) -> Question:
    row = candidate.row
    return Question(row["id"], row["problem"], row["answer"], images_of(row), tuple(row["variants"]))


def _asked(row: Mapping[str, Any]) -> AskedQuestion:
    return AskedQuestion(row["problem"], row["answer"], images_of(row))


def _refused(candidate: Candidate, reason: str, detail: str) -> Refused:
    return Refused(candidate.row["id"], candidate.record.where, reason, detail, tuple(candidate.dropped))
