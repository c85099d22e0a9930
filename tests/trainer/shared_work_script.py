"""Run under torchrun by the tests: `shared_work_script.py JSON`, several training runs in the same two processes."""

import json
import os
import sys
from dataclasses import dataclass, field

import torch
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from datasets import Dataset, Features, Image, List, Value
from peft import LoraConfig
from rollouts import RecordingTrainer, hash_reward, make_config
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from r1_sharevl import UserError
from r1_sharevl.data.synthetic import synthetic_rows

LENGTHS = (1, 9, 4, 7, 12, 2, 5, 9)


class ScriptedTrainer(RecordingTrainer):
    """Is given its responses by their place in the whole batch, so that runs of all kinds train on the same ones."""

    second_half = ""  # how the responses of the batch's second half differ: "endless" (cut off) or "long"

    def _generate_single_turn(self, prompt_ids, *args, **kwargs):
        first = self.accelerator.process_index * len(prompt_ids)
        half = self.accelerator.num_processes * len(prompt_ids) / 2
        completions = []
        for place in range(first, first + len(prompt_ids)):
            kind = self.second_half if place >= half else ""
            length = 200 if kind == "long" else LENGTHS[place % len(LENGTHS)]
            drawn = torch.Generator().manual_seed(1000 * self.state.global_step + place)
            response = torch.randint(10, 200, (length,), generator=drawn).tolist()
            completions.append(response if kind == "endless" else [*response, self.eos_token_ids[0]])
        return completions, None


@dataclass
class Passes:
    """What the decoder and the vision tower of a model were given, per pass."""

    decoder: list = field(default_factory=list)
    tower: list = field(default_factory=list)

    def watch(self, model):
        found = model.get_base_model() if hasattr(model, "get_base_model") else model

        def saw_tokens(_, __, kwargs):
            kind = "packed" if kwargs.get("shared_prefix") is not None else "rows"
            self.decoder.append((kind, torch.is_grad_enabled()))

        def saw_images(_, args, kwargs):
            self.tower.append(len(kwargs["grid_thw"]))

        found.get_decoder().register_forward_pre_hook(saw_tokens, with_kwargs=True)
        found.base_model.visual.register_forward_pre_hook(saw_images, with_kwargs=True)


def questions(kinds):
    """Rows of the built-in set, one for each word of `kinds`: with an image or without."""
    rows = []
    for row, kind in zip(synthetic_rows("train", len(kinds), 0), kinds, strict=True):
        if kind == "text":
            row = {**row, "images": [], "problem": row["problem"].replace("<image>", "").strip()}
            row["variants"] = [variant.replace("<image>", "").strip() for variant in row["variants"]]
        rows.append(row)
    names = {key: Value("string") for key in rows[0]} | {"images": List(Image()), "variants": List(Value("string"))}
    return Dataset.from_list(rows, features=Features(names))


def whole(model):
    """All trained parameters, put together from the processes, by the names they have without wrappers."""
    found = {}
    for name, value in model.named_parameters():
        if value.requires_grad:
            value = value.full_tensor() if isinstance(value, DTensor) else value
            found[name.replace("_checkpoint_wrapped_module.", "")] = value.detach().clone()
    return found


def train(
    folder,
    checkpoint,
    processor,
    kinds,
    scripted=True,
    second_half="",
    lora=False,
    tied=False,
    fsdp_checkpointing=False,
    resume=None,
    **settings,
):
    """Train, and tell what of it must be equal in other kinds of runs."""
    os.environ["FSDP_ACTIVATION_CHECKPOINTING"] = str(fsdp_checkpointing).lower()
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(checkpoint)
    if tied:
        model.config.tie_word_embeddings = model.config.text_config.tie_word_embeddings = True
        model.tie_weights()
        assert model.lm_head.weight is model.get_input_embeddings().weight
    targets = {"r": 4, "target_modules": r".*\.(q_proj|qkv|down_proj)", "task_type": "CAUSAL_LM"}
    defaults = {
        "shuffle_dataset": False,
        "optim": "sgd",  # Adam's first steps would blow rounding up to the learning rate
        "learning_rate": 0.5,
        "lr_scheduler_type": "constant",
        "gradient_accumulation_steps": 1,
        "max_completion_length": 16,
    }
    arguments = make_config(folder, **(defaults | settings))
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        # accelerate takes its way to FSDP for processes with GPUs only; from there on, all of it runs on CPUs as well.
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    torch.manual_seed(0)
    trainer = (ScriptedTrainer if scripted else RecordingTrainer)(
        model,
        hash_reward,
        arguments,
        questions(kinds),
        processing_class=processor,
        peft_config=LoraConfig(**targets) if lora else None,
    )
    if scripted:
        trainer.second_half = second_half
    before = whole(trainer.model)
    passes = Passes()
    passes.watch(trainer.model)
    trainer.train(resume_from_checkpoint=resume)
    parameters = whole(trainer.model)
    return {
        "shares": trainer._shares_work,
        "sharded": any(isinstance(module, FSDPModule) for module in trainer.model.modules()),
        "parameters": parameters,
        "moved": max((parameters[name] - value).abs().max().item() for name, value in before.items()),
        "passes": passes.decoder,
        "images": passes.tower,
        "lengths": [[len(response) for _, response in batch] for batch in trainer.sampled],
        "attention": trainer.model.config.get_text_config()._attn_implementation,
    }


def main(out, checkpoint, cases):
    processor = Qwen2_5_VLProcessor.from_pretrained(checkpoint)
    for name, case in cases.items():
        if "resume" in case:
            case["resume"] = os.path.join(out, case["resume"])
        try:
            result = train(os.path.join(out, name), checkpoint, processor, **case)
        except UserError as error:
            result = {"refused": str(error)}
        torch.save(result, os.path.join(out, f"{name}_{os.environ['RANK']}.pt"))


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
