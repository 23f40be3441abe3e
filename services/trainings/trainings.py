"""Choosing networks to train, asking for their trainings, steering and reading them."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Row
from sqlalchemy.orm import Session

from services.analysis.correlations import find_pareto_front
from services.analysis.result_table import ResultSelection, load_results
from services.leaderboard.filters import parse_filters
from services.leaderboard.leaders import rank_jobs
from services.leaderboard.page_tokens import read_page_by_id
from services.sweeps.sweeps import get_sweep
from shared.db.queries.analysis import arrays as array_queries
from shared.db.queries.trainings import trainings as training_queries
from shared.domain.arrays import FloatArray
from shared.domain.choices import Target
from shared.domain.errors import (
    IllegalTransitionError,
    InvalidInputError,
    NoResultsError,
    TrainingNotFoundError,
)
from shared.domain.recipe import Recipe
from shared.domain.selection import ByIds, ByPareto, ByRank, BySample, Selection
from shared.domain.status import TRAINING_ACTIONS, JobStatus, TrainingStatus

MAX_TRAININGS = 10_000  # of one request
PAGE = 1000


@dataclass(frozen=True, slots=True)
class Asked:
    """The trainings that a request stands for, and how many of them are new."""

    trainings: list[Row[Any]]
    created: int


def create_trainings(
    session: Session, sweep_id: int, selection: Selection, recipes: Sequence[Recipe]
) -> Asked:
    """Adds a pending training of every chosen network under every recipe, all or none.

    A network is trained once under a recipe: trainings that are there already are returned as they
    are, so asking again is safe.

    Raises:
        SweepNotFoundError: there is no such sweep.
        InvalidInputError: a chosen job is not of the sweep or did not complete, there are too many
            trainings, or a filter or sort does not fit.
        NoResultsError: no job matches.
    """
    job_ids = choose_jobs(session, sweep_id, selection)
    if len(job_ids) * len(recipes) > MAX_TRAININGS:
        raise InvalidInputError(
            f"{len(job_ids):,} networks times {len(recipes):,} recipes are more than the "
            f"{MAX_TRAININGS:,} trainings of one request; choose fewer.",
            field="select",
        )
    hashed = [(recipe, _recipe_hash(recipe)) for recipe in recipes]
    rows = [
        {
            "sweep_id": sweep_id,
            "job_id": job_id,
            "recipe": recipe.model_dump(mode="json"),
            "recipe_hash": digest,
            "epochs": recipe.epochs,
        }
        for job_id in job_ids
        for recipe, digest in hashed
    ]
    created = training_queries.insert_trainings(session, rows)
    keys = [(job_id, digest) for job_id in job_ids for _, digest in hashed]
    return Asked(training_queries.select_trainings_of(session, keys), created)


def _recipe_hash(recipe: Recipe) -> str:
    text = json.dumps(recipe.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def choose_jobs(session: Session, sweep_id: int, selection: Selection) -> list[int]:
    """Returns the ids of the completed jobs that a selection stands for.

    Raises:
        SweepNotFoundError: there is no such sweep.
        InvalidInputError: a job that is named is not of the sweep or did not complete, or a filter
            or sort does not fit.
        NoResultsError: no job matches.
    """
    if isinstance(selection, ByIds):
        return _named(session, sweep_id, selection)
    where = parse_filters(selection.where.items())
    if where.uses("status"):
        raise InvalidInputError("status: completed networks alone are trained.", field="where")
    results = ResultSelection(where)
    if isinstance(selection, ByRank):
        chosen = _ranked(session, sweep_id, selection)
    elif isinstance(selection, ByPareto):
        chosen = [job.id for job in find_pareto_front(session, sweep_id, results).jobs]
    else:
        measures = load_results(session, sweep_id, results).where(Target.ACCURACY).measures
        chosen = stratified_sample(measures["id"], measures[Target.ACCURACY], selection)
    if not chosen:
        raise NoResultsError(
            f"No completed job of sweep {sweep_id} matches. Wait for results, or widen the filters."
        )
    return chosen


def _named(session: Session, sweep_id: int, selection: ByIds) -> list[int]:
    get_sweep(session, sweep_id)
    wanted = list(dict.fromkeys(selection.job_ids))
    jobs = array_queries.select_jobs_by_id(session, wanted)
    for job_id in wanted:
        job = jobs.get(job_id)
        if job is None or job.sweep_id != sweep_id:
            raise InvalidInputError(
                f"job_ids: sweep {sweep_id} has no job {job_id}.", field="job_ids"
            )
        if job.status != JobStatus.COMPLETED:
            why = f" ({job.reason})" if job.reason else ""
            raise InvalidInputError(
                f"job_ids: job {job_id} is {job.status}{why}; completed networks alone are "
                "trained.",
                field="job_ids",
            )
    return wanted


def _ranked(session: Session, sweep_id: int, selection: ByRank) -> list[int]:
    found: list[int] = []
    token = None
    filters = parse_filters(selection.where.items())
    while len(found) < selection.count:
        page = rank_jobs(
            session, sweep_id, filters, sort=selection.sort,
            page_size=min(PAGE, selection.count - len(found)), page_token=token,
        )  # fmt: skip
        found += [row.id for row in page.rows]
        token = page.next_page_token
        if token is None:
            break
    return found


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


@dataclass(frozen=True, slots=True)
class TrainingPage:
    """A page of trainings by id, and how many of the sweep are in each state."""

    trainings: list[Row[Any]]
    counts: dict[TrainingStatus, int]
    next_page_token: str | None


def list_trainings(
    session: Session,
    sweep_id: int,
    *,
    status: TrainingStatus | None = None,
    page_size: int = 100,
    page_token: str | None = None,
) -> TrainingPage:
    """Returns a page of a sweep's trainings with their results so far.

    Raises:
        SweepNotFoundError: there is no such sweep.
        InvalidPageTokenError: the token is damaged or comes from another listing.
    """
    get_sweep(session, sweep_id)
    page = read_page_by_id(
        ["trainings", sweep_id, status],
        page_token,
        page_size,
        lambda after_id, limit: training_queries.select_trainings(
            session, sweep_id, status=status, after_id=after_id or 0, limit=limit
        ),
    )
    counts = training_queries.count_trainings(session, sweep_id)
    return TrainingPage(
        page.items,
        {state: counts.get(state, 0) for state in TrainingStatus},
        page.next_page_token,
    )


def every_training(
    session: Session, sweep_id: int, status: TrainingStatus | None = None
) -> Iterator[Row[Any]]:
    """Yields all trainings of a sweep, by id.

    Raises:
        SweepNotFoundError: there is no such sweep.
    """
    get_sweep(session, sweep_id)
    after_id = 0
    while rows := training_queries.select_trainings(
        session, sweep_id, status=status, after_id=after_id, limit=PAGE
    ):
        yield from rows
        after_id = rows[-1].id


def get_training(session: Session, training_id: int) -> tuple[Row[Any], list[Row[Any]]]:
    """Returns a training and its epochs in order.

    Raises:
        TrainingNotFoundError: there is no such training.
    """
    found = training_queries.find_training(session, training_id)
    if found is None:
        raise TrainingNotFoundError(f"There is no training {training_id}.", field="training_id")
    return found, training_queries.select_epochs(session, [training_id])


def steer_trainings(session: Session, sweep_id: int, action: str) -> int:
    """Pauses, resumes, cancels or retries what can be of a sweep's trainings; returns how many.

    Raises:
        SweepNotFoundError: there is no such sweep.
    """
    get_sweep(session, sweep_id)
    sources, target = TRAINING_ACTIONS[action]
    return training_queries.move_trainings(session, sweep_id, None, sources=sources, target=target)


def steer_training(session: Session, training_id: int, action: str) -> None:
    """Pauses, resumes, cancels or retries one training; what it is already it stays.

    Raises:
        TrainingNotFoundError: there is no such training.
        IllegalTransitionError: it cannot go there from where it is.
    """
    found, _ = get_training(session, training_id)
    sources, target = TRAINING_ACTIONS[action]
    moved = training_queries.move_trainings(
        session, found.sweep_id, training_id, sources=sources, target=target
    )
    if not moved and found.status != target:
        allowed = [name for name, (states, _) in TRAINING_ACTIONS.items() if found.status in states]
        raise IllegalTransitionError(
            f"Training {training_id} is {found.status}: it cannot {action}; "
            f"possible actions: {', '.join(allowed) or 'none'}."
        )
