"""Tables and a plot of what `train_step.py` measured, written into docs/performance.md between its marks."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r1_sharevl.plots import COLOURS, GRID, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PHASES = {
    "prepare": ("load_data", "prepare"),
    "generate": ("generate",),
    "reward": ("reward",),
    "old log-probs": ("old_logps",),
    "update": ("update",),
}
"""Columns of the table of a step, and the trainers' phases in each."""
GB = 1e9

Entry = dict[str, Any]


def ratios(entry: Entry, arm: str, over: str = "share") -> tuple[float, float, float]:
    """How many times longer an arm took.

    Returns:
        The ratio of the medians; the smallest and largest ratio of two passes of the same round.
    """
    slow, fast = entry["arms"][arm]["seconds"], entry["arms"][over]["seconds"]
    rounds = [one / other for one, other in zip(slow, fast, strict=True)]
    return statistics.median(slow) / statistics.median(fast), min(rounds), max(rounds)


def _ratio(entry: Entry, arm: str) -> str:
    middle, low, high = ratios(entry, arm)
    return f"**{middle:.2f}×** ({low:.2f} to {high:.2f})"


def memory_share(entry: Entry, arm: str = "trl") -> float | None:
    """The memory that Share-GRPO adds, as a share of that of an arm; None where none was measured."""
    other = entry["arms"][arm]["memory"]
    return entry["arms"]["share"]["memory"] / other if other else None


def _memory(entry: Entry) -> list[str]:
    share = memory_share(entry)
    own = [f"{entry['arms'][arm]['memory'] / GB:.2f}" for arm in ("trl", "share")]
    return [*own, "" if share is None else f"{share:.0%}"]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
    ]


def _seconds(entry: Entry, arm: str) -> str:
    return f"{statistics.median(entry['arms'][arm]['seconds']):.2f}"


def _lengths(entry: Entry) -> str:
    return f"{entry['shortest']} to " * entry["uneven"] + str(entry["completion"])


def _passes(entries: Sequence[Entry], first: dict[str, Any]) -> list[str]:
    return _table(
        [*first, "tokens", "fewer", "TRL, s", "Share-GRPO, s", "faster", "added, TRL, GB", "Share-GRPO, GB", "share"],
        [
            [
                *(value(entry) for value in first.values()),
                f"{entry['ordinary_tokens']} → {entry['packed_tokens']}",
                f"{entry['ordinary_tokens'] / entry['packed_tokens']:.2f}×",
                _seconds(entry, "trl"),
                _seconds(entry, "share"),
                _ratio(entry, "trl"),
                *_memory(entry),
            ]
            for entry in entries
        ],
    )


def _steps(entries: Sequence[Entry], names: dict[str, str]) -> list[str]:
    rows = []
    for entry in entries:
        for arm, measured in entry["arms"].items():
            phases = _phases(measured)
            rows.append(
                [
                    f"{entry['prompt']}",
                    f"{entry['completion']}",
                    names[arm],
                    f"{measured['responses']} / {measured['pairs']}",
                    *(f"{value:.2f}" for value in phases.values()),
                    _seconds(entry, arm),
                    "" if arm == "share" else _ratio(entry, arm),
                    f"{measured['memory'] / GB:.2f}",
                ]
            )
    head = ["P", "C", "", "responses / pairs", *PHASES, "all, s", "Share-GRPO is faster", "memory added, GB"]
    return _table(head, rows)


def _phases(measured: Entry) -> dict[str, float]:
    return {
        column: statistics.median(sum(batch.get(phase, 0.0) for phase in parts) for batch in measured["phases"])
        for column, parts in PHASES.items()
    }


def _rounds(entries: Sequence[Entry]) -> str:
    return " or ".join(map(str, sorted({len(entry["arms"]["share"]["seconds"]) for entry in entries})))


def tables(result: Entry) -> str:
    """Write everything that was measured on one device as Markdown."""
    parts = result["parts"]
    lines = []
    if "forward" in parts:
        lines += ["**Forward and backward of a micro-batch**", ""]
        lines += _passes(
            parts["forward"]["entries"],
            {
                "P": lambda entry: str(entry["prompt"]),
                "C": _lengths,
            },
        )
    if "growth" in parts:
        entries = parts["growth"]["entries"]
        shape = f"P = {entries[0]['prompt']}, C = {entries[0]['completion']}"
        lines += [f"**The same with n responses per prompt** ({shape}; R = m·n rows share a prompt)", ""]
        lines += _passes(
            entries,
            {
                "n": lambda entry: str(entry["responses_per_prompt"]),
                "R": lambda entry: str(entry["responses_per_prompt"] * entry["num_variants"]),
            },
        )
    if "step" in parts:
        lines += ["**Whole steps**, seconds per generation batch", ""]
        lines += _steps(parts["step"]["entries"], result["arms"])
    repeats = ", ".join(f"{name} {_rounds(part['entries'])}" for name, part in parts.items())
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    lines += [
        f"Medians; in brackets the smallest and largest ratio of one round. Rounds: {repeats}. "
        f"Machine: {result['machine']}. Model: {result['model_says']}. {versions}. Measured on {result['date']}.",
        "",
    ]
    return "\n".join(lines)


