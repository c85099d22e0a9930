"""What ShareGRPOTrainer relies on inside TRL. This runs first: if it fails, read it before any other failure."""

import inspect
from importlib.metadata import version

import pytest
from packaging.version import Version
from trl import GRPOTrainer
from trl.generation.vllm_generation import VLLMGeneration
from trl.trainer import grpo_trainer
from trl.trainer.utils import RepeatSampler

from r1_sharevl.resumable_trainer import ResumableGRPOTrainer
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
    "_save_checkpoint": ["self", "model", "trial"],
    "_save_rng_state": ["self", "output_dir"],
    "_tokenize_prompts": ["self", "prompts"],
    "get_batch_samples": ["self", "epoch_iterator", "num_batches", "device"],
    "log": ["self", "logs", "start_time"],
}


def test_trl_is_the_version_the_trainer_was_written_for():
    assert Version("1.16") <= Version(version("trl")) < Version("1.17"), (
        "ShareGRPOTrainer overrides private methods of TRL's GRPOTrainer: check trainer.py against the new version"
    )


@pytest.mark.parametrize("name", SEAMS)
def test_overridden_method_has_the_known_parameters(name):
    assert hasattr(GRPOTrainer, name), f"TRL {version('trl')} has no GRPOTrainer.{name} any more: see trainer.py"
    assert list(inspect.signature(getattr(GRPOTrainer, name)).parameters) == SEAMS[name]
    assert name == "_tokenize_prompts" or name in {**vars(ResumableGRPOTrainer), **vars(ShareGRPOTrainer)}


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
