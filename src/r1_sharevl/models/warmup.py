"""Supervised warm-up of the tiny model on the built-in set, so that Share-GRPO has something to sharpen.

The model first learns to see and to write `<think>…</think>` and a boxed answer from right answers. In the last part of
the training the teacher is often wrong: it writes a random answer of the question's type, with the reasoning that fits
it. The model cannot tell when, so it learns to be unsure: the right answer stays the likeliest one (greedy decoding
is good), but it is drawn much less often than it could be. That gap is what reinforcement learning can close; a model
whose sampled answers are as good as its greedy ones leaves it nothing.
"""

import hashlib
import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.nn import functional
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor, get_cosine_schedule_with_warmup

from ..cache_folder import cache_folder
from ..data.staging import MANIFEST, staged_folder
from ..data.synthetic import QUESTION_TYPES, reasoning
from ..errors import UserError
from ..prompts import to_messages, with_images
from ..question_space import Prompt, QuestionSpace
from .tiny import build_tiny_model, build_tiny_processor

_RECIPE = 2  # raise it whenever the same settings would now train another model


@dataclass(frozen=True)
class WarmUp:
    """Settings of the warm-up.

    Attributes:
        steps: Optimizer steps.
        batch_size: Questions per step.
        learning_rate: Peak of the cosine schedule of AdamW, for embeddings, norms and biases.
        matrix_learning_rate: Peak of the cosine schedule of Muon, for the weight matrices inside the model.
        seed: Seeds the weights, the order of the questions, their prompts and the teacher's mistakes.
        transform_probability: Chance that a prompt shows a transformed image with its hint.
        sure_share: Share of the steps, from the first, in which the teacher is always right.
        mistake_rate: After that, the chance that the teacher writes a random answer.
    """

    steps: int = 420
    batch_size: int = 32
    learning_rate: float = 1e-3
    matrix_learning_rate: float = 5e-3
    seed: int = 0
    transform_probability: float = 0.2
    sure_share: float = 0.65
    mistake_rate: float = 0.5


def warm_up(
    dataset: Dataset,
    out: str | Path,
    settings: WarmUp | None = None,
    *,
    cache_dir: str | Path | None = None,
    progress: bool = True,
) -> Path:
    """Train the tiny model on the built-in set, or take it from the cache if that was done before.

    Args:
        dataset: Training split of the built-in set, prepared or with the same columns.
        out: Folder for the checkpoint and its processor; one that an earlier warm-up made is replaced.
        settings: How to train; the defaults are what the quickstart uses.
        cache_dir: Where finished warm-ups are kept, by a hash of the settings, the questions, the model's config and
            the tokenizer. By default `$R1_SHAREVL_CACHE/warmup` or `~/.cache/r1_sharevl/warmup`.
        progress: Show a progress bar on stderr.

    Returns:
        `out`, which `from_pretrained` opens. It appears whole or not at all.

    Raises:
        UserError: The dataset is not the built-in set, or `out` exists and is no warm-up.
    """
    settings = settings or WarmUp()
    out = Path(out)
    check_built_in(dataset)
    processor = build_tiny_processor()
    model = build_tiny_model(processor, seed=settings.seed)
    fingerprint = _fingerprint(dataset, settings, model, processor)
    if _fingerprint_of(out) == fingerprint:
        return out
    _check_replaceable(out)
    cached = _cache_folder(cache_dir) / fingerprint
    if _fingerprint_of(cached) != fingerprint:
        with staged_folder(cached, overwrite=True) as folder:
            losses = train(model, processor, dataset, settings, progress=progress)
            model.save_pretrained(folder)
            processor.save_pretrained(folder)
            manifest = {"fingerprint": fingerprint, "settings": asdict(settings), "losses": losses}
            (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    with staged_folder(out, overwrite=True) as folder:
        shutil.copytree(cached, folder, dirs_exist_ok=True)
    return out


def train(
    model: Qwen2_5_VLForConditionalGeneration,
    processor: Qwen2_5_VLProcessor,
    dataset: Dataset,
    settings: WarmUp,
    *,
    progress: bool = True,
) -> list[float]:
    """Train `model` in place.

    Returns:
        The mean loss per response token of every step, in nats.
    """
    optimizers = _optimizers(model, settings)
    schedules = [
        get_cosine_schedule_with_warmup(optimizer, min(20, settings.steps), settings.steps + 1)
        for optimizer in optimizers
    ]
    examples = _examples(dataset, settings)
    losses: list[float] = []
    model.train()
    with _progress_bar(enabled=progress) as bar:
        task = bar.add_task("warm-up", total=settings.steps, loss="")
        for _ in range(settings.steps):
            batch = [next(examples) for _ in range(settings.batch_size)]
            loss = response_loss(model, processor, [prompt for prompt, _ in batch], [target for _, target in batch])
            model.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer, schedule in zip(optimizers, schedules, strict=True):
                optimizer.step()
                schedule.step()
            losses.append(round(loss.item(), 5))
            bar.update(task, advance=1, loss=f"loss {losses[-1]:.3f}")
    model.eval()
    return losses


def response_loss(
    model: Qwen2_5_VLForConditionalGeneration,
    processor: Qwen2_5_VLProcessor,
    prompts: list[Prompt],
    responses: list[str],
) -> torch.Tensor:
    """Mean cross-entropy per response token, the end token included.

    Prompts are padded on the left and responses on the right, as in generation and in GRPO.
    """
    inputs = processor.apply_chat_template(
        [with_images(to_messages(prompt.text, len(prompt.images)), prompt.images) for prompt in prompts],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        processor_kwargs={"padding": True, "padding_side": "left", "return_tensors": "pt"},
    )
    tokenizer = processor.tokenizer
    written = tokenizer(
        [response + tokenizer.eos_token for response in responses],
        padding=True,
        padding_side="right",
        return_tensors="pt",
    )
    ids, mask = written["input_ids"], written["attention_mask"]  # (batch, response length)
    inputs["input_ids"] = torch.cat([inputs["input_ids"], ids], dim=1)
    inputs["attention_mask"] = torch.cat([inputs["attention_mask"], mask], dim=1)
    inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(ids)], dim=1)
    logits = model(**inputs, logits_to_keep=ids.shape[1] + 1).logits[:, :-1]
    return functional.cross_entropy(logits.flatten(0, 1), ids.masked_fill(mask == 0, -100).flatten())


