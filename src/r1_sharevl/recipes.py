"""The packaged recipes: settings of runs (`configs/*.yaml`) and of launches (`configs/accelerate/*.yaml`)."""

import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from .errors import UserError

_CARDS = re.compile(r"_(?:(?P<count>\d+)x)?(?P<gigabytes>\d+)gb$")


@dataclass(frozen=True)
class Cards:
    """The GPUs that a recipe was written for, as its name says (`..._24gb`, `..._8x80gb`).

    Attributes:
        count: GPUs.
        gigabytes: Memory of each, as on the card's label.
    """

    count: int
    gigabytes: int


def find_recipe(name_or_path: str) -> Path:
    """Return the file of a run's settings: a path wins over the name of a packaged recipe.

    Raises:
        UserError: It is neither.
    """
    return _find(name_or_path, "", "--config")


def find_launch_recipe(name_or_path: str) -> Path:
    """Return accelerate's config file: a path wins over the name of a packaged one.

    Raises:
        UserError: It is neither.
    """
    return _find(name_or_path, "accelerate", "--accelerate")


def recipe_names(folder: str = "") -> list[str]:
    """List the packaged recipes, sorted: of runs, or with `folder="accelerate"` of launches."""
    return sorted(path.stem for path in _folder(folder).glob("*.yaml"))


def cards_of(recipe: str) -> Cards | None:
    """Read from a recipe's name which GPUs it was written for; None where the name says nothing."""
    found = _CARDS.search(recipe)
    return Cards(int(found["count"] or 1), int(found["gigabytes"])) if found else None


def _folder(folder: str) -> Path:
    return Path(str(files("r1_sharevl.configs").joinpath(folder)))


def _find(name_or_path: str, folder: str, flag: str) -> Path:
    path = Path(name_or_path)
    if path.is_file():
        return path
    names = recipe_names(folder)
    if name_or_path in names:
        return _folder(folder) / f"{name_or_path}.yaml"
    if path.is_dir():
        raise UserError(f"{flag} {path}: is a folder, give a YAML file")
    if path.suffix or len(path.parts) > 1:  # it was meant to be a path
        raise UserError(f"config file {path} does not exist")
    raise UserError(f"{flag} {name_or_path}: no such file, and no packaged recipe; the recipes are {', '.join(names)}")
