"""Ranked results, single jobs with their trials, and lists of jobs by state."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from services.leaderboard.filters import DEFAULT_SORT, Filters, parse_sort
from services.sweeps.device_choice import DeviceChoice, choose_device
from services.sweeps.reading import load_sweep
from shared.db.models import Job
from shared.db.queries.leaderboard import leaders as leaderboard_queries
from shared.db.queries.leaderboard.leaders import LeaderRow, Listing
from shared.db.queries.sweeps import attempts as attempt_queries
from shared.db.queries.sweeps import jobs as job_queries
from shared.db.queries.sweeps.attempts import AttemptRow
from shared.db.queries.sweeps.jobs import TrialRow
from shared.db.timing_models import JobThroughput
from shared.domain.errors import InvalidPageTokenError, JobNotFoundError
from shared.domain.page_tokens import (
    Id,
    Page,
    PlaceInListing,
    make_page_token,
    read_page_by_id,
    read_page_token,
)
from shared.domain.results.ranking import FITNESS_WEIGHT, FitnessScale, Place, SortKey
from shared.domain.status import JobStatus


@dataclass(frozen=True, slots=True)
class LeaderPage:
    """A page of ranked jobs; the first row has rank ``first_rank``."""

    rows: list[LeaderRow]
    first_rank: int
    choice: DeviceChoice
    next_page_token: str | None


@dataclass(frozen=True, slots=True)
class JobDetail:
    """A job with its throughputs, trials and attempts, in order; a running attempt comes last."""

    job: Job
    throughputs: list[JobThroughput]
    trials: list[TrialRow]
    attempts: list[AttemptRow]


def rank_jobs(
    session: Session,
    sweep_id: int,
    filters: Filters = Filters(),  # noqa: B008
    *,
    sort: str = DEFAULT_SORT,
    fitness_weight: float = FITNESS_WEIGHT,
    page_size: int = 100,
    page_token: str | None = None,
) -> LeaderPage:
    """Returns a page of the jobs that pass the filters, in order, ties by id.

    By default these are all jobs with results that no gate rejected or hides: see
    ``Filters.with_defaults``. The first page fixes the device model of the throughputs and the
    scale of the fitness; its tokens carry both to the next pages. A job whose figures do not change
    in between is on exactly one page, even while other results arrive.

    Raises:
        SweepNotFoundError: there is no such sweep.
        InvalidInputError: the sort is unknown, or nothing was measured on a device of the filters.
        InvalidPageTokenError: the token is damaged or comes from another listing.
    """
    keys = parse_sort(sort)
    identity = ["leaderboard", sweep_id, repr(filters), repr(keys), fitness_weight]
    place = None
    if page_token is not None:
        place = read_page_token(_LeaderPlace, identity, page_token)
        _check_keys(place, keys)
    choice = choose_device(session, sweep_id, place.device if place else filters.device)
    scale = _scale(session, sweep_id, choice, fitness_weight, place)
    shown_by_default = filters.with_defaults(choice.min_throughput)
    listing = Listing(sweep_id, shown_by_default.conditions, keys, scale)
    after = Place(tuple(place.values), place.id) if place else None
    rows = leaderboard_queries.select_leaders(session, listing, after=after, limit=page_size + 1)
    shown, before = rows[:page_size], place.shown if place else 0
    token = None
    if len(rows) > page_size:
        token = make_page_token(identity, _place(choice, scale, shown[-1], before + page_size))
    return LeaderPage(shown, before + 1, choice, token)


class _LeaderPlace(PlaceInListing):
    """The last row shown, the number of rows shown, and what the first page fixed."""

    id: Id
    values: list[float | int | None]  # of the sort keys
    shown: Id
    device: str | None
    scale: tuple[float | None, float | None, float | None, float | None]


def _check_keys(place: _LeaderPlace, keys: Sequence[SortKey]) -> None:
    if len(place.values) != len(keys):
        raise InvalidPageTokenError("page_token: is damaged.", field="page_token")


def _place(choice: DeviceChoice, scale: FitnessScale, last: LeaderRow, shown: int) -> _LeaderPlace:
    return _LeaderPlace(
        id=last.id,
        values=list(last.sort_values),
        shown=shown,
        device=choice.device,
        scale=(
            scale.least_accuracy, scale.greatest_accuracy,
            scale.least_throughput, scale.greatest_throughput,
        ),
    )  # fmt: skip


def _scale(
    session: Session,
    sweep_id: int,
    choice: DeviceChoice,
    weight: float,
    place: _LeaderPlace | None,
) -> FitnessScale:
    if place is not None:
        return FitnessScale(choice.device, choice.min_throughput, weight, *place.scale)
    return select_scale(session, sweep_id, choice, weight)


def select_scale(
    session: Session, sweep_id: int, choice: DeviceChoice, weight: float = FITNESS_WEIGHT
) -> FitnessScale:
    """Returns the scale of the fitness on a device model, over the networks shown by default."""
    return leaderboard_queries.select_fitness_scale(
        session, sweep_id, choice.device, choice.min_throughput, weight
    )


def list_jobs(
    session: Session,
    sweep_id: int,
    *,
    status: JobStatus | None = None,
    page_size: int = 100,
    page_token: str | None = None,
) -> Page[Job]:
    """Returns a page of a sweep's jobs by id, of one state or all.

    Raises:
        SweepNotFoundError: there is no such sweep.
        InvalidPageTokenError: the token is damaged or comes from another listing.
    """
    load_sweep(session, sweep_id)
    return read_page_by_id(
        ["jobs", sweep_id, status],
        page_token,
        page_size,
        lambda after_id, limit: job_queries.select_jobs(
            session, sweep_id, status=status, after_id=after_id or 0, limit=limit
        ),
    )


def get_job(session: Session, job_id: int) -> Job:
    """Returns a job.

    Raises:
        JobNotFoundError: there is no such job.
    """
    job = job_queries.find_job(session, job_id)
    if job is None:
        raise JobNotFoundError(f"There is no job {job_id}.", field="job_id")
    return job


def get_job_detail(session: Session, job_id: int) -> JobDetail:
    """Returns a job with its throughputs, its trials and every attempt at it.

    Raises:
        JobNotFoundError: there is no such job.
    """
    return JobDetail(
        get_job(session, job_id),
        job_queries.select_throughputs(session, job_id),
        job_queries.select_trials(session, job_id),
        attempt_queries.select_attempts(session, job_id),
    )
