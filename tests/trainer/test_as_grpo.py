"""What GRPOTrainer does with GRPOConfig, ours does, too; with one prompt per question it is the same, bit for bit."""

import copy

import pandas
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from rollouts import hash_reward, make_config, make_dataset, make_trainer, text_of
from trl import GRPOConfig, GRPOTrainer

from r1_sharevl import ShareGRPOTrainer, UserError
from r1_sharevl.prompts import to_messages


def conversational(dataset):
    """The dataset as TRL's own trainer takes it."""
    prompts = [to_messages(row["problem"], len(row["images"])) for row in dataset]
    return dataset.add_column("prompt", prompts)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"loss_type": "dapo", "beta": 0.1, "num_iterations": 2, "scale_rewards": "batch"},
        {"multi_objective_aggregation": "normalize_then_sum", "importance_sampling_level": "sequence"},
    ],
    ids=["default", "dapo-kl-two-iterations", "gdpo-sequence"],
)
def test_one_variant_is_trl_grpo_bit_for_bit(tmp_path, tiny_checkpoint, processor, settings):
    settings = {"max_steps": 3, "max_completion_length": 8, **settings}
    shared = make_config(tmp_path / "ours", num_variants=1, **settings)
    names = [
        "output_dir", "per_device_train_batch_size", "num_generations", "gradient_accumulation_steps", "learning_rate",
        "logging_steps", "save_strategy", "report_to", "bf16", "use_cpu", "disable_tqdm", *settings,
    ]  # fmt: skip
    plain = GRPOConfig(**{name: getattr(shared, name) for name in names})
    dataset = conversational(make_dataset(16))
    trained = []
    for trainer_class, config in ((GRPOTrainer, plain), (ShareGRPOTrainer, shared)):
        trainer = trainer_class(str(tiny_checkpoint), hash_reward, config, dataset, processing_class=processor)
        start = copy.deepcopy(trainer.model.state_dict())
        trainer.train()
        trained.append(trainer.model.state_dict())
        assert any(not torch.equal(start[name], value) for name, value in trained[-1].items())
    assert trained[0].keys() == trained[1].keys()
    assert all(torch.equal(trained[0][name], trained[1][name]) for name in trained[0])


def test_one_variant_takes_a_prepared_set_as_it_is(tmp_path, tiny_model, processor):
    trainer = make_trainer(tmp_path, tiny_model, processor, num_variants=1, max_steps=2)
    trainer.train()
    assert all("Share" not in key for key in trainer.state.log_history[0])
    assert trainer.state.log_history[0]["num_tokens"] > 0


FEATURES = {
    "grpo": {"loss_type": "grpo"},
    "dr_grpo": {"loss_type": "dr_grpo"},
    "dapo": {"loss_type": "dapo"},
    "bnpo with two-sided clipping": {"loss_type": "bnpo", "delta": 3.0, "epsilon_high": 0.3},
    "cispo": {"loss_type": "cispo", "epsilon_high": 5.0},
    "sapo": {"loss_type": "sapo"},
    "vespo": {"loss_type": "vespo"},
    "luspo": {"loss_type": "luspo", "importance_sampling_level": "sequence"},
    "kl": {"beta": 0.05},
    "two iterations": {"num_iterations": 2},
    "several steps per generation": {
        "steps_per_generation": 4,
        "gradient_accumulation_steps": 1,
        "per_device_train_batch_size": 4,
    },
    "batch std": {"scale_rewards": "batch"},
    "no std": {"scale_rewards": "none"},
    "gdpo": {"multi_objective_aggregation": "normalize_then_sum"},
    "truncated masked": {"mask_truncated_completions": True, "max_completion_length": 24},
    "no checkpointing": {"gradient_checkpointing": False},
    "entropy": {"top_entropy_quantile": 0.5, "entropy_coef": 0.01},
    "no transforms": {"transform_probability": 0.0},
    "text-like layout": {"pad_to_multiple_of": 8},
}


@pytest.mark.parametrize("settings", FEATURES.values(), ids=FEATURES.keys())
def test_feature_trains_every_parameter(tmp_path, tiny_checkpoint, processor, settings):
    trainer = make_trainer(tmp_path, str(tiny_checkpoint), processor, max_steps=2, **settings)
    before = {name: parameter.clone() for name, parameter in trainer.model.named_parameters()}
    trainer.train()
    still = [name for name, parameter in trainer.model.named_parameters() if torch.equal(before[name], parameter)]
    if settings.get("mask_truncated_completions"):
        assert trainer.state.log_history[0]["completions/clipped_ratio"] > 0
        return  # an untrained model may write nothing but truncated responses, and then nothing is learnt
    assert not still, f"did not move: {still}"


def test_lora_trains_the_adapter_only(tmp_path, tiny_model, processor):
    trainer = ShareGRPOTrainer(
        tiny_model,
        hash_reward,
        make_config(tmp_path, max_steps=2, beta=0.05),
        make_dataset(16),
        processing_class=processor,
        peft_config=LoraConfig(target_modules=["q_proj", "v_proj"], r=4),
    )
    before = {name: parameter.clone() for name, parameter in trainer.model.named_parameters()}
    trainer.train()
    moved = {name for name, parameter in trainer.model.named_parameters() if not torch.equal(before[name], parameter)}
    assert moved == {name for name in before if "lora_" in name}


