"""What `train_step.py` compares: models, prompts and trainers, each in a process of its own that measures on demand.

A process keeps its trainer while the others wait, so that the arms can take turns pass by pass, and so that the memory
of one is not that which another left behind.
"""

import gc
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import datasets
import torch
from PIL import Image
from transformers import PrinterCallback, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor
from transformers.utils import logging as transformers_logging
from trl import GRPOConfig, GRPOTrainer, ModelConfig

from r1_sharevl import ShareGRPOConfig, ShareGRPOTrainer, accuracy_reward
from r1_sharevl.data.schema import prepared_features
from r1_sharevl.models.adapters import adapter_config
from r1_sharevl.models.checkpoints import vision_token_ids
from r1_sharevl.models.known_models import known_config
from r1_sharevl.models.tiny import build_tiny_processor
from r1_sharevl.phases import PhaseClock, in_phase
from r1_sharevl.prompts import to_messages

PATCH = 28
"""Pixels of an image token's side."""
QUESTIONS = 2
LEARNING_RATE = 1e-6

_SMALL = (
    {
        "hidden_size": 384,
        "intermediate_size": 1024,
        "num_hidden_layers": 6,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [8, 12, 12]},
    },
    {"depth": 4, "hidden_size": 256, "intermediate_size": 512, "num_heads": 4, "fullatt_block_indexes": [3]},
)
_QUICK = (
    {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 6, 6]},
    },
    {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "fullatt_block_indexes": [1]},
)
MODELS = ("small", "qwen2_5_vl_3b", "quick")


@dataclass(frozen=True)
class Shape:
    """Sizes of a group.

    Attributes:
        prompt: Tokens of a prompt, P.
        completion: Tokens of the longest response, C.
        num_variants: Prompts per question, m.
        responses_per_prompt: Responses sampled from each, n.
        uneven: Whether the responses have between 40 % of C tokens and C, and not all C.
        image_share: About which share of a prompt's tokens are the image's.
    """

    prompt: int
    completion: int
    num_variants: int = 2
    responses_per_prompt: int = 6
    uneven: bool = False
    image_share: float = 0.85

    @property
    def responses(self) -> int:
        """Responses per question, each of which is trained under every prompt: R."""
        return self.num_variants * self.responses_per_prompt

    @property
    def image(self) -> tuple[int, int]:
        """Height and width of the image in image tokens."""
        height = round((self.image_share * self.prompt) ** 0.5)
        return height, round(self.image_share * self.prompt / height)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each response to a question."""
        shortest = round(0.4 * self.completion) if self.uneven else self.completion
        return torch.linspace(shortest, self.completion, self.responses).round().int().tolist()

    @property
    def ordinary_tokens(self) -> int:
        """Tokens of the ordinary rows of one prompt and all responses to its question, padding included."""
        return self.responses * (self.prompt + self.completion)

    @property
    def packed_tokens(self) -> int:
        """Tokens of the same rows with their prompt once."""
        return self.prompt - 1 + sum(self.lengths)


@dataclass(frozen=True)
class Setting:
    """What all arms have in common.

    Attributes:
        model: One of `MODELS`.
        method: `"full"` or `"lora"`.
        device: `"cpu"` or `"cuda"`.
        threads: Of a process on the CPU.
        shape: Sizes of a group.
        folder: For what trainers write.
    """

    model: str
    method: str
    device: str
    threads: int
    shape: Shape
    folder: Path


# ------------------------------------------------------------------------------------------------- model and prompts


def build_processor() -> Qwen2_5_VLProcessor:
    """The tiny model's processor, without its limit on the size of images."""
    processor = build_tiny_processor()
    processor.image_processor.size = {"shortest_edge": PATCH**2, "longest_edge": 4 * 1024**2}
    processor.tokenizer.model_max_length = 2**20
    return processor


def build_model(name: str, processor: Qwen2_5_VLProcessor, device: str) -> Qwen2_5_VLForConditionalGeneration:
    """Build a model with random weights where it is used; equal in all processes."""
    if name == "qwen2_5_vl_3b":
        known = known_config("Qwen2.5-VL-3B")
        text, vision = known.text_config.to_dict(), known.vision_config.to_dict()
        tied = True
    else:
        text, vision = {"small": _SMALL, "quick": _QUICK}[name]
        text = {"vocab_size": len(processor.tokenizer), "max_position_embeddings": 4096} | text
        tied = False
    ids = processor.tokenizer.convert_tokens_to_ids
    ends = {"eos_token_id": processor.tokenizer.eos_token_id, "pad_token_id": processor.tokenizer.pad_token_id}
    config = Qwen2_5_VLConfig(
        text_config=text | ends | {"bos_token_id": processor.tokenizer.pad_token_id},
        vision_config=vision | {"out_hidden_size": text["hidden_size"]},
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
        tie_word_embeddings=tied,
    )
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    with torch.device(device):
        model = Qwen2_5_VLForConditionalGeneration._from_config(config, dtype=dtype)
    _scale_weights(model)
    return model


