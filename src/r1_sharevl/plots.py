"""Figures for people: the curves of a training run, and bars with intervals of evaluations.

Matplotlib is imported when a figure is drawn, not with this module, and only its `Figure` is used: no window system
and no state shared with the caller's own figures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Interval = tuple[float, float, float]
"""A value with the lower and upper end of its interval."""

# Okabe and Ito's palette: told apart by colour-blind readers and in grey print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_DPI = 150
_MIN_POINTS_TO_SMOOTH = 10
_POINTS_PER_WINDOW = 10


@dataclass(frozen=True)
class _Curve:
    key: str
    label: str


@dataclass(frozen=True)
class _Chart:
    name: str
    title: str
    unit: str
    curves: tuple[_Curve, ...]
    as_percent: bool = False


_CHARTS = (
    _Chart("reward", "Reward", "mean reward", (_Curve("reward", "training"), _Curve("eval_reward", "held-out"))),
    _Chart(
        "accuracy",
        "Accuracy of sampled responses",
        "right responses",
        (
            _Curve("rewards/accuracy_reward/mean", "training"),
            _Curve("eval_rewards/accuracy_reward/mean", "held-out"),
        ),
        as_percent=True,
    ),
    _Chart(
        "vanished_advantages",
        "Questions without a learning signal",
        "share of questions",
        (
            _Curve("share_grpo/no_advantage/global", "no global advantage"),
            _Curve("share_grpo/no_advantage/local", "no local advantage"),
            _Curve("share_grpo/no_advantage/all", "no advantage at all"),
        ),
        as_percent=True,
    ),
    _Chart(
        "completion_length",
        "Length of responses",
        "mean length (tokens)",
        (_Curve("completions/mean_length", "training"), _Curve("eval_completions/mean_length", "held-out")),
    ),
    _Chart("entropy", "Entropy of the policy", "mean entropy (nats per token)", (_Curve("entropy", "training"),)),
)


def plot_training(log_history: Sequence[Mapping[str, Any]], out_dir: str | Path) -> list[Path]:
    """Draw a training run's curves: reward, accuracy, vanished advantages, response length, entropy.

    Args:
        log_history: `log_history` of a `trainer_state.json`: one mapping of metrics per logged step, with `step`.
        out_dir: Folder for the pictures; made if missing.

    Returns:
        The PNG files drawn, in a fixed order. A figure none of whose metrics was logged is left out.
    """
    folder = Path(out_dir)
    drawn = []
    for chart in _CHARTS:
        found = [(curve, *_points(log_history, curve.key)) for curve in chart.curves]
        found = [(curve, steps, values) for curve, steps, values in found if len(steps)]
        if not found:
            continue
        figure, axes = _new_figure(chart.title)
        for colour, (curve, steps, values) in zip(COLOURS, found, strict=False):
            _draw_curve(axes, steps, values, curve.label, colour)
        smoothed = any(len(steps) >= _MIN_POINTS_TO_SMOOTH for _, steps, _ in found)
        axes.set_xlabel("optimizer step" + (" (dots: as logged, line: moving mean)" if smoothed else ""))
        axes.set_ylabel(chart.unit)
        if chart.as_percent:
            axes.set_ylim(-0.02, 1.02)
            _percent_axis(axes.yaxis)
        else:
            _start_at_zero(axes)
        if len(found) > 1:
            axes.legend(frameon=False)
        drawn.append(_save(figure, folder / f"{chart.name}.png"))
    return drawn


def plot_bars(
    series: Mapping[str, Mapping[str, Interval]],
    path: str | Path,
    *,
    title: str,
    unit: str = "right (95 % interval)",
) -> Path:
    """Draw shares as horizontal bars with their intervals, side by side for several models.

    Args:
        series: Per model, per bar's label: value, lower and upper end, each between 0 and 1. A label that a model
            lacks has no bar there.
        path: The PNG file to write; its folder is made if missing.
        title: The figure's title.
        unit: What the horizontal axis shows.

    Returns:
        `path`.

    Raises:
        ValueError: `series` has no bar.
    """
    labels = list(dict.fromkeys(label for bars in series.values() for label in bars))
    if not labels:
        raise ValueError("there is nothing to draw")
    thickness = 0.8 / len(series)
    figure, axes = _new_figure(title, height=1.3 + 0.34 * max(len(labels) * len(series), 2) + 0.12 * len(labels))
    for number, (colour, (name, bars)) in enumerate(zip(_repeat(COLOURS, len(series)), series.items(), strict=True)):
        places = np.array([place for place, label in enumerate(labels) if label in bars], dtype=float)
        values, lows, highs = (np.array(part) for part in zip(*(bars[x] for x in labels if x in bars), strict=True))
        centres = places + (number - (len(series) - 1) / 2) * thickness
        axes.barh(centres, values, height=thickness * 0.92, color=colour, label=name)
        errors = np.stack([np.maximum(values - lows, 0), np.maximum(highs - values, 0)])
        axes.errorbar(values, centres, xerr=errors, fmt="none", ecolor="black", elinewidth=1.1, capsize=3)
        for centre, value, high in zip(centres, values, highs, strict=True):
            axes.annotate(
                f"{100 * value:.1f}", (max(value, high), centre), (5, 0), textcoords="offset points", va="center"
            )
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.09)
    axes.set_xticks(np.arange(0, 1.01, 0.2))
    _percent_axis(axes.xaxis)
    axes.set_xlabel(unit)
    axes.grid(axis="y", visible=False)
    if len(series) > 1:
        figure.legend(loc="outside lower center", ncols=min(len(series), 3), frameon=False)
    return _save(figure, Path(path))


def plot_lengths(lengths: Mapping[str, Sequence[int]], limit: int, path: str | Path) -> Path:
    """Draw how long responses are.

    Args:
        lengths: Per model, the length of each response in tokens.
        limit: The token limit, drawn as a line where responses come near it.
        path: The PNG file to write; its folder is made if missing.

    Returns:
        `path`.
    """
    longest = max(max(values) for values in lengths.values())
    # Edges between whole numbers, or neighbouring bars would hold differently many lengths.
    width = longest // 40 + 1
    edges = np.arange(0, longest + width + 1, width) - 0.5
    figure, axes = _new_figure("Length of responses")
    # Filled bars of several models would hide one another.
    style: dict[str, Any] = {"histtype": "step", "linewidth": 2} if len(lengths) > 1 else {}
    for colour, (name, values) in zip(_repeat(COLOURS, len(lengths)), lengths.items(), strict=True):
        axes.hist(values, bins=edges.tolist(), color=colour, label=name, **style)
    if longest >= 0.8 * limit:
        end = limit + 0.5
        axes.axvline(end, color="black", linestyle="--", linewidth=1)
        axes.annotate(
            "token limit", (end, 1), (4, -4), xycoords=("data", "axes fraction"), textcoords="offset points", va="top",
            rotation=90,
        )  # fmt: skip
        axes.set_xlim(right=1.06 * end)
    axes.set_xlabel("length (tokens)")
    axes.set_ylabel("responses")
    if len(lengths) > 1:
        axes.legend(frameon=False)
    return _save(figure, Path(path))


def smooth(values: Sequence[float] | np.ndarray, window: int) -> np.ndarray:
    """Centred moving mean; near the ends the window is cut, not padded, so no value is invented.

    Args:
        values: The values, shape `(N,)`.
        window: How many values one mean covers.

    Returns:
        The means, shape `(N,)`.
    """
    kernel = np.ones(min(window, len(values)))
    totals = np.convolve(values, kernel, mode="same")
    return totals / np.convolve(np.ones(len(values)), kernel, mode="same")


def _points(log_history: Sequence[Mapping[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray]:
    pairs = [
        (entry["step"], float(entry[key]))
        for entry in log_history
        if "step" in entry and isinstance(entry.get(key), int | float) and np.isfinite(entry[key])
    ]
    return np.array([step for step, _ in pairs]), np.array([value for _, value in pairs])


def _draw_curve(axes: "Axes", steps: np.ndarray, values: np.ndarray, label: str, colour: str) -> None:
    if len(steps) < _MIN_POINTS_TO_SMOOTH:
        axes.plot(steps, values, color=colour, marker="o", markersize=4, linewidth=1.5, label=label)
        return
    axes.plot(steps, values, color=colour, marker=".", markersize=4, linestyle="none", alpha=0.3)
    window = 2 * (len(steps) // _POINTS_PER_WINDOW // 2) + 1
    axes.plot(steps, smooth(values, max(3, window)), color=colour, linewidth=2, label=label)


def _new_figure(title: str, height: float = 4.2) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(7.2, height), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08))
    axes = figure.subplots()
    axes.set_title(title, loc="left", fontweight="bold")
    axes.grid(color="#e0e0e0", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _percent_axis(axis: Any) -> None:
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(xmax=1, decimals=0, symbol=" %"))


def _start_at_zero(axes: "Axes") -> None:
    low, high = axes.get_ylim()
    if low > 0:
        axes.set_ylim(0, high)


def _repeat(colours: Sequence[str], count: int) -> list[str]:
    return [colours[number % len(colours)] for number in range(count)]


def _save(figure: "Figure", path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=_DPI)
    return path
