"""What this machine has for training: packages, GPUs, disk and the Hub, and the recipes that fit."""

import importlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from ..recipes import cards_of, find_recipe, recipe_names

DISTRIBUTION = "r1-sharevl"
State = Literal["ok", "absent", "warning", "broken"]
_GIB = 2**30
_LITTLE_DISK = 50 * 10**9
# A card's label counts more than its driver reports: 44.4 GiB on a 48 GB L40S, 22.1 GiB on a 24 GB A10G.
_LABEL_TO_GIB = 0.9
# A run that is estimated to need a larger share of a card is called tight: the estimate was not held against GPUs yet.
_NOT_TIGHT = 0.9
_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        group: Heading it belongs under.
        name: What was looked at.
        state: "ok"; "absent", for what is optional; "warning"; "broken", for what training needs.
        found: What was found, in one line.
        advice: What to do, or "".
    """

    group: str
    name: str
    state: State
    found: str
    advice: str = ""

    def to_dict(self) -> dict[str, str]:
        """The same as a mapping."""
        return asdict(self)


def diagnose(output_dir: Path = Path("runs"), *, online: bool = False) -> list[Finding]:
    """Look at everything; nothing is downloaded or written.

    Args:
        output_dir: Where runs will be written.
        online: Whether to ask the Hub who the token belongs to; otherwise nothing goes over the network.
    """
    optional = list(_optional())
    quantises = any(finding.name == "bitsandbytes" and finding.state == "ok" for finding in optional)
    recipes = _recipes(gpu_memory(), quantises=quantises)
    return [*_packages(), *_torch(), *optional, *_disk(output_dir), *_hub(online=online), recipes]


def gpu_memory() -> list[int]:
    """Memory of each visible GPU, in bytes."""
    try:
        import torch
    except Exception:  # reported by `_torch`
        return []
    return [torch.cuda.get_device_properties(index).total_memory for index in range(torch.cuda.device_count())]


def fitting_recipes(gpus: list[int]) -> list[str]:
    """Name the packaged recipes written for these GPUs or smaller ones, the largest cards first.

    Args:
        gpus: Memory of each GPU, in bytes.
    """
    fitting = []
    for name in recipe_names():
        cards = cards_of(name)
        if cards is None:
            continue
        enough = [memory for memory in gpus if memory >= _LABEL_TO_GIB * cards.gigabytes * _GIB]
        if len(enough) >= cards.count:
            fitting.append((cards.count * cards.gigabytes, name))
    return [name for _, name in sorted(fitting, key=lambda entry: (-entry[0], entry[1]))]


def tight_recipes(names: list[str], gpus: list[int], *, quantises: bool = True) -> list[str]:
    """Name those of some recipes that leave less than 10 % of these GPUs free, by the plan's estimate.

    Args:
        names: Recipes that fit.
        gpus: Memory of each GPU, in bytes.
        quantises: Whether bitsandbytes works; without it, recipes that quantise are not estimated.
    """
    from ..arguments import parse_run
    from ..models.known_models import known_config
    from ..planning.plan import Planner
    from ..planning.settings import planned_config
    from ..planning.sharding import Sharding

    tight = []
    for name in names:
        cards = cards_of(name)
        if cards is None or ("qlora" in name and not quantises):
            continue
        memory = sorted(gpus, reverse=True)[cards.count - 1]
        if memory * _NOT_TIGHT >= cards.gigabytes * _GIB:
            continue  # written for a smaller card
        parts = parse_run([], find_recipe(name), planned_config(cards.count))
        # From the table: nothing is fetched.
        planner = Planner(*parts, card_bytes=memory, config=known_config(parts[2].model_name_or_path))
        plan = planner.plan(*parts, Sharding("fsdp2", cards.count) if cards.count > 1 else Sharding())
        if plan.memory.peak > memory * _NOT_TIGHT:
            tight.append(name)
    return tight


def _packages() -> Iterator[Finding]:
    group = "Packages"
    try:
        own = importlib.metadata.metadata(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        yield Finding(group, DISTRIBUTION, "broken", "not installed", "pip install . in the repository")
        return
    yield Finding(group, DISTRIBUTION, "ok", own["Version"])
    supported = SpecifierSet(own["Requires-Python"] or "")
    python = platform.python_version()
    good = supported.contains(python, prereleases=True)
    yield Finding(
        group, "python", "ok" if good else "broken", python, "" if good else f"install one that is {supported}"
    )
    needed = [
        requirement for requirement in map(Requirement, own.get_all("Requires-Dist") or []) if _always(requirement)
    ]
    wrong = [finding for requirement in needed if (finding := _out_of_bounds(requirement)) is not None]
    yield from wrong
    if not wrong:
        yield Finding(group, "requirements", "ok", f"all {len(needed)} installed, within their bounds")


def _always(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def _out_of_bounds(requirement: Requirement) -> Finding | None:
    install = f'pip install "{requirement.name}{requirement.specifier}"'
    version = _version(requirement.name)
    if version is None:
        return Finding("Packages", requirement.name, "broken", "not installed", install)
    if not requirement.specifier.contains(version, prereleases=True):
        return Finding("Packages", requirement.name, "broken", f"{version}, needs {requirement.specifier}", install)
    return None


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _torch() -> Iterator[Finding]:
    group = "Torch and GPUs"
    try:
        import torch
        import torchvision  # noqa: F401 (its operators must load beside this torch)
    except Exception as error:  # a broken build raises OSError, RuntimeError, AttributeError, ...
        advice = "install torch and torchvision together, from one index"
        yield Finding(group, "torch", "broken", f"cannot be imported: {_one_line(error)}", advice)
        return
    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    yield Finding(group, "torch", "ok", f"{torch.__version__}, built for {built}")
    driver = _driver()
    count = torch.cuda.device_count()
    if driver is not None and not count:
        advice = "see whether CUDA_VISIBLE_DEVICES hides it, or the driver is older than torch's CUDA"
        yield Finding(group, "driver", "warning", f"{driver}, but torch sees no GPU", advice)
    else:
        yield Finding(group, "driver", "ok" if driver else "absent", driver or "no NVIDIA driver")
    if not count:
        yield Finding(group, "GPU", "absent", "none: only the quickstart is of use on a CPU")
    for index in range(count):
        properties = torch.cuda.get_device_properties(index)
        with torch.cuda.device(index):
            bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        found = f"{properties.name}, {properties.total_memory / _GIB:.1f} GiB, {'bf16' if bf16 else 'no bf16'}"
        advice = "" if bf16 else "give --bf16 false --fp16 true --dtype float16"
        yield Finding(group, f"GPU {index}", "ok" if bf16 else "warning", found, advice)


def _driver() -> str | None:
    try:
        found = re.search(r"Module\D+(\d+\.[\d.]+)", _DRIVER.read_text(encoding="utf-8"))
    except OSError:
        return None
    return found[1] if found else "unknown version"


def _optional() -> Iterator[Finding]:
    group = "Optional packages"
    yield _bitsandbytes(group)
    flash = next(
        (f"{name} {version}" for name in ("flash-attn", "flash-attn-3") if (version := _version(name)) is not None),
        None,
    )
    yield Finding(
        group,
        "flash attention",
        "ok" if flash else "absent",
        flash or "not installed: training uses torch's own attention (sdpa)",
    )
    yield _vllm(group)
    deepspeed = _version("deepspeed")
    yield Finding(
        group,
        "deepspeed",
        "ok" if deepspeed else "absent",
        deepspeed or "not installed",
        "" if deepspeed else 'for zero2 and zero3: pip install "r1-sharevl[deepspeed]"; fsdp2 needs nothing',
    )


def _bitsandbytes(group: str) -> Finding:
    version = _version("bitsandbytes")
    if version is None:
        advice = 'for the QLoRA recipes: pip install "r1-sharevl[quantization]"'
        return Finding(group, "bitsandbytes", "absent", "not installed", advice)
    # In a process of its own: a library for another CUDA can take the whole process with it, and it may ask the Hub for
    # kernels when it is imported.
    code = "from bitsandbytes import cextension; print(type(cextension.lib).__name__)"
    try:
        done = subprocess.run(  # noqa: S603 (this Python, and the line above)
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
            timeout=300,
            check=True,
        )
        library = done.stdout.split()[-1]
    except (subprocess.SubprocessError, IndexError) as error:
        library, why = "", _one_line(error)
    else:
        why = "its native library does not load"
    if not library or "Mock" in library:
        advice = "python -m bitsandbytes says more"
        return Finding(group, "bitsandbytes", "warning", f"{version}, cannot be used: {why}", advice)
    kind = "CUDA library" if library.startswith("Cuda") else "CPU library"
    if kind == "CPU library" and gpu_memory():
        advice = "it has no library for torch's CUDA: install a newer one"
        return Finding(group, "bitsandbytes", "warning", f"{version}, {kind} beside a GPU", advice)
    return Finding(group, "bitsandbytes", "ok", f"{version}, {kind}")


def _vllm(group: str) -> Finding:
    version = _version("vllm")
    if version is None:
        advice = 'for fast generation on large GPUs: pip install "r1-sharevl[vllm]"'
        return Finding(group, "vLLM", "absent", "not installed", advice)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        from trl.import_utils import is_vllm_available

        is_vllm_available()
    refused = [str(warning.message) for warning in caught if "supports vLLM versions" in str(warning.message)]
    if refused:
        return Finding(group, "vLLM", "warning", f"{version}: {refused[0]}", 'pip install "r1-sharevl[vllm]"')
    return Finding(group, "vLLM", "ok", f"{version}, accepted by TRL {_version('trl')}")


def _disk(output_dir: Path) -> Iterator[Finding]:
    from huggingface_hub.constants import HF_HUB_CACHE

    for name, wanted in (("runs", output_dir), ("Hub cache", Path(HF_HUB_CACHE))):
        folder = wanted.absolute()
        while not folder.exists():
            folder = folder.parent
        free = shutil.disk_usage(folder).free
        found = f"{free / 10**9:,.0f} GB free for {wanted}"
        if not os.access(folder, os.W_OK):
            yield Finding("Disk", name, "broken", f"{folder} cannot be written", "choose another folder")
        elif free < _LITTLE_DISK:
            advice = "a 7B model takes 17 GB, a checkpoint of full fine-tuning in float32 about 100 GB"
            yield Finding("Disk", name, "warning", found, advice)
        else:
            yield Finding("Disk", name, "ok", found)


def _hub(*, online: bool) -> Iterator[Finding]:
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.constants import HF_HUB_OFFLINE

    group = "Hugging Face Hub"
    if HF_HUB_OFFLINE:
        yield Finding(group, "network", "ok", "offline (HF_HUB_OFFLINE): models come from folders and the cache")
    token = get_token()
    if token is None:
        advice = "for gated models and --push_to_hub: hf auth login"
        yield Finding(group, "login", "absent", "no token; public models need none", advice)
    elif not online:
        yield Finding(group, "login", "ok", "a token is there (--online asks the Hub whose)")
    else:
        try:
            user: dict[str, Any] = HfApi().whoami(token=token)
        except Exception as error:  # offline, revoked, a proxy: whatever it is, it is the answer
            yield Finding(group, "login", "warning", f"the Hub does not answer for the token: {_one_line(error)}")
        else:
            yield Finding(group, "login", "ok", f"logged in as {user.get('name')}")


def _recipes(gpus: list[int], *, quantises: bool) -> Finding:
    fitting = fitting_recipes(gpus)
    if fitting:
        tight = tight_recipes(fitting, gpus, quantises=quantises)
        fitting.sort(key=lambda name: name in tight)
        advice = f"r1sharevl train --config {fitting[0]} --dataset ..."
        if tight:
            advice += f"; tight: less than 10 % left by the estimate, see r1sharevl plan --config {tight[0]}"
        found = ", ".join(f"{name} (tight)" if name in tight else name for name in fitting)
        return Finding("Recipes", "fit this machine", "ok", found, advice)
    found = "quickstart" if not gpus else "quickstart; the smallest others need 12 GB"
    return Finding("Recipes", "fit this machine", "ok", found, "make quickstart")


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
