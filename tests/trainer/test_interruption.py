"""A run that is stopped by a signal goes on as if it had not been; what the best model is; what a full disk does."""

import json
import os
import resource
import shutil
import signal
import threading

import pytest
import torch
from peft import LoraConfig
from rollouts import hash_reward, make_config, make_dataset, make_trainer
from transformers import BitsAndBytesConfig, TrainerCallback

from r1_sharevl import RunError, ShareGRPOTrainer, UserError
from r1_sharevl.callbacks import SignalStop
from r1_sharevl.checkpoint_seal import why_not_whole
from r1_sharevl.errors import StoppedError
from r1_sharevl.models.tiny import build_tiny_model

# Two optimizer steps per generation: after an odd step, responses wait that are not trained on yet.
SETTINGS = {
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "steps_per_generation": 2,
    "max_completion_length": 4,
    "max_steps": 5,
    "transform_probability": 0.5,
    "eval_strategy": "steps",
    "eval_steps": 3,
    "per_device_eval_batch_size": 4,
}


class SignalAt(TrainerCallback):
    """Sends SIGTERM to this process at a moment of a step."""

    def __init__(self, moment, step):
        self.moment, self.step = moment, step

    def fire(self, moment, state):
        if moment == self.moment and state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)

    def on_step_begin(self, args, state, control, **kwargs):
        self.fire("step", state)

    def on_prediction_step(self, args, state, control, **kwargs):
        self.fire("evaluation", state)

    def on_save(self, args, state, control, **kwargs):
        self.fire("saving", state)


def train(folder, model, processor, *callbacks, resume=None, peft_config=None, reward=hash_reward, rows=6, **settings):
    trainer = ShareGRPOTrainer(
        model,
        reward,
        make_config(folder, **{**SETTINGS, **settings}),
        make_dataset(rows),
        make_dataset(2, seed=1),
        processing_class=processor,
        peft_config=peft_config,
    )
    for callback in callbacks:
        trainer.add_callback(callback)
    stop = SignalStop()
    trainer.add_callback(stop)
    with stop:
        trainer.train(resume_from_checkpoint=resume)
    return trainer


def trained_values(trainer):
    return {name: value.detach().clone() for name, value in trainer.model.named_parameters() if value.requires_grad}


def logged(trainer):
    """What was logged at each step, without the times."""
    timed = ("time", "runtime", "per_second")
    return [
        {key: value for key, value in entry.items() if not any(word in key for word in timed)}
        for entry in trainer.state.log_history
        if "train_runtime" not in entry
    ]


