"""Trackers: TensorBoard unless told otherwise; what is missing is one line, and nobody is asked for an account."""

import importlib.util

import pytest

from r1_sharevl.arguments import parse_run, settings_of
from r1_sharevl.errors import UserError
from r1_sharevl.trackers import prepare_trackers

FLAGS = ["--dataset", "d", "--model_name_or_path", "m", "--use_cpu", "true", "--bf16", "false", "--num_variants", "1"]


def report_to(*flags):
    _, args, _ = parse_run([*FLAGS, "--per_device_train_batch_size", "8", *flags])
    return args.report_to, settings_of(args)["report_to"]


def test_tensorboard_is_the_default_and_can_be_left_out():
    assert report_to() == (["tensorboard"], ["tensorboard"])
    assert report_to("--report_to", "none") == ([], "none")
    assert report_to("--report_to", "trackio") == (["trackio"], ["trackio"])


def test_a_tracker_that_is_missing_or_unknown_is_one_line(tmp_path):
    prepare_trackers([], tmp_path)
    prepare_trackers(["tensorboard"], tmp_path)
    with pytest.raises(UserError, match="report_to has no 'wandbb'"):
        prepare_trackers(["tensorboard", "wandbb"], tmp_path)
    missing = [name for name in ("wandb", "trackio", "mlflow") if importlib.util.find_spec(name) is None]
    for name in missing:
        with pytest.raises(UserError, match=f"pip install {name}"):
            prepare_trackers([name], tmp_path)


def test_wandb_without_a_login_runs_offline(tmp_path, monkeypatch, caplog):
    wandb = pytest.importorskip("wandb")
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    caplog.set_level("INFO", logger="r1_sharevl")
    prepare_trackers(["wandb"], tmp_path)
    assert "wandb sync" in caplog.text
    with wandb.init(project="p") as run:
        assert run.settings.mode == "offline"
