"""Pushing a model, against a server on loopback: what arrives, what stays here, and one line for every failure."""

import json
import threading
from types import SimpleNamespace

import pytest
import yaml
from datasets import Dataset
from huggingface_hub import ModelCard

from r1_sharevl.cli import main
from r1_sharevl.data.schema import prepared_features
from r1_sharevl.data.synthetic import synthetic_rows
from r1_sharevl.publishing.hub import files_to_push
from stand_in_hub import TOKEN, StandInHub


@pytest.fixture
def hub():
    with StandInHub("model") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def run(tmp_path):
    """A run folder with everything that a training leaves, much of it not for others."""
    run = tmp_path / "home/my run"
    ours = {
        "model.safetensors": b"weights",
        "config.json": b"{}",
        "generation_config.json": b"{}",
        "processor_config.json": b"{}",
        "tokenizer.json": b"{}",
        "tokenizer_config.json": b"{}",
        "chat_template.jinja": b"{}",
        "provenance.json": b"{}",
        "plots/reward.png": b"\x89PNG",
    }
    private = {
        "training_args.bin": b"pickle",
        "optimizer.pt": b"",
        "trainer_state.json": b"{}",
        "checkpoint-5/model.safetensors": b"old",
        "runs/Jan01_host/events.out.tfevents.1": b"",
        "completions/completions_00001.parquet": b"",
        "rollouts_0.pt": b"",
        ".env": b"SECRET=1",
        "notes.md": b"mine",
    }
    for name, content in (ours | private).items():
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(content)
    (tmp_path / "secret").write_text("secret")
    (run / "tokenizer.link.json").symlink_to(tmp_path / "secret")
    settings = {"dataset": str(tmp_path / "data"), "hub_token": TOKEN, "learning_rate": 1e-6}
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    return run, set(ours) | {"config.yaml", "README.md"}


@pytest.fixture
def call(hub, monkeypatch, capfd):
    """Run a command here; what the Hub's client has read from the environment is set as it would have been."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    # Its own storage protocol; the Hub takes the plain one as well.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)

    def run_command(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(list(map(str, arguments)))
        printed = capfd.readouterr()
        assert TOKEN not in printed.out + printed.err
        assert "Traceback" not in printed.err
        return SimpleNamespace(returncode=ended.value.code, stdout=printed.out, stderr=printed.err)

    return run_command


def test_a_run_arrives_in_one_commit_without_what_is_private(call, hub, run, tmp_path):
    folder, expected = run
    hub.add(
        "ada/3b", [".gitattributes", "model-00001-of-00002.safetensors", "provenance.json", "plots/old.png", "LICENSE"]
    )
    done = call("card", folder, "--push-to-hub", "3b")
    assert done.returncode == 0, done.stderr
    assert f"Hub:  {hub.url}/ada/3b" in done.stdout
    files = hub.repos["ada/3b"]["files"]
    assert set(files) == expected | {".gitattributes", "LICENSE"}, "weights of an earlier push are gone"
    assert files["model.safetensors"] == b"weights"
    assert yaml.safe_load(files["config.yaml"]) == {"dataset": "data", "learning_rate": 1e-6}
    assert not any(str(tmp_path).encode() in content or TOKEN.encode() in content for content in files.values())
    assert b"from_pretrained('ada/3b'" in files["README.md"]
    assert hub.commits == ["ada/3b"]


def test_a_failure_says_how_to_go_on(call, hub, run):
    folder, _ = run
    hub.faults["POST", "/commit/"] = 500
    done = call("card", folder, "--push-to-hub", "ada/3b", "--private")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ada/3b could not be pushed: the Hub answered HTTP 500")
    assert f"the model is safe at {folder}; once that is mended, push it again with `r1sharevl card '{folder}'" in last
    assert last.endswith("--push-to-hub ada/3b --private`")
    assert hub.repos["ada/3b"]["private"]


def test_somebody_elses_model_is_not_replaced(call, hub, run):
    folder, _ = run
    hub.add("ada/thesis", ["model.safetensors", "config.json"])
    done = call("card", folder, "--push-to-hub", "ada/thesis")
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (2, 1)
    assert "ada/thesis: exists and is no model of r1sharevl, so it is not replaced" in done.stderr
    assert not (folder / "README.md").exists(), "found out before anything is written"


def test_an_adapter_is_sent_without_the_path_of_its_base(tmp_path):
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "/home/ada/qwen", "r": 8}))
    files = files_to_push(tmp_path)
    assert json.loads(files["adapter_config.json"]) == {"base_model_name_or_path": "qwen", "r": 8}
    assert files["adapter_model.safetensors"] == tmp_path / "adapter_model.safetensors"
    # By it the next push knows the repository as ours.
    assert files["provenance.json"] == b"{}\n"


@pytest.fixture
def training(tiny_checkpoint, tmp_path):
    """Words of a command that trains an adapter for one step, with a checkpoint."""
    (tmp_path / "figures/data").mkdir(parents=True)
    rows = Dataset.from_list(
        list(synthetic_rows("train", 4, seed=0)), features=prepared_features({"question_type": "string"})
    )
    rows.to_parquet(tmp_path / "figures/data/train-00000-of-00001.parquet")
    (tmp_path / "figures/manifest.json").write_text('{"kept": {"train": 4}}')
    settings = {
        "dataset": tmp_path / "figures",
        "model_name_or_path": tiny_checkpoint,
        "output_dir": tmp_path / "runs/3b",
        "use_peft": True,
        "num_generations": 4,
        "per_device_train_batch_size": 8,
        "max_completion_length": 4,
        "max_steps": 1,
        "save_strategy": "steps",
        "save_steps": 1,
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "push_to_hub": True,
    }
    return ["train", *(word for name, value in settings.items() for word in (f"--{name}", value))]


def test_training_pushes_once_at_its_end_with_our_card(call, hub, training, tmp_path):
    done = call(*training)
    assert done.returncode == 0, done.stderr
    assert f"Hub:    {hub.url}/ada/3b" in done.stdout
    assert hub.commits == ["ada/3b"]
    files = hub.repos["ada/3b"]["files"]
    assert {"adapter_model.safetensors", "adapter_config.json", "config.yaml", "provenance.json"} <= set(files)
    assert not any(name.startswith("checkpoint-") or name.endswith((".bin", ".pt")) for name in files)
    card = ModelCard(files["README.md"].decode())
    assert card.data.library_name == "peft"
    assert "SHA-256 of its manifest.json" in card.text
    assert "PeftModel.from_pretrained(base, 'ada/3b')" in card.text
    assert not any(str(tmp_path).encode() in content for content in files.values())
    # The same settings, given again, push again.
    assert yaml.safe_load((tmp_path / "runs/3b/config.yaml").read_text())["push_to_hub"] is True


def test_training_that_may_not_push_does_not_begin(call, hub, training, tmp_path):
    hub.add("ada/3b", ["model.safetensors"])
    done = call(*training)
    assert done.returncode == 2
    assert "error: --push-to-hub ada/3b: exists and is no model of r1sharevl" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_training_whose_push_fails_is_whole(call, hub, training, tmp_path):
    hub.faults["POST", "/commit/"] = 403
    done = call(*training)
    assert done.returncode == 2
    assert "ada/3b could not be pushed: the token may not write there" in done.stderr
    assert "push it again with `r1sharevl card " in done.stderr
    assert {"adapter_model.safetensors", "trainer_state.json", "README.md"} <= {
        path.name for path in (tmp_path / "runs/3b").iterdir()
    }
