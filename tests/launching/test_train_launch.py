"""`r1sharevl train --num-processes 2` for real: two processes train, and stop in order when the launcher is told to."""

import os
import signal
import subprocess
import sys

import pytest
import yaml
from datasets import Dataset

from r1_sharevl.data.schema import prepared_features
from r1_sharevl.data.synthetic import synthetic_rows


@pytest.mark.slow
def test_two_processes_train_until_the_launcher_gets_sigterm(tmp_path, tiny_checkpoint):
    rows = Dataset.from_list(list(synthetic_rows("train", 12, seed=0)), prepared_features({"question_type": "string"}))
    (tmp_path / "figures" / "data").mkdir(parents=True)
    rows.to_parquet(tmp_path / "figures" / "data" / "train-00000-of-00001.parquet")
    settings = {
        "dataset": "figures",
        "model_name_or_path": str(tiny_checkpoint),
        "output_dir": "run",
        "num_generations": 4,
        "per_device_train_batch_size": 4,  # with one process this would be half a question
        "max_completion_length": 4,
        "max_steps": 500,
        "logging_steps": 1,
        "use_cpu": True,
        "bf16": False,
        "disable_tqdm": True,
        "report_to": "none",
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "r1_sharevl.cli", "train", "--config", "run.yaml", "--num-processes", "2"]
    # torchelastic's own way with a signal would be to kill the processes after this many seconds (by default 30).
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "0"}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        seen = []
        for line in process.stderr:
            seen.append(line)
            if line.startswith("step 1/500"):
                break
        else:
            pytest.fail("".join(seen)[-3000:])
        os.kill(process.pid, signal.SIGTERM)
        _, rest = process.communicate(timeout=240)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 143, rest
    assert rest.count("stopped by SIGTERM after step") == 1, rest
    assert "--resume" in rest
    assert "Traceback" not in rest
    assert "error:" not in rest
    (checkpoint,) = (tmp_path / "run").glob("checkpoint-*")
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= set(os.listdir(checkpoint)), "both processes trained"
