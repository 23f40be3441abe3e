"""Draws results as figures, in colours that colour-blind readers can distinguish."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from services.analysis.correlations import Correlations
from services.analysis.effects import MainEffects, ParameterEffects
from services.analysis.result_table import Coverage, Level
from shared.domain.arrays import FloatArray, IntArray
from shared.domain.results.columns import COLUMN

SEQUENTIAL, DIVERGING = "viridis", "RdBu_r"
INK, QUIET, PALE = "#222222", "#6b6b6b", "#d9d9d9"
HIGHLIGHT = "#d55e00"  # vermilion of Okabe and Ito's palette
MAX_NUMBERED = 24  # names of a heat map with its numbers written in
MAX_BACKGROUND_LINES = 1500
BEST_SHARE, MAX_BEST = 0.05, 300


def _where(coverage: Coverage, *, throughput: bool = False) -> str:
    """Returns which networks a figure shows; with ``throughput`` also whose throughputs."""
    networks = f"{coverage.used:,} of {coverage.total:,} networks"
    one = f"; throughputs of {coverage.throughput_device}" if len(coverage.device) > 1 else ""
    return f"{networks}, measured on {', '.join(coverage.device)}{one if throughput else ''}"


def _head(figure: Figure, title: str, subtitle: str) -> None:
    """Puts a title and what it is about above a figure."""
    figure.suptitle(title, x=0.012, ha="left", fontsize=12.5, color=INK, parse_math=False)
    figure.text(
        0.012, 0, subtitle, ha="left", va="bottom", fontsize=8, color=QUIET, parse_math=False
    )
    figure.get_layout_engine().set(rect=(0, 0.03, 1, 0.97))  # type: ignore[union-attr, call-arg]


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(QUIET)
    axes.tick_params(colors=QUIET, labelcolor=INK, labelsize=9)
    axes.grid(color=PALE, lw=0.6, zorder=0)
    axes.set_axisbelow(True)


def draw_scatter(
    throughput: FloatArray,
    accuracy: FloatArray,
    ratio: FloatArray,
    front: IntArray,
    *,
    title: str,
    coverage: Coverage,
) -> Figure:
    """Draws accuracy against throughput, coloured by ratio, the Pareto front on top.

    Source: the first figure of the random-CNN experiment.
    """
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.add_subplot()
    order = np.random.default_rng(0).permutation(len(ratio))  # no group lies on top of another
    dots = axes.scatter(
        throughput[order], 100 * accuracy[order], c=ratio[order], s=_dot_area(len(ratio)),
        cmap=SEQUENTIAL, alpha=0.75, lw=0, rasterized=True, zorder=2,
    )  # fmt: skip
    x, y = throughput[front], 100 * accuracy[front]
    axes.step(x, y, where="post", color=HIGHLIGHT, lw=1.3, zorder=3)
    axes.scatter(
        x, y, s=34, facecolor="none", edgecolor=HIGHLIGHT, lw=1.3, zorder=4,
        label=f"Pareto front ({len(front):,})",
    )  # fmt: skip
    axes.set_xscale("log")
    _log_ticks(axes)
    axes.set(xlabel=COLUMN["throughput"].label, ylabel=COLUMN["accuracy"].label)
    axes.legend(frameon=False, fontsize=9, loc="best")
    _plain(axes)
    bar = figure.colorbar(dots, label=COLUMN["ratio"].label, pad=0.015, aspect=30)
    bar.solids.set_alpha(1)  # type: ignore[union-attr]
    bar.outline.set_visible(False)
    _head(figure, title, _where(coverage))
    return figure


def _dot_area(points: int) -> float:
    return float(np.clip(8000 / np.sqrt(points) / 10, 3.5, 26))


def _log_ticks(axes: Axes) -> None:
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def draw_correlations(correlations: Correlations, title: str) -> Figure:
    """Draws a heat map of correlations, without the columns that do not vary.

    Source: the second figure of the random-CNN experiment.
    """
    varies = np.isfinite(np.diag(correlations.coefficients))
    names = [name for name, kept in zip(correlations.names, varies, strict=True) if kept]
    values = correlations.coefficients[np.ix_(varies, varies)][1:, :-1]  # the rest repeats it
    size = max(4.6, 0.47 * len(names) + 2.0)
    figure = Figure(figsize=(min(size + 0.8, 24), min(size, 23)), layout="constrained")
    axes = figure.add_subplot()
    below = np.tri(len(values), dtype=bool)
    image = axes.imshow(np.where(below, values, np.nan), cmap=DIVERGING, vmin=-1, vmax=1)
    places = range(len(values))
    axes.set_xticks(places, names[:-1], rotation=50, ha="right", rotation_mode="anchor")
    axes.set_yticks(places, names[1:])
    axes.tick_params(length=0, labelsize=9, labelcolor=INK)
    axes.spines[:].set_visible(False)
    if len(names) <= MAX_NUMBERED:
        _write_numbers(axes, values)
    bar = figure.colorbar(image, shrink=0.6, aspect=25, pad=0.02)
    bar.outline.set_visible(False)
    counts = correlations.counts[np.ix_(varies, varies)]
    low, high = (int(end) for end in (counts.min(), counts.max())) if names else (0, 0)
    spread = "" if low == high else f", each over {low:,} to {high:,} networks"
    method = f"{correlations.method.value.capitalize()}'s correlation{spread}"
    _head(figure, title, f"{method}; {_where(correlations.coverage, throughput=True)}")
    return figure


def _write_numbers(axes: Axes, values: FloatArray) -> None:
    for row in range(len(values)):
        for column in range(row + 1):
            value = round(float(values[row, column]), 2)
            if np.isfinite(value):
                text = f"{value + 0.0:.2f}".replace("-", "−").replace("0.", ".")  # no minus zero
                color = "white" if abs(value) > 0.55 else INK
                axes.text(column, row, text, ha="center", va="center", fontsize=8, color=color)


def draw_effects(main_effects: MainEffects, title: str) -> Figure:
    """Draws the mean per level of every parameter with its interval: fields down, layers across."""
    shown = [entry for entry in main_effects.parameters if (entry.effects.counts > 0).sum() > 1]
    fields = list(dict.fromkeys(entry.parameter.field for entry in shown))
    layers = sorted({entry.parameter.layer for entry in shown})
    height, width = max(len(fields), 1), max(len(layers), 1)
    figure = Figure(
        figsize=(min(2.7 * width + 1.2, 24), min(2.1 * height + 1.1, 18)), layout="constrained"
    )
    grid = figure.subplots(height, width, sharey=True, squeeze=False)
    for axes in grid.flat:
        axes.set_visible(False)
    for entry in shown:
        place = grid[fields.index(entry.parameter.field), layers.index(entry.parameter.layer)]
        _draw_effect(place, entry, main_effects.mean, COLUMN[main_effects.target].shown_factor)
    figure.supylabel(COLUMN[main_effects.target].label, fontsize=10, color=INK)
    note = "means with 95 % intervals, networks per level below; dashed: mean of all"
    _head(figure, title, f"{note}; {_where(main_effects.coverage)}")
    return figure


def _draw_effect(axes: Axes, entry: ParameterEffects, mean: float, scale: float) -> None:
    axes.set_visible(True)
    places = np.arange(len(entry.levels))
    effects = entry.effects
    axes.axhline(scale * mean, color=QUIET, lw=0.9, ls=(0, (4, 3)), zorder=1)
    axes.errorbar(
        places, scale * effects.means, scale * np.nan_to_num(effects.half_widths),
        color="#0072b2", marker="o", ms=5, lw=1.4, elinewidth=1.4, capsize=3.5, zorder=3,
    )  # fmt: skip
    names = ["none" if level is None else str(level) for level in entry.levels]
    labels = [f"{name}\n{n:,}" for name, n in zip(names, effects.counts, strict=True)]
    axes.set_xticks(places, labels)
    axes.set_xlim(-0.5, len(places) - 0.5)
    axes.set_title(str(entry.parameter), fontsize=9.5, color=INK, parse_math=False)
    _plain(axes)
    axes.grid(visible=False, axis="x")
    axes.tick_params(axis="x", labelsize=8)


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis of parallel coordinates: values (n,), or places in a list of levels."""

    name: str
    values: FloatArray
    levels: Sequence[Level] | None = None
    logarithmic: bool = False

    def scaled(self) -> FloatArray:
        """Returns the values from 0 at the bottom to 1 at the top."""
        low, high = self.ends()
        values = np.log10(self.values) if self.logarithmic else self.values
        return (values - low) / ((high - low) or 1.0)

    def ends(self) -> tuple[float, float]:
        if self.levels is not None:
            return -0.5, len(self.levels) - 0.5
        values = np.log10(self.values) if self.logarithmic else self.values
        return float(values.min()), float(values.max())


