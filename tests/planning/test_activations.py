"""The activation formulas against what autograd really keeps and the allocator really gives, on the CPU."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.profiler import ProfilerActivity, profile
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from r1_sharevl.models.tiny import build_tiny_model
from r1_sharevl.planning.activations import (
    LoraCost,
    Precision,
    decoder_backward,
    decoder_layer,
    decoder_working_set,
    two_part_attention,
    two_part_working_set,
    vision_block,
    vision_working_set,
)
from r1_sharevl.planning.shapes import language_shape, vision_shape
from r1_sharevl.shared_prefix.attention import SharedPrefix, two_part_attention_in
from r1_sharevl.shared_prefix.packing import PromptSpan

HIDDEN, MLP, HEADS, KV_HEADS = 256, 704, 4, 2
ROWS, TOKENS = 2, 64
PATCHES = 16 * 16


def kept_bytes(forward, parameters, *, autocast):
    """Bytes of the distinct storages that autograd keeps during `forward`, parameters aside."""
    own = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=autocast),
    ):
        result = forward()
    del result
    return sum(storage.nbytes() for storage in kept.values())


def peak_bytes(work):
    """Highest number of bytes that `work` had allocated at once beyond what was there before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    allocated = peak = 0
    for event in profiled.profiler.kineto_results.events():
        if event.name() == "[memory]":
            allocated += event.nbytes()
            peak = max(peak, allocated)
    return peak


@pytest.fixture(scope="module")
def build(processor):
    def build(layers=1, blocks=1):
        return build_tiny_model(
            processor,
            text={
                "hidden_size": HIDDEN,
                "intermediate_size": MLP,
                "num_hidden_layers": layers,
                "num_attention_heads": HEADS,
                "num_key_value_heads": KV_HEADS,
                "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [8, 12, 12]},
            },
            vision={
                "hidden_size": 128,
                "intermediate_size": 320,
                "num_heads": 4,
                "depth": blocks,
                "fullatt_block_indexes": [0],
            },
        )

    return build


def qwen3(layers=1, blocks=1):
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": 700,
            "hidden_size": HIDDEN,
            "intermediate_size": MLP,
            "num_hidden_layers": layers,
            "num_attention_heads": HEADS,
            "num_key_value_heads": KV_HEADS,
            "head_dim": 64,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [12, 10, 10]},
        },
        vision_config={
            "depth": blocks,
            "hidden_size": 128,
            "intermediate_size": 320,
            "num_heads": 4,
            "out_hidden_size": HIDDEN,
            "deepstack_visual_indexes": [],
        },
    )
    return Qwen3VLForConditionalGeneration(config)


def text_inputs(padded):
    ids = torch.randint(300, 600, (ROWS, TOKENS))
    mask = torch.ones_like(ids)
    mask[0, :5] = 0 if padded else 1
    return {"input_ids": ids, "attention_mask": mask, "use_cache": False}


@pytest.mark.parametrize("padded", [False, True], ids=["even", "padded"])
@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
@pytest.mark.parametrize(
    ("kind", "dtype", "autocast"),
    [
        ("full", torch.float32, False),
        ("full", torch.bfloat16, True),
        ("lora", torch.bfloat16, True),
        ("qlora", torch.bfloat16, True),
        ("no dropout", torch.bfloat16, True),
    ],
    ids=lambda value: str(value).removeprefix("torch."),
)
def test_a_decoder_layer_keeps_what_the_formula_says(kind, dtype, autocast, padded, family, build):
    def kept(layers):
        model = (build(layers) if family == "qwen2_5_vl" else qwen3(layers)).to(dtype).train()
        if kind != "full":
            dropout = 0.0 if kind == "no dropout" else 0.05
            config = LoraConfig(r=16, lora_dropout=dropout, target_modules="all-linear", exclude_modules=".*visual.*")
            model = get_peft_model(model, config)
            if kind == "qlora":  # as TRL does for a quantised base
                model.to(dtype)
            model.enable_input_require_grads()
        base = model if kind == "full" else model.get_base_model()
        inputs = text_inputs(padded)
        return kept_bytes(lambda: base.model(**inputs), list(model.parameters()), autocast=autocast), base.config

    (one, _), (three, config) = kept(1), kept(3)
    precision = Precision(dtype.itemsize, 2 if autocast else dtype.itemsize)
    lora = None
    if kind != "full":
        stored = 2 if kind == "qlora" else 4
        lora = LoraCost(rank=16, stored=stored, dropout=kind != "no dropout", mask_bytes=stored)
    shape = language_shape(config)
    expected = decoder_layer(shape, precision, trained=kind == "full", lora=lora, padded_to=TOKENS if padded else 0)
    if lora is not None and lora.stored != 2:
        # The 16-bit copies of float32 adapters, which the plan counts for all layers at once.
        q, k = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        sides = [(HIDDEN, q), (HIDDEN, k), (HIDDEN, k), (q, HIDDEN), (HIDDEN, MLP), (HIDDEN, MLP), (MLP, HIDDEN)]
        expected += 2 * 16 * sum(map(sum, sides)) / (ROWS * TOKENS)
    assert (three - one) / 2 / (ROWS * TOKENS) == pytest.approx(expected, rel=0.03)


