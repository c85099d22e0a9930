"""Putting a prepared set on the Hugging Face Hub, as one commit: nobody ever sees half of it."""

import re
import shlex
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from ..data.staging import MANIFEST
from ..errors import RunError, UserError

_NAME = re.compile(r"(?:[\w.-]+/)?[\w.-]+", re.ASCII)
# What a new dataset may hold without being anybody's work.
_EMPTY = frozenset({".gitattributes", "README.md", "LICENSE", "LICENSE.md"})
# What prep writes, and so what a new push may remove.
_OURS = re.compile(r"data/[^/]+\.parquet|preview/[^/]+|rejected\.jsonl|rejected_wordings\.jsonl")
_READ_ONLY_ROLES = frozenset({"read", "no_access"})
# What the server says is shown, but it is not ours: it is kept short.
_MESSAGE_CHARACTERS = 200
_USERS_CARE = {
    401: "the token is not valid: log in with `hf auth login`, or set HF_TOKEN",
    402: "the account's storage or plan does not allow it",
    403: "the token may not write there: make one with write access at https://huggingface.co/settings/tokens",
    404: "there is no such repository, or the token may not see it",
    409: "another upload to it is going on, or it changed meanwhile: wait for it",
    413: "the set is larger than the account allows",
}


class PushError(RunError):
    """The Hub or the way to it failed; the message says in one line where the set is and how to push it again."""


def check_can_push(repo_id: str, private: bool = False) -> str:
    """Find out before hours of work whether a set could be pushed.

    Args:
        repo_id: `owner/name`, or `name` for the user's own.
        private: Whether it shall be private.

    Returns:
        The full `owner/name`.

    Raises:
        UserError: The name is no valid one, there is no token or it may not write there, or the dataset exists and is
            no prepared set, or is public while `private` is asked for.
        PushError: The Hub cannot be asked.
    """
    try:
        return _checked_repo(HfApi(), repo_id, private)
    except UserError:
        raise
    except Exception as error:
        raise _explained(error, f"--push-to-hub {repo_id}") from error


def push_folder(folder: Path, repo_id: str, private: bool = False) -> str:
    """Upload a prepared set; what an earlier push left there is replaced in the same commit.

    Files that the Hub has already, from an earlier push or one that was cut, are not sent again.

    Args:
        folder: The set.
        repo_id: `owner/name`, or `name` for the user's own; it is made where there is none.
        private: Whether it shall be private.

    Returns:
        The dataset's address.

    Raises:
        UserError: As for `check_can_push`.
        PushError: The Hub or the way to it failed. Nothing has changed for those who read the dataset.
    """
    api = HfApi()
    command = ["hf", "upload", repo_id, str(folder), ".", "--repo-type", "dataset", *(["--private"] if private else [])]
    safe = f"the set is safe at {folder}; once that is mended, push it again with `{shlex.join(command)}`"
    try:
        repo_id = _checked_repo(api, repo_id, private)
        api.create_repo(repo_id, repo_type="dataset", private=True if private else None, exist_ok=True)
        there = api.list_repo_files(repo_id, repo_type="dataset")
        files = {
            path.relative_to(folder).as_posix(): path
            for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.is_symlink()
        }
        additions = [CommitOperationAdd(name, path) for name, path in files.items()]
        # Shards of a larger set would be read together with the new ones.
        old = [name for name in there if name not in files and _OURS.fullmatch(name)]
        api.create_commit(
            repo_id,
            [*additions, *(CommitOperationDelete(name) for name in old)],
            commit_message="Prepared set by r1sharevl",
            repo_type="dataset",
        )
    except UserError as error:
        raise UserError(f"{error}; {safe}") from error
    except Exception as error:
        explained = _explained(error, f"{repo_id} could not be pushed")
        raise type(explained)(f"{explained}; {safe}") from error
    return f"{api.endpoint}/datasets/{repo_id}"


def _checked_repo(api: HfApi, repo_id: str, private: bool) -> str:
    if not _NAME.fullmatch(repo_id):
        raise UserError(f"--push-to-hub: {repo_id!r} is no dataset's name: write owner/name")
    try:
        account = api.whoami()
    except LocalTokenNotFoundError as error:
        raise UserError(
            f"--push-to-hub {repo_id}: there is no token: log in with `hf auth login`, or set HF_TOKEN"
        ) from error
    owner, _, name = repo_id.rpartition("/")
    repo_id = f"{owner or account['name']}/{name}"
    _check_may_write(account, repo_id)
    try:
        repo = api.dataset_info(repo_id)
    except RepositoryNotFoundError:
        return repo_id
    names = {file.rfilename for file in repo.siblings or ()}
    if names - _EMPTY and MANIFEST not in names:
        raise UserError(
            f"--push-to-hub {repo_id}: exists and is no prepared set, so it is not replaced: choose another name"
        )
    if private and not repo.private:
        raise UserError(
            f"--push-to-hub {repo_id}: exists and is public: make it private in its settings, choose another name, or "
            "leave --private out"
        )
    return repo_id


def _check_may_write(account: dict[str, Any], repo_id: str) -> None:
    owner = repo_id.partition("/")[0]
    roles = {group["name"]: group.get("roleInOrg") for group in account.get("orgs") or ()}
    if owner != account["name"] and owner not in roles:
        raise UserError(
            f"--push-to-hub {repo_id}: the token belongs to {account['name']}, who is not in {owner}: use a name that "
            f"begins with {account['name']}/ or another token"
        )
    token = (account.get("auth") or {}).get("accessToken") or {}
    if token.get("role") in _READ_ONLY_ROLES or roles.get(owner) in _READ_ONLY_ROLES:
        raise UserError(
            f"--push-to-hub {repo_id}: the token may only read: make one with write access at "
            "https://huggingface.co/settings/tokens"
        )


def _explained(error: Exception, where: str) -> UserError | PushError:
    """Say what went wrong, as the user's mistake where it is one."""
    # Uploads of single files wrap what happened.
    cause: BaseException = error
    while not isinstance(cause, HfHubHTTPError) and cause.__cause__ is not None:
        cause = cause.__cause__
    said = " ".join(str(getattr(cause, "server_message", None) or cause).split())[:_MESSAGE_CHARACTERS]
    if isinstance(cause, OfflineModeIsEnabled):
        return UserError(f"{where}: HF_HUB_OFFLINE is set: unset it")
    if isinstance(cause, HFValidationError):
        return UserError(f"{where}: {said}")
    if isinstance(cause, HfHubHTTPError):
        status = cause.response.status_code
        if status in _USERS_CARE:
            return UserError(f"{where}: {_USERS_CARE[status]} (HTTP {status})")
        return PushError(f"{where}: the Hub answered HTTP {status}: {said}")
    return PushError(f"{where}: {type(cause).__name__}: {said}")
