"""`r1sharevl train` and `warmup` as a user runs them: real processes, their files, and one line for every mistake."""

import json
import os
import re
import subprocess
import sys

import pytest
import yaml
from datasets import load_dataset

from r1_sharevl import __version__
from r1_sharevl.cli import main
from r1_sharevl.data.schema import prepared_features
from r1_sharevl.data.synthetic import synthetic_rows

TINY = {
    "num_generations": 4,
    "per_device_train_batch_size": 8,
    "max_completion_length": 6,
    "max_steps": 3,
    "logging_steps": 1,
    "save_strategy": "no",
    "use_cpu": True,
    "bf16": False,
    "report_to": "tensorboard",
}


def run(*arguments, folder, module=("-m", "r1_sharevl.cli")):
    command = [sys.executable, *module, *map(str, arguments)]
    environment = os.environ | {"COLUMNS": "120", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=300)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets") / "figures"
    write_set(folder, list(synthetic_rows("train", 12, seed=0)))
    return folder


def write_set(folder, rows):
    from datasets import Dataset

    (folder / "data").mkdir(parents=True)
    features = prepared_features({"question_type": "string"})
    for split in ("train", "validation"):
        Dataset.from_list(rows, features=features).to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")


@pytest.fixture
def config(tmp_path, data, tiny_checkpoint):
    def write(**settings):
        path = tmp_path / "run.yaml"
        base = {"dataset": str(data), "model_name_or_path": str(tiny_checkpoint), "output_dir": str(tmp_path / "run")}
        path.write_text(yaml.safe_dump({**base, **TINY, **settings}))
        return path

    return write


