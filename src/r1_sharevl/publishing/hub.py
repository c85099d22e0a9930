"""Putting a trained or merged model on the Hugging Face Hub, as one commit, without what is only of use here."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import yaml

from .. import hub_commit
from ..hub_commit import RepoKind
from ..models.checkpoints import ADAPTER_CONFIG
from ..run_folder import CONFIG_FILE, read_settings
from .provenance import MERGE_FILE, PROVENANCE_FILE, read_json, shown_name, shown_settings

_WEIGHTS = r"(?:adapter_)?model[\w-]*\.safetensors(?:\.index\.json)?"
_FILES = re.compile(
    rf"{_WEIGHTS}|[\w-]*config\.json|tokenizer[\w.-]*|special_tokens_map\.json|added_tokens\.json|vocab\.\w+|merges\.txt"
    rf"|[\w-]+\.jinja|README\.md|plots/[\w-]+\.png|{re.escape(CONFIG_FILE)}|{re.escape(PROVENANCE_FILE)}"
    rf"|{re.escape(MERGE_FILE)}"
)
"""What others need: not checkpoints, optimizer states, logs, completions and pickled arguments."""
MODEL = RepoKind(
    repo_type="model",
    name="model of r1sharevl",
    markers=frozenset({PROVENANCE_FILE, MERGE_FILE}),
    replaced=re.compile(rf"{_WEIGHTS}|{re.escape(ADAPTER_CONFIG)}|plots/[\w-]+\.png"),
)


def check_can_push(repo_id: str, private: bool = False, token: str | None = None) -> str:
    """Find out before hours of work whether a model could be pushed.

    Args:
        repo_id: `owner/name`, or `name` for the user's own.
        private: Whether it shall be private.
        token: Access token; None takes the one of the login or HF_TOKEN.

    Returns:
        The full `owner/name`.

    Raises:
        UserError: The name is no valid one, there is no token or it may not write there, or the repository exists and
            holds something else, or is public while `private` is asked for.
        PushError: The Hub cannot be asked.
    """
    return hub_commit.check_can_push(MODEL, repo_id, private, token)


def push_model(folder: Path, repo_id: str, private: bool = False, token: str | None = None) -> str:
    """Upload the model of a run folder or of a merged folder; an earlier push is replaced in the same commit.

    Paths of this machine and access tokens are taken out of the settings that are sent.

    Args:
        folder: Run folder or merged model, with its card.
        repo_id: `owner/name`, or `name` for the user's own; it is made where there is none.
        private: Whether it shall be private.
        token: Access token; None takes the one of the login or HF_TOKEN.

    Returns:
        The model's address.

    Raises:
        UserError: As for `check_can_push`.
        PushError: The Hub or the way to it failed. Nothing has changed for those who read the repository.
    """
    again = ["r1sharevl", "card", str(folder), "--push-to-hub", repo_id, *(["--private"] if private else [])]
    safe = f"the model is safe at {folder}; once that is mended, push it again with `{shlex.join(again)}`"
    return hub_commit.push_files(MODEL, files_to_push(folder), repo_id, private, safe=safe, token=token)


def files_to_push(folder: Path) -> dict[str, Path | bytes]:
    """The files of a model that others need: path in the repository to file, or to the content to send instead."""
    files: dict[str, Path | bytes] = {}
    for path in sorted((*folder.glob("*"), *(folder / "plots").glob("*"))):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not path.is_symlink() and _FILES.fullmatch(name):
            files[name] = path
    if CONFIG_FILE in files:
        files[CONFIG_FILE] = yaml.safe_dump(shown_settings(read_settings(folder)), sort_keys=True).encode()
    if ADAPTER_CONFIG in files:
        files[ADAPTER_CONFIG] = _shown_adapter_config(read_json(folder / ADAPTER_CONFIG))
    # Without it, a repository would be taken for somebody else's at the next push.
    if not MODEL.markers & files.keys():
        files[PROVENANCE_FILE] = b"{}\n"
    return files


def _shown_adapter_config(config: dict[str, Any]) -> bytes:
    base = config.get("base_model_name_or_path")
    shown = config | {"base_model_name_or_path": shown_name(base)} if isinstance(base, str) else config
    return (json.dumps(shown, indent=2, sort_keys=True) + "\n").encode()
