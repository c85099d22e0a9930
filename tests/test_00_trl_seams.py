"""What ShareGRPOTrainer relies on inside TRL. This runs first: if it fails, read it before any other failure."""

import dataclasses
import inspect
from importlib.metadata import version

import pytest
from packaging.version import Version
from trl import GRPOTrainer
from trl.generation.vllm_generation import VLLMGeneration
from trl.trainer import grpo_trainer
from trl.trainer.utils import FusedCausalLMOutput, RepeatSampler, add_fused_lm_head

from r1_sharevl.resumable_trainer import ResumableGRPOTrainer
from r1_sharevl.shared_work_trainer import SharedWorkGRPOTrainer
from r1_sharevl.trainer import ShareGRPOTrainer
from r1_sharevl.vllm.generation import ShareVLLMGeneration

RUN_EPOCH = [
    "self",
    "model",
    "epoch",
    "train_dataloader",
    "steps_in_epoch",
    "num_update_steps_per_epoch",
    "trial",
    "ignore_keys_for_eval",
    "start_time",
    "resume_from_checkpoint",
    "epochs_trained",
    "steps_trained_in_current_epoch",
]
# Name of each method we override or call, with the parameters it had in TRL 1.16.
SEAMS = {
    "_calculate_rewards": ["self", "inputs", "prompts", "completions", "completion_ids_list"],
    "_compute_loss": ["self", "model", "inputs"],
    "_generate": ["self", "prompts"],
    "_generate_and_score_completions": ["self", "inputs"],
    "_generate_single_turn": [
        "self",
        "prompt_ids",
        "images",
        "multimodal_fields",
        "num_generations",
        "has_tool_images",
    ],
    "_determine_best_metric": ["self", "metrics", "trial"],
    "_get_grad_norm": ["self", "model", "grad_norm"],
    "_get_per_token_logps_and_entropies": [
        "self",
        "model",
        "input_ids",
        "attention_mask",
        "logits_to_keep",
        "batch_size",
        "compute_entropy",
        "compute_aux_loss",
        "pixel_values",
        "image_grid_thw",
        "num_images",
        "pixel_attention_mask",
        "spatial_shapes",
        "num_tiles",
        "image_sizes",
        "token_type_ids",
        "mm_token_type_ids",
        "image_position_ids",
    ],
    "_get_train_sampler": ["self", "dataset"],
    "_load_best_model": ["self"],
    "_load_from_checkpoint": ["self", "resume_from_checkpoint", "model"],
    "_load_optimizer_and_scheduler": ["self", "checkpoint"],
    "_load_rng_state": ["self", "checkpoint"],
    "_maybe_log_save_evaluate": [
        "self",
        "tr_loss",
        "grad_norm",
        "model",
        "trial",
        "epoch",
        "ignore_keys_for_eval",
        "start_time",
        "learning_rate",
    ],
    "_prepare_inputs": ["self", "generation_batch"],
    "_run_epoch": RUN_EPOCH,
    "_remove_unused_columns": ["self", "dataset", "description"],
    "_save_checkpoint": ["self", "model", "trial"],
    "_save_rng_state": ["self", "output_dir"],
    "_tokenize_prompts": ["self", "prompts"],
    "get_batch_samples": ["self", "epoch_iterator", "num_batches", "device"],
    "log": ["self", "logs", "start_time"],
    "training_step": ["self", "model", "inputs", "num_items_in_batch"],
}


def test_trl_is_the_version_the_trainer_was_written_for():
    assert Version("1.16") <= Version(version("trl")) < Version("1.17"), (
        "ShareGRPOTrainer overrides private methods of TRL's GRPOTrainer: check trainer.py against the new version"
    )


@pytest.mark.parametrize("name", SEAMS)
def test_overridden_method_has_the_known_parameters(name):
    assert hasattr(GRPOTrainer, name), f"TRL {version('trl')} has no GRPOTrainer.{name} any more: see trainer.py"
    assert list(inspect.signature(getattr(GRPOTrainer, name)).parameters) == SEAMS[name]
    assert any(name in vars(ours) for ours in (ResumableGRPOTrainer, SharedWorkGRPOTrainer, ShareGRPOTrainer))


def test_the_parent_still_works_the_way_the_overrides_assume():
    source = inspect.getsource(GRPOTrainer._generate_and_score_completions)
    for assumption in (
        ") = self._generate(prompts)",
        "rewards_per_func = self._calculate_rewards(inputs, prompts, completions, completion_ids_list)",
        'self._logs["advantages"].extend(all_process_advantages.tolist())',
        '"advantages": advantages,',
        "self.num_generations if mode",
    ):
        assert assumption in source, f"gone from GRPOTrainer._generate_and_score_completions: {assumption}"
    assert "return prompt_ids, completion_ids, tool_mask, completions, logprobs, extra_fields, images" in (
        inspect.getsource(GRPOTrainer._generate)
    )
    assert "self._step % generate_every == 0 or self._buffered_inputs is None" in (
        inspect.getsource(GRPOTrainer._prepare_inputs)
    )
    epoch = inspect.getsource(GRPOTrainer._run_epoch)
    assert epoch.index("self._get_grad_norm(model") < epoch.index("self.optimizer.step()"), "an update is skipped there"
    assert "generator=self.generator" in inspect.getsource(RepeatSampler.__iter__)
    assert hasattr(grpo_trainer, "shuffle_sequence_dict")


