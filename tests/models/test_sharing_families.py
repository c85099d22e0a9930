"""Which families share prompts, as the plan knows it from a config."""

import pytest
from families import FAMILIES

from r1_sharevl.arguments import parse_run
from r1_sharevl.models.skeleton import build_skeleton
from r1_sharevl.planning.pass_size import why_not_shared
from r1_sharevl.planning.settings import planned_config
from r1_sharevl.shared_prefix.support import why_not


@pytest.mark.parametrize("family", FAMILIES)
def test_the_plan_and_the_trainer_agree_which_families_share(family):
    config, _ = FAMILIES[family]()
    flags = ["--dataset", "d", "--model_name_or_path", "m", "--output_dir", "o", "--num_generations", "4"]
    _, args, model_args = parse_run(
        [*flags, "--per_device_train_batch_size", "8", "--use_cpu", "--bf16", "False"], None, planned_config(1)
    )
    planned, real = why_not_shared(config, args, model_args), why_not(build_skeleton(config))
    assert planned == real or (real is None and "load-balancing" in planned)  # which the model alone does not know
