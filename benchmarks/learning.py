"""Does Share-GRPO learn? The quickstart with several seeds, through the command line, before and after.

    python benchmarks/learning.py                            # seeds 0 to 4, writes docs/learning.md and a JSON file
    python benchmarks/learning.py --seeds 0 --out grpo.json --train "--num_variants 1"      # plain GRPO

All seeds start from the same warm-up; the seed decides the order of the questions, their prompts and all sampling
of the training. avg@8 is over the 240 held-out questions of the built-in set, at temperature 1, with a 95 % interval
(bootstrap over questions); the interval of a gain is over paired questions.
"""

import argparse
import json
import platform
import shlex
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parent.parent
CLI = [sys.executable, "-m", "r1_sharevl.cli"]
LOOKS = ("chance", "greedy", "sampled", "shuffled")  # keys of what benchmarks/warmup.py writes


def run(*words: object) -> float:
    """Run a command of ours and return its seconds."""
    start = time.monotonic()
    subprocess.run([*CLI, *map(str, words)], check=True)
    return time.monotonic() - start


def measure(seed: int, work: Path, data: Path, warm: Path, extra: list[str]) -> dict[str, object]:
    """Train with one seed and compare with the warm-up."""
    trained, out = work / f"seed-{seed}", work / f"eval-{seed}"
    settings = ["--config", ROOT / "configs/quickstart.yaml", "--model_name_or_path", warm, "--dataset", data]
    seconds = run("train", *settings, "--output_dir", trained, "--seed", seed, *extra)
    sampling = ["--max-new-tokens", 32, "--batch-size", 240]
    run("eval", warm, trained, "--data", data, "--out", out, *sampling, "--overwrite")
    average = json.loads((out / "comparison.json").read_text())["differences"][0]
    return {
        "seed": seed,
        "before": average["a"],
        "after": average["b"],
        "gain": average["difference"],
        "train_seconds": round(seconds, 1),
    }


def in_percent(estimate: dict[str, float]) -> str:
    return f"{100 * estimate['value']:.1f} [{100 * estimate['low']:.1f}, {100 * estimate['high']:.1f}]"


def page(results: list[dict[str, object]], looks: dict[str, dict[str, float]], command: str, name: str) -> str:
    """The page for docs/, with nothing in it that was not measured."""
    kinds = "\n".join(
        f"| {kind} | " + " | ".join(f"{100 * looks[key][kind]:.1f}" for key in LOOKS) + " |" for kind in looks["chance"]
    )
    rows = "\n".join(
        f"| {one['seed']} | {in_percent(one['before'])} | {in_percent(one['after'])} | {in_percent(one['gain'])} |"
        for one in results
    )
    gains = [100 * one["gain"]["value"] for one in results]
    return f"""# Does it learn? Five seeds on the built-in task

What `make quickstart` does, with several seeds: the tiny Qwen2.5-VL, warmed up once, then trained by Share-GRPO with
[configs/quickstart.yaml](../configs/quickstart.yaml). avg@8 in percent over 240 held-out questions at temperature 1,
with 95 % intervals; the gain's is over paired questions.

| seed | warm-up | after Share-GRPO | gain |
|---|---|---|---|
{rows}

Gain: {min(gains):+.1f} to {max(gains):+.1f} points, {sum(g > 0 for g in gains)} of {len(gains)} positive.

## The warm-up looks at its figures

Percent right, before Share-GRPO. With the figure of another question of the same type the answers are no better than
guessing, so they come from the figures. Greedy decoding is better than sampling: that gap is what the training closes.
Responses were sampled anew for this table, so its avg@8 is not exactly that of the first.

| question type | guessing | greedy | sampled, avg@8 | sampled, with another question's figure |
|---|---|---|---|---|
{kinds}

## How it was measured

Made by `{command}`; all numbers and versions are in [{name}](../{name}). A run on a CPU can be repeated on the
same machine; another machine or another number of threads rounds differently and gives other numbers of the same kind.

The task is small on purpose: it shows that the parts of the method work together and that the model answers better
after training, not how large a gain is on real benchmarks.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--work", type=Path, default=Path("runs/learning"), help="folder for the runs")
    parser.add_argument("--train", default="", help="more flags for `r1sharevl train`; the page is then left alone")
    parser.add_argument("--at-once", type=int, default=1, help="seeds to train at the same time")
    parser.add_argument("--out", type=Path, help="JSON file; by default benchmarks/results/DATE-cpu-learning.json")
    args = parser.parse_args()
    data, warm = args.work / "data", args.work / "warmup"
    run("prep", "synthetic", "--out", data, "--overwrite")
    run("warmup", "--data", data, "--out", warm)
    looks = args.work / "warmup.json"
    subprocess.run(
        [sys.executable, ROOT / "benchmarks/warmup.py", "--model", warm, "--rows", "240", "--out", looks], check=True
    )
    extra = shlex.split(args.train)
    with ThreadPoolExecutor(args.at_once) as pool:
        results = list(pool.map(lambda seed: measure(seed, args.work, data, warm, extra), args.seeds))
    name = f"benchmarks/results/{time.strftime('%Y-%m-%d')}-cpu-learning.json"
    out = args.out or ROOT / name
    found = {
        "command": "python " + " ".join(["benchmarks/learning.py", *sys.argv[1:]]),
        "train_flags": args.train,
        "results": results,
        "warm_up": json.loads(looks.read_text()),
        "machine": f"{platform.machine()}, {platform.python_implementation()} {platform.python_version()}",
        "versions": {package: version(package) for package in ("torch", "transformers", "trl", "r1-sharevl")},
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1) + "\n")
    if not args.train and args.out is None:
        (ROOT / "docs/learning.md").write_text(page(results, found["warm_up"], found["command"], name))
    for one in results:
        print(f"seed {one['seed']}: {in_percent(one['before'])} -> {in_percent(one['after'])}")


if __name__ == "__main__":
    main()
