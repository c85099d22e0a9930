"""Makes the gradient of a head that FSDP2 has sharded that of all processes."""

from typing import Any

import torch
from torch.distributed.fsdp import FSDPModule
from transformers import PreTrainedModel


def reduce_gradient_of_sharded_head(model: PreTrainedModel) -> None:
    """Let FSDP2 gather the weight of a model's head for a training pass, and reduce its gradient over the processes.

    TRL's fused head reads the weight of the head but never calls the head, so that FSDP2, which works by the hooks of
    modules, does nothing for it. TRL gathers the weight itself by `DTensor.full_tensor`, whose backward takes each
    shard's gradient from the process that holds the shard: what the other processes' rows say about it is lost.
    Without FSDP2 this changes nothing.
    """

    def gather(network: Any, _: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        head = network.get_output_embeddings()
        if not kwargs.get("fused_lm_head") or not torch.is_grad_enabled() or not isinstance(head, FSDPModule):
            return
        if next(head.parameters()).requires_grad:  # type: ignore[attr-defined]
            head.unshard()  # FSDP2 reduces the gradient and cuts the weight again at the end of the backward pass

    model.register_forward_pre_hook(gather, with_kwargs=True)