def lora(**settings):
    return LoraConfig(r=4, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM", **settings)


def load_full(folder, processor):
    return build_tiny_model(processor)


def load_quantized(folder, processor):
    from transformers import Qwen2_5_VLForConditionalGeneration

    build_tiny_model(processor).save_pretrained(folder / "base")
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    return Qwen2_5_VLForConditionalGeneration.from_pretrained(folder / "base", quantization_config=config)


@pytest.mark.parametrize(
    ("load", "adapters", "moment", "step", "settings"),
    [
        (load_full, None, "step", 2, {}),
        (load_full, {"lora_dropout": 0.2}, "evaluation", 3, {"beta": 0.1}),
        # Without evaluation: there, bitsandbytes packs its weights anew for the CPU, and then computes other results.
        (load_quantized, {}, "saving", 3, {"save_strategy": "steps", "save_steps": 3, "eval_strategy": "no"}),
    ],
    ids=["full, in a step", "LoRA with dropout and KL, in an evaluation", "QLoRA, while saving"],
)
def test_a_run_stopped_by_a_signal_goes_on_as_if_it_had_not_been(
    load, adapters, moment, step, settings, tmp_path, processor
):
    def peft_config():
        return None if adapters is None else lora(**adapters)

    def model():
        return load(tmp_path, processor)

    whole = train(tmp_path / "whole", model(), processor, peft_config=peft_config(), **settings)

    folder = tmp_path / "stopped"
    usual = signal.getsignal(signal.SIGTERM)
    with pytest.raises(StoppedError, match="stopped by SIGTERM after step 3 of 5; checkpoint-3 is whole") as stopped:
        train(folder, model(), processor, SignalAt(moment, step), peft_config=peft_config(), **settings)
    assert stopped.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) is usual
    assert why_not_whole(folder / "checkpoint-3") is None

    resume = str(folder / "checkpoint-3")
    resumed = train(folder, model(), processor, resume=resume, peft_config=peft_config(), **settings)
    expected, found = trained_values(whole), trained_values(resumed)
    assert expected.keys() == found.keys()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    assert logged(resumed) == logged(whole), "no step is missing, twice, or different"


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        # Two steps per generation and six per epoch: 4 is at a generation's start, 6 at an epoch's, 7 between two
        # generations of the second epoch.
        ({"per_device_train_batch_size": 4, "rows": 3, "max_steps": 8}, (4, 6, 7)),
        # Eight micro-batches per epoch, in steps of 3, 3 and 2: 3 is at an epoch's start, 4 in a generation's midst.
        (
            {
                "per_device_train_batch_size": 4,
                "gradient_accumulation_steps": 3,
                "rows": 4,
                "max_steps": 5,
            },
            (3, 4),
        ),
    ],
    ids=["whole steps", "an epoch that ends in a short step"],
)
def test_a_run_resumed_from_any_checkpoint_ends_with_the_same_parameters(settings, steps, tmp_path, processor):
    settings = {**settings, "eval_strategy": "no", "save_strategy": "steps", "save_steps": 1}
    whole = trained_values(train(tmp_path / "whole", build_tiny_model(processor), processor, **settings))
    for step in steps:
        checkpoint = str(tmp_path / "whole" / f"checkpoint-{step}")
        model = build_tiny_model(processor)
        torch.manual_seed(step)  # what a new process brings
        found = trained_values(train(tmp_path / f"from-{step}", model, processor, resume=checkpoint, **settings))
        assert [name for name in whole if not torch.equal(whole[name], found[name])] == [], f"from step {step}"


def test_an_unknown_best_metric_is_the_users_mistake(tmp_path, tiny_model, processor):
    settings = {"eval_steps": 1, "save_strategy": "best", "max_steps": 1}
    with pytest.raises(UserError, match=r"rewards/acc/mean', which no reward .*: choose from rewards/hash_reward/mean"):
        train(tmp_path, tiny_model, processor, metric_for_best_model="eval_rewards/acc/mean", **settings)
    with pytest.raises(
        UserError, match=r"^metric_for_best_model is 'accuracy', which .*, reward, .*reward/mean"
    ) as raised:
        train(tmp_path, tiny_model, processor, metric_for_best_model="accuracy", **settings)
    assert "\n" not in str(raised.value)


def test_only_what_the_disk_may_cause_is_blamed_on_it(tmp_path, tiny_model, processor):
    class Failing(ShareGRPOTrainer):
        def save_model(self, *args, **kwargs):
            raise self.failure

    trainer = make_trainer(tmp_path, tiny_model, processor, trainer_class=Failing)
    for failure in (torch.distributed.DistError("a peer is gone"), torch.AcceleratorError("an illegal address")):
        trainer.failure = failure
        with pytest.raises(type(failure)):
            trainer._save_checkpoint(trainer.model, None)
    trainer.failure = RuntimeError("unexpected pos 64 vs 0")  # torch.save's
    with pytest.raises(RunError, match="could not be written and is removed: unexpected pos"):
        trainer._save_checkpoint(trainer.model, None)


class AccuracyOfStep(TrainerCallback):
    """A reward that is the same for all responses of an evaluation, and best at step 4."""

    __name__ = "accuracy_reward"

    def on_step_begin(self, args, state, control, **kwargs):
        self.step = None

    def on_step_end(self, args, state, control, **kwargs):
        self.step = state.global_step

    def __call__(self, completions, **kwargs):
        if self.step is None:
            return hash_reward(completions)
        return [{2: 0.25, 4: 0.75, 6: 0.5, 8: 0.0}[self.step]] * len(completions)


