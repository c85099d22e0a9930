"""A packed pass gives the log-probabilities, entropies and gradients of ordinary rows, within the noise of float32."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from packed_passes import (
    LOG_PROB,
    TEXT_CONFIGS,
    attention_for_packed_rows,
    batch_of,
    by_rows,
    difference,
    family,
    gradients,
    mixed_batch,
    one_by_one,
    outcome,
    packed,
    packed_pass,
    packing_of,
    pictures,
    tokens_of,
    with_head,
)
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig

from r1_sharevl.rollouts.tokens import prepare_images
from r1_sharevl.shared_prefix.packing import PromptSpan
from r1_sharevl.shared_prefix.support import VISION_FAMILIES

ATTENTION = pytest.mark.parametrize("dense", [False, True], ids=["two-part", "dense"])
LINEAR = [f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")]


@pytest.fixture(scope="module")
def made():
    """A family's model, a mixed batch of rows and what the ordinary pass makes of it: computed once."""
    found = {}

    def of(name):
        if name not in found:
            model, processor = family(name)
            batch = mixed_batch(processor)
            found[name] = model, batch, outcome(model, by_rows, batch)
        return found[name]

    return of


@pytest.fixture
def qwen():
    """A Qwen2.5-VL for the test alone, and its processor."""
    return family("qwen2_5_vl")


@pytest.mark.parametrize("name", [*VISION_FAMILIES, *TEXT_CONFIGS])
@ATTENTION
def test_every_family(made, name, dense):
    model, batch, expected = made(name)
    found = outcome(model, packed, batch, dense=dense)
    assert difference(found, expected).is_noise, difference(found, expected)
    assert found[0][~batch.completion_mask].eq(0).all()
    assert len(packing_of(model, batch).tokens) < 0.65 * batch.attention_mask.sum()


@pytest.mark.parametrize("name", ["qwen2", "qwen2_5_vl"])
def test_the_noise_is_that_of_rows_one_at_a_time(made, name):
    model, batch, expected = made(name)
    alone = difference(outcome(model, one_by_one, batch), expected)
    assert alone.is_noise, alone


def causal_over_everything(packing):
    return replace(packing, spans=(PromptSpan(0, len(packing.tokens), ()),))


def running_on(packing):
    return replace(packing, positions=torch.arange(len(packing.tokens)).expand(packing.positions.shape))


def restarted_at_the_number_of_prompt_tokens(packing):
    """Right for a text, wrong behind an image, whose positions are fewer than its tokens."""
    positions = packing.positions.clone()
    for span in packing.spans:
        ends = torch.tensor([0, *span.responses]).cumsum(0) + span.start + span.prefix
        for start, stop in pairwise(ends.tolist()):
            positions[:, start + 1 : stop] = span.prefix + 1 + torch.arange(stop - start - 1)
    return replace(packing, positions=positions)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("qwen2", causal_over_everything),
        ("qwen2", running_on),
        ("qwen2_5_vl", causal_over_everything),
        ("qwen2_5_vl", running_on),
        ("qwen2_5_vl", restarted_at_the_number_of_prompt_tokens),
    ],
)
@ATTENTION
def test_controls_fail(made, name, change, dense):
    model, batch, expected = made(name)
    wrong = difference(outcome(model, packed, batch, dense=dense, change=change), expected)
    assert wrong.log_prob > 0.1
    assert wrong.entropy > 0.01
    assert wrong.gradient > 0.1


@st.composite
def images_and_lengths(draw):
    """The images that each prompt shows, of three, and a row for each of its responses."""
    shown = draw(st.lists(st.lists(st.integers(0, 2), max_size=3), min_size=1, max_size=3))
    lengths = st.lists(st.integers(0, 7), min_size=1, max_size=4)
    rows = [(number, length) for number in range(len(shown)) for length in draw(lengths)]
    return shown, draw(st.permutations(rows))


@pytest.fixture(scope="module")
def one_qwen():
    return family("qwen2_5_vl")


@given(images_and_lengths())
@settings(max_examples=20)
def test_any_images_in_any_prompts(one_qwen, drawn):
    (model, processor), (shown, rows) = one_qwen, drawn
    assume(any(length for _, length in rows))
    images = pictures((60, 90), (110, 60), (56, 56))
    prompts = [
        (tokens_of(processor, f"Question {number}?", [images[index] for index in own]), own)
        for number, own in enumerate(shown)
    ]
    batch = batch_of(prompts, rows, prepare_images(processor, images))
    found, expected = outcome(model, packed, batch), outcome(model, by_rows, batch)
    assert difference(found, expected).is_noise, difference(found, expected)


