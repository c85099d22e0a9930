"""`r1sharevl train` when it is told to stop, and when it goes on: exit codes, lines, and the files it leaves."""

import json
import re
import shlex

import pytest
import yaml
from datasets import Dataset

from r1_sharevl.checkpoint_seal import SEAL_NAME
from r1_sharevl.cli import main
from r1_sharevl.data.schema import prepared_features
from r1_sharevl.data.synthetic import synthetic_rows

SETTINGS = {
    "num_generations": 4,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "steps_per_generation": 2,
    "max_completion_length": 4,
    "max_steps": 5,
    "logging_steps": 1,
    "save_steps": 2,
    "reward_funcs": ["rewards.py:stopping"],
    "use_cpu": True,
    "bf16": False,
    "report_to": "tensorboard",
    "disable_tqdm": True,
}
REWARD = """
import os, signal

calls = 0

def stopping(completions, **kwargs):
    global calls
    calls += 1
    if calls == 2:  # while the responses of steps 3 and 4 are rewarded
        os.kill(os.getpid(), signal.SIGTERM)
    return [len(completion[0]["content"]) % 5 / 4 for completion in completions]
"""


def train(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(["train", *map(str, arguments)])
    return ended.value.code


def tensorboard_steps(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return [event.step for event in events.Scalars("train/loss")]


def test_a_run_is_stopped_and_goes_on_from_the_newest_whole_checkpoint(
    tmp_path, tiny_checkpoint, monkeypatch, capfd, caplog
):
    (tmp_path / "data" / "data").mkdir(parents=True)
    rows = Dataset.from_list(
        list(synthetic_rows("train", 6, seed=0)), features=prepared_features({"question_type": "string"})
    )
    rows.to_parquet(tmp_path / "data" / "data" / "train-00000-of-00001.parquet")
    (tmp_path / "rewards.py").write_text(REWARD)
    config = tmp_path / "my config.yaml"
    names = {"dataset": "data", "model_name_or_path": str(tiny_checkpoint), "output_dir": "my runs/1"}
    config.write_text(yaml.safe_dump({**names, **SETTINGS}))
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "my runs" / "1"

    assert train("--config", config) == 143
    errors = capfd.readouterr().err
    line = re.search(r"^stopped by SIGTERM after step 3 of 5; checkpoint-3 is whole, go on with: (.*)$", errors, re.M)
    assert line, errors
    assert "Traceback" not in errors
    assert "error:" not in errors
    assert not (run / "model.safetensors").exists(), "a stopped run leaves no final model"
    command = shlex.split(line[1])
    assert command == ["r1sharevl", "train", "--config", "my runs/1/config.yaml", "--resume"]

    # Somebody's disk loses a file of the newest checkpoint, so the one before it is taken.
    (run / "checkpoint-3" / "rollouts_0.pt").unlink()
    assert train(*command[2:], "--seed", "7", "--max_steps", "4") == 0
    capfd.readouterr()
    errors = caplog.text
    assert "skipped checkpoint-3: rollouts_0.pt is missing" in errors
    assert "settings differ from those in my runs/1/config.yaml" in errors
    assert "max_steps 5 -> 4; seed default -> 7\n" in errors
    assert "resume" not in yaml.safe_load((run / "config.yaml").read_text())
    assert (run / "model.safetensors").exists()

    # Step 3 was done twice: nothing is missing or doubled in what is left.
    history = json.loads((run / "trainer_state.json").read_text())["log_history"]
    assert [entry["step"] for entry in history if "loss" in entry] == [1, 2, 3, 4]
    (log,) = (run / "runs").iterdir()
    assert tensorboard_steps(log) == [1, 2, 3, 4]

    # A run that has done its steps trains none when it is resumed once more, as a requeued job does.
    trained = (run / "model.safetensors").read_bytes()
    assert train("--config", run / "config.yaml", "--resume") == 0
    assert "All 4 steps are done already" in caplog.text
    assert (run / "model.safetensors").read_bytes() == trained
    assert not (run / "checkpoint-5").exists()
    assert tensorboard_steps(log) == [1, 2, 3, 4]
    capfd.readouterr()

    # From the abandoned branch, --resume would take checkpoint-4 next.
    assert train("--config", config, "--resume_from_checkpoint", "my runs/1/checkpoint-2") == 2
    assert "checkpoint-2 (checkpoint-4), which the next --resume would take: move them" in capfd.readouterr().err

    for folder in run.glob("checkpoint-*"):
        (folder / SEAL_NAME).write_text("{}")
    assert train("--config", config, "--resume") == 2
    errors = capfd.readouterr().err
    assert re.search(
        r"^error: my runs/1 has no whole checkpoint to resume from \(checkpoint-4: it was not", errors, re.M
    )
    assert train("--config", config, "--resume_from_checkpoint", "my runs/1/checkpoint-4") == 2
    assert "checkpoint-4 is no checkpoint to resume from: it was not written to its end" in capfd.readouterr().err
