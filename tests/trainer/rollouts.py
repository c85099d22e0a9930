"""What the trainer's tests share: small datasets, settings, rewards, and a trainer that records its rollouts."""

import copy
import hashlib

import torch
from datasets import Dataset, Features, Image, List, Value
from transformers import TrainerCallback

from r1_sharevl import ShareGRPOConfig, ShareGRPOTrainer
from r1_sharevl.data.synthetic import synthetic_rows


def make_dataset(count, seed=0, **columns):
    rows = [{**row, **columns} for row in synthetic_rows("train", count, seed)]
    kinds = {key: Value("string") for key in rows[0]} | {"images": List(Image()), "variants": List(Value("string"))}
    return Dataset.from_list(rows, features=Features(kinds))


def make_config(folder, **settings):
    defaults = {
        "num_generations": 4,
        "num_variants": 2,
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 2,
        "max_completion_length": 6,
        "max_steps": 1,
        "learning_rate": 1e-3,  # the gradients of a tiny model are tiny
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "bf16": False,
        "use_cpu": True,
        "disable_tqdm": True,
    }
    return ShareGRPOConfig(str(folder), **(defaults | settings))


def hash_reward(completions, **kwargs):
    """A reward that tells responses apart: 0 to 1 in quarters, by a hash of the text."""
    return [hashlib.sha256(text_of(completion).encode()).digest()[0] % 5 / 4 for completion in completions]


def text_of(completion):
    return completion if isinstance(completion, str) else completion[0]["content"]


class GradientRecorder(TrainerCallback):
    """Keeps the gradient of every optimizer step."""

    def __init__(self):
        self.gradients = []
        self.parameters = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.gradients.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
        self.parameters.append({n: p.detach().clone() for n, p in model.named_parameters()})


class RecordingTrainer(ShareGRPOTrainer):
    """Records what was asked, answered, rewarded and handed to the loss, at the places where these things happen."""

    def __init__(self, *args, **kwargs):
        self.sampled = []  # per generation batch: (prompt token ids, response token ids), as generated
        self.rewarded = []  # per generation batch: (response text, reward, row id)
        self.trained = []  # per generation batch: what goes to the loss, before it is shuffled
        self.dataset_rows = []  # per generation batch: the rows of the dataset, one per row of the batch
        self.asked = []  # per generation batch: the messages of each row, images in place
        super().__init__(*args, **kwargs)

    def _generate_single_turn(self, prompt_ids, *args, **kwargs):
        completion_ids, logprobs = super()._generate_single_turn(prompt_ids, *args, **kwargs)
        if self.model.training:
            self.sampled.append(list(zip(copy.deepcopy(prompt_ids), copy.deepcopy(completion_ids), strict=True)))
        return completion_ids, logprobs

    def _generate_and_score_completions(self, inputs):
        output = super()._generate_and_score_completions(inputs)
        if self.model.training:
            self.trained.append({k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in output.items()})
            self.dataset_rows.append(inputs)
        return output

    def _generate(self, prompts):
        if self.model.training:
            shared = self._conversations  # its prompts have numbers for images
            self.asked.append(prompts if shared is None else [shared.with_images(prompt) for prompt in prompts])
        return super()._generate(prompts)

    def recording_reward(self, function):
        def reward(completions, id, **kwargs):
            values = function(completions, **kwargs)
            self.rewarded.append([(text_of(c), v, i) for c, v, i in zip(completions, values, id, strict=True)])
            return values

        reward.__name__ = function.__name__
        return reward


def make_trainer(
    folder,
    model,
    processor,
    reward=hash_reward,
    dataset=None,
    trainer_class=RecordingTrainer,
    peft_config=None,
    **settings,
):
    trainer = trainer_class(
        model,
        reward,
        make_config(folder, **settings),
        make_dataset(16) if dataset is None else dataset,
        processing_class=processor,
        peft_config=peft_config,
    )
    if isinstance(trainer, RecordingTrainer):
        trainer.reward_funcs = [trainer.recording_reward(function) for function in trainer.reward_funcs]
    return trainer


def pixels_of(trained):
    """The pixel values of each image of each row of a recorded batch, as the model takes them."""
    if "distinct_images" in trained:
        pixels = trained["distinct_images"]["pixel_values"]
        return [[pixels[number] for number in row if number >= 0] for row in trained["image_index"].tolist()]
    images = iter(trained["pixel_values"].split(trained["image_grid_thw"].prod(-1).tolist()))
    return [[next(images) for _ in range(count)] for count in trained["num_images"]]


def rows_of(trained):
    """Unpad a recorded batch: (prompt ids, response ids, advantage, shared?) of each row."""
    rows = []
    for index in range(len(trained["advantages"])):
        prompt = trained["prompt_ids"][index][trained["prompt_mask"][index].bool()].tolist()
        response = trained["completion_ids"][index][trained["completion_mask"][index].bool()].tolist()
        rows.append((prompt, response, trained["advantages"][index].item(), bool(trained["is_shared"][index])))
    return rows
