"""How much of a micro-batch is shared: the counts against the real layout, micro-batches and packing."""

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from r1_sharevl.arguments import parse_run
from r1_sharevl.layout import GroupLayout
from r1_sharevl.planning.batch import plan_batch
from r1_sharevl.planning.pass_size import pass_size
from r1_sharevl.planning.prompt_size import ImageSize, PromptSize
from r1_sharevl.planning.settings import planned_config
from r1_sharevl.rollouts.micro_batches import micro_batches
from r1_sharevl.shared_prefix.packing import pack

PROMPT = PromptSize(5, 1, ImageSize(4, 16, 64), "made up")
LENGTH = 6


def rows_of_a_process(args, process):
    """A generation batch's slice, as the trainer has it: the prompt's number stands in its first token."""
    layout = GroupLayout(args.num_variants, args.num_generations // args.num_variants, share=args.share_trajectories)
    size = args.generation_batch_size // args.world_size
    places = range(process * size, (process + 1) * size)
    each = layout.rows_per_question
    numbers = [place // each * args.num_variants + layout.prompt(place % each) for place in places]
    prompts = torch.tensor(numbers)[:, None] * 10 + torch.arange(PROMPT.tokens)
    return {
        "prompt_ids": prompts,
        "prompt_mask": torch.ones_like(prompts),
        "image_index": torch.tensor(numbers)[:, None],
        "completion_ids": torch.ones(size, LENGTH, dtype=torch.long),
    }


@settings(deadline=None, max_examples=60)
@given(
    variants=st.integers(1, 3),
    each=st.integers(1, 4),
    share=st.booleans(),
    micro_batch=st.integers(1, 12),
    processes=st.integers(1, 3),
    questions=st.integers(1, 2),
)
@example(variants=1, each=6, share=True, micro_batch=4, processes=1, questions=2)  # a micro-batch across prompts
@example(variants=2, each=3, share=True, micro_batch=4, processes=3, questions=1)  # a process with half a question
def test_no_micro_batch_is_larger_than_planned_and_one_can_be_as_large(
    variants, each, share, micro_batch, processes, questions
):
    rows = variants * each * (variants if share else 1)
    quantum = math.lcm(rows, micro_batch * processes, (variants if share else 1) * processes)
    pairs = -(-questions * rows // quantum) * quantum
    if variants * each < 2 or pairs > 400:
        return  # GRPO needs two responses; the rest takes too long
    flags = ["--dataset", "d", "--model_name_or_path", "m", "--output_dir", "o", "--shared_prefix", "on"]
    flags += ["--num_variants", str(variants), "--num_generations", str(variants * each)]
    flags += ["--share_trajectories", str(share), "--per_device_train_batch_size", str(micro_batch)]
    flags += ["--generation_batch_size", str(pairs), "--max_completion_length", str(LENGTH), "--use_cpu"]
    _, args, _ = parse_run([*flags, "--bf16", "False"], None, planned_config(processes))
    batch = plan_batch(args)
    size = pass_size(batch, PROMPT, args, shares=True, needs_mask=True, hidden_size=64)
    longest = 0
    for process in range(processes):
        made = rows_of_a_process(args, process)
        assert len(made["prompt_ids"].unique(dim=0)) <= batch.prompts_per_process
        for part in micro_batches(made, args.steps_per_generation):
            ids = torch.cat([part["prompt_ids"], part["completion_ids"]], dim=1)
            packed = pack(
                ids,
                torch.ones_like(ids),
                LENGTH,
                part["image_index"],
                lambda prompt, _: torch.arange(len(prompt))[None],
            )
            assert len(packed.spans) <= batch.prompts_per_micro_batch
            assert len(packed.scored) == size.scored
            longest = max(longest, len(packed.tokens))
    assert longest <= size.tokens
    if micro_batch % batch.pairs_per_prompt == 0 or batch.pairs_per_prompt % micro_batch == 0:
        whole = args.generation_batch_size // processes % args.rows_per_question == 0
        assert longest == size.tokens or not whole, "sizes that fit are counted exactly"


@pytest.mark.parametrize(("wish", "is_packed"), [("auto", False), ("on", True), ("off", False)])
def test_one_pair_at_a_time_is_a_row_by_itself_unless_packing_is_demanded(wish, is_packed):
    flags = ["--dataset", "d", "--model_name_or_path", "m", "--output_dir", "o", "--shared_prefix", wish]
    flags += ["--num_generations", "4", "--per_device_train_batch_size", "1", "--gradient_accumulation_steps", "8"]
    _, args, _ = parse_run([*flags, "--use_cpu", "--bf16", "False"], None, planned_config(1))
    args.max_completion_length = LENGTH
    size = pass_size(plan_batch(args), PROMPT, args, shares=wish != "off", needs_mask=True, hidden_size=64)
    assert size.is_packed is is_packed
    assert size.tokens == PROMPT.tokens + LENGTH - is_packed
    assert size.padded_to == 0
    assert size.patches == 16


def test_padded_rows_have_a_mask_and_packed_ones_do_not():
    flags = ["--dataset", "d", "--model_name_or_path", "m", "--output_dir", "o", "--num_generations", "4"]
    flags += ["--per_device_train_batch_size", "8", "--use_cpu", "--bf16", "False"]
    _, args, _ = parse_run(flags, None, planned_config(1))
    args.max_completion_length = LENGTH
    batch = plan_batch(args)
    rows, packed = (
        pass_size(batch, PROMPT, args, shares=shares, needs_mask=True, hidden_size=64) for shares in (False, True)
    )
    assert (rows.padded_to, packed.padded_to) == (PROMPT.tokens + LENGTH, 0)
    assert (rows.tokens, packed.tokens) == (8 * 15, 2 * 8 + 8 * 6)
    assert packed.row_tokens == rows.tokens
    assert packed.seen == 8 * (8 + 6)  # every response sees its prompt without the last token, and itself
    assert (rows.pixel_bytes, packed.pixel_bytes) == (8 * 64, 2 * 64)
