"""Sweeps: all rows or none, counts that always add up, and control."""

import random
from collections.abc import Iterator

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from services.dispatching.dispatch import reap_expired_leases
from services.leasing.group_leases import Claim, fail_claim, release_claim
from services.monitoring.workers import note_worker_problem
from services.sweeps.control import cancel_sweep, pause_sweep, resume_sweep
from services.sweeps.creation import create_sweep, preview_sweep
from services.sweeps.reading import get_sweep, list_sweeps
from services.sweeps.time_left import NO_FORECAST
from shared.db.models import Group, Job, Sweep, SweepProgress
from shared.domain.architecture import Architecture, LayerConfig
from shared.domain.errors import IllegalTransitionError, SweepNotFoundError
from shared.domain.measurements import JobOutcome, Reason
from shared.domain.protocol import Gates, Order, Protocol
from shared.domain.protocol import random_cnn_2025 as published_protocol
from shared.domain.space import LayerSpace, SearchSpace, SpaceTable, random_cnn_2025
from shared.domain.status import JobStatus
from tests.conftest import SessionFactory
from tests.integration.scenario import (
    GROUP_SIZE,
    GROUPS,
    add_sweep,
    add_worker,
    assert_counts_add_up,
    claim,
    claimed,
    complete,
    expire,
    finish_sweep,
    rejection,
    small_protocol,
    small_space,
    statuses,
    success,
    trial,
)

TOTAL = GROUPS * GROUP_SIZE


def count(session: Session, *tables: type[Sweep | Group | Job | SweepProgress]) -> list[int]:
    return [session.execute(select(func.count()).select_from(t)).scalar_one() for t in tables]


def status_of(session: Session, sweep_id: int) -> str:
    return get_sweep(session, sweep_id).sweep.status


def test_creating_a_sweep_adds_one_pending_job_per_architecture(session: Session) -> None:
    space = small_space()
    sweep_id = create_sweep(session, space, small_protocol(trials=3)).id
    session.commit()
    jobs = list(session.execute(select(Job).order_by(Job.space_index)).scalars())
    assert [job.architecture for job in jobs] == list(space)
    assert [job.architecture_hash for job in jobs] == [one.hash for one in space]
    assert [job.group_index for job in jobs] == [0] * 4 + [1] * 4 + [2] * 4
    assert {(job.status, job.attempt, job.trials_done, job.trials_target) for job in jobs} == {
        ("pending", 0, 0, 3)
    }
    for job in jobs:
        measures = job.architecture.measures((1, 32, 32))
        assert job.ratio == measures.ratio
        assert (job.parameters, job.flops) == (measures.parameters, measures.flops)
    assert assert_counts_add_up(session, sweep_id) == {"pending": TOTAL}


def test_what_does_not_fit_is_a_job_without_measures(session: Session) -> None:
    layer = LayerSpace(kernel_size=(3, 33))
    create_sweep(session, SearchSpace(layers=(layer,)), small_protocol())
    fits, does_not = session.execute(select(Job).order_by(Job.space_index)).scalars()
    assert fits.ratio is not None
    assert (does_not.ratio, does_not.parameters, does_not.flops) == (None, None, None)


def test_mixed_depths_keep_their_layers(session: Session) -> None:
    space = SearchSpace(layers=(LayerSpace(), LayerSpace(activation=("none",))), depths=(2, 1))
    create_sweep(session, space, small_protocol())
    jobs = session.execute(select(Job).order_by(Job.space_index)).scalars()
    assert [job.architecture for job in jobs] == list(space)


def test_published_space_is_seeded_whole(session: Session) -> None:
    sweep_id = create_sweep(session, random_cnn_2025(), published_protocol()).id
    session.commit()
    assert count(session, Sweep, Group, Job) == [1, 1_296, 46_656]
    assert get_sweep(session, sweep_id).counts[JobStatus.PENDING] == 46_656
    without_shape = select(func.count()).select_from(Job).where(Job.ratio.is_(None))
    assert session.execute(without_shape).scalar_one() == 10_287


