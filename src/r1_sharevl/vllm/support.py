"""Whether a run can generate with vLLM at all, said before a model is loaded."""

import warnings
from typing import Any

from trl.import_utils import is_vllm_available

from ..errors import UserError


def check_vllm_support(model: Any, *, quantized: bool, tools: bool, mode: str) -> None:
    """Refuse what cannot work, or would train on something else than it shows.

    Args:
        model: Name or model that is about to be trained.
        quantized: Whether the trainer will load it in 4 or 8 bits.
        tools: Whether the run calls tools or has a rollout function of its own.
        mode: `vllm_mode`.

    Raises:
        UserError: vLLM is missing or of a version that TRL does not know, the model is quantized, or tools are to be
            called in colocate mode.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        available = is_vllm_available()
    if not available:
        raise UserError(
            "use_vllm is set but vLLM is not installed: install it as docs/vllm.md says (`pip install "
            '"r1-sharevl[vllm]"`), or leave use_vllm out'
        )
    for warning in caught:
        if "supports vLLM versions" in str(warning.message):
            facts = str(warning.message).split(". We recommend")[0]
            raise UserError(f"use_vllm: {facts}. Install a version in that range, or leave use_vllm out")
    if quantized or getattr(model, "is_loaded_in_4bit", False) or getattr(model, "is_loaded_in_8bit", False):
        # TRL merges the adapter into the 4-bit weights (which rounds them anew at every step, and once more when it
        # takes the adapter out) and sends the packed values without the scales they were packed with.
        raise UserError(
            "use_vllm does not go with a model loaded in 4 or 8 bits: at every step its weights would be rounded anew "
            "and reach vLLM without their scales. Leave out use_vllm, or train LoRA without load_in_4bit/load_in_8bit"
        )
    if tools and mode == "colocate":
        raise UserError(
            "tools, environment_factory and rollout_func cannot be used with use_vllm in vllm_mode 'colocate': the "
            "images in a conversation that goes on would reach vLLM wrong. Use vllm_mode 'server', or no vLLM"
        )
