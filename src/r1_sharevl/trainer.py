"""The Share-GRPO trainer: TRL's GRPOTrainer with groups that span the prompts of a question."""

import logging
import os
import textwrap
import time
from contextlib import nullcontext
from typing import Any, cast

import torch
from accelerate.utils import gather
from datasets import Dataset, IterableDataset
from trl.trainer.utils import get_config_model_id

from .advantages import hierarchical_advantages, multi_objective_advantages, vanished_shares
from .config import BEST_METRIC, ShareGRPOConfig
from .drawable_rows import drawable_rows
from .errors import UserError
from .layout import GroupLayout
from .models.checkpoints import vision_token_ids
from .phases import PhaseClock, in_phase
from .prompts import IMAGE_MARK, to_messages
from .question_space import Prompt, QuestionSpace
from .rollouts.computed_positions import computed_positions
from .samples import SAMPLES_FOLDER, Sample, SampleFolder, thumbnail
from .shared_work_trainer import SharedWorkGRPOTrainer
from .vllm.agreement import check_gap, gap_sums
from .vllm.generation import share_grpo_generation
from .vllm.support import check_vllm_support

logger = logging.getLogger(__name__)

Row = dict[str, Any]

_IMAGE_FIELDS = ("pixel_values", "image_grid_thw", "pixel_attention_mask", "image_sizes", "spatial_shapes")

_CONVERSING = ("tools", "environment_factory", "rollout_func")
"""Arguments of the trainer that go on with a conversation after the first response."""


