"""YAML files of settings that a user writes."""

from pathlib import Path
from typing import Any

import yaml

from .errors import UserError


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a file of `name: value` lines.

    Raises:
        UserError: It does not exist, cannot be read, is no YAML, or holds something else.
    """
    if not path.is_file():
        raise UserError(f"config file {path} does not exist")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds {type(content).__name__}, not a mapping of settings: write `name: value` lines")
    return content
