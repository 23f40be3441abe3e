"""A job with results keeps them: while more trials are made, and whatever becomes of those."""

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from services.analysis.comparison import compare_sweeps
from services.analysis.points import load_points
from services.analysis.result_table import ResultSelection, load_results
from services.dispatching.dispatch import reap_expired_leases
from services.leaderboard.filters import Filters, parse_filters
from services.leaderboard.leaders import rank_jobs
from services.leasing.group_leases import complete_claim, fail_claim
from services.live.changes import observe
from services.sweeps.control import (
    cancel_sweep,
    extend_sweep,
    pause_sweep,
    resume_sweep,
    retry_sweep,
)
from services.sweeps.reading import get_sweep
from services.trainings.selection import choose_jobs
from shared.domain.errors import IllegalTransitionError
from shared.domain.measurements import JobOutcome, Reason
from shared.domain.results.selection import ByIds
from shared.domain.status import JobStatus
from tests.integration.scenario import (
    GROUP_SIZE,
    GROUPS,
    add_sweep,
    assert_counts_add_up,
    claimed,
    complete,
    environment,
    expire,
    finish_sweep,
    success,
    trial,
)

Row = tuple[int, float | None, float | None, int]


def add_ranked(session: Session) -> int:
    """A completed sweep whose first group has accuracies from 0.6 to 0.9; all others have 0.5."""
    sweep_id = add_sweep(session)
    held = claimed(session, sweep_id, 0)
    figures = (0.6, 0.7, 0.8, 0.9)
    complete(session, held, [success([trial(0, a), trial(1, a)]) for a in figures])
    for group in range(1, GROUPS):
        complete(session, claimed(session, sweep_id, group))
    return sweep_id


def leaders(session: Session, sweep_id: int, sort: str = "-accuracy") -> list[Row]:
    rows = rank_jobs(session, sweep_id, sort=sort).rows
    return [(row.id, row.accuracy, row.throughput, row.trials_done) for row in rows]


def extend(session: Session, sweep_id: int, *, top: int | None = 4, trials: int = 5) -> None:
    extend_sweep(session, sweep_id, trials=trials, top=top)
    session.commit()


@pytest.mark.parametrize("top", [4, None])
@pytest.mark.parametrize("sort", ["-accuracy", "-throughput", "-fitness", "flops"])
def test_jobs_of_an_extension_stay_ranked_while_they_wait_and_run(
    session: Session, sort: str, top: int | None
) -> None:
    sweep_id = add_ranked(session)
    before = leaders(session, sweep_id, sort)
    assert len(before) == GROUPS * GROUP_SIZE
    extend(session, sweep_id, top=top)
    assert leaders(session, sweep_id, sort) == before
    held = claimed(session, sweep_id, 0)
    assert leaders(session, sweep_id, sort) == before
    complete(session, held)
    after = {row[0]: row for row in leaders(session, sweep_id, sort)}
    assert {after[job.id][3] for job in held.jobs} == {5}


def test_every_view_shows_jobs_of_an_extension(session: Session) -> None:
    sweep_id, other_id = add_ranked(session), add_ranked(session)
    before = observe(session, sweep_id)
    extend(session, sweep_id, top=None)
    everything = ResultSelection(Filters())
    assert len(load_points(session, sweep_id, everything, ["accuracy"]).job_ids) == 12
    coverage = load_results(session, sweep_id, everything).coverage
    assert (coverage.used, coverage.missing) == (12, {})
    assert compare_sweeps(session, sweep_id, other_id).shared == 12
    seen = observe(session, sweep_id)
    assert seen.best == before.best
    assert seen.progress.counts[JobStatus.PENDING] == 12
    ids = [row[0] for row in leaders(session, sweep_id)]
    assert choose_jobs(session, sweep_id, ByIds(by="ids", job_ids=ids)) == ids


def test_analyses_say_which_jobs_have_no_results_during_an_extension(session: Session) -> None:
    sweep_id = add_sweep(session)
    complete(session, claimed(session, sweep_id, 0))
    fail_claim(session, claimed(session, sweep_id, 1), error="broke", max_attempts=1)
    extend(session, sweep_id, top=3)
    coverage = load_results(session, sweep_id, ResultSelection(Filters())).coverage
    assert (coverage.used, coverage.missing) == (4, {"failed": 4, "pending": 4})


def test_cancelling_an_extension_restores_the_state_before_it(session: Session) -> None:
    sweep_id = add_ranked(session)
    before = leaders(session, sweep_id)
    extend(session, sweep_id, top=3)
    running = claimed(session, sweep_id, 0)
    assert len(running.jobs) == 3
    assert cancel_sweep(session, sweep_id) == 3
    session.commit()
    sweep = get_sweep(session, sweep_id).sweep
    assert sweep.status == "completed"
    assert sweep.completed_at is not None
    assert leaders(session, sweep_id) == before
    assert assert_counts_add_up(session, sweep_id) == {"completed": 12}
    targets = session.execute(text("SELECT DISTINCT trials_target FROM jobs")).scalars().all()
    assert targets == [2]
    extend(session, sweep_id, top=3)
    assert get_sweep(session, sweep_id).sweep.status == "running"