@torch.no_grad()
def _scale_weights(model: torch.nn.Module) -> None:
    """Draw every weight matrix with standard deviation 1/√fan_in, so that all of a small model counts."""
    generator = torch.Generator(model.device).manual_seed(0)
    for module in model.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv3d):
            module.weight.normal_(0.0, module.weight[0].numel() ** -0.5, generator=generator)
        elif isinstance(module, torch.nn.Embedding):
            module.weight.normal_(0.0, 0.02, generator=generator)


def build_rows(processor: Qwen2_5_VLProcessor, shape: Shape) -> list[dict[str, Any]]:
    """Make questions with `num_variants` prompts of exactly `prompt` tokens each, and a random image per question."""
    height, width = shape.image
    text = processor.apply_chat_template(to_messages("?", 1, ""), add_generation_prompt=True, tokenize=False)
    # The image has one mark in the text.
    filling = shape.prompt - len(processor.tokenizer(text)["input_ids"]) + 1 - height * width
    if filling < 1:
        raise ValueError(f"a prompt of {shape.prompt} tokens does not hold an image of {height} x {width} tokens")
    generator = torch.Generator().manual_seed(0)
    rows = []
    for number in range(QUESTIONS):
        pixels = torch.randint(0, 256, (height * PATCH, width * PATCH, 3), dtype=torch.uint8, generator=generator)
        # Every digit is a token of its own.
        wordings = ["?" + str(variant + 1) * filling for variant in range(shape.num_variants)]
        rows.append(
            {
                "id": str(number),
                "problem": wordings[0],
                "images": [Image.fromarray(pixels.numpy())],
                "answer": "1",
                "variants": wordings[1:],
                "source": "random",
            }
        )
    return rows


def question_data(rows: list[dict[str, Any]]) -> datasets.Dataset:
    """The questions as Share-GRPO takes them; images are stored as PNG, as in a prepared set."""
    return datasets.Dataset.from_list(rows, features=prepared_features())


def prompt_data(rows: list[dict[str, Any]]) -> datasets.Dataset:
    """The same prompts as questions of their own, as GRPO takes them."""
    prompts = [
        {"prompt": [{"role": "user", "content": wording}], "images": row["images"], "answer": row["answer"]}
        for row in rows
        for wording in (row["problem"], *row["variants"])
    ]
    features = datasets.Features(
        {
            "prompt": datasets.List({"role": datasets.Value("string"), "content": datasets.Value("string")}),
            "images": datasets.List(datasets.Image()),
            "answer": datasets.Value("string"),
        }
    )
    return datasets.Dataset.from_list(prompts, features=features)


def letters(completions: list[Any], **_: Any) -> list[float]:
    """A reward that differs between random responses: the share of letters in them."""
    texts = [completion[0]["content"] for completion in completions]
    return [sum(map(str.isalpha, text)) / max(1, len(text)) for text in texts]


# ---------------------------------------------------------------------------------------------------------- trainers


class ClockedGRPOTrainer(GRPOTrainer):
    """TRL's trainer, whose step is split into phases in the same places as that of `ShareGRPOTrainer`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.clock = PhaseClock(self.accelerator.device)
        self._step_began = 0.0

    @in_phase("prepare")
    def _generate_and_score_completions(self, inputs: Any) -> Any:
        return super()._generate_and_score_completions(inputs)

    @in_phase("generate")
    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        return super()._generate_single_turn(*args, **kwargs)

    @in_phase("reward")
    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Any:
        return super()._calculate_rewards(*args, **kwargs)

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
        if self.clock.phase != "prepare":
            return super()._get_per_token_logps_and_entropies(*args, **kwargs)
        with self.clock.during("old_logps"):
            return super()._get_per_token_logps_and_entropies(*args, **kwargs)

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        self.clock.start("load_data")
        self._step_began = time.perf_counter()
        samples = super().get_batch_samples(*args, **kwargs)
        self.clock.switch("update")
        return samples

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        seconds = self.clock.stop()
        if seconds:  # at the end of an epoch this is called once more
            self._metrics["train"]["time/step"].append(time.perf_counter() - self._step_began)
            for phase, value in seconds.items():
                self._metrics["train"][f"time/{phase}"].append(value)
        super()._maybe_log_save_evaluate(*args, **kwargs)


class Paced:
    """Makes a trainer wait for a word before each generation batch, and tell afterwards what its steps took."""

    connection: Connection
    memory: "Memory"
    _batch_runs = False

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """Wait, then go on."""
        if self.state.global_step % self.args.steps_per_generation == 0:
            self.connection.recv()
            self._batch_runs = True
        return super().get_batch_samples(*args, **kwargs)

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        super()._maybe_log_save_evaluate(*args, **kwargs)
        steps = self.args.steps_per_generation
        if self._batch_runs and self.state.global_step % steps == 0:
            self._batch_runs = False
            seconds: dict[str, float] = {}
            for logged in self.state.log_history[-steps:]:
                for name, value in logged.items():
                    if name.startswith("time/"):
                        seconds[name[5:]] = seconds.get(name[5:], 0.0) + value
            self.memory.give_back()
            self.connection.send({"phases": seconds, "seconds": seconds.pop("step"), "memory": self.memory.added()})


class PacedGRPOTrainer(Paced, ClockedGRPOTrainer):
    """TRL's."""


