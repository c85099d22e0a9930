"""A training step of Share-GRPO against TRL's GRPO: forward and backward alone, and whole steps by phase.

    python benchmarks/train_step.py                                       # CPU, one thread; about 20 GB
    python benchmarks/train_step.py --quick                               # a minute, shows that it runs
    python benchmarks/train_step.py --device cuda --model qwen2_5_vl_3b   # 3B shapes, random weights, LoRA, bfloat16
    python benchmarks/train_step.py --page FILE.json                      # the page from an earlier result

**Forward and backward** is the trainers' own `training_step` on a micro-batch of one prompt with all R = m·n responses
to its question, the same tokens for both; the norms of the gradients must agree, or it stops. **Whole steps** are
`trainer.train()`: a generation batch of one question (m prompts) and the m optimizer steps on it, each on R pairs (n,
where only n are trained). A batch thus outlives an optimizer step (`steps_per_generation` m,
`gradient_accumulation_steps` 1), so that both trainers compute old log-probabilities. Three arms:

    trl                TRL's GRPO over the same m prompts as m questions with R responses each: it trains as many pairs
                       as Share-GRPO (m·R), and must generate m times as many responses
    trl_same_rollouts  TRL's GRPO that generates the R responses of Share-GRPO (n per prompt) and trains these R pairs
    share              Share-GRPO as it is by default

Every arm lives in a process of its own. They take turns, pass by pass, in an order that rotates; where a GPU does not
hold two (`--method full`), they run one after the other. All responses have exactly C tokens (an end before is not
sampled); a row of the first table has responses of 40 to 100 % of C. Images are not transformed, and on a CPU nothing
is computed again in backward. Memory is the highest use above that before the first pass: resident memory on a CPU,
what torch allocated on a GPU.

Each shape goes to `benchmarks/results/<date>-<device>-train-step.json` as soon as it is measured, in the place of an
earlier measurement of that day; what `--parts` and `--shapes` leave out stays as it is. A run that was cut off is so
finished by one of the parts or shapes that it lacks. Once the file has all shapes, its tables and its plot go into
`docs/performance.md`; `--page` makes them of fewer.
"""

import argparse
import contextlib
import datetime
import importlib.metadata
import json
import multiprocessing
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

# Before torch is imported.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from train_step_page import memory_share, ratios, write_page

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "performance.md"
PARTS = ("forward", "step", "growth")
NORM_TOLERANCE = {"cpu": 1e-4, "cuda": 5e-2}
"""Relative; bfloat16 on a GPU."""
WANTED = {("forward", 1024, 256): 3.5, ("forward", 1024, 64): 6.0, ("step", 1024, 256): 2.5}
"""How many times faster than TRL's GRPO on the same pairs, on a CPU; forward and backward never slower."""
WANTED_MEMORY = 0.4
_STEP_ARMS = ("trl", "trl_same_rollouts", "share")
_PASS_ARMS = ("trl", "share")


def plans(options: argparse.Namespace) -> dict[str, list[Any]]:
    """The shapes of each part."""
    from train_step_arms import Shape

    if options.quick:
        small = Shape(96, 16, responses_per_prompt=2)
        growth = [replace(small, responses_per_prompt=n) for n in (1, 2)]
        return {"forward": [small, replace(small, uneven=True)], "growth": growth, "step": [small]}
    if options.model == "qwen2_5_vl_3b":  # an image of 36 x 36 tokens, as of 1024 x 1024 pixels
        shapes = [Shape(1344, completion, image_share=0.965) for completion in (256, 512)]
        uneven, growing, steps = replace(shapes[1], uneven=True), shapes[0], shapes[:1]
    else:
        shapes = [Shape(prompt, completion) for prompt in (128, 512, 1024) for completion in (64, 256)]
        uneven, growing, steps = replace(shapes[3], uneven=True), shapes[2], shapes
    growth = [replace(growing, responses_per_prompt=n) for n in (2, 4, 6, 8, 12)]
    return {"forward": [*shapes, uneven], "growth": growth, "step": steps}