def lora(model, **settings):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        # Weights as after some training: with peft's zeros only half of the adapters would have a gradient.
        settings = {"target_modules": LINEAR} | settings
        return get_peft_model(model, LoraConfig(r=4, init_lora_weights=False, **settings)).train()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_dora": True},
        {"modules_to_save": ["visual"]},
        {"modules_to_save": ["self_attn"], "target_modules": ["up_proj"]},  # copied with the config that they read
    ],
    ids=str,
)
def test_lora(qwen, settings):
    model, processor = qwen
    model, batch = lora(model, **settings), mixed_batch(processor)
    expected, found = outcome(model, by_rows, batch), outcome(model, packed, batch)
    assert all("lora_" in name or "modules_to_save" in name for name in expected[2])
    assert any("lora_A" in name and value.any() for name, value in expected[2].items())
    assert any("modules_to_save" in name and value.any() for name, value in expected[2].items()) == bool(
        settings.get("modules_to_save")
    )
    assert difference(found, expected).is_noise, difference(found, expected)


def test_qlora(tiny_checkpoint, processor):
    settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    base = AutoModelForImageTextToText.from_pretrained(
        tiny_checkpoint, quantization_config=settings, dtype=torch.float32
    )
    assert type(base.model.language_model.layers[0].mlp.up_proj.weight).__name__ == "Params4bit"
    model, batch = lora(with_head(base)), mixed_batch(processor)
    expected, found = outcome(model, by_rows, batch), outcome(model, packed, batch)
    assert difference(found, expected).is_noise, difference(found, expected)


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl"])
def test_gradient_checkpointing(made, name, use_reentrant):
    _, batch, expected = made(name)
    model, _ = family(name)
    passes = checkpointed(model, use_reentrant)
    with attention_for_packed_rows(model):
        log_probs, entropies = packed_pass(model, batch)
        found = log_probs.detach(), entropies.detach(), gradients(model, log_probs)
    assert passes == ["two-part"] * 2 * 2, "two layers, forward and again in backward"
    assert difference(found, expected).is_noise, difference(found, expected)


def test_the_attention_must_last_until_the_layers_were_recomputed(qwen):
    """What would happen otherwise is an error, not a wrong gradient."""
    model, processor = qwen
    checkpointed(model, use_reentrant=False)
    with attention_for_packed_rows(model):
        log_probs, _ = packed_pass(model, mixed_batch(processor))
    with pytest.raises(RuntimeError, match="must match the size of tensor b"):
        log_probs.sum().backward()


def checkpointed(model, use_reentrant):
    """Switch gradient checkpointing on; the list it returns grows by a name for every run of a decoder layer."""
    model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
    model.enable_input_require_grads()
    runs = []
    names = {"sdpa": "rows", "r1_sharevl_two_part": "two-part"}
    for layer in model.get_decoder().layers:
        layer.self_attn.register_forward_pre_hook(
            lambda attention, _: runs.append(names[attention.config._attn_implementation])
        )
    return runs