def test_preview_counts_the_published_space_without_storing_it(session: Session) -> None:
    preview = preview_sweep(random_cnn_2025(), published_protocol())
    assert (preview.total, preview.valid, preview.groups) == (46_656, 32_021, 1_296)
    assert preview.invalid == {
        Reason.INVALID_SHAPE: 10_287,
        Reason.RATIO_ABOVE_MAXIMUM: 4_348,
        Reason.RATIO_BELOW_MINIMUM: 0,
    }
    assert preview.flops_per_trial == 1_000 * preview.flops
    assert count(session, Sweep, Job) == [0, 0]


def test_preview_counts_networks_that_compute_the_same_as_another() -> None:
    first = LayerSpace(channels=(2, 4), kernel_size=(1, 3), dilation=(2, 1, 3))
    second = LayerSpace(kernel_size=(1, 9), dilation=(1, 2), activation=("relu", "gelu"))
    space = SearchSpace(layers=(first, second), depths=(1, 2))
    protocol = Protocol(dataset="digits", input_shape=(1, 12, 12), gates=Gates(max_ratio=None))

    def effect(architecture: Architecture) -> tuple[LayerConfig, ...]:
        return tuple(
            layer._replace(dilation=1) if layer.kernel_size == 1 else layer
            for layer in architecture.layers
        )

    valid = [one for one in space if one.output_shape(protocol.input_shape) is not None]
    assert len(valid) < len(space)
    equivalent = preview_sweep(space, protocol).equivalent
    assert equivalent == len(valid) - len({effect(architecture) for architecture in valid}) > 0
    assert preview_sweep(random_cnn_2025(), published_protocol()).equivalent == 0


class _BreaksMidway(SearchSpace):
    """A space whose second table cannot be made."""

    def tables(self, input_shape: object, rows: int = 0) -> Iterator[SpaceTable]:
        yield next(SearchSpace.tables(self, (1, 32, 32), rows=GROUP_SIZE))
        raise OSError("midway")


def test_failure_midway_leaves_nothing(sessions: SessionFactory, session: Session) -> None:
    broken = _BreaksMidway(layers=small_space().layers)
    with pytest.raises(OSError, match="midway"), sessions.begin() as doomed:
        create_sweep(doomed, broken, small_protocol())
    assert count(session, Sweep, SweepProgress, Group, Job) == [0, 0, 0, 0]


def test_nothing_of_a_sweep_is_seen_before_its_commit(
    sessions: SessionFactory, session: Session
) -> None:
    with sessions() as creating:
        create_sweep(creating, small_space(), small_protocol())
        assert count(session, Sweep, SweepProgress, Group, Job) == [0, 0, 0, 0]
        session.rollback()
        creating.commit()
    assert count(session, Sweep, SweepProgress, Group, Job) == [1, 1, GROUPS, TOTAL]


def test_an_architecture_is_in_a_sweep_once_by_postgres_itself(session: Session) -> None:
    sweep_id, other_id = add_sweep(session), add_sweep(session)
    columns = (
        "space_index, group_index, channels, kernel_size, stride, dilation, padding, "
        "activation, trials_target, architecture_hash"
    )
    copy = text(
        f"INSERT INTO jobs (sweep_id, {columns}) SELECT :to, {columns} FROM jobs "
        "WHERE sweep_id = :sweep ORDER BY id LIMIT 1"
    )
    assert len(statuses(session, sweep_id)) == len(statuses(session, other_id)) == TOTAL
    with pytest.raises(IntegrityError, match="jobs_architecture_once"):
        session.execute(copy, {"sweep": sweep_id, "to": sweep_id})


@pytest.mark.parametrize("order", Order)
def test_order_decides_positions_and_the_same_seed_repeats_them(
    order: Order, session: Session
) -> None:
    def positions(seed: int) -> list[int]:
        protocol = Protocol(dataset="digits", input_shape=(1, 32, 32), order=order, seed=seed)
        sweep_id = create_sweep(session, small_space(50), protocol).id
        chosen = select(Group.position).where(Group.sweep_id == sweep_id).order_by(Group.index)
        return list(session.execute(chosen).scalars())

    first = positions(seed=1)
    assert sorted(first) == list(range(50))
    assert positions(seed=1) == first
    assert (first == sorted(first)) == (order is Order.GRID)
    assert (positions(seed=2) == first) == (order is Order.GRID)


