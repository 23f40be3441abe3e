"""Drawing in a process of the pool; apart from the other tasks, which need no matplotlib."""

from api.computing.process import open_session
from services.analysis.result_table import ResultSelection
from services.plotting.plots import draw, prepare_plot, prepare_probe_vs_trained
from shared.domain.results.choices import CorrelationMethod, PlotFormat, PlotKind, Target


def plot(
    sweep_id: int,
    kind: PlotKind,
    file_format: PlotFormat,
    selection: ResultSelection,
    target: Target,
    method: CorrelationMethod,
) -> bytes:
    """Draws results; the database connection is free before the drawing begins."""
    with open_session() as session:
        drawing = prepare_plot(session, sweep_id, kind, selection, target=target, method=method)
    return draw(drawing, file_format)


def probe_vs_trained_plot(sweep_id: int, file_format: PlotFormat) -> bytes:
    """Draws trained against probe accuracy."""
    with open_session() as session:
        drawing = prepare_probe_vs_trained(session, sweep_id)
    return draw(drawing, file_format)
