"""The question space: the prompts of a question that mean the same, by other wordings and by transformed images."""

from .space import Prompt, QuestionSpace
from .transforms import TRANSFORMS, ImageTransform, to_rgb

__all__ = ["TRANSFORMS", "ImageTransform", "Prompt", "QuestionSpace", "to_rgb"]
