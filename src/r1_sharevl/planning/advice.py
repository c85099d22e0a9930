"""Which settings to change so that a run needs less memory, each tried out on the plan."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import UserError
from .plan import Plan, Planner
from .sharding import Sharding

Change = tuple[dict[str, Any], Sharding]

_PIXELS = (1048576, 802816, 602112, 401408, 262144)


@dataclass(frozen=True)
class Advice:
    """One change and what it does.

    Attributes:
        flags: The change as command-line words.
        peak: Bytes per GPU after it.
        fits: Whether it fits the card then; None without a card.
        effect: What it costs, in a few words.
    """

    flags: str
    peak: int
    fits: bool | None
    effect: str


def advise(planner: Planner, settings: Mapping[str, Any], plan: Plan) -> list[Advice]:
    """Try changes one at a time, and then all together, and return those that lower the peak.

    Args:
        planner: The run's planner.
        settings: The run's settings.
        plan: Their plan.

    Returns:
        Those that fit the card first, and the least costly first among them; then by how much they save. Without a
        card, the least costly first.
    """
    found: list[tuple[int, Advice]] = []
    for cost, (effect, variants) in enumerate(_knobs(settings, plan).items()):
        best: Advice | None = None
        for changes, sharding in variants:
            tried = _try(planner, settings, changes, sharding)
            if tried is None or tried.memory.peak >= plan.memory.peak * 0.99:
                continue
            if best is None or tried.memory.peak < best.peak:
                best = Advice(
                    _flags(changes, sharding, plan.sharding),
                    tried.memory.peak,
                    tried.fits,
                    "; ".join([effect, *_optimizer_step(plan, tried)]),
                )
            if tried.fits is not False:  # the mildest variant that is enough
                break
        if best is not None:
            found.append((cost, best))
    # A change that is enough by itself beats one that is not; of two that are not, the larger saving.
    found.sort(key=lambda entry: (entry[1].fits is False, entry[1].peak if entry[1].fits is False else entry[0]))
    advices = [advice for _, advice in found]
    if plan.fits is False and not any(advice.fits and not _takes_more_gpus(advice) for advice in advices):
        together = _together(planner, settings, plan)
        if together is not None:
            advices.insert(0, together)
    return advices


def faster(planner: Planner, settings: Mapping[str, Any], plan: Plan) -> Advice | None:
    """Look for the micro-batch that holds most pairs of a prompt together, and so computes its tokens least often.

    Args:
        planner: The run's planner.
        settings: The run's settings.
        plan: Their plan, which fits the card.

    Returns:
        The change, if it saves at least 5 % of the update's tokens and leaves 10 % of the card free, as the estimate
        has not been held against GPUs; None if there is none, the card is not known, or rows do not share prompts.
    """
    if plan.why_not_shared is not None or planner.card_bytes is None:
        return None
    batch, accumulation = plan.batch, settings.get("gradient_accumulation_steps", 1)
    tokens = plan.micro_batch.tokens * batch.micro_batches
    for size in range(batch.pairs_per_prompt, 0, -1):
        if batch.pairs_per_prompt % size or batch.micro_batch * accumulation % size:
            continue
        changes = {
            "per_device_train_batch_size": size,
            "gradient_accumulation_steps": batch.micro_batch * accumulation // size,
            "generation_batch_size": batch.pairs,
        }
        tried = _try(planner, settings, changes, plan.sharding)
        if tried is None or tried.memory.peak > 0.9 * planner.card_bytes:
            continue
        less = 1 - tried.micro_batch.tokens * tried.batch.micro_batches / tokens
        if less < 0.05:
            return None
        effect = f"same batches, {less:.0%} fewer tokens through the model: {size} pairs of a prompt share it"
        return Advice(_flags(changes, plan.sharding, plan.sharding), tried.memory.peak, tried.fits, effect)
    return None


def _takes_more_gpus(advice: Advice) -> bool:
    return "--num-processes" in advice.flags


def _together(planner: Planner, settings: Mapping[str, Any], plan: Plan) -> Advice | None:
    """Add up changes of settings, the least costly first, until the run fits; None if it never does."""
    changed: dict[str, Any] = {}
    current = plan
    for _ in range(4):  # a knob may help again once another has been turned
        before = current.memory.peak
        for variants in _knobs({**settings, **changed}, current).values():
            for changes, sharding in variants:
                if sharding != plan.sharding:
                    continue
                tried = _try(planner, {**settings, **changed}, changes, sharding)
                if tried is not None and tried.memory.peak < current.memory.peak * 0.99:
                    changed |= changes
                    current = tried
                if current.fits:
                    effect = "; ".join(
                        ["together", *_learning_rate(settings, changed), *_optimizer_step(plan, current)]
                    )
                    return Advice(_flags(changed, plan.sharding, plan.sharding), current.memory.peak, True, effect)
        if current.memory.peak == before:
            return None
    return None


def _try(planner: Planner, settings: Mapping[str, Any], changes: dict[str, Any], sharding: Sharding) -> Plan | None:
    try:
        return planner.plan_settings({**settings, **changes}, sharding)
    except UserError:
        return None  # not a valid run, so no advice


def _optimizer_step(before: Plan, after: Plan) -> list[str]:
    """Say so if a change of memory changes what is learnt from at once, too."""
    old, new = before.batch.questions_per_step, after.batch.questions_per_step
    return [] if old == new else [f"an optimizer step of {new:g} questions, not {old:g}"]


def _learning_rate(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> list[str]:
    if settings.get("use_peft") or not changes.get("use_peft"):
        return []
    return ["adapters want about ten times the learning rate (the recipes: 1e-5)"]


def _knobs(settings: Mapping[str, Any], plan: Plan) -> dict[str, Iterator[Change]]:
    """Effect -> variants, mildest first; in the order of what they cost."""
    here = plan.sharding
    adapters = {"use_peft": True, "dtype": "bfloat16"}
    adapters = {name: value for name, value in adapters.items() if settings.get(name) != value}
    return {
        "same result, slower": ((changes, here) for changes in _micro_batches(settings, plan)),
        "same result, about a third slower": (
            (changes, here)
            for changes in ([] if settings.get("gradient_checkpointing", True) else [{"gradient_checkpointing": True}])
        ),
        "frozen weights in 16 bits": (
            (changes, here)
            for changes in (
                [{"dtype": "bfloat16"}] if settings.get("use_peft") and settings.get("dtype") != "bfloat16" else []
            )
        ),
        "fewer questions per generation": ((changes, here) for changes in _generation_batches(settings, plan)),
        "less memory for vLLM's cache": ((changes, here) for changes in _vllm_shares(settings)),
        "smaller images": ((changes, here) for changes in _pixel_bounds(settings, plan)),
        "shorter responses": ((changes, here) for changes in _lengths(plan)),
        "8-bit optimizer state": (
            ({"optim": "adamw_8bit"}, here) for _ in range("8bit" not in str(settings.get("optim", "")))
        ),
        "; ".join(["adapters instead of all weights", *_learning_rate(settings, adapters)]): (
            (adapters, here) for _ in range(not settings.get("use_peft"))
        ),
        "; ".join(["frozen weights in 4 bits", *_learning_rate(settings, adapters)]): (
            (adapters | {"load_in_4bit": True}, here) for _ in range(not settings.get("load_in_4bit"))
        ),
        "over more GPUs": _more_gpus(settings, plan),
    }


def _micro_batches(settings: Mapping[str, Any], plan: Plan) -> Iterator[dict[str, Any]]:
    size, accumulation = plan.batch.micro_batch, settings.get("gradient_accumulation_steps", 1)
    factor = 2
    while size % factor == 0:
        yield {
            "per_device_train_batch_size": size // factor,
            "gradient_accumulation_steps": accumulation * factor,
            "generation_batch_size": plan.batch.pairs,
        }
        factor *= 2
    if size > 1 and size % 2:
        yield {
            "per_device_train_batch_size": 1,
            "gradient_accumulation_steps": accumulation * size,
            "generation_batch_size": plan.batch.pairs,
        }


def _generation_batches(settings: Mapping[str, Any], plan: Plan) -> Iterator[dict[str, Any]]:
    batch, before = plan.batch, settings.get("gradient_accumulation_steps", 1)
    rows = batch.pairs // batch.questions
    questions = batch.questions
    while questions > 1:
        questions //= 2
        pairs = questions * rows
        if pairs % (batch.micro_batch * batch.processes) == 0:
            micro_batches = pairs // (batch.micro_batch * batch.processes)
            changes = {"generation_batch_size": pairs}
            # The optimizer's batch stays as it is, as long as steps and generations end together.
            if before % micro_batches and micro_batches % before:
                changes["gradient_accumulation_steps"] = _nearest_in_step(before, micro_batches)
            yield changes


def _nearest_in_step(accumulation: int, micro_batches: int) -> int:
    """The multiple of `micro_batches`, or below them the divisor, that is nearest to `accumulation`."""
    if accumulation > micro_batches:
        return max(1, round(accumulation / micro_batches)) * micro_batches
    divisors = [size for size in range(1, micro_batches + 1) if micro_batches % size == 0]
    return min(divisors, key=lambda size: abs(size - accumulation))


def _vllm_shares(settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    share = settings.get("vllm_gpu_memory_utilization", 0.3)
    if settings.get("use_vllm") and settings.get("vllm_mode", "colocate") == "colocate":
        yield from ({"vllm_gpu_memory_utilization": lower} for lower in (0.4, 0.3, 0.2) if lower < share)


def _pixel_bounds(settings: Mapping[str, Any], plan: Plan) -> Iterator[dict[str, Any]]:
    if plan.prompt.images == 0:
        return
    now, least = settings.get("max_pixels"), settings.get("min_pixels") or 0
    for pixels in _PIXELS:
        if (now is None or pixels < now) and pixels >= least:
            yield {"max_pixels": pixels}


def _lengths(plan: Plan) -> Iterator[dict[str, Any]]:
    length = plan.completion_tokens // 2
    while length >= 256:
        yield {"max_completion_length": length}
        length //= 2


def _more_gpus(settings: Mapping[str, Any], plan: Plan) -> Iterator[Change]:
    here = plan.sharding
    quantised = settings.get("load_in_4bit") or settings.get("load_in_8bit")
    if quantised or here.kind in ("fsdp2", "zero3") or here.gpus == 1:
        counts = [here.gpus * times for times in (2, 4, 8, 16, 32) if here.gpus * times <= 32]
    else:
        counts = [here.gpus]
    # Quantised weights cannot be cut: more GPUs then share the responses only.
    kind = here.kind if here.kind in ("fsdp2", "zero2", "zero3") else "ddp" if quantised else "fsdp2"
    accumulation = settings.get("gradient_accumulation_steps", 1)
    for count in counts:
        times = count // here.gpus
        changes = {"generation_batch_size": plan.batch.pairs}
        if accumulation % times == 0:
            yield changes | {"gradient_accumulation_steps": accumulation // times}, Sharding(kind, count)


def _flags(changes: Mapping[str, Any], sharding: Sharding, before: Sharding) -> str:
    words = [f"--{name}" if value is True else f"--{name} {value}" for name, value in changes.items()]
    if sharding != before:
        words.insert(0, f"--accelerate {sharding.kind} --num-processes {sharding.gpus}")
    return " ".join(words)
