"""Figures for people: the curves of a training run, and bars with intervals of evaluations.

Matplotlib is imported when a figure is drawn, not with this module, and only its `Figure` is used: no window system
and no state shared with the caller's own figures.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .history import points
from .phases import PHASES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Interval = tuple[float, float, float]
"""A value with the lower and upper end of its interval."""

# Okabe and Ito's palette: told apart by colour-blind readers and in grey print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
INK = "#1c2330"
GRID = "#e0e0e0"
_LINES = ("-", "--", ":")
_DPI = 150
_MIN_POINTS_TO_SMOOTH = 10
_POINTS_PER_WINDOW = 10
_MAX_POINTS = 300
_MAX_CURVES = len(COLOURS) * len(_LINES)
_CURVES_WITH_DOTS = 3
_CURVES_WITH_DETAIL = 6


@dataclass(frozen=True)
class _Curve:
    key: str
    label: str


@dataclass(frozen=True)
class Chart:
    """One figure of a training run.

    Attributes:
        name: Name of its file.
        title: Its title.
        unit: What the vertical axis shows.
        note: How to read it: which way is good, in one or two sentences.
        group: The question it helps to answer; figures of one group follow each other.
        curves: Metrics with their labels.
        pattern: Where the metrics depend on the run: matches their names, and its first group is the label.
        as_percent: Whether the values are shares.
        full_scale: Whether the axis goes from 0 to 100 %.
        stacked: Whether the curves add up, and are drawn as areas on top of each other.
    """

    name: str
    title: str
    unit: str
    note: str
    group: str
    curves: tuple[_Curve, ...] = ()
    pattern: str | None = None
    as_percent: bool = False
    full_scale: bool = True
    stacked: bool = False


LEARNING = "Does it learn?"
SIGNAL = "Is there something to learn from?"
RESPONSES = "What do the responses look like?"
STABILITY = "Is the optimisation stable?"
TIME = "Where does the time go?"

CHARTS = (
    Chart(
        "reward",
        "Reward",
        "mean reward",
        "Weighted sum of the reward functions. It should rise. If held-out questions stay behind, the model learns "
        "the training questions by heart.",
        LEARNING,
        (_Curve("reward", "training"), _Curve("eval_reward", "held-out")),
    ),
    Chart(
        "accuracy",
        "Accuracy of sampled responses",
        "right responses",
        "Share of responses with the right answer. This is what the training is for: it should rise.",
        LEARNING,
        (
            _Curve("rewards/accuracy_reward/mean", "training"),
            _Curve("eval_rewards/accuracy_reward/mean", "held-out"),
        ),
        as_percent=True,
    ),
    Chart(
        "wordings",
        "First reward by wording",
        "mean of the first reward",
        "Wording 0 is the question as it stands in the data. Curves that lie together: the model understands all "
        "wordings alike. One far below: look at that wording's texts.",
        LEARNING,
        pattern=r"share_grpo/wording_(\d+)/.+",
    ),
    Chart(
        "transforms",
        "First reward by image transform",
        "mean of the first reward",
        "Transformed images are harder, so some distance to “none” is usual; it should shrink.",
        LEARNING,
        pattern=r"share_grpo/transform_(\w+)/.+",
    ),
    Chart(
        "vanished_advantages",
        "Questions without a learning signal",
        "share of questions",
        "All responses got the same reward, so there is nothing to compare. Lower is better; near 100 % the questions "
        "are too easy or too hard.",
        SIGNAL,
        (
            _Curve("share_grpo/no_advantage/global", "no global advantage"),
            _Curve("share_grpo/no_advantage/local", "no local advantage"),
            _Curve("share_grpo/no_advantage/all", "no advantage at all"),
        ),
        as_percent=True,
    ),
    Chart(
        "logp_gap",
        "Log-probability gap of shared pairs",
        "nats per token",
        "How much less likely a response is under another prompt of its question than under its own. Near 0 is good; "
        "far below 0 the model does not recognise its own responses, and sharing them teaches little.",
        SIGNAL,
        (_Curve("share_grpo/logp_gap", "other prompt − own prompt"),),
    ),
    Chart(
        "vllm_gap",
        "Log-probability gap between vLLM and the trainer",
        "nats per token, absolute",
        "Should stay near 0; above max_vllm_logprob_gap the run ends. A jump means that vLLM and the trainer no longer "
        "see the same model or prompt.",
        SIGNAL,
        (
            _Curve("sampling/sampling_logp_difference/mean", "mean"),
            _Curve("sampling/sampling_logp_difference/max", "largest"),
        ),
    ),
    Chart(
        "completion_length",
        "Length of responses",
        "mean length (tokens)",
        "Reasoning often gets longer while a model learns. A sudden rise or a fall to a few tokens is a warning.",
        RESPONSES,
        (_Curve("completions/mean_length", "training"), _Curve("eval_completions/mean_length", "held-out")),
    ),
    Chart(
        "cut_off",
        "Responses cut off at the length limit",
        "share of responses",
        "They rarely hold an answer. If many are cut off, raise max_completion_length.",
        RESPONSES,
        (_Curve("completions/clipped_ratio", "training"), _Curve("eval_completions/clipped_ratio", "held-out")),
        as_percent=True,
    ),
    Chart(
        "entropy",
        "Entropy of the policy",
        "mean entropy (nats per token)",
        "How undecided the model is. A slow fall is usual. Near 0 all responses are alike and learning ends.",
        RESPONSES,
        (_Curve("entropy", "training"),),
    ),
    Chart(
        "kl",
        "Distance from the reference model",
        "KL divergence (nats per token)",
        "Logged when beta is not 0. It grows as the model changes; a steep rise comes before a collapse.",
        STABILITY,
        (_Curve("kl", "training"),),
    ),
    Chart(
        "clip_ratios",
        "Tokens whose update was clipped",
        "share of tokens",
        "Above a few percent the steps are too large for the clipping range: lower the learning rate.",
        STABILITY,
        (_Curve("clip_ratio/low_mean", "at the lower bound"), _Curve("clip_ratio/high_mean", "at the upper bound")),
        as_percent=True,
        full_scale=False,
    ),
    Chart(
        "grad_norm",
        "Gradient norm",
        "norm before clipping",
        "Single peaks do no harm, they are clipped. A lasting rise does.",
        STABILITY,
        (_Curve("grad_norm", "training"),),
    ),
    Chart("learning_rate", "Learning rate", "learning rate", "", STABILITY, (_Curve("learning_rate", "training"),)),
    Chart(
        "time",
        "Time of a step by phase",
        "seconds per optimizer step",
        "Measured on the main process. What is large is what to speed up.",
        TIME,
        tuple(_Curve(f"time/{phase}", phase) for phase in PHASES),
        stacked=True,
    ),
    Chart(
        "tokens_per_second",
        "Speed of generation",
        "response tokens per second",
        "Of all processes together. It falls while responses get longer, and with the share of padding.",
        TIME,
        (_Curve("generation/tokens_per_second", "training"),),
    ),
    Chart(
        "padding",
        "Padding in generation",
        "share of computed positions",
        "Most of it is responses that have ended while the longest of their batch goes on. vLLM has none.",
        TIME,
        (_Curve("generation/padding_share", "training"),),
        as_percent=True,
    ),
)
"""The figures of a run, in the order in which they are read."""


def plot_training(log_history: Sequence[Mapping[str, Any]], out_dir: str | Path) -> list[Path]:
    """Draw a training run's curves as PNG files, one for each of `CHARTS`.

    Args:
        log_history: `log_history` of a `trainer_state.json`: one mapping of metrics per logged step, with `step`.
        out_dir: Folder for the pictures; made if missing.

    Returns:
        The PNG files drawn, in a fixed order. A figure none of whose metrics was logged is left out.
    """
    folder = Path(out_dir)
    drawn = []
    for chart, figure in training_figures(log_history):
        figure.axes[0].set_title(_escaped(chart.title), loc="left", fontweight="bold", color=INK)
        drawn.append(_save(figure, folder / f"{chart.name}.png"))
    return drawn


def training_figures(
    log_history: Sequence[Mapping[str, Any]], width: float = 7.2, height: float = 4.2
) -> "Iterator[tuple[Chart, Figure]]":
    """Draw the figures of a training run, without their titles.

    Args:
        log_history: As `plot_training` takes it.
        width, height: Size of a figure in inches.

    Yields:
        Each chart that has a finite value in the log, with its figure.
    """
    keys = {key for entry in log_history for key in entry}
    for chart in CHARTS:
        found = [(curve, *_points(log_history, curve.key)) for curve in _curves_of(chart, keys)]
        found = [(curve, steps, values) for curve, steps, values in found if len(steps)]
        if not found:
            continue
        figure, axes = _new_figure(width=width, height=height)
        if chart.stacked:
            _draw_stack(axes, found)
        else:
            styles = [(colour, line) for line in _LINES for colour in COLOURS]
            for (colour, line), (curve, steps, values) in zip(styles, found, strict=False):
                _draw_curve(axes, steps, values, _escaped(curve.label), colour, line, of=len(found))
        smoothed = any(len(steps) >= _MIN_POINTS_TO_SMOOTH for _, steps, _ in found)
        dotted = smoothed and len(found) <= _CURVES_WITH_DOTS and not chart.stacked
        axes.set_xlabel(
            "optimizer step" + (" (dots: as logged, line: moving mean)" if dotted else " (moving mean)" * smoothed)
        )
        axes.set_ylabel(chart.unit)
        if chart.as_percent:
            if chart.full_scale:
                axes.set_ylim(-0.02, 1.02)
            else:
                axes.set_ylim(0, max(0.01, axes.get_ylim()[1]))
            _percent_axis(axes.yaxis, decimals=0 if chart.full_scale else None)
        else:
            _start_at_zero(axes)
        if len(found) > _CURVES_WITH_DOTS:
            figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize="small", labelcolor=INK)
        elif len(found) > 1:
            axes.legend(frameon=False, labelcolor=INK)
        yield chart, figure


def _curves_of(chart: Chart, keys: set[str]) -> list[_Curve]:
    if chart.pattern is None:
        return list(chart.curves)
    matches = [match for match in (re.fullmatch(chart.pattern, str(key)) for key in keys) if match]
    labels = {match.group(): match.group(1) for match in matches}

    def order(key: str) -> tuple[bool, int, str]:
        label = labels[key]
        return label != "none", int(label) if label.isdecimal() and len(label) < 10 else 0, label

    return [_Curve(key, labels[key].replace("_", " ")) for key in sorted(labels, key=order)][:_MAX_CURVES]


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
        axes.barh(centres, values, height=thickness * 0.92, color=colour, label=_escaped(name))
        errors = np.stack([np.maximum(values - lows, 0), np.maximum(highs - values, 0)])
        axes.errorbar(values, centres, xerr=errors, fmt="none", ecolor="black", elinewidth=1.1, capsize=3)
        for centre, value, high in zip(centres, values, highs, strict=True):
            axes.annotate(
                f"{100 * value:.1f}", (max(value, high), centre), (5, 0), textcoords="offset points", va="center"
            )
    axes.set_yticks(range(len(labels)), [_escaped(label) for label in labels])
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
    """Draw how long responses are, as a PNG file.

    Args:
        lengths: Per model, the length of each response in tokens.
        limit: The token limit, drawn as a line where responses come near it.
        path: The PNG file to write; its folder is made if missing.

    Returns:
        `path`.
    """
    figure = lengths_figure(lengths, limit)
    figure.axes[0].set_title("Length of responses", loc="left", fontweight="bold", color=INK)
    return _save(figure, Path(path))


def lengths_figure(
    lengths: Mapping[str, Sequence[int]], limit: int, width: float = 7.2, height: float = 4.2
) -> "Figure":
    """Draw how long responses are, without a title.

    Args:
        lengths: As `plot_lengths` takes it.
        limit: As `plot_lengths` takes it.
        width, height: Size of the figure in inches.

    Returns:
        The figure.
    """
    longest = max(max(values) for values in lengths.values())
    # Edges between whole numbers, or neighbouring bars would hold differently many lengths.
    step = longest // 40 + 1
    edges = np.arange(0, longest + step + 1, step) - 0.5
    figure, axes = _new_figure(width=width, height=height)
    # Filled bars of several models would hide one another.
    style: dict[str, Any] = {"histtype": "step", "linewidth": 2} if len(lengths) > 1 else {}
    for colour, (name, values) in zip(_repeat(COLOURS, len(lengths)), lengths.items(), strict=True):
        axes.hist(values, bins=edges.tolist(), color=colour, label=_escaped(name), **style)
    if longest >= 0.8 * limit:
        end = limit + 0.5
        axes.axvline(end, color=INK, linestyle="--", linewidth=1)
        axes.annotate(
            "token limit", (end, 1), (4, -4), xycoords=("data", "axes fraction"), textcoords="offset points", va="top",
            rotation=90, color=INK,
        )  # fmt: skip
        axes.set_xlim(right=1.06 * end)
    axes.locator_params(integer=True)
    axes.set_xlabel("length (tokens)")
    axes.set_ylabel("responses")
    if len(lengths) > 1:
        axes.legend(frameon=False, labelcolor=INK)
    return figure


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
    """Steps and values of a metric, as means of neighbours where there are more than a figure can show."""
    pairs = np.array(points(log_history, key), dtype=float).reshape(-1, 2)
    steps, values = pairs[:, 0], pairs[:, 1]
    return _thinned(steps), _thinned(values)


def _thinned(values: np.ndarray) -> np.ndarray:
    if len(values) <= _MAX_POINTS:
        return values
    return np.array([block.mean() for block in np.array_split(values, _MAX_POINTS)])


def _window(count: int) -> int:
    return max(3, 2 * (count // _POINTS_PER_WINDOW // 2) + 1)


def _draw_curve(
    axes: "Axes", steps: np.ndarray, values: np.ndarray, label: str, colour: str, line: str, *, of: int
) -> None:
    if len(steps) < _MIN_POINTS_TO_SMOOTH:
        axes.plot(steps, values, color=colour, linestyle=line, marker="o", markersize=4, linewidth=1.5, label=label)
        return
    if of <= _CURVES_WITH_DOTS:
        axes.plot(steps, values, color=colour, marker=".", markersize=4, linestyle="none", alpha=0.3)
    # Many curves can be told apart only where they are calm.
    window, width = (_window(len(steps)), 2.0) if of <= _CURVES_WITH_DETAIL else (max(3, len(steps) // 3), 1.4)
    axes.plot(steps, smooth(values, window), color=colour, linestyle=line, linewidth=width, label=label)


def _draw_stack(axes: "Axes", found: list[tuple[_Curve, np.ndarray, np.ndarray]]) -> None:
    steps = max((steps for _, steps, _ in found), key=len)
    # A phase that came up later, after a resume, took no time before.
    parts = [np.interp(steps, own, values, left=0.0) for _, own, values in found]
    if len(steps) >= _MIN_POINTS_TO_SMOOTH:
        parts = [smooth(part, _window(len(steps))) for part in parts]
    labels = [_escaped(curve.label.replace("_", " ")) for curve, _, _ in found]
    colours = _repeat((*COLOURS, "#999999"), len(found))
    if len(steps) > 1:
        axes.stackplot(steps, parts, labels=labels, colors=colours, linewidth=0)
        axes.set_xlim(steps[0], steps[-1])
        return
    bottom = 0.0
    for part, label, colour in zip(parts, labels, colours, strict=True):
        axes.bar([str(int(steps[0]))], part, bottom=bottom, label=label, color=colour, width=0.4)
        bottom += part[0]
    axes.set_xlim(-1, 1)


def _new_figure(title: str | None = None, height: float = 4.2, width: float = 7.2) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08))
    axes = figure.subplots()
    if title is not None:
        axes.set_title(_escaped(title), loc="left", fontweight="bold", color=INK)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(colors=INK)
    for part in (axes.xaxis, axes.yaxis):
        part.label.set_color(INK)
        part.get_offset_text().set_color(INK)
    return figure, axes


def _escaped(text: str) -> str:
    """Keep matplotlib from reading a name between dollar signs as a formula."""
    return text.replace("$", r"\$")


def _percent_axis(axis: Any, decimals: int | None = 0) -> None:
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(xmax=1, decimals=decimals, symbol=" %"))


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