@pytest.mark.slow
def test_a_run_leaves_its_folder_and_its_config_repeats_it(tmp_path, config):
    done = run("train", "--config", config(save_strategy="steps", save_steps=2), "--seed", "3", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Trained 3 steps" in done.stdout
    assert "step 3/3" in done.stdout
    assert "{'loss'" not in done.stdout + done.stderr, "the forty raw metrics are for TensorBoard"
    assert "Traceback" not in done.stderr
    out = tmp_path / "run"
    assert {"config.yaml", "trainer_state.json", "model.safetensors", "checkpoint-2"} <= set(os.listdir(out))
    assert {path.name for path in (out / "plots").glob("*.png")} >= {"reward.png", "completion_length.png"}
    assert list(out.rglob("events.out.tfevents*"))
    history = json.loads((out / "trainer_state.json").read_text())["log_history"]
    assert "rewards/accuracy_reward/mean" in history[0]

    # Starting into a folder that holds a run is refused; --resume goes on; the written config describes the same run.
    again = run("train", "--config", tmp_path / "run.yaml", folder=tmp_path)
    assert again.returncode == 2
    assert "already holds checkpoint-3: give --resume" in again.stderr
    resumed = run("train", "--config", out / "config.yaml", "--resume", "--max_steps", "4", folder=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads((out / "trainer_state.json").read_text())["global_step"] == 4
    assert yaml.safe_load((out / "config.yaml").read_text())["seed"] == 3


@pytest.mark.slow
def test_accelerate_launch_runs_the_same_command_and_lora_keeps_the_vision_tower(tmp_path, config):
    path = config(use_peft=True, lora_r=4, reward_funcs=["my.py:length"], reward_weights=None)
    (tmp_path / "my.py").write_text(
        "def length(completions, **kwargs):\n    return [len(c[0]['content']) for c in completions]\n"
    )
    launcher = ("-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1", "-m", "r1_sharevl.cli")
    done = run("train", "--config", path, folder=tmp_path, module=launcher)
    assert done.returncode == 0, done.stderr
    from safetensors import safe_open

    with safe_open(tmp_path / "run" / "adapter_model.safetensors", "pt") as weights:
        names = list(weights.keys())
    assert any("q_proj" in name for name in names)
    assert not any("visual" in name for name in names)


@pytest.mark.slow
def test_warmup_then_train_on_the_built_in_set(tmp_path, monkeypatch):
    monkeypatch.setenv("R1_SHAREVL_CACHE", str(tmp_path / "cache"))
    assert (
        run("prep", "synthetic", "--out", "data", "--train-rows=40", "--validation-rows=8", folder=tmp_path).returncode
        == 0
    )
    done = run("warmup", "--data", "data", "--out", "warm", "--steps", "2", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    flags = [word for key, value in TINY.items() for word in (f"--{key}", str(value))]
    done = run(
        "train", "--dataset", "data", "--model_name_or_path", "warm", "--output_dir", "run", *flags, folder=tmp_path
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_version_help_and_a_mistake_in_a_real_process(tmp_path):
    assert run("--version", folder=tmp_path).stdout.strip() == f"r1sharevl {__version__}"
    assert "Examples" in run("train", "--help", folder=tmp_path).stdout
    listed = run("train", "--list-options", folder=tmp_path).stdout
    assert all(f"--{name}" in listed for name in ("num_variants", "learning_rate", "lora_r", "dataset", "beta"))
    done = run("train", "--config", "nowhere.yaml", folder=tmp_path)
    assert (done.returncode, done.stderr) == (2, "error: config file nowhere.yaml does not exist\n")
    done = run(folder=tmp_path)
    assert done.returncode == 2
    assert "Commands" in done.stdout
    assert "error" not in done.stderr


def test_help_imports_no_heavy_library(tmp_path):
    code = (
        "import sys\nfrom r1_sharevl.cli import main\n"
        "try:\n    main(['train', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'transformers', 'trl', 'datasets', 'peft', 'numpy', 'PIL'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = run(folder=tmp_path, module=("-c", code))
    assert done.returncode == 0, done.stderr


def corrupt_image(rows):
    for row in rows:
        row["images"] = [{"bytes": b"no picture", "path": None}]


def too_many_marks(rows):
    for row in rows:
        row["problem"] = "<image> or <image>: " + row["problem"].replace("<image>", "")
        row["variants"] = []


def one_wording(rows):
    for row in rows:
        row["variants"] = []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": "nowhere"}, "nowhere"),
        ({"model_name_or_path": "./nowhere"}, "nowhere: no such folder"),
        ({"num_varients": 2}, "unknown setting 'num_varients': did you mean num_variants"),
        ({"num_variants": "two"}, "invalid int value: 'two'"),
        ({"per_device_train_batch_size": 5}, "set generation_batch_size to 40"),
        ({"num_generations": 5}, "set num_generations to 4 or 6"),
        ({"train_split": "test"}, "test"),
        ({"reward_funcs": ["acuracy_reward"]}, "accuracy_reward"),
        ({"reward_funcs": ["nowhere.py:reward"]}, "nowhere.py"),
        ({"reward_funcs": ["short.py:reward"]}, "short.py.*reward.* returned|reward.*3"),
        ({"image_transforms": ["rotate_90"]}, "rotate_90"),
        ({"min_pixels": 0.5}, "min_pixels is 0.5: give a whole number"),
        ({"resume": True}, "no checkpoint to resume from"),
        ({"output_dir": "short.py"}, "output_dir short.py: short.py is not a folder that can be written"),
        ({"attn_implementation": "no_such_attention"}, "no_such_attention"),
        ({"lr_scheduler_type": "bumpy"}, "bumpy"),
        ({"optim": "sdg"}, "sdg"),
        ({"use_vllm": True}, "use_vllm is set but vLLM is not installed: install it as docs/vllm.md says"),
        ({"use_vllm": True, "vllm_mode": "server"}, "vLLM is not installed"),
        ({"max_vllm_logprob_gap": 0.0}, "max_vllm_logprob_gap is 0.0: give a number above 0"),
        ({"vllm_engine_kwargs": "eager"}, "vllm_engine_kwargs is 'eager': give a mapping"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_mistake_is_one_line(settings, message, config, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short.py").write_text("def reward(completions, **kwargs):\n    return [1.0] * 3\n")
    path = config(**settings)
    if "reward_funcs" in settings:
        path = config(**settings, reward_weights=None)
    assert_one_line(["train", "--config", str(path)], message, capfd)


def assert_one_line(arguments, message, capfd):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    errors = capfd.readouterr().err
    assert ended.value.code == 2, errors
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, errors
    assert re.search(message, lines[0]), lines[0]
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("spoil", "message"),
    [(corrupt_image, "image"), (too_many_marks, "<image>"), (one_wording, "no row .* can be drawn 2 distinct prompts")],
    ids=["corrupt image", "marks", "too few wordings"],
)
def test_a_set_that_cannot_be_trained_is_one_line(spoil, message, config, tmp_path, capfd):
    rows = list(synthetic_rows("train", 12, seed=0))
    spoil(rows)
    write_set(tmp_path / "spoilt", rows)
    path = config(dataset=str(tmp_path / "spoilt"), transform_probability=0.0)
    assert_one_line(["train", "--config", str(path)], message, capfd)


def test_a_set_without_a_column_and_an_empty_set_are_one_line(config, tmp_path, data, capfd):
    files = {"train": str(data / "data" / "train-00000-of-00001.parquet")}
    rows = load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    for name, spoilt, message in (
        ("no answer", rows.remove_columns("answer"), "answer"),
        ("empty", rows.select([]), "empty|no rows"),
    ):
        folder = tmp_path / name / "data"
        folder.mkdir(parents=True)
        spoilt.to_parquet(folder / "train-00000-of-00001.parquet")
        assert_one_line(["train", "--config", str(config(dataset=str(folder.parent)))], message, capfd)


def test_unknown_flag_and_stray_word_are_one_line(config, capfd):
    assert_one_line(["train", "--config", str(config()), "--num_varients", "2"], "did you mean --num_variants", capfd)
    assert_one_line(["train", "--config", str(config()), "stray"], "unexpected argument 'stray'", capfd)
    assert_one_line(["train"], "required: --dataset", capfd)
