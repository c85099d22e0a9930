"""Batches of prompts and responses, and the passes that must agree on them: rows together, one at a time, packed."""

import contextlib
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)
from trl.trainer.utils import add_fused_lm_head

from r1_sharevl.rollouts.tokens import prepare_images
from r1_sharevl.shared_prefix.attention import two_part_attention_in
from r1_sharevl.shared_prefix.forward import pack_rows, packed_log_probs
from r1_sharevl.shared_prefix.images import PreparedImages, no_images
from r1_sharevl.shared_prefix.support import SharedModel

sys.path.insert(0, str(Path(__file__).parent.parent / "models"))
from families import FAMILIES, TEXT

# Float32 noise, as measured between rows in one batch and rows one at a time, and a margin.
LOG_PROB = 1e-5
ENTROPY = 1e-5
GRADIENT = 1e-5
"""Of the largest gradient."""

CPU = torch.device("cpu")
WORDS = 256  # ids below are bytes of text in every tokenizer here
TEXT_CONFIGS = {
    "qwen2": Qwen2Config(**TEXT, vocab_size=300),
    "qwen3": Qwen3Config(**TEXT, vocab_size=300, tie_word_embeddings=True),
    "llama": LlamaConfig(**TEXT, vocab_size=300),
    "mistral": MistralConfig(**TEXT, vocab_size=300, sliding_window=None),
}


def build(config, **settings):
    """A model in training mode with TRL's head, whose weights are large enough that every image and token matters."""
    auto = AutoModelForCausalLM if config.model_type in TEXT_CONFIGS else AutoModelForImageTextToText
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = auto.from_config(config, **settings)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return with_head(model)


def with_head(model):
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    return model.train()


def family(name, **settings):
    """A family's tiny model and its processor, or None for a decoder without images."""
    if name in TEXT_CONFIGS:
        return build(TEXT_CONFIGS[name], **settings), None
    config, processor = FAMILIES[name]()
    return build(config, **settings), processor


