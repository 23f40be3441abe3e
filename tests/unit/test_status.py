"""The states of sweeps, transition by transition."""

import itertools

import pytest

from shared.domain.errors import IllegalTransitionError
from shared.domain.status import (
    SWEEP_TRANSITIONS,
    UNFINISHED_JOB_STATUSES,
    JobStatus,
    SweepStatus,
    check_sweep_transition,
)

LEGAL_SWEEP_CHANGES = {
    "running": "paused completed cancelled",
    "paused": "running completed cancelled",
    "completed": "running",
    "cancelled": "running",
}


@pytest.mark.parametrize(("before", "after"), list(itertools.product(SweepStatus, SweepStatus)))
def test_a_sweep_changes_only_to_the_states_of_the_design(
    before: SweepStatus, after: SweepStatus
) -> None:
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
