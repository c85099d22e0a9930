"""Putting a folder on the Hugging Face Hub, as one commit: nobody ever sees half of it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
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

from .errors import RunError, UserError

_NAME = re.compile(r"(?:[\w.-]+/)?[\w.-]+", re.ASCII)
# What a new repository may hold without being anybody's work.
_EMPTY = frozenset({".gitattributes", "README.md", "LICENSE", "LICENSE.md"})
_READ_ONLY_ROLES = frozenset({"read", "no_access"})
# What the server says is shown, but it is not ours: it is kept short.
_MESSAGE_CHARACTERS = 200
_USERS_CARE = {
    401: "the token is not valid: log in with `hf auth login`, or set HF_TOKEN",
    402: "the account's storage or plan does not allow it",
    403: "the token may not write there: make one with write access at https://huggingface.co/settings/tokens",
    404: "there is no such repository, or the token may not see it",
    409: "another upload to it is going on, or it changed meanwhile: wait for it",
    413: "it is larger than the account allows",
}


@dataclass(frozen=True)
class RepoKind:
    """A kind of repository that we push.

    Attributes:
        repo_type: `dataset` or `model`.
        name: What a folder of this kind is called, such as "prepared set".
        markers: Files of which one at least is in every repository of this kind; others are never written to.
        replaced: Matches files of an earlier push, which a new one removes where it has no such file itself.
    """

    repo_type: str
    name: str
    markers: frozenset[str]
    replaced: re.Pattern[str]


class PushError(RunError):
    """The Hub or the way to it failed; the message says in one line where the folder is and how to push it again."""


def check_can_push(kind: RepoKind, repo_id: str, private: bool = False, token: str | None = None) -> str:
    """Find out before hours of work whether a folder could be pushed.

    Args:
        kind: What would be pushed.
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
    try:
        return _checked_repo(HfApi(token=token), kind, repo_id, private)
    except UserError:
        raise
    except Exception as error:
        raise _explained(error, f"--push-to-hub {repo_id}") from error


def push_files(
    kind: RepoKind,
    files: Mapping[str, Path | bytes],
    repo_id: str,
    private: bool,
    *,
    safe: str,
    token: str | None = None,
) -> str:
    """Upload files as one commit; what an earlier push left there is replaced in the same commit.

    Files that the Hub has already, from an earlier push or one that was cut, are not sent again.

    Args:
        kind: What is pushed.
        files: Path in the repository to file, or to the content itself.
        repo_id: `owner/name`, or `name` for the user's own; it is made where there is none.
        private: Whether it shall be private.
        safe: Ends the message of a failure: what is safe, and how to go on.
        token: Access token; None takes the one of the login or HF_TOKEN.

    Returns:
        The repository's address.

    Raises:
        UserError: As for `check_can_push`.
        PushError: The Hub or the way to it failed. Nothing has changed for those who read the repository.
    """
    api = HfApi(token=token)
    try:
        repo_id = _checked_repo(api, kind, repo_id, private)
        api.create_repo(repo_id, repo_type=kind.repo_type, private=True if private else None, exist_ok=True)
        there = api.list_repo_files(repo_id, repo_type=kind.repo_type)
        additions = [CommitOperationAdd(name, content) for name, content in files.items()]
        # Weights or shards of an earlier push would be read together with the new ones.
        old = [name for name in there if name not in files and kind.replaced.fullmatch(name)]
        api.create_commit(
            repo_id,
            [*additions, *(CommitOperationDelete(name) for name in old)],
            commit_message=f"{kind.name.capitalize()} by r1sharevl",
            repo_type=kind.repo_type,
        )
    except UserError as error:
        raise UserError(f"{error}; {safe}") from error
    except Exception as error:
        explained = _explained(error, f"{repo_id} could not be pushed")
        raise type(explained)(f"{explained}; {safe}") from error
    return f"{api.endpoint}/{'datasets/' if kind.repo_type == 'dataset' else ''}{repo_id}"


def _checked_repo(api: HfApi, kind: RepoKind, repo_id: str, private: bool) -> str:
    if not _NAME.fullmatch(repo_id):
        raise UserError(f"--push-to-hub: {repo_id!r} is no {kind.repo_type}'s name: write owner/name")
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
        repo: Any = api.repo_info(repo_id, repo_type=kind.repo_type)
    except RepositoryNotFoundError:
        return repo_id
    names = {file.rfilename for file in repo.siblings or ()}
    if names - _EMPTY and not kind.markers & names:
        raise UserError(
            f"--push-to-hub {repo_id}: exists and is no {kind.name}, so it is not replaced: choose another name"
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
