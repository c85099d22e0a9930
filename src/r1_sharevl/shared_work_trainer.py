"""TRL's GRPOTrainer that does equal work once: rows of one prompt share its tokens, its images and its prefill."""

import copy
import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from accelerate.utils import gather, gather_object
from datasets import Dataset
from torch.nn.functional import pad
from transformers import GenerationConfig
from trl.data_utils import is_conversational, prepare_multimodal_messages
from trl.extras.profiling import profiling_context
from trl.models import unwrap_model_for_generation

from .config import ShareGRPOConfig
from .errors import UserError
from .resumable_trainer import ResumableGRPOTrainer
from .rollouts.conversations import Conversations, Row, key_of
from .rollouts.distinct_rows import DistinctRows
from .rollouts.micro_batches import micro_batches
from .rollouts.prefill import prefill, why_no_prefill
from .rollouts.tokens import prepare_images, prompt_ids
from .sharded_head import reduce_gradient_of_sharded_head
from .shared_prefix.attention import two_part_attention_in
from .shared_prefix.cost import sharing_pays
from .shared_prefix.forward import pack_rows, packed_log_probs
from .shared_prefix.images import PreparedImages
from .shared_prefix.packing import prompt_numbers
from .shared_prefix.support import SharedModel, base_model, cannot_be_on, why_not, why_not_settings
from .shared_prefix.vision import blank_image, shown_images

logger = logging.getLogger(__name__)


