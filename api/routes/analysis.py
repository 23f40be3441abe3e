"""Statistics and plots of a sweep's results, and comparisons of jobs and sweeps."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from api.computing import plot_tasks, tasks
from api.computing.pool import HEAVY, Computations
from api.deps import JobId, SelectedResults, SweepId
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
from shared.domain.errors import NoResultsError, NotComparableError
from shared.domain.ids import MAX_ID
from shared.domain.results.choices import CorrelationMethod, PlotFormat, PlotKind, Target

router = APIRouter(prefix="/v1", tags=["analysis"])

FILTERED: dict[str, Any] = {
    "responses": raises(NoResultsError, *HEAVY),
    "openapi_extra": FILTER_PARAMETERS,
}
OtherId = Annotated[int, Path(ge=1, le=MAX_ID, description="Number of the other one.")]
Method = Annotated[
    CorrelationMethod, Query(description="Pearson's coefficient, as published, or Spearman's.")
]
TargetParameter = Annotated[Target, Query(description="The result to explain.")]


@router.get("/sweeps/{sweep_id}/analysis/correlations", response_model=CorrelationsOut, **FILTERED)
async def correlations(
    sweep_id: SweepId,
    computing: Computations,
    selection: SelectedResults,
    method: Method = CorrelationMethod.PEARSON,
) -> Response:
    """Correlates parameters, ratio, accuracies, throughput, times and fitness with each other."""
    return await computing.json(tasks.correlations, sweep_id, selection, method)


@router.get("/sweeps/{sweep_id}/analysis/pareto", response_model=ParetoOut, **FILTERED)
async def pareto(
    sweep_id: SweepId, computing: Computations, selection: SelectedResults
) -> Response:
    """Lists the networks that no other network beats in both accuracy and throughput."""
    return await computing.json(tasks.pareto, sweep_id, selection)


@router.get("/sweeps/{sweep_id}/analysis/effects", response_model=EffectsOut, **FILTERED)
async def effects(
    sweep_id: SweepId,
    computing: Computations,
    selection: SelectedResults,
    target: TargetParameter = Target.ACCURACY,
) -> Response:
    """Means of a result at every level of every parameter, with 95 % intervals."""
    return await computing.json(tasks.effects, sweep_id, selection, target)


@router.get("/sweeps/{sweep_id}/analysis/interactions", response_model=InteractionsOut, **FILTERED)
async def interactions(
    sweep_id: SweepId,
    computing: Computations,
    selection: SelectedResults,
    target: TargetParameter = Target.ACCURACY,
    parameter: Annotated[
        list[str] | None,
        Query(max_length=64, description="Parameters to pair, e.g. `stride[0]`; default: all."),
    ] = None,
) -> Response:
    """Means of a result for every two levels of every two parameters, with 95 % intervals."""
    return await computing.json(tasks.interactions, sweep_id, selection, target, parameter or ())


@router.get("/sweeps/{sweep_id}/analysis/importance", response_model=ImportanceOut, **FILTERED)
async def importance(
    sweep_id: SweepId,
    computing: Computations,
    selection: SelectedResults,
    target: TargetParameter = Target.ACCURACY,
) -> Response:
    """Share of a result's variance that each parameter and each pair of parameters explains."""
    return await computing.json(tasks.importance, sweep_id, selection, target)


@router.get(
    "/sweeps/{sweep_id}/analysis/comparison/{other_id}",
    response_model=SweepComparisonOut,
    responses=raises(NoResultsError, *HEAVY),
)
async def compare_sweeps(sweep_id: SweepId, other_id: OtherId, computing: Computations) -> Response:
    """Compares two sweeps by the architectures with results in both."""
    return await computing.json(tasks.sweep_comparison, sweep_id, other_id)


@router.get(
    "/jobs/{job_id}/comparison/{other_id}",
    response_model=JobComparisonOut,
    responses=raises(NoResultsError, NotComparableError, *HEAVY),
)
async def compare_jobs(job_id: JobId, other_id: OtherId, computing: Computations) -> Response:
    """Compares two networks on the same validation images: McNemar's test, bootstrap interval."""
    return await computing.json(tasks.job_comparison, job_id, other_id)


@router.get(
    "/sweeps/{sweep_id}/plots/{kind}.{file_format}",
    response_class=Response,
    responses=sends(*(f.media_type for f in PlotFormat)) | raises(NoResultsError, *HEAVY),
    openapi_extra=FILTER_PARAMETERS,
)
async def plot(
    sweep_id: SweepId,
    kind: Annotated[PlotKind, Path(description="Kind of plot.")],
    file_format: Annotated[PlotFormat, Path(description="File format.")],
    computing: Computations,
    selection: SelectedResults,
    target: TargetParameter = Target.ACCURACY,
    method: Method = CorrelationMethod.PEARSON,
) -> Response:
    """Draws results as PNG or SVG; `target` is for effects, `method` for correlations."""
    return await computing.file(
        file_format.media_type,
        plot_tasks.plot,
        sweep_id,
        kind,
        file_format,
        selection,
        target,
        method,
    )
