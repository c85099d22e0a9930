"""What must hold across processes: two ranks do what one does, and a run that was killed goes on as if it had not."""

import json
import re
import signal
import sys
from pathlib import Path

import pytest
import torch

from process_group import run_group

SCRIPT = Path(__file__).parent / "train_script.py"
TWO_RANKS = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
pytestmark = pytest.mark.slow


def run(out, *launcher, expect=0, **arguments):
    out.mkdir(exist_ok=True, parents=True)
    command = [sys.executable, *launcher, str(SCRIPT), json.dumps({"out": str(out), **arguments})]
    status, errors = run_group(command)
    assert status == expect, errors[-3000:]


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
    assert len(one["logp_gaps"]) == (2 if share else 0)
    for rank in ranks:
        assert rank["logp_gaps"] == pytest.approx(one["logp_gaps"], abs=1e-5)
    for name, value in one["parameters"].items():
        torch.testing.assert_close(ranks[0]["parameters"][name], value, rtol=0, atol=1e-6)


# Two optimizer steps per generation: 3 is between two generations.
LONG = {
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 1,
    "steps_per_generation": 2,
    "max_steps": 5,
    "save_strategy": "steps",
    "save_steps": 1,
    "transform_probability": 0.5,
}


def test_a_killed_and_resumed_run_ends_with_the_same_parameters(tmp_path):
    killed = tmp_path / "killed"
    run(killed, settings=LONG, kill_after=3, expect=-signal.SIGKILL)
    assert not (killed / "result_0.pt").exists()
    run(killed, settings=LONG, resume=str(killed / "checkpoint-3"), whole=str(tmp_path / "whole"))
    found = result(killed)
    assert_same_parameters(found["parameters_of_whole"], found["parameters"])


def test_a_signal_to_one_of_two_ranks_stops_both_and_the_run_goes_on_as_if_it_had_not(tmp_path):
    settings = {**LONG, "save_steps": 2}
    run(tmp_path, *TWO_RANKS, settings=settings, rank=1, step=2)
    ranks = [result(tmp_path, rank) for rank in range(2)]
    assert [results["stopped"]["step"] for results in ranks] == [3, 3]
    assert [results["stopped"]["exit_code"] for results in ranks] == [143, 143]
    assert "stopped by SIGTERM after step 3 of 5" in ranks[0]["stopped"]["message"]
    assert "2 processes as before" in ranks[0]["stopped"]["message"]
    assert ranks[1]["stopped"]["message"] == "", "the first process speaks for all"
    for results in ranks:
        assert results["resumed"]["step"] == 5
        assert_same_parameters(results["whole"]["parameters"], results["resumed"]["parameters"])
    assert_same_parameters(ranks[0]["whole"]["parameters"], ranks[1]["whole"]["parameters"])
    # Parameters that only one process sees to be spoiled, as with FSDP, are saved by none.
    assert "stopped at step 5: a parameter of another process has values" in ranks[0]["spoiled"]
    assert re.match(r"stopped at step 5: .*lora_A.* has values that are NaN or infinite", ranks[1]["spoiled"])
    files = json.loads((tmp_path / "stopped" / "checkpoint-3" / "checkpoint.json").read_text())["files"]
    assert {"rollouts_0.pt", "rollouts_1.pt", "rng_state_0.pth", "rng_state_1.pth"} <= files.keys()