def test_pausing_and_resuming_move_between_the_two_states(session: Session) -> None:
    sweep_id = add_sweep(session)
    for change, status in [
        (pause_sweep, "paused"),
        (pause_sweep, "paused"),  # asking twice is fine
        (resume_sweep, "running"),
        (resume_sweep, "running"),
    ]:
        change(session, sweep_id)
        session.commit()
        assert status_of(session, sweep_id) == status
        assert assert_counts_add_up(session, sweep_id) == {"pending": TOTAL}


@pytest.mark.parametrize("paused", [False, True])
def test_cancelling_ends_every_unfinished_job_and_keeps_the_finished(
    paused: bool, session: Session
) -> None:
    sweep_id = add_sweep(session)
    complete(session, claimed(session, sweep_id, 0))
    held = claimed(session, sweep_id, 1)
    if paused:
        pause_sweep(session, sweep_id)
    assert cancel_sweep(session, sweep_id) == 2 * GROUP_SIZE
    session.commit()
    counts = assert_counts_add_up(session, sweep_id)
    assert counts == {"completed": GROUP_SIZE, "cancelled": 2 * GROUP_SIZE}
    ended = text("SELECT outcome FROM leases WHERE token = :token")
    assert session.execute(ended, {"token": held.token}).scalar_one() == "cancelled"
    assert cancel_sweep(session, sweep_id) == 0  # once more changes nothing


def test_what_is_over_stays_over(session: Session) -> None:
    completed, cancelled = add_sweep(session), add_sweep(session)
    finish_sweep(session, completed)
    cancel_sweep(session, cancelled)
    session.commit()
    for sweep_id, change in [
        (completed, pause_sweep),
        (completed, resume_sweep),
        (completed, cancel_sweep),
        (cancelled, pause_sweep),
        (cancelled, resume_sweep),
    ]:
        with pytest.raises(IllegalTransitionError):
            change(session, sweep_id)
        session.rollback()
    assert status_of(session, completed) == "completed"
    assert status_of(session, cancelled) == "cancelled"


def test_controlling_an_unknown_sweep_is_an_error(session: Session) -> None:
    for use in (get_sweep, pause_sweep, resume_sweep, cancel_sweep):
        with pytest.raises(SweepNotFoundError, match="no sweep 404") as caught:
            use(session, 404)
        assert caught.value.field == "sweep_id"


def test_sweeps_are_listed_newest_first_and_page_without_gaps(session: Session) -> None:
    ids = [add_sweep(session, groups=1) for _ in range(5)]
    pages, token = [], None
    for _ in range(3):
        page = list_sweeps(session, page_size=2, page_token=token)
        pages.append([state.sweep.id for state in page.items])
        token = page.next_page_token
    assert pages == [[ids[4], ids[3]], [ids[2], ids[1]], [ids[0]]]
    assert token is None


def test_a_session_that_read_a_sweep_before_decides_on_what_it_is_now(
    sessions: SessionFactory, session: Session
) -> None:
    sweep_id = add_sweep(session)
    before = get_sweep(session, sweep_id)
    session.commit()
    with sessions() as other:
        finish_sweep(other, sweep_id)
    with pytest.raises(IllegalTransitionError, match="completed"):
        pause_sweep(session, sweep_id)
    now = get_sweep(session, sweep_id)
    assert now.counts[JobStatus.COMPLETED] == TOTAL
    assert now.sweep is before.sweep  # the session keeps one object, brought up to date


def test_rate_and_eta_are_known_while_running_and_unknown_before_and_after(
    session: Session,
) -> None:
    sweep_id = add_sweep(session)
    assert get_sweep(session, sweep_id).forecast.jobs_per_s is None
    complete(session, claimed(session, sweep_id, 0))
    known = get_sweep(session, sweep_id).forecast
    assert known.jobs_per_s is not None
    assert known.eta_s == pytest.approx(2 * GROUP_SIZE / known.jobs_per_s)
    session.commit()
    for group in (1, 2):
        complete(session, claimed(session, sweep_id, group))
    assert get_sweep(session, sweep_id).forecast == NO_FORECAST


