"""Where a model comes from, as it is told to others: without the paths of the machine and without secrets."""

import hashlib
import json
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..data.staging import MANIFEST
from ..data.writing import write_json

PROVENANCE_FILE = "provenance.json"
MERGE_FILE = "merge.json"
"""Every folder that a merge wrote holds this file; only such a folder may be replaced."""
_PACKAGES = ("r1-sharevl", "trl", "transformers", "peft", "torch", "bitsandbytes")
_SECRETS = frozenset(
    {"token", "hub_token", "hf_token", "push_to_hub_token", "use_auth_token", "api_key", "password", "proxies"}
)
# Where the run's own services are, which is no part of the model.
_ADDRESSES = ("vllm_server_", "vllm_group_", "trackio_")
# These are files and folders by their meaning, whatever they look like.
_PATHS = frozenset(
    {"dataset", "output_dir", "logging_dir", "reward_funcs", "deepspeed", "fsdp_config", "resume_from_checkpoint"}
)
_TEXTS = frozenset({"instruction", "system_prompt"})
_PATH = re.compile(r"(?:[/~\\]|\.{1,2}/|[A-Za-z]:[\\/])[^\n]*")


def record_provenance(run: Path, *, base: str, dataset: str, split: str) -> None:
    """Write down what a run starts from, while it is there to look at.

    Args:
        run: The run folder; gets `provenance.json`.
        base: Folder or Hub id of the model that is trained.
        dataset: Folder of the prepared set.
        split: Split that is trained on.
    """
    write_json(
        run / PROVENANCE_FILE,
        {
            "base_model": {"name": shown_name(base), "on_hub": not Path(base).exists()},
            "data": {"name": shown_name(dataset), "split": split, **_manifest_facts(Path(dataset) / MANIFEST)},
            "versions": package_versions(),
        },
    )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that nobody vouches for; empty where there is no readable one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def shown_name(name: str) -> str:
    """What is told of a model or a folder: a Hub id as it is, of a folder its name alone."""
    is_folder = bool(_PATH.fullmatch(name)) or name.count("/") > 1 or ("/" in name and Path(name).exists())
    return Path(name.replace("\\", "/")).name or Path(name).resolve().name if is_folder else name


def shown_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run as they are told: paths by their names alone, no access tokens, no addresses."""
    return {key: _shown(key, value) for key, value in settings.items() if not _is_private(key, value)}


def package_versions() -> dict[str, str]:
    """Versions of the packages that make a model what it is, of those that are installed."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def _is_private(key: str, value: Any) -> bool:
    # An address may name a user and a password, or a host that nobody else should know.
    address = isinstance(value, str) and "://" in value and key not in _TEXTS | _PATHS
    return address or str(key) in _SECRETS or str(key).startswith(_ADDRESSES)


def _shown(key: str, value: Any) -> Any:
    if isinstance(value, dict):
        return shown_settings(value)
    if isinstance(value, list):
        return [_shown(key, item) for item in value if not _is_private(key, item)]
    if not isinstance(value, str) or key in _TEXTS:
        return value
    if key in _PATHS:
        return Path(value.replace("\\", "/")).name
    return shown_name(value) if "\n" not in value else value


def _manifest_facts(manifest: Path) -> dict[str, Any]:
    try:
        content = manifest.read_bytes()
    except OSError:
        return {}
    facts: dict[str, Any] = {"manifest_sha256": hashlib.sha256(content).hexdigest()}
    parsed = read_json(manifest)
    for key in ("kept", "rejected"):
        counts = parsed.get(key)
        if isinstance(counts, dict):
            facts[key] = {str(name): count for name, count in counts.items() if isinstance(count, int)}
    return facts
