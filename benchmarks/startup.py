"""Start-up of the command line: `r1sharevl --help` against `python -c "import typer, rich"`, medians in one run.

    python benchmarks/startup.py

The help must stay within 4 times of importing what it is made of; more means that it imports a heavy library.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

LIMIT = 4.0
COMMANDS = {
    "import typer, rich": [sys.executable, "-c", "import typer, rich"],
    "r1sharevl --help": [sys.executable, "-m", "r1_sharevl.cli", "--help"],
    "r1sharevl train --help": [sys.executable, "-m", "r1_sharevl.cli", "train", "--help"],
}


def measure(repeats: int) -> dict[str, float]:
    """Median seconds of each command; they take turns, so that a slow spell hits all of them."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(repeats + 1):
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[1:]) for name, values in times.items()}  # the first fills the file cache


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path, help="JSON file for the result")
    args = parser.parse_args()
    medians = measure(args.repeats)
    base = medians["import typer, rich"]
    ratios = {name: round(seconds / base, 2) for name, seconds in medians.items()}
    for name, ratio in ratios.items():
        print(f"{name:24} {medians[name]:6.3f} s   {ratio:.2f} x")
    if args.out:
        args.out.write_text(json.dumps({"seconds": medians, "ratios": ratios, "limit": LIMIT}, indent=1) + "\n")
    ratio = ratios["r1sharevl --help"]
    print(f"r1sharevl --help: {ratio} x, limit {LIMIT} x: {'kept' if ratio <= LIMIT else 'EXCEEDED'}")
    return int(ratio > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
