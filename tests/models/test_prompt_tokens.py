"""Prompts and images that are prepared once each are what the processor makes of every row by itself."""

import numpy as np
import pytest
import torch
from families import FAMILIES
from PIL import Image
from trl.data_utils import prepare_multimodal_messages

from r1_sharevl.errors import UserError
from r1_sharevl.models.tiny import CHAT_TEMPLATE
from r1_sharevl.rollouts.conversations import Conversations
from r1_sharevl.rollouts.tokens import prepare_images, prompt_ids

PLACE = {"type": "image"}
NUMBERED = CHAT_TEMPLATE.replace("{{- '<|vision_start|>", "{{- (prefix or '') + 'Picture: <|vision_start|>")


def picture(width, height, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8))


def text(words):
    return {"type": "text", "text": words}


@pytest.fixture(scope="module", params=["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def family_processor(request):
    return FAMILIES[request.param]()[1]


@pytest.fixture(scope="module")
def rows():
    one, two, three = picture(60, 90), picture(150, 40, 1), picture(28, 28, 2)
    system = {"role": "system", "content": "Answer briefly."}
    turns = [
        system,
        {"role": "user", "content": [PLACE, text("How many dots?")]},
        {"role": "assistant", "content": "Three."},
        {"role": "user", "content": [text("And here "), PLACE, text("?")]},
    ]
    question = [{"role": "user", "content": "How many dots? Write <image> or \n nothing, é中🙂."}]
    return [
        {"prompt": question, "images": [one]},
        {"prompt": turns, "images": [two, one]},
        {"prompt": [system, {"role": "user", "content": "2 + 2?"}], "images": []},
        {"prompt": question, "images": [one]},
        {"prompt": [{"role": "user", "content": [PLACE, PLACE, text("Same?")]}], "images": [three, three]},
        {"prompt": question, "images": [two]},
        {"prompt": [system, {"role": "user", "content": "3 + 3?"}], "images": None},
    ]


def made_once(processor, rows, **template):
    """Ids and pixel values of each row, each distinct prompt and image run through the processor once."""
    conversations = Conversations(rows, is_multimodal=True)
    prepared = prepare_images(processor, conversations.pictures)
    prompts = [prepare_multimodal_messages(row["prompt"]) for row in conversations.rows]
    numbers = [Conversations.images_of(prompt) for prompt in prompts]
    assert numbers == [[number for number in own if number >= 0] for own in conversations.index.tolist()]
    shown = [number for own in numbers for number in own]
    fields = prepared.fields(shown, torch.device("cpu"))
    return prompt_ids(processor, prompts, numbers, prepared.grids, **template), fields, len(prepared)


def made_by_trl(processor, rows, **template):
    """The call in TRL's `_tokenize_prompts`."""
    prompts = [prepare_multimodal_messages(row["prompt"], images=row.get("images")) for row in rows]
    return processor.apply_chat_template(
        conversation=prompts,
        tools=None,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        **template,
    )


@pytest.mark.parametrize("template", [{}, {"chat_template": NUMBERED}, {"chat_template": NUMBERED, "prefix": "No. 1 "}])
def test_ids_and_pixels_are_those_of_rows_prepared_one_by_one(family_processor, rows, template):
    expected = made_by_trl(family_processor, rows, **template)
    ids, fields, distinct = made_once(family_processor, rows, **template)
    assert ids == expected["input_ids"]
    assert distinct == 3
    for name in ("pixel_values", "image_grid_thw"):
        assert torch.equal(fields[name], torch.as_tensor(expected[name]))


def test_images_may_stand_in_the_prompts_themselves(family_processor, rows):
    inside = [
        {"prompt": prepare_multimodal_messages(row["prompt"], images=row["images"]), "answer": "3"} for row in rows
    ]
    ids, fields, distinct = made_once(family_processor, inside)
    expected = made_by_trl(family_processor, rows)
    assert (ids, distinct) == (expected["input_ids"], 3)
    assert torch.equal(fields["pixel_values"], torch.as_tensor(expected["pixel_values"]))


def test_a_batch_without_images(family_processor, rows):
    texts = [row for row in rows if not row["images"]]
    ids, fields, distinct = made_once(family_processor, texts)
    assert (ids, fields, distinct) == (made_by_trl(family_processor, texts)["input_ids"], {}, 0)


@pytest.mark.parametrize(
    "image",
    [
        picture(1, 1),
        picture(400, 300),
        picture(50, 70).convert("RGBA"),
        picture(50, 70).convert("L"),
        picture(50, 70).convert("P"),
        picture(50, 70).convert("LA"),
        picture(50, 70).convert("1"),
        Image.fromarray(np.arange(3500, dtype=np.uint16).reshape(70, 50)),
    ],
    ids=["1x1", "large", "RGBA", "L", "P", "LA", "1", "I;16"],
)
def test_any_kind_of_image_is_prepared_as_before_beside_others(family_processor, image):
    others = [picture(50, 70, 5), picture(84, 84, 6)]
    question = [{"role": "user", "content": "How many?"}]
    rows = [{"prompt": question, "images": [image]} for image in (others[0], image, others[1])]
    expected = made_by_trl(family_processor, rows)
    ids, fields, _ = made_once(family_processor, rows)
    assert ids == expected["input_ids"]
    assert torch.equal(fields["pixel_values"], torch.as_tensor(expected["pixel_values"]))


def test_an_image_the_processor_refuses_fails_with_its_words(family_processor):
    rows = [{"prompt": [{"role": "user", "content": "How long?"}], "images": [picture(1000, 2)]}]
    errors = []
    for make in (made_by_trl, made_once):
        with pytest.raises(ValueError, match="aspect ratio") as caught:
            make(family_processor, rows)
        errors.append(str(caught.value))
    assert errors[1] == f"an image cannot be prepared for the model: {errors[0]}"


@pytest.mark.parametrize("words", ["Write <|image_pad|> twice.", "Write <|video_pad|>."])
@pytest.mark.parametrize("images", [0, 1])
def test_a_mark_spelled_out_in_a_text_is_refused(family_processor, rows, words, images):
    bad = {"prompt": [{"role": "user", "content": words}], "images": [picture(30, 30)][:images]}
    with pytest.raises(UserError, match=r"take (marks out of its text|it out).*Write <") as caught:
        made_once(family_processor, [*rows, bad])
    assert "\n" not in str(caught.value)


def test_a_mark_too_many_and_one_too_few_are_not_paired(family_processor):
    """The processor counts over the whole batch, and would give a row another one's image."""
    rows = [
        {"prompt": [{"role": "user", "content": "Write <|image_pad|>."}], "images": []},
        {"prompt": [{"role": "user", "content": [PLACE, text("How many?")]}], "images": [picture(30, 30)]},
    ]
    leaves_out = CHAT_TEMPLATE.replace("'<|vision_start|><|image_pad|><|vision_end|>'", "''")
    assert made_by_trl(family_processor, rows, chat_template=leaves_out)
    with pytest.raises(UserError, match=r"a prompt has 1 places <\|image_pad\|> for 0 images"):
        made_once(family_processor, rows, chat_template=leaves_out)


def test_other_numbers_of_images_than_places_fail_as_before(family_processor):
    rows = [{"prompt": [{"role": "user", "content": [PLACE, text("How many?")]}], "images": [picture(30, 30)] * 2}]
    for make in (made_by_trl, made_once):
        with pytest.raises(ValueError, match=r"images provided \(2\) does not match .* placeholders \(1\)"):
            make(family_processor, rows)
