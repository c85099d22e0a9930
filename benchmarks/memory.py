"""Peak GPU memory of a Share-GRPO step, and what `r1sharevl plan` says it should be.

    python benchmarks/memory.py --device cuda --model qwen2_5_vl_3b --method qlora
    python benchmarks/memory.py --device cuda --model qwen2_5_vl_3b --method qlora --shared-prefix off
    python benchmarks/memory.py --device cpu --model tiny        # only shows that it runs: no peak is measured

Random weights in the real architecture, one random image of 1024 x 1024 per question, responses of exactly 512 tokens,
m = 2 prompts and n = 6 responses each: generation and update of two optimizer steps, so that the optimizer state is
there. All 12 pairs of a prompt are one micro-batch. The weights are made in bfloat16 on the host (twice the parameters
in bytes: 7 GB for 3B, 17 GB for 7B), saved to `--folder`, and loaded from there as any checkpoint is, 4-bit
quantisation included.

A result measured on a GPU is written to `benchmarks/results/<date>-<device>-memory-<model>-<method>.json`, with
`-rows` at the end of the name where `--shared-prefix off` trains every row by itself.
"""

import argparse
import datetime
import importlib.metadata
import json
import sys
import tempfile
from pathlib import Path

import torch
from datasets import Dataset
from PIL import Image

from r1_sharevl import ShareGRPOTrainer, training
from r1_sharevl.arguments import parse_run
from r1_sharevl.data.schema import prepared_features
from r1_sharevl.models.known_models import known_config
from r1_sharevl.models.skeleton import build_skeleton
from r1_sharevl.models.tiny import build_tiny_model, build_tiny_processor
from r1_sharevl.planning.plan import Planner
from r1_sharevl.planning.sharding import Sharding

GIB = 2**30
MODELS = {"qwen2_5_vl_3b": "Qwen2.5-VL-3B", "qwen2_5_vl_7b": "Qwen2.5-VL-7B"}
# A few hundred million parameters: large enough that the weights show, small enough for a test on any GPU.
MIDDLE = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 12,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [8, 12, 12]},
}
METHODS = {
    "full": [],
    "lora": ["--use_peft", "--lora_r", "64", "--dtype", "bfloat16"],
    "qlora": ["--use_peft", "--lora_r", "64", "--dtype", "bfloat16", "--load_in_4bit", "--use_bnb_nested_quant"],
}


class MeasuredTrainer(ShareGRPOTrainer):
    """Notes the highest allocation of each phase."""

    peaks: dict[str, int] = {}  # noqa: RUF012 (read after the run, when the trainer is gone)

    def _note(self, phase):
        if self.accelerator.device.type == "cuda":
            self.peaks[phase] = max(self.peaks.get(phase, 0), torch.cuda.max_memory_allocated())
            torch.cuda.reset_peak_memory_stats()

    def _generate_and_score_completions(self, inputs):
        self._note("update")
        output = super()._generate_and_score_completions(inputs)
        self._note("generate")
        return output

    def train(self, *args, **kwargs):
        result = super().train(*args, **kwargs)
        self._note("update")
        return result


def make_checkpoint(model, folder):
    """Save a random model of the real shape, with the tiny model's tokenizer in front of it."""
    processor = build_tiny_processor()
    if model in ("tiny", "middle"):
        built = build_tiny_model(processor, text=MIDDLE if model == "middle" else None)
    else:
        config = known_config(MODELS[model])
        tokens = processor.tokenizer.convert_tokens_to_ids
        config.image_token_id, config.video_token_id = tokens("<|image_pad|>"), tokens("<|video_pad|>")
        config.vision_start_token_id = tokens("<|vision_start|>")
        config.vision_end_token_id = tokens("<|vision_end|>")
        built = type(build_skeleton(config))._from_config(config, dtype=torch.bfloat16)
    if model != "tiny":
        processor.image_processor.size = {"shortest_edge": 3136, "longest_edge": 1048576}
    built.save_pretrained(folder)
    processor.save_pretrained(folder)


def make_data(folder, side):
    """Save two questions with a random image each."""
    (folder / "data").mkdir(parents=True)
    pixels = torch.randint(0, 256, (2, side, side, 3), dtype=torch.uint8).numpy()
    rows = [
        {
            "id": str(index),
            "problem": "<image>What is shown? " + "Look at it closely. " * 10,
            "images": [Image.fromarray(pixels[index])],
            "answer": "1",
            "variants": ["<image>Say what is shown. " + "Look at it closely. " * 10],
            "source": "random",
        }
        for index in range(2)
    ]
    Dataset.from_list(rows, features=prepared_features()).to_parquet(folder / "data" / "train-00000-of-00001.parquet")


