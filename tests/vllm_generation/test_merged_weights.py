"""Adapters reach vLLM merged, and the base they adapt stays what it is to the last bit."""

import copy

import pytest
import torch
from accelerate import Accelerator
from peft import LoraConfig, get_peft_model
from torch import nn
from trl.distributed import DistributedBackend
from trl.generation.vllm_generation import VLLMGeneration

from r1_sharevl import UserError
from r1_sharevl.models.tiny import build_tiny_model
from r1_sharevl.vllm.generation import ShareVLLMGeneration
from r1_sharevl.vllm.merged_weights import check_mergeable

LINEAR = ["q_proj", "down_proj"]
KINDS = {
    "linear": {"target_modules": LINEAR, "modules_to_save": ["lm_head"]},
    "dora": {"target_modules": LINEAR, "use_dora": True},
    "bias": {"target_modules": ["q_proj"], "lora_bias": True},
    "embedding and convolution": {"target_modules": ["embed_tokens", "proj"]},
}


def backend(kind, model):
    """TRL's or our backend as far as it hands over weights; starting vLLM is another matter."""
    found = object.__new__(kind)
    found.model, found.accelerator = model, Accelerator(cpu=True)
    found._dist = DistributedBackend(found.accelerator)
    return found


def adapted(model, seed=0, **settings):
    model = get_peft_model(model.to(torch.bfloat16), LoraConfig(r=4, **settings))
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            parameter.data += torch.randn(parameter.shape, generator=generator) * 0.02
    return model


def frozen(model):
    return {name: value.clone() for name, value in model.state_dict().items() if "lora_" not in name}


def merged_at_once(model):
    """An independent answer: the whole model in float32, merged for good, rounded once."""
    whole = copy.deepcopy(model).float().merge_and_unload()
    return {name: value.to(torch.bfloat16) for name, value in whole.named_parameters()}


@pytest.mark.parametrize("kind", KINDS)
def test_vllm_gets_the_merged_weights_and_the_base_is_not_touched(processor, kind):
    model = adapted(build_tiny_model(processor), **KINDS[kind])
    before, expected = frozen(model), merged_at_once(model)
    trls = [name for name, _ in backend(VLLMGeneration, copy.deepcopy(model))._iter_named_params()]
    for _ in range(3):
        sent = [(name, value.clone()) for name, value in backend(ShareVLLMGeneration, model)._iter_named_params()]
        assert [name for name, _ in sent] == trls
        assert dict(sent).keys() == expected.keys()
        for name, value in sent:
            assert value.dtype == torch.bfloat16
            assert torch.equal(value, expected[name]), name
        assert all(torch.equal(value, before[name]) for name, value in frozen(model).items())
    plain = {name.removeprefix("base_model.model.").replace(".base_layer", ""): value for name, value in before.items()}
    changed = [name for name, value in sent if not torch.equal(value, plain.get(name, torch.empty(0)))]
    assert changed, "the adapters change weights"


def test_the_control_trls_own_way_changes_the_base(tiny_model):
    model = adapted(tiny_model, **KINDS["linear"])
    before = frozen(model)
    for _ in backend(VLLMGeneration, model)._iter_named_params():
        pass
    assert not all(torch.equal(value, before[name]) for name, value in frozen(model).items())


def test_a_merged_layer_is_base_plus_scaled_product_rounded_once(tiny_model):
    model = adapted(tiny_model, **KINDS["linear"])
    path, layer = next(
        (path, part) for path, part in model.named_modules() if path.endswith("layers.0.self_attn.q_proj")
    )
    change = layer.lora_B["default"].weight.float() @ layer.lora_A["default"].weight.float() * layer.scaling["default"]
    sent = dict(backend(ShareVLLMGeneration, model)._iter_named_params())
    found = sent[f"{path.removeprefix('base_model.model.')}.weight"]
    torch.testing.assert_close(found, (layer.base_layer.weight.float() + change).bfloat16(), rtol=0, atol=0)


class Experts(nn.Module):
    """Two parameters with all experts in each, as mixture-of-experts models of transformers 5 have them."""

    def __init__(self):
        super().__init__()
        self.up = nn.Parameter(torch.randn(3, 8, 16))
        self.down = nn.Parameter(torch.randn(3, 16, 8))

    def forward(self, x):
        return x @ self.up[0] @ self.down[0]


def test_adapters_of_fused_experts_around_each_other_are_all_merged():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 8), Experts())
    model = adapted(network, target_modules=["0"], target_parameters=["1.up", "1.down"])
    before, expected = frozen(model), merged_at_once(model)
    sent = dict(backend(ShareVLLMGeneration, model)._iter_named_params())
    assert sent.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(sent[name], value, rtol=0, atol=0)
    assert all(torch.equal(value, before[name]) for name, value in frozen(model).items())


def test_what_cannot_be_merged_for_vllm_is_refused_in_one_line(tiny_model):
    tiny_model.lm_head.weight = tiny_model.get_input_embeddings().weight
    model = adapted(tiny_model, target_modules=LINEAR)
    check_mergeable(model, sharded=False)
    with pytest.raises(UserError, match=r"FSDP or DeepSpeed ZeRO-3.*--accelerate ddp"):
        check_mergeable(model, sharded=True)
    tied = adapted(model.unload(), target_modules=["lm_head"])
    with pytest.raises(UserError, match=r"lm_head.*tied embeddings"):
        check_mergeable(tied, sharded=False)