class PacedShareGRPOTrainer(Paced, ShareGRPOTrainer):
    """Ours."""


ARMS = {
    "trl": "TRL's GRPO, same pairs",
    "trl_same_rollouts": "TRL's GRPO, same rollouts",
    "share": "Share-GRPO",
}
"""What is compared; see `train_step.py`."""


def build_trainer(setting: Setting, arm: str, steps: int, *, one_micro_batch: bool = False) -> Any:
    """Build the trainer of an arm.

    Args:
        setting: Common to all arms.
        arm: Key of `ARMS`.
        steps: Optimizer steps that it can run.
        one_micro_batch: For TRL's trainer, take one prompt with R responses instead of a question's m prompts; so
            that its micro-batch has the same rows as one of Share-GRPO's.
    """
    shape = setting.shape
    m, n, responses = shape.num_variants, shape.responses_per_prompt, shape.responses
    processor = build_processor()
    model = build_model(setting.model, processor, setting.device)
    rows = build_rows(processor, shape)
    on_gpu = setting.device == "cuda"
    common = {
        "output_dir": str(setting.folder / f"{arm}-{os.getpid()}"),
        "max_completion_length": shape.completion,
        "generation_kwargs": {
            "min_new_tokens": shape.completion,
            "suppress_tokens": sorted(vision_token_ids(processor, model.config)),
        },
        "gradient_accumulation_steps": 1,
        "gradient_checkpointing": on_gpu,
        "bf16": on_gpu,
        "use_cpu": not on_gpu,
        "learning_rate": LEARNING_RATE,
        "loss_type": "bnpo",
        "beta": 0.0,
        "shuffle_dataset": False,
        "max_steps": steps,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "seed": 0,
    }
    keywords: dict[str, Any] = {"processing_class": processor, "reward_funcs": [accuracy_reward, letters]}
    if setting.method == "lora":
        keywords["peft_config"] = adapter_config(
            ModelConfig(use_peft=True, lora_r=64, lora_alpha=128, lora_dropout=0.0), model
        )
    if arm == "share":
        args = ShareGRPOConfig(
            **common,
            num_variants=m,
            num_generations=responses,
            per_device_train_batch_size=responses,
            steps_per_generation=m,
            transform_probability=0.0,
            instruction="",
        )
        return PacedShareGRPOTrainer(model, args=args, train_dataset=question_data(rows), **keywords)
    # GRPO has the m prompts of a question as m questions: with R responses each, it trains the same m * R pairs; with
    # n each, it generates the same R responses.
    each = n if arm == "trl_same_rollouts" else responses
    args = GRPOConfig(
        **common,
        num_generations=each,
        per_device_train_batch_size=each,
        steps_per_generation=1 if one_micro_batch else m,
        num_iterations=2 if one_micro_batch else 1,
    )
    return PacedGRPOTrainer(model, args=args, train_dataset=prompt_data(rows), **keywords)


# ------------------------------------------------------------------------------------------------------- measurements


class Memory:
    """Highest use of memory since its making, above what was used then.

    On a GPU that is what torch allocated; on a CPU, the process's resident memory.
    """

    def __init__(self, device: str) -> None:
        self._on_gpu = device == "cuda"
        gc.collect()
        if self._on_gpu:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
        else:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forgets the highest use so far
            self._before = _resident("VmRSS")

    def added(self) -> int:
        """Bytes."""
        return (torch.cuda.max_memory_allocated() if self._on_gpu else _resident("VmHWM")) - self._before

    def give_back(self) -> None:
        """Leave a GPU's memory to the other arms."""
        if self._on_gpu:
            torch.cuda.empty_cache()


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


