"""Which models may share prefixes, and the line that says why the others may not."""

import pytest
from packed_passes import FAMILIES, TEXT, TEXT_CONFIGS, build, by_rows, difference, mixed_batch, outcome, packed
from peft import IA3Config, LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from torch import nn
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
)
from trl import GRPOConfig

from r1_sharevl.models.skeleton import build_skeleton
from r1_sharevl.shared_prefix.support import TEXT_FAMILIES, VISION_FAMILIES, SharedModel, why_not, why_not_settings

TOY = {**TEXT, "vocab_size": 300}


def decoder(**settings):
    return build(Qwen2Config(**TOY, **settings))


@pytest.mark.parametrize("name", FAMILIES)
def test_families_with_images(name):
    model = build_skeleton(FAMILIES[name]()[0])
    if name in VISION_FAMILIES:
        assert why_not(model) is None
    else:
        assert f"the model family {name} is not known to share prefixes (qwen2_vl" in why_not(model)


def test_families_of_texts():
    assert set(TEXT_CONFIGS) == set(TEXT_FAMILIES)
    assert [why_not(build(config)) for config in TEXT_CONFIGS.values()] == [None] * 4
    assert "gemma2 is not known" in why_not(Gemma2ForCausalLM(Gemma2Config(**TOY)))


@pytest.mark.parametrize(
    ("asked", "of_config", "in_outputs", "shares"),
    [(None, 0.001, False, False), (0.0, 0.001, False, True), (None, 0.0, False, True), (0.0, 0.0, True, False)],
)
def test_experts_share_where_their_load_is_not_balanced(asked, of_config, in_outputs, shares, tmp_path):
    config, _ = FAMILIES["qwen3_vl_moe"]()
    config.get_text_config().update({"router_aux_loss_coef": of_config, "output_router_logits": in_outputs})
    run = GRPOConfig(output_dir=str(tmp_path), router_aux_loss_coef=asked, use_cpu=True, bf16=False)
    found = why_not_settings(run, config)
    assert (found is None) == shares
    assert shares or "load-balancing loss" in found


def test_what_cannot_share_would_be_wrong():
    """Layers that see a window of tokens: a packed pass over them is another computation."""
    model = build(MistralConfig(**TOY, sliding_window=4))
    batch = mixed_batch(None)
    assert why_not(model) == "the model has layers with sliding_attention"
    wrong = difference(outcome(model, packed, batch), outcome(model, by_rows, batch))
    assert wrong.log_prob > 0.1


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (Qwen2Config(**TOY, use_sliding_window=True, sliding_window=8, max_window_layers=1), "sliding_attention"),
        (Qwen3Config(**TOY, use_sliding_window=True, sliding_window=8, max_window_layers=0), "sliding_attention"),
        (Qwen2Config(**TOY, use_sliding_window=True, sliding_window=8, max_window_layers=2), None),
        (Qwen2Config(**TOY, use_sliding_window=False, sliding_window=8), None),
        (MistralConfig(**TOY), "sliding_attention"),  # its default: a window of 4096 tokens
        (LlamaConfig(**TOY, rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}), "dynamic"),
        (LlamaConfig(**TOY, rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}), None),
        (Qwen2Config(**TOY, tie_word_embeddings=True), None),
        (Qwen2Config(**TOY, use_cache=False), None),
    ],
    ids=lambda value: value.model_type if isinstance(value, PretrainedConfig) else str(value),
)
def test_settings_of_a_config(config, reason):
    model = build(config)
    found = why_not(model)
    if reason is not None:
        assert reason in found
        return
    assert found is None
    batch = mixed_batch(None)
    assert difference(outcome(model, packed, batch), outcome(model, by_rows, batch)).is_noise


@pytest.mark.parametrize(
    ("attention", "reason"),
    [
        ("sdpa", None),
        ("eager", None),
        ("flash_attention_2", None),
        ("kernels-community/flash-attn3", None),
        ("sage_attention", "attn_implementation sage_attention is not known to compute what sdpa computes: use sdpa"),
    ],
)
def test_names_of_attention(attention, reason):
    model = decoder()
    batch = mixed_batch(None)
    expected = outcome(model, by_rows, batch)
    model.get_decoder().config._attn_implementation = attention  # what is not installed here has no other way in
    assert why_not(model) == reason
    assert SharedModel(model).attends_densely == (attention == "eager")
    if reason is None:
        dense = SharedModel(model).attends_densely
        found = difference(outcome(model, packed, batch, dense=dense), expected)
        assert found.is_noise, "a packed pass does not use the decoder's own attention, except for eager"


def test_adapters():
    linear = {"target_modules": ["q_proj", "v_proj"]}
    assert why_not(get_peft_model(decoder(), LoraConfig(**linear))) is None
    assert why_not(get_peft_model(decoder(), LoraConfig(**linear, use_dora=True, use_rslora=True))) is None
    for settings, reason in (
        (PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3), "adapters of the type PROMPT_TUNING"),
        (PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3), "adapters of the type PREFIX_TUNING"),
        (IA3Config(target_modules=["k_proj"], feedforward_modules=[]), "adapters of the type IA3"),
        (LoraConfig(**linear, task_type="CAUSAL_LM", alora_invocation_tokens=[7]), "an activated LoRA"),
    ):
        assert why_not(get_peft_model(decoder(), settings)).startswith(reason)


def test_one_of_two_adapters_is_enough():
    model = get_peft_model(decoder(), LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM"))
    model.add_adapter(
        "second", LoraConfig(target_modules=["k_proj"], task_type="CAUSAL_LM", alora_invocation_tokens=[7])
    )
    assert why_not(model).startswith("an activated LoRA")


def test_models_of_others():
    for module in ("transformers_modules.someone.modeling", "__main__"):
        own = type("OwnQwen", (Qwen2ForCausalLM,), {"__module__": module})
        assert why_not(own(Qwen2Config(**TOY))) == (
            "OwnQwen is not a model of transformers itself, so its attention is not known"
        )
    assert why_not(nn.Linear(1, 1)).startswith("Linear is not a model of transformers itself")
