"""The tiny model and its processor: a real Qwen2.5-VL in everything but size."""

import subprocess
import sys

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, Qwen2_5_VLForConditionalGeneration

from r1_sharevl.data.synthetic import QUESTION_TYPES, reasoning, synthetic_rows
from r1_sharevl.models.tiny import build_tiny_model
from r1_sharevl.prompts import DEFAULT_INSTRUCTION, to_messages, with_images

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)


def encode(processor, rows, images=None):
    prompts = [with_images(to_messages(row["problem"], len(row["images"])), images or row["images"]) for row in rows]
    return processor.apply_chat_template(
        prompts,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        processor_kwargs={"padding": True, "return_tensors": "pt"},
    )


@pytest.fixture(scope="module")
def rows():
    return list(synthetic_rows("train", len(QUESTION_TYPES), 0))


def test_template_of_one_conversation(processor):
    messages = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Before"},
                {"type": "image"},
                {"type": "video"},
                {"type": "text", "text": "after"},
            ],
        },
    ]
    text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nBefore<|vision_start|><|image_pad|><|vision_end|>"
        "<|vision_start|><|video_pad|><|vision_end|>after<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    without = processor.apply_chat_template(messages, tokenize=False)
    assert text == without + "<|im_start|>assistant\n"


def test_template_of_a_question(processor):
    messages = to_messages("<image>\nHow many?", 1)
    assert processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == (
        f"<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>How many?\n{DEFAULT_INSTRUCTION}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_special_tokens_are_single_and_skipped_in_decoding(processor):
    tokenizer = processor.tokenizer
    ids = [tokenizer.convert_tokens_to_ids(token) for token in SPECIAL]
    assert len(set(ids)) == len(SPECIAL)
    for token, token_id in zip(SPECIAL, ids, strict=True):
        assert tokenizer.encode(token) == [token_id]
        assert tokenizer.decode([token_id], skip_special_tokens=True) == ""
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert 600 <= len(tokenizer) <= 1100


@pytest.mark.parametrize(
    "text", ["".join(map(chr, range(128))), "é 世界 🙂 Ω", "x = \\frac{1}{2}\n\n  <think>", " leading and trailing "]
)
def test_any_text_survives_the_tokenizer(processor, text):
    ids = processor.tokenizer.encode(text)
    assert processor.tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


def test_what_the_model_writes_is_short(processor):
    for name, kind in QUESTION_TYPES.items():
        for answer in kind.answers:
            response = f"<think>{reasoning(name, answer)}</think>\n\\boxed{{{answer}}}<|im_end|>"
            assert len(processor.tokenizer.encode(response)) <= 24


def test_tokenizer_is_the_same_in_every_process(processor):
    program = (
        "from r1_sharevl.models.tiny import build_tiny_processor\n"
        "print(build_tiny_processor().tokenizer.backend_tokenizer.to_str())"
    )
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert there.strip() == processor.tokenizer.backend_tokenizer.to_str()


def test_built_in_figures_make_16_image_tokens(processor, rows):
    inputs = encode(processor, rows)
    assert inputs["image_grid_thw"].tolist() == [[1, 8, 8]] * len(rows)
    image_id = processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    assert (inputs["input_ids"] == image_id).sum(dim=1).tolist() == [16] * len(rows)
    assert (inputs["attention_mask"][:, -1] == 1).all(), "prompts are padded on the left"


def test_white_paper_is_zero(processor):
    white = Image.new("RGB", (112, 112), "white")
    inputs = processor(text=["<|vision_start|><|image_pad|><|vision_end|>"], images=[[white]], return_tensors="pt")
    assert inputs["pixel_values"].abs().max() < 1e-6


def test_batch_with_two_image_sizes_gives_each_row_what_it_gets_alone(processor, tiny_model):
    question = {"problem": "How many dots are in the picture?", "images": [None]}
    sizes = [(112, 112), (56, 84)]
    images = [Image.effect_noise(size, 80).convert("RGB") for size in sizes]
    tokens = [16, 6]
    prompts = [with_images(to_messages(question["problem"], 1), [image]) for image in images]
    arguments = {"add_generation_prompt": True, "tokenize": True, "return_dict": True}
    options = {"padding": True, "return_tensors": "pt"}
    both = processor.apply_chat_template(prompts, processor_kwargs=options, **arguments)
    assert (both["input_ids"] == tiny_model.config.image_token_id).sum(dim=1).tolist() == tokens
    with torch.no_grad():
        together = tiny_model(**both).logits[:, -1]
        for place, prompt in enumerate(prompts):
            alone = tiny_model(**processor.apply_chat_template([prompt], processor_kwargs=options, **arguments))
            torch.testing.assert_close(together[place], alone.logits[0, -1], rtol=1e-4, atol=1e-4)


def test_large_images_are_scaled_down(processor):
    image = Image.new("RGB", (900, 700))
    inputs = processor(text=["<|vision_start|><|image_pad|><|vision_end|>"], images=[[image]], return_tensors="pt")
    assert 4 <= inputs["image_grid_thw"].prod() // 4 <= 16


def test_the_answer_depends_on_the_image(processor, tiny_model, rows):
    inputs = encode(processor, rows[:1])
    other = encode(processor, rows[:1], images=rows[1]["images"])
    with torch.no_grad():
        difference = (tiny_model(**inputs).logits[:, -1] - tiny_model(**other).logits[:, -1]).abs().max()
    assert difference > 0.05


def test_saved_and_loaded_offline_it_is_the_same(processor, tiny_model, rows, tmp_path):
    tiny_model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert type(model) is Qwen2_5_VLForConditionalGeneration
    assert type(loaded) is type(processor)
    assert loaded.tokenizer.get_vocab() == processor.tokenizer.get_vocab()
    assert loaded.chat_template == processor.chat_template
    before, after = encode(processor, rows), encode(loaded, rows)
    assert before.keys() == after.keys()
    for name in before:
        assert torch.equal(before[name], after[name])
    with torch.no_grad():
        assert torch.equal(tiny_model(**before).logits, model(**after).logits)
    assert model.generation_config.eos_token_id == processor.tokenizer.eos_token_id
    assert model.generation_config.pad_token_id == processor.tokenizer.pad_token_id


def test_seed_decides_the_weights_and_nothing_else_is_touched(processor):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, same, other = (build_tiny_model(processor, seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected), "the global random state was used"
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["lm_head.weight"], other["lm_head.weight"])


def test_weight_matrices_have_the_size_for_their_inputs(processor):
    model = build_tiny_model(processor)
    checked = 0
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv3d):
            fan_in = module.weight[0].numel()
            assert module.weight.std().item() * fan_in**0.5 == pytest.approx(1.0, abs=0.05), name
            checked += 1
    assert checked > 25
    assert 0.5e6 < model.num_parameters() < 1.5e6


def test_settings_can_be_overridden(processor):
    model = build_tiny_model(
        processor, text={"num_hidden_layers": 1}, vision={"depth": 1, "fullatt_block_indexes": [0]}
    )
    assert len(model.model.language_model.layers) == 1
    assert len(model.model.visual.blocks) == 1


def test_generation_of_an_untrained_model_never_crashes_or_draws_vision_tokens(processor, tiny_model, rows):
    inputs = encode(processor, rows)
    torch.manual_seed(0)
    output = tiny_model.generate(**inputs, max_new_tokens=64, do_sample=True, temperature=3.0, top_k=0)
    drawn = set(output[:, inputs["input_ids"].shape[1] :].flatten().tolist())
    vision = [token for token in SPECIAL if token not in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")]
    forbidden = set(processor.tokenizer.convert_tokens_to_ids(vision))
    assert len(forbidden) == 5
    assert len(drawn) > 100
    assert not drawn & forbidden
