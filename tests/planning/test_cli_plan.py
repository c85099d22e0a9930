"""`r1sharevl plan`, the plan's lines at the start of `train`, and what a full GPU ends with."""

import json
import re

import pytest
import yaml
from datasets import Dataset

from r1_sharevl.cli import main
from r1_sharevl.data.schema import prepared_features
from r1_sharevl.data.synthetic import synthetic_rows

TINY = {
    "num_generations": 4,
    "per_device_train_batch_size": 8,
    "max_completion_length": 6,
    "max_steps": 2,
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "report_to": "none",
    "disable_tqdm": True,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    (folder / "data").mkdir()
    rows = list(synthetic_rows("train", 12, seed=0))
    features = prepared_features({"question_type": "string"})
    Dataset.from_list(rows, features=features).to_parquet(folder / "data" / "train-00000-of-00001.parquet")
    return folder


@pytest.fixture
def config(tmp_path, data, tiny_checkpoint):
    def write(**settings):
        path = tmp_path / "run.yaml"
        base = {"dataset": str(data), "model_name_or_path": str(tiny_checkpoint), "output_dir": str(tmp_path / "run")}
        path.write_text(yaml.safe_dump({**base, **TINY, **settings}))
        return str(path)

    return write


def run(capfd, *words, code=0):
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    out, err = capfd.readouterr()
    assert ended.value.code == code, err
    return out, err


def test_json_says_the_batch_the_memory_and_the_measured_prompts(config, capfd):
    out, _ = run(capfd, "plan", "--config", config(), "--gpu-memory", "8", "--json")
    plan = json.loads(out)
    # m = 2, 4 responses to a question: 8 pairs; one question per batch, 12 questions in the set.
    batch = plan["batch"]
    assert (batch["questions"], batch["prompts"], batch["responses"], batch["pairs"]) == (1, 2, 4, 8)
    assert (batch["optimizer_steps"], batch["steps_per_epoch"]) == (1, 12)
    assert plan["prompt"]["image"]["tokens"] == 16
    assert plan["prompt"]["questions"] == 12
    assert plan["config_source"] == "checkpoint"
    assert plan["fits"] is True
    assert plan["advice"] == []
    assert plan["faster"] is None  # 8 pairs at once hold both prompts already
    assert plan["why_not_shared"] is None
    assert plan["micro_batch"]["tokens"] == 2 * (plan["prompt"]["tokens"] - 1) + 8 * 6
    assert plan["memory"]["peak"] > max(plan["memory"]["allocated"].values()) > plan["memory"]["update"]["weights"]


def test_tables_say_what_does_not_fit_and_what_to_change(capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    flags = ["--gpu-memory", "6", "--dataset", "nowhere"]
    out, _ = run(capfd, "plan", "--config", "qwen2_5_vl_3b_qlora_12gb", *flags)
    assert "does not fit in 6.0 GiB" in out
    assert "What to change, best first" in out
    assert "--max_pixels" in out
    assert "built-in table" in out


def test_the_table_says_what_is_shared_and_which_micro_batch_would_be_faster(capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    words = ["--config", "qwen2_5_vl_3b_qlora_12gb", "--dataset", "nowhere"]
    out, _ = run(capfd, "plan", *words, "--gpu-memory", "24")
    assert "9,784: prompts once (14,564 in rows by themselves)" in out  # 1,592 + 4 x 2,048; 4 x (1,593 + 2,048)
    assert re.search(r"^Faster: --per_device_train_batch_size 12 --gradient_accumulation_steps 16 ", out, re.M)
    out, _ = run(capfd, "plan", *words, "--shared_prefix", "off", "--gpu-memory", "24")
    assert "14,564: in rows by themselves (shared_prefix is off)" in out
    assert "Faster" not in out


def test_sizes_are_checked_for_the_gpus_asked_for(config, capfd):
    _, err = run(capfd, "plan", "--config", config(generation_batch_size=16), "--gpus", "3", code=2)
    assert re.search(r"^error: generation_batch_size \(16\) .* \(8 x 3\): set generation_batch_size to 24", err, re.M)
    out, _ = run(capfd, "plan", "--config", config(), "--gpus", "3", "--json")
    plan = json.loads(out)
    assert plan["batch"]["pairs"] == 24
    assert plan["sharding"] == {"kind": "ddp", "gpus": 3, "offload_optimizer": False, "offload_parameters": False}


def test_the_words_of_a_launch_are_those_of_train(config, capfd):
    launch = ["--num-machines", "2", "--machine_rank", "1", "--main-process-ip", "10.0.0.1", "--main_process_port", "1"]
    for words, gpus in ((["--num_processes", "4", *launch], 4), (["--num-processes", "3"], 3), (launch, 2)):
        out, _ = run(capfd, "plan", "--config", config(), *words, "--json")
        sharding = json.loads(out)["sharding"]
        assert (sharding["kind"], sharding["gpus"]) == ("ddp", gpus)


def test_the_images_that_wait_in_host_memory_are_told_where_they_are_many(capfd):
    words = ["--accelerate", "fsdp2", "--gpu-memory", "80", "--dataset", "nowhere", "--json"]
    out, _ = run(capfd, "plan", "--config", "qwen2_5_vl_7b_full_8x80gb", *words)
    plan = json.loads(out)
    # 12,288 pairs on 8 GPUs, 12 of each prompt, with an image of 5,348 patches of 3 x 2 x 14 x 14 numbers in 4 bytes.
    each = 1536 / 12 * 5348 * 1176 * 4 / 2**30
    assert any(f"{each:.1f} GiB per process, {8 * each:.0f} GiB for all 8" in one for one in plan["memory"]["notes"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model_name_or_path", "./nowhere"], "nowhere: no such folder"),
        (["--model_name_or_path", "nobody/nothing"], "its config cannot be loaded"),
        (["--data", "nowhere"], "nowhere"),
        (["--accelerate", "fsdp2", "--use_peft", "--load_in_4bit"], "load_in_4bit does not go with FSDP"),
        (["--accelerate", "odd.yaml"], "odd.yaml: distributed_type is XLA"),
        (["--accelerate", "stage.yaml"], "stage.yaml: zero_stage is 1"),
        (["--accelerate", "list.yaml"], "list.yaml holds list"),
        (["--num_varients", "3"], "did you mean --num_variants"),
        (["--gpu-memory", "0"], "gpu-memory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(words, message, config, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd.yaml").write_text("distributed_type: XLA\n")
    (tmp_path / "stage.yaml").write_text("distributed_type: DEEPSPEED\ndeepspeed_config: {zero_stage: 1}\n")
    (tmp_path / "list.yaml").write_text("- a\n")
    _, err = run(capfd, "plan", "--config", config(), *words, code=2)
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in err


@pytest.mark.parametrize("saved", [False, True], ids=["before", "after a checkpoint"])
def test_a_full_gpu_ends_with_advice_and_the_plan_was_shown(saved, config, tmp_path, capfd, caplog):
    # Raised where CUDA raises it: while a batch is being made, on the first or the second step.
    (tmp_path / "full.py").write_text(
        "import torch\ncalls = []\n"
        "def reward(completions, **kwargs):\n"
        "    calls.append(1)\n"
        f"    if len(calls) > {int(saved)}:\n"
        "        raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB.')\n"
        "    return [1.0 * len(str(one)) for one in completions]\n"
    )
    path = config(reward_funcs=[f"{tmp_path}/full.py:reward"], save_strategy="steps", save_steps=1)
    _, err = run(capfd, "train", "--config", path, code=1)
    last = err.strip().splitlines()[-1]
    assert last.startswith("error: out of GPU memory while scoring responses: try --")
    assert "--per_device_train_batch_size" in last  # the change that costs least
    safe = f"{tmp_path}/run/checkpoint-1 is safe, go on from it with --resume"
    assert last.endswith(safe if saved else "no checkpoint was written yet, so start again")
    assert "Traceback" not in err
    assert "batch: 1 questions x 2 prompts, 4 responses, 8 pairs" in caplog.text
    assert re.search(r"memory per GPU: about \d+\.\d GiB", caplog.text)


def test_a_plan_that_cannot_be_made_does_not_stop_a_run(config, tmp_path, capfd):
    from r1_sharevl.arguments import parse_run
    from r1_sharevl.planning.at_start import log_plan

    run_args, args, model_args = parse_run([], config(model_name_or_path=str(tmp_path / "gone")))
    log_plan(run_args, args, model_args)
    assert "gone" not in capfd.readouterr().err


def test_a_recipe_for_several_gpus_says_so_and_one_card_gets_advice_for_itself(monkeypatch, capfd):
    monkeypatch.setattr("transformers.training_args.is_torch_bf16_gpu_available", lambda: True)
    out, _ = run(capfd, "plan", "--config", "qwen2_5_vl_7b_full_8x80gb")
    assert "written for 8 GPUs" in out
    assert "--accelerate fsdp2 --num-processes 8" in out
    out, _ = run(capfd, "plan", "--config", "qwen2_5_vl_3b_lora_24gb", "--gpu-memory", "12")
    best = out.strip().splitlines()[-1]
    assert best.startswith("To copy: --")
    assert "--num-processes" not in best, "whoever has one card cannot take two"


@pytest.mark.parametrize("command", ["plan", "train"])
def test_sharing_that_is_asked_for_and_cannot_be_is_refused_before_a_model_is_loaded(
    command, config, capfd, monkeypatch
):
    monkeypatch.setattr("r1_sharevl.training.ShareGRPOTrainer", None)  # which would refuse it, too
    _, err = run(capfd, command, "--config", config(shared_prefix="on", neftune_noise_alpha=5.0), code=2)
    assert err.splitlines()[-1].startswith("error: shared_prefix cannot be on: the noise of neftune_noise_alpha")
    assert "memory per GPU" not in err
