"""What must hold across processes: two ranks do what one does, and a run that was killed goes on as if it had not."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parent / "train_script.py"
TWO_RANKS = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
pytestmark = pytest.mark.slow


def run(out, *launcher, expect=0, **arguments):
    out.mkdir(exist_ok=True, parents=True)
    command = [sys.executable, *launcher, str(SCRIPT), json.dumps({"out": str(out), **arguments})]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    # A session of its own: torchrun's ranks would outlive it on a time-out.
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            _, errors = process.communicate(timeout=240)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert process.returncode == expect, errors[-3000:]


def result(out, rank=0):
    return torch.load(out / f"result_{rank}.pt", weights_only=True)


def assert_same_parameters(one, other):
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert not different


@pytest.mark.parametrize("share", [True, False], ids=["shared", "own prompt only"])
def test_two_ranks_make_the_pairs_rewards_and_advantages_of_one(tmp_path, share):
    settings = {
        "num_generations": 6,
        "share_trajectories": share,
        "gradient_accumulation_steps": 1,
        "transform_probability": 0.5,
        "max_steps": 2,
        "loss_type": "grpo",
        "optim": "sgd",  # Adam's first steps would blow rounding up to the learning rate
    }
    rows = 3 * 6 * (2 if share else 1)  # three questions: the second one's group lies on both ranks
    run(tmp_path / "one", settings={**settings, "per_device_train_batch_size": rows}, seed_by_place=True)
    run(
        tmp_path / "two",
        *TWO_RANKS,
        settings={**settings, "per_device_train_batch_size": rows // 2},
        seed_by_place=True,
    )
    one, ranks = result(tmp_path / "one"), [result(tmp_path / "two", rank) for rank in range(2)]

    for step in range(2):
        expected = one["rows"][step]
        found = ranks[0]["rows"][step] + ranks[1]["rows"][step]
        assert [(p, r, s) for p, r, _, s in found] == [(p, r, s) for p, r, _, s in expected]
        assert [a for _, _, a, _ in found] == pytest.approx([a for _, _, a, _ in expected], abs=1e-6)
        assert ranks[0]["rewarded"][step] + ranks[1]["rewarded"][step] == one["rewarded"][step]
        assert any(a for _, _, a, _ in found)
    for name, value in one["parameters"].items():
        torch.testing.assert_close(ranks[0]["parameters"][name], value, rtol=0, atol=1e-6)


# Two optimizer steps per generation and six per epoch: 3 is between two generations, 4 at a generation's start,
# 6 at an epoch's start, 9 between two generations of the second epoch.
LONG = {
    "gradient_accumulation_steps": 1,
    "steps_per_generation": 2,
    "max_steps": 12,
    "save_strategy": "steps",
    "save_steps": 1,
    "transform_probability": 0.5,
}


def test_a_killed_and_resumed_run_ends_with_the_same_parameters(tmp_path):
    run(tmp_path / "whole", settings=LONG, rows=6)
    expected = result(tmp_path / "whole")
    for step in (3, 9):
        out = tmp_path / f"killed_{step}"
        run(out, settings=LONG, rows=6, kill_after=step, expect=-signal.SIGKILL)
        assert not (out / "result_0.pt").exists()
        run(out, settings=LONG, rows=6, resume=str(out / f"checkpoint-{step}"))
        assert_same_parameters(expected["parameters"], result(out)["parameters"])
    for step in (4, 6):
        out = tmp_path / f"from_{step}"
        run(out, settings=LONG, rows=6, resume=str(tmp_path / "whole" / f"checkpoint-{step}"))
        assert_same_parameters(expected["parameters"], result(out)["parameters"])


def test_two_ranks_resume_between_two_generations(tmp_path):
    settings = {**LONG, "per_device_train_batch_size": 4, "max_steps": 5}
    run(tmp_path / "whole", *TWO_RANKS, settings=settings)
    run(tmp_path / "resumed", *TWO_RANKS, settings=settings, resume=str(tmp_path / "whole" / "checkpoint-3"))
    assert_same_parameters(result(tmp_path / "whole")["parameters"], result(tmp_path / "resumed")["parameters"])