def test_a_vision_towers_depth_needs_no_alias(monkeypatch):
    config = qwen3(blocks=3).config
    monkeypatch.setattr(type(config.vision_config), "attribute_map", {"num_attention_heads": "num_heads"})  # as in 5.17
    assert not hasattr(config.vision_config, "num_hidden_layers")
    assert vision_shape(config).layers == 3


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
@pytest.mark.parametrize(("dtype", "autocast"), [(torch.float32, False), (torch.bfloat16, True)])
def test_a_vision_block_keeps_what_the_formula_says(family, dtype, autocast, build):
    def kept(blocks):
        model = (build(1, blocks) if family == "qwen2_5_vl" else qwen3(1, blocks)).to(dtype).train()
        tower, shape = model.model.visual, vision_shape(model.config)
        pixels = torch.randn(PATCHES, shape.numbers_per_patch)
        grid = torch.tensor([[1, 16, 16]])
        return kept_bytes(lambda: tower(pixels, grid_thw=grid), list(model.parameters()), autocast=autocast), shape

    (one, _), (three, shape) = kept(1), kept(3)
    precision = Precision(dtype.itemsize, dtype.itemsize)
    assert (three - one) / 2 / PATCHES == pytest.approx(vision_block(shape, precision), rel=0.15)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
def test_the_peak_of_a_forward_and_backward_pass(checkpointing, build):
    layers, tokens = 6, 256
    model = build(layers).train()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    for parameter in model.parameters():  # gradients are counted apart
        parameter.grad = torch.zeros_like(parameter)
    ids = torch.randint(300, 600, (4, tokens))
    decoder = model.model.language_model

    def step():
        decoder(input_ids=ids, use_cache=False).last_hidden_state.sum().backward()

    step()
    measured = peak_bytes(step)
    shape, precision = language_shape(model.config), Precision(4, 4)
    layer = decoder_layer(shape, precision, trained=True)
    backward = decoder_backward(shape, precision)
    inputs = layers * 4 * HIDDEN
    expected = 4 * tokens * ((inputs + layer if checkpointing else layers * layer) + backward)
    # A weight's new gradient exists beside the accumulated one for a moment.
    expected += 4 * HIDDEN * MLP
    assert measured == pytest.approx(expected, rel=0.15)


def test_the_peak_without_gradients(build):
    model = build(3, 3).eval()
    ids = torch.randint(300, 600, (4, 256))
    pixels, grid = torch.randn(PATCHES * 4, 1176), torch.tensor([[1, 16, 16]] * 4)

    def read():
        with torch.no_grad():
            model.model.language_model(input_ids=ids, use_cache=False)

    def look():
        with torch.no_grad():
            model.model.visual(pixels, grid_thw=grid)

    read(), look()
    precision = Precision(4, 4)
    assert peak_bytes(read) == pytest.approx(
        4 * 256 * decoder_working_set(language_shape(model.config), precision), rel=0.15
    )
    assert peak_bytes(look) == pytest.approx(
        4 * PATCHES * vision_working_set(vision_shape(model.config), precision), rel=0.15
    )


