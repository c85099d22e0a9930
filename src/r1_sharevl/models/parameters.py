"""How many parameters a model has, and how many of them are trained."""

from typing import Any, NamedTuple

from ..errors import UserError


class ParameterCounts(NamedTuple):
    """Numbers of parameters; a weight packed into 4 bits counts as one, and so does one that two layers share."""

    trainable: int
    total: int

    @property
    def share(self) -> float:
        """Trainable parameters as a share of all."""
        return self.trainable / self.total


def parameter_counts(model: Any) -> ParameterCounts:
    """Count the parameters of a loaded model.

    Args:
        model: A model of transformers, or peft's wrapper around one.

    Raises:
        UserError: Nothing is trainable.
    """
    if hasattr(model, "get_nb_trainable_parameters"):  # peft
        counts = ParameterCounts(*model.get_nb_trainable_parameters())
    else:
        counts = ParameterCounts(_number(model, only_trainable=True), _number(model, only_trainable=False))
    if counts.trainable == 0:
        raise UserError(
            f"none of the model's {counts.total:,} parameters is trainable: give --use_peft with other "
            "lora_target_modules, or leave it out for full fine-tuning"
        )
    return counts


def _number(model: Any, *, only_trainable: bool) -> int:
    # DeepSpeed ZeRO-3 leaves tensors without elements, which know how many they had; transformers counts them as 0.
    cut = (p for p in model.parameters() if p.numel() == 0 and (p.requires_grad or not only_trainable))
    whole: int = model.num_parameters(only_trainable=only_trainable)
    return whole + sum(getattr(parameter, "ds_numel", 0) for parameter in cut)
