"""What ShareGRPOTrainer relies on inside TRL. This runs first: if it fails, read it before any other failure."""

import inspect
from importlib.metadata import version

import pytest
from packaging.version import Version
from trl import GRPOTrainer
from trl.trainer import grpo_trainer
from trl.trainer.utils import RepeatSampler

from r1_sharevl.trainer import ShareGRPOTrainer

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
    "_get_train_sampler": ["self", "dataset"],
    "_load_best_model": ["self"],
    "_load_from_checkpoint": ["self", "resume_from_checkpoint", "model"],
    "_load_rng_state": ["self", "checkpoint"],
    "_save_rng_state": ["self", "output_dir"],
    "_tokenize_prompts": ["self", "prompts"],
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
    assert name == "_tokenize_prompts" or name in vars(ShareGRPOTrainer)


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
    assert "generator=self.generator" in inspect.getsource(RepeatSampler.__iter__)
    assert hasattr(grpo_trainer, "shuffle_sequence_dict")
