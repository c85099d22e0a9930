"""Trainers that are handed their responses, so that runs with shared and with ordinary rows train on the same."""

import copy

import torch
from rollouts import RecordingTrainer

from r1_sharevl.models.tiny import CHAT_TEMPLATE


class HandedTrainer(RecordingTrainer):
    """Is handed random responses of uneven length, half of them finished; the same in every run."""

    finished = 0.5  # share of the responses that end

    def _generate_single_turn(self, prompt_ids, *args, **kwargs):
        mode = int(self.model.training)
        generator = torch.Generator().manual_seed(10 * self.state.global_step + mode)
        words = sorted(set(range(len(self._tokenizer))) - set(self._tokenizer.all_special_ids))
        responses = []
        for _ in prompt_ids:
            length = int(torch.randint(1, self.max_completion_length, (1,), generator=generator))
            response = [words[index] for index in torch.randint(len(words), (length,), generator=generator)]
            ends = bool(torch.rand(1, generator=generator) < self.finished)
            responses.append([*response, self._tokenizer.eos_token_id] if ends else response)
        return responses, None


def text_processor(processor):
    """The tiny model's tokenizer with its chat template, for models without images."""
    tokenizer = copy.deepcopy(processor.tokenizer)
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def as_ordinary_rows(micro_batch, model):
    """Give every row of a micro-batch the images of its prompt, as TRL has them."""
    indices = micro_batch["image_index"]
    images = micro_batch["distinct_images"]
    shown = [index for row in indices.tolist() for index in row if index >= 0]
    ids = torch.cat([micro_batch["prompt_ids"], micro_batch["completion_ids"]], dim=1)
    rows = {name: value for name, value in micro_batch.items() if name not in ("image_index", "distinct_images")}
    return rows | {
        "pixel_values": torch.cat([images["pixel_values"][index] for index in shown]),
        "image_grid_thw": images["grids"][shown],
        "num_images": (indices >= 0).sum(1).tolist(),
        "mm_token_type_ids": (ids == model.config.image_token_id).int(),
    }


def gradient_of(trainer, micro_batches):
    """The gradient of the sum of the losses of micro-batches, in one vector."""
    trainer.model.zero_grad()
    for inputs in micro_batches:
        trainer._compute_loss(trainer.model, inputs).backward()
    return torch.cat([value.grad.flatten().clone() for value in trainer.model.parameters() if value.grad is not None])


def relative_error(found, expected):
    return ((found - expected).norm() / expected.norm()).item()