def test_a_sweep_says_that_it_waits_for_a_worker(session: Session) -> None:
    sweep_id = add_sweep(session)
    session.execute(text("UPDATE workers SET stopped_at = now()"))
    assert get_sweep(session, sweep_id).forecast.waiting_for == "a worker: none is running"
    worker_id = add_worker(session)
    assert get_sweep(session, sweep_id).forecast.waiting_for == "a free worker"
    note_worker_problem(session, worker_id, sweep_id, "its images are missing")
    state = get_sweep(session, sweep_id)
    assert state.forecast.waiting_for == "a worker that can serve it: see its problems"


@pytest.mark.parametrize(
    "end",
    [
        "UPDATE workers SET stopped_at = now()",
        """UPDATE workers SET last_seen_at = now() - interval '40 seconds';
           UPDATE leases SET expires_at = now() + interval '20 seconds' WHERE ended_at IS NULL""",
    ],
    ids=["stopped", "silent"],
)
def test_a_sweep_says_that_it_waits_for_the_lease_of_a_lost_worker(
    session: Session, end: str
) -> None:
    sweep_id = add_sweep(session)
    for group in (0, 1):
        complete(session, claimed(session, sweep_id, group))
    claimed(session, sweep_id, 2)
    assert get_sweep(session, sweep_id).forecast.waiting_for is None
    session.execute(text(end))
    found = get_sweep(session, sweep_id).forecast
    assert found.waiting_for is not None
    assert found.waiting_for.startswith("the lease of a lost worker to expire, within ")
    assert found.eta_low_s is not None
    assert found.eta_low_s > 10.0  # the lease lasts longer


def random_outcomes(chance: random.Random, held: Claim) -> list[JobOutcome]:
    """An outcome of every kind, at random, for each job of a claim."""
    kinds = [
        JobOutcome(JobStatus.INVALID, Reason.INVALID_SHAPE),
        JobOutcome(JobStatus.FAILED, Reason.NON_FINITE, error="NaN"),
        rejection(),
    ]
    return [
        success([trial(n) for n in job.trials]) if chance.random() < 0.6 else chance.choice(kinds)
        for job in held.jobs
    ]


class History:
    """Two sweeps, and what a dispatcher, workers and users could do to them next."""

    def __init__(self, session: Session, chance: random.Random) -> None:
        self.session, self.chance = session, chance
        self.sweeps = [add_sweep(session), add_sweep(session)]
        self.held: list[Claim] = []

    def step(self) -> None:
        actions = [self.claim, self.claim, self.control]
        if self.held:
            actions += [self.complete, self.complete, self.release, self.expire, self.fail]
        self.chance.choice(actions)()
        self.session.commit()

    def take(self) -> Claim:
        return self.held.pop(self.chance.randrange(len(self.held)))

    def claim(self) -> None:
        sweep_id, group = self.chance.choice(self.sweeps), self.chance.randrange(GROUPS)
        found = claim(self.session, sweep_id, group, limit=self.chance.choice([1, 2, 64]))
        self.held += [found] if found else []

    def control(self) -> None:
        sweep_id = self.chance.choice(self.sweeps)
        status = status_of(self.session, sweep_id)
        if status in ("completed", "cancelled"):
            return
        if self.chance.random() < 0.1:
            cancel_sweep(self.session, sweep_id)
            self.held = [one for one in self.held if one.sweep_id != sweep_id]
        elif status == "running":
            pause_sweep(self.session, sweep_id)
        else:
            resume_sweep(self.session, sweep_id)

    def complete(self) -> None:
        one = self.take()
        complete(self.session, one, random_outcomes(self.chance, one))

    def release(self) -> None:
        assert release_claim(self.session, self.take()) > 0

    def expire(self) -> None:
        expire(self.session, self.take())
        assert reap_expired_leases(self.session, max_attempts=2) > 0

    def fail(self) -> None:
        assert fail_claim(self.session, self.take(), error="broke", max_attempts=2) > 0


@pytest.mark.parametrize("seed", range(6))
def test_counts_add_up_after_every_step_of_any_history(seed: int, session: Session) -> None:
    history = History(session, random.Random(seed))
    for _ in range(60):
        history.step()
        for sweep_id in history.sweeps:
            counts = assert_counts_add_up(session, sweep_id)
            over = not counts.keys() & {"pending", "running"}
            assert over == (status_of(session, sweep_id) in ("completed", "cancelled"))
            session.commit()
