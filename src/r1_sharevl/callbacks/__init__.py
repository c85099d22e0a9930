"""What a training run does beside training: lines and curves to follow it by, and its end before the last step."""

from .collapse import CollapseStop
from .curves import CurveDrawer
from .metrics_log import MetricsLog
from .model_card import CardWriter
from .progress import SUMMARY_KEYS, ProgressBar, ProgressLines
from .stopping import SignalStop, how_to_resume
from .tensorboard import continued_tensorboard

__all__ = [
    "SUMMARY_KEYS",
    "CardWriter",
    "CollapseStop",
    "CurveDrawer",
    "MetricsLog",
    "ProgressBar",
    "ProgressLines",
    "SignalStop",
    "continued_tensorboard",
    "how_to_resume",
]