def test_a_cancelled_sweep_keeps_its_results_and_these_can_be_extended(session: Session) -> None:
    sweep_id = add_sweep(session)
    complete(session, claimed(session, sweep_id, 0))
    extend(session, sweep_id, top=2)
    cancel_sweep(session, sweep_id)
    session.commit()
    assert get_sweep(session, sweep_id).sweep.status == "cancelled"
    assert assert_counts_add_up(session, sweep_id) == {"completed": 4, "cancelled": 8}
    extend(session, sweep_id, top=None)
    assert assert_counts_add_up(session, sweep_id) == {"pending": 4, "cancelled": 8}
    complete(session, claimed(session, sweep_id, 0))
    assert get_sweep(session, sweep_id).sweep.status == "completed"
    assert [row[3] for row in leaders(session, sweep_id)] == [5] * 4


def test_what_a_cancelled_sweep_cannot_do_says_what_to_do_instead(session: Session) -> None:
    sweep_id = add_sweep(session)
    complete(session, claimed(session, sweep_id, 0))
    cancel_sweep(session, sweep_id)
    session.commit()
    for action in (retry_sweep, resume_sweep):
        with pytest.raises(IllegalTransitionError, match="Extend it to measure more trials"):
            action(session, sweep_id)
    with pytest.raises(IllegalTransitionError):
        pause_sweep(session, sweep_id)


def test_a_job_that_fails_with_more_trials_keeps_the_results_it_had(session: Session) -> None:
    sweep_id = add_ranked(session)
    before = leaders(session, sweep_id)
    finished = "SELECT id, finished_at, environment_id FROM jobs ORDER BY id"
    then = session.execute(text(finished)).all()
    extend(session, sweep_id, top=None)
    broken = JobOutcome(JobStatus.FAILED, Reason.OUT_OF_MEMORY, "no memory")
    complete_claim(session, claimed(session, sweep_id, 0), [broken] * 4, environment("B"))
    fail_claim(session, claimed(session, sweep_id, 1), error="broke", max_attempts=1)
    lost = claimed(session, sweep_id, 2)
    expire(session, lost)
    reap_expired_leases(session, max_attempts=1)
    session.commit()
    assert assert_counts_add_up(session, sweep_id) == {"failed": 12}
    assert leaders(session, sweep_id) == before
    assert session.execute(text(finished)).all() == then
    assert retry_sweep(session, sweep_id) == 12
    session.commit()
    assert leaders(session, sweep_id) == before
    assert {job.trials for job in claimed(session, sweep_id, 1).jobs} == {range(2, 5)}


def test_the_leaders_of_an_extension_can_be_extended_again(session: Session) -> None:
    sweep_id = add_ranked(session)
    extend(session, sweep_id, top=3)
    assert extend_sweep(session, sweep_id, trials=9, top=2) == 2
    session.commit()
    held = claimed(session, sweep_id, 0)
    assert [job.trials for job in held.jobs] == [range(2, 5), range(2, 9), range(2, 9)]


def test_rejected_jobs_and_jobs_without_a_trial_are_not_ranked(session: Session) -> None:
    sweep_id = add_sweep(session)
    held = claimed(session, sweep_id, 0)
    rejected = JobOutcome(JobStatus.REJECTED, Reason.ACCURACY_BELOW_MINIMUM, None, (trial(0),))
    failed = JobOutcome(JobStatus.FAILED, Reason.OUT_OF_MEMORY, "no memory")
    partly = JobOutcome(JobStatus.FAILED, Reason.OUT_OF_MEMORY, "no memory", (trial(0, 0.7),))
    complete(session, held, [rejected, failed, partly, success([trial(0), trial(1)])])
    assert [row[0] for row in leaders(session, sweep_id)] == [held.jobs[2].id, held.jobs[3].id]
    only = parse_filters([("status", "completed")])
    assert [row.id for row in rank_jobs(session, sweep_id, only).rows] == [held.jobs[3].id]


def test_a_watcher_hears_of_a_leader_again_only_with_new_results(session: Session) -> None:
    sweep_id = add_sweep(session)
    finish_sweep(session, sweep_id)
    before = [(row.id, row.finished_at) for row in observe(session, sweep_id).best]
    extend(session, sweep_id, top=1)
    held = claimed(session, sweep_id, 0)
    assert [(row.id, row.finished_at) for row in observe(session, sweep_id).best] == before
    complete(session, held)
    after = [(row.id, row.finished_at) for row in observe(session, sweep_id).best]
    assert {row[0] for row in set(after) - set(before)} == {held.jobs[0].id}