def test_the_parent_still_works_the_way_shared_work_assumes():
    # The prompts come from `inputs`, and where no row has an image column nothing is prepared from images.
    rollouts = inspect.getsource(GRPOTrainer._generate_and_score_completions)
    for assumption in (
        'if "images" in inputs[0]:\n',
        'elif "image" in inputs[0]:\n',
        "if images is None:\n            images = dataset_images",
        "elif images is not None:\n            if self.environment_factories",
        "else:\n            forward_kwargs = {}\n",
        'self.args.per_device_train_batch_size if mode == "train"',
        '"prompt_ids": prompt_ids,',
        '"num_items_in_batch": num_items_in_batch,',
    ):
        assert assumption in rollouts, f"gone from GRPOTrainer._generate_and_score_completions: {assumption}"
    # Old log-probabilities, those of the reference model, and those of the model without its adapters.
    assert rollouts.count("self._get_per_token_logps_and_entropies(\n") == 3
    assert rollouts.count("self.processing_class(images=") == 1, "the processor of the rows' images"
    # A slice of the pixels that ends behind their end holds all of them: distinct images' where rows show more.
    passes = inspect.getsource(GRPOTrainer._get_per_token_logps_and_entropies)
    for assumption in (
        "batch_size = batch_size or input_ids.size(0) ",
        "rows_per_sample = torch.split(rows_per_image, num_images)\n",
        'model_inputs["pixel_values"] = pixel_values[row_start:row_end]\n',
        'model_inputs["image_grid_thw"] = image_grid_thw[img_start:img_end]\n',
    ):
        assert assumption in passes, f"gone from GRPOTrainer._get_per_token_logps_and_entropies: {assumption}"
    loss = inspect.getsource(GRPOTrainer._compute_loss)
    for assumption in (
        "per_token_logps, entropies, aux_loss = self._get_per_token_logps_and_entropies(\n            model,",
        "input_ids = torch.cat([prompt_ids, completion_ids], dim=1)",
        "loss = (per_token_loss * mask).sum() / mask.sum().clamp(min=1.0)\n",  # bnpo: see docs/batches.md
        'normalizer = inputs["num_items_in_batch"].clamp(min=1.0) / self.accelerator.num_processes',
    ):
        assert assumption in loss, f"gone from GRPOTrainer._compute_loss: {assumption}"
    # Restated in SharedWorkGRPOTrainer._prepare_inputs, but for how the rows are shuffled and cut.
    micro_batches = inspect.getsource(GRPOTrainer._prepare_inputs)
    for assumption in (
        "generate_every = self.args.steps_per_generation * self.num_iterations\n",
        "if self._step % generate_every == 0 or self._buffered_inputs is None:\n",
        "generation_batch = self._generate_and_score_completions(generation_batch)\n",
        "inputs = self._buffered_inputs[self._step % self.args.steps_per_generation]\n",
    ):
        assert assumption in micro_batches, f"gone from GRPOTrainer._prepare_inputs: {assumption}"
    # A packed row brings its labels shifted, and gets a value for every label.
    assert {"log_probs", "entropy"} <= {entry.name for entry in dataclasses.fields(FusedCausalLMOutput)}
    assert "labels = shift_labels" in inspect.getsource(add_fused_lm_head)
    assert 'outputs=("log_probs", "entropy")' in inspect.getsource(GRPOTrainer.__init__)


def test_the_vllm_backend_still_works_the_way_ours_assumes():
    parameters = {
        "_init_vllm": ["self"],
        "_iter_named_params": ["self"],
        "_place_features": ["self", "features", "prompt_ids"],
        "generate": ["self", "prompts", "images", "num_generations", "profiler"],
        "sync_weights": ["self"],
    }
    for name, expected in parameters.items():
        assert list(inspect.signature(getattr(VLLMGeneration, name)).parameters) == expected
        assert name in vars(ShareVLLMGeneration)
    assert grpo_trainer.VLLMGeneration is VLLMGeneration
    assert "self.vllm_generation = VLLMGeneration(" in inspect.getsource(GRPOTrainer.__init__)
    assert "self.vllm_generation.generate(" in inspect.getsource(GRPOTrainer._generate_single_turn)
    assert "self.llm = LLM(" in inspect.getsource(VLLMGeneration._init_vllm)
    # Both modes take the weights from this iterator. Where it no longer merges in place, ours is not needed.
    assert inspect.getsource(VLLMGeneration.sync_weights).count("self._iter_named_params()") == 4
    source = inspect.getsource(VLLMGeneration._iter_named_params)
    assert source.index("model.merge_adapter()") < source.index("model.unmerge_adapter()")
    assert list(inspect.signature(VLLMGeneration._fix_param_name_to_vllm).parameters) == [
        "self",
        "name",
        "extra_prefixes",
    ]
    source = inspect.getsource(VLLMGeneration.generate)
    for assumption in (
        "output = self.vllm_client.generate(",
        "broadcast_object_list(obj_list, from_process=0)",
        "all_prompt_ids, all_completion_ids, all_logprobs, all_logprob_token_ids = obj_list[0]",
        "all_outputs = self.llm.generate(vllm_prompts, sampling_params=sampling_params, use_tqdm=False)",
        "[output.token_ids for outputs in all_outputs for output in outputs.outputs]",
    ):
        assert assumption in source, f"gone from VLLMGeneration.generate: {assumption}"
    # A TRL that hands vLLM unexpanded prompts (its pull request 6718) changes this line: see r1_sharevl.vllm.
    assert 'row = {"prompt_token_ids": ids}' in source
    source = inspect.getsource(GRPOTrainer._generate_and_score_completions)
    assert 'output["sampling_per_token_logps"] = sampling_per_token_logps' in source
    assert "torch.nan_to_num(per_token_logps_diff, nan=0.0)" in source