def draw_parallel(
    axes_data: Sequence[Axis], accuracy: FloatArray, title: str, coverage: Coverage
) -> Figure:
    """Draws networks as lines over all axes: the most accurate in colour, others behind them."""
    figure = Figure(figsize=(min(1.05 * len(axes_data) + 2.5, 26), 5.6), layout="constrained")
    axes = figure.add_subplot()
    rng = np.random.default_rng(0)
    heights = np.stack([_spread(axis, rng) for axis in axes_data])
    order = np.argsort(accuracy, kind="stable")
    best = order[len(order) - min(max(int(BEST_SHARE * len(order)), 1), MAX_BEST) :]
    rest = np.setdiff1d(order, best)
    behind = rng.permutation(rest)[:MAX_BACKGROUND_LINES]
    axes.add_collection(_lines(heights[:, behind], color=PALE, lw=0.4, zorder=1))
    lines = _lines(heights[:, best], cmap=SEQUENTIAL, lw=1.1, alpha=0.85, zorder=2)
    lines.set_array(100 * accuracy[best])
    axes.add_collection(lines)
    for place, axis in enumerate(axes_data):
        _draw_axis(axes, place, axis)
    axes.set(xlim=(-0.35, len(axes_data) - 0.55), ylim=(-0.03, 1.06))
    axes.axis("off")
    bar = figure.colorbar(lines, label=COLUMN["accuracy"].label, pad=0.01, aspect=30)
    bar.solids.set_alpha(1)  # type: ignore[union-attr]
    bar.outline.set_visible(False)
    others = f"{len(behind):,} of the others" if len(behind) < len(rest) else "the others"
    note = f"in colour the {len(best):,} most accurate, in grey {others}"
    _head(figure, title, f"{note}; {_where(coverage)}")
    return figure


