"""Training on a CUDA GPU. The same bodies run on the CPU, so that they are known to run; no GPU has run them yet."""

from pathlib import Path

import pytest
import torch
from devices import ON_EITHER, needs_gpu, weights
from safetensors.torch import load_file
from transformers.utils import is_flash_attn_2_available


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
@pytest.mark.parametrize("shared_prefix", ["auto", "off"])
@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_the_plan_is_within_15_percent_of_what_is_allocated(device, method, shared_prefix, tmp_path, memory_benchmark):
    if device == "cpu" and (method, shared_prefix) != ("lora", "auto"):
        pytest.skip("the CPU shows that the body runs: once is enough")
    model, length, side = ("tiny", 4, 112) if device == "cpu" else ("middle", 256, 512)
    result = memory_benchmark.measure(
        model, method, device, tmp_path, length=length, side=side, shared_prefix=shared_prefix
    )
    assert result["steps"] == 2
    if device == "cpu":
        assert result["measured"] is None
        return
    for phase, measured in result["measured"].items():
        assert result["planned"][phase] == pytest.approx(measured, rel=0.15), (phase, result)
