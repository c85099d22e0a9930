"""What `prepare` can be asked to do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import UserError
from .selection.pass_rate import PassRateRange
from .wordings.settings import ApiSettings, LocalSettings

DEFAULT_VALIDATION_SHARE = 0.05
DEFAULT_MAX_PROMPT_LENGTH = 2048

FORMATS = ("share-grpo", "easyr1")


@dataclass(frozen=True)
class Difficulty:
    """Keep the questions that a model answers rightly neither too seldom nor too often.

    Attributes:
        model: Folder of a model or of a PEFT adapter, or a Hub id.
        allowed: Pass rates of the questions to keep, both ends included.
        samples: Responses per question.
        batch_size: Responses generated at once.
        max_new_tokens: Token limit of a response.
        temperature: Softmax temperature.
        top_p: Probability mass of the tokens that may be drawn.
        device: `auto` (CUDA, else MPS, else CPU) or a torch device.
        dtype: `auto` (bfloat16 on CUDA, else float32), `bfloat16`, `float16` or `float32`.
    """

    model: str
    allowed: PassRateRange
    samples: int = 8
    batch_size: int = 32
    max_new_tokens: int = 2048
    temperature: float = 1.0
    top_p: float = 1.0
    device: str = "auto"
    dtype: str = "auto"

    def __post_init__(self) -> None:
        """Check the values that nothing else checks.

        Raises:
            UserError: A value is outside its range.
        """
        if self.samples < 1:
            raise UserError(f"--samples: found {self.samples}, expected 1 or more")
        if self.batch_size < 1:
            raise UserError(f"--pass-rate-batch-size: found {self.batch_size}, expected 1 or more")
        if self.temperature == 0:
            raise UserError("--pass-rate-temperature: found 0, where every sample is the same: give more")


@dataclass(frozen=True)
class PrepSettings:
    """Settings of a preparation; the defaults change nothing in the data.

    Attributes:
        train_rows: Train rows of the built-in set (4,000 where not given).
        validation_rows: Validation rows of the built-in set (240 where not given).
        mapping: Which column holds what, where the guess is wrong: role -> column, see `data.layouts.ROLES`.
        weights: Proportions of the inputs among the kept rows, one per input; None keeps every row.
        allow_urls: Fetch pictures that are given by their address.
        limit: Only the first `limit` rows of each input's files; None reads all.
        min_pixels: Smaller pictures are enlarged to so many pixels; None leaves them.
        max_pixels: Larger pictures are shrunk to so many pixels; None leaves them.
        variants: Other wordings that a question shall have, where there is a rewriter.
        rewriter: The language model that writes them; None uses the wordings that the data has.
        check_wordings: Whether the wordings that the data has must pass the checks too.
        drop_unworded: Leave out questions that end without any other wording.
        near_duplicates: Whether to leave out near-duplicates, too; exact ones never stay.
        decontaminate: Evaluation sets, named like inputs: no kept row asks one of their questions.
        processor: Folder or Hub id of the processor that counts a prompt's tokens; None does not count them.
        max_prompt_length: Most tokens of a prompt, images and the longest hint included.
        difficulty: Filter by a model's pass rate; None keeps all.
        validation_share: Share of the questions set aside where an input has no validation part of its own.
        seed: Decides the built-in set, what is drawn by weight, and which questions are set aside.
        format: `share-grpo` (a prepared set) or `easyr1` (what the R1-ShareVL release reads).
        preview: Write `preview/`, pages for people to look at.
        workers: Processes that check rows; more than 1 needs the caller's `if __name__ == "__main__":`.
        cache: File that keeps answers of models; None is `answer_cache.default_cache_file()`.
        trust_remote_code: Run code that comes with the processor or with the model of the pass-rate filter.
    """

    train_rows: int | None = None
    validation_rows: int | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)
    weights: tuple[float, ...] | None = None
    allow_urls: bool = False
    limit: int | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None
    variants: int | None = None
    rewriter: ApiSettings | LocalSettings | None = None
    check_wordings: bool = True
    drop_unworded: bool = False
    near_duplicates: bool = True
    decontaminate: tuple[str, ...] = ()
    processor: str | None = None
    max_prompt_length: int | None = None
    difficulty: Difficulty | None = None
    validation_share: float | None = None
    seed: int = 0
    format: str = "share-grpo"
    preview: bool = False
    workers: int = 1
    cache: Path | None = None
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        """Check each value and what goes together.

        Raises:
            UserError: A value is outside its range, or needs another that is missing.
        """
        for name, least in (
            ("train_rows", 1),
            ("validation_rows", 0),
            ("limit", 1),
            ("min_pixels", 1),
            ("max_pixels", 1),
            ("variants", 1),
            ("max_prompt_length", 1),
            ("workers", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"{_flag(name)}: found {value}, expected {least} or more")
        if self.validation_share is not None and not 0 <= self.validation_share < 1:
            raise UserError(
                f"--validation-share: found {self.validation_share}, expected a share from 0 up to but not including 1"
            )
        if self.min_pixels and self.max_pixels and self.min_pixels > self.max_pixels:
            raise UserError(f"--min-pixels: found {self.min_pixels}, more than --max-pixels {self.max_pixels}")
        if self.weights is not None and not all(0 < weight < float("inf") for weight in self.weights):
            raise UserError("--weights: expected numbers above 0, one per input, such as 2,1")
        if self.format not in FORMATS:
            raise UserError(f"--format: found {self.format!r}, expected {' or '.join(FORMATS)}")
        if self.rewriter is not None and self.variants is None:
            raise UserError("--rewriter: say with --variants how many other wordings a question shall have")
        if self.rewriter is None and self.variants is not None:
            raise UserError("--variants: needs a language model to write them: give --model, or --rewriter local")
        if self.max_prompt_length is not None and self.processor is None:
            raise UserError("--max-prompt-length: needs --processor, the model whose processor counts the tokens")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
