"""The memory estimate against a real trainer's tensors, and the shape of what it says about large models."""

import dataclasses
import re
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from transformers import DynamicCache

from r1_sharevl import ShareGRPOConfig, ShareGRPOTrainer
from r1_sharevl.arguments import parse_run, settings_of
from r1_sharevl.data.schema import prepared_features
from r1_sharevl.data.synthetic import synthetic_rows
from r1_sharevl.errors import UserError
from r1_sharevl.planning.activations import Precision
from r1_sharevl.planning.advice import advise, faster
from r1_sharevl.planning.counting import count_parameters
from r1_sharevl.planning.memory import GIB, kv_cache_bytes, model_states, optimizer_bytes
from r1_sharevl.planning.plan import Planner
from r1_sharevl.planning.settings import planned_config
from r1_sharevl.planning.shapes import language_shape
from r1_sharevl.planning.sharding import Sharding, sharding_from_file
from r1_sharevl.recipes import cards_of, find_launch_recipe

RECIPES = [
    path for path in sorted((Path(__file__).parents[2] / "configs").glob("*.yaml")) if cards_of(path.stem) is not None
]
SEVEN_B = ["--dataset", "d", "--model_name_or_path", "Qwen/Qwen2.5-VL-7B-Instruct", "--output_dir", "o"]
SEVEN_B += ["--num_generations", "12", "--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "6"]
SEVEN_B += ["--max_pixels", "1048576", "--max_completion_length", "1024"]


def plan_of(flags, *, config=None, gpus=1, card=None, sharding=None):
    parts = parse_run(flags, config, planned_config(gpus))
    planner = Planner(*parts, card_bytes=None if card is None else int(card * GIB))
    made = planner.plan(*parts, sharding or Sharding("single" if gpus == 1 else "ddp", gpus))
    return planner, made, settings_of(*parts)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_estimated_to_fit_the_card_in_its_name_and_takes_the_advice_for_a_smaller_one(path):
    cards = cards_of(path.stem)
    name = "fsdp2" if cards.count > 1 else "single_gpu"
    sharding = sharding_from_file(find_launch_recipe(name), cards.count)
    planner, made, settings = plan_of([], config=path, gpus=cards.count, card=cards.gigabytes, sharding=sharding)
    gib = {phase: round(size / GIB, 1) for phase, size in made.memory.allocated.items()}
    assert made.fits, f"{path.name}: {made.memory.peak / GIB:.1f} of {cards.gigabytes} GiB, {gib}"
    assert made.micro_batch.is_packed
    assert made.batch.prompts_per_micro_batch == 1, "a micro-batch keeps to one prompt"
    planner.card_bytes = int(made.memory.peak * 0.7)
    made = planner.plan_settings(settings, sharding)
    advices = advise(planner, settings, made)
    assert made.fits is False
    assert advices
    for advice in advices:
        elsewhere = re.match(r"--accelerate (\w+) --num-processes (\d+) ", advice.flags)
        there = Sharding(elsewhere[1], int(elsewhere[2])) if elsewhere else sharding
        flags = advice.flags[elsewhere.end() if elsewhere else 0 :].split()
        again = planner.plan(*parse_run(flags, path, planned_config(there.gpus)), there)
        assert (again.memory.peak, again.fits) == (advice.peak, advice.fits), advice.flags
        assert again.batch.questions_per_step == made.batch.questions_per_step, advice.flags
        if "load_in_4bit" in settings and elsewhere:
            assert there.kind == "ddp", "the launch refuses to cut up quantised weights"


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_weights_gradients_and_optimizer_state_are_those_of_a_real_step(kind, tiny_model, processor, tmp_path):
    from peft import LoraConfig

    args = ShareGRPOConfig(
        tmp_path, num_generations=4, per_device_train_batch_size=8, max_completion_length=4, max_steps=1,
        use_cpu=True, bf16=False, report_to="none", save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    rows = Dataset.from_list(
        list(synthetic_rows("train", 4, seed=0)), features=prepared_features({"question_type": "string"})
    )
    trainer = ShareGRPOTrainer(
        tiny_model, lambda completions, **_: [float(len(str(one))) for one in completions], args, rows,
        processing_class=processor, peft_config=LoraConfig(target_modules="all-linear") if kind == "lora" else None,
    )  # fmt: skip
    gradients = {}

    def see(optimizer, *_):
        gradients.update(
            {
                id(one): one.grad.nbytes
                for group in optimizer.param_groups
                for one in group["params"]
                if one.grad is not None
            }
        )

    trainer.create_optimizer()
    trainer.optimizer.register_step_pre_hook(see)
    trainer.train()
    state = sum(value.nbytes for one in trainer.optimizer.state.values() for value in one.values() if value.ndim > 0)
    flags = ["--dataset", "d", "--model_name_or_path", "m", "--output_dir", "o", "--per_device_train_batch_size", "16"]
    flags += ["--use_peft"] * (kind == "lora")
    run, planned_args, model_args = parse_run(flags, None, planned_config(1))
    from r1_sharevl.planning.memory import Workload

    work = Workload(planned_args, model_args, run.train_vision, None, None, Sharding(), 32)
    states = model_states(count_parameters(trainer.model), work)
    assert states["optimizer state"] == state
    assert states["gradients"] == sum(gradients.values())
    assert states["weights"] + states["adapters"] == sum(one.nbytes for one in trainer.model.parameters())


@pytest.mark.parametrize(("dtype", "autocast"), [(torch.float32, False), (torch.float32, True), (torch.bfloat16, True)])
def test_the_cache_is_as_large_as_the_real_one(dtype, autocast, tiny_model):
    model = tiny_model.to(dtype)
    cache = DynamicCache(config=model.config.get_text_config())
    ids = torch.randint(300, 600, (3, 20))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        model(input_ids=ids, past_key_values=cache, use_cache=True)
    real = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    language = language_shape(model.config)
    precision = Precision(dtype.itemsize, 2 if autocast else dtype.itemsize)
    planned = kv_cache_bytes(language, precision, 3, 20)
    assert planned * language.layers / (language.layers + 1) == real


def test_the_8_bit_state_is_as_large_as_bitsandbytes_makes_it():
    bitsandbytes = pytest.importorskip("bitsandbytes")
    parameter = torch.nn.Parameter(torch.randn(128, 64))
    small = torch.nn.Parameter(torch.randn(16))
    optimizer = bitsandbytes.optim.AdamW8bit([parameter, small])
    for one, group in ((parameter, 0), (small, 1)):
        optimizer.init_state({**optimizer.param_groups[0], "params": [one]}, one, 0, group)
        state = optimizer.state[one]
        held = sum(state[name].nbytes for name in ("state1", "state2", "absmax1", "absmax2") if name in state)
        assert optimizer_bytes("adamw_8bit", one.numel(), one.dtype) == held


def test_sharding_divides_what_it_should():
    parts = {}
    for kind, gpus in (("single", 1), ("ddp", 4), ("fsdp2", 4), ("zero2", 4), ("zero3", 4)):
        _, made, _ = plan_of(SEVEN_B, gpus=gpus, sharding=Sharding(kind, gpus))
        parts[kind] = made.memory.update
    weights = made.parameters * 4
    assert parts["single"]["weights"] == parts["ddp"]["weights"] == weights
    assert parts["single"]["optimizer state"] == 2 * weights
    assert parts["ddp"]["gradients"] == 2 * parts["single"]["gradients"]
    for name in ("weights", "optimizer state", "gradients"):
        assert parts["fsdp2"][name] == pytest.approx(parts["single"][name] / 4, rel=0.01)
    assert parts["zero2"]["weights"] == weights / 2  # 16-bit, whole
    assert parts["zero3"]["weights"] == pytest.approx(weights / 8, rel=0.01)
    assert parts["zero2"]["optimizer state"] == pytest.approx(12 * made.parameters / 4, rel=0.01)


@pytest.mark.parametrize(
    ("more", "part", "phase"),
    [
        (["--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "12"], "activations", "update"),
        (["--max_pixels", "262144"], "activations", "update"),
        (["--max_completion_length", "256"], "kv cache", "generate"),
        (["--optim", "adamw_8bit"], "optimizer state", "update"),
        (["--use_peft", "--dtype", "bfloat16"], "weights", "update"),
        (["--use_peft", "--dtype", "bfloat16", "--load_in_4bit"], "weights", "update"),
    ],
    ids=lambda value: value[0][2:] if isinstance(value, list) else value,
)
def test_what_should_save_memory_does(more, part, phase):
    before, after = (plan_of(SEVEN_B + extra)[1].memory for extra in ([], more))
    assert getattr(after, phase)[part] < 0.8 * getattr(before, phase)[part]


def test_sharing_prompts_saves_memory_in_both_phases_and_off_is_as_it_was():
    flags = [*SEVEN_B, "--use_peft", "--dtype", "bfloat16", "--per_device_train_batch_size", "12"]
    flags += ["--gradient_accumulation_steps", "2"]
    on, off = (plan_of([*flags, "--shared_prefix", wish])[1] for wish in ("auto", "off"))
    assert on.why_not_shared is None
    assert off.why_not_shared == "shared_prefix is off"
    image = 5348 * 1176 * 4
    # 24 pairs of one question: its two prompts go in once each, and a micro-batch holds one of them.
    assert (on.memory.update["images"], off.memory.update["images"]) == (image, 12 * image)
    # While the last tokens are sampled, which takes most: TRL's `generate` still holds the images of all 12 rows.
    assert "images" not in on.memory.generate
    assert off.memory.generate["images"] == 12 * image
    assert on.memory.update["activations"] < 0.8 * off.memory.update["activations"]
    assert on.memory.update["logits"] == off.memory.update["logits"]
    assert on.memory.peak < 0.8 * off.memory.peak


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ([], None),
        (["--num_variants", "1"], "plain GRPO"),
        (["--num_variants", "1", "--shared_prefix", "on"], None),
        (["--attn_implementation", "flash_attention_2"], None),
        (["--attn_implementation", "paged|sdpa"], "not known to compute what sdpa computes"),
        (["--shared_prefix", "off"], "off"),
        (["--torch_compile", "True"], "torch_compile compiles anew"),
        (["--neftune_noise_alpha", "5"], "neftune_noise_alpha depends on the length of a row"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_plan_says_why_rows_do_not_share(more, reason):
    found = plan_of([*SEVEN_B, *more])[1]
    assert found.why_not_shared is None if reason is None else reason in found.why_not_shared
    assert found.micro_batch.is_packed == (reason is None)


def test_the_faster_micro_batch_holds_a_prompts_pairs_together_and_leaves_room():
    flags = [*SEVEN_B, "--use_peft", "--dtype", "bfloat16", "--per_device_train_batch_size", "2"]
    flags += ["--gradient_accumulation_steps", "12", "--max_completion_length", "256"]
    planner, made, settings = plan_of(flags)
    assert faster(planner, settings, made) is None, "nobody knows what the card holds"
    planner.card_bytes = 80 * GIB
    best = faster(planner, settings, made)
    assert best.flags.startswith("--per_device_train_batch_size 12 --gradient_accumulation_steps 2 ")
    again = planner.plan(*parse_run([*flags, *best.flags.split()], None, planned_config(1)), Sharding())
    assert again.memory.peak == best.peak > made.memory.peak
    assert again.batch.questions_per_step == made.batch.questions_per_step
    share = (
        1 - again.micro_batch.tokens * again.batch.micro_batches / made.micro_batch.tokens / made.batch.micro_batches
    )
    assert f"{share:.0%} fewer tokens" in best.effect
    planner.card_bytes = int(best.peak / 0.9) - GIB // 10  # too tight for 12
    assert faster(planner, settings, made).flags.startswith("--per_device_train_batch_size 6 ")
    planner.card_bytes = 80 * GIB
    best_settings = settings_of(*parse_run([*flags, *best.flags.split()], None, planned_config(1)))
    assert faster(planner, best_settings, again) is None
    off = planner.plan(*parse_run([*flags, "--shared_prefix", "off"], None, planned_config(1)), Sharding())
    assert faster(planner, settings, off) is None


def test_checkpointing_saves_most_of_the_activations():
    on, off = (
        plan_of([*SEVEN_B, "--gradient_checkpointing", flag])[1].memory.update["activations"]
        for flag in ("True", "False")
    )
    assert off > 5 * on


def test_vllm_takes_its_share_unless_it_sleeps():
    flags = [*SEVEN_B, "--use_vllm", "--vllm_mode", "colocate", "--vllm_gpu_memory_utilization", "0.4"]
    _, awake, _ = plan_of(flags, card=80)
    _, asleep, _ = plan_of([*flags, "--vllm_enable_sleep_mode"], card=80)
    _, server, _ = plan_of([*SEVEN_B, "--use_vllm", "--vllm_mode", "server"], card=80)
    assert awake.memory.update["vllm"] == int(0.4 * 80 * GIB)
    assert "vllm" not in asleep.memory.update
    assert "vllm" not in server.memory.generate
    assert "kv cache" not in server.memory.generate


def test_advice_that_changes_the_optimizer_step_says_so():
    # 14 questions per generation and per step: 7 go with the same step, 3 do not.
    flags = [*SEVEN_B[:6], "--use_peft", "--num_generations", "4", "--dtype", "bfloat16"]
    flags += ["--max_completion_length", "2048"]
    flags += ["--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "56"]
    planner, made, settings = plan_of(flags)
    assert made.batch.questions_per_step == 14
    sizes = ({"generation_batch_size": 56}, {"generation_batch_size": 24, "gradient_accumulation_steps": 60})
    words = [" ".join(f"--{name} {value}" for name, value in size.items()) for size in sizes]
    seven, three = (planner.plan_settings({**settings, **size}, Sharding()).memory.peak for size in sizes)
    for enough, advised in (
        (seven, (words[0], "fewer questions per generation")),
        (three, (words[1], "fewer questions per generation; an optimizer step of 15 questions, not 14")),
    ):
        planner.card_bytes = enough
        made = planner.plan_settings(settings, Sharding())
        assert advised in [(one.flags, one.effect) for one in advise(planner, settings, made)]


def test_quantised_weights_are_not_cut_up():
    for kind in ("fsdp2", "zero3"):
        with pytest.raises(UserError, match="load_in_4bit does not go with"):
            plan_of([*SEVEN_B, "--use_peft", "--load_in_4bit"], gpus=2, sharding=Sharding(kind, 2))


def test_advice_is_valid_and_does_what_it_says():
    card = 24
    planner, made, settings = plan_of(SEVEN_B, card=card)
    assert made.fits is False
    advices = advise(planner, settings, made)
    assert advices[0].fits, [dataclasses.asdict(one) for one in advices]
    for advice in advices:
        assert advice.peak < made.memory.peak
        assert ("ten times the learning rate" in advice.effect) == ("--use_peft" in advice.flags)
        if "--accelerate" not in advice.flags:
            _, again, _ = plan_of([*SEVEN_B, *advice.flags.split()], card=card)
            assert (again.memory.peak, again.fits) == (advice.peak, advice.fits)
    fitting = [advice.fits for advice in advices]
    assert fitting == sorted(fitting, reverse=True)
