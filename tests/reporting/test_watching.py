"""What a run leaves to be looked at: times by phase, samples with images, metrics and curves while it goes on."""

import io
import json
import math

import pyarrow.parquet as pq
import pytest
import torch
from datasets import load_dataset
from PIL import Image

from r1_sharevl.history import METRICS_NAME, points, read_history
from r1_sharevl.phases import PHASES, PhaseClock
from r1_sharevl.samples import Sample, SampleFolder, thumbnail


def times(entry):
    return {key.removeprefix("time/"): value for key, value in entry.items() if key.startswith("time/")}


def test_the_phases_of_a_step_add_up_to_its_time(watched_run):
    steps = [times(entry) for entry in watched_run.trainer.state.log_history if "time/step" in entry]
    assert len(steps) == 3
    for entry in steps:
        total = entry.pop("step")
        assert entry.keys() <= PHASES.keys()
        assert total * 0.99 <= sum(entry.values()) <= total, "every moment belongs to exactly one phase"
    for step in (steps[0], steps[2]):
        assert {"load_data", "prepare", "generate", "reward", "old_logps", "update"} <= step.keys()
        assert all(seconds > 0 for seconds in step.values())
    resting = {phase for phase, seconds in steps[1].items() if seconds == 0}
    assert resting == {"prepare", "generate", "reward", "old_logps"}, "the second step reuses the first one's responses"


def test_trl_counts_no_more_time_than_we_do(watched_run):
    for entry in watched_run.trainer.state.log_history:
        if "time/step" in entry:
            assert 0 < entry["step_time"] < entry["time/step"], "ours has the data, the clipping and the optimizer, too"


def test_a_phase_inside_another_is_counted_once_and_nothing_outside_of_a_step():
    clock = PhaseClock(torch.device("cpu"))
    with clock.during("generate"):
        assert clock.phase is None
    assert clock.stop() == {}
    clock.start("load_data")
    with clock.during("prepare"):
        with clock.during("generate"):
            assert clock.phase == "generate"
            assert clock.timed("sync_weights", lambda: clock.phase)() == "sync_weights"
        assert clock.phase == "prepare"
    with pytest.raises(RuntimeError), clock.during("reward"):
        raise RuntimeError
    assert clock.phase == "load_data"
    assert set(clock.stop()) == {"load_data", "prepare", "generate", "reward", "sync_weights"}
    clock.start("load_data")
    again = clock.stop()
    assert {phase for phase, seconds in again.items() if seconds} == {"load_data"}
    assert set(again) == {"load_data", "prepare", "generate", "reward", "sync_weights"}


def test_samples_are_responses_of_the_run_with_their_images_rewards_and_advantages(watched_run):
    folder = SampleFolder(watched_run.folder / "samples")
    assert places(folder) == [(0, 0), (2, 4)], "one file for each generation"
    rows = {row["id"]: row for row in small_rows()}
    logged = watched_run.folder / "completions" / "completions_00001.parquet"
    table = {(row["prompt"], row["completion"][0]["content"]): row for row in pq.read_table(logged).to_pylist()}
    assert all("<image>" in prompt for prompt, _ in table), "TRL's table has texts: wandb refuses mixed conversations"
    samples = folder.read(folder.files()[0])
    assert len(samples) == 4
    assert len({sample.question for sample in samples}) == 4
    for sample in samples:
        row = rows[sample.question]
        assert sample.prompt.endswith([row["problem"], *row["variants"]][sample.wording])
        assert (sample.transform is None) == (sample.prompt == [row["problem"], *row["variants"]][sample.wording])
        assert sample.answer == row["answer"]
        (picture,) = sample.images
        with Image.open(io.BytesIO(picture)) as image:
            assert max(image.size) <= 320
            assert image.size in (row["images"][0].size, row["images"][0].size[::-1])
        (trl,) = [
            found
            for (prompt, response), found in table.items()
            if response == sample.response and plain(sample.prompt) in plain(prompt)
        ]
        assert sample.advantage == pytest.approx(trl["advantage"])
        assert sample.rewards["length_reward"] == pytest.approx(trl["length_reward"])
        assert (trl["parity_reward"] is None) == math.isnan(sample.rewards["parity_reward"])
        assert sample.reward == pytest.approx(
            sum(value for value in sample.rewards.values() if value == value), rel=1e-6
        )
        assert 1 <= sample.tokens <= 6
    assert any(sample.cut_off for sample in samples), "an untrained model does not stop by itself"


def plain(prompt):
    return " ".join(prompt.replace("<image>", " ").split())


def small_rows():
    from r1_sharevl.data.synthetic import synthetic_rows

    return list(synthetic_rows("train", 16, 0))


def test_datasets_opens_the_samples_as_images(watched_run, tmp_path):
    found = load_dataset(str(watched_run.folder / "samples"), split="train", cache_dir=str(tmp_path))
    assert len(found) == 8
    assert isinstance(found[0]["images"][0], Image.Image)


