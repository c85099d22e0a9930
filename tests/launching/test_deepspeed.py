"""DeepSpeed: what of it shows without the package, and runs of two processes where it is installed."""

import importlib.util
import os
import shutil
import subprocess
import sys

import pytest
import torch
import yaml
from accelerate.state import AcceleratorState, PartialState
from datasets import Dataset
from safetensors.torch import load_file
from transformers.integrations import deepspeed as integration

from r1_sharevl.arguments import parse_run
from r1_sharevl.data.schema import prepared_features
from r1_sharevl.data.synthetic import synthetic_rows
from r1_sharevl.errors import UserError
from r1_sharevl.models.parameters import parameter_counts
from r1_sharevl.models.skeleton import load_skeleton
from r1_sharevl.planning.at_start import log_plan

installed = importlib.util.find_spec("deepspeed") is not None


class Zero3:
    """What transformers asks of DeepSpeed's config."""

    def is_zero3(self):
        return True


@pytest.fixture
def zero3():
    config = Zero3()  # transformers only holds a weak reference
    integration.set_hf_deepspeed_config(config)
    yield config
    integration.unset_hf_deepspeed_config()


def test_a_skeleton_is_not_cut_up(tiny_checkpoint, tiny_model, zero3):
    skeleton = load_skeleton(str(tiny_checkpoint))
    assert {parameter.device.type for parameter in skeleton.parameters()} == {"meta"}
    assert skeleton.num_parameters() == tiny_model.num_parameters()


def test_the_plan_at_the_start_leaves_the_state_of_the_run_alone(tiny_checkpoint, caplog):
    words = ["--dataset", "d", "--model_name_or_path", str(tiny_checkpoint), "--output_dir", "o"]
    words += ["--per_device_train_batch_size", "8", "--num_generations", "4", "--use_cpu", "--bf16", "false"]
    settings = parse_run([*words, "--max_completion_length", "4"])
    assert settings[1].world_size == 1
    config = Zero3()
    integration.set_hf_deepspeed_config(config)
    try:
        states = (AcceleratorState._shared_state, PartialState._shared_state)
        AcceleratorState._shared_state["of_this_run"] = True
        before = [dict(state) for state in states]
        with caplog.at_level("INFO", logger="r1_sharevl"):
            log_plan(*settings)
        assert "memory per GPU: about" in caplog.text
        assert [dict(state) for state in states] == before
        assert integration.is_deepspeed_zero3_enabled()
    finally:
        AcceleratorState._shared_state.pop("of_this_run", None)
        integration.unset_hf_deepspeed_config()


def test_parameters_that_are_cut_up_are_counted(tiny_model):
    total = tiny_model.num_parameters()
    tiny_model.model.visual.requires_grad_(False)
    trainable = tiny_model.num_parameters(only_trainable=True)
    for parameter in tiny_model.parameters():
        parameter.ds_numel = parameter.numel()
        parameter.data = torch.empty(0)
    assert parameter_counts(tiny_model) == (trainable, total)
    tiny_model.requires_grad_(False)
    with pytest.raises(UserError, match=f"none of the model's {total:,} parameters is trainable"):
        parameter_counts(tiny_model)


REWARD = """
def reward(completions, **kwargs):
    return [float(sum(map(ord, str(one))) % 7) for one in completions]
"""


def train(folder, *words):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    command = [sys.executable, "-m", "r1_sharevl.cli", "train", "--config", "run.yaml", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.skipif(
    not installed, reason='pip install "r1-sharevl[deepspeed]", then pytest tests/launching -k two_processes'
)
@pytest.mark.parametrize(("stage", "peft"), [("zero2", False), ("zero3", False), ("zero3", True)])
def test_two_processes_train_and_resume(stage, peft, tmp_path, tiny_checkpoint):
    rows = Dataset.from_list(list(synthetic_rows("train", 12, seed=0)), prepared_features({"question_type": "string"}))
    (tmp_path / "figures" / "data").mkdir(parents=True)
    rows.to_parquet(tmp_path / "figures" / "data" / "train-00000-of-00001.parquet")
    (tmp_path / "rewards.py").write_text(REWARD)
    settings = {
        "dataset": "figures",
        "model_name_or_path": str(tiny_checkpoint),
        "reward_funcs": ["rewards.py:reward"],
        "output_dir": "run",
        "num_generations": 4,
        "per_device_train_batch_size": 8,
        "max_completion_length": 6,
        "max_steps": 2,
        "save_strategy": "steps",
        "save_steps": 1,
        "learning_rate": 1e-3,
        "use_cpu": True,
        "bf16": False,
        "use_peft": peft,
        "lora_r": 4,
        "disable_tqdm": True,
        "report_to": "none",
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    name = "adapter_model.safetensors" if peft else "model.safetensors"
    launch = ["--accelerate", stage, "--num-processes", "2"]
    train(tmp_path, *launch)
    weights = load_file(tmp_path / "run" / name)
    # Without DeepSpeed the same two steps are done, up to the order of sums.
    train(tmp_path, "--num-processes", "2", "--output_dir", "ddp")
    plain = load_file(tmp_path / "ddp" / name)
    assert weights.keys() == plain.keys(), "the names of the release"
    for key, value in plain.items():
        torch.testing.assert_close(weights[key], value, rtol=0, atol=1e-4)
    untrained = load_file(tmp_path / "run" / "checkpoint-1" / name)
    assert any((weights[key] - untrained[key]).abs().max() > 5e-4 for key in weights)
    # A run that goes on from its first checkpoint ends with the same bits.
    shutil.rmtree(tmp_path / "run" / "checkpoint-2")
    (tmp_path / "run" / name).unlink()
    train(tmp_path, *launch, "--resume")
    resumed = load_file(tmp_path / "run" / name)
    assert all(torch.equal(resumed[key], weights[key]) for key in weights)
