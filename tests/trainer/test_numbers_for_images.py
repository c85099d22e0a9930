"""Prompts with numbers for images, and the rows and prompts that rewards and trackers get back."""

import json
import pickle

import pytest
from PIL import Image
from trl.data_utils import prepare_multimodal_messages

from r1_sharevl.errors import UserError
from r1_sharevl.rollouts.conversations import Conversations, key_of

RED, BLUE = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
PLACE = {"type": "image"}
CALL = {"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {}}}]}


def ask(content):
    return [{"role": "user", "content": content}]


MIXED = [
    {"prompt": ask("Which?"), "images": [RED, BLUE], "answer": "1"},
    {"prompt": ask([PLACE, {"type": "text", "text": "What?"}]), "images": [BLUE], "answer": "2"},
    {"prompt": ask("2 + 2?"), "images": [], "answer": "4"},
    {"prompt": [{"role": "system", "content": "Be brief."}, CALL, *ask("?")], "images": None, "answer": "5"},
]


@pytest.mark.parametrize(
    "rows",
    [
        MIXED,
        [{"prompt": ask("What?"), "image": RED}, {"prompt": ask("2 + 2?"), "image": None}],
        [{"prompt": ask([{"type": "image", "image": RED}, {"type": "text", "text": "What?"}])}],
        [{"prompt": ask([{"type": "image", "image": BLUE}, PLACE]), "images": [RED]}],
        [{"prompt": ask("2 + 2?"), "images": []}, {"prompt": ask("3 + 3?"), "images": []}],
        [{"prompt": ask("2 + 2?")}],
        [{"prompt": "2 + 2?", "images": []}],
        [{"prompt": "2 + 2?"}],
    ],
    ids=["images", "image", "in the prompt", "both", "no images", "no column", "texts and a column", "texts"],
)
def test_prompts_and_rows_come_back_as_trl_hands_them_to_rewards(rows):
    column = next((name for name in ("images", "image") if name in rows[0]), None)
    images = [row.get("images") if column == "images" else [row["image"]] if row.get("image") else None for row in rows]
    takes_images = column is not None and any(own != [] for own in images)  # TRL's rule, of the whole batch
    expected = [
        prepare_multimodal_messages(row["prompt"], images=own) if takes_images else row["prompt"]
        for row, own in zip(rows, images, strict=True)
    ]
    conversations = Conversations(rows, is_multimodal=True)
    assert [conversations.with_images(row["prompt"]) for row in conversations.rows] == expected
    for own, row in zip(conversations.rows, rows, strict=True):
        assert conversations.original(own) is row
        assert not {"images", "image"} & own.keys()
        assert own.keys() == row.keys() - {"images", "image"}
        json.dumps(own["prompt"])  # no image is left in it


def test_an_image_has_one_number_wherever_the_same_object_stands():
    conversations = Conversations(MIXED, is_multimodal=True)
    assert [id(picture) for picture in conversations.pictures] == [id(RED), id(BLUE)]
    assert conversations.index.tolist() == [[0, 1], [1, -1], [-1, -1], [-1, -1]]


def test_rows_are_left_as_they_were():
    before = pickle.dumps(MIXED)
    conversations = Conversations(MIXED, is_multimodal=True)
    conversations.with_images(conversations.rows[0]["prompt"])[0]["content"].append("more")
    assert pickle.dumps(MIXED) == before


def test_a_model_of_texts_gets_its_rows_untouched():
    rows = [{"prompt": ask("2 + 2?"), "image": "a column of the user's"}, {"prompt": ask("3 + 3?"), "image": None}]
    conversations = Conversations(rows, is_multimodal=False)
    assert conversations.rows == rows
    assert conversations.index.shape == (2, 0)
    assert conversations.original(conversations.rows[1]) is rows[1]


def test_images_beside_a_plain_text_are_refused():
    with pytest.raises(UserError, match=r"a row has images, but its prompt is a text \('What is this"):
        Conversations([{"prompt": "What is this?", "images": [RED]}], is_multimodal=True)


def test_equal_prompts_have_equal_keys_and_others_have_not():
    rows = [
        *MIXED,
        {"prompt": ask("Which?"), "images": [RED, BLUE]},
        {"prompt": ask("Which?"), "images": [BLUE, RED]},
        {"prompt": ask("Which?"), "images": [RED.copy(), BLUE]},
    ]
    keys = [key_of(row["prompt"]) for row in Conversations(rows, is_multimodal=True).rows]
    assert keys[4] == keys[0]
    assert len(set(keys)) == len(rows) - 1
