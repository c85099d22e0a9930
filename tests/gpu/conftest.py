"""Real runs of the tiny model, on any device."""

import importlib.util
from pathlib import Path

import pytest
import torch
import yaml

from r1_sharevl import ShareGRPOTrainer
from r1_sharevl.arguments import parse_run
from r1_sharevl.data.schema import prepared_features
from r1_sharevl.data.synthetic import synthetic_rows
from r1_sharevl.training import run_training


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    from datasets import Dataset

    folder = tmp_path_factory.mktemp("figures")
    (folder / "data").mkdir()
    rows = Dataset.from_list(
        list(synthetic_rows("train", 8, seed=0)), features=prepared_features({"question_type": "string"})
    )
    rows.to_parquet(folder / "data" / "train-00000-of-00001.parquet")
    return folder


@pytest.fixture
def train(tmp_path, data, tiny_checkpoint):
    """Run two real steps and return the result; flags come on top."""

    def train(device, *flags, out="run"):
        settings = {
            "dataset": str(data),
            "model_name_or_path": str(tiny_checkpoint),
            "output_dir": str(tmp_path / out),
            "num_generations": 4,
            "per_device_train_batch_size": 4,
            "gradient_accumulation_steps": 2,
            "max_completion_length": 6,
            "max_steps": 2,
            "learning_rate": 1e-3,
            "report_to": "none",
            "save_strategy": "no",
            "disable_tqdm": True,
            "reward_funcs": [str(tmp_path / "my.py:length")],
            "bf16": True,
            "use_cpu": device == "cpu",
        }
        (tmp_path / "my.py").write_text(
            "def length(completions, **kwargs):\n    return [float(len(c[0]['content'])) for c in completions]\n"
        )
        path = tmp_path / "run.yaml"
        path.write_text(yaml.safe_dump(settings))
        return run_training(*parse_run(flags, path))

    return train


@pytest.fixture
def handed(monkeypatch):
    """Hand random responses to every run, in place of sampling; return those handed out, per generation batch."""
    batches = []

    def hand(trainer, prompt_ids, *_, **__):
        words = sorted(set(range(len(trainer._tokenizer))) - set(trainer._tokenizer.all_special_ids))
        generator = torch.Generator().manual_seed(trainer.state.global_step)
        lengths = torch.randint(1, trainer.max_completion_length, (len(prompt_ids),), generator=generator)
        numbers = [torch.randint(len(words), (length,), generator=generator) for length in lengths.tolist()]
        batches.append([[words[number] for number in own] + [trainer._tokenizer.eos_token_id] for own in numbers])
        return [list(response) for response in batches[-1]], None

    monkeypatch.setattr(ShareGRPOTrainer, "_generate_single_turn", hand)
    return batches


@pytest.fixture(scope="session")
def memory_benchmark():
    """benchmarks/memory.py as a module."""
    path = Path(__file__).parents[2] / "benchmarks" / "memory.py"
    spec = importlib.util.spec_from_file_location("memory_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
