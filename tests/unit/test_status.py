"""The two state machines, transition by transition."""

import itertools

import pytest

from shared.domain.errors import IllegalTransitionError
from shared.domain.status import (
    JOB_TRANSITIONS,
    SWEEP_TRANSITIONS,
    UNFINISHED_JOB_STATUSES,
    JobStatus,
    SweepStatus,
    check_sweep_transition,
)

LEGAL_JOB_CHANGES = {
    "pending": "running cancelled",
    "running": "pending completed invalid rejected failed cancelled",
    "completed": "pending",
    "rejected": "pending",
    "failed": "pending",
    "invalid": "",
    "cancelled": "",
}
LEGAL_SWEEP_CHANGES = {
    "running": "paused completed cancelled",
    "paused": "running completed cancelled",
    "completed": "running",
    "cancelled": "",
}


@pytest.mark.parametrize(("before", "after"), list(itertools.product(JobStatus, JobStatus)))
def test_jobs_change_exactly_as_the_design_says(before: JobStatus, after: JobStatus) -> None:
    assert (after in JOB_TRANSITIONS[before]) == (after in LEGAL_JOB_CHANGES[before].split())


@pytest.mark.parametrize(("before", "after"), list(itertools.product(SweepStatus, SweepStatus)))
def test_sweeps_change_exactly_as_the_design_says(before: SweepStatus, after: SweepStatus) -> None:
    legal = after in LEGAL_SWEEP_CHANGES[before].split()
    assert (after in SWEEP_TRANSITIONS[before]) == legal
    if legal or before is after:
        check_sweep_transition(before, after)
    else:
        with pytest.raises(IllegalTransitionError, match=f"{before} sweep cannot become {after}"):
            check_sweep_transition(before, after)


def test_only_pending_and_running_jobs_are_unfinished() -> None:
    unfinished = {JobStatus.PENDING, JobStatus.RUNNING}
    assert unfinished == UNFINISHED_JOB_STATUSES
