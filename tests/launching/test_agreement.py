"""Settings that do not go with the way the processes were started are refused before a model is loaded."""

import pytest
from trl import ModelConfig

from r1_sharevl.errors import UserError
from r1_sharevl.launching.agreement import check_agreement

FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT"}
ZERO = {"ACCELERATE_USE_DEEPSPEED": "true"}


@pytest.mark.parametrize(
    ("settings", "environment", "message"),
    [
        ({"load_in_4bit": True}, FSDP, "load_in_4bit does not go with FSDP, .*--accelerate ddp"),
        ({"load_in_8bit": True}, FSDP, "load_in_8bit does not go with FSDP"),
        ({"load_in_4bit": True}, {**ZERO, "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}, "does not go with DeepSpeed ZeRO-3"),
        ({}, {**FSDP, "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT"}, "SHARDED_STATE_DICT.*set FULL_STATE_DICT"),
    ],
)
def test_what_cannot_work_is_refused(settings, environment, message):
    with pytest.raises(UserError, match=message):
        check_agreement(ModelConfig(**settings), environment)


def test_what_works_is_not():
    for environment in ({}, {**ZERO, "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"}):
        check_agreement(ModelConfig(load_in_4bit=True), environment)
    check_agreement(ModelConfig(), FSDP)
    check_agreement(ModelConfig(), {**ZERO, "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"})
