"""A real tiny run that was watched: its trainer, and the folder it left."""

from types import SimpleNamespace

import pytest


@pytest.fixture(scope="session")
def make_trainer(processor):
    from r1_sharevl import ShareGRPOConfig, ShareGRPOTrainer
    from r1_sharevl.models.tiny import build_tiny_model

    def make(folder, *, rewards=(length_reward,), sample_responses=1, **settings):
        args = ShareGRPOConfig(
            str(folder),
            num_generations=4,
            num_variants=2,
            per_device_train_batch_size=8,
            gradient_accumulation_steps=2,
            max_completion_length=6,
            save_strategy="steps",
            report_to="none",
            bf16=False,
            use_cpu=True,
            disable_tqdm=True,
            **settings,
        )
        return ShareGRPOTrainer(
            build_tiny_model(processor),
            list(rewards),
            args,
            small_set(),
            processing_class=processor,
            sample_responses=sample_responses,
        )

    return make


@pytest.fixture(scope="session")
def watched_run(make_trainer, tmp_path_factory):
    from r1_sharevl.callbacks import CurveDrawer, MetricsLog
    from r1_sharevl.run_folder import CONFIG_FILE

    folder = tmp_path_factory.mktemp("watched") / "run"
    trainer = make_trainer(
        folder,
        rewards=(length_reward, parity_reward),
        sample_responses=4,
        steps_per_generation=4,  # every other step generates
        transform_probability=0.5,
        max_steps=3,
        logging_steps=1,
        save_steps=2,
        log_completions=True,
    )
    plots = []
    trainer.add_callback(MetricsLog())
    trainer.add_callback(CurveDrawer(seconds=0))
    trainer.add_callback(_remember_plots(folder, plots))
    trainer.train()
    (folder / CONFIG_FILE).write_text("model_name_or_path: tiny\ndataset: figures\nlearning_rate: 1.0e-06\n")
    return SimpleNamespace(folder=folder, trainer=trainer, plots=plots)


def small_set():
    from datasets import Dataset, Features, Image, List, Value

    from r1_sharevl.data.synthetic import synthetic_rows

    rows = list(synthetic_rows("train", 16, 0))
    kinds = {key: Value("string") for key in rows[0]} | {"images": List(Image()), "variants": List(Value("string"))}
    return Dataset.from_list(rows, features=Features(kinds))


def length_reward(completion_ids, **kwargs):
    return [len(set(ids)) / 8 for ids in completion_ids]


def parity_reward(completion_ids, **kwargs):
    return [None if ids[0] % 3 == 0 else float(ids[0] % 2) for ids in completion_ids]


def _remember_plots(folder, plots):
    from transformers import TrainerCallback

    class Remember(TrainerCallback):
        def on_step_begin(self, *args, **kwargs):
            plots.append({path.name for path in (folder / "plots").glob("*.png")})

    return Remember()
