"""Generate responses. A backend turns prompts into responses; the transformers one runs on any torch device."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import GenerationConfig, TextStreamer

from ..errors import UserError
from ..models.checkpoints import vision_token_ids
from .loading import load_model


@dataclass(frozen=True)
class Sampling:
    """How responses are drawn.

    Attributes:
        max_new_tokens: Token limit of a response.
        temperature: Softmax temperature; 0 decodes greedily.
        top_p: Probability mass of the tokens that may be drawn.
    """

    max_new_tokens: int = 2048
    temperature: float = 1.0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UserError: A value is outside its range.
        """
        if self.max_new_tokens < 1:
            raise UserError(f"max_new_tokens is {self.max_new_tokens}: give at least 1")
        if self.temperature < 0:
            raise UserError(f"temperature is {self.temperature}: give 0 (greedy) or more")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p is {self.top_p}: give a number above 0, at most 1")


@dataclass(frozen=True)
class Response:
    """One generated response.

    Attributes:
        text: The response without special tokens.
        tokens: How many tokens were generated, the end token included.
        cut_off: Whether it reached the token limit before an end token.
    """

    text: str
    tokens: int
    cut_off: bool


class Backend(Protocol):
    """What generates responses for an evaluation."""

    def describe(self) -> dict[str, Any]:
        """Settings, as JSON values, that determine the responses; a resumed evaluation must have the same."""

    def generate(self, prompts: Sequence[list[dict[str, Any]]], seed: int) -> list[Response]:
        """Answer a batch of prompts.

        Args:
            prompts: Chat messages with the images in them (`r1_sharevl.prompts.with_images`).
            seed: Seed of the sampling: the same batch with the same seed gives the same responses.

        Returns:
            One response per prompt, in order.
        """


class TransformersBackend:
    """Generation with `transformers`, for a model, or a PEFT adapter on its base.

    The checkpoint's own generation config is used for its end and padding tokens only: sampling is what `sampling`
    says, as in training, and tokens that stand for pictures are never generated.
    """

    def __init__(
        self,
        model_path: str | Path,
        *,
        sampling: Sampling | None = None,
        base: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        """Load the model.

        Args:
            model_path: Folder of a model or of a PEFT adapter, or a Hub id.
            sampling: How responses are drawn.
            base: The adapter's base model, where it is not where the adapter says.
            device: `auto` (CUDA, else MPS, else CPU) or a torch device.
            dtype: `auto` (bfloat16 on CUDA, else float32), `bfloat16`, `float16` or `float32`.
            min_pixels: Images with fewer pixels are enlarged to it; None takes what is saved with the checkpoint.
            max_pixels: Images with more pixels are shrunk to it; None takes what is saved with the checkpoint.
            trust_remote_code: Run model code that comes with the checkpoint.

        Raises:
            UserError: The model cannot be loaded; the message says what is wrong with it.
        """
        self.sampling = sampling or Sampling()
        self._pixels = {"min_pixels": min_pixels, "max_pixels": max_pixels}
        loaded = load_model(
            model_path, base=base, device=device, dtype=dtype, trust_remote_code=trust_remote_code, **self._pixels
        )
        self.model, self.processor = loaded.model, loaded.processor
        self._fingerprint = loaded.fingerprint
        tokenizer = self.processor.tokenizer
        self._end_ids = end_token_ids(self.model.generation_config, tokenizer)
        pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self._end_ids[0]
        self.suppressed_ids = vision_token_ids(self.processor, self.model.config)
        self.model.generation_config = generation_config(self.sampling, self._end_ids, pad_id, self.suppressed_ids)

    def describe(self) -> dict[str, Any]:
        """Settings, as JSON values, that determine the responses."""
        return {
            "backend": "transformers",
            "model_fingerprint": self._fingerprint,
            "device": self.model.device.type,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            **asdict(self.sampling),
            **self._pixels,
        }

    def generate(
        self,
        prompts: Sequence[list[dict[str, Any]]],
        seed: int,
        on_text: Callable[[str], None] | None = None,
    ) -> list[Response]:
        """Answer a batch of prompts; the global random state is left as it was.

        Args:
            prompts: Chat messages with the images in them (`r1_sharevl.prompts.with_images`).
            seed: Seed of the sampling.
            on_text: Called with each new piece of the response, while it is written; for one prompt only.

        Returns:
            One response per prompt, in order.

        Raises:
            UserError: The batch does not fit into the accelerator's memory.
        """
        inputs = self.processor.apply_chat_template(
            list(prompts),
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            processor_kwargs={"padding": True, "padding_side": "left", "return_tensors": "pt"},
        ).to(self.model.device)
        streamer = None if on_text is None else _Streamer(self.processor.tokenizer, on_text)
        try:
            sequences = generate_seeded(self.model, inputs, seed, streamer=streamer)
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"out of memory with {len(prompts)} responses at once: use a smaller batch size (--batch-size)"
            ) from error
        return [cut_at_end(ids, self._end_ids, self.processor.tokenizer) for ids in sequences]


def generation_config(
    sampling: Sampling, end_ids: list[int], pad_id: int, suppressed_ids: list[int] | None = None
) -> GenerationConfig:
    """Make the generation config that draws as `sampling` says, whatever the checkpoint's own says.

    Args:
        sampling: How responses are drawn.
        end_ids: Tokens that end a response.
        pad_id: Token that fills up the shorter ones.
        suppressed_ids: Tokens that are never generated.
    """
    drawn = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
    return GenerationConfig(
        max_new_tokens=sampling.max_new_tokens,
        eos_token_id=end_ids,
        pad_token_id=pad_id,
        suppress_tokens=suppressed_ids or None,
        **({"do_sample": False} if sampling.temperature == 0 else drawn),
    )


def generate_seeded(model: Any, inputs: Any, seed: int, **settings: Any) -> list[list[int]]:
    """Generate from a batch of prompts; the global random state is left as it was.

    Args:
        model: The model, with its generation config.
        inputs: What its tokenizer or processor made of the prompts, padded on the left.
        seed: Seed of the sampling.
        settings: Further arguments of `model.generate`.

    Returns:
        The new token ids of each prompt, padded on the right.
    """
    cuda = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), torch.inference_mode():
        torch.manual_seed(seed)
        sequences = model.generate(**inputs, **settings)
    new_ids: list[list[int]] = sequences[:, inputs["input_ids"].shape[1] :].tolist()
    return new_ids


def cut_at_end(ids: list[int], end_ids: list[int], tokenizer: Any) -> Response:
    """Make a response of generated token ids, up to the first that ends it."""
    end = next((place for place, token_id in enumerate(ids) if token_id in end_ids), None)
    tokens = len(ids) if end is None else end + 1
    return Response(tokenizer.decode(ids[:tokens], skip_special_tokens=True).strip(), tokens, cut_off=end is None)


class _Streamer(TextStreamer):
    """transformers' streamer, which gives whole words; it calls a function where the original prints."""

    def __init__(self, tokenizer: Any, on_text: Callable[[str], None]) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._on_text = on_text

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        if text:
            self._on_text(text)


def end_token_ids(config: GenerationConfig, tokenizer: Any) -> list[int]:
    """Find the tokens that end a response: the generation config's and the tokenizer's.

    Raises:
        UserError: There is none.
    """
    configured = config.eos_token_id
    listed = configured if isinstance(configured, list) else [configured]
    found = {token_id for token_id in [*listed, tokenizer.eos_token_id] if token_id is not None}
    if not found:
        raise UserError("the model has no end-of-text token, neither in generation_config.json nor in its tokenizer")
    return sorted(found)