def draw(result: Entry, path: Path) -> None:
    """Draw the ratios, and where the time of a step goes."""
    from matplotlib.figure import Figure  # not with this module: every arm's process would wait for it

    parts = [part for part in ("forward", "growth", "step") if part in result["parts"]]
    figure = Figure(figsize=(4.6 * len(parts), 4.2), layout="constrained", facecolor="white")
    panels = {"forward": _draw_ratios, "growth": _draw_growth, "step": _draw_step}
    for axes, part in zip(figure.subplots(1, len(parts), squeeze=False)[0], parts, strict=True):
        axes.set_axisbelow(True)
        axes.grid(color=GRID, linewidth=0.8, axis="y")
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(INK)
        panels[part](axes, result)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def _tokens(axes: "Axes", places: Sequence[float], entries: Sequence[Entry]) -> None:
    limits = [entry["ordinary_tokens"] / entry["packed_tokens"] for entry in entries]
    axes.plot(places, limits, "_", color=INK, markersize=16, markeredgewidth=2, label="times fewer tokens")
    axes.axhline(1, color=COLOURS[1], linewidth=1.2, label="as TRL")
    axes.set_ylabel("TRL's time / Share-GRPO's")
    axes.set_ylim(0, 1.2 * axes.get_ylim()[1])  # the legend stands above the data
    axes.legend(frameon=False, loc="upper left", ncols=3, fontsize=8)


def _draw_ratios(axes: "Axes", result: Entry) -> None:
    entries = result["parts"]["forward"]["entries"]
    found = [ratios(entry, "trl") for entry in entries]
    places = range(len(entries))
    spread = [[one[0] - one[1] for one in found], [one[2] - one[0] for one in found]]
    spread = [[max(0.0, value) for value in side] for side in spread]
    axes.bar(places, [one[0] for one in found], color=COLOURS[0], yerr=spread, ecolor=INK, capsize=3)
    for place, one in zip(places, found, strict=True):
        axes.text(place, 0.5, f"{one[0]:.1f}×", ha="center", va="center", color="white", fontsize=8, fontweight="bold")
    names = [f"P {entry['prompt']}\nC {_lengths(entry).replace(' to ', '–')}" for entry in entries]
    axes.set_xticks(places, names, fontsize=7.5)
    axes.set_title(
        "Forward and backward, slowest and fastest round", loc="left", fontweight="bold", color=INK, fontsize=10
    )
    _tokens(axes, list(places), entries)


def _draw_growth(axes: "Axes", result: Entry) -> None:
    entries = result["parts"]["growth"]["entries"]
    n = [entry["responses_per_prompt"] for entry in entries]
    found = [ratios(entry, "trl") for entry in entries]
    axes.plot(n, [one[0] for one in found], "o-", color=COLOURS[0], label="times faster")
    axes.fill_between(n, [one[1] for one in found], [one[2] for one in found], color=COLOURS[0], alpha=0.2, linewidth=0)
    axes.set_xticks(n)
    axes.set_xlabel("n, responses per prompt")
    shape = f"P {entries[0]['prompt']}, C {entries[0]['completion']}"
    axes.set_title(f"More responses ({shape})", loc="left", fontweight="bold", color=INK, fontsize=10)
    _tokens(axes, n, entries)


def _draw_step(axes: "Axes", result: Entry) -> None:
    entry = result["parts"]["step"]["entries"][-1]
    arms = entry["arms"]
    bottoms = [0.0] * len(arms)
    phases = [_phases(measured) for measured in arms.values()]
    for colour, column in zip(COLOURS, PHASES, strict=False):
        heights = [one[column] for one in phases]
        axes.bar(range(len(arms)), heights, bottom=bottoms, color=colour, label=column)
        bottoms = [low + height for low, height in zip(bottoms, heights, strict=True)]
    labels = [result["arms"][arm].replace(", ", ",\n").replace("`", "") for arm in arms]
    axes.set_xticks(range(len(arms)), labels, fontsize=8)
    axes.set_ylabel("seconds per generation batch")
    shape = f"P {entry['prompt']}, C {entry['completion']}"
    axes.set_title(f"Whole steps ({shape})", loc="left", fontweight="bold", color=INK, fontsize=10)
    axes.set_ylim(0, 1.2 * max(bottoms))
    axes.legend(frameon=False, fontsize=8, loc="upper left", ncols=3)


def write_page(result: Entry, page: Path, file: Path) -> None:
    """Put the tables and the plot of a result into the page, between the marks of its device; the rest stays.

    Args:
        result: What `train_step.py` measured.
        page: docs/performance.md.
        file: Where the result is stored.

    Raises:
        ValueError: The page has no marks for the device.
    """
    kind = result["kind"]
    begin, end = f"<!-- train_step.py {kind}: begin -->", f"<!-- train_step.py {kind}: end -->"
    text = page.read_text(encoding="utf-8")
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"{page}: it must have the lines {begin!r} and {end!r}, each once")
    image = Path("images") / f"performance-{kind}.png"
    draw(result, page.parent / image)
    before, rest = text.split(begin)
    _, after = rest.split(end)
    plot = f"![Times faster by shape and by number of responses, and the phases of a step]({image})"
    source = f"From [`benchmarks/results/{file.name}`](../benchmarks/results/{file.name})."
    page.write_text(f"{before}{begin}\n\n{plot}\n\n{tables(result)}{source}\n\n{end}{after}", encoding="utf-8")
