"""Find a reward function by its name, dotted path or file."""

import difflib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from ..errors import UserError
from .accuracy import accuracy_reward
from .checking import RewardFunction, checked_reward
from .format import format_reward

BUILT_IN: dict[str, RewardFunction] = {
    "accuracy": accuracy_reward,
    "accuracy_reward": accuracy_reward,
    "format": format_reward,
    "format_reward": format_reward,
}


def load_reward(spec: str) -> RewardFunction:
    """Load a reward function.

    Args:
        spec: A built-in name (`accuracy_reward` or `accuracy`, `format_reward` or `format`), a dotted path
            (`package.module.function`; the current folder is searched too), or `path/to/file.py:function`.

    Returns:
        The function. A user's own is wrapped by `checked_reward`.

    Raises:
        UserError: There is no such name, module, file or function, the user's code fails to load, or what was named
            cannot be called. The message says what was tried.
    """
    spec = spec.strip()
    if spec in BUILT_IN:
        return BUILT_IN[spec]
    path, colon, name = spec.rpartition(":")
    if path.endswith(".py"):
        return _function_of(_module_from_file(path, spec), name, path, spec)
    if spec.endswith(".py"):
        raise UserError(f"reward '{spec}': name the function in the file, as in {spec}:my_reward")
    module_name, _, name = (path, colon, name) if colon else spec.rpartition(".")
    if not module_name or not name:
        raise UserError(
            f"reward '{spec}' is not built in{_nearest(spec, BUILT_IN)}: use one of {', '.join(BUILT_IN)}, "
            "package.module.function or path/to/file.py:function"
        )
    return _function_of(_module_by_name(module_name, spec), name, f"module {module_name}", spec)


def _module_from_file(path: str, spec: str) -> ModuleType:
    file = Path(path).expanduser()
    if not file.is_file():
        neighbours = [entry.name for entry in file.parent.glob("*.py")] if file.parent.is_dir() else []
        raise UserError(f"reward '{spec}': there is no file {file.absolute()}{_nearest(file.name, neighbours)}")
    # Two files of the same name must not replace each other, so the module's name holds the whole path.
    module_name = f"r1_sharevl_user_reward:{file.resolve()}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    module_spec = importlib.util.spec_from_file_location(module_name, file)
    if module_spec is None or module_spec.loader is None:
        raise UserError(f"reward '{spec}': {file} cannot be read as Python source")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_name] = module  # dataclasses and pickle look a module up here while it loads
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[module_name]
        raise UserError(f"reward '{spec}': {file} failed to load: {_one_line(error)}") from error
    return module


def _module_by_name(module_name: str, spec: str) -> ModuleType:
    if module_name.startswith("."):
        raise UserError(f"reward '{spec}': write the module's full path, without a leading dot")
    # A console script does not have the current folder on its path, where a user's own modules lie.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise UserError(
                f"reward '{spec}': there is no module {error.name} in the current folder or among the "
                "installed packages"
            ) from error
        raise UserError(f"reward '{spec}': module {module_name} failed to load: {_one_line(error)}") from error
    except Exception as error:
        raise UserError(f"reward '{spec}': module {module_name} failed to load: {_one_line(error)}") from error


def _function_of(module: ModuleType, name: str, where: str, spec: str) -> RewardFunction:
    if not hasattr(module, name):
        functions = [key for key, value in vars(module).items() if inspect.isroutine(value)]
        raise UserError(f"reward '{spec}': there is no function '{name}' in {where}{_nearest(name, functions)}")
    function = getattr(module, name)
    if not callable(function):
        raise UserError(f"reward '{spec}': '{name}' in {where} is a {type(function).__name__}, not a function")
    is_built_in = any(function is built_in for built_in in BUILT_IN.values())
    return function if is_built_in else checked_reward(function)


def _nearest(name: str, candidates: Iterable[str]) -> str:
    """Suggest the candidate that is spelt most like `name`, or nothing."""
    matches = difflib.get_close_matches(name, list(candidates), n=1)
    return f" (did you mean '{matches[0]}'?)" if matches else ""


def _one_line(error: Exception) -> str:
    """Describe an error of the user's code in one line, with its line number where it has one."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} (line {error.lineno})"
    return " ".join(f"{type(error).__name__}: {error}".split())
