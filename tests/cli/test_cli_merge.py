"""`r1sharevl merge` and `card` as a user runs them, on a run that `r1sharevl train` made."""

import json
import re

import pytest
from huggingface_hub import ModelCard

from r1_sharevl.cli import main
from r1_sharevl.data.schema import prepared_features
from r1_sharevl.data.synthetic import synthetic_rows


def run(*arguments, capfd):
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, arguments)))
    printed = capfd.readouterr()
    assert "Traceback" not in printed.err
    return ended.value.code, printed.out, printed.err


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    from datasets import Dataset

    folder = tmp_path_factory.mktemp("sets") / "figures"
    (folder / "data").mkdir(parents=True)
    features = prepared_features({"question_type": "string"})
    rows = Dataset.from_list(list(synthetic_rows("train", 4, seed=0)), features=features)
    for split in ("train", "validation"):
        rows.to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    (folder / "manifest.json").write_text(json.dumps({"kept": {"train": 4, "validation": 4}}))
    return folder


@pytest.fixture(scope="module")
def trained(data, tiny_checkpoint, tmp_path_factory):
    """A LoRA run of two steps with its checkpoints."""
    folder = tmp_path_factory.mktemp("runs") / "3b"
    settings = {
        "dataset": data,
        "model_name_or_path": tiny_checkpoint,
        "output_dir": folder,
        "use_peft": True,
        "lora_r": 4,
        "num_generations": 4,
        "per_device_train_batch_size": 8,
        "max_completion_length": 4,
        "max_steps": 2,
        "learning_rate": 1e-2,
        "save_strategy": "steps",
        "save_steps": 1,
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "instruction": "Box it.",
    }
    with pytest.raises(SystemExit) as ended:
        main(["train", *(str(word) for name, value in settings.items() for word in (f"--{name}", value))])
    assert ended.value.code == 0
    return folder


def test_train_merge_eval_card(trained, data, tmp_path, capfd):
    card = ModelCard.load(trained / "README.md")
    assert card.data.library_name == "peft", "the card of the run is ours, not TRL's"
    assert "train 4, validation 4" in card.text

    merged = tmp_path / "models/merged"
    code, out, err = run("merge", trained, "--checkpoint", "last", "--out", merged, capfd=capfd)
    assert code == 0, err
    assert re.search(r"Check:  4 of 4 greedy answers are those of adapter \+ base; .* in float32", out)
    assert f'Next:   r1sharevl chat {merged} IMAGE "question"' in out
    assert "%|" not in err, "the libraries' own bars stay out"
    assert (merged / "plots/reward.png").is_file()

    # Both are evaluated to the same answers, and the scores go on the card.
    folders = []
    for number, model in enumerate((trained, merged)):
        folders.append(tmp_path / f"eval-{number}")
        words = ["eval", model, "--data", data, "--temperature", "0", "--max-new-tokens", "6", "--out", folders[-1]]
        code, out, err = run(*words, capfd=capfd)
        assert code == 0, err
    texts = [[json.loads(line)["response"] for line in (folder / "predictions.jsonl").open()] for folder in folders]
    assert texts[0] == texts[1]
    code, out, err = run("card", merged, "--eval", folders[1], capfd=capfd)
    assert (code, out.strip()) == (0, f"Card: {merged / 'README.md'}"), err
    card = ModelCard.load(merged / "README.md")
    assert [result.dataset_name for result in card.data.eval_results] == ["figures"]
    assert "Box it." in card.text
    assert str(tmp_path) not in card.content

    code, out, err = run("merge", trained, "--out", merged, "--no-check", capfd=capfd)
    assert (code, err) == (
        2,
        f"error: {merged}: exists already: choose another --out, or replace it with --overwrite\n",
    )
    code, out, err = run("merge", trained, "--out", merged, "--no-check", "--overwrite", capfd=capfd)
    assert code == 0, err
    assert "Check:" not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("merge", "nowhere", "--out", "out"), "nowhere: no such folder"),
        (("merge", "RUN"), "Missing option '--out'"),
        (("merge", "BASE", "--out", "out"), "is a full model, so there is nothing to merge"),
        (("merge", "RUN", "--out", "out", "--checkpoint", "9"), "has no checkpoint '9': give one of the steps 1, 2"),
        (("merge", "RUN", "--out", "out", "--base", "./gone"), r"--base \./gone: no such folder"),
        (("merge", "RUN", "--out", "out", "--dtype", "int4"), "dtype 'int4': unknown"),
        (("merge", "RUN", "--out", "out", "--device", "tpu9"), "device 'tpu9'"),
        (("merge", "RUN", "--out", "RUN"), "exists and is no merged model, so it is not replaced"),
        (("merge", "RUN", "--out", "out", "--private"), "--push-to-hub is not given"),
        (("merge", "RUN", "--out", "out", "--push-to-hub", "a/b/c"), "'a/b/c' is no model's name"),
        (("merge", "RUN", "--out", "out", "--push-to-hub", "me/x"), "HF_HUB_OFFLINE is set|there is no token"),
        (("card", "nowhere"), "nowhere: no such folder"),
        (("card", "RUN", "--eval", "nowhere"), r"nowhere: has no scores\.json"),
        (("card", "RUN", "--private"), "--push-to-hub is not given"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_mistake_is_one_line(arguments, message, trained, tiny_checkpoint, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    places = {"RUN": trained, "BASE": tiny_checkpoint}
    code, _, err = run(*(places.get(word, word) for word in arguments), capfd=capfd)
    assert code == 2
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, err
    assert re.search(message, lines[0]), lines[0]
    assert not (tmp_path / "out").exists()
