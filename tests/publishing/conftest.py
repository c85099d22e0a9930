"""Real tiny adapters: trained by Share-GRPO for two steps, on bases of the tiny architecture."""

import shutil

import pytest
import torch
import yaml
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig

from r1_sharevl import ShareGRPOConfig, ShareGRPOTrainer
from r1_sharevl.data.schema import prepared_features
from r1_sharevl.data.synthetic import synthetic_rows
from r1_sharevl.models.checkpoints import load_processor
from r1_sharevl.models.tiny import build_tiny_model

INSTRUCTION = "Think in <think> </think>, then box the answer."
BOUNDS = {"min_pixels": 28 * 28, "max_pixels": 84 * 84}
LANGUAGE = {"target_modules": "all-linear", "exclude_modules": r".*\bvisual\b.*"}


def train_adapter(base, folder, lora, settings, *, min_pixels=None, max_pixels=None, quantized=False):
    """Leave the folder of a run, as `r1sharevl train` does, whose adapter changes the model far more than rounding."""
    rows = Dataset.from_list(
        list(synthetic_rows("train", 4, seed=0)), features=prepared_features({"question_type": "string"})
    )
    defaults = {
        "num_generations": 4,
        "num_variants": 2,
        "per_device_train_batch_size": 8,
        "max_completion_length": 4,
        "max_steps": 2,
        "learning_rate": 3e-2,
        "save_strategy": "no",
        "report_to": "none",
        "bf16": False,
        "use_cpu": True,
        "disable_tqdm": True,
        "instruction": INSTRUCTION,
    }
    trainer = ShareGRPOTrainer(
        model=str(base),
        reward_funcs=[lambda completions, **_: [float(len(text[0]["content"]) % 3) for text in completions]],
        args=ShareGRPOConfig(str(folder), **(defaults | settings)),
        train_dataset=rows,
        processing_class=load_processor(str(base), min_pixels=min_pixels, max_pixels=max_pixels),
        peft_config=LoraConfig(**({"r": 4, "lora_alpha": 64} | lora)),
        quantization_config=BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.float32,
        )
        if quantized
        else None,
    )
    trainer.train()
    trainer.save_model(str(folder))
    trainer.save_state()
    run = {"dataset": "/home/ada/figures", "model_name_or_path": str(base), "output_dir": str(folder)}
    (folder / "config.yaml").write_text(yaml.safe_dump(run | {"instruction": INSTRUCTION, "use_peft": True}))
    return folder


@pytest.fixture(scope="package")
def runs(tiny_checkpoint, processor, tmp_path_factory):
    """Folders by name: the base, runs of several kinds of adapters, each trained when it is first asked for."""
    root = tmp_path_factory.mktemp("runs")
    made = {"base": tiny_checkpoint}
    kinds = {
        "language": (LANGUAGE, {"save_strategy": "steps", "save_steps": 1}, BOUNDS),
        "everything": ({"target_modules": "all-linear", "modules_to_save": ["lm_head"]}, {}, {}),
        "qlora": (LANGUAGE, {}, {"quantized": True}),
    }

    def train(folder, lora, settings, options):
        return train_adapter(tiny_checkpoint, folder, lora, settings, **options)

    def get(name):
        if name not in made:
            folder = root / name
            made[name] = adapt_tied(folder) if name == "tied" else train(folder, *kinds[name])
        return made[name]

    def adapt_tied(folder):
        """Saved by hand, without processor and settings. TRL trains no adapter on the head, but others do."""
        model = build_tiny_model(processor)
        model.config.tie_word_embeddings = True
        model.tie_weights()
        model.save_pretrained(root / "tied-base")
        processor.save_pretrained(root / "tied-base")
        model = AutoModelForImageTextToText.from_pretrained(root / "tied-base")
        model = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "lm_head"], init_lora_weights=False))
        model.save_pretrained(folder)
        return folder

    yield get
    shutil.rmtree(root)
