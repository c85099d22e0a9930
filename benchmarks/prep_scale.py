"""`r1sharevl prep` at 5,000 and at 50,000 rows: rows per second, peak memory, cores in use, and their ratios.

    python benchmarks/prep_scale.py                              # writes docs/prep-scale.md and a JSON file
    python benchmarks/prep_scale.py --rows 500 5000 --work /tmp/scale

Each row is a question of its own with a generated picture of about 50 kB (JPEG), in parquet files of 1,000 rows, as a
data set from the Hub is. Memory is that of the command and all its worker and helper processes together, shared pages
counted once (PSS), ten times a second. It must not grow with the rows: 50,000 may take at most 1.2 times what 5,000 do.
"""

import argparse
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path

import numpy as np
import PIL.Image
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parent.parent
MEMORY_LIMIT = 1.2
ROWS_PER_FILE = 1000


def picture(seed: int) -> bytes:
    """A JPEG of about 50 kB: smooth shapes with some noise, another one for each seed."""
    rng = np.random.default_rng(seed)
    coarse = PIL.Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((512, 384), PIL.Image.Resampling.BICUBIC), dtype=np.int16)
    noisy = (pixels + rng.integers(-14, 15, pixels.shape, dtype=np.int16)).clip(0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    PIL.Image.fromarray(noisy).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def write_file(file: Path, first: int) -> int:
    """Write one parquet file of rows; gives the bytes of its pictures."""
    rows = []
    for number in range(first, first + ROWS_PER_FILE):
        rng = np.random.default_rng(number)
        base, height = int(rng.integers(2, 900)), int(rng.integers(2, 900))
        rows.append(
            {
                "problem": f"<image>\nFigure {number} shows a parallelogram with base {base} cm and height {height} "
                "cm. What is its area in square centimetres?",
                "answer": str(base * height),
                "images": [{"bytes": picture(number), "path": None}],
                "new_questions": [
                    f"<image>\nIn figure {number} a parallelogram has height {height} cm and base {base} cm. "
                    "Find its area in square centimetres."
                ],
            }
        )
    pq.write_table(pa.Table.from_pylist(rows), file)
    return sum(len(row["images"][0]["bytes"]) for row in rows)


def generate(folder: Path, rows: int, workers: int) -> float:
    """Make `rows` rows; gives the mean bytes of a picture."""
    (folder / "data").mkdir(parents=True)
    starts = range(0, rows, ROWS_PER_FILE)
    files = [folder / "data" / f"train-{place:05d}-of-{len(starts):05d}.parquet" for place in range(len(starts))]
    with ProcessPoolExecutor(workers) as executor:
        return sum(executor.map(write_file, files, starts)) / rows


def measure(data: Path, out: Path, workers: int) -> dict[str, float]:
    """Run the command and watch it."""
    command = [sys.executable, "-m", "r1_sharevl.cli", "prep", str(data), "--out", str(out), "--workers", str(workers)]
    peak = cpu = 0.0
    seen: dict[int, float] = {}
    start = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as child:
        top = psutil.Process(child.pid)
        while child.poll() is None:
            memory = 0
            try:
                for process in (top, *top.children(recursive=True)):
                    try:
                        memory += process.memory_full_info().pss
                        times = process.cpu_times()
                        seen[process.pid] = times.user + times.system
                    except (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
                        continue
            except psutil.NoSuchProcess:
                break
            peak = max(peak, memory)
            time.sleep(0.1)
    seconds = time.monotonic() - start
    if child.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {child.returncode}")
    cpu = sum(seen.values())
    return {"seconds": round(seconds, 1), "peak_mib": round(peak / 2**20, 1), "cores_used": round(cpu / seconds, 2)}


def page(results: list[dict[str, float]], ratios: dict[str, float], name: str, workers: int, kilobytes: float) -> str:
    """The page for docs/, with nothing in it that was not measured."""
    lines = "\n".join(
        f"| {result['rows']:,} | {result['seconds']:.0f} | {result['rows_per_second']:.0f} "
        f"| {result['peak_mib']:.0f} | {result['cores_used']:.2f} |"
        for result in results
    )
    return f"""# `r1sharevl prep` at scale

Generated rows, each with a picture of {kilobytes:.0f} kB and a wording that is checked; read from parquet, decoded,
checked, compared with all earlier rows (near-duplicates, too) and written, by {workers} worker processes on {workers}
cores. No language model is asked. Memory is that of all processes together.

| rows | seconds | rows/s | peak MiB | cores used |
|---:|---:|---:|---:|---:|
{lines}

The larger run against the smaller one: {ratios["memory"]:.2f} times the memory (limit {MEMORY_LIMIT}),
{ratios["rows_per_second"]:.2f} times the rows per second.

Made by `python benchmarks/prep_scale.py`; versions are in [{name}](../{name}).
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[5000, 50_000], help="multiples of 1,000, rising")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "prep-scale", help="folder for data and sets")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--page", type=Path, help="default: docs/prep-scale.md for the default rows, else none")
    parser.add_argument("--out", type=Path, help="JSON file for the result")
    args = parser.parse_args()
    results = []
    kilobytes = 0.0
    for rows in args.rows:
        data, out = args.work / f"raw-{rows}", args.work / f"set-{rows}"
        shutil.rmtree(data, ignore_errors=True)
        shutil.rmtree(out, ignore_errors=True)
        kilobytes = generate(data, rows, args.workers) / 1000
        result = measure(data, out, args.workers)
        shutil.rmtree(data)
        shutil.rmtree(out)
        results.append({"rows": rows, **result, "rows_per_second": round(rows / result["seconds"], 1)})
        print(results[-1], flush=True)
    ratios = {
        key: round(results[-1][value] / results[0][value], 3)
        for key, value in {"memory": "peak_mib", "rows_per_second": "rows_per_second"}.items()
    }
    out = args.out or ROOT / "benchmarks" / "results" / f"{time.strftime('%Y-%m-%d')}-cpu-prep-scale.json"
    packages = ("r1-sharevl", "datasets", "pyarrow", "pillow", "numpy")
    content = {
        "results": results,
        "ratios": ratios,
        "image_kilobytes": round(kilobytes, 1),
        "workers": args.workers,
        "versions": {"python": platform.python_version()} | {package: version(package) for package in packages},
    }
    standard = args.rows == [5000, 50_000]
    if args.out or standard:
        out.write_text(json.dumps(content, indent=1) + "\n")
    if args.page or standard:
        name = str(out.resolve().relative_to(ROOT)) if out.resolve().is_relative_to(ROOT) else out.name
        (args.page or ROOT / "docs" / "prep-scale.md").write_text(page(results, ratios, name, args.workers, kilobytes))
    kept = ratios["memory"] <= MEMORY_LIMIT
    print(f"memory: {ratios['memory']} x, limit {MEMORY_LIMIT} x: {'kept' if kept else 'EXCEEDED'}")
    return int(not kept)


if __name__ == "__main__":
    sys.exit(main())
