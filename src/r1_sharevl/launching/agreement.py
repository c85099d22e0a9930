"""Do the settings of a run go with the way its processes were started?"""

import os
from collections.abc import Mapping

from trl import ModelConfig

from ..errors import UserError
from ..models.quantization import check_sharded_quantization


def check_agreement(model: ModelConfig, environment: Mapping[str, str] = os.environ) -> None:
    """Refuse what would fail, or save no model, only after the weights are loaded.

    Args:
        model: The model's settings.
        environment: What accelerate's launcher told this process.

    Raises:
        UserError: Quantised weights would be sharded, or the final model would not be written.
    """
    fsdp = environment.get("ACCELERATE_USE_FSDP") == "true"
    deepspeed = environment.get("ACCELERATE_USE_DEEPSPEED") == "true"
    stage = environment.get("ACCELERATE_DEEPSPEED_ZERO_STAGE")
    check_sharded_quantization(model, "fsdp2" if fsdp else "zero3" if deepspeed and stage == "3" else "ddp")
    if fsdp and environment.get("FSDP_STATE_DICT_TYPE") == "SHARDED_STATE_DICT":
        # transformers' Trainer.save_model writes nothing for it.
        raise UserError(
            "accelerate's config file has fsdp_state_dict_type SHARDED_STATE_DICT, with which no model is written at "
            "the end: set FULL_STATE_DICT"
        )