def response_text(question_type: str, answer: str) -> str:
    """The response that the warm-up teaches for an answer, right or wrong."""
    return f"<think>{reasoning(question_type, answer)}</think>\n\\boxed{{{answer}}}"


def check_built_in(dataset: Dataset) -> None:
    """Refuse a dataset the warm-up has no reasoning for.

    Raises:
        UserError: A column is missing, there is no row, or a question type is unknown.
    """
    if "question_type" not in dataset.column_names:
        raise UserError(
            "the warm-up teaches the built-in set only, whose column 'question_type' is missing here: make it with "
            "`r1sharevl prep synthetic`"
        )
    if len(dataset) == 0:
        raise UserError("the warm-up's dataset is empty: make it with `r1sharevl prep synthetic`")
    unknown = set(dataset["question_type"]) - set(QUESTION_TYPES)
    if unknown:
        raise UserError(
            f"the warm-up knows no question type {min(unknown)!r}: make the set anew with `r1sharevl prep synthetic`"
        )


def _optimizers(model: Qwen2_5_VLForConditionalGeneration, settings: WarmUp) -> list[torch.optim.Optimizer]:
    """Muon for the weight matrices inside the model, AdamW for the rest, as Muon's authors advise."""
    ends = {id(model.lm_head.weight), id(model.model.language_model.embed_tokens.weight)}
    inner = [weight for weight in model.parameters() if weight.ndim == 2 and id(weight) not in ends]
    chosen = {id(weight) for weight in inner}
    rest = [weight for weight in model.parameters() if id(weight) not in chosen]
    return [
        torch.optim.Muon(inner, lr=settings.matrix_learning_rate, weight_decay=0.0),
        torch.optim.AdamW(rest, lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def _examples(dataset: Dataset, settings: WarmUp) -> Iterator[tuple[Prompt, str]]:
    """Yield prompts as Share-GRPO will show them, with responses; every pass has another order and other prompts."""
    rng = random.Random(settings.seed)
    space = QuestionSpace(1, transform_probability=settings.transform_probability, seed=settings.seed)
    sure = round(settings.sure_share * settings.steps) * settings.batch_size
    given = 0
    passes = 0
    while True:
        for index in rng.sample(range(len(dataset)), len(dataset)):
            row = dataset[index]
            answer = row["answer"]
            if given >= sure and rng.random() < settings.mistake_rate:
                answer = rng.choice(QUESTION_TYPES[row["question_type"]].answers)
            (prompt,) = space.draw(row, step=passes)
            yield prompt, response_text(row["question_type"], answer)
            given += 1
        passes += 1


def _progress_bar(*, enabled: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[loss]}"))
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), disable=not enabled)


def _cache_folder(cache_dir: str | Path | None) -> Path:
    return cache_folder() / "warmup" if cache_dir is None else Path(cache_dir)


def _fingerprint(
    dataset: Dataset,
    settings: WarmUp,
    model: Qwen2_5_VLForConditionalGeneration,
    processor: Qwen2_5_VLProcessor,
) -> str:
    digest = hashlib.sha256()
    parts: list[Any] = [
        _RECIPE,
        asdict(settings),
        model.config.to_dict(),
        processor.tokenizer.backend_tokenizer.to_str(),
        processor.image_processor.to_dict(),
        *([list(dataset[name]) for name in ("id", "problem", "answer", "variants", "question_type")]),
    ]
    for part in parts:
        digest.update(json.dumps(part, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:20]


def _check_replaceable(out: Path) -> None:
    if (out / MANIFEST).exists() and _fingerprint_of(out) is None:
        raise UserError(f"{out}: exists and is no warm-up, so it is not replaced: choose another folder")


def _fingerprint_of(folder: Path) -> str | None:
    """The fingerprint of a finished warm-up, or None where there is none."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return None
    return manifest.get("fingerprint") if isinstance(manifest, dict) else None