class Arms:
    """Processes that measure when they are told to.

    Args:
        setting: Common to all of them.
        server: Function of `train_step_arms` that a process runs.
        arguments: Further arguments of it.
    """

    def __init__(self, setting: Any, server: Callable[..., None], *arguments: Any) -> None:
        # A forked process has its imports already; CUDA cannot be used in one.
        context = multiprocessing.get_context("spawn" if setting.device == "cuda" else "forkserver")
        if setting.device == "cpu":
            os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
            context.set_forkserver_preload(["train_step_arms"])
        self._setting, self._server, self._arguments, self._context = setting, server, arguments, context
        self._running: dict[str, Any] = {}

    def start(self, arm: str) -> None:
        """Start an arm."""
        ours, its = self._context.Pipe()
        process = self._context.Process(
            target=self._server, args=(its, self._setting, arm, *self._arguments), daemon=True
        )
        process.start()
        its.close()
        self._running[arm] = (process, ours)

    def wait_for(self, arm: str) -> None:
        """Wait until an arm that was started is ready."""
        self._answer(arm)

    def measure(self, arm: str) -> dict[str, Any]:
        """Let an arm do its work once."""
        self._running[arm][1].send("go")
        return self._answer(arm)

    def stop(self, arm: str) -> None:
        """End an arm."""
        process, connection = self._running.pop(arm)
        with contextlib.suppress(BrokenPipeError):  # of one that has trained its last batch
            connection.send(None)
        connection.close()
        process.join()

    def _answer(self, arm: str) -> Any:
        try:
            return self._running[arm][1].recv()
        except EOFError:
            sys.exit(f"the process of {arm} ended; see above")


def rounds(arms: Arms, groups: Sequence[Sequence[str]], count: int, warm_up: int) -> dict[str, Any]:
    """Measure every arm `count` times; those of a group are in memory together, and take turns.

    Returns:
        Of each arm, the results' values in lists; its memory is the highest.
    """
    found: dict[str, list[dict[str, Any]]] = {name: [] for group in groups for name in group}
    for group in map(list, groups):
        for name in group:
            arms.start(name)
        for name in group:
            arms.wait_for(name)
        for number in range(warm_up + count):
            turn = number % len(group)
            for name in group[turn:] + group[:turn]:
                result = arms.measure(name)
                if number >= warm_up:
                    found[name].append(result)
        for name in group:
            arms.stop(name)
    return {
        name: {key: [one[key] for one in results] for key in results[0]} | {"memory": results[-1]["memory"]}
        for name, results in found.items()
    }


def measure_part(
    part: str, shapes: Sequence[Any], options: argparse.Namespace, folder: Path
) -> Iterator[dict[str, Any]]:
    """Measure one part, a shape at a time."""
    from train_step_arms import Setting, serve_forward_backward, serve_whole_step

    apart = options.device == "cuda" and options.method == "full"

    def groups(names: Sequence[str]) -> list[Sequence[str]]:
        return [[name] for name in names] if apart else [names]

    for shape in shapes:
        setting = Setting(options.model, options.method, options.device, options.threads, shape, folder)
        if part == "step":
            arms = Arms(setting, serve_whole_step, options.warm_up + options.step_repeats)
            measured = rounds(arms, groups(_STEP_ARMS), options.step_repeats, options.warm_up)
            for name, values in measured.items():
                # GRPO over the same pairs samples every one of them.
                sampled = shape.responses * (shape.num_variants if name == "trl" else 1)
                trained = shape.responses * (1 if name == "trl_same_rollouts" else shape.num_variants)
                values |= {"responses": sampled, "pairs": trained}
        else:
            arms = Arms(setting, serve_forward_backward)
            measured = rounds(arms, groups(_PASS_ARMS), options.repeats, options.warm_up)
            norms = [measured[name]["gradient_norm"][-1] for name in _PASS_ARMS]
            if not abs(norms[0] / norms[1] - 1) < NORM_TOLERANCE[options.device]:
                sys.exit(f"{shape}: the arms do not compute the same: their gradients have the norms {norms}")
        entry = asdict(shape) | {
            "ordinary_tokens": shape.ordinary_tokens,
            "packed_tokens": shape.packed_tokens,
            "shortest": min(shape.lengths),
            "warm_up": options.warm_up,
            "arms": measured,
        }
        middle, low, high = ratios(entry, "trl")
        share = memory_share(entry)
        print(
            f"{part:8} P {shape.prompt:5} C {shape.completion:4} n {shape.responses_per_prompt:2}"
            f"{' uneven' * shape.uneven}: {middle:.2f} times faster ({low:.2f} to {high:.2f})"
            + ("" if share is None else f", {share:.0%} of the memory added"),
            flush=True,
        )
        yield entry