class ShareGRPOTrainer(SharedWorkGRPOTrainer):
    """
    Trainer for Share-GRPO, proposed in [R1-ShareVL: Incentivizing Reasoning Capability of Multimodal Large Language
    Models via Share-GRPO](https://huggingface.co/papers/2505.16673).

    For every question, `num_variants` prompts that mean the same are drawn from its question space; each gets
    `num_generations / num_variants` responses, and every response is trained under every prompt with an advantage over
    the responses to the question, plus one over the responses to its own prompt. With `num_variants=1` this is
    [`~trl.GRPOTrainer`], bit for bit.

    What is overridden, and why:
        - `_generate_and_score_completions`: gives each row its prompt, and replaces the advantages by those of
          [`hierarchical_advantages`];
        - `_generate`, `_generate_single_turn`, `_calculate_rewards`: a response is generated and rewarded once, then
          repeated for the rows that share it (see [`GroupLayout`]); how vLLM generates is in `r1_sharevl.vllm`;
        - `_compute_loss`, `_get_per_token_logps_and_entropies`, `_maybe_log_save_evaluate`: only to report how a
          response's log-probability differs between its own prompt and the others;
        - `get_batch_samples`, `_maybe_log_save_evaluate`: only to time the phases of a step;
        - `log`: only to hand over prompts as texts;
        - what [`SharedWorkGRPOTrainer`] overrides, so that equal work is done once;
        - what [`ResumableGRPOTrainer`] overrides, so that a run can be stopped and resumed.

    Evaluation during training asks each question once, in its original wording and with its images as they are.

    Args:
        model, reward_funcs, args, train_dataset, eval_dataset, **kwargs:
            As in [`~trl.GRPOTrainer`]. A dataset has the columns of a prepared set: `problem` (text, with `<image>`
            where an image goes), `images`, `variants` (other wordings), `id`, and what the rewards need (`answer`). A
            `prompt` column (conversational) is used as it is where prompts are not drawn: with `num_variants=1` and in
            evaluation.

        sample_responses: How many responses of each generation batch are kept with their images in the run folder, for
            people to read (see [`SampleFolder`]).

    Raises:
        UserError: The dataset lacks a column or has no usable row, or a setting does not go with `num_variants > 1`.
    """

    _tag_names = ["trl", "share-grpo"]  # noqa: RUF012 (as in the parent)
    _name = "Share-GRPO"
    _paper = {  # noqa: RUF012
        "title": "R1-ShareVL: Incentivizing Reasoning Capability of Multimodal Large Language Models via Share-GRPO",
        "id": "2505.16673",
        "citation": textwrap.dedent("""\
            @inproceedings{yao2025r1sharevl,
                title     = {{R1-ShareVL: Incentivizing Reasoning Capability of Multimodal Large Language Models via
                             Share-GRPO}},
                author    = {Huanjin Yao and Qixiang Yin and Jingyi Zhang and Min Yang and Yibo Wang and Wenhao Wu and
                             Fei Su and Li Shen and Minghui Qiu and Dacheng Tao and Jiaxing Huang},
                booktitle = {Advances in Neural Information Processing Systems},
                year      = 2025,
                eprint    = {arXiv:2505.16673},
            }"""),
    }

    args: ShareGRPOConfig

    def __init__(
        self,
        model: Any,
        reward_funcs: Any = None,
        args: ShareGRPOConfig | None = None,
        train_dataset: Dataset | IterableDataset | None = None,
        eval_dataset: Any = None,
        *,
        sample_responses: int = 0,
        **kwargs: Any,
    ) -> None:
        if args is None:
            model_name = model if isinstance(model, str) else get_config_model_id(model.config)
            args = ShareGRPOConfig(f"{model_name.split('/')[-1]}-Share-GRPO")
        if args.use_vllm:
            check_vllm_support(
                model,
                quantized=kwargs.get("quantization_config") is not None,
                tools=any(kwargs.get(name) for name in _CONVERSING),
                mode=args.vllm_mode,
            )
        self.layout = GroupLayout(
            args.num_variants, args.num_generations // args.num_variants, share=args.share_trajectories
        )
        self.question_space: QuestionSpace | None = None
        if args.num_variants > 1:
            for name in _CONVERSING:
                if kwargs.get(name):
                    raise UserError(
                        f"{name} cannot be used with num_variants={args.num_variants}: a response is trained under "
                        "prompts it was not sampled from, which a conversation with tools does not allow. Set "
                        "num_variants=1 for plain GRPO"
                    )
            self.question_space = QuestionSpace(
                args.num_variants,
                **({} if args.image_transforms is None else {"image_transforms": args.image_transforms}),
                transform_probability=args.transform_probability,
                seed=args.seed,
            )
            train_dataset = drawable_rows(train_dataset, self.question_space)
        with share_grpo_generation(cast(dict[str, Any] | None, args.vllm_engine_kwargs)):
            super().__init__(model, reward_funcs, args, train_dataset, eval_dataset, **kwargs)
        for network in (self.model, self.ref_model):
            if network is not None and self._is_vlm:
                network.register_forward_pre_hook(_leave_out_no_images, with_kwargs=True)
        if args.metric_for_best_model == BEST_METRIC and "accuracy_reward" not in self.reward_func_names:
            args.metric_for_best_model = f"rewards/{self.reward_func_names[0]}/mean"
        self._check_best_metric()
        if getattr(self.model, "is_loaded_in_4bit", False) or getattr(self.model, "is_loaded_in_8bit", False):
            _keep_adapters_in_float32(self.model)
        if self.question_space is not None:
            # The sampler repeats every row this many times, and the parent cuts its groups by it.
            self.num_generations = self.layout.rows_per_question
            self._never_sample_vision_tokens()
        self.clock = PhaseClock(self.accelerator.device)
        if self.use_vllm:  # TRL calls it in the midst of the generation
            self.vllm_generation.sync_weights = self.clock.timed("sync_weights", self.vllm_generation.sync_weights)
        self._step_began = 0.0
        self._sample_responses = sample_responses
        self._samples = SampleFolder(os.path.join(args.output_dir, SAMPLES_FOLDER))
        self._responses: tuple[list[Any], list[list[int]]] = ([], [])  # of this process: as rewarded, and token ids
        self._prompt_keys: list[tuple[int, int]] = []  # (question, prompt) of each row of this process
        self._gathered_rewards: torch.Tensor | None = None
        self._latest_logps: torch.Tensor | None = None
        self._logp_sums: torch.Tensor | None = None
        self._vllm_was_checked = False

    @property
    def _draws_prompts(self) -> bool:
        return self.question_space is not None and self.model.training

    def _check_best_metric(self) -> None:
        metric = (self.args.metric_for_best_model or "").removeprefix("eval_")
        known = [f"rewards/{name}/{of}" for of in ("mean", "std") for name in self.reward_func_names]
        if metric.startswith("rewards/") and metric not in known:
            raise UserError(
                f"metric_for_best_model is {metric!r}, which no reward function gives: choose from {', '.join(known)}"
            )

    def _never_sample_vision_tokens(self) -> None:
        if self.use_vllm or not self._is_vlm:
            return
        vision = vision_token_ids(self.processing_class, self.model.config)
        suppressed = sorted({*self.generation_config.suppress_tokens, *vision})
        self.generation_config.suppress_tokens = suppressed
        self.generation_kwargs["suppress_tokens"] = suppressed

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        for column in ("id", "problem", "variants"):
            if column not in self._signature_columns:
                self._signature_columns.append(column)

    # ------------------------------------------------------------------------------------------------- generation

    @in_phase("prepare")
    def _generate_and_score_completions(self, inputs: list[Row]) -> dict[str, Any]:
        if not self._draws_prompts:
            own_rows = [self._with_own_prompt(row) for row in inputs]
            output = super()._generate_and_score_completions(own_rows)
            self._check_vllm(output, output.get("old_per_token_logps"))
            if self.model.training:
                self._keep_samples(inputs, [_plain_prompt(row) for row in own_rows], output["advantages"])
            return _images_in_host_memory(output)
        rows, prompts = self._pair_rows(inputs)
        output = super()._generate_and_score_completions(rows)
        self._check_vllm(output, output.get("old_per_token_logps"))
        local = slice(self.accelerator.process_index * len(rows), (self.accelerator.process_index + 1) * len(rows))

        rewards_per_func = self._gathered_rewards  # (Q * m * n, F)
        assert rewards_per_func is not None  # noqa: S101 (set by `_calculate_rewards`)
        grouped = rewards_per_func.view(
            -1, self.layout.num_variants, self.layout.responses_per_prompt, len(self.reward_funcs)
        )
        weights = self.reward_weights.to(grouped.device)
        rewards = (grouped * weights).nansum(dim=-1)
        rewards[torch.isnan(grouped).all(dim=-1)] = torch.nan  # no function could score it: not a reward of 0
        levels = tuple(self.args.advantage_levels)
        if self.multi_objective_aggregation == "normalize_then_sum":
            advantages = multi_objective_advantages(grouped, weights, levels=levels)
        else:
            advantages = hierarchical_advantages(rewards, levels=levels, scale_rewards=self.scale_rewards)
        all_rows = self.layout.rows(advantages)
        output["advantages"] = all_rows[local]
        for _ in range(len(all_rows)):  # the parent logged its own for these rows
            self._logs["advantages"].pop()
        self._logs["advantages"].extend(all_rows.tolist())

        positions = torch.arange(local.start, local.stop, device=all_rows.device)
        output["is_shared"] = positions % self.layout.copies != 0
        self._log_question_space(rewards, grouped[..., 0].flatten(), prompts)
        self._keep_samples(inputs[:: self.layout.copies], prompts, output["advantages"][:: self.layout.copies])
        return _images_in_host_memory(output)

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        inputs: dict[str, Any] = super()._prepare_inputs(generation_batch)
        if "pixel_values" in inputs:  # of one micro-batch: see `_images_in_host_memory`
            inputs = {**inputs, "pixel_values": inputs["pixel_values"].to(self.accelerator.device)}
        return inputs

    def _with_own_prompt(self, row: Row) -> Row:
        if "prompt" in row or "problem" not in row:
            return row
        return {**row, "prompt": to_messages(row["problem"], len(row.get("images") or []), self.args.instruction)}

    def _pair_rows(self, inputs: list[Row]) -> tuple[list[Row], list[Prompt]]:
        """Give each row of this process its prompt.

        Returns:
            The rows with `prompt` and `images` replaced, and the prompts of the rows to generate.
        """
        assert self.question_space is not None  # noqa: S101
        offset = self.accelerator.process_index * len(inputs)
        rows: list[Row] = []
        own_prompts: list[Prompt] = []
        drawn: list[Prompt] = []
        self._prompt_keys = []
        for index, row in enumerate(inputs):
            position = (offset + index) % self.layout.rows_per_question
            if position == 0 or not drawn:
                drawn = self.question_space.draw(row, step=self.state.global_step)
            prompt = drawn[self.layout.prompt(position)]
            self._prompt_keys.append(((offset + index) // self.layout.rows_per_question, self.layout.prompt(position)))
            if position % self.layout.copies == 0:
                own_prompts.append(prompt)
            rows.append(
                {
                    **row,
                    "prompt": to_messages(prompt.text, len(prompt.images), self.args.instruction),
                    "images": list(prompt.images),
                }
            )
        return rows, own_prompts

    def _generate(self, prompts: list[Any]) -> tuple[Any, ...]:
        copies = self.layout.copies
        if not self._draws_prompts:
            copies = 1
        if self.use_vllm:
            self.vllm_generation.render(
                prompts[::copies], chat_template=self.chat_template, **self.chat_template_kwargs
            )
        (prompt_ids, completion_ids, tool_mask, completions, logprobs, extra_fields, images, tool_images) = (
            super()._generate(prompts[::copies])
        )
        if copies > 1:
            first_row: dict[tuple[int, int], int] = {}
            for row, key in enumerate(self._prompt_keys):
                first_row.setdefault(key, row)
            # A question's rows have m prompts between them: each is tokenised once.
            distinct_ids, distinct_images, _ = self._tokenize_prompts([prompts[row] for row in first_row.values()])
            place = {key: index for index, key in enumerate(first_row)}
            prompt_ids = [distinct_ids[place[key]] for key in self._prompt_keys]
            if images is not None and distinct_images is not None:
                images = [distinct_images[place[key]] for key in self._prompt_keys]
        if images is not None:
            # The parent writes None for a row without images, which processors refuse beside rows with images.
            images = [row_images or [] for row_images in images]
        if logprobs is not None:
            # vLLM's log-probabilities belong to the own prompt. TRL takes an importance ratio of 1 where there is none.
            logprobs = [own if copy == 0 else [None] * len(own) for own in logprobs for copy in range(copies)]
        return (
            prompt_ids,
            _repeat_each(completion_ids, copies),
            tool_mask,
            _repeat_each(completions, copies),
            logprobs,
            extra_fields,
            images,
            tool_images,
        )

    @in_phase("generate")
    def _generate_single_turn(
        self, prompt_ids: Any, images: Any, multimodal_fields: Any, num_generations: int, *args: Any, **kwargs: Any
    ) -> tuple[Any, Any]:
        if self._draws_prompts:
            # vLLM's server mode sends every `num_generations`-th prompt: equal prompts that follow each other.
            num_generations = self.layout.responses_per_prompt
        before = self.clock.seconds("generate")
        responses, logprobs = super()._generate_single_turn(
            prompt_ids, images, multimodal_fields, num_generations, *args, **kwargs
        )
        if self.model.training:
            self._log_generation(self.clock.seconds("generate") - before, prompt_ids, responses)
        return responses, logprobs

    def _check_vllm(self, rows: dict[str, Any], logps: torch.Tensor | None) -> None:
        """Hold vLLM's log-probabilities against the trainer's own, on all processes together.

        Args:
            rows: Rows of a generation batch, or of a micro-batch.
            logps: The trainer's log-probabilities of the responses, shape `(B, T)`, where it has them.
        """
        limit = self.args.max_vllm_logprob_gap
        if not self.use_vllm or limit is None or logps is None or "sampling_per_token_logps" not in rows:
            return
        self._vllm_was_checked = True
        mask = rows["completion_mask"] * rows.get("tool_mask", 1)
        sums = gap_sums(logps, rows["sampling_per_token_logps"], mask)
        total, count = self.accelerator.reduce(sums, reduction="sum").tolist()
        if count:
            # At temperature 1 vLLM reports log-probabilities from before `top_p`.
            check_gap(total / count, limit, top_p=1.0 if self.temperature == 1.0 else self.top_p)

    @in_phase("reward")
    def _calculate_rewards(
        self, inputs: list[Row], prompts: list[Any], completions: list[Any], completion_ids_list: list[list[int]]
    ) -> torch.Tensor:
        copies = self.layout.copies if self._draws_prompts else 1
        rewards = super()._calculate_rewards(
            inputs[::copies], prompts[::copies], completions[::copies], completion_ids_list[::copies]
        )
        self._gathered_rewards = rewards
        self._responses = (completions[::copies], completion_ids_list[::copies])
        if copies > 1:
            for column, values in self._pending_extra_logs.items():
                self._pending_extra_logs[column] = _repeat_each(values, copies)
        return rewards.repeat_interleave(copies, dim=0)

    # ---------------------------------------------------------------------------------------------------- metrics

    def _log_generation(self, seconds: float, prompts: list[list[int]], responses: list[list[int]]) -> None:
        """Log how fast all processes together generated, and how much of what they computed was padding.

        Args:
            seconds: How long this process took, without handing weights to vLLM; 0 outside of a step.
            prompts, responses: Token ids of this process's rows.
        """
        lengths = [len(response) for response in responses]
        computed = computed_positions(
            [len(prompt) for prompt in prompts],
            lengths,
            prefilled=self._prefilled_tokens,
            multiple_of=self.pad_to_multiple_of,
        )
        own = torch.tensor([seconds, sum(lengths), computed.total, computed.padding], device=self.accelerator.device)
        every = gather(own).view(-1, len(own)).cpu()  # (processes, 4)
        metrics = self._metrics["train"]
        if seconds:
            # The processes wait for the slowest.
            metrics["generation/tokens_per_second"].append((every[:, 1].sum() / every[:, 0].max()).item())
        if not self.use_vllm and not self.use_transformers_continuous_batching:  # these pad nothing
            metrics["generation/padding_share"].append((every[:, 3].sum() / every[:, 2].sum()).item())

    def _log_question_space(self, rewards: torch.Tensor, first_reward: torch.Tensor, prompts: list[Prompt]) -> None:
        """Log how many questions gave no advantage, and the first reward function's mean per wording and transform.

        Args:
            rewards: Shape `(Q, m, n)`, all processes.
            first_reward: Shape `(Q * m * n,)`, all processes.
            prompts: Those of this process's generated rows.
        """
        assert self.question_space is not None  # noqa: S101
        metrics = self._metrics["train"]
        for level, share in vanished_shares(rewards).items():
            metrics[f"share_grpo/no_advantage/{level}"].append(share)
        transforms = [None, *self.question_space.image_transforms]
        drawn = torch.tensor(
            [[prompt.wording, transforms.index(prompt.transform)] for prompt in prompts],
            device=self.accelerator.device,
        )
        drawn = gather(drawn)
        name = self.reward_func_names[0]
        for wording in drawn[:, 0].unique().tolist():
            mean = first_reward[drawn[:, 0] == wording].nanmean().item()
            metrics[f"share_grpo/wording_{wording}/{name}"].append(mean)
        for transform in drawn[:, 1].unique().tolist():
            mean = first_reward[drawn[:, 1] == transform].nanmean().item()
            metrics[f"share_grpo/transform_{transforms[transform] or 'none'}/{name}"].append(mean)

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        with self.clock.during("old_logps") if self.clock.phase == "prepare" else nullcontext():
            result = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        self._latest_logps = result[0].detach()
        return result

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        loss = super()._compute_loss(model, inputs)
        if not self._vllm_was_checked:
            # Without TRL's importance sampling correction these are the first log-probabilities there are, and the
            # weights are still those that generated.
            self._check_vllm(inputs, self._latest_logps)
        if "is_shared" in inputs and self.layout.copies > 1:
            assert self._latest_logps is not None  # noqa: S101
            mask = inputs["completion_mask"]
            logps = (self._latest_logps * mask).sum(-1) / mask.sum(-1).clamp(min=1)  # (B,)
            kind = torch.stack([inputs["is_shared"], ~inputs["is_shared"]]).to(logps.dtype)  # (2, B)
            sums = torch.stack([kind @ logps, kind.sum(-1)])  # (2, 2), of this process
            self._logp_sums = sums if self._logp_sums is None else self._logp_sums + sums
        return loss

    def _keep_samples(self, rows: list[Row], prompts: list[Prompt], advantages: torch.Tensor) -> None:
        """Store a few of this generation batch's responses for people to read; only the main process does.

        Args:
            rows: The dataset rows of this process's responses.
            prompts: The prompt each was sampled from.
            advantages: Of each under that prompt, shape `(len(rows),)`.
        """
        if not self._sample_responses or not self.accelerator.is_main_process:
            return
        assert self._gathered_rewards is not None  # noqa: S101
        responses, token_ids = self._responses
        ends = {*self.eos_token_ids, self._tokenizer.pad_token_id}
        weights = self.reward_weights.to(self._gathered_rewards.device)
        n, group = self.layout.responses_per_prompt, self.layout.num_variants * self.layout.responses_per_prompt
        picked = set()
        for number in range(self._sample_responses):  # questions far apart, and their prompts in turn
            question = number * len(rows) // self._sample_responses // group * group
            picked.add(min(question + number * (n + 1) % group, len(rows) - 1))
        samples = []
        for index in sorted(picked):
            scores, prompt, response = self._gathered_rewards[index], prompts[index], responses[index]
            samples.append(
                Sample(
                    step=self.state.global_step,
                    question=str(rows[index].get("id", "")),
                    prompt=prompt.text,
                    wording=prompt.wording,
                    transform=prompt.transform,
                    images=tuple(thumbnail(image) for image in prompt.images),
                    response=_plain_text(response),
                    answer=None if rows[index].get("answer") is None else str(rows[index]["answer"]),
                    rewards=dict(zip(self.reward_func_names, scores.tolist(), strict=True)),
                    reward=torch.nan if scores.isnan().all() else (scores * weights).nansum().item(),
                    advantage=advantages[index].item(),
                    tokens=len(token_ids[index]),
                    cut_off=token_ids[index][-1] not in ends,
                )
            )
        try:
            self._samples.write(samples, micro_step=self._step)
        except OSError as error:
            logger.warning(f"{self._samples.folder}: sample responses cannot be written, training goes on: {error}")

    # -------------------------------------------------------------------------------------------------------- time

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        self.clock.start("load_data")
        self._step_began = time.perf_counter()
        batch_samples = super().get_batch_samples(*args, **kwargs)
        self.clock.switch("update")  # whatever is not one of the other phases
        return batch_samples

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        if self._logp_sums is not None:  # here, once a step, and not in `log`, which callbacks of one process may call
            sums = self.accelerator.reduce(self._logp_sums, reduction="sum")
            shared, own = (sums[0] / sums[1]).tolist()
            # Every response has one own row and m - 1 shared ones: the difference of means is the mean over pairs.
            self._metrics["train"]["share_grpo/logp_gap"].append(shared - own)
            self._logp_sums = None
        seconds = self.clock.stop()
        if seconds:
            self._metrics["train"]["time/step"].append(time.perf_counter() - self._step_began)
            for phase, value in seconds.items():
                self._metrics["train"][f"time/{phase}"].append(value)
        super()._maybe_log_save_evaluate(*args, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if self.log_completions:
            # wandb ends the run over a table whose conversations differ in their parts (image first, or text first).
            for index, messages in enumerate(self._logs["prompt"]):
                self._logs["prompt"][index] = _plain_text(messages)
        super().log(logs, start_time)


def _keep_adapters_in_float32(model: torch.nn.Module) -> None:
    """Undo that TRL makes the adapters of a quantised model bfloat16.

    With learning rates of GRPO most updates are smaller than bfloat16 can represent: 1e-5 added to 0.02 is 0.02. Mixed
    precision computes in bfloat16 anyway.
    """
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype == torch.bfloat16:
            parameter.data = parameter.data.float()


def _leave_out_no_images(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """Drop the image fields of a micro-batch of text-only rows, which vision towers refuse.

    TRL cuts a batch that has images into micro-batches, and hands one without any the empty rest.
    """
    pixels = kwargs.get("pixel_values")
    if pixels is not None and len(pixels) == 0:
        kwargs = {name: value for name, value in kwargs.items() if name not in _IMAGE_FIELDS}
    return args, kwargs


def _plain_prompt(row: Row) -> Prompt:
    """The prompt of a row whose question is asked as it stands in the dataset."""
    text = row["problem"] if "problem" in row else _plain_text(row["prompt"])
    images = row.get("images") or ([row["image"]] if row.get("image") is not None else [])
    return Prompt(text, tuple(images), 0, None, None)


def _plain_text(messages: str | list[dict[str, Any]]) -> str:
    """The last message as a text with `<image>` marks."""
    content = messages if isinstance(messages, str) else messages[-1]["content"]
    if isinstance(content, str):
        return content
    return " ".join(IMAGE_MARK if part["type"] == "image" else str(part.get("text", "")) for part in content)


def _images_in_host_memory(rows: dict[str, Any]) -> dict[str, Any]:
    """Move the images of a generation batch off the GPU until their micro-batch is trained.

    The parent keeps all of them there, 25 MB per pair of a 1-megapixel image, and up to three times: the batch, its
    copy cut into micro-batches, and the previous batch.
    """
    if "pixel_values" in rows:
        rows["pixel_values"] = rows["pixel_values"].cpu()
    return rows


def _repeat_each(values: list[Any], times: int) -> list[Any]:
    return [value for value in values for _ in range(times)]
