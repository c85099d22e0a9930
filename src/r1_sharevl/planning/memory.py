"""Memory of one GPU, by part and phase.

A run has two phases that peak apart: `generate` (sampling the responses) and `update` (scoring, backward passes and
optimizer steps). Every part's formula names its source. Where a library's default decides, it is that of TRL 1.16,
transformers 5.23, accelerate 1.15 and torch 2.15.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from trl import ModelConfig

from ..config import ShareGRPOConfig
from .activations import (
    LANGUAGE_LINEARS,
    LoraCost,
    Precision,
    decoder_backward,
    decoder_layer,
    decoder_working_set,
    two_part_attention,
    two_part_working_set,
    vision_block,
    vision_working_set,
)
from .batch import BatchPlan
from .counting import ParameterCount
from .pass_size import PassSize, pass_size
from .prompt_size import PromptSize
from .shapes import LanguageShape, VisionShape
from .sharding import Sharding

GIB = 2**30

CONTEXT_BYTES = int(0.6 * GIB)
"""Allowance for the CUDA context, cuBLAS workspaces and NCCL. Not measured yet."""

_MUCH_HOST_MEMORY = 16 * GIB

FRAGMENTATION = 0.05
"""Allowance for the caching allocator, as a share of what is allocated. Not measured yet."""

# trl/kernels/chunked_logprob.py: TOKEN_CHUNK_SIZE, and _CHUNKED_LOGPROB_CHUNK_SIZE in trl/trainer/utils.py.
_LOGIT_TILE_TOKENS, _LOGIT_TILE_WORDS = 4096, 32768
# deepspeed/runtime/zero/config.py: reduce_bucket_size and allgather_bucket_size; stage3_max_live_parameters.
_ZERO_BUCKET, _ZERO3_LIVE = 5 * 10**8, 10**9
# bitsandbytes/optim/optimizer.py: tensors with fewer elements keep a 32-bit state; one float32 scale per 256 numbers.
_BNB_MIN_8BIT, _BNB_BLOCK = 4096, 256


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes on one GPU.

    Attributes:
        generate: Part -> bytes while responses are sampled.
        update: Part -> bytes while the model is trained.
        notes: What the numbers leave out or take for granted.
    """

    generate: dict[str, int]
    update: dict[str, int]
    notes: tuple[str, ...] = field(default_factory=tuple)

    @property
    def allocated(self) -> dict[str, int]:
        """Phase -> bytes that the program allocates: what `torch.cuda.max_memory_allocated` shows, and vLLM's share."""
        return {"generate": sum(self.generate.values()), "update": sum(self.update.values())}

    @property
    def peak(self) -> int:
        """The larger phase with the allowances: what the card must have."""
        return int(max(self.allocated.values()) * (1 + FRAGMENTATION)) + CONTEXT_BYTES

    @property
    def peak_phase(self) -> str:
        """ "generate" or "update"."""
        return max(self.allocated, key=lambda phase: self.allocated[phase])