class ForwardBackward:
    """The training step of one micro-batch: forward, loss, backward. No generation, no optimizer.

    Its rows are one prompt and all responses to the question, equal for all arms; they come out of the trainer's own
    preparation, in which only the sampling is replaced.
    """

    def __init__(self, setting: Setting, arm: str) -> None:
        self.trainer = trainer = build_trainer(setting, arm, steps=1, one_micro_batch=True)
        self._device = setting.device
        trainer.current_gradient_accumulation_steps = 1  # which the training loop sets
        trainer.model.train()
        trainer._generate_single_turn = _given_responses(setting.shape)
        trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
        first_wording = trainer.processing_class.tokenizer.convert_tokens_to_ids("1")
        shown = [(batch["prompt_ids"] == first_wording).any(dim=1) for batch in trainer._buffered_inputs]
        batch = next(batch for batch, has in zip(trainer._buffered_inputs, shown, strict=True) if has.all())
        size = (setting.shape.responses, setting.shape.prompt, setting.shape.completion)
        found = (*batch["prompt_ids"].shape, batch["completion_ids"].shape[1])
        if found != size:
            raise ValueError(f"{arm}: {found} rows, prompt and response tokens instead of {size}")
        # The arms' advantages differ by their methods; here they must not.
        batch["advantages"] = (batch["completion_ids"].sum(dim=1) % 7 - 3).float()
        trainer._buffered_inputs = [batch] * trainer.args.steps_per_generation
        generator = torch.Generator(trainer.accelerator.device).manual_seed(0)
        for name, parameter in trainer.model.named_parameters():
            if "lora_" in name:  # whose start is random
                torch.nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5, generator=generator)
        for parameter in self._trained():  # as in every step but the first
            parameter.grad = torch.zeros_like(parameter)
        self.memory = Memory(setting.device)

    def _trained(self) -> list[torch.nn.Parameter]:
        return [parameter for parameter in self.trainer.model.parameters() if parameter.requires_grad]

    def once(self) -> dict[str, Any]:
        """Run it once.

        Returns:
            `seconds`, and `gradient_norm`.
        """
        trainer = self.trainer
        for parameter in self._trained():
            parameter.grad.zero_()
        trainer._step = 1  # in the midst of a generation batch: nothing is generated
        _wait(self._device)
        start = time.perf_counter()
        trainer.training_step(trainer.model, None, None)
        _wait(self._device)
        seconds = time.perf_counter() - start
        # Foreach norms would make copies that count as memory of the pass.
        squares = [parameter.grad.float().norm().item() ** 2 for parameter in self._trained()]
        return {"seconds": seconds, "gradient_norm": sum(squares) ** 0.5, "memory": self.memory.added()}


def _given_responses(shape: Shape) -> Callable[..., Any]:
    """Stands in for sampling: the i-th response is the same in all arms."""
    generator = torch.Generator().manual_seed(0)
    responses = [torch.randint(0, 256, (length,), generator=generator).tolist() for length in shape.lengths]

    def generate(prompt_ids: list[list[int]], *_: Any, **__: Any) -> tuple[list[list[int]], None]:
        return [list(responses[index % len(responses)]) for index in range(len(prompt_ids))], None

    return generate


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _set_up(setting: Setting) -> None:
    warnings.filterwarnings("ignore")
    transformers_logging.set_verbosity_error()
    datasets.disable_progress_bars()
    if setting.device == "cpu":
        torch.set_num_threads(setting.threads)


def serve_forward_backward(connection: Connection, setting: Setting, arm: str) -> None:
    """Run a pass at every word, until the word is None. What a process of `train_step.py` does."""
    _set_up(setting)
    work = ForwardBackward(setting, arm)
    connection.send("ready")
    while connection.recv() is not None:
        result = work.once()
        work.memory.give_back()
        connection.send(result)


def serve_whole_step(connection: Connection, setting: Setting, arm: str, batches: int) -> None:
    """Train `batches` generation batches, each at a word. What a process of `train_step.py` does."""
    _set_up(setting)
    trainer = build_trainer(setting, arm, steps=batches * setting.shape.num_variants)
    trainer.remove_callback(PrinterCallback)
    trainer.connection, trainer.memory = connection, Memory(setting.device)
    connection.send("ready")
    trainer.train()


def profile_step(setting: Setting, arm: str) -> str:
    """Run forward and backward under torch's profiler, after one warm-up.

    Returns:
        A table of the operators that take most time.
    """
    _set_up(setting)
    work = ForwardBackward(setting, arm)
    work.once()
    activities = [torch.profiler.ProfilerActivity.CPU]
    if setting.device == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profiler:
        work.once()
    return profiler.key_averages().table(sort_by=f"self_{setting.device}_time_total", row_limit=20)
