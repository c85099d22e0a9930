"""The gradient of every objective that TRL has, over packed rows, is the one of TRL's own code over ordinary rows."""

import pytest
import torch
from recorded import HandedTrainer, as_ordinary_rows, gradient_of, relative_error
from rollouts import hash_reward, make_config, make_dataset
from trl.trainer.utils import shuffle_sequence_dict, split_tensor_dict

from r1_sharevl.rollouts.micro_batches import micro_batches

NOISE = 1e-5  # relative; a row by itself differs from a batch of rows by 8e-7
PLAIN = {
    "loss_type": "grpo",
    "importance_sampling_level": "token",
    "epsilon_low": 0.2,
    "epsilon_high": 0.2,
    "beta": 0.0,
    "top_entropy_quantile": 1.0,
    "entropy_coef": 0.0,
    "_entropy_bonus_enabled": False,
    "off_policy_mask_threshold": None,
}
ENTROPY_BONUS = {"entropy_coef": 0.5, "_entropy_bonus_enabled": True}
ORDER_FREE = {
    "grpo": {},
    "grpo, sequence": {"importance_sampling_level": "sequence"},
    "dr_grpo": {"loss_type": "dr_grpo"},
    "dapo": {"loss_type": "dapo", "epsilon_high": 0.28},
    "luspo": {"loss_type": "luspo", "importance_sampling_level": "sequence"},
    "cispo": {"loss_type": "cispo", "epsilon_high": 5.0},
    "sapo": {"loss_type": "sapo"},
    "vespo": {"loss_type": "vespo"},
    "two-sided clipping": {"delta": 1.3},
    "kl": {"beta": 0.1},
    "kl, corrected": {"beta": 0.1, "use_bias_correction_kl": True},
    "off-policy mask": {"off_policy_mask_threshold": 0.01},
}
PER_MICRO_BATCH = {
    "bnpo": {"loss_type": "bnpo"},
    "entropy bonus": ENTROPY_BONUS,
    "top entropy quantile": {"top_entropy_quantile": 0.4},
    "entropy bonus of a quantile": {**ENTROPY_BONUS, "top_entropy_quantile": 0.4, "loss_type": "dapo"},
}


@pytest.fixture(scope="module")
def trainer(processor, tiny_checkpoint, tmp_path_factory):
    """A trainer with a generation batch of two questions whose model has moved on since it was made."""
    config = make_config(
        tmp_path_factory.mktemp("run"),
        shared_prefix="on",
        num_generations=6,
        per_device_train_batch_size=12,
        gradient_accumulation_steps=2,
        num_iterations=2,
        max_completion_length=9,
        beta=0.1,
        mask_truncated_completions=True,
        gradient_checkpointing=False,
    )
    data = make_dataset(2)
    trainer = HandedTrainer(str(tiny_checkpoint), hash_reward, config, data, processing_class=processor)
    trainer.current_gradient_accumulation_steps = config.gradient_accumulation_steps
    trainer.model.train()
    questions = [row for row in data for _ in range(trainer.num_generations)]
    trainer.batch = trainer._generate_and_score_completions(questions)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in trainer.model.parameters():
            value += 0.04 * value.std().nan_to_num() * torch.randn(value.shape, generator=generator)
    return trainer


@pytest.fixture
def objective(trainer, monkeypatch):
    def choose(**settings):
        for name, value in {**PLAIN, **settings}.items():
            monkeypatch.setattr(trainer if hasattr(trainer, name) else trainer.args, name, value)
        return trainer

    return choose


@pytest.mark.parametrize(
    "settings", [*ORDER_FREE.values(), *PER_MICRO_BATCH.values()], ids=[*ORDER_FREE, *PER_MICRO_BATCH]
)
def test_a_micro_batch_has_the_gradient_of_its_ordinary_rows(objective, settings):
    trainer = objective(**settings)
    torch.manual_seed(0)
    inputs = micro_batches(trainer.batch, 2)[0]
    found = gradient_of(trainer, [inputs])
    expected = gradient_of(trainer, [as_ordinary_rows(inputs, trainer.model)])
    assert expected.norm() > 1e-3, "a gradient of nothing proves nothing"
    assert relative_error(found, expected) < NOISE


@pytest.mark.parametrize("name", [*ORDER_FREE, *PER_MICRO_BATCH])
def test_which_rows_share_a_micro_batch_matters_only_where_a_mean_is_taken_over_it(objective, name):
    trainer = objective(**(ORDER_FREE | PER_MICRO_BATCH)[name])
    torch.manual_seed(0)
    ours = gradient_of(trainer, micro_batches(trainer.batch, 2))
    rows = {key: value for key, value in trainer.batch.items() if key != "distinct_images"}
    cut = split_tensor_dict(shuffle_sequence_dict(rows), 2)
    images = {"distinct_images": trainer.batch["distinct_images"]}
    trls = gradient_of(trainer, [as_ordinary_rows(inputs | images, trainer.model) for inputs in cut])
    if name in ORDER_FREE:
        assert relative_error(ours, trls) < NOISE
    else:
        assert relative_error(ours, trls) > 100 * NOISE


def test_the_settings_above_make_a_difference(objective):
    trainer = objective()
    torch.manual_seed(0)
    inputs = micro_batches(trainer.batch, 2)[0]
    plain = gradient_of(trainer, [inputs])
    for name, settings in (ORDER_FREE | PER_MICRO_BATCH).items():
        if settings:
            assert relative_error(gradient_of(objective(**settings), [inputs]), plain) > 100 * NOISE, name
