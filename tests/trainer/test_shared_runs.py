"""A run whose rows share their prompts ends with the parameters and metrics of one over ordinary rows."""

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from recorded import HandedTrainer, text_processor
from rollouts import hash_reward, make_config, make_dataset
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig, Qwen2Config, Qwen2ForCausalLM

from r1_sharevl.models.tiny import build_tiny_model
from r1_sharevl.shared_prefix.cost import sharing_pays

SETTINGS = {
    "num_generations": 4,
    "per_device_train_batch_size": 16,  # two questions
    "gradient_accumulation_steps": 1,
    "num_iterations": 2,
    "max_steps": 3,  # two generations
    "max_completion_length": 8,
    "transform_probability": 0.5,
    "gradient_checkpointing": False,
    # Adam would blow rounding up to the learning rate wherever a gradient is nearly zero.
    "optim": "sgd",
    "learning_rate": 0.05,
    "lr_scheduler_type": "constant",
}
BY_TIME = ("time", "per_second", "runtime")
BY_ORDER = ("entropy", "kl", "clip_ratio")  # means over the tokens of a micro-batch


class NeverFinished(HandedTrainer):
    finished = 0.0


class PaddingTrainer(HandedTrainer):
    """Notes for each pass how wide its rows are, and how many columns are padding in all of them."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.widths, self.padding = [], []
        self.model.register_forward_pre_hook(self._note, with_kwargs=True)

    def _note(self, _, __, inputs):
        used = inputs["attention_mask"].any(dim=0)
        self.widths.append(len(used))
        self.padding.append(int((~used).sum()))


def some_without_reward(completions, **kwargs):
    return [None if index % 3 == 0 else value for index, value in enumerate(hash_reward(completions))]


def texts():
    rows = [{**row, "images": [], "problem": row["problem"].replace("<image>", "")} for row in make_dataset(8)]
    rows = [{**row, "variants": [text.replace("<image>", "") for text in row["variants"]]} for row in rows]
    return Dataset.from_list(rows, features=make_dataset(1).features)


def mixed():
    rows = list(make_dataset(4))
    pictures = [row["images"][0] for row in rows]
    wordings = ["First <image> then <image>: which has more dots?", "Which of <image> and <image> shows more dots?"]
    rows[0] |= {"images": pictures[:2], "problem": wordings[0], "variants": wordings[1:]}
    rows[1] |= {"images": [], "problem": "What is 2 + 2?", "variants": ["Add 2 and 2."]}
    return Dataset.from_list(rows, features=make_dataset(1).features)


def long_and_short():
    """Questions with long prompts, by their image, and with prompts that are shorter than the responses."""
    rows = list(make_dataset(4))
    for row in rows[1::2]:
        row |= {"images": [], "problem": "2 + 2?", "variants": ["Add 2, 2."]}
    return Dataset.from_list(rows, features=make_dataset(1).features)


def text_model(processor):
    tokenizer = processor.tokenizer
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.2,
    )
    return Qwen2ForCausalLM(config)


def train(
    folder, processor, shared_prefix, *, model=None, data=None, reward=hash_reward, trainer=HandedTrainer, **rest
):
    """Train once.

    Returns:
        The trainer, and how far its parameters have moved from where they were.
    """
    resume, adapters = rest.pop("resume", None), rest.pop("adapters", None)
    made = trainer(
        build_tiny_model(processor) if model is None else model,
        reward,
        make_config(folder, shared_prefix=shared_prefix, **{**SETTINGS, **rest}),
        make_dataset(8) if data is None else data,
        make_dataset(2, seed=1),
        processing_class=processor,
        peft_config=adapters,
    )
    before = parameters(made)
    made.train(resume_from_checkpoint=resume)
    assert made._shares_work == (shared_prefix != "off")
    return made, difference(before, parameters(made))


def parameters(trainer):
    return {name: value.detach().clone() for name, value in trainer.model.named_parameters()}


def difference(one, other):
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


def assert_same_metrics(shared, ordinary, leave_out=()):
    """Every metric of the run over ordinary rows has the value that it has in the one that shares."""
    logs = [trainer.state.log_history for trainer in (shared, ordinary)]
    for found, expected in zip(*logs, strict=True):
        kept = [name for name in expected if not any(word in name for word in (*BY_TIME, *leave_out))]
        assert {name: found[name] for name in kept} == pytest.approx(
            {name: expected[name] for name in kept}, rel=1e-3, abs=1e-4, nan_ok=True
        )


CASES = {
    "gradient checkpointing": {"gradient_checkpointing": True},
    "a prompt's responses in several micro-batches": {
        "per_device_train_batch_size": 6,  # 4 rows of a prompt
        "gradient_accumulation_steps": 4,
    },
    "smaller micro-batches than a prompt has responses": {
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 8,
    },
    "bnpo, sequences, entropy bonus": {
        "loss_type": "bnpo",
        "importance_sampling_level": "sequence",
        "entropy_coef": 0.01,
    },
    "LoRA and KL without a reference model": {
        "adapters": LoraConfig(target_modules=["q_proj", "v_proj"], r=4, init_lora_weights=False),
        "beta": 0.5,
    },
    "LoRA beside whole attention layers, which peft copies": {
        "adapters": LoraConfig(
            target_modules=["up_proj"],
            r=4,
            modules_to_save=["self_attn"],
            task_type="CAUSAL_LM",
            init_lora_weights=False,
        ),
        "gradient_checkpointing": True,
    },
    "truncated responses masked": {"mask_truncated_completions": True},
    "rewards of None": {"reward": some_without_reward},
    "one and two images and none": {"data": mixed},
    "own prompts only": {"share_trajectories": False, "num_generations": 8},
    "plain GRPO": {"num_variants": 1, "num_generations": 8},
    "evaluation": {"eval_strategy": "steps", "eval_steps": 2, "per_device_eval_batch_size": 4},
}


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_three_steps_end_as_with_ordinary_rows(settings, tmp_path, processor):
    settings = {name: value() if name == "data" else value for name, value in settings.items()}
    shared, moved = train(tmp_path / "shared", processor, "on", **settings)
    ordinary, _ = train(tmp_path / "ordinary", processor, "off", **settings)
    assert moved > 1e-3, "parameters that stay where they are prove nothing"
    assert difference(parameters(shared), parameters(ordinary)) < 1e-5
    several = settings.get("gradient_accumulation_steps", 1) > 1
    assert_same_metrics(shared, ordinary, leave_out=BY_ORDER if several else ())


def test_a_text_model_shares(tmp_path, processor):
    settings = {"data": texts(), "transform_probability": 0.0}
    runs = [
        train(tmp_path / mode, text_processor(processor), mode, model=text_model(processor), **settings)
        for mode in ("on", "off")
    ]
    (shared, moved), (ordinary, _) = runs
    assert moved > 1e-3
    assert difference(parameters(shared), parameters(ordinary)) < 1e-5
    assert_same_metrics(shared, ordinary)


def test_qlora(tmp_path, processor, tiny_checkpoint):
    quantized = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    runs = [
        train(
            tmp_path / mode,
            processor,
            mode,
            model=AutoModelForImageTextToText.from_pretrained(
                tiny_checkpoint, quantization_config=quantized, dtype=torch.float32
            ),
            adapters=LoraConfig(target_modules=["q_proj", "up_proj"], r=4, init_lora_weights=False),
            gradient_checkpointing=True,
        )
        for mode in ("on", "off")
    ]
    (shared, moved), (ordinary, _) = runs
    assert moved > 1e-3
    assert difference(parameters(shared), parameters(ordinary)) < 1e-5
    assert_same_metrics(shared, ordinary)


def test_nothing_is_learnt_where_every_response_is_cut_off(tmp_path, processor):
    for mode in ("on", "auto", "off"):
        trainer, moved = train(
            tmp_path / mode, processor, mode, trainer=NeverFinished, mask_truncated_completions=True, max_steps=1
        )
        assert moved == 0
        assert trainer.state.log_history[0]["loss"] == 0
        assert trainer.state.log_history[0]["completions/clipped_ratio"] == 1


def test_micro_batches_that_sharing_would_not_shorten_are_ordinary_rows(tmp_path, processor, caplog):
    settings = {
        "num_generations": 2,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 4,
        "max_steps": 4,
        "data": mixed(),
    }
    shared, moved = train(tmp_path / "auto", processor, "auto", trainer=PaddingTrainer, **settings)
    assert not any(shared.padding), "the longest row of the generation batch does not set the width of the others"
    (line,) = [record.message for record in caplog.records if "ordinary rows" in record.message]
    assert "\n" not in line
    assert "a per_device_train_batch_size that is a multiple of 2 keeps a prompt's 2 responses together" in line
    ordinary, _ = train(tmp_path / "off", processor, "off", **settings)
    assert moved > 1e-3
    assert difference(parameters(shared), parameters(ordinary)) < 1e-5


def test_ordinary_rows_keep_the_multiple_that_was_asked_for(tmp_path, processor):
    settings = {
        "num_generations": 2,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 4,
        "pad_to_multiple_of": 8,
        "data": mixed(),
    }
    shared, moved = train(tmp_path / "auto", processor, "auto", trainer=PaddingTrainer, **settings)
    assert {width % 8 for width in shared.widths} == {0}
    assert 0 < max(shared.padding) < 16, "less than a multiple each for prompts and responses"
    ordinary, _ = train(tmp_path / "off", processor, "off", trainer=PaddingTrainer, **settings)
    assert sum(shared.padding) < sum(ordinary.padding)
    assert moved > 1e-3
    assert difference(parameters(shared), parameters(ordinary)) < 1e-5


@pytest.mark.parametrize("size", [2, 4])
def test_whole_prompts_in_a_micro_batch_get_no_advice(size, tmp_path, processor, monkeypatch, caplog):
    monkeypatch.setattr("r1_sharevl.shared_work_trainer.sharing_pays", lambda *_, **__: False)
    accumulated = {"per_device_train_batch_size": size, "gradient_accumulation_steps": 16 // size, "max_steps": 1}
    train(tmp_path, processor, "auto", **accumulated)
    (line,) = [record.message for record in caplog.records if "ordinary rows" in record.message]
    assert ("multiple of 4 keeps a prompt's 4 responses together" in line) == (size == 2)


@pytest.mark.parametrize("settings", [{}, {"beta": 0.1, "entropy_coef": 0.01}], ids=["old", "old, reference, entropy"])
def test_passes_of_which_only_some_are_packed(settings, tmp_path, processor, monkeypatch):
    decisions = []  # whether gradients were wanted, and whether it paid

    def decide(*args, **kwargs):
        pays = sharing_pays(*args, **kwargs)
        decisions.append((torch.is_grad_enabled(), pays))
        return pays

    monkeypatch.setattr("r1_sharevl.shared_work_trainer.sharing_pays", decide)
    settings |= {
        "data": long_and_short(),
        "instruction": "",
        "transform_probability": 0.0,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 8,
        "max_completion_length": 64,
        "max_steps": 2,
    }
    adapters = {"adapters": LoraConfig(target_modules=["q_proj"], r=4, init_lora_weights=False)}
    shared, moved = train(tmp_path / "auto", processor, "auto", **settings, **adapters)
    assert set(decisions) == {(grad, pays) for grad in (False, True) for pays in (False, True)}
    ordinary, _ = train(tmp_path / "off", processor, "off", **settings, **adapters)
    assert moved > 1e-3
    assert difference(parameters(shared), parameters(ordinary)) < 1e-5
    assert_same_metrics(shared, ordinary, leave_out=BY_ORDER)


def test_a_step_that_fails_leaves_nothing_behind(tmp_path, processor):
    settings = {**SETTINGS, "gradient_checkpointing": True, "max_steps": 1}
    trainer = HandedTrainer(
        build_tiny_model(processor),
        hash_reward,
        make_config(tmp_path, shared_prefix="on", **settings),
        make_dataset(8),
        processing_class=processor,
    )
    decoder = trainer.model.get_decoder()

    def fail(*_):
        raise RuntimeError("no memory")

    hook = decoder.layers[-1].register_full_backward_hook(fail)
    with pytest.raises(RuntimeError, match="no memory"):
        trainer.train()
    hook.remove()
    assert trainer._step_attention is None
    assert trainer._image_index is None
    assert decoder.config._attn_implementation == "sdpa"
    trainer.train()


def test_a_batch_without_rows_has_no_log_probabilities(tmp_path, processor):
    trainer, _ = train(tmp_path, processor, "on", max_steps=1)
    trainer._image_index = torch.zeros(0, 1, dtype=torch.long)
    nothing = torch.zeros(0, 10, dtype=torch.long)
    logps, entropies, _ = trainer._get_per_token_logps_and_entropies(
        trainer.model, nothing, nothing, 4, compute_entropy=True
    )
    assert logps.shape == entropies.shape == (0, 4)


def test_a_run_goes_on_from_its_responses_with_and_without_sharing(tmp_path, processor):
    settings = {
        "per_device_train_batch_size": 8,
        "steps_per_generation": 2,  # two optimizer steps
        "num_iterations": 1,
        "max_steps": 2,
        "save_strategy": "steps",
        "save_steps": 1,
    }
    whole, _ = train(tmp_path / "on", processor, "on", **settings)
    checkpoint = tmp_path / "on" / "checkpoint-1"
    saved = torch.load(checkpoint / "rollouts_0.pt", weights_only=True)["rollouts"]
    first, second = (micro_batch["distinct_images"] for micro_batch in saved)
    assert first is second
    size = sum(pixels.nbytes for pixels in first["pixel_values"])
    shown = {index for micro_batch in saved for index in micro_batch["image_index"].flatten().tolist()}
    assert len(first["pixel_values"]) == len(shown) < 16
    assert (checkpoint / "rollouts_0.pt").stat().st_size < 1.1 * size, "each image is there once"

    torch.manual_seed(1)  # what a new process brings
    same, _ = train(tmp_path / "again", processor, "on", resume=str(checkpoint), **settings)
    assert difference(parameters(same), parameters(whole)) == 0
    # The responses that wait are trained in the order they have, whichever way.
    without, _ = train(tmp_path / "without", processor, "off", resume=str(checkpoint), **settings)
    assert 0 < difference(parameters(without), parameters(whole)) < 1e-5
    ordinary, _ = train(tmp_path / "off", processor, "off", **settings)
    checkpoint = tmp_path / "off" / "checkpoint-1"
    still, _ = train(tmp_path / "still", processor, "on", resume=str(checkpoint), **settings)
    assert difference(parameters(still), parameters(ordinary)) == 0, "they have been generated as ordinary rows"
