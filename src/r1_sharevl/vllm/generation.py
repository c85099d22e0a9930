"""TRL's vLLM backend, given the prompts, settings and checks that Share-GRPO needs."""

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, is_peft_model
from trl.distributed import DistributedBackend
from trl.generation import vllm_generation
from trl.generation.vllm_generation import VLLMGeneration
from trl.trainer import grpo_trainer

from ..errors import RunError, UserError
from ..models.checkpoints import vision_token_ids
from .merged_weights import check_mergeable, merged_parameters
from .prompts import Messages, check_expansion, pixel_bounds, place_images, runs_of, server_mismatch, unexpanded_ids

NEVER = -100.0
"""Bias of a token that is never sampled: a logit lower by 100 is a probability of e^-100."""


@contextmanager
def share_grpo_generation(engine_kwargs: dict[str, Any] | None) -> Iterator[None]:
    """Let `GRPOTrainer.__init__` build our backend, in the place where it builds its own.

    Args:
        engine_kwargs: Settings of vLLM's engine in colocate mode that TRL has no argument for.
    """
    original = grpo_trainer.VLLMGeneration
    grpo_trainer.VLLMGeneration = functools.partial(ShareVLLMGeneration, engine_kwargs=engine_kwargs)
    try:
        yield
    finally:
        grpo_trainer.VLLMGeneration = original