def test_evaluation_asks_each_question_as_it_stands(tmp_path, tiny_model, processor):
    asked = []

    def reward(completions, prompts, **kwargs):
        asked.append([p[0]["content"] for p in prompts])
        return hash_reward(completions)

    config = make_config(
        tmp_path, eval_strategy="steps", eval_steps=1, per_device_eval_batch_size=4, num_generations_eval=2
    )
    evaluation = make_dataset(6, seed=1)
    trainer = ShareGRPOTrainer(tiny_model, reward, config, make_dataset(16), evaluation, processing_class=processor)
    trainer.train()
    metrics = next(entry for entry in trainer.state.log_history if "eval_reward" in entry)
    assert not any(key.startswith("eval_share_grpo") for key in metrics)
    texts = {
        part["text"].split("\n")[0] for batch in asked[1:] for content in batch for part in content if "text" in part
    }
    assert texts == {row["problem"].replace("<image>", "").strip().split("\n")[0] for row in evaluation}
    assert sum(map(len, asked[1:])) == 12


def test_question_space_metrics(tmp_path, tiny_model, processor):
    trainer = make_trainer(tmp_path, tiny_model, processor, max_steps=4, transform_probability=0.5)
    trainer.train()
    keys = {key for entry in trainer.state.log_history for key in entry}
    assert {f"share_grpo/no_advantage/{level}" for level in ("global", "local", "all")} <= keys
    assert "share_grpo/logp_gap" in keys
    assert any(key.startswith("share_grpo/wording_") for key in keys)
    assert "share_grpo/transform_none/hash_reward" in keys
    for step, (rewarded, entry) in enumerate(zip(trainer.rewarded, trainer.state.log_history, strict=False)):
        per_transform = {}
        drawn = [
            prompt
            for row_id in dict.fromkeys(row_id for *_, row_id in rewarded)
            for prompt in trainer.question_space.draw(next(r for r in trainer.train_dataset if r["id"] == row_id), step)
            for _ in range(2)
        ]
        for prompt, (_, reward, _) in zip(drawn, rewarded, strict=True):
            per_transform.setdefault(prompt.transform or "none", []).append(reward)
        for transform, rewards in per_transform.items():
            key = f"share_grpo/transform_{transform}/hash_reward"
            assert entry[key] == pytest.approx(sum(rewards) / len(rewards))


def test_logp_gap_is_the_mean_over_shared_pairs(tmp_path, tiny_model, processor):
    trainer = make_trainer(tmp_path, tiny_model, processor, num_iterations=2, max_steps=1, gradient_checkpointing=False)
    trainer.train()
    (trained,) = trainer.trained
    mask = trained["completion_mask"]
    means = (trained["old_per_token_logps"] * mask).sum(-1) / mask.sum(-1)
    gaps = (means.view(-1, 2)[:, 1] - means.view(-1, 2)[:, 0]).mean().item()
    assert trainer.state.log_history[0]["share_grpo/logp_gap"] == pytest.approx(gaps, abs=1e-5)


def test_completions_table_has_a_line_per_pair(tmp_path, tiny_model, processor):
    def reward(completions, log_extra, **kwargs):
        log_extra("length", [len(text_of(c)) for c in completions])
        return hash_reward(completions)

    make_trainer(
        tmp_path, tiny_model, processor, reward=reward, log_completions=True, num_completions_to_print=0
    ).train()
    table = pandas.read_parquet(tmp_path / "completions" / "completions_00001.parquet")
    assert len(table) == 16
    for _, line in table.iterrows():
        completion = list(line["completion"])
        assert line["length"] == len(text_of(completion))
        assert line["reward"] == hash_reward([completion])[0]
    assert table["advantage"].abs().sum() > 0


def test_vision_tokens_are_never_sampled(tmp_path, tiny_model, processor):
    tokens = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>")
    ids = processor.tokenizer.convert_tokens_to_ids(tokens)
    with torch.no_grad():
        tiny_model.lm_head.weight[ids] *= 20  # an untrained model that likes them
    trainer = make_trainer(tmp_path, tiny_model, processor, max_steps=2)
    trainer.train()
    written = {token for batch in trainer.sampled for _, response in batch for token in response}
    assert not written & set(ids)


@pytest.mark.parametrize("argument", ["tools", "rollout_func", "environment_factory"])
def test_what_sharing_cannot_do_is_refused(tmp_path, tiny_model, processor, argument):
    with pytest.raises(UserError, match=f"{argument} cannot be used with num_variants=2"):
        ShareGRPOTrainer(
            tiny_model,
            hash_reward,
            make_config(tmp_path),
            make_dataset(8),
            processing_class=processor,
            **{argument: [hash_reward] if argument == "tools" else hash_reward},
        )


def test_a_streamed_dataset_trains_and_leaves_out_what_cannot_be_drawn(tmp_path, tiny_model, processor):
    rows = [{**row, "variants": [] if index % 2 else row["variants"]} for index, row in enumerate(make_dataset(16))]
    stream = Dataset.from_list(rows, features=make_dataset(1).features).to_iterable_dataset()
    trainer = make_trainer(tmp_path, tiny_model, processor, dataset=stream, max_steps=3, transform_probability=0.0)
    trainer.train()
    drawable = {row["id"] for row in rows if row["variants"]}
    assert {row["id"] for batch in trainer.dataset_rows for row in batch} <= drawable
    assert len(trainer.trained) == 3


def test_rows_that_cannot_be_drawn_are_counted_and_reported(tmp_path, tiny_model, processor, caplog):
    rows = [{**row, "variants": [] if index < 3 else row["variants"]} for index, row in enumerate(make_dataset(16))]
    dataset = Dataset.from_list(rows, features=make_dataset(1).features).remove_columns("id")
    trainer = make_trainer(tmp_path, tiny_model, processor, dataset=dataset, transform_probability=0.0)
    assert len(trainer.train_dataset) == 13
    assert "Dropped 3 of 16 training rows: 3 rows: 2 distinct prompts are needed" in caplog.text
    assert sorted(trainer.train_dataset["id"], key=int) == [str(index) for index in range(3, 16)]
