"""Statistics and pictures of a sweep's results, and comparisons of jobs and sweeps."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from api.deps import FitnessWeight, JobId, ReadingSession, RowFilters, SweepId
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
from services.analysis import analyses, comparison
from services.analysis.result_table import Selection
from services.plotting import plots
from shared.domain.choices import CorrelationMethod, PlotFormat, PlotKind, Target
from shared.domain.errors import NoResultsError, NotComparableError
from shared.domain.ids import MAX_ID
from shared.domain.ranking import FITNESS_WEIGHT

router = APIRouter(prefix="/v1", tags=["analysis"])

OtherId = Annotated[int, Path(ge=1, le=MAX_ID, description="The number of the other one.")]
Method = Annotated[CorrelationMethod, Query(description="Pearson's as published, or Spearman's.")]
TargetParameter = Annotated[Target, Query(description="The result that is explained.")]


@router.get(
    "/sweeps/{sweep_id}/analysis/correlations",
    responses=raises(NoResultsError),
    openapi_extra=FILTER_PARAMETERS,
)
def correlations(
    sweep_id: SweepId,
    session: ReadingSession,
    filters: RowFilters,
    fitness_weight: FitnessWeight = FITNESS_WEIGHT,
    method: Method = CorrelationMethod.PEARSON,
) -> CorrelationsOut:
    """Correlates parameters, ratio, accuracies, throughput, times and fitness with each other."""
    found = analyses.correlate_results(
        session, sweep_id, Selection(filters, fitness_weight), method
    )
    return CorrelationsOut.of(found)


@router.get(
    "/sweeps/{sweep_id}/analysis/pareto",
    responses=raises(NoResultsError),
    openapi_extra=FILTER_PARAMETERS,
)
def pareto(
    sweep_id: SweepId,
    session: ReadingSession,
    filters: RowFilters,
    fitness_weight: FitnessWeight = FITNESS_WEIGHT,
) -> ParetoOut:
    """Lists the networks that no other one beats in accuracy and throughput."""
    return ParetoOut.of(
        analyses.find_pareto_front(session, sweep_id, Selection(filters, fitness_weight))
    )


@router.get(
    "/sweeps/{sweep_id}/analysis/effects",
    responses=raises(NoResultsError),
    openapi_extra=FILTER_PARAMETERS,
)
def effects(
    sweep_id: SweepId,
    session: ReadingSession,
    filters: RowFilters,
    fitness_weight: FitnessWeight = FITNESS_WEIGHT,
    target: TargetParameter = Target.ACCURACY,
) -> EffectsOut:
    """Means of a result at every level of every parameter, with 95 % intervals."""
    return EffectsOut.of(
        analyses.estimate_main_effects(
            session, sweep_id, Selection(filters, fitness_weight), target
        )
    )


@router.get(
    "/sweeps/{sweep_id}/analysis/interactions",
    responses=raises(NoResultsError),
    openapi_extra=FILTER_PARAMETERS,
)
def interactions(
    sweep_id: SweepId,
    session: ReadingSession,
    filters: RowFilters,
    fitness_weight: FitnessWeight = FITNESS_WEIGHT,
    target: TargetParameter = Target.ACCURACY,
    parameter: Annotated[
        list[str] | None,
        Query(max_length=64, description="Those to pair, e.g. `kernel_size[0]`; all if left out."),
    ] = None,
) -> InteractionsOut:
    """Means of a result for every two levels of every two parameters, with 95 % intervals."""
    return InteractionsOut.of(
        analyses.estimate_interactions(
            session, sweep_id, Selection(filters, fitness_weight), target, parameter or ()
        )
    )


@router.get(
    "/sweeps/{sweep_id}/analysis/importance",
    responses=raises(NoResultsError),
    openapi_extra=FILTER_PARAMETERS,
)
def importance(
    sweep_id: SweepId,
    session: ReadingSession,
    filters: RowFilters,
    fitness_weight: FitnessWeight = FITNESS_WEIGHT,
    target: TargetParameter = Target.ACCURACY,
) -> ImportanceOut:
    """Which share of a result's variance each parameter and each two of them explain."""
    return ImportanceOut.of(
        analyses.estimate_importance(session, sweep_id, Selection(filters, fitness_weight), target)
    )


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
    responses=sends(*(one.media_type for one in PlotFormat)) | raises(NoResultsError),
    openapi_extra=FILTER_PARAMETERS,
)
def plot(
    sweep_id: SweepId,
    kind: Annotated[PlotKind, Path(description="What is drawn.")],
    file_format: Annotated[PlotFormat, Path(description="What the file is.")],
    session: ReadingSession,
    filters: RowFilters,
    fitness_weight: FitnessWeight = FITNESS_WEIGHT,
    target: TargetParameter = Target.ACCURACY,
    method: Method = CorrelationMethod.PEARSON,
) -> Response:
    """Draws results as PNG or SVG; `target` is for effects, `method` for correlations."""
    drawn = plots.draw_plot(
        session,
        sweep_id,
        kind,
        file_format,
        Selection(filters, fitness_weight),
        target=target,
        method=method,
    )
    return Response(drawn, media_type=file_format.media_type)