@dataclass(frozen=True)
class Batch:
    """Padded rows as TRL makes them: prompts on the left, completions on the right."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    completion_length: int
    image_index: torch.Tensor
    images: PreparedImages

    def __len__(self):
        return len(self.input_ids)

    @property
    def width(self):
        """Of the prompts."""
        return self.input_ids.shape[1] - self.completion_length

    @property
    def completion_mask(self):
        return self.attention_mask[:, self.width :].bool()

    def rows(self, chosen):
        return replace(
            self,
            input_ids=self.input_ids[chosen],
            attention_mask=self.attention_mask[chosen],
            image_index=self.image_index[chosen],
        )

    def trimmed(self):
        """Without the columns that no row uses."""
        prompts, completions = self.attention_mask[:, : self.width], self.attention_mask[:, self.width :]
        left = self.width - int(prompts.sum(1).max())
        length = max(1, int(completions.sum(1).max()))
        return replace(
            self,
            input_ids=self.input_ids[:, left : self.width + length],
            attention_mask=self.attention_mask[:, left : self.width + length],
            completion_length=length,
        )


def batch_of(prompts, rows, images=None, *, seed=0, padding=0, completion_length=None):
    """Make a batch.

    Args:
        prompts: Token ids and images' indices of each distinct prompt.
        rows: A prompt's number and a completion's length for each row.
        images: What the indices point at.
        padding: Columns on the left that no prompt uses.
        completion_length: Columns for completions; as many as the longest has if None.
    """
    generator = torch.Generator().manual_seed(seed)
    width = padding + max((len(ids) for ids, _ in prompts), default=0)
    length = completion_length or max((count for _, count in rows), default=1) or 1
    ids = torch.zeros(len(rows), width + length, dtype=torch.long)
    mask = torch.zeros_like(ids)
    index = torch.full((len(rows), max((len(shown) for _, shown in prompts), default=0)), -1)
    for row, (number, count) in enumerate(rows):
        prompt, shown = prompts[number]
        ids[row, width - len(prompt) : width] = torch.as_tensor(prompt)
        ids[row, width : width + count] = torch.randint(0, WORDS, (count,), generator=generator)
        mask[row, width - len(prompt) : width + count] = 1
        index[row, : len(shown)] = torch.tensor(shown, dtype=torch.long)
    return Batch(ids, mask, length, index, no_images() if images is None else images)


def pictures(*sizes):
    generator = np.random.default_rng(0)
    return [Image.fromarray(generator.integers(0, 255, (*size, 3), dtype=np.uint8)) for size in sizes]


def mixed_batch(processor):
    """Everything at once: rows of a prompt apart, uneven and empty responses, one response, one token, and images
    that several prompts show: alone, in two orders, and not at all. Prompts 0 and 2 differ in their image only.
    """
    rows = [
        (0, 7),
        (1, 3),
        (2, 5),
        (3, 6),
        (0, 2),
        (4, 4),
        (1, 0),
        (5, 5),
        (0, 1),
        (2, 7),
        (3, 0),
        (1, 6),
        (6, 3),
        (6, 0),
    ]
    if processor is None:
        generator = torch.Generator().manual_seed(1)
        prompts = [(torch.randint(0, WORDS, (size,), generator=generator), []) for size in (5, 9, 14, 2, 1, 11, 7)]
        return batch_of(prompts, rows)
    shown = pictures((60, 90), (110, 60), (60, 90))
    asked = [
        ("How many dots?", [0]),
        ("Count the dots, please.", [0]),
        ("How many dots?", [2]),
        ("Which has more?", [1, 0]),
        ("Which has more?", [0, 1]),
        ("2+2?", []),
    ]
    prompts = [(tokens_of(processor, text, [shown[index] for index in own]), own) for text, own in asked]
    return batch_of([*prompts, ([5], [])], rows, prepare_images(processor, shown))


def tokens_of(processor, text, shown):
    parts = [*({"type": "image"} for _ in shown), {"type": "text", "text": text}]
    asked = processor.apply_chat_template([{"role": "user", "content": parts}], add_generation_prompt=True)
    return processor(text=[asked], images=shown or None)["input_ids"][0]


def by_rows(model, batch):
    """Log-probabilities and entropies of ordinary rows, as TRL computes them; shape `(B, C)` each."""
    labels = batch.input_ids.masked_fill(batch.attention_mask == 0, -100)
    labels[:, : batch.width] = -100
    fields = {}
    shown = [index for row in batch.image_index.tolist() for index in row if index >= 0]
    if shown:
        kinds = (batch.input_ids == model.config.image_token_id).int()
        fields = {**batch.images.fields(shown, CPU), "mm_token_type_ids": kinds}
    found = model(
        input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=labels, fused_lm_head=True, **fields
    )
    return found.log_probs[:, -batch.completion_length :], found.entropy[:, -batch.completion_length :]


def one_by_one(model, batch):
    """The same without any padding and without company: what remains is the noise of float32."""
    found = []
    for row in range(len(batch)):
        alone = batch.rows([row]).trimmed()
        missing = batch.completion_length - alone.completion_length
        found.append([torch.nn.functional.pad(values, (0, missing)) for values in by_rows(model, alone)])
    return tuple(torch.cat(values) for values in zip(*found, strict=True))


def packing_of(model, batch):
    return pack_rows(
        SharedModel(model),
        batch.input_ids,
        batch.attention_mask,
        batch.completion_length,
        batch.image_index,
        batch.images,
    )


@contextlib.contextmanager
def attention_for_packed_rows(model, *, dense=False):
    """Must last until the backward pass is over if the model checkpoints gradients."""
    with contextlib.nullcontext() if dense else two_part_attention_in(SharedModel(model).decoder):
        yield


def packed(model, batch, *, dense=False, change=lambda packing: packing):
    """The pass over packed rows; `change` is what a control does to the packing."""
    with attention_for_packed_rows(model, dense=dense):
        return packed_pass(model, batch, dense=dense, change=change)


def packed_pass(model, batch, *, dense=False, change=lambda packing: packing):
    return packed_log_probs(
        SharedModel(model),
        change(packing_of(model, batch)),
        batch.image_index,
        batch.images,
        forward=model,
        device=CPU,
        dense=dense,
    )


def gradients(model, log_probs):
    """Of a loss that weighs every token differently."""
    weights = torch.randn(log_probs.shape, generator=torch.Generator().manual_seed(2))
    model.zero_grad()
    (log_probs.float() * weights).sum().backward()
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


@dataclass(frozen=True)
class Difference:
    """Largest absolute ones; the gradient's is relative to the largest gradient."""

    log_prob: float
    entropy: float
    gradient: float

    @property
    def is_noise(self):
        return self.log_prob <= LOG_PROB and self.entropy <= ENTROPY and self.gradient <= GRADIENT


def outcome(model, run, batch, **settings):
    """Log-probabilities, entropies and gradients of a pass."""
    log_probs, entropies = run(model, batch, **settings)
    return log_probs.detach(), entropies.detach(), gradients(model, log_probs)


def difference(found, expected):
    assert found[2].keys() == expected[2].keys()
    largest = max(value.abs().max() for value in expected[2].values())
    worst = max((found[2][name] - value).abs().max() for name, value in expected[2].items())
    return Difference(
        (found[0] - expected[0]).abs().max().item(),
        (found[1] - expected[1]).abs().max().item(),
        (worst / largest).item(),
    )