def _spread(axis: Axis, rng: np.random.Generator) -> FloatArray:
    """Returns heights of lines; lines of the same level are spread a little around it."""
    if axis.levels is None:
        return axis.scaled()
    step = 0.3 * (rng.random(len(axis.values)) - 0.5)
    return Axis(axis.name, axis.values + step, axis.levels).scaled()


def _lines(heights: FloatArray, **style: object) -> LineCollection:
    places = np.broadcast_to(np.arange(len(heights)), heights.T.shape)
    segments = np.stack([places, heights.T], axis=-1)
    return LineCollection(list(segments), rasterized=True, **style)  # type: ignore[arg-type]


def _draw_axis(axes: Axes, place: int, axis: Axis) -> None:
    axes.plot([place, place], [0, 1], color=QUIET, lw=0.9, zorder=3)
    low, high = axis.ends()
    for value, text in _ticks(axis, low, high):
        height = (value - low) / ((high - low) or 1.0)
        axes.text(
            place + 0.06, height, text, fontsize=8, color=INK, va="center", zorder=4,
            bbox={"facecolor": "white", "alpha": 0.75, "lw": 0, "pad": 0.8},
        )  # fmt: skip
    axes.text(place, 1.035, axis.name, ha="center", va="bottom", fontsize=8.5, color=INK)


def _ticks(axis: Axis, low: float, high: float) -> list[tuple[float, str]]:
    if axis.levels is not None:
        names = ("none" if level is None else str(level) for level in axis.levels)
        return list(zip(map(float, range(len(axis.levels))), names, strict=True))
    if axis.logarithmic:
        values = LogLocator(subs=(1, 2, 5)).tick_values(10**low, 10**high)
        return [(np.log10(v), f"{v:,.10g}") for v in values if low <= np.log10(v) <= high]
    scale = COLUMN[axis.name].shown_factor
    values = MaxNLocator(6).tick_values(scale * low, scale * high)
    return [(v / scale, f"{v:.3g}") for v in values if low <= v / scale <= high]
