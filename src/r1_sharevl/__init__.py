"""Share-GRPO (R1-ShareVL, arXiv 2505.16673) on TRL.

The public names are imported on first use, so that `import r1_sharevl` (and with it `r1sharevl --help`) does not pay
for importing torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .advantages import hierarchical_advantages as hierarchical_advantages
    from .config import ShareGRPOConfig as ShareGRPOConfig
    from .data.schema import load_prepared as load_prepared
    from .errors import RunError as RunError
    from .errors import UserError as UserError
    from .evaluation import evaluate as evaluate
    from .question_space import QuestionSpace as QuestionSpace
    from .rewards import accuracy_reward as accuracy_reward
    from .rewards import format_reward as format_reward
    from .trainer import ShareGRPOTrainer as ShareGRPOTrainer

__version__ = "0.1.0"

_HOME_OF = {
    "QuestionSpace": "question_space",
    "ShareGRPOConfig": "config",
    "ShareGRPOTrainer": "trainer",
    "RunError": "errors",
    "UserError": "errors",
    "accuracy_reward": "rewards",
    "evaluate": "evaluation",
    "format_reward": "rewards",
    "hierarchical_advantages": "advantages",
    "load_prepared": "data.schema",
}

__all__ = [
    "QuestionSpace",
    "RunError",
    "ShareGRPOConfig",
    "ShareGRPOTrainer",
    "UserError",
    "__version__",
    "accuracy_reward",
    "evaluate",
    "format_reward",
    "hierarchical_advantages",
    "load_prepared",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