def machine(options: argparse.Namespace) -> str:
    """Say what it was measured on."""
    if options.device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{name}, {options.threads} of {os.cpu_count()} cores"


def model_says(options: argparse.Namespace) -> str:
    """Describe the model in one line."""
    return {
        "small": "Qwen2.5-VL from its config, random weights, hidden size 384, 6 layers, vision depth 4, float32",
        "quick": "Qwen2.5-VL from its config, random weights, as small as it gets",
        "qwen2_5_vl_3b": f"Qwen2.5-VL-3B's config, random weights, {options.method}, bfloat16, gradient checkpointing",
    }[options.model]


def main() -> None:
    """Measure, write the result, and make the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--model", choices=["small", "qwen2_5_vl_3b", "quick"], default="small")
    parser.add_argument("--method", choices=["full", "lora"], help="default: full on a CPU, lora on a GPU")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--shapes", nargs="+", metavar="P,C", help="of each part's shapes, only these")
    parser.add_argument("--repeats", type=int, default=5, help="rounds of forward and backward")
    parser.add_argument("--step-repeats", type=int, help="rounds of whole steps; default: 3 on a GPU, else 5")
    parser.add_argument("--warm-up", type=int, help="rounds before that do not count; default: 1 on a GPU, else 0")
    parser.add_argument("--threads", type=int, default=1, help="of each process, on a CPU")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, three rounds; changes no page unless told to")
    parser.add_argument(
        "--profile",
        action="store_true",
        help="only print the operators that a pass spends its time in, at --shapes or at the largest one",
    )
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder for the numbers")
    parser.add_argument("--into", type=Path, help="page for the tables; default: docs/performance.md")
    parser.add_argument("--page", type=Path, metavar="FILE", help="measure nothing: make the page from this result")
    options = parser.parse_args()
    if options.page is not None:
        if not options.page.is_file():
            parser.error(f"--page {options.page}: there is no such file; name a result, as in {HERE / 'results'}")
        write_page(json.loads(options.page.read_text(encoding="utf-8")), options.into or PAGE, options.page)
        return
    if options.quick:
        options.model = "quick" if options.device == "cpu" else options.model
        options.repeats = options.step_repeats = 3  # one more than there are questions: epochs end in between
    options.step_repeats = options.step_repeats or (3 if options.device == "cuda" else 5)
    options.method = options.method or ("lora" if options.device == "cuda" else "full")
    options.warm_up = int(options.device == "cuda") if options.warm_up is None else options.warm_up
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("no CUDA device here: --device cpu")
    planned = plans(options)
    known = sorted({_size(shape) for part in options.parts for shape in planned[part]})
    unknown = [size for size in options.shapes or () if size not in known]
    if unknown:
        parser.error(
            f"--shapes {' '.join(unknown)}: not among the shapes of {', '.join(options.parts)}: {' '.join(known)}"
        )
    with tempfile.TemporaryDirectory() as temporary:
        if options.profile:
            from train_step_arms import ARMS, Setting, profile_step

            even = [shape for shape in planned["forward"] if not shape.uneven]
            for shape in [one for one in even if _size(one) in (options.shapes or ())] or even[-1:]:
                settings = Setting(
                    options.model, options.method, options.device, options.threads, shape, Path(temporary)
                )
                for arm in _PASS_ARMS:
                    print(f"{ARMS[arm]}: forward and backward at P = {shape.prompt}, C = {shape.completion}")
                    print(profile_step(settings, arm))
            return
        run(options, planned, Path(temporary))


class ResultFile:
    """The measurements of a day, which outlive a run that is cut off.

    Args:
        path: Where they are; what is there stays, if it was measured in the same way.
        about: What was measured on what.
    """

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        self.path, self._about = path, about
        self.parts: dict[str, Any] = {}
        if path.exists():
            earlier = json.loads(path.read_text(encoding="utf-8"))
            differs = [
                f"{name} ({earlier.get(name)}, now {value})"
                for name, value in about.items()
                if earlier.get(name) != value
            ]
            if differs:
                sys.exit(f"{path} was measured with another {', '.join(differs)}: move it, or name another --results")
            self.parts = earlier["parts"]
        path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, part: str, entry: dict[str, Any]) -> None:
        """Store what was measured at one shape, in the place of what was measured there before."""
        others = self.parts.get(part, {"entries": []})["entries"]
        entries = [*(other for other in others if _order(other) != _order(entry)), entry]
        self.parts[part] = {"entries": sorted(entries, key=_order)}
        parts = {name: self.parts[name] for name in PARTS if name in self.parts}
        self.path.write_text(json.dumps(self._about | {"parts": parts}, indent=1) + "\n", encoding="utf-8")

    def lacks(self, planned: dict[str, list[Any]]) -> list[str]:
        """Name the shapes that were not measured."""
        found = {(part, _order(entry)) for part, measured in self.parts.items() for entry in measured["entries"]}
        return [
            f"{part} {_size(shape)}"
            for part in PARTS
            for shape in planned[part]
            if (part, _order(asdict(shape))) not in found
        ]


def _order(entry: dict[str, Any]) -> tuple[Any, ...]:
    sizes = ("uneven", "prompt", "completion", "num_variants", "responses_per_prompt")
    return tuple(entry[name] for name in sizes)


def _size(shape: Any) -> str:
    return f"{shape.prompt},{shape.completion}"


def run(options: argparse.Namespace, planned: dict[str, list[Any]], temporary: Path) -> None:
    """Measure what is asked for; after each shape, write what there is."""
    from train_step_arms import ARMS

    names = ("torch", "transformers", "trl", "accelerate", "peft")
    about = {
        "date": datetime.date.today().isoformat(),
        "kind": options.device,
        "machine": machine(options),
        "model": options.model,
        "model_says": model_says(options),
        "method": options.method,
        "versions": {name: importlib.metadata.version(name) for name in names},
        "arms": ARMS,
    }
    result = ResultFile(options.results / f"{about['date']}-{_name(options, about)}.json", about)
    for part in options.parts:
        shapes = [shape for shape in planned[part] if not options.shapes or _size(shape) in options.shapes]
        for entry in measure_part(part, shapes, options, temporary):
            result.add(part, entry)
    print(result.path)
    if options.model == "small":
        print(*wishes(result.parts), sep="\n")
    lacks = result.lacks(planned)
    if options.into is not None or not (options.quick or lacks):
        write_page(json.loads(result.path.read_text(encoding="utf-8")), options.into or PAGE, result.path)
    elif lacks and not options.quick:
        lacking = "; ".join(dict.fromkeys(lacks))  # growth has one size
        print(f"the page stays as it is, for lack of {lacking}; --page {result.path} makes it of what there is")


def wishes(parts: dict[str, Any]) -> list[str]:
    """Hold what was measured against what was wanted."""
    lines = []
    for part in ("forward", "step"):
        for entry in parts.get(part, {}).get("entries", ()):
            shape = (part, entry["prompt"], entry["completion"])
            wanted = WANTED.get(shape, 1.0)
            found = ratios(entry, "trl")[0]
            share = memory_share(entry)
            word = "reached" if found >= wanted else "MISSED"
            lines.append(f"{part} P {shape[1]} C {shape[2]}: {found:.2f} times faster, wanted {wanted}: {word}")
            if part == "forward" and share is not None:
                word = "reached" if share <= WANTED_MEMORY else "MISSED"
                lines.append(f"{'':8}{share:.0%} of the memory added, wanted {WANTED_MEMORY:.0%}: {word}")
    return lines


def _name(options: argparse.Namespace, about: dict[str, Any]) -> str:
    device = "cpu" if options.device == "cpu" else about["machine"].lower().replace(" ", "-")
    return f"{device}-train-step" + ("" if options.model == "small" else f"-{options.model}-{options.method}")


if __name__ == "__main__":
    main()
