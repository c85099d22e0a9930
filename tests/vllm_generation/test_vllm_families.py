"""vLLM's own processors make the trainer's ids of our prompts, family by family: two images, in other sizes."""

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from r1_sharevl.vllm.prompts import pixel_bounds, unexpanded_ids

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed here: see `make test-vllm`"),
]

# Not LLaVA-OneVision: of several images vLLM makes other numbers of tokens, and such a run stops at its first prompt.
READ_ALIKE = [
    "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "llava", "llava_next", "internvl", "idefics3", "mistral3",
]  # fmt: skip


@pytest.mark.parametrize("family", READ_ALIKE)
def test_a_family_is_read_alike(family, tmp_path):
    sys.path.insert(0, str(Path(__file__).parent.parent / "models"))
    from families import save_family
    from transformers import AutoProcessor
    from vllm.config import ModelConfig
    from vllm.multimodal import MULTIMODAL_REGISTRY

    save_family(family, tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    images = [Image.new("RGB", (100, 60), "red"), Image.new("RGB", (80, 150), "blue")]
    parts = [*({"type": "image", "image": image} for image in images), {"type": "text", "text": "what?"}]
    prompts = [[{"role": "user", "content": parts}]]
    (expected,) = processor.apply_chat_template(prompts, add_generation_prompt=True, tokenize=True, return_dict=True)[
        "input_ids"
    ]
    (sent,) = unexpanded_ids(processor, prompts)

    bounds = pixel_bounds(processor)
    settings = {"mm_processor_kwargs": bounds} if bounds else {}
    config = ModelConfig(model=str(tmp_path), dtype="float32", max_model_len=1024, **settings)
    reader = MULTIMODAL_REGISTRY.create_processor(config)
    found = reader(sent, reader.info.parse_mm_data({"image": images}))["prompt_token_ids"]
    assert list(found) == list(expected)
    assert len(sent) < len(expected)