def test_the_best_checkpoint_is_kept_and_is_what_is_left(tmp_path, processor):
    for adapters in (None, lora()):
        accuracy = AccuracyOfStep()
        folder = tmp_path / ("full" if adapters is None else "lora")
        (folder / "checkpoint-100").mkdir(parents=True)  # a damaged one that a resume has skipped
        trainer = train(
            folder,
            build_tiny_model(processor),
            processor,
            accuracy,
            peft_config=adapters,
            reward=accuracy,
            eval_steps=2,
            save_strategy="steps",
            save_steps=2,
            max_steps=8,
            save_total_limit=2,
            load_best_model_at_end=True,
        )
        assert trainer.args.metric_for_best_model == "rewards/accuracy_reward/mean"
        assert trainer.state.best_global_step == 4
        assert trainer.state.best_metric == 0.75
        left = sorted(path.name for path in folder.glob("checkpoint-*"))
        assert left == ["checkpoint-100", "checkpoint-4", "checkpoint-8"]
        trainer.save_model(tmp_path / "left")
        name = "model.safetensors" if adapters is None else "adapter_model.safetensors"
        left = (tmp_path / "left" / name).read_bytes()
        assert left == (folder / "checkpoint-4" / name).read_bytes()
        assert left != (folder / "checkpoint-8" / name).read_bytes()


def test_a_full_disk_leaves_earlier_checkpoints_and_one_line(tmp_path, processor):
    class FullDiskAt(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 2:
                resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(RunError, match=r"checkpoint-2 could not be written and is removed: .*earlier") as ended:
            train(
                tmp_path,
                build_tiny_model(processor),
                processor,
                FullDiskAt(),
                save_strategy="steps",
                save_steps=1,
                save_total_limit=1,
                max_steps=3,
                eval_strategy="no",
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(ended.value)
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-1"]
    assert why_not_whole(tmp_path / "checkpoint-1") is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_second_signal_has_its_usual_effect(number, capfd):
    got = []
    usual = signal.signal(number, lambda *_: got.append("usual"))
    try:
        with SignalStop(repeat_seconds=0):
            os.kill(os.getpid(), number)
            assert got == []
            os.kill(os.getpid(), number)
            assert got == ["usual"]
        with SignalStop(repeat_seconds=3600):
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)  # torchrun passing on what the terminal has sent already
            assert got == ["usual"]
        os.kill(os.getpid(), number)
        assert got == ["usual"] * 2
    finally:
        signal.signal(number, usual)
    assert capfd.readouterr().err.count(f"{signal.Signals(number).name}: stopping after this step") == 2


def test_no_handler_is_installed_outside_the_main_thread():
    found = []

    def enter():
        with SignalStop():
            found.append(signal.getsignal(signal.SIGTERM))

    usual = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [usual]


def test_responses_of_another_shape_are_generated_anew(tmp_path, processor, caplog):
    quiet = {"eval_strategy": "no", "save_strategy": "steps", "save_steps": 3, "max_steps": 3}
    train(tmp_path, build_tiny_model(processor), processor, **quiet)
    checkpoint = tmp_path / "checkpoint-3"
    assert (checkpoint / "rollouts_0.pt").exists()
    seal = checkpoint / "checkpoint.json"
    seal.write_text(json.dumps({**json.loads(seal.read_text()), "num_processes": 2}))
    shutil.copytree(checkpoint, tmp_path / "kept")
    caplog.set_level("WARNING", "r1_sharevl")
    trainer = train(
        tmp_path,
        build_tiny_model(processor),
        processor,
        resume=str(checkpoint),
        **{**quiet, "max_steps": 4, "learning_rate": 5e-4, "lr_scheduler_type": "constant"},
    )
    assert trainer.state.global_step == 4
    rates = [entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry]
    assert rates[-1] == trainer.optimizer.param_groups[0]["lr"] == 5e-4, "not the one in the checkpoint"
    assert "has no responses that fit these settings" in caplog.text
