"""Whether a checkpoint is whole, on folders that a real trainer wrote and something else damaged."""

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import save_file
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from r1_sharevl import UserError
from r1_sharevl.checkpoint_seal import SEAL_NAME, num_processes_of, open_checkpoint, seal_checkpoint, why_not_whole
from r1_sharevl.resuming import check_named_checkpoint, check_settings, newest_whole_checkpoint


def write_checkpoint(folder, *, seal=True):
    """The files of a checkpoint of two processes, in the formats they have, with few bytes in them."""
    if seal:
        open_checkpoint(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"weight": torch.ones(64)}, folder / "model.safetensors", metadata={"format": "pt"})
    for name in ("optimizer.pt", "scheduler.pt", "rng_state_0.pth", "rng_state_1.pth", "rollouts_1.pt"):
        torch.save({"state": torch.ones(64)}, folder / name)
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": int(folder.name[11:])}))
    if seal:
        seal_checkpoint(folder, num_processes=2)
    return folder


def truncate(path):
    os.truncate(path, path.stat().st_size - 1)


DAMAGES = {
    "weights truncated": (lambda f: truncate(f / "model.safetensors"), "model.safetensors"),
    "weights gone": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing|no weights"),
    "optimizer truncated": (lambda f: truncate(f / "optimizer.pt"), "optimizer.pt"),
    "optimizer gone": (lambda f: (f / "optimizer.pt").unlink(), "optimizer"),
    "state cut": (lambda f: truncate(f / "trainer_state.json"), "trainer_state.json"),
    "state empty": (lambda f: (f / "trainer_state.json").write_text("[]"), "trainer_state.json"),
}


@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "by another trainer"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found(damage, sealed, tmp_path):
    folder = write_checkpoint(tmp_path / "checkpoint-3", seal=sealed)
    assert why_not_whole(folder) is None
    spoil, reason = DAMAGES[damage]
    spoil(folder)
    found = why_not_whole(folder)
    assert found is not None
    assert any(word in found for word in reason.split("|")), found


def test_a_checkpoint_without_its_last_moment_is_not_whole(tmp_path):
    folder = write_checkpoint(tmp_path / "checkpoint-3")
    assert num_processes_of(folder) == 2
    open_checkpoint(folder)  # another attempt begins, and is killed
    assert why_not_whole(folder) == "it was not written to its end"
    for text in ("", "{", "[]", '{"complete": true}', '{"complete": true, "files": 3}'):
        (folder / SEAL_NAME).write_text(text)
        assert why_not_whole(folder) == "it was not written to its end"
    (folder / SEAL_NAME).unlink()
    (folder / "checkpoint-is-incomplete.txt").touch()  # transformers' own mark
    assert why_not_whole(folder) == "it was not written to its end"
    assert why_not_whole(tmp_path / "nowhere") == "no such folder"


def test_a_checkpoint_that_is_written_again_holds_nothing_of_the_first_attempt(tmp_path):
    folder = write_checkpoint(tmp_path / "checkpoint-3")
    torch.save({}, folder / "rollouts_7.pt")
    write_checkpoint(folder)
    assert not (folder / "rollouts_7.pt").exists()
    assert why_not_whole(folder) is None


def test_a_named_checkpoint_must_be_the_newest_of_the_run_that_goes_on(tmp_path):
    run = tmp_path / "run"
    for step in (3, 20, 100):  # by number, not by name
        write_checkpoint(run / f"checkpoint-{step}")
    with pytest.raises(
        UserError, match=r"later checkpoints than step 3 of .* \(checkpoint-20, checkpoint-100\)"
    ) as named:
        check_named_checkpoint(run / "checkpoint-3", run)
    assert "\n" not in str(named.value)
    check_named_checkpoint(run / "checkpoint-3", tmp_path / "another run")
    shutil.move(run / "checkpoint-20", tmp_path / "moved away")
    open_checkpoint(run / "checkpoint-100")  # --resume skips it
    check_named_checkpoint(run / "checkpoint-3", run)
    with pytest.raises(UserError, match="checkpoint-100 is no checkpoint to resume from: it was not written"):
        check_named_checkpoint(run / "checkpoint-100", run)