class SharedWorkGRPOTrainer(ResumableGRPOTrainer):
    """[`~trl.GRPOTrainer`] that does equal work of the rows of a batch once. What it computes stays the same.

    In training, where the model can (see `shared_prefix.support`):
        - a prompt's tokens are computed once for all of its responses, in all passes;
        - each image is prepared once per generation batch, and encoded once per pass;
        - the prompt of equal rows is prefilled once.

    With gradient checkpointing, the backward pass of packed rows must run within `training_step`.

    In any mode a row of the dataset is read once per generation batch, so the rows of a question hold the same image
    objects: a reward function must not change them in place.

    What is overridden, and why:
        - `_generate_and_score_completions`, `_generate`, `_calculate_rewards`: rows hold numbers instead of images;
        - `_tokenize_prompts`, `_generate_single_turn`: each distinct prompt is tokenised and prefilled once;
        - `_get_per_token_logps_and_entropies`, `_compute_loss`, `training_step`: passes run over packed rows;
        - `_prepare_inputs`: micro-batches keep the rows of a prompt together;
        - `_remove_unused_columns`: the DataLoader reads a row once per generation batch.

    Raises:
        UserError: `shared_prefix` is `"on"`, and the model cannot.
    """

    args: ShareGRPOConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        reduce_gradient_of_sharded_head(base_model(self.accelerator.unwrap_model(self.model)))
        self._shares_work = self._may_share()
        self._conversations: Conversations | None = None  # of the generation batch that is being made
        self._prepared: PreparedImages | None = None
        self._ids_of: dict[str, list[int]] = {}
        self._image_index: torch.Tensor | None = None  # of the rows whose log-probabilities are asked for
        self._shows_images = False  # whether a row of any process does, in the same generation batch
        self._step_attention: ExitStack | None = None  # of the training step that is running
        self._said_why_not = False
        self._prefills_once = self._shares_work and self._may_prefill_once()
        self._prefilled_tokens: int | None = None  # of the latest generation, where prompts were computed once

    def _may_share(self) -> bool:
        wish = self.args.shared_prefix
        if wish == "off" or (wish == "auto" and self.args.num_variants == 1):
            return False
        reason = why_not(self.accelerator.unwrap_model(self.model))
        conversing = self.tools or self.rollout_func is not None or self.environment_factories is not None
        if reason is None and conversing:
            reason = "responses of conversations with tools are no continuations of their prompts"
        if reason is None:
            reason = why_not_settings(self.args, self.model.config)
        if reason is None:
            return True
        if wish == "on":
            raise cannot_be_on(reason)
        if self.accelerator.is_main_process:
            logger.warning(f"every row is trained by itself (shared_prefix off): {reason}")
        return False

    def _may_prefill_once(self) -> bool:
        if self.use_vllm or self.use_transformers_continuous_batching:
            return False  # both have a way of their own
        model = self.accelerator.unwrap_model(self.model)
        reason = why_no_prefill(SharedModel(model), self._whole_generation_config())
        if reason is not None and self.accelerator.is_main_process:
            logger.warning(f"the prompt of every response is computed by itself while generating: {reason}")
        return reason is None

    def _whole_generation_config(self) -> GenerationConfig:
        """The settings of generation, with the checkpoint's where the run leaves something open."""
        config = copy.deepcopy(self.generation_config)
        model = self.accelerator.unwrap_model(self.model)
        config.update(**model.generation_config.to_dict(), defaults_only=True)  # as `generate` does it
        return config

    @property
    def _shares_now(self) -> bool:
        return self._shares_work and self.model.training

    @property
    def _logs_tables(self) -> bool:
        """Whether completions go to a tracker that shows images."""
        return self.log_completions and not {"wandb", "trackio"}.isdisjoint(self.args.report_to)

    # --------------------------------------------------------------------------------------------------- rollouts

    def _remove_unused_columns(self, dataset: Dataset, description: str | None = None) -> Any:
        return DistinctRows(super()._remove_unused_columns(dataset, description))

    def _generate_and_score_completions(self, inputs: list[Row]) -> dict[str, Any]:
        if not self._shares_now:
            return super()._generate_and_score_completions(inputs)
        conversations = Conversations(inputs, is_multimodal=self._is_vlm)
        self._prepared = prepare_images(self.processing_class, conversations.pictures)
        self._conversations, self._image_index = conversations, conversations.index
        shown = gather(torch.tensor([len(conversations.pictures)], device=self.accelerator.device))
        self._shows_images = bool(shown.any())
        if self._shows_images and not shown.all():
            self._check_generation_in_step()
        try:
            output: dict[str, Any] = super()._generate_and_score_completions(conversations.rows)
        finally:
            self._conversations, self._image_index, self._ids_of = None, None, {}
        if self._is_vlm and self.log_multimodal and self._logs_tables:
            own = [[conversations.pictures[n] for n in row if n >= 0] for row in conversations.index.tolist()]
            self._logs["images"].extend(gather_object(own))
        output["image_index"] = conversations.index
        output["distinct_images"] = self._prepared.state()
        output["shows_images"] = torch.tensor(self._shows_images)
        return output

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[Any, ...]:
        if self._conversations is None:
            return super()._tokenize_prompts(prompts)
        keys = [key_of(prompt) for prompt in prompts]
        new = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in self._ids_of}
        if new:
            self._ids_of.update(zip(new, self._tokenized(list(new.values())), strict=True))
        numbers = [Conversations.images_of(prompt) for prompt in prompts]
        images = [[self._conversations.pictures[number] for number in own] or None for own in numbers]
        return [self._ids_of[key] for key in keys], images if any(images) else None, {"image_numbers": numbers}

    def _tokenized(self, prompts: list[Any]) -> list[list[int]]:
        if not self._is_vlm or not is_conversational({"prompt": prompts[0]}):
            ids: list[list[int]] = super()._tokenize_prompts(prompts)[0]
            return ids
        assert self._prepared is not None  # noqa: S101
        prompts = [prepare_multimodal_messages(prompt) for prompt in prompts]  # texts become parts, as TRL does it
        numbers = [Conversations.images_of(prompt) for prompt in prompts]
        template = {"chat_template": self.chat_template, **self.chat_template_kwargs}
        return prompt_ids(self.processing_class, prompts, numbers, self._prepared.grids, **template)

    def _generate(self, prompts: list[Any]) -> tuple[Any, ...]:
        result: tuple[Any, ...] = super()._generate(prompts)
        if self._conversations is None:
            return result
        *others, _, tool_images = result
        return (*others, None, tool_images)  # without images, the parent runs no processor over the rows

    def _generate_single_turn(
        self, prompt_ids: Any, images: Any, multimodal_fields: Any, num_generations: int, *args: Any, **kwargs: Any
    ) -> tuple[Any, Any]:
        if self._conversations is None or self.use_vllm:
            return super()._generate_single_turn(
                prompt_ids, images, multimodal_fields, num_generations, *args, **kwargs
            )
        if self._prefills_once:
            return self._generate_from_distinct_prompts(prompt_ids, multimodal_fields["image_numbers"]), None
        assert self._prepared is not None  # noqa: S101
        numbers = [number for own in multimodal_fields["image_numbers"] for number in own]
        config = self._whole_generation_config()
        shared, device = SharedModel(self.accelerator.unwrap_model(self.model)), self.accelerator.device
        given: AbstractContextManager[dict[str, Any]]
        if {config.num_beams, config.num_return_sequences} <= {None, 1}:
            given = shown_images(shared.tower, self._prepared, numbers, device)
        else:
            # `generate` itself repeats the pixels of every row for its beams, and cuts them by what each row shows.
            given = nullcontext(self._prepared.fields(numbers, device))
        with self._tower_in_step(self.model, shown=bool(numbers)), given as fields:
            if fields:
                image_token = shared.network.config.image_token_id
                fields["mm_token_type_ids"] = [[int(token == image_token) for token in ids] for ids in prompt_ids]
            return super()._generate_single_turn(prompt_ids, images, fields, num_generations, *args, **kwargs)

    def _check_generation_in_step(self) -> None:
        """Check, where only some processes have images to generate from, that they can go along with each other.

        `generate` runs the vision tower before the model's forward, out of reach for `blank_image`.
        """
        if self.use_vllm or self._prefills_once or not (self._dist.is_fsdp or self._dist.is_zero3):
            return
        raise UserError(
            "the rows of one process have no images and those of another do, and a sharded model can generate from "
            "both only where prompts are computed once: leave out the setting of the generation that a warning at the "
            "start names, or train rows with images only"
        )

    def _generate_from_distinct_prompts(self, prompts: list[list[int]], numbers: list[list[int]]) -> list[list[int]]:
        """Generate a response to each row, as the parent does, with each distinct prompt and image computed once."""
        assert self._prepared is not None  # noqa: S101
        with (
            profiling_context(self, "transformers.generate"),
            unwrap_model_for_generation(
                self.model_wrapped,
                self.accelerator,
                gather_deepspeed3_params=self.args.ds3_gather_for_generation,
                gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs,
            ) as model,
            torch.no_grad(),
            self._dist.summon_full_params(self.model_wrapped, recurse=False),
        ):
            shared = SharedModel(model)
            with self._attention_of(shared), self._tower_in_step(model, shown=any(numbers)):
                filled = prefill(
                    shared,
                    prompts,
                    numbers,
                    self._prepared,
                    padding_token=self._tokenizer.pad_token_id,
                    multiple_of=self.pad_to_multiple_of,
                    device=self.accelerator.device,
                )
            rows = model.generate(**filled.inputs, generation_config=self.generation_config)
        self._prefilled_tokens = filled.tokens
        return [_until_end(row, self.eos_token_ids) for row in rows[:, filled.inputs["input_ids"].shape[1] :].tolist()]

    def _calculate_rewards(
        self, inputs: list[Row], prompts: list[Any], completions: list[Any], completion_ids_list: list[list[int]]
    ) -> torch.Tensor:
        if self._conversations is not None:
            inputs = [self._conversations.original(row) for row in inputs]
            prompts = [self._conversations.with_images(prompt) for prompt in prompts]
        rewards: torch.Tensor = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        return rewards

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        if not self._shares_now:
            return super()._prepare_inputs(generation_batch)
        every = self.args.steps_per_generation * self.num_iterations
        if self._step % every == 0 or self._buffered_inputs is None:
            self._buffered_inputs = self._prepared = None  # the host need not hold two batches' images
            rows = self._generate_and_score_completions(generation_batch)
            self._buffered_inputs = micro_batches(rows, self.args.steps_per_generation)
        inputs: dict[str, Any] = self._buffered_inputs[self._step % self.args.steps_per_generation]
        return inputs

    # ----------------------------------------------------------------------------------------------------- passes

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any) -> torch.Tensor:
        """Train on a micro-batch; see the parent."""
        try:
            with ExitStack() as self._step_attention:
                loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        finally:
            self._step_attention = None
        return loss

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        if "distinct_images" in inputs:
            self._prepared = PreparedImages(**inputs["distinct_images"])
            self._image_index = inputs["image_index"]
            self._shows_images = bool(inputs["shows_images"])
        try:
            loss: torch.Tensor = super()._compute_loss(model, inputs)
        finally:
            self._image_index = None
        return loss

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **fields: Any,
    ) -> tuple[Any, ...]:
        if self._image_index is None:
            return super()._get_per_token_logps_and_entropies(
                model,
                input_ids,
                attention_mask,
                logits_to_keep,
                batch_size=batch_size,
                compute_entropy=compute_entropy,
                compute_aux_loss=compute_aux_loss,
                **fields,
            )
        if not len(input_ids):
            nothing = torch.zeros(0, logits_to_keep, device=input_ids.device)
            return nothing, nothing if compute_entropy else None, None
        width = input_ids.shape[1] - logits_to_keep
        numbers = prompt_numbers(input_ids[:, :width], attention_mask[:, :width], self._image_index)
        # Chunks are cut as the parent cuts them, so that all processes run as many passes.
        order = torch.tensor(numbers).argsort(stable=True)
        chunks = order.split(batch_size or len(order))
        logps, entropies = [], []
        for chunk in chunks:
            index = self._image_index[chunk]
            ids, mask, kept = _without_padding(
                input_ids[chunk], attention_mask[chunk], logits_to_keep, self.pad_to_multiple_of or 1
            )
            with self._tower_in_step(model, shown=bool((index >= 0).any())):
                own, entropy = self._log_probs(model, ids, mask, kept, index, compute_entropy=compute_entropy)
            cut = logits_to_keep - kept
            logps.append(pad(own, (0, cut)))
            if compute_entropy and entropy is not None:  # packed rows have them even where they are not asked for
                entropies.append(pad(entropy, (0, cut)))
        back = order.argsort()
        return torch.cat(logps)[back], torch.cat(entropies)[back] if compute_entropy else None, None

    def _log_probs(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        completion_length: int,
        image_index: torch.Tensor,
        *,
        compute_entropy: bool,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Log-probabilities and entropies of some rows' completions, packed where that pays; shape `(B, C)` each."""
        assert self._prepared is not None  # noqa: S101
        shared = SharedModel(self.accelerator.unwrap_model(model))
        device = self.accelerator.device
        if self._shares_work:  # if not, the batch is that of a run that did, and that goes on without
            packed = pack_rows(shared, input_ids, attention_mask, completion_length, image_index, self._prepared)
            size = shared.decoder.config.hidden_size
            padded = not bool(attention_mask.all())
            if self.args.shared_prefix == "on" or sharing_pays(
                packed.spans, *input_ids.shape, padded=padded, hidden_size=size
            ):
                with self._attention_of(shared), self.accelerator.autocast():
                    return packed_log_probs(
                        shared,
                        packed,
                        image_index,
                        self._prepared,
                        forward=model,
                        device=device,
                        dense=shared.attends_densely,
                    )
            self._say_why_not()
        numbers = [number for row in image_index.tolist() for number in row if number >= 0]
        with shown_images(shared.tower, self._prepared, numbers, device) as fields:
            if fields:
                # The parent cuts pixels by what each row shows. All rows are one chunk here, whose end is at or behind
                # the end of the distinct images' pixels, so that all of them go in.
                fields["num_images"] = (image_index >= 0).sum(dim=1).tolist()
                fields["mm_token_type_ids"] = (input_ids == shared.network.config.image_token_id).int()
                fields["mm_token_type_ids"][:, -completion_length:] = 0
            logps, entropy, _ = super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, completion_length, compute_entropy=compute_entropy, **fields
            )
        return logps, entropy

    def _say_why_not(self) -> None:
        if not self._said_why_not and self.accelerator.is_main_process:
            message = (
                "some micro-batches are trained as ordinary rows (shared_prefix auto), because sharing would save "
                "little: their responses are much longer than their prompts, or few of them have the same prompt"
            )
            responses = self.args.rows_per_prompt
            if self.args.per_device_train_batch_size % responses:
                message += (
                    f"; a per_device_train_batch_size that is a multiple of {responses} keeps a prompt's {responses} "
                    "responses together"
                )
            logger.warning(message)
        self._said_why_not = True

    def _tower_in_step(self, model: Any, *, shown: bool) -> AbstractContextManager[None]:
        """Let the vision tower run in a pass that shows no images, if other processes' passes may show some."""
        shared = SharedModel(self.accelerator.unwrap_model(model))
        if shown or shared.tower is None or not self._shows_images or self.accelerator.num_processes == 1:
            return nullcontext()
        return blank_image(shared.tower, shared.network.get_input_embeddings())

    @contextmanager
    def _attention_of(self, shared: SharedModel) -> Iterator[None]:
        """Let a model attend to packed rows: until the end of the training step, or for a pass without gradients."""
        context = nullcontext() if shared.attends_densely else two_part_attention_in(shared.decoder)
        if torch.is_grad_enabled() and self._step_attention is not None:
            self._step_attention.enter_context(context)
            yield
        else:
            with context:
                yield


def _without_padding(
    input_ids: torch.Tensor, attention_mask: torch.Tensor, completion_length: int, multiple_of: int
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Cut off the columns of some rows, shape `(B, P + C)`, that only longer rows of their generation batch need.

    Returns:
        Ids and mask, shape `(B, P' + C')`, and C', which is 1 at least; P' and C' are multiples, if P and C are.
    """
    width = input_ids.shape[1] - completion_length
    used = attention_mask.any(dim=0).nonzero()[:, 0]
    prompt, completion = width - int(used[0]), max(1, int(used[-1]) + 1 - width)
    prompt = min(width, prompt + -prompt % multiple_of)
    completion = min(completion_length, completion + -completion % multiple_of)
    columns = slice(width - prompt, width + completion)
    return input_ids[:, columns], attention_mask[:, columns], completion


def _until_end(tokens: list[int], ends: Sequence[int]) -> list[int]:
    """Cut a response behind its first end token."""
    length = next((index for index, token in enumerate(tokens, start=1) if token in ends), len(tokens))
    return tokens[:length]
