"""Parameters counted without weights against real models, and against the published sizes of well-known ones."""

import pytest
import torch
from peft import get_peft_model
from transformers import AutoConfig, AutoModelForImageTextToText, PretrainedConfig
from trl import ModelConfig

from r1_sharevl.errors import UserError
from r1_sharevl.models.adapters import adapter_config
from r1_sharevl.models.known_models import KNOWN_MODELS, known_config
from r1_sharevl.models.quantization import quantization_config
from r1_sharevl.models.skeleton import build_skeleton
from r1_sharevl.planning.counting import build_on_meta, count_parameters, load_config

PUBLISHED = {  # safetensors metadata of the model cards
    "Qwen2-VL-2B": 2_208_985_600,
    "Qwen2-VL-7B": 8_291_375_616,
    "Qwen2.5-VL-3B": 3_754_622_976,
    "Qwen2.5-VL-7B": 8_292_166_656,
    "Qwen2.5-VL-32B": 33_452_718_336,
    "Qwen2.5-VL-72B": 73_410_777_344,
    "Qwen3-VL-2B": 2_127_532_032,
    "Qwen3-VL-4B": 4_437_815_808,
    "Qwen3-VL-8B": 8_767_123_696,
    "Qwen3-VL-32B": 33_357_390_064,
}


@pytest.mark.parametrize("name", KNOWN_MODELS)
def test_well_known_models_have_their_published_size(name):
    count = count_parameters(build_skeleton(known_config(f"Qwen/{name}-Instruct")))
    assert count.total == PUBLISHED[name]
    assert {one.part for one in count.parameters} >= {"language", "vision", "embeddings"}


def test_names_are_found_with_and_without_organisation_and_ending():
    assert isinstance(known_config("somebody/Qwen3-VL-4B-Thinking"), PretrainedConfig)
    assert known_config("Qwen2.5-VL-7B/") is not None
    assert known_config("Qwen/Qwen2.5-VL-5B-Instruct") is None


def settings(kind, checkpoint, **more):
    flags = {"full": {}, "lora": {"use_peft": True, "lora_r": 4}}
    flags["qlora"] = {**flags["lora"], "load_in_4bit": True, "use_bnb_nested_quant": True}
    return ModelConfig(model_name_or_path=str(checkpoint), dtype="bfloat16", **flags[kind], **more)


def load(model_args, checkpoint, train_vision):
    """The model as the trainer loads it, with weights."""
    skeleton = build_skeleton(AutoConfig.from_pretrained(checkpoint))
    quantization = quantization_config(model_args, skeleton)
    model = AutoModelForImageTextToText.from_pretrained(
        checkpoint, dtype=torch.bfloat16, quantization_config=quantization
    )
    lora = adapter_config(model_args, skeleton, train_vision=train_vision)
    if lora is not None:
        model = get_peft_model(model, lora)
    return model


def held_bytes(model):
    """Bytes of the real tensors, those of 4-bit weights with their scales but without the shared code tables."""
    total = 0
    for parameter in model.parameters():
        total += parameter.numel() * parameter.element_size()
        state = getattr(parameter, "quant_state", None)
        if state is not None:
            total += state.absmax.numel() * state.absmax.element_size()
            total += state.state2.absmax.numel() * 4 if state.nested else 0
    return total


@pytest.mark.parametrize("kind", ["full", "lora", "qlora"])
@pytest.mark.parametrize("train_vision", [False, True], ids=["frozen tower", "trained tower"])
def test_bytes_are_those_of_the_real_model(kind, train_vision, tiny_checkpoint):
    model_args = settings(kind, tiny_checkpoint)
    real = load(model_args, tiny_checkpoint, train_vision)
    planned = count_parameters(
        build_on_meta(
            AutoConfig.from_pretrained(tiny_checkpoint),
            model_args,
            train_vision=None if kind == "full" else train_vision,
        ),
        double_quantised=True,
    )
    assert planned.bytes_of(adapter=True) + planned.bytes_of(adapter=False) == held_bytes(real)
    assert planned.trainable == sum(one.numel() for one in real.parameters() if one.requires_grad)
    assert count_parameters(real).parameters == planned.parameters
    assert any(one.quantised for one in planned.parameters) == (kind == "qlora")


def test_full_fine_tuning_with_a_frozen_tower_trains_the_language_model_only(tiny_checkpoint):
    model = build_on_meta(
        AutoConfig.from_pretrained(tiny_checkpoint), settings("full", tiny_checkpoint), train_vision=False
    )
    count = count_parameters(model)
    assert {one.part for one in count.parameters if one.trainable} == {"language", "embeddings"}
    assert count.trainable < count.total


def test_config_of_a_known_model_needs_no_network_and_an_unknown_one_is_one_line():
    config, source = load_config("Qwen/Qwen2.5-VL-3B-Instruct")
    assert (config.model_type, source) == ("qwen2_5_vl", "built-in table")
    with pytest.raises(UserError, match="nobody/nothing: its config cannot be loaded"):
        load_config("nobody/nothing")