def test_one_processs_file_is_missed_in_a_sealed_checkpoint(tmp_path):
    folder = write_checkpoint(tmp_path / "checkpoint-3")
    (folder / "rollouts_1.pt").unlink()
    assert why_not_whole(folder) == "rollouts_1.pt is missing"


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 64), "model.safetensors is truncated"),
        (lambda f: (f / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"[]"), "model.safetensors is"),
        (lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": {"a": "b.safetensors"}}'), "b.safe"),
        (lambda f: (f / "model.safetensors.index.json").write_text("{"), "model.safetensors.index.json is damaged"),
        (lambda f: [path.unlink() for path in f.glob("rng*")], "random generators"),
    ],
    ids=["a length beyond the file", "a header of another kind", "a shard is missing", "a cut index", "no generators"],
)
def test_files_of_another_trainer_are_read_with_suspicion(write, reason, tmp_path):
    folder = write_checkpoint(tmp_path / "checkpoint-3", seal=False)
    write(folder)
    assert reason in why_not_whole(folder)


def test_sharded_folders_are_checkpoints_too(tmp_path):
    for number, weights, optimizer in (
        (1, "pytorch_model_fsdp_0/__0_0.distcp", "optimizer_0/__0_0.distcp"),
        (2, "global_step2/mp_rank_00_model_states.pt", "latest"),
    ):
        folder = tmp_path / f"{PREFIX_CHECKPOINT_DIR}-{number}"
        open_checkpoint(folder)
        for name in (weights, optimizer):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(b"shard")
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": number}))
        seal_checkpoint(folder, num_processes=8)
        assert why_not_whole(folder) is None
        (folder / weights).write_bytes(b"sha")
        assert why_not_whole(folder) == f"{weights} has 3 bytes instead of 5"


def test_the_newest_whole_checkpoint_is_taken_and_the_others_are_named(tmp_path, caplog):
    for step in (9, 10, 11):
        write_checkpoint(tmp_path / f"checkpoint-{step}")
    (tmp_path / "checkpoint-best").mkdir()
    open_checkpoint(tmp_path / "checkpoint-11")
    caplog.set_level("INFO", "r1_sharevl")
    assert newest_whole_checkpoint(tmp_path).name == "checkpoint-10"
    assert "skipped checkpoint-11: it was not written to its end" in caplog.text
    assert "checkpoint-9" not in caplog.text

    shutil.rmtree(tmp_path / "checkpoint-9")
    (tmp_path / "checkpoint-10" / "optimizer.pt").unlink()
    with pytest.raises(UserError, match=r"no whole checkpoint .*\(checkpoint-11: .*; checkpoint-10: optimizer.pt is"):
        newest_whole_checkpoint(tmp_path)
    with pytest.raises(UserError, match="no checkpoint to resume from: leave --resume out"):
        newest_whole_checkpoint(tmp_path / "nowhere")


def test_changed_settings_are_named_and_impossible_ones_refused(tmp_path):
    checkpoint = write_checkpoint(tmp_path / "checkpoint-3")
    config = tmp_path / "config.yaml"
    config.write_text("seed: 3\nlearning_rate: 1.0e-06\nuse_peft: true\nmax_steps: 100\nsave_steps: 5\n")
    same = {"seed": 3, "learning_rate": 1e-6, "use_peft": True}
    longer = {**same, "max_steps": 200, "logging_steps": 2, "vllm_gpu_memory_utilization": 0.5}
    assert check_settings(config, longer, checkpoint, 2).endswith("was stopped: max_steps 100 -> 200")
    constant = {"lr_scheduler_type": "constant"}
    config.write_text(f"{config.read_text()}lr_scheduler_type: constant\n")
    assert check_settings(config, {**longer, **constant}, checkpoint, 2) is None
    objective = {**longer, **constant, "vllm_importance_sampling_correction": False}
    assert "vllm_importance_sampling_correction default -> False" in check_settings(config, objective, checkpoint, 2)
    same = {**same, **constant}
    line = check_settings(config, {**same, "seed": 4, "num_variants": 4}, checkpoint, 4)
    assert line.endswith("num_variants default -> 4; seed 3 -> 4; processes 2 -> 4")
    line = check_settings(config, {**same, "shared_prefix": "off"}, checkpoint, 2)
    assert line.endswith("shared_prefix default -> 'off'"), "its steps hold other pairs"
    with pytest.raises(UserError, match=r"\(use_peft True -> default\): set them back"):
        check_settings(config, {"seed": 3, "learning_rate": 1e-6, **constant}, checkpoint, 2)
    for text in ("{", "- a list", "\x00"):
        config.write_text(text)
        assert check_settings(config, same, checkpoint, 2) is None
    config.unlink()
    assert check_settings(config, same, checkpoint, 2) is None