PREFIX, LENGTH, RESPONSES = 96, 8, 12
PACKED = {  # two prompts with many short responses each, so that the copies of keys and values weigh
    "tokens": 2 * (PREFIX + RESPONSES * LENGTH),
    "scored": 2 * RESPONSES * LENGTH,
    "seen": 2 * RESPONSES * (PREFIX + LENGTH),
}


def packed_pass(model):
    """The decoder over packed rows, as `packed_log_probs` calls it; attention is set around it."""
    spans = [PromptSpan(number * PACKED["tokens"] // 2, PREFIX, (LENGTH,) * RESPONSES) for number in range(2)]
    places = torch.arange(PACKED["tokens"])
    return model(
        input_ids=torch.randint(300, 600, (1, PACKED["tokens"])),
        position_ids=places.expand(3, 1, -1),
        attention_mask=torch.zeros(1, 1, 0, 0, dtype=torch.bool),
        shared_prefix=SharedPrefix(spans, torch.device("cpu")),
        use_cache=False,
    )


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
@pytest.mark.parametrize(
    ("kind", "dtype", "autocast"),
    [("full", torch.float32, False), ("lora", torch.bfloat16, True), ("no dropout", torch.bfloat16, True)],
    ids=lambda value: str(value).removeprefix("torch."),
)
def test_a_decoder_layer_over_packed_rows_keeps_what_the_formula_says(kind, dtype, autocast, family, build):
    def kept(layers):
        model = (build(layers) if family == "qwen2_5_vl" else qwen3(layers)).to(dtype).train()
        if kind != "full":
            dropout = 0.0 if kind == "no dropout" else 0.05
            config = LoraConfig(r=16, lora_dropout=dropout, target_modules="all-linear", exclude_modules=".*visual.*")
            model = get_peft_model(model, config).to(dtype)
            model.enable_input_require_grads()
        base = model if kind == "full" else model.get_base_model()
        with two_part_attention_in(base.get_decoder()):
            bytes_ = kept_bytes(lambda: packed_pass(base.model), list(model.parameters()), autocast=autocast)
        return bytes_, base.config

    (one, _), (three, config) = kept(1), kept(3)
    shape, precision = language_shape(config), Precision(dtype.itemsize, dtype.itemsize)
    lora = None if kind == "full" else LoraCost(rank=16, stored=2, dropout=kind == "lora", mask_bytes=2)
    expected = PACKED["tokens"] * decoder_layer(shape, precision, trained=kind == "full", lora=lora)
    expected += two_part_attention(shape, precision, **PACKED)
    assert (three - one) / 2 == pytest.approx(expected, rel=0.08)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
def test_the_peak_of_a_packed_forward_and_backward_pass(checkpointing, build):
    layers = 6
    model = build(layers).train()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)

    def step():
        with two_part_attention_in(model.get_decoder()):
            packed_pass(model.model.language_model).last_hidden_state.sum().backward()

    step()
    measured = peak_bytes(step)
    shape, precision = language_shape(model.config), Precision(4, 4)
    layer = PACKED["tokens"] * decoder_layer(shape, precision, trained=True)
    layer += two_part_attention(shape, precision, **PACKED)
    backward = PACKED["tokens"] * decoder_backward(shape, precision)
    inputs = PACKED["tokens"] * layers * 4 * HIDDEN
    expected = (inputs + layer if checkpointing else layers * layer) + backward + 4 * HIDDEN * MLP
    assert measured == pytest.approx(expected, rel=0.15)


def test_the_peak_of_a_packed_pass_without_gradients(build):
    model = build(3).eval()

    def read():
        with torch.no_grad(), two_part_attention_in(model.get_decoder()):
            packed_pass(model.model.language_model)

    read()
    shape, precision = language_shape(model.config), Precision(4, 4)
    expected = max(
        PACKED["tokens"] * decoder_working_set(shape, precision), two_part_working_set(shape, precision, **PACKED)
    )
    assert peak_bytes(read) == pytest.approx(expected, rel=0.15)