class ShareVLLMGeneration(VLLMGeneration):
    """
    Generation by vLLM for [`ShareGRPOTrainer`], in both of TRL's modes.

    - Colocate: vLLM gets prompts with one mark per image instead of ids whose image tokens it would expand again, the
      pixel bounds of the trainer's processor, and each distinct prompt once. What it made of the prompts is compared
      with what the trainer has. At temperature 1 it reports log-probabilities from before `top_p` and biases.
    - Server: an image's tokens are placed also where images stand side by side, and their numbers are compared with
      those in the trainer's ids.
    - Both: tokens that stand for images are never sampled, and vLLM gets merged LoRA weights without the frozen base
      being touched.

    Args:
        engine_kwargs: Settings of vLLM's engine, in colocate mode; they win over TRL's.
        kwargs: As [`~trl.generation.vllm_generation.VLLMGeneration`] takes them.

    Raises:
        UserError: vLLM's engine does not start with these settings, its server does not answer, or the model's
            adapters cannot be merged for it.
    """

    def __init__(self, *, engine_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if is_peft_model(kwargs["model"]):
            backend = DistributedBackend(kwargs["accelerator"])
            check_mergeable(kwargs["model"], sharded=backend.is_fsdp or backend.is_zero3)
        processor = kwargs["processing_class"]
        self.is_multimodal = hasattr(processor, "tokenizer")
        self.bounds = pixel_bounds(processor)
        self.engine_kwargs: dict[str, Any] = {}
        if self.bounds:
            self.engine_kwargs["mm_processor_kwargs"] = dict(self.bounds)
        if kwargs["temperature"] == 1.0:
            # The trainer's log-probabilities know of no top_p and no logit bias. With vLLM's processed ones the pair of
            # a response and its own prompt would weigh less than its shared pairs: 0.99 per token is soon nothing.
            self.engine_kwargs["logprobs_mode"] = "raw_logprobs"
        self.engine_kwargs.update(engine_kwargs or {})
        self.generation_kwargs: dict[str, Any] = {}
        self._unexpanded: list[list[int]] | None = None
        super().__init__(**kwargs)
        if self.is_multimodal:
            never = dict.fromkeys(vision_token_ids(processor, self.model.config), NEVER)
            given = self.generation_kwargs
            self.generation_kwargs = {**given, "logit_bias": {**(given.get("logit_bias") or {}), **never}}

    def _init_vllm(self) -> None:
        engine = getattr(vllm_generation, "LLM", None)  # TRL imports it only where vLLM is installed
        vllm_generation.LLM = lambda **settings: _EachPromptOnce(engine(**{**settings, **self.engine_kwargs}))  # type: ignore[misc]
        try:
            super()._init_vllm()
        except torch.OutOfMemoryError:
            raise
        except (OSError, ValueError, RuntimeError, TypeError, ImportError, AssertionError) as error:
            if self.mode != "server" or not isinstance(error, OSError):  # OSError: what `requests` raises
                what = "cannot be used" if self.mode == "server" else "does not start"
                raise UserError(f"vLLM ({self.mode} mode) {what}: {_one_line(error)}") from error
            raise UserError(
                f"no vLLM server answers at {self._server}: start it as docs/vllm.md says, or set vllm_server_host, "
                "vllm_server_port or vllm_server_base_url"
            ) from error
        finally:
            if engine is None:
                del vllm_generation.LLM
            else:
                vllm_generation.LLM = engine

    @property
    def _server(self) -> str:
        return self.server_base_url or f"http://{self.server_host}:{self.server_port}"

    def render(self, prompts: Sequence[Messages], **template: Any) -> None:
        """Tell the next `generate` which conversations its prompts come from.

        Args:
            prompts: One per prompt of the next call, in its order.
            template: Further arguments of the chat template.
        """
        if self.is_multimodal and self.mode == "colocate":
            self._unexpanded = unexpanded_ids(self.processing_class, prompts, **template)

    def generate(
        self,
        prompts: list[list[int]],
        images: list[list[Any] | None] | None,
        num_generations: int,
        profiler: Any = None,
    ) -> tuple[Any, ...]:
        """Generate as the parent does; see there for the arguments and the result.

        Raises:
            UserError: vLLM reads the images as another number of tokens than the trainer, on any process.
            RunError: The server is gone.
        """
        if self.mode == "server":
            return self._generate_on_server(prompts, images, num_generations, profiler)
        sent, self._unexpanded = self._unexpanded, None
        if sent is None:
            return super().generate(prompts, images, num_generations, profiler)
        found, *rest = super().generate(sent, images, num_generations, profiler)
        # A TRL that hands over the marks itself leaves nothing to compare with.
        difference = None if prompts == sent else check_expansion(prompts, found, self._image_token_id)
        wrong = torch.tensor(difference is not None, dtype=torch.int, device=self.accelerator.device)
        if self.accelerator.reduce(wrong, reduction="sum"):
            raise UserError(
                f"{difference or 'vLLM made other prompts than training on another process'}: give it the same chat "
                "template and pixel bounds (vllm_engine_kwargs overrides them), or, if this model family is one vLLM "
                "reads differently, leave use_vllm out"
            )
        return (found, *rest)

    def _generate_on_server(self, prompts: Any, images: Any, num_generations: int, profiler: Any) -> tuple[Any, ...]:
        try:
            result = super().generate(prompts, images, num_generations, profiler)
        except Exception as error:
            if not self.accelerator.is_main_process:
                raise
            # Only the main process talks to the server; the others wait for what it answered.
            failure = error if isinstance(error, UserError) else self._lost(error)
            rows = self.accelerator.num_processes * len(prompts)
            broadcast_object_list([([str(failure)] * rows, [], None, None)], from_process=0)
            raise failure from error
        if len(result[1]) != len(prompts):
            raise RunError(str(result[0][0]))
        return result

    def sync_weights(self) -> None:
        """Send the model's weights to vLLM, and let it forget what it computed with the old ones.

        The parent resets the cache of prompt prefixes, but not that of encoded images: an image seen shortly before
        would be what the old vision tower made of it.

        Raises:
            RunError: The server is gone.
        """
        try:
            super().sync_weights()
            if not self.is_multimodal:
                return
            if self.mode == "colocate":
                self.llm.llm_engine.reset_encoder_cache()
            elif self.accelerator.is_main_process:
                self.vllm_client.session.post(f"{self.vllm_client.base_url}/reset_encoder_cache").raise_for_status()
        except OSError as error:  # what `requests` raises
            raise self._lost(error) from error

    def _iter_named_params(self) -> Iterator[tuple[str, torch.Tensor]]:
        if not is_peft_model(self.model):
            yield from super()._iter_named_params()
            return
        for path, value in merged_parameters(self.model):
            name = path.removeprefix("base_model.model.").replace(".base_layer", "")
            if self.model.prefix not in name and "original_module" not in name:
                yield self._fix_param_name_to_vllm(name, extra_prefixes=["modules_to_save.default."]), value

    def _lost(self, error: Exception) -> RunError:
        return RunError(
            f"vLLM's server at {self._server} failed: {_one_line(error)}. Checkpoints on disk are safe: start the "
            "server again and continue with --resume"
        )

    @property
    def _image_token_id(self) -> int | None:
        return getattr(self.processing_class, "image_token_id", None)

    def _place_features(self, features: dict[str, Any] | None, prompt_ids: list[int]) -> dict[str, Any] | None:
        if features is None:
            return None
        lengths = [place["length"] for place in features["mm_placeholders"]["image"]]
        token = self._image_token_id
        assert token is not None  # noqa: S101 (TRL's parent needs it, too)
        places = place_images(prompt_ids, lengths, token)
        if places is None:
            raise server_mismatch(runs_of(prompt_ids, token), lengths, self.bounds)
        return {**features, "mm_placeholders": {**features["mm_placeholders"], "image": places}}


class _EachPromptOnce:
    """vLLM's engine, asked once for equal prompts that follow each other: their images are read once, too."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def generate(self, prompts: list[dict[str, Any]], sampling_params: Any, **kwargs: Any) -> list[Any]:
        """Generate one response per prompt, in the order of `prompts`."""
        runs: list[list[dict[str, Any]]] = []
        for prompt in prompts:
            if runs and _are_equal(runs[-1][0], prompt):
                runs[-1].append(prompt)
            else:
                runs.append([prompt])
        settings = []
        for run in runs:
            settings.append(sampling_params.clone())
            settings[-1].n = len(run)
        outputs = self._engine.generate([run[0] for run in runs], sampling_params=settings, **kwargs)
        return [
            SimpleNamespace(prompt_token_ids=output.prompt_token_ids, outputs=[response])
            for output in outputs
            for response in output.outputs
        ]


def _are_equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    # Rows of one prompt hold the same image objects: comparing pixels would cost more than it saves.
    return one["prompt_token_ids"] == other["prompt_token_ids"] and [id(image) for image in _images(one)] == [
        id(image) for image in _images(other)
    ]


def _images(prompt: dict[str, Any]) -> list[Any]:
    images = prompt.get("multi_modal_data", {}).get("image", [])
    return images if isinstance(images, list) else [images]


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:400] or type(error).__name__
