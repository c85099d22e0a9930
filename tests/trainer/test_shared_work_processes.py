"""Sharing work in two processes, by DDP and by FSDP2, is training ordinary rows in one."""

import json
import sys
from pathlib import Path

import pytest
import torch
from shared_work_script import train

from process_group import run_group

SCRIPT = Path(__file__).parent / "shared_work_script.py"
FSDP2 = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
}
pytestmark = pytest.mark.slow

# The second question of three lies on both processes; old and reference log-probabilities are computed.
CUT = {
    "kinds": ["image"] * 6,
    "per_device_train_batch_size": 6,
    "gradient_accumulation_steps": 2,
    "num_iterations": 2,
    "max_steps": 3,
    "beta": 0.04,
}
# The first process's rows show images; the second's are texts whose responses are so long that sharing is not worth it.
MIXED = {
    "kinds": ["image", "text"] * 2,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 4,
    "max_completion_length": 256,
    "max_steps": 2,
    "second_half": "long",
    "instruction": "",
}
# No response of the second process ends, so that none of its tokens is trained.
MASKED = {
    "kinds": ["image"] * 4,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "mask_truncated_completions": True,
    "max_steps": 1,
    "second_half": "endless",
}
ADAPTERS = {**MIXED, "lora": True, "beta": 0.04, "max_steps": 1}
TIED = {**CUT, "tied": True, "max_steps": 2, "beta": 0.0}  # as Qwen2.5-VL-3B's head
CASES = {"cut": CUT, "mixed": MIXED, "masked": MASKED, "adapters": ADAPTERS, "tied": TIED}
# Two optimizer steps per generation: 1 is between two.
WHOLE = {
    "kinds": ["image", "text"] * 2,
    "scripted": False,
    "per_device_train_batch_size": 4,
    "steps_per_generation": 2,
    "max_completion_length": 6,
    "max_steps": 3,
    "save_strategy": "steps",
    "save_steps": 1,
}


def launch(out, checkpoint, cases, **environment):
    out.mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(SCRIPT)]
    command.append(json.dumps({"out": str(out), "checkpoint": str(checkpoint), "cases": cases}))
    status, errors = run_group(command, timeout=400, **environment)
    assert status == 0, errors[-3000:]
    return {name: [torch.load(out / f"{name}_{rank}.pt", weights_only=True) for rank in range(2)] for name in cases}


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory, tiny_checkpoint, processor):
    """One process that trains ordinary rows."""
    folder = tmp_path_factory.mktemp("ordinary")

    def run(name, case):
        case = {**case, "per_device_train_batch_size": 2 * case["per_device_train_batch_size"]}
        return train(folder / name, tiny_checkpoint, processor, shared_prefix="off", **case)

    return {name: run(name, case) for name, case in CASES.items()}


@pytest.fixture(scope="module")
def ddp(tmp_path_factory, tiny_checkpoint):
    cases = {
        **CASES,
        "bf16": {**MASKED, "second_half": "", "bf16": True},
        "whole": WHOLE,
        "resumed": {**WHOLE, "resume": "whole/checkpoint-1"},
    }
    return launch(tmp_path_factory.mktemp("ddp") / "runs", tiny_checkpoint, cases)


@pytest.fixture(scope="module")
def fsdp2(tmp_path_factory, tiny_checkpoint):
    cases = {
        **CASES,
        "cut": {**CUT, "gradient_checkpointing": False, "fsdp_checkpointing": True},
        "bf16": {**MASKED, "second_half": "", "bf16": True},
        "generated": {
            **WHOLE,
            "max_completion_length": 24,
            "generation_kwargs": {"eos_token_id": list(range(60))},
            "max_steps": 1,
            "save_strategy": "no",
        },
        "refused": {**WHOLE, "generation_kwargs": {"cache_implementation": "static"}},
    }
    return launch(tmp_path_factory.mktemp("fsdp2") / "runs", tiny_checkpoint, cases, **FSDP2)


@pytest.fixture(params=["ddp", "fsdp2"])
def runs(request):
    found = request.getfixturevalue(request.param)
    ranks = [rank for case in found.values() for rank in case if "refused" not in rank]
    assert len(ranks) == 2 * len(found) - (2 if "refused" in found else 0)
    assert all(rank["shares"] and rank["sharded"] == (request.param == "fsdp2") for rank in ranks)
    assert all(rank["attention"] == "sdpa" for rank in ranks), "as before the training"
    return found


@pytest.mark.parametrize("case", CASES)
def test_two_processes_that_share_end_where_one_with_ordinary_rows_does(case, runs, ordinary):
    expected = ordinary[case]
    assert not expected["shares"]
    assert {kind for kind, _ in expected["passes"]} == {"rows"}
    assert expected["moved"] > 0.005
    for rank in runs[case]:
        assert rank["parameters"].keys() == expected["parameters"].keys()
        for name, value in expected["parameters"].items():
            torch.testing.assert_close(rank["parameters"][name], value, rtol=0, atol=1e-5)


def test_processes_make_equally_many_passes_whatever_their_rows_are(runs):
    for case in CASES:
        first, second = runs[case]
        assert [trained for _, trained in first["passes"]] == [trained for _, trained in second["passes"]]
        assert len(first["images"]) == len(second["images"]) > 0
    first, second = runs["mixed"]
    assert {kind for kind, _ in first["passes"]} == {"packed"}
    assert {kind for kind, _ in second["passes"]} == {"rows"}, "long responses to short prompts are not worth it"


def test_bfloat16_trains_two_processes_alike(runs):
    first, second = runs["bf16"]
    assert {kind for kind, _ in first["passes"]} == {"packed"}
    assert first["moved"] > 0.005
    for name, value in first["parameters"].items():
        assert value.isfinite().all()
        assert torch.equal(value, second["parameters"][name])


def test_a_process_that_has_all_its_responses_waits_for_the_other(fsdp2):
    first, second = fsdp2["generated"]
    assert len(first["passes"]) == len(second["passes"])
    longest = [max(length for batch in rank["lengths"] for length in batch) for rank in (first, second)]
    assert longest[0] != longest[1]


def test_texts_beside_images_are_refused_where_a_sharded_model_cannot_generate_from_both(fsdp2):
    for rank in fsdp2["refused"]:
        assert rank["refused"].startswith("the rows of one process have no images and those of another do")


def test_a_run_of_two_processes_resumes_between_two_generations(ddp):
    for whole, resumed in zip(ddp["whole"], ddp["resumed"], strict=True):
        assert len(resumed["lengths"]) == 1, "the responses of the checkpoint are trained on"
        assert len(whole["lengths"]) == 2
        different = [
            name for name, value in whole["parameters"].items() if not torch.equal(value, resumed["parameters"][name])
        ]
        assert not different