def measure(model, method, device, folder, *, micro_batch=12, length=512, side=1024, shared_prefix="auto"):
    """Run two steps and return what was planned and what was measured, in bytes per phase."""
    checkpoint, data = folder / f"{model}-weights", folder / f"data-{side}"
    if not (checkpoint / "config.json").exists():
        make_checkpoint(model, checkpoint)
    if not data.exists():
        make_data(data, side)
    on_cpu = ["--use_cpu", "--bf16", "False"] if device == "cpu" else ["--bf16", "True"]
    with tempfile.TemporaryDirectory(dir=folder) as out:
        flags = [
            *("--model_name_or_path", str(checkpoint), "--dataset", str(data), "--output_dir", out),
            *("--num_variants", "2", "--num_generations", "12", "--max_completion_length", str(length)),
            *("--generation_kwargs", json.dumps({"min_new_tokens": length})),
            *("--per_device_train_batch_size", str(micro_batch), "--shared_prefix", shared_prefix),
            *("--gradient_accumulation_steps", str(24 // micro_batch), "--max_steps", "2"),
            *("--gradient_checkpointing", "True", "--transform_probability", "0", "--beta", "0.0"),
            *("--report_to", "none", "--save_strategy", "no", "--disable_tqdm", "True", "--num_train_epochs", "9"),
            *METHODS[method],
            *on_cpu,
        ]
        run, args, model_args = parse_run(flags)
        planned = Planner(run, args, model_args, data=data).plan(run, args, model_args, Sharding())
        MeasuredTrainer.peaks = {}
        original = training.ShareGRPOTrainer
        training.ShareGRPOTrainer = MeasuredTrainer
        try:
            steps = training.run_training(run, args, model_args).steps
        finally:
            training.ShareGRPOTrainer = original
    return {
        "model": model,
        "method": method,
        "parameters": planned.parameters,
        "trainable": planned.trainable,
        "steps": steps,
        "prompt_tokens": planned.prompt.tokens,
        "response_tokens": length,
        "micro_batch": micro_batch,
        "shared_prefix": shared_prefix,
        "tokens_of_a_micro_batch": planned.micro_batch.tokens,
        "planned_parts": {"generate": planned.memory.generate, "update": planned.memory.update},
        "planned": planned.memory.allocated,
        "measured": dict(MeasuredTrainer.peaks) or None,
    }


def versions():
    """Versions of what decides memory."""
    names = ("torch", "transformers", "trl", "peft", "accelerate", "bitsandbytes")
    return {name: importlib.metadata.version(name) for name in names}


def main():
    """Measure one model and method, print it, and write a result if it was measured on a GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--model", choices=["tiny", "middle", *MODELS], default="qwen2_5_vl_3b")
    parser.add_argument("--method", choices=list(METHODS), default="qlora")
    parser.add_argument("--micro-batch", type=int, default=12)
    parser.add_argument("--shared-prefix", choices=["auto", "off"], default="auto", help="off: every row by itself")
    parser.add_argument("--length", type=int, default=512, help="tokens of every response")
    parser.add_argument("--folder", type=Path, default=Path("runs/memory"), help="for the random weights")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("no CUDA device here: --device cpu --model tiny shows that it runs")
    options.folder.mkdir(parents=True, exist_ok=True)
    result = measure(
        options.model,
        options.method,
        options.device,
        options.folder,
        micro_batch=options.micro_batch,
        length=options.length,
        shared_prefix=options.shared_prefix,
    )
    for phase, planned in result["planned"].items():
        measured = (result["measured"] or {}).get(phase)
        share = "not measured" if measured is None else f"measured {measured / GIB:.2f}, {planned / measured:.2f} of it"
        print(f"{phase:9} planned {planned / GIB:.2f} GiB, {share}")
    if result["measured"] is None:
        return
    name = torch.cuda.get_device_name()
    result |= {"device": name, "versions": versions(), "date": datetime.date.today().isoformat()}
    short = name.lower().replace(" ", "-")
    rows = "-rows" if options.shared_prefix == "off" else ""
    path = options.results / f"{result['date']}-{short}-memory-{options.model}-{options.method}{rows}.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