def sample(step, response="yes", **changes):
    whole = {
        "step": step,
        "question": "q",
        "prompt": "How many?",
        "wording": 0,
        "transform": None,
        "images": (thumbnail(Image.new("RGB", (40, 30), "red")),),
        "response": response,
        "answer": "3",
        "rewards": {"accuracy_reward": 1.0, "format_reward": float("nan")},
        "reward": 0.9,
        "advantage": -0.5,
        "tokens": 3,
        "cut_off": False,
    }
    return Sample(**(whole | changes))


def places(folder):
    return [tuple(map(int, path.stem.split("_")[1:])) for path in folder.files()]


def test_a_resumed_run_holds_every_batch_once(tmp_path):
    killed = SampleFolder(tmp_path)
    for micro_step in range(10):
        killed.write([sample(micro_step // 2, "first time")], micro_step=micro_step)
    (tmp_path / "step_00000005_0000000010.tmp").write_bytes(b"half a file")
    resumed = SampleFolder(tmp_path)  # from the checkpoint of step 2, and with other batches in a step than before
    resumed.write([sample(3, "again"), sample(3, "again")], micro_step=9)
    before = [(0, 0), (0, 1), (1, 2), (1, 3), (2, 4), (2, 5)]
    assert places(resumed) == [*before, (3, 9)], "what came after the checkpoint is gone"
    resumed.write([sample(3, "again")], micro_step=10)
    resumed.write([sample(5, "again")], micro_step=15)
    assert places(resumed) == [*before, (3, 9), (3, 10), (5, 15)]
    found = [resumed.read(path) for path in resumed.files()]
    assert [len(samples) for samples in found] == [1] * 6 + [2, 1, 1]
    assert [samples[0].response for samples in found] == ["first time"] * 6 + ["again"] * 3


def test_every_generation_of_a_step_has_its_file_in_a_resumed_run_too(make_trainer, tmp_path):
    folder = SampleFolder(tmp_path / "samples")
    kept = []
    for checkpoint in (None, str(tmp_path / "checkpoint-1")):
        trainer = make_trainer(tmp_path, steps_per_generation=1, max_steps=2, save_steps=1)
        trainer.train(resume_from_checkpoint=checkpoint)
        assert places(folder) == [(0, 0), (0, 1), (1, 2), (1, 3)]
        kept.append([folder.read(path) for path in folder.files()])
    assert len({samples[0].question for samples in kept[0]}) == 4, "each batch has a question of its own"
    assert kept[0] == kept[1], "the second step was generated again"


def test_a_long_run_keeps_a_bounded_number_of_batches(tmp_path, monkeypatch):
    monkeypatch.setattr("r1_sharevl.samples.MAX_BATCHES", 10)
    folder = SampleFolder(tmp_path)
    for micro_step in range(100):
        folder.write([sample(micro_step // 3)], micro_step=micro_step)
        assert len(folder.files()) <= 10
    assert places(folder)[0] == (0, 0)
    assert places(folder)[-1] == (33, 99)


def test_what_is_read_is_what_was_written_and_damage_is_said(tmp_path):
    folder = SampleFolder(tmp_path)
    folder.write([sample(7, "ünïcode\n", transform="rotate_180")], micro_step=14)
    ((found,),) = [folder.read(path) for path in folder.files()]
    assert found.rewards["format_reward"] != found.rewards["format_reward"]
    assert (found.response, found.transform, found.images) == ("ünïcode\n", "rotate_180", sample(0).images)
    damaged = tmp_path / "step_00000008_0000000016.parquet"
    damaged.write_bytes(b"PAR1 no parquet")
    with pytest.raises(ValueError, match="holds no samples"):
        folder.read(damaged)
    for name in ("step_8.parquet", "step_00000008.parquet", "step_00000008_x.parquet"):
        (tmp_path / name).write_bytes(b"somebody's own")
    assert folder.files() == [tmp_path / "step_00000007_0000000014.parquet", damaged]


def test_metrics_and_curves_are_there_while_the_run_goes_on(watched_run):
    assert watched_run.plots[0] == set()
    assert {"reward.png", "time.png", "logp_gap.png", "wordings.png", "transforms.png"} <= watched_run.plots[2]
    lines = (watched_run.folder / METRICS_NAME).read_text().splitlines()
    written = [json.loads(line) for line in lines]
    assert [entry.pop("max_steps") for entry in written] == [3] * len(written)
    assert written == watched_run.trainer.state.log_history
    assert read_history(watched_run.folder).max_steps == 3


def test_a_resumed_run_does_not_repeat_its_metrics(tmp_path):
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from r1_sharevl.callbacks import MetricsLog

    args = TrainingArguments(str(tmp_path))
    (tmp_path / METRICS_NAME).write_text('{"step": 1, "loss": 1.0}\n{"step": 2, "loss": 0.5}\n{"step": 3, "lo')
    state = TrainerState(log_history=[{"step": 1, "loss": 1.0}], is_world_process_zero=True)
    log = MetricsLog()
    log.on_train_begin(args, state, TrainerControl())
    state.log_history.append({"step": 2, "loss": 0.7})
    log.on_log(args, state, TrainerControl())
    assert points(read_history(tmp_path).entries, "loss") == [(1, 1.0), (2, 0.7)]
