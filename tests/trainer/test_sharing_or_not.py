"""Where prompts cannot be shared, the run trains ordinary rows and says why in one line, or refuses to start."""

import re

import pytest
from recorded import HandedTrainer, text_processor
from rollouts import hash_reward, make_config, make_dataset
from transformers import GPT2Config, GPT2LMHeadModel

from r1_sharevl import UserError


def of_another_family(processor, tiny_model):
    return GPT2LMHeadModel(GPT2Config(vocab_size=len(processor.tokenizer), n_layer=1, n_embd=32, n_head=2))


def with_an_attention_of_its_own(processor, tiny_model):
    tiny_model.get_decoder().config._attn_implementation = "own_attention"
    return tiny_model


def untouched(processor, tiny_model):
    return tiny_model


@pytest.mark.parametrize(
    ("load", "arguments", "settings", "reason"),
    [
        (of_another_family, {}, {}, "the model family gpt2 is not known to share prefixes"),
        (with_an_attention_of_its_own, {}, {}, "attn_implementation own_attention is not known"),
        (untouched, {"rollout_func": hash_reward}, {}, "conversations with tools are no continuations of their"),
        (untouched, {}, {"neftune_noise_alpha": 5.0}, "neftune_noise_alpha depends on the length of a row"),
        (untouched, {}, {"torch_compile": True, "torch_compile_backend": "eager"}, "torch_compile compiles anew"),
    ],
    ids=["family", "attention", "rollout_func", "noise", "compiled"],
)
def test_a_run_that_cannot_share_says_why(load, arguments, settings, reason, tmp_path, processor, tiny_model, caplog):
    def make(shared_prefix):
        variants = 1 if arguments else 2
        return HandedTrainer(
            load(processor, tiny_model),
            hash_reward,
            make_config(tmp_path, shared_prefix=shared_prefix, num_variants=variants, **settings),
            make_dataset(8),
            processing_class=text_processor(processor) if load is of_another_family else processor,
            **arguments,
        )

    if not arguments:  # with num_variants=1, auto asks for no sharing
        trainer = make("auto")
        (line,) = [record.message for record in caplog.records if record.name.startswith("r1_sharevl")]
        assert re.match("every row is trained by itself .*: .*" + reason, line)
        assert "\n" not in line
        assert not trainer._shares_work
    with pytest.raises(UserError, match="^shared_prefix cannot be on: .*" + reason) as refused:
        make("on")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("wish", "variants", "shares"), [("auto", 2, True), ("auto", 1, False), ("off", 2, False), ("on", 1, True)]
)
def test_a_run_that_could_share_does_so_as_it_is_told(wish, variants, shares, tmp_path, processor, tiny_model, caplog):
    config = make_config(tmp_path, shared_prefix=wish, num_variants=variants)
    trainer = HandedTrainer(tiny_model, hash_reward, config, make_dataset(8), processing_class=processor)
    assert trainer._shares_work is shares
    assert not [record for record in caplog.records if record.name.startswith("r1_sharevl")]
