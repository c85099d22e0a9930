"""Rows generated from prompts that were computed once are those that `generate` makes of each row by itself."""

import pytest
import torch
from families import FAMILIES, TEXT
from PIL import Image
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    DynamicCache,
    GenerationConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from r1_sharevl.rollouts.prefill import prefill, why_no_prefill
from r1_sharevl.rollouts.tokens import prepare_images, prompt_ids
from r1_sharevl.shared_prefix.attention import two_part_attention_in
from r1_sharevl.shared_prefix.images import no_images
from r1_sharevl.shared_prefix.support import SharedModel

CPU = torch.device("cpu")
COPIES = 3
TEXT_CONFIGS = {
    "qwen2": Qwen2Config(**TEXT, vocab_size=300),
    "qwen3": Qwen3Config(**TEXT, vocab_size=300),
    "llama": LlamaConfig(**TEXT, vocab_size=300),
    "mistral": MistralConfig(**TEXT, vocab_size=300, sliding_window=None),
}
PICTURES = [Image.linear_gradient("L").convert("RGB").resize(size) for size in ((60, 90), (110, 60), (80, 80))]
QUESTIONS = (("How many dots?", [0]), ("Count the dots, please.", [0]), ("Which has more?", [1, 2]), ("2+2?", []))
SAMPLING = {"do_sample": True, "top_k": 20, "top_p": 0.9, "min_p": 0.01, "repetition_penalty": 1.2}


def build(name):
    """A family's model in training mode, as in a trainer; its rows' prompts, their images' numbers, the images."""
    config, processor = (TEXT_CONFIGS[name], None) if name in TEXT_CONFIGS else FAMILIES[name]()
    auto = AutoModelForCausalLM if processor is None else AutoModelForImageTextToText
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = auto.from_config(config).train()
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    if processor is None:
        prompts = [[7, 8, 9, 10, 11, 12, 13], [20, 21], [30, 31, 32, 33], [5]]
        return model, COPIES * prompts, COPIES * [[] for _ in prompts], no_images()
    images = prepare_images(processor, PICTURES)
    numbers = [own for _, own in QUESTIONS]
    messages = [
        [{"role": "user", "content": [*({"type": "image"} for _ in own), {"type": "text", "text": text}]}]
        for text, own in QUESTIONS
    ]
    prompts = prompt_ids(processor, messages, numbers, images.grids)
    return model, COPIES * prompts, COPIES * numbers, images


def settings(model, **others):
    config = GenerationConfig(
        max_new_tokens=16,
        pad_token_id=0,
        eos_token_id=list(range(100, 110)),  # so that rows end at different times
        suppress_tokens=[3],
        disable_compile=True,
        **others,
    )
    model.generation_config = config
    return config


@torch.no_grad()
def generated_once(model, prompts, numbers, images, config, seed=5, **padding):
    """Generate from one prefill; returns what `generate` returns for rows of the same width."""
    shared = SharedModel(model)
    torch.manual_seed(seed)
    with two_part_attention_in(shared.decoder):
        filled = prefill(shared, prompts, numbers, images, padding_token=0, device=CPU, **padding)
    return model.generate(**filled.inputs, generation_config=config), filled


@torch.no_grad()
def generated(model, prompts, numbers, images, config, seed=5):
    """Generate from ordinary rows, padded on the left, as TRL does it."""
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    fields = images.fields([number for own in numbers for number in own], CPU)
    if fields:
        fields["mm_token_type_ids"] = (ids == model.config.image_token_id).int()
    torch.manual_seed(seed)
    return model.generate(input_ids=ids, attention_mask=mask, generation_config=config, **fields)


