"""Plots of a sweep's results as files. The same results give the same bytes."""

import io
from collections.abc import Callable, Mapping
from functools import partial

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from sqlalchemy.orm import Session

from services.analysis.correlations import Correlations, correlate_results
from services.analysis.effects import estimate_main_effects
from services.analysis.result_table import ResultSelection, load_results
from services.analysis.statistics.pareto import pareto_front
from services.plotting.figures import (
    Axis,
    draw_correlations,
    draw_effects,
    draw_parallel,
    draw_scatter,
)
from services.plotting.trained_figures import draw_prediction
from services.sweeps.reading import load_sweep
from services.trainings.probe_vs_trained import compare_probe_with_training
from shared.domain.errors import NoResultsError
from shared.domain.results.choices import CorrelationMethod, PlotFormat, PlotKind, Target

mpl.rcParams["svg.hashsalt"] = "convsweep"  # fixed ids of SVG elements; they are random otherwise
Drawing = Callable[[], Figure]
DPI = 140
_BOTH = (Target.THROUGHPUT, Target.ACCURACY)
_METADATA: Mapping[PlotFormat, Mapping[str, None]] = {
    PlotFormat.PNG: {"Software": None},
    PlotFormat.SVG: {"Date": None, "Creator": None},
}


def prepare_plot(
    session: Session,
    sweep_id: int,
    kind: PlotKind,
    selection: ResultSelection,
    *,
    target: Target = Target.ACCURACY,
    method: CorrelationMethod = CorrelationMethod.PEARSON,
) -> Drawing:
    """Reads what a plot of a sweep's results shows, and returns what draws it.

    Args:
        target: the result whose main effects are drawn.
        method: how correlations are computed.

    Raises:
        SweepNotFoundError: there is no such sweep.
        InvalidInputError: nothing was measured on a device of the filters.
        NoResultsError: fewer than two networks have the results that the plot shows.
    """
    if kind is PlotKind.SCATTER:
        return _scatter(session, sweep_id, selection)
    if kind is PlotKind.CORRELATIONS:
        correlations = correlate_results(session, sweep_id, selection, method)
        _check_variety(correlations)
        return partial(draw_correlations, correlations, _name(session, sweep_id))
    if kind is PlotKind.EFFECTS:
        effects = estimate_main_effects(session, sweep_id, selection, target)
        return partial(draw_effects, effects, _name(session, sweep_id))
    return _parallel(session, sweep_id, selection)


def prepare_probe_vs_trained(session: Session, sweep_id: int) -> Drawing:
    """Reads what a plot of trained against probe accuracy shows, and returns what draws it.

    Raises:
        SweepNotFoundError: there is no such sweep.
        NoResultsError: no recipe has trained three networks yet.
    """
    comparison = compare_probe_with_training(session, sweep_id)
    return partial(draw_prediction, comparison, _name(session, sweep_id))


def draw(drawing: Drawing, file_format: PlotFormat) -> bytes:
    """Returns a prepared plot as a file; this takes most of the time and no database."""
    file = io.BytesIO()
    drawing().savefig(file, format=file_format.value, dpi=DPI, metadata=_METADATA[file_format])
    return file.getvalue()


def _check_variety(correlations: Correlations) -> None:
    if np.isfinite(np.diag(correlations.coefficients)).sum() < 2:
        raise NoResultsError(
            f"Over these {correlations.coverage.used} networks fewer than two columns vary: "
            "there is no correlation to draw."
        )


def _scatter(session: Session, sweep_id: int, selection: ResultSelection) -> Drawing:
    results = load_results(session, sweep_id, selection).where(*_BOTH)
    throughput, accuracy = (results.measures[name] for name in _BOTH)
    return partial(
        draw_scatter,
        throughput,
        accuracy,
        results.measures["ratio"],
        pareto_front(throughput, accuracy),
        title=results.sweep.name,
        coverage=results.coverage,
    )


def _parallel(session: Session, sweep_id: int, selection: ResultSelection) -> Drawing:
    results = load_results(session, sweep_id, selection).where(Target.ACCURACY)
    axes = [
        Axis(str(factor), results.factor(factor).codes.astype(float), results.levels(factor))
        for factor in results.parameters
    ]
    measured = [("ratio", False), (Target.THROUGHPUT, True), (Target.ACCURACY, False)]
    for name, logarithmic in measured:
        values = results.measures[name]
        if np.isfinite(values).all():
            axes.append(Axis(name, values, logarithmic=logarithmic))
    accuracy = results.measures[Target.ACCURACY]
    return partial(draw_parallel, axes, accuracy, results.sweep.name, results.coverage)


def _name(session: Session, sweep_id: int) -> str:
    return load_sweep(session, sweep_id).name
