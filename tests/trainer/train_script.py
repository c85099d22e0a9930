"""Run by the tests in processes of its own: `train_script.py JSON`, on one rank or under torchrun."""

import json
import os
import signal
import sys

import torch
from rollouts import RecordingTrainer, make_dataset, make_trainer, rows_of
from transformers import TrainerCallback

from r1_sharevl.models.tiny import build_tiny_model, build_tiny_processor


class KillAfterSave(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_save(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


class PlaceSeededTrainer(RecordingTrainer):
    """Samples each response on its own, seeded by its place in the whole batch, so that ranks do not matter."""

    def _generate_single_turn(self, prompt_ids, images, multimodal_fields, num_generations):
        own = self.asked[-1][:: self.layout.copies]
        completions = []
        for index, prompt in enumerate(own):
            torch.manual_seed(1000 * self.state.global_step + self.accelerator.process_index * len(own) + index)
            ids, row_images, fields = self._tokenize_prompts([prompt])
            completions += super()._generate_single_turn(ids, row_images, fields, num_generations)[0]
        return completions, None


def main(out, settings, rows=16, seed_by_place=False, kill_after=None, resume=None):
    processor = build_tiny_processor()
    trainer_class = PlaceSeededTrainer if seed_by_place else RecordingTrainer
    trainer = make_trainer(
        out, build_tiny_model(processor), processor, dataset=make_dataset(rows), trainer_class=trainer_class, **settings
    )
    if kill_after is not None:
        trainer.add_callback(KillAfterSave(kill_after))
    trainer.train(resume_from_checkpoint=resume)
    rank = trainer.accelerator.process_index
    torch.save(
        {
            "parameters": dict(trainer.model.state_dict()),
            "rows": [rows_of(trained) for trained in trainer.trained],
            "rewarded": [[list(entry) for entry in batch] for batch in trainer.rewarded],
        },
        os.path.join(out, f"result_{rank}.pt"),
    )


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
