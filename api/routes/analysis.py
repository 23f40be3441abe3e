"""Statistics and plots of a sweep's results, and comparisons of jobs and sweeps."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from api.deps import JobId, ReadingSession, SelectedResults, SweepId
from api.openapi.document import raises, sends
from api.openapi.filter_parameters import FILTER_PARAMETERS
from api.schemas.analysis import (
    CorrelationsOut,
    EffectsOut,
    ImportanceOut,
    InteractionsOut,
    JobComparisonOut,
    ParetoOut,
    SweepComparisonOut,
)
from services.analysis import comparison
from services.analysis.correlations import correlate_results, find_pareto_front
from services.analysis.effects import estimate_interactions, estimate_main_effects
from services.analysis.importance import estimate_importance
from services.plotting import plots
from shared.domain.choices import CorrelationMethod, PlotFormat, PlotKind, Target
from shared.domain.errors import NoResultsError, NotComparableError
from shared.domain.ids import MAX_ID

router = APIRouter(prefix="/v1", tags=["analysis"])

FILTERED: dict[str, Any] = {
    "responses": raises(NoResultsError),
    "openapi_extra": FILTER_PARAMETERS,
}
OtherId = Annotated[int, Path(ge=1, le=MAX_ID, description="Number of the other one.")]
Method = Annotated[
    CorrelationMethod, Query(description="Pearson's coefficient, as published, or Spearman's.")
]
TargetParameter = Annotated[Target, Query(description="The result to explain.")]


@router.get("/sweeps/{sweep_id}/analysis/correlations", **FILTERED)
def correlations(
    sweep_id: SweepId,
    session: ReadingSession,
    selection: SelectedResults,
    method: Method = CorrelationMethod.PEARSON,
) -> CorrelationsOut:
    """Correlates parameters, ratio, accuracies, throughput, times and fitness with each other."""
    return CorrelationsOut.of(correlate_results(session, sweep_id, selection, method))


@router.get("/sweeps/{sweep_id}/analysis/pareto", **FILTERED)
def pareto(sweep_id: SweepId, session: ReadingSession, selection: SelectedResults) -> ParetoOut:
    """Lists the networks that no other network beats in both accuracy and throughput."""
    return ParetoOut.of(find_pareto_front(session, sweep_id, selection))


@router.get("/sweeps/{sweep_id}/analysis/effects", **FILTERED)
def effects(
    sweep_id: SweepId,
    session: ReadingSession,
    selection: SelectedResults,
    target: TargetParameter = Target.ACCURACY,
) -> EffectsOut:
    """Means of a result at every level of every parameter, with 95 % intervals."""
    return EffectsOut.of(estimate_main_effects(session, sweep_id, selection, target))


@router.get("/sweeps/{sweep_id}/analysis/interactions", **FILTERED)
def interactions(
    sweep_id: SweepId,
    session: ReadingSession,
    selection: SelectedResults,
    target: TargetParameter = Target.ACCURACY,
    parameter: Annotated[
        list[str] | None,
        Query(max_length=64, description="Parameters to pair, e.g. `stride[0]`; default: all."),
    ] = None,
) -> InteractionsOut:
    """Means of a result for every two levels of every two parameters, with 95 % intervals."""
    return InteractionsOut.of(
        estimate_interactions(session, sweep_id, selection, target, parameter or ())
    )


@router.get("/sweeps/{sweep_id}/analysis/importance", **FILTERED)
def importance(
    sweep_id: SweepId,
    session: ReadingSession,
    selection: SelectedResults,
    target: TargetParameter = Target.ACCURACY,
) -> ImportanceOut:
    """Share of a result's variance that each parameter and each pair of parameters explains."""
    return ImportanceOut.of(estimate_importance(session, sweep_id, selection, target))


@router.get("/sweeps/{sweep_id}/analysis/comparison/{other_id}", responses=raises(NoResultsError))
def compare_sweeps(
    sweep_id: SweepId, other_id: OtherId, session: ReadingSession
) -> SweepComparisonOut:
    """Compares two sweeps by the architectures that completed in both."""
    return SweepComparisonOut.of(comparison.compare_sweeps(session, sweep_id, other_id))


@router.get(
    "/jobs/{job_id}/comparison/{other_id}",
    responses=raises(NoResultsError, NotComparableError),
)
def compare_jobs(job_id: JobId, other_id: OtherId, session: ReadingSession) -> JobComparisonOut:
    """Compares two networks on the same validation images: McNemar's test, bootstrap interval."""
    return JobComparisonOut.of(comparison.compare_jobs(session, job_id, other_id))


@router.get(
    "/sweeps/{sweep_id}/plots/{kind}.{file_format}",
    response_class=Response,
    responses=sends(*(f.media_type for f in PlotFormat)) | raises(NoResultsError),
    openapi_extra=FILTER_PARAMETERS,
)
def plot(
    sweep_id: SweepId,
    kind: Annotated[PlotKind, Path(description="Kind of plot.")],
    file_format: Annotated[PlotFormat, Path(description="File format.")],
    session: ReadingSession,
    selection: SelectedResults,
    target: TargetParameter = Target.ACCURACY,
    method: Method = CorrelationMethod.PEARSON,
) -> Response:
    """Draws results as PNG or SVG; `target` is for effects, `method` for correlations."""
    drawn = plots.draw_plot(
        session,
        sweep_id,
        kind,
        file_format,
        selection,
        target=target,
        method=method,
    )
    return Response(drawn, media_type=file_format.media_type)