@dataclass(frozen=True)
class Workload:
    """All that decides memory beside the model itself.

    Attributes:
        args, model_args: The run's settings.
        train_vision: Whether the vision tower is trained; None trains it in full fine-tuning only.
        batch: The run's batches.
        prompt: Its prompts.
        sharding: How the model is spread over GPUs.
        hidden_size: Of the decoder.
        card_bytes: Memory of the card, or None.
        shares: Whether rows of the same prompt share its tokens and images.
    """

    args: ShareGRPOConfig
    model_args: ModelConfig
    train_vision: bool | None
    batch: BatchPlan
    prompt: PromptSize
    sharding: Sharding
    hidden_size: int
    card_bytes: int | None = None
    shares: bool = False

    @property
    def micro_batch(self) -> PassSize:
        """One pass through the model."""
        flash = "flash" in (self.model_args.attn_implementation or "")
        return pass_size(
            self.batch,
            self.prompt,
            self.args,
            shares=self.shares,
            needs_mask=not flash,
            hidden_size=self.hidden_size,
        )

    @property
    def images_per_process(self) -> int:
        """Images of a generation batch that a process holds, each as often as it is there, at most."""
        batch = self.batch
        if not self.shares:
            return batch.pairs_per_process * self.prompt.images
        # A transform makes an image of its own; the prompts of a question show the same one otherwise.
        same = 1 if self.args.transform_probability > 0 else self.args.num_variants
        return -(-batch.prompts_per_process // same) * self.prompt.images


def estimate_memory(
    count: ParameterCount, language: LanguageShape, vision: VisionShape | None, work: Workload
) -> MemoryEstimate:
    """Estimate the memory of one GPU.

    Args:
        count: The model's parameters as the trainer would hold them.
        language, vision: Its sizes.
        work: The run.
    """
    args, batch, prompt = work.args, work.batch, work.prompt
    precision = precision_of(work.args, work.model_args)
    held = model_states(count, work)
    gradients = held.pop("gradients")
    # Generation starts between two optimizer steps, where gradients are None, unless the two do not divide.
    if args.steps_per_generation * args.num_iterations % args.gradient_accumulation_steps:
        held["gradients"] = gradients
    micro_batch = work.micro_batch
    images = work.images_per_process * prompt.image.pixel_bytes
    # grpo_trainer.py, `_generate_and_score_completions`: the images of all rows are on the device to be scored; after
    # that our trainer keeps them in host memory. Where rows share them, each pass fetches its own from there.
    moments = [{**held, "images": micro_batch.pixel_bytes if work.shares else images}]
    scoring = moments[0]
    if _scores_old(args):
        scoring["activations"] = _scoring_working_set(language, vision, precision, work)
        if work.sharding.kind in ("fsdp2", "zero3"):
            scoring["gathered weights"] = _gathered(count, precision, work.sharding)
    if args.use_vllm:
        moments.append(held | _vllm(args, work.card_bytes))
        if not args.vllm_enable_sleep_mode:
            scoring |= _vllm(args, work.card_bytes)
    else:
        moments += [held | moment for moment in _sampling(count, language, vision, precision, work)]
    generate = max(moments, key=lambda parts: sum(parts.values()))
    update = dict(held)
    update["gradients"] = gradients
    update["images"] = micro_batch.pixel_bytes
    update |= _update(count, language, vision, precision, work)
    if not args.vllm_enable_sleep_mode:
        update |= _vllm(args, work.card_bytes)  # it keeps its share while the model is trained
    notes = []
    if args.beta != 0.0 and not work.model_args.use_peft:
        # grpo_trainer.py: without adapters to switch off, a second model of the same dtype is loaded.
        reference = count.bytes_of(adapter=False) // _parameter_shards(work.sharding)
        generate["reference model"] = update["reference model"] = reference
    if images * batch.processes > _MUCH_HOST_MEMORY:
        notes.append(
            f"in host memory, the images of a generation batch take up to {images / GIB:.1f} GiB per process, "
            f"{images * batch.processes / GIB:.0f} GiB for all {batch.processes}"
        )
    if args.optim.value.startswith("paged"):
        notes.append("paged optimizer state moves to host memory when the GPU is full: it is not counted")
    if work.sharding.gpus > 1 and any(one.dtype == torch.uint8 for one in count.parameters):
        notes.append("4-bit weights are not sharded: every GPU holds all of them")
    return MemoryEstimate(
        {part: int(size) for part, size in generate.items() if size},
        {part: int(size) for part, size in update.items() if size},
        tuple(notes),
    )


def precision_of(args: ShareGRPOConfig, model_args: ModelConfig) -> Precision:
    """Return the bytes per number of weights and of matrix products."""
    stored = 2 if model_args.dtype in ("bfloat16", "float16", "auto") else 4
    return Precision(stored, 2 if args.bf16 or args.fp16 else stored)


def kv_cache_bytes(language: LanguageShape, precision: Precision, rows: int, tokens: int) -> int:
    """Bytes of the cache when every row has all its tokens (transformers' `DynamicCache`).

    Keys have the residual stream's dtype, as the rotary embedding multiplies them by cosines of that dtype, and the
    cache holds values in the dtype of the keys. One layer is there twice while a token is appended (`torch.cat`).
    """
    per_token = 2 * language.kv_heads * language.head_dim * max(precision.stored, precision.compute)
    return (language.layers + 1) * per_token * rows * tokens


def model_states(count: ParameterCount, work: Workload) -> dict[str, int]:
    """Bytes of weights, adapters, gradients and optimizer state on one GPU."""
    kind, gpus = work.sharding.kind, work.sharding.gpus
    weights = adapters = gradients = optimizer = 0.0
    for one in count.parameters:
        shards = gpus if kind in ("fsdp2", "zero3") and not one.quantised else 1
        size: float = one.bytes
        grad: float = one.bytes if one.trainable else 0
        state: float = 0
        if one.trainable:
            state = optimizer_bytes(work.args.optim.value, one.elements, one.dtype)
            if kind == "fsdp2":
                # accelerate/utils/fsdp_utils.py, `fsdp2_prepare_model`: trainable parameters become float32.
                size, grad = 4 * one.elements, 4 * one.elements
                state = optimizer_bytes(work.args.optim.value, one.elements, torch.float32)
            elif kind.startswith("zero") and (work.args.bf16 or work.args.fp16):
                # DeepSpeed's 16-bit optimizers: 16-bit parameters and gradients; a float32 copy beside the state.
                size, grad = 2 * one.elements, 2 * one.elements
                state = optimizer_bytes(work.args.optim.value, one.elements, torch.float32) + 4 * one.elements
        elif kind.startswith("zero") and not one.quantised and (work.args.bf16 or work.args.fp16):
            size = 2 * one.elements
        if kind in ("fsdp2", "zero2", "zero3"):
            grad, state = grad / gpus, state / gpus
        elif kind == "ddp":
            grad *= 2  # torch's DistributedDataParallel: the buckets are copies unless gradient_as_bucket_view is set
        if work.sharding.offload_optimizer:
            state = 0
        size = 0 if work.sharding.offload_parameters and not one.quantised else size / shards
        weights, adapters = weights + size * (not one.adapter), adapters + size * one.adapter
        gradients, optimizer = gradients + grad, optimizer + state
    if kind.startswith("zero"):
        gradients += 2 * min(_ZERO_BUCKET, count.trainable)  # one bucket is being reduced
    return {
        "weights": int(weights),
        "adapters": int(adapters),
        "gradients": int(gradients),
        "optimizer state": int(optimizer),
    }


def optimizer_bytes(name: str, elements: int, dtype: torch.dtype) -> float:
    """Bytes of one parameter's state.

    Args:
        name: Transformers' `optim`.
        elements: Of the parameter.
        dtype: Of the parameter; AdamW keeps its two moments in it, bfloat16 included.
    """
    if name.startswith("paged"):
        return 0
    if "8bit" in name:
        if elements < _BNB_MIN_8BIT:
            return 8 * elements
        return 2 * (elements + 4 * -(-elements // _BNB_BLOCK))
    if name.startswith("sgd"):
        return 0
    if name == "adafactor":
        return 4 * 2 * elements**0.5  # one row and one column of a matrix
    if "4bit" in name:
        return elements
    return 2 * elements * torch.empty((), dtype=dtype).element_size()


def lora_cost(work: Workload) -> LoraCost | None:
    """Return what the run's adapters cost, or None for full fine-tuning."""
    model_args = work.model_args
    if not model_args.use_peft:
        return None
    targets: tuple[str, ...] = LANGUAGE_LINEARS
    if model_args.lora_target_modules is not None:
        named = [linear for linear in LANGUAGE_LINEARS if any(linear in one for one in model_args.lora_target_modules)]
        targets = tuple(named) or LANGUAGE_LINEARS
    # peft keeps adapters in float32, and the trainer those of a quantised model, too.
    return LoraCost(model_args.lora_r, 4, model_args.lora_dropout > 0, targets)


def _update(
    count: ParameterCount,
    language: LanguageShape,
    vision: VisionShape | None,
    precision: Precision,
    work: Workload,
) -> dict[str, int]:
    """Activations, logits and temporary copies of one micro-batch's forward and backward pass."""
    args, size = work.args, work.micro_batch
    full = not work.model_args.use_peft
    lora = lora_cost(work)
    layer = decoder_layer(language, precision, trained=full, lora=lora, padded_to=size.padded_to) * size.tokens
    if size.is_packed:
        layer += two_part_attention(language, precision, **_packed(size, precision))
    backward = decoder_backward(language, precision) * size.tokens
    block = blocks = 0.0
    vision_trained = False
    if vision is not None:
        block = vision_block(vision, precision) * size.patches
        # A frozen tower keeps nothing: training.py lets gradients end at the text embeddings.
        vision_trained = any(one.trainable and one.part == "vision" for one in count.parameters)
        if vision_trained:
            blocks = vision.layers * (
                precision.stored * vision.hidden * size.patches if args.gradient_checkpointing else block
            )
    # The boolean mask of padded rows, once for all layers.
    mask = size.padded_to and size.tokens * size.padded_to
    # Rotary tables, embeddings, final norm: input, float32 copy, output.
    ends = size.tokens * (language.hidden * (2 * precision.stored + 4) + 2 * 4 * language.head_dim)
    if args.gradient_checkpointing:
        # Every layer keeps its input; one layer at a time is run again with all it keeps.
        inputs = language.layers * precision.stored * language.hidden * size.tokens
        tower = 0.0 if vision is None else vision_working_set(vision, precision) * size.patches
        live = max(layer + backward, (block if vision_trained else 0) + tower)
        activations = inputs + blocks + live
    else:
        activations = language.layers * layer + backward + blocks
        if vision is not None and not vision_trained:
            # Frozen: the tower runs before the language model keeps anything.
            activations = max(activations, vision_working_set(vision, precision) * size.patches)
    parts = {"activations": int(activations + ends + mask), "logits": logits_bytes(count, language, precision, work)}
    copies = autocast_copies(count, precision, work)
    if work.sharding.kind in ("fsdp2", "zero3"):
        parts["gathered weights"] = _gathered(count, precision, work.sharding)
    elif work.sharding.kind != "zero2":  # these three hold 16-bit weights to compute with
        parts["cast weights"] = copies
    return parts


def logits_bytes(count: ParameterCount, language: LanguageShape, precision: Precision, work: Workload) -> int:
    """Bytes of TRL's fused head, which never makes the whole `(tokens, vocabulary)` matrix.

    trl/kernels/chunked_logprob.py: one tile of it; the gathered hidden states and their float32 gradient; and, if the
    head is trained, a float32 gradient of its weight, which is cast to the weight's dtype.
    """
    scored = work.micro_batch.scored
    tile = min(scored, _LOGIT_TILE_TOKENS) * _LOGIT_TILE_WORDS * precision.compute
    hidden = scored * language.hidden * (precision.stored + 4)
    head_trained = any(one.trainable and one.part == "embeddings" for one in count.parameters)
    weight = 4 * language.vocabulary * language.hidden if head_trained else 0
    return tile + hidden + weight


def autocast_copies(count: ParameterCount, precision: Precision, work: Workload) -> int:
    """Bytes of 16-bit copies of float32 weights under autocast.

    torch keeps the copies of leaves that require gradients until autocast ends; those of frozen weights are kept as
    long as a layer's saved tensors are, which is all layers without checkpointing and one with it.
    """
    if precision.stored == precision.compute:
        adapters = count.trainable if work.model_args.use_peft else 0  # float32 beside 16-bit weights
        return adapters * precision.compute
    copied = 0
    for one in count.parameters:
        if one.quantised or one.part == "embeddings":
            continue
        if one.trainable or not work.args.gradient_checkpointing:
            copied += one.elements
    if work.args.gradient_checkpointing and work.model_args.use_peft:
        copied += count.largest_layer(1)
    return copied * precision.compute


def _sampling(
    count: ParameterCount,
    language: LanguageShape,
    vision: VisionShape | None,
    precision: Precision,
    work: Workload,
) -> list[dict[str, int]]:
    """What transformers needs to sample responses, at its two moments: prompts going in, and the last tokens."""
    prompt, rows = work.prompt, work.batch.responses_per_process
    # Rows that share prompts: each goes in once, behind the others without padding, and its cache is repeated for its
    # responses (rollouts/prefill.py). Otherwise TRL's `generate` holds the images of all rows until it ends.
    prompts = work.batch.prompts_per_process if work.shares else rows
    images = work.images_per_process if work.shares else rows * prompt.images
    prefill = prompts * prompt.tokens * decoder_working_set(language, precision)
    if not work.shares and "flash" not in (work.model_args.attn_implementation or "") and rows > 1:
        prefill += prompts * prompt.tokens**2 * (1 + precision.compute)  # the mask, boolean and float
    tower = 0.0
    if vision is not None:
        tower = images * prompt.image.patches * vision_working_set(vision, precision)
        prefill += prompts * prompt.images * prompt.image.tokens * language.hidden * precision.stored  # their features
    # transformers/generation: the scores in float32, and per processor a copy; top-p sorts them (values, int64 indices)
    # and sums up the sorted probabilities.
    per_word = 4 * 4 + (20 if work.args.top_p < 1 else 0) + precision.compute
    pixels = {"images": images * prompt.image.pixel_bytes}
    both = {}
    if work.sharding.kind == "zero3" and work.args.ds3_gather_for_generation:
        # trl/models/utils.py: all parameters are gathered for generation.
        both["gathered weights"] = count.total * precision.compute
    elif work.sharding.kind == "fsdp2":
        both["gathered weights"] = _fsdp_gathered(count, precision)
    tokens = prompt.tokens + work.args.max_completion_length
    return [
        {
            **both,
            **pixels,
            "kv cache": kv_cache_bytes(language, precision, prompts, prompt.tokens),
            "activations": int(max(prefill, tower)),
        },
        {
            **both,
            **({} if work.shares else pixels),
            "kv cache": kv_cache_bytes(language, precision, rows, tokens),
            "logits": rows * language.vocabulary * per_word,
        },
    ]


def _vllm(args: ShareGRPOConfig, card_bytes: int | None) -> dict[str, int]:
    if not args.use_vllm or args.vllm_mode != "colocate" or card_bytes is None:
        return {}
    return {"vllm": int(args.vllm_gpu_memory_utilization * card_bytes)}


def _scores_old(args: ShareGRPOConfig) -> bool:
    """Whether the batch goes through the model once more for old log-probabilities (grpo_trainer.py) or a reference."""
    every = args.steps_per_generation * args.num_iterations
    corrected = args.use_vllm and args.vllm_importance_sampling_correction
    return bool(args.gradient_accumulation_steps % every or corrected or args.beta != 0.0)


def _scoring_working_set(
    language: LanguageShape, vision: VisionShape | None, precision: Precision, work: Workload
) -> int:
    """A micro-batch's forward pass without gradients, with one tile of logits."""
    size = work.micro_batch
    layer = decoder_working_set(language, precision) * size.tokens
    if size.is_packed:
        attention = two_part_working_set(language, precision, **_packed(size, precision))
        layer = max(layer, attention)
    text = layer + size.tokens * 4 * language.hidden
    tower = 0.0 if vision is None else size.patches * vision_working_set(vision, precision)
    tile = min(size.scored, _LOGIT_TILE_TOKENS) * _LOGIT_TILE_WORDS * precision.compute
    return int(max(text, tower) + tile)


def _packed(size: PassSize, precision: Precision) -> dict[str, Any]:
    # On a GPU only flash attention takes grouped heads, and flash computes in 16 bits only.
    return {"tokens": size.tokens, "scored": size.scored, "seen": size.seen, "grouped": precision.compute == 2}


def _gathered(count: ParameterCount, precision: Precision, sharding: Sharding) -> int:
    if sharding.kind == "fsdp2":
        return _fsdp_gathered(count, precision)
    return min(_ZERO3_LIVE, count.total) * precision.compute


def _fsdp_gathered(count: ParameterCount, precision: Precision) -> int:
    # FSDP2 gathers one layer while the next is fetched; what is in no layer is gathered as one more.
    return 2 * count.largest_layer(precision.compute) + count.outside_layers(precision.compute)


def _parameter_shards(sharding: Sharding) -> int:
    return sharding.gpus if sharding.kind in ("fsdp2", "zero3") else 1
