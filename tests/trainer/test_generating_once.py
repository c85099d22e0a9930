"""The trainer generates from each distinct prompt once: the same responses, fewer positions, and it says how many."""

import pytest
import torch
from peft import LoraConfig
from rollouts import RecordingTrainer, make_trainer

from r1_sharevl.models.tiny import build_tiny_model

PATCHES = 64  # of each image of the built-in set, for the tiny model


class CountingTrainer(RecordingTrainer):
    """Counts the positions that run through the decoder, and the images through the vision tower, in generation."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.passes = []  # (rows, length) of each pass of the decoder, in evaluation, too
        self.cached = []  # length of the cache behind each of them
        self.images = []  # of each pass of the vision tower
        network = self.model.get_base_model() if hasattr(self.model, "peft_config") else self.model
        network.get_decoder().register_forward_hook(self._count, with_kwargs=True)
        network.model.visual.patch_embed.register_forward_pre_hook(self._count_images)

    def _count(self, _, args, kwargs, output):
        if self.clock.phase == "generate" or not self.model.training:
            self.passes.append(tuple(output[0].shape[:2]))
            cache = kwargs["past_key_values"]
            self.cached.append(0 if cache is None else cache.get_seq_length())

    def _count_images(self, _, args):
        if self.clock.phase == "generate":
            self.images.append(len(args[0]) // PATCHES)


def run(folder, processor, shared_prefix, **settings):
    settings = {"max_completion_length": 12, "steps_per_generation": 2, "max_steps": 1} | settings
    torch.manual_seed(0)
    trainer = make_trainer(
        folder,
        build_tiny_model(processor),
        processor,
        trainer_class=CountingTrainer,
        shared_prefix=shared_prefix,
        **settings,
    )
    trainer.train()
    return trainer


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"generation_kwargs": {"repetition_penalty": 1.3}, "top_k": 50, "pad_to_multiple_of": 16},
        {"peft_config": LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)},
    ],
    ids=["default", "penalty-top_k-multiple", "lora"],
)
def test_the_same_responses_from_fewer_positions(tmp_path, processor, settings):
    shared = run(tmp_path / "shared", processor, "on", **settings)
    ordinary = run(tmp_path / "ordinary", processor, "off", **settings)
    assert shared.sampled[0] == ordinary.sampled[0]

    sampled = shared.sampled[0]
    longest = max(len(response) for _, response in sampled)
    prompts = {tuple(prompt) for prompt, _ in sampled}
    assert len(prompts) < len(sampled), "prompts have several responses"
    first, *steps = shared.passes
    assert first == (1, sum(len(prompt) - 1 for prompt in prompts))
    assert steps == [(len(sampled), 1)] * longest
    multiple = settings.get("pad_to_multiple_of", 1)
    width = -(-max(map(len, prompts)) // multiple) * multiple
    assert shared.cached[1:] == [width + step for step in range(longest)]
    [encoded] = shared.images
    [all_encoded] = ordinary.images
    assert encoded < len(prompts) < all_encoded == len(sampled)

    for trainer, real in ((shared, first[1]), (ordinary, sum(len(prompt) - 1 for prompt, _ in sampled))):
        computed = sum(rows * length for rows, length in trainer.passes)
        real += sum(len(response) for _, response in sampled)
        share = trainer.state.log_history[0]["generation/padding_share"]
        assert share == pytest.approx(1 - real / computed, abs=1e-6)
    assert shared.state.log_history[0]["generation/tokens_per_second"] > 0


def test_tokens_per_second_are_over_the_time_of_generating(tmp_path, processor):
    trainer = run(tmp_path, processor, "auto")
    log = trainer.state.log_history[0]
    tokens = sum(len(response) for _, response in trainer.sampled[0])
    assert 0 < tokens / log["generation/tokens_per_second"] < 1.001 * log["time/generate"] < log["time/step"]


@pytest.mark.parametrize(("name", "value"), [("cache_implementation", "static"), ("num_beams", 2)])
def test_what_no_prefill_goes_with_is_generated_as_before_and_said(tmp_path, processor, caplog, name, value):
    settings = {"generation_kwargs": {name: value}, "transform_probability": 0.0}
    shared = run(tmp_path / "shared", processor, "on", **settings)
    [said] = [record.message for record in caplog.records if name in record.message]
    assert said.startswith("the prompt of every response is computed by itself while generating: ")
    ordinary = run(tmp_path / "ordinary", processor, "off", **settings)
    assert shared.sampled[0] == ordinary.sampled[0]
    shares = [trainer.state.log_history[0]["generation/padding_share"] for trainer in (shared, ordinary)]
    assert shares[0] == shares[1] > 0
    if name == "num_beams":  # generate itself repeats the pixels for its beams
        assert shared.images == ordinary.images
    else:
        assert (shared.images, ordinary.images) == ([2], [8]), "two questions with an image each"


def test_a_setting_of_the_checkpoint_counts_where_the_run_leaves_it_open(tmp_path, tiny_model, processor, caplog):
    tiny_model.generation_config.cache_implementation = "static"
    make_trainer(tmp_path, tiny_model, processor)
    assert any("cache_implementation='static'" in record.message for record in caplog.records)


def test_evaluation_generates_as_before(tmp_path, processor):
    trainer = run(tmp_path, processor, "on")
    trainer.passes.clear()
    trainer.evaluate(trainer.train_dataset.select(range(2)))
    rows, length = trainer.passes[0]
    assert rows > 1, "in ordinary rows"
    assert length > 1
    assert not trainer._metrics["train"]["generation/padding_share"], "it is a metric of training"
