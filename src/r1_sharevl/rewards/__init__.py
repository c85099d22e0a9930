"""Rewards: accuracy, format, and the loading of a user's own."""

from .accuracy import accuracy_reward, is_correct
from .checking import checked_reward
from .extraction import extract_answer
from .format import format_reward
from .loading import load_reward

__all__ = ["accuracy_reward", "checked_reward", "extract_answer", "format_reward", "is_correct", "load_reward"]
