"""Run by the tests in processes of its own: `train_script.py JSON`, on one rank or under torchrun."""

import json
import os
import signal
import sys
from pathlib import Path

import torch
from peft import LoraConfig
from rollouts import RecordingTrainer, make_trainer, rows_of
from transformers import TrainerCallback

from r1_sharevl.callbacks import SignalStop
from r1_sharevl.errors import RunError, StoppedError
from r1_sharevl.models.tiny import build_tiny_model, build_tiny_processor
from r1_sharevl.resuming import newest_whole_checkpoint


class KillAfterSave(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_save(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


class PlaceSeededTrainer(RecordingTrainer):
    """Samples each response on its own, seeded by its place in the whole batch, so that ranks do not matter."""

    def _generate(self, prompts):
        self.prompts = prompts
        return super()._generate(prompts)

    def _generate_single_turn(self, prompt_ids, images, multimodal_fields, num_generations):
        own = self.prompts[:: self.layout.copies]
        completions = []
        for index, prompt in enumerate(own):
            torch.manual_seed(1000 * self.state.global_step + self.accelerator.process_index * len(own) + index)
            ids, row_images, fields = self._tokenize_prompts([prompt])
            completions += super()._generate_single_turn(ids, row_images, fields, num_generations)[0]
        return completions, None


class SignalOneRank(TrainerCallback):
    """Sends SIGTERM to one of the processes while a step is running."""

    def __init__(self, rank, step):
        self.rank, self.step = rank, step

    def on_step_begin(self, args, state, control, **kwargs):
        if args.process_index == self.rank and state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


def refusal_of_spoiled_parameters(trainer):
    """Why a checkpoint is not written whose parameters are infinite on the second process only."""
    if trainer.accelerator.process_index == 1:
        next(value for value in trainer.model.parameters() if value.requires_grad).data[0] = float("inf")
    try:
        trainer.check_parameters()
    except RunError as error:
        return str(error)
    return None


def stopped_and_resumed(out, settings, rank, step):
    """Train LoRA adapters once as a whole, and once stopped in the middle and resumed, in the same processes."""
    processor = build_tiny_processor()

    def train(name, *callbacks, resume=None):
        adapters = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], lora_dropout=0.1, task_type="CAUSAL_LM")
        model = build_tiny_model(processor)
        trainer = make_trainer(os.path.join(out, name), model, processor, peft_config=adapters, **settings)
        for callback in callbacks:
            trainer.add_callback(callback)
        stop = SignalStop()
        trainer.add_callback(stop)
        result = {}
        try:
            with stop:
                trainer.train(resume_from_checkpoint=resume)
        except StoppedError as stopped:
            result = {"message": str(stopped), "exit_code": stopped.exit_code}
        trained = {key: value for key, value in trainer.model.named_parameters() if value.requires_grad}
        parameters = {key: value.detach().clone() for key, value in trained.items()}
        return {**result, "step": trainer.state.global_step, "parameters": parameters}, trainer

    whole, trainer = train("whole")
    spoiled = refusal_of_spoiled_parameters(trainer)
    stopped, _ = train("stopped", SignalOneRank(rank, step))
    checkpoint = newest_whole_checkpoint(Path(out, "stopped"))
    resumed, _ = train("stopped", resume=str(checkpoint))
    results = {"whole": whole, "spoiled": spoiled, "stopped": stopped, "resumed": resumed}
    torch.save(results, os.path.join(out, f"result_{os.environ['RANK']}.pt"))


def main(out, settings, seed_by_place=False, kill_after=None, resume=None, whole=None):
    """Train once; and once more into the folder `whole`, if one is given, without a resume."""
    processor = build_tiny_processor()
    trainer_class = PlaceSeededTrainer if seed_by_place else RecordingTrainer
    trainer = make_trainer(out, build_tiny_model(processor), processor, trainer_class=trainer_class, **settings)
    if kill_after is not None:
        trainer.add_callback(KillAfterSave(kill_after))
    trainer.train(resume_from_checkpoint=resume)
    rank = trainer.accelerator.process_index
    uninterrupted = None
    if whole is not None:
        uninterrupted = make_trainer(whole, build_tiny_model(processor), processor, **settings)
        uninterrupted.train()
    torch.save(
        {
            "parameters_of_whole": None if uninterrupted is None else dict(uninterrupted.model.state_dict()),
            "parameters": dict(trainer.model.state_dict()),
            "rows": [rows_of(trained) for trained in trainer.trained],
            "logp_gaps": [
                log["share_grpo/logp_gap"] for log in trainer.state.log_history if "share_grpo/logp_gap" in log
            ],
            "rewarded": [[list(entry) for entry in batch] for batch in trainer.rewarded],
        },
        os.path.join(out, f"result_{rank}.pt"),
    )


if __name__ == "__main__":
    arguments = json.loads(sys.argv[1])
    if "rank" in arguments:
        stopped_and_resumed(**arguments)
    else:
        main(**arguments)
