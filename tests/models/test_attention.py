"""Which attention is chosen: for a device, a precision, a model, and what is installed."""

import pytest
import torch
from families import FAMILIES

from r1_sharevl.errors import UserError
from r1_sharevl.models import attention
from r1_sharevl.models.attention import attention_implementation
from r1_sharevl.models.skeleton import build_skeleton

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture(scope="module")
def qwen():
    return build_skeleton(FAMILIES["qwen2_5_vl"]()[0])


@pytest.fixture
def gpu(monkeypatch):
    """A machine with a GPU of a compute capability, and the packages installed there."""

    def machine(capability, *installed):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        packages = {
            name: (package, lambda name=name: name in installed) for name, (package, _) in attention._FLASH.items()
        }
        monkeypatch.setattr(attention, "_FLASH", packages)

    return machine


@pytest.mark.parametrize(
    ("capability", "installed", "autocast", "chosen"),
    [
        ((8, 0), ["flash_attention_2"], True, "flash_attention_2"),
        ((9, 0), ["flash_attention_2", "flash_attention_3"], True, "flash_attention_3"),
        ((9, 0), ["flash_attention_2"], True, "flash_attention_2"),
        ((8, 9), ["flash_attention_2", "flash_attention_3"], True, "flash_attention_2"),
        ((8, 9), ["flash_attention_3"], True, "sdpa"),
        ((12, 0), ["flash_attention_3"], True, "sdpa"),
        ((7, 5), ["flash_attention_2"], True, "sdpa"),
        ((8, 0), [], True, "sdpa"),
        ((8, 0), ["flash_attention_2"], False, "sdpa"),
    ],
)
def test_the_fastest_that_is_installed_and_fits(qwen, gpu, caplog, capability, installed, autocast, chosen):
    gpu(capability, *installed)
    caplog.set_level("INFO")
    assert attention_implementation(None, qwen, device=CUDA, dtype="float32", autocast=autocast) == chosen
    assert [record.message for record in caplog.records if f"Attention: {chosen} (" in record.message]
    assert len(caplog.records) == 1


def test_half_precision_weights_need_no_autocast(qwen, gpu):
    gpu((8, 0), "flash_attention_2")
    assert attention_implementation(None, qwen, device=CUDA, dtype="bfloat16", autocast=False) == "flash_attention_2"


def test_the_cpu_and_a_model_with_two_way_image_attention_get_sdpa(qwen, gpu):
    gpu((8, 0), "flash_attention_2")
    assert attention_implementation(None, qwen, device=CPU, dtype="bfloat16", autocast=True) == "sdpa"
    gemma = build_skeleton(FAMILIES["gemma3"]()[0])
    assert attention_implementation(None, gemma, device=CUDA, dtype="bfloat16", autocast=True) == "sdpa"


def test_a_model_without_sdpa_gets_eager(qwen, monkeypatch):
    monkeypatch.setattr(type(qwen.model.visual), "_supports_sdpa", False)
    assert attention_implementation(None, qwen, device=CPU, dtype="float32", autocast=False) == "eager"


def test_what_the_user_asks_for_wins(qwen, gpu):
    gpu((9, 0), "flash_attention_2", "flash_attention_3")
    for asked in ("eager", "sdpa", "flash_attention_2", "no_such_attention"):  # the last is transformers' to refuse
        assert attention_implementation(asked, qwen, device=CUDA, dtype="float32", autocast=True) == asked


@pytest.mark.parametrize(
    ("asked", "installed", "device", "autocast", "message"),
    [
        ("flash_attention_2", [], CUDA, True, "needs the package flash-attn and a CUDA GPU"),
        ("flash_attention_3", ["flash_attention_2"], CUDA, True, "needs the package flash-attn-3"),
        ("flash_attention_2", ["flash_attention_2"], CPU, True, "needs a CUDA GPU, this run is on cpu"),
        ("flash_attention_2", ["flash_attention_2"], CUDA, False, "computes in bf16 or fp16 only"),
        ("kernels-community/flash-attn2", [], CUDA, True, "needs the package kernels: pip install kernels"),
    ],
)
def test_what_cannot_work_is_one_line(qwen, gpu, monkeypatch, asked, installed, device, autocast, message):
    gpu((8, 0), *installed)
    monkeypatch.setattr(attention, "is_kernels_available", lambda: False)
    with pytest.raises(UserError, match=message) as raised:
        attention_implementation(asked, qwen, device=device, dtype="float32", autocast=autocast)
    assert "\n" not in str(raised.value)