@pytest.mark.parametrize("name", [*TEXT_CONFIGS, "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe"])
def test_rows_of_one_prefill_are_those_of_generate(name):
    model, prompts, numbers, images = build(name)
    found, _ = generated_once(model, prompts, numbers, images, settings(model, **SAMPLING))
    drawn_next = torch.rand(1)
    expected = generated(model, prompts, numbers, images, settings(model, **SAMPLING))
    assert torch.equal(found, expected)
    assert torch.equal(drawn_next, torch.rand(1)), "as many random numbers were used"
    assert len(set(map(tuple, found.tolist()))) > len(prompts) // COPIES, "rows of a prompt have draws of their own"

    greedy = settings(model, do_sample=False)
    rows, _ = generated_once(model, prompts, numbers, images, greedy)
    width = max(map(len, prompts))
    for row, prompt, own in list(zip(rows, prompts, numbers, strict=True))[: len(prompts) // COPIES]:
        alone = generated(model, [prompt], [own], images, greedy)[0, len(prompt) :]
        assert torch.equal(row[width : width + len(alone)], alone)


@pytest.mark.parametrize("name", ["qwen2", "qwen2_5_vl", "qwen3_vl"])
def test_each_distinct_token_and_image_is_computed_once(name):
    model, prompts, numbers, images = build(name)
    widths, patches = [], []
    model.get_decoder().register_forward_hook(lambda _, __, output: widths.append(output[0].shape[:2]))
    model.get_output_embeddings().register_forward_hook(lambda _, __, output: widths.append(output.shape[:2]))
    if len(images):
        tower = model.model.visual
        tower.register_forward_pre_hook(lambda _, args, __: patches.append(len(args[0])), with_kwargs=True)
    _, filled = generated_once(model, prompts, numbers, images, settings(model))
    distinct = {(tuple(prompt), tuple(own)) for prompt, own in zip(prompts, numbers, strict=True)}
    assert filled.tokens == sum(len(prompt) - 1 for prompt, _ in distinct)
    assert widths[:4] == [(1, filled.tokens), (1, 1), (len(prompts), 1), (len(prompts), 1)]
    assert patches == ([sum(map(len, images.pixel_values))] if len(images) else [])


def test_equal_tokens_with_other_images_are_other_prompts():
    model, prompts, _, images = build("qwen2_5_vl")
    images = type(images)([images.pixel_values[0], 1 - images.pixel_values[0]], images.grids[[0, 0]])
    pair, numbers = [prompts[0], prompts[0]], [[0], [1]]
    found, filled = generated_once(model, pair, numbers, images, settings(model))
    assert filled.tokens == 2 * (len(prompts[0]) - 1)
    assert torch.equal(found, generated(model, pair, numbers, images, settings(model)))
    assert not torch.equal(found[0], found[1])


def test_prompts_of_one_token_have_nothing_to_share():
    model, _, _, images = build("qwen2")
    prompts = [[5], [6], [5]]
    found, filled = generated_once(model, prompts, [[], [], []], images, settings(model))
    assert filled.tokens == 0
    assert torch.equal(found, generated(model, prompts, [[], [], []], images, settings(model)))


def test_the_packed_cache_is_freed_layer_by_layer(monkeypatch):
    caches = []

    class Kept(DynamicCache):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            caches.append(self)

    monkeypatch.setattr("r1_sharevl.rollouts.prefill.DynamicCache", Kept)
    model, prompts, numbers, images = build("qwen2")
    generated_once(model, prompts, numbers, images, settings(model))
    packed, rows = caches
    assert all(layer.keys is None and layer.values is None for layer in packed.layers)
    assert all(len(layer.keys) == len(prompts) for layer in rows.layers)


def test_rows_are_padded_to_a_multiple():
    model, prompts, numbers, images = build("qwen2")
    greedy = settings(model, do_sample=False)
    found, filled = generated_once(model, prompts, numbers, images, greedy, multiple_of=8)
    assert filled.inputs["input_ids"].shape == (len(prompts), 8)
    assert torch.equal(found[:, 8:], generated(model, prompts, numbers, images, greedy)[:, 7:])


@pytest.mark.parametrize(
    ("setting", "value"), [("cache_implementation", "static"), ("use_cache", False), ("num_beams", 2)]
)
def test_settings_that_decide_on_the_cache_are_named(setting, value):
    model = SharedModel(build("qwen2")[0])
    assert f"{setting}={value!r}" in why_no_prefill(model, GenerationConfig(**{setting: value}))
    assert why_no_prefill(model, GenerationConfig()) is None


def test_eager_attention_is_named():
    model = AutoModelForCausalLM.from_config(TEXT_CONFIGS["qwen2"], attn_implementation="eager")
    assert "eager" in why_no_prefill(SharedModel(model), GenerationConfig())
