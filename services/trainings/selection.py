"""Choosing jobs of a sweep with results by ids, rank, Pareto front or sample."""

import numpy as np
from sqlalchemy.orm import Session

from services.analysis.correlations import find_pareto_front
from services.analysis.result_table import ResultSelection, load_results
from services.leaderboard.filters import parse_filters
from services.leaderboard.leaders import rank_jobs
from services.sweeps.reading import load_sweep
from shared.db.queries.analysis import arrays as array_queries
from shared.domain.arrays import FloatArray
from shared.domain.errors import InvalidInputError, NoResultsError
from shared.domain.results.choices import Target
from shared.domain.results.selection import ByIds, ByPareto, ByRank, BySample, Selection

PAGE = 1000


def choose_jobs(session: Session, sweep_id: int, selection: Selection) -> list[int]:
    """Returns the ids of the jobs with results that a selection chooses.

    Raises:
        SweepNotFoundError: there is no such sweep.
        InvalidInputError: a given job is not of the sweep or has no results, or a filter
            or sort does not fit.
        NoResultsError: no job matches.
    """
    if isinstance(selection, ByIds):
        return _named(session, sweep_id, selection)
    where = parse_filters(selection.where.items())
    if where.uses("status"):
        raise InvalidInputError("status: only networks with results are trained.", field="where")
    results = ResultSelection(where)
    if isinstance(selection, ByRank):
        chosen = _ranked(session, sweep_id, selection)
    elif isinstance(selection, ByPareto):
        chosen = [job.id for job in find_pareto_front(session, sweep_id, results).front]
    else:
        measures = load_results(session, sweep_id, results).where(Target.ACCURACY).measures
        chosen = stratified_sample(measures["id"], measures[Target.ACCURACY], selection)
    if not chosen:
        raise NoResultsError(
            f"No job of sweep {sweep_id} with results matches. Wait for more, or widen the filters."
        )
    return chosen


def _named(session: Session, sweep_id: int, selection: ByIds) -> list[int]:
    load_sweep(session, sweep_id)
    job_ids = list(dict.fromkeys(selection.job_ids))
    jobs = array_queries.select_jobs_by_id(session, job_ids)
    for job_id in job_ids:
        job = jobs.get(job_id)
        if job is None or job.sweep_id != sweep_id:
            raise InvalidInputError(
                f"job_ids: sweep {sweep_id} has no job {job_id}.", field="job_ids"
            )
        if not job.is_ranked:
            why = f" ({job.reason})" if job.reason else ""
            raise InvalidInputError(
                f"job_ids: job {job_id} is {job.status}{why}; only networks with results are "
                "trained.",
                field="job_ids",
            )
    return job_ids


def _ranked(session: Session, sweep_id: int, selection: ByRank) -> list[int]:
    ranked: list[int] = []
    token = None
    filters = parse_filters(selection.where.items())
    while len(ranked) < selection.count:
        page = rank_jobs(
            session, sweep_id, filters, sort=selection.sort,
            page_size=min(PAGE, selection.count - len(ranked)), page_token=token,
        )  # fmt: skip
        ranked += [row.id for row in page.rows]
        token = page.next_page_token
        if token is None:
            break
    return ranked


def stratified_sample(
    job_ids: FloatArray, accuracies: FloatArray, selection: BySample
) -> list[int]:
    """Returns up to ``count`` jobs, spread evenly over the range of accuracies.

    The range is cut into strata of equal width; they give one random job each in turn until enough
    are chosen or all are. The same results and seed give the same sample.
    """
    random = np.random.default_rng(selection.seed)
    low, high = accuracies.min(), accuracies.max()
    width = (high - low) / selection.strata or 1.0
    places = np.minimum(((accuracies - low) / width).astype(int), selection.strata - 1)
    strata = [random.permutation(np.flatnonzero(places == n)) for n in range(selection.strata)]
    turns = max(map(len, strata))
    order = [members[turn] for turn in range(turns) for members in strata if turn < len(members)]
    return [int(job_ids[place]) for place in order[: selection.count]]
