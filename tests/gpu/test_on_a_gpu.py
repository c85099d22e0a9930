"""Training on a CUDA GPU. The same bodies run on the CPU, so that they are known to run; no GPU has run them yet."""

import importlib.util
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers.utils import is_flash_attn_2_available

from r1_sharevl.arguments import parse_run
from r1_sharevl.data.schema import prepared_features
from r1_sharevl.data.synthetic import synthetic_rows
from r1_sharevl.training import run_training

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
gpu = pytest.param("cuda", marks=[pytest.mark.gpu, needs_gpu])
ON_EITHER = pytest.mark.parametrize("device", ["cpu", gpu])


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


def weights(folder):
    return load_file(next(path for path in Path(folder).glob("*.safetensors")))


@ON_EITHER
def test_a_full_step_in_bf16(device, train, tiny_checkpoint):
    result = train(device)
    assert result.steps == 2
    before, after = weights(tiny_checkpoint), weights(result.output_dir)
    assert all(torch.isfinite(tensor).all() for tensor in after.values())
    assert any(not torch.equal(before[name], after[name]) for name in before.keys() & after.keys())


@ON_EITHER
@pytest.mark.parametrize("quantised", [False, True], ids=["lora", "qlora"])
def test_adapters_with_gradient_checkpointing(device, quantised, train):
    flags = ["--use_peft", "--lora_r", "4", "--gradient_checkpointing", "True"]
    result = train(device, *flags, *(["--load_in_4bit", "--use_bnb_nested_quant"] * quantised))
    after = weights(result.output_dir)
    assert all(torch.isfinite(tensor).all() for tensor in after.values())
    assert any(tensor.abs().sum() > 0 for name, tensor in after.items() if "lora_B" in name), "B starts at zero"


@ON_EITHER
def test_a_resumed_run_ends_where_the_whole_one_does(device, train):
    whole = train(device, "--save_strategy", "steps", "--save_steps", "1", out="whole")
    # The first half alone: the whole run's second checkpoint and result are gone, as after a cut.
    for path in [*Path(whole.output_dir).glob("*.safetensors")]:
        whole_weights = load_file(path)
        path.unlink()
    import shutil

    shutil.rmtree(Path(whole.output_dir, "checkpoint-2"))
    again = train(device, "--save_strategy", "steps", "--save_steps", "1", "--resume", out="whole")
    assert again.steps == 2
    tolerance = 0 if device == "cpu" else 1e-3
    for name, tensor in weights(again.output_dir).items():
        torch.testing.assert_close(tensor, whole_weights[name], atol=tolerance, rtol=tolerance)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.skipif(not is_flash_attn_2_available(), reason="flash attention is not installed")
def test_flash_attention(train):
    assert train("cuda", "--attn_implementation", "flash_attention_2", "--dtype", "bfloat16", "--use_peft").steps == 2


@ON_EITHER
@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_the_plan_is_within_15_percent_of_what_is_allocated(device, method, tmp_path):
    if device == "cpu" and method != "lora":
        pytest.skip("the CPU shows that the body runs: once is enough")
    path = Path(__file__).parents[2] / "benchmarks" / "memory.py"
    spec = importlib.util.spec_from_file_location("memory_benchmark", path)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    model, length, side = ("tiny", 4, 112) if device == "cpu" else ("middle", 256, 512)
    result = benchmark.measure(model, method, device, tmp_path, length=length, side=side)
    assert result["steps"] == 2
    if device == "cpu":
        assert result["measured"] is None
        return
    for phase, measured in result["measured"].items():
        assert result["planned"][phase] == pytest.approx(measured, rel=0.15), (phase, result)
