"""The Share-GRPO trainer: TRL's GRPOTrainer with groups that span the prompts of a question."""

import logging
import os
import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow.compute as pc
import torch
from accelerate.utils import gather, send_to_device
from datasets import Dataset, IterableDataset
from torch.utils.data import Sampler
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import GRPOTrainer
from trl.trainer.utils import RepeatSampler, get_config_model_id

from .advantages import hierarchical_advantages, multi_objective_advantages, vanished_shares
from .config import ShareGRPOConfig
from .errors import UserError
from .layout import GroupLayout
from .models.checkpoints import vision_token_ids
from .prompts import to_messages
from .question_space import Prompt, QuestionSpace

logger = logging.getLogger(__name__)

ROLLOUTS_NAME = "rollouts_{rank}.pt"
"""File of a checkpoint taken between two generations: the responses that are not trained on yet, one per process."""

Row = dict[str, Any]


class ShareGRPOTrainer(GRPOTrainer):
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
          repeated for the rows that share it (see [`GroupLayout`]);
        - `_compute_loss`, `_get_per_token_logps_and_entropies`, `log`: only to report how a response's log-probability
          differs between its own prompt and the others;
        - `_get_train_sampler`, `_save_rng_state`, `_load_rng_state`, `_load_from_checkpoint`, `_load_best_model`: a
          resumed run goes on exactly where it stopped, also between two generations and after the first epoch.

    Evaluation during training asks each question once, in its original wording and with its images as they are.

    Args:
        model, reward_funcs, args, train_dataset, eval_dataset, **kwargs:
            As in [`~trl.GRPOTrainer`]. A dataset has the columns of a prepared set: `problem` (text, with `<image>`
            where an image goes), `images`, `variants` (other wordings), `id`, and what the rewards need (`answer`). A
            `prompt` column (conversational) is used as it is where prompts are not drawn: with `num_variants=1` and in
            evaluation.

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
        **kwargs: Any,
    ) -> None:
        if args is None:
            model_name = model if isinstance(model, str) else get_config_model_id(model.config)
            args = ShareGRPOConfig(f"{model_name.split('/')[-1]}-Share-GRPO")
        if (
            args.use_vllm
            and args.vllm_mode == "colocate"
            and not isinstance(kwargs.get("processing_class"), PreTrainedTokenizerBase)
        ):
            # TRL issues 6294 and 6401: it expands the image tokens, and vLLM expands them again.
            raise UserError(
                "use_vllm with vllm_mode 'colocate' is refused: TRL 1.16 hands vLLM wrong prompts when there are "
                "images, and training goes silently wrong. Leave use_vllm out, or pass a tokenizer as "
                "processing_class for a text model"
            )
        self.layout = GroupLayout(
            args.num_variants, args.num_generations // args.num_variants, share=args.share_trajectories
        )
        self.question_space: QuestionSpace | None = None
        if args.num_variants > 1:
            for name in ("tools", "environment_factory", "rollout_func"):
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
        super().__init__(model, reward_funcs, args, train_dataset, eval_dataset, **kwargs)
        if self.question_space is not None:
            # The sampler repeats every row this many times, and the parent cuts its groups by it.
            self.num_generations = self.layout.rows_per_question
            self._never_sample_vision_tokens()
        self._prompt_keys: list[tuple[int, int]] = []  # (question, prompt) of each row of this process
        self._gathered_rewards: torch.Tensor | None = None
        self._latest_logps: torch.Tensor | None = None
        self._logp_sums: torch.Tensor | None = None

    @property
    def _draws_prompts(self) -> bool:
        return self.question_space is not None and self.model.training

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

    def _generate_and_score_completions(self, inputs: list[Row]) -> dict[str, Any]:
        if not self._draws_prompts:
            return super()._generate_and_score_completions([self._with_own_prompt(row) for row in inputs])
        rows, prompts = self._pair_rows(inputs)
        output = super()._generate_and_score_completions(rows)
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
        return output

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
            if distinct_images is not None:
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

    def _generate_single_turn(
        self, prompt_ids: Any, images: Any, multimodal_fields: Any, num_generations: int, *args: Any, **kwargs: Any
    ) -> tuple[Any, Any]:
        if self._draws_prompts:
            # vLLM's server mode sends every `num_generations`-th prompt: equal prompts that follow each other.
            num_generations = self.layout.responses_per_prompt
        return super()._generate_single_turn(prompt_ids, images, multimodal_fields, num_generations, *args, **kwargs)

    def _calculate_rewards(
        self, inputs: list[Row], prompts: list[Any], completions: list[Any], completion_ids_list: list[list[int]]
    ) -> torch.Tensor:
        copies = self.layout.copies if self._draws_prompts else 1
        rewards = super()._calculate_rewards(
            inputs[::copies], prompts[::copies], completions[::copies], completion_ids_list[::copies]
        )
        self._gathered_rewards = rewards
        if copies > 1:
            for column, values in self._pending_extra_logs.items():
                self._pending_extra_logs[column] = _repeat_each(values, copies)
        return rewards.repeat_interleave(copies, dim=0)

    # ---------------------------------------------------------------------------------------------------- metrics

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
        result = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        self._latest_logps = result[0].detach()
        return result

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        loss = super()._compute_loss(model, inputs)
        if "is_shared" in inputs and self.layout.copies > 1:
            assert self._latest_logps is not None  # noqa: S101
            mask = inputs["completion_mask"]
            logps = (self._latest_logps * mask).sum(-1) / mask.sum(-1).clamp(min=1)  # (B,)
            kind = torch.stack([inputs["is_shared"], ~inputs["is_shared"]]).to(logps.dtype)  # (2, B)
            sums = self.accelerator.reduce(torch.stack([kind @ logps, kind.sum(-1)]), reduction="sum")
            self._logp_sums = sums if self._logp_sums is None else self._logp_sums + sums
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if self._logp_sums is not None and self.model.training:
            shared, own = (self._logp_sums[0] / self._logp_sums[1]).tolist()
            # Every response has one own row and m - 1 shared ones: the difference of means is the mean over pairs.
            self._metrics["train"]["share_grpo/logp_gap"].append(shared - own)
            self._logp_sums = None
        super().log(logs, start_time)

    # ----------------------------------------------------------------------------------------------------- resume

    def _get_train_sampler(self, dataset: Dataset | None = None) -> Sampler:
        sampler = super()._get_train_sampler(dataset)
        return _ResumableRepeatSampler(sampler, epoch=lambda: int(self.state.epoch or 0))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        model = self.model if model is None else model
        if not self._load_full_weights(resume_from_checkpoint, model):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        if not self._load_full_weights(self.state.best_model_checkpoint, self.model):
            super()._load_best_model()

    def _load_full_weights(self, checkpoint: str, model: Any) -> bool:
        """Load a fully fine-tuned model's weights by `from_pretrained`, and say whether this was the case for it.

        transformers 5 saves families such as Qwen2.5-VL under the parameter names of their first release, but its
        `Trainer` reads a checkpoint by the names in the module: none matches, it warns, and the run goes on from the
        weights it started with. `from_pretrained` knows both names.
        """
        if not isinstance(model, PreTrainedModel) or self.is_fsdp_enabled or self.is_deepspeed_enabled:
            return False  # adapters and sharded checkpoints have ways of their own
        loaded = type(model).from_pretrained(checkpoint, dtype=model.dtype)
        model.load_state_dict(loaded.state_dict())
        return True

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        if self._step % (self.args.steps_per_generation * self.num_iterations) and self._buffered_inputs is not None:
            path = os.path.join(output_dir, ROLLOUTS_NAME.format(rank=self.args.process_index))
            torch.save({"step": self._step, "rollouts": self._buffered_inputs}, path)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)
        if checkpoint is None:
            return
        self._step = self.state.global_step * self.args.gradient_accumulation_steps
        path = os.path.join(checkpoint, ROLLOUTS_NAME.format(rank=self.args.process_index))
        if os.path.exists(path):
            saved = torch.load(path, map_location="cpu", weights_only=True)
            self._step = saved["step"]
            self._buffered_inputs = send_to_device(saved["rollouts"], self.accelerator.device)
        elif self._step % (self.args.steps_per_generation * self.num_iterations):
            logger.warning(
                f"{path} is missing: the responses that were generated before the checkpoint are lost, so new ones are "
                "generated and the run will differ from one that was not interrupted."
            )


