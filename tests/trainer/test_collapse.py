"""A run that has collapsed ends with its last good checkpoint; one bad step ends nothing."""

import pytest
import torch
from rollouts import make_config, make_trainer
from transformers import TrainerCallback, TrainerControl, TrainerState

from r1_sharevl import RunError
from r1_sharevl.callbacks import CollapseStop

ONE_STEP_PER_GENERATION = {"gradient_accumulation_steps": 1, "save_strategy": "steps", "save_steps": 1}


class BadGradients(TrainerCallback):
    """Spoils the gradients of some steps, and keeps the parameters after every step."""

    def __init__(self, model, factors):
        self.parameter = next(p for name, p in model.named_parameters() if name.endswith("q_proj.weight"))
        self.factors = factors
        self.step = 0
        self.after = []
        self.parameter.register_hook(lambda gradient: gradient * self.factors.get(self.step + 1, 1.0))

    def on_step_end(self, args, state, control, **kwargs):
        self.step = state.global_step
        self.after.append(self.parameter.detach().clone())


def no_reward(completions, **kwargs):
    return [0.0] * len(completions)


def test_a_spike_and_a_nan_are_survived_and_many_nans_are_not(tmp_path, tiny_model, processor):
    nan = float("nan")
    trainer = make_trainer(
        tmp_path, tiny_model, processor, max_steps=8, **ONE_STEP_PER_GENERATION, max_completion_length=3
    )
    bad = BadGradients(tiny_model, {1: 1e12, 2: nan, 4: float("inf"), 5: nan, 6: nan})
    trainer.add_callback(bad)
    trainer.add_callback(CollapseStop(patience=3, entropy=0))
    with pytest.raises(
        RunError, match=r"stopped at step 6: .* last 3 logged steps the loss or the gradient norm was NaN"
    ):
        trainer.train()
    changed = [not torch.equal(one, other) for one, other in zip(bad.after, bad.after[1:], strict=False)]
    assert changed == [False, True, False, False, False], "steps 2, 4, 5 and 6 leave the weights as they were"
    assert all(torch.isfinite(weights).all() for weights in bad.after)
    assert {path.name for path in tmp_path.glob("checkpoint-*")} == {f"checkpoint-{step}" for step in range(1, 6)}


def test_no_reward_at_all_ends_the_run_with_one_line(tmp_path, tiny_model, processor):
    trainer = make_trainer(
        tmp_path, tiny_model, processor, reward=no_reward, max_steps=5, gradient_accumulation_steps=1
    )
    trainer.add_callback(CollapseStop(patience=2, entropy=0))
    with pytest.raises(RunError) as ended:
        trainer.train()
    message = str(ended.value)
    assert message.startswith(
        "stopped at step 2: in each of the last 2 logged steps every reward was 0; the checkpoints"
    )
    assert f"r1sharevl train --config {tmp_path / 'config.yaml'} --resume --collapse_patience 0" in message
    assert "\n" not in message


def test_parameters_that_are_not_finite_are_not_saved(tmp_path, tiny_model, processor):
    class SpoilAndSave(TrainerCallback):
        """As a signal does it, after all other callbacks; `save_strategy` "epoch" and "best" save later still."""

        def on_step_end(self, args, state, control, model=None, **kwargs):
            if state.global_step == 2:
                next(model.parameters()).data[0] = float("inf")
            control.should_save = True

    trainer = make_trainer(tmp_path, tiny_model, processor, max_steps=3, gradient_accumulation_steps=1)
    trainer.add_callback(CollapseStop(patience=100, entropy=0))
    trainer.add_callback(SpoilAndSave())
    with pytest.raises(RunError, match=r"stopped at step 2: .* NaN or infinite, so this step is not saved"):
        trainer.train()
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-1"]

    norm = trainer._get_grad_norm(trainer.model, torch.tensor(float("nan")))
    assert norm.isnan(), "an update is skipped"
    trainer.is_deepspeed_enabled = True  # its engine has made the update by then
    assert trainer._get_grad_norm(trainer.model, torch.tensor(3.0)) == 3
    with pytest.raises(RunError, match="stopped at step 3: the gradient norm is nan, and DeepSpeed has updated the"):
        trainer._get_grad_norm(trainer.model, torch.tensor(float("nan")))


GOOD = {"loss": 0.1, "grad_norm": 1.0, "reward": 0.5, "reward_std": 0.2, "entropy": 0.4}


@pytest.mark.parametrize(
    ("history", "patience", "entropy", "seen"),
    [
        ([{"reward": 0, "reward_std": 0}] * 3, 3, 0, "every reward was 0"),
        ([{"reward": 0, "reward_std": 0}] * 2, 3, 0, None),
        ([{"reward": 0, "reward_std": 0}, {}, {"reward": 0, "reward_std": 0}], 3, 0, None),
        ([{"reward": 0, "reward_std": 0.5}] * 3, 3, 0, None),
        ([{"reward": None, "reward_std": None, "entropy": None}] * 3, 3, 0.001, None),
        # A step that trains on responses of an earlier step logs no reward.
        ([{"reward": 0, "reward_std": 0}, {"reward": None}] * 3, 3, 0, "every reward was 0"),
        ([{"entropy": 1e-4}] * 3, 3, 0.001, "the entropy was below 0.001 nats"),
        ([{"entropy": 1e-4}] * 2 + [{"entropy": 0.002}], 3, 0.001, None),
        ([{"entropy": 0}] * 3, 3, 0, None),
        ([{"entropy": 0, "reward": 0, "reward_std": 0}] * 3, 0, 0.001, None),
        ([{"grad_norm": float("inf")}] * 10, 100, 0, "in each of the last 10 logged steps the loss"),
        ([{"loss": float("nan")}] * 9, 100, 0, None),
    ],
)
def test_only_an_unbroken_row_of_one_sign_ends_a_run(history, patience, entropy, seen, tmp_path):
    args = make_config(tmp_path)
    stop = CollapseStop(patience, entropy)
    state = TrainerState(global_step=7, max_steps=9)
    # An evaluation in between is no logged step of training.
    state.log_history = [line for entry in history for line in ({**GOOD, **entry}, {"eval_loss": 0.0})]
    stop.on_log(args, state, TrainerControl(), logs={"eval_loss": 0.0})
    if seen is None:
        stop.on_log(args, state, TrainerControl(), logs=state.log_history[-2])
    else:
        with pytest.raises(RunError, match=seen):
            stop.on_log(args, state, TrainerControl(), logs=state.log_history[-2])
