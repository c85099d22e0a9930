"""What the vLLM tests share: a tiny checkpoint that vLLM reads as transformers does, and a set of mixed rows."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "trainer"))  # rollouts.py

# Before vLLM is imported: a small KV cache, no compilation, threads that sleep while they wait.
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_CPU_CI_ENV", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest
from rollouts import make_dataset

# vLLM's Qwen2.5-VL takes no other base for the vision tower's rotary embedding; the tiny model's own is 100.
VISION = {"rope_parameters": {"rope_type": "axial", "rope_theta": 10000.0}}


@pytest.fixture(scope="session")
def checkpoint(processor, tmp_path_factory):
    from r1_sharevl.models.tiny import build_tiny_model

    folder = tmp_path_factory.mktemp("tiny-for-vllm")
    build_tiny_model(processor, vision=VISION).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def mixed_rows():
    """One image, two images side by side in other sizes, text only, two images with text between: four questions."""
    from datasets import Dataset

    features, rows = make_dataset(1).features, list(make_dataset(4))
    pictures = [row["images"][0] for row in rows]
    wide, tall, small = pictures[0].resize((168, 56)), pictures[1].resize((60, 200)), pictures[2].resize((40, 44))
    rows[1] |= {
        "images": [wide, tall],
        "problem": "<image><image>Which has more dots?",
        "variants": ["<image><image>Where are more dots?"],
    }
    rows[2] |= {"images": [], "problem": "What is 2 + 2?", "variants": ["Add 2 and 2."]}
    rows[3] |= {
        "images": [small, pictures[3]],
        "problem": "First <image> then <image>: which has more dots?",
        "variants": ["Which of <image> and <image> shows more dots?"],
    }
    return Dataset.from_list(rows, features=features)