class _ResumableRepeatSampler(RepeatSampler):
    """TRL's `RepeatSampler`, whose order in an epoch does not depend on how many epochs this process has seen.

    TRL's keeps drawing from one generator, so a run resumed in its third epoch would get the order of the first.
    """

    def __init__(self, sampler: RepeatSampler, epoch: Callable[[], int]) -> None:
        super().__init__(
            sampler.data_source,
            mini_repeat_count=sampler.mini_repeat_count,
            batch_size=sampler.batch_size,
            repeat_count=sampler.repeat_count,
            shuffle=sampler.shuffle,
            seed=sampler.seed,
        )
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        if self.shuffle:
            self.generator.manual_seed(self.seed)
            for _ in range(self.epoch()):
                torch.randperm(self.num_samples, generator=self.generator)
        yield from super().__iter__()


def drawable_rows(dataset: Any, space: QuestionSpace) -> Any:
    """Keep the rows of which `space` can draw enough distinct prompts, and make sure that every row has an id.

    The images are counted, not decoded. What is dropped is reported with the reason in one warning.

    Raises:
        UserError: A needed column is missing, or no row is left.
    """
    if not isinstance(dataset, (Dataset, IterableDataset)):
        return dataset  # the parent says what it expects
    columns = dataset.column_names or []
    needed = ["problem"] if isinstance(dataset, Dataset) else ["problem", "id"]
    for column in needed:
        if columns and column not in columns:
            raise UserError(
                f"the training set has no column {column!r} (found: {', '.join(columns)}), which num_variants="
                f"{space.num_variants} needs to draw prompts: prepare it with `r1sharevl prep`, or set num_variants=1"
            )
    if isinstance(dataset, IterableDataset):
        return dataset.filter(lambda row: space.why_not(row, num_images=len(row.get("images") or [])) is None)
    if len(dataset) == 0:
        raise UserError("the training set is empty")
    if "id" not in columns:
        dataset = dataset.add_column("id", [str(index) for index in range(len(dataset))])
    kept: list[int] = []
    dropped: dict[str, int] = defaultdict(int)
    wanted = [column for column in ("problem", "variants", "images") if column in columns]
    start = 0
    for table in dataset.select_columns(wanted).with_format("arrow").iter(batch_size=1000):
        counts = pc.list_value_length(table["images"]).to_pylist() if "images" in wanted else [0] * len(table)
        texts = table.select([column for column in wanted if column != "images"]).to_pylist()
        for offset, (row, count) in enumerate(zip(texts, counts, strict=True)):
            reason = space.why_not(row, num_images=count or 0)
            if reason is None:
                kept.append(start + offset)
            else:
                dropped[reason] += 1
        start += len(table)
    if not kept:
        raise UserError(
            f"no row of the training set can be drawn {space.num_variants} distinct prompts of ("
            + "; ".join(f"{count} rows: {reason}" for reason, count in dropped.items())
            + "): add wordings, allow image transforms, or lower num_variants"
        )
    if dropped:
        logger.warning(
            f"Dropped {sum(dropped.values())} of {len(dataset)} training rows: "
            + "; ".join(f"{count} rows: {reason}" for reason, count in dropped.items())
        )
        dataset = dataset.select(kept)
    return dataset


def _repeat_each(values: list[Any], times: int) -> list[Any]:
    return [value for value in values for _ in range(times)]