@pytest.mark.parametrize("autocast", [True, False], ids=["autocast", "weights"])
@pytest.mark.parametrize(("attention", "dense"), [("sdpa", False), ("sdpa", True), ("eager", True)])
def test_bf16(made, autocast, attention, dense):
    """Packed rows are as far from float32 as ordinary rows are."""
    _, batch, exact = made("qwen2_5_vl")
    model, _ = family("qwen2_5_vl", attn_implementation=attention)
    model.to(torch.float32 if autocast else torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        rows = outcome(model, by_rows, batch)
        found = outcome(model, packed, batch, dense=dense)
    of_rows, of_packed = difference(rows, exact), difference(found, exact)
    assert of_rows.log_prob > 1e-3, "it is bf16"
    assert of_packed.log_prob < 1.5 * of_rows.log_prob
    assert of_packed.entropy < 1.5 * of_rows.entropy
    assert distance(found[2], exact[2]) < 1.5 * distance(rows[2], exact[2])


def distance(found, expected):
    """Between gradients, all in all: in bf16 a single one is off by chance."""
    return sum((found[name].float() - value).square().sum() for name, value in expected.items()).sqrt()


@ATTENTION
def test_no_completion_has_a_token(made, dense):
    """As `mask_truncated_completions` leaves a micro-batch in which every response was cut off."""
    model, batch, _ = made("qwen2_5_vl")
    mask = batch.attention_mask.clone()
    mask[:, batch.width :] = 0
    empty = replace(batch, attention_mask=mask)
    log_probs, entropies = packed(model, empty, dense=dense)
    assert log_probs.shape == entropies.shape == (len(batch), batch.completion_length)
    assert not log_probs.any()
    found = gradients(model, log_probs)
    assert found, "there is a backward pass, as other processes wait for it"
    assert not any(value.any() for value in found.values())


@ATTENTION
def test_one_token_of_prompt_and_none_of_completion(made, dense):
    model, batch, _ = made("qwen2_5_vl")
    (row,) = [row for row in range(len(batch)) if batch.attention_mask[row].sum() == 1]
    log_probs, _ = packed(model, batch.rows([row]), dense=dense)
    assert log_probs.eq(0).all()


@pytest.mark.parametrize("rows", [[(0, 1)], [(0, 6)], [(0, 6), (1, 4)]], ids=str)
def test_one_response(made, rows):
    model, *_ = made("qwen2")
    batch = batch_of([([7, 8, 9], []), ([1], [])], rows)
    found = difference(outcome(model, packed, batch), outcome(model, by_rows, batch))
    assert found.is_noise, found


def test_eager_attention_takes_the_dense_mask(made):
    _, batch, expected = made("qwen2_5_vl")
    model, _ = family("qwen2_5_vl", attn_implementation="eager")
    found = difference(outcome(model, packed, batch, dense=True), expected)
    assert found.is_noise, found


@pytest.mark.parametrize("name", VISION_FAMILIES)
def test_the_tower_sees_each_image_once(made, name):
    model, batch, expected = made(name)
    seen = []
    hook = model.model.visual.register_forward_hook(
        lambda tower, args, kwargs, output: seen.append((args[0].shape[0], kwargs["grid_thw"].tolist())),
        with_kwargs=True,
    )
    found = outcome(model, packed, batch)
    hook.remove()
    assert batch.image_index.unique().tolist() == [-1, 0, 1, 2]
    assert (batch.image_index >= 0).sum() > 12, "rows show three images many times"
    assert [patches for patches, _ in seen] == [sum(map(len, batch.images.pixel_values))]
    # What several prompts show sends back the sum of their gradients.
    of_tower = {key: value for key, value in expected[2].items() if "visual" in key}
    assert all(value.any() for value in of_tower.values())
    largest = max(value.abs().max() for value in of_tower.values())
    assert max((found[2][key] - value).abs().max() for key, value in of_tower.items()) <= 1e-5 * largest


def test_equal_texts_with_different_images_are_different_prompts(qwen):
    model, processor = qwen
    shown = pictures((60, 90), (60, 90))
    prompt = tokens_of(processor, "What is it?", shown[:1])
    batch = batch_of([(prompt, [0]), (prompt, [1])], [(0, 3), (1, 3), (0, 2), (1, 2)], prepare_images(processor, shown))
    packing = packing_of(model, batch)
    assert [span.responses for span in packing.spans] == [(3, 2), (3, 2)]
    found, expected = outcome(model, packed, batch), outcome(model, by_rows, batch)
    assert difference(found, expected).is_noise
    swapped = by_rows(model, replace(batch, image_index=1 - batch.image_index))[0]
    assert (swapped - expected[0]).abs().max() > 0.01, "the image matters"


def test_an_unused_image_stays_where_it_is(qwen):
    """A micro-batch shows some of the generation batch's images, in another order than they were prepared in."""
    model, processor = qwen
    batch = mixed_batch(processor)
    chosen = batch.rows((batch.image_index[:, :1] == 2).nonzero()[:, 0])
    assert chosen.image_index.unique().tolist() == [-1, 2]
    found = difference(outcome(model, packed, chosen), outcome(model, by_rows, chosen))
    assert found.is_noise, found


def test_dropout_reaches_packed_rows():
    model, _ = family("qwen2")
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.3
    batch = mixed_batch(None)
    with torch.no_grad():
        without = packed(model.eval(), batch)[0]
        torch.manual_seed(0)
        first, second = packed(model.train(), batch)[0], packed(model, batch)[0]
    assert (by_rows(model.eval(), batch)[0] - without).abs().max() < LOG_PROB
    assert (first - second).abs().max() > 0.01
    assert (first - without).abs().max() > 0.01


def test_three_optimizer_steps(qwen):
    """Policy-gradient steps over changing batches end where those over ordinary rows end."""
    ends = []
    for run in (by_rows, packed):
        model, processor = family("qwen2_5_vl")
        steps = torch.optim.AdamW(model.parameters(), lr=1e-3)
        batch = mixed_batch(processor)
        advantages = torch.randn(len(batch), 1, generator=torch.Generator().manual_seed(5))
        for step in range(3):
            chosen = torch.randperm(len(batch), generator=torch.Generator().manual_seed(step))[:10]
            part = batch.rows(chosen)
            log_probs, _ = run(model, part)
            ratio = torch.exp(log_probs - log_probs.detach())
            loss = -(ratio * advantages[chosen] * part.completion_mask).sum() / part.completion_mask.sum()
            steps.zero_grad()
            loss.backward()
            steps.step()
        ends.append({key: value.detach() for key, value in model.named_parameters()})
    start = dict(family("qwen2_5_vl")[0].named_parameters())
    moved = max((ends[0][key] - value).abs().max() for key, value in start.items())
    assert moved > 1e-3
    apart = {key: (ends[1][key] - value).abs().max().item() for key, value in ends[0].items()}
    assert max(apart.values()) < 1e-5, sorted(apart.items(), key=lambda pair: -pair[1])[:5]
