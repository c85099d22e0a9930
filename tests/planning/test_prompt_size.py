"""Image tokens and prompt lengths against the real processors."""

import pytest
import torch
from PIL import Image
from transformers import AutoConfig, Qwen2VLImageProcessor

from r1_sharevl.data.synthetic import synthetic_rows
from r1_sharevl.errors import UserError
from r1_sharevl.models.known_models import known_config
from r1_sharevl.planning.prompt_size import assumed_prompt, image_size, measured_prompt
from r1_sharevl.prompts import DEFAULT_INSTRUCTION, to_messages, with_images

BOUNDS = (262144, 1048576)


@pytest.mark.parametrize("size", [(1024, 1024), (300, 200), (1999, 640), (2500, 3100)], ids=str)
@pytest.mark.parametrize(("name", "patch"), [("Qwen2.5-VL-3B", 14), ("Qwen2-VL-7B", 14), ("Qwen3-VL-4B", 16)])
def test_an_image_costs_what_the_real_processor_makes_of_it(name, patch, size):
    real = Qwen2VLImageProcessor(size={"shortest_edge": BOUNDS[0], "longest_edge": BOUNDS[1]}, patch_size=patch)
    made = real(images=[Image.new("RGB", size)], return_tensors="pt")
    cost = image_size(known_config(name), None, size[1], size[0], *BOUNDS)
    assert cost.pixel_bytes == made["pixel_values"].nbytes
    assert cost.patches == made["pixel_values"].shape[0]
    assert cost.tokens == made["image_grid_thw"].prod().item() // 4
    assert made["pixel_values"].dtype == torch.float32


def test_the_assumed_image_is_the_largest_the_bounds_allow():
    prompt = assumed_prompt(known_config("Qwen2.5-VL-3B"), None, *BOUNDS)
    assert prompt.image.tokens == 1337
    assert prompt.typical_tokens < prompt.tokens
    smaller = assumed_prompt(known_config("Qwen2.5-VL-3B"), None, 3136, 262144)
    assert smaller.image.tokens == 262144 // 784


def test_prompts_are_measured_with_the_real_tokenizer(processor, tiny_checkpoint, tmp_path):
    from datasets import Dataset

    from r1_sharevl.data.schema import prepared_features

    (tmp_path / "data").mkdir()
    rows = list(synthetic_rows("train", 5, seed=0))
    Dataset.from_list(rows, features=prepared_features({"question_type": "string"})).to_parquet(
        tmp_path / "data" / "train-00000-of-00001.parquet"
    )
    config = AutoConfig.from_pretrained(tiny_checkpoint)
    measured = measured_prompt(tmp_path, "train", config, processor, DEFAULT_INSTRUCTION)
    lengths = []
    for row in rows:
        for wording in [row["problem"], *row["variants"]]:
            images = [
                image if isinstance(image, Image.Image) else Image.new("RGB", (112, 112)) for image in row["images"]
            ]
            messages = with_images(to_messages(wording, len(images), DEFAULT_INSTRUCTION), images)
            made = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=True)
            lengths.append(len(made["input_ids"][0]))
    # The measured one counts the place of an image's token beside the tokens it becomes.
    assert max(lengths) <= measured.tokens <= max(lengths) + measured.images
    without_tokenizer = measured_prompt(tmp_path, "train", config, None, DEFAULT_INSTRUCTION, 3136, 12544)
    assert without_tokenizer.tokens >= max(lengths) * 0.8


def test_a_family_without_known_arithmetic_needs_its_processor():
    from transformers import LlavaConfig

    with pytest.raises(UserError, match="image tokens of a llava cannot be known without its processor"):
        image_size(LlavaConfig(), None, 100, 100)
