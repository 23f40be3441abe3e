"""Pausing, resuming, cancelling, retrying and extending sweeps."""

from collections.abc import Callable, Mapping

from sqlalchemy.orm import Session

from services.sweeps.device_choice import choose_device
from shared.db.models import Sweep
from shared.db.queries.dispatching import groups as group_queries
from shared.db.queries.leasing import leases as lease_queries
from shared.db.queries.sweeps import control as control_queries
from shared.db.queries.sweeps import sweeps as sweep_queries
from shared.domain.actions import Action
from shared.domain.errors import (
    ConflictError,
    IllegalTransitionError,
    InvalidInputError,
    SweepNotFoundError,
)
from shared.domain.status import JobStatus, SweepStatus, check_sweep_transition


def control_sweep(session: Session, sweep_id: int, action: Action) -> None:
    """Pauses, resumes, cancels or retries a sweep.

    Raises:
        SweepNotFoundError: there is no such sweep.
        IllegalTransitionError: the sweep's state does not permit the action.
    """
    _ACTIONS[action](session, sweep_id)


def pause_sweep(session: Session, sweep_id: int) -> None:
    """Stops new claims; groups that are running finish.

    Raises:
        SweepNotFoundError: there is no such sweep.
        IllegalTransitionError: the sweep has completed or was cancelled.
    """
    _change_status(session, lock_sweep(session, sweep_id), SweepStatus.PAUSED)


def resume_sweep(session: Session, sweep_id: int) -> None:
    """Lets a paused sweep continue.

    Raises:
        SweepNotFoundError: there is no such sweep.
        IllegalTransitionError: the sweep has completed or was cancelled.
    """
    sweep = lock_sweep(session, sweep_id)
    if sweep.status == SweepStatus.COMPLETED:
        raise IllegalTransitionError(
            f"Sweep {sweep_id} has completed: there is nothing to resume. "
            "Retry its failed jobs, or extend it to more trials."
        )
    check_not_cancelled(sweep)
    _change_status(session, sweep, SweepStatus.RUNNING)


def cancel_sweep(session: Session, sweep_id: int) -> int:
    """Ends every unfinished job; returns their number. Late results are refused.

    Jobs without results are cancelled permanently. Those with results are completed with the
    trials that they have: cancelling an extension restores the state before it, also the sweep's.

    Raises:
        SweepNotFoundError: there is no such sweep.
        IllegalTransitionError: the sweep has completed.
    """
    sweep = lock_sweep(session, sweep_id)
    _change_status(session, sweep, SweepStatus.CANCELLED)
    lease_queries.cancel_leases(session, sweep_id)
    ended = control_queries.cancel_jobs(session, sweep_id)
    if ended and not sweep_queries.get_counts(session, sweep_id)[JobStatus.CANCELLED]:
        sweep_queries.update_sweep_status(session, sweep_id, SweepStatus.COMPLETED)
    return ended


def retry_sweep(session: Session, sweep_id: int) -> int:
    """Makes a sweep's failed jobs pending, attempts counted from zero; returns their number.

    The record of their earlier attempts stays. A completed sweep runs again; a paused one stays
    paused. Without failed jobs nothing changes.

    Raises:
        SweepNotFoundError: there is no such sweep.
        IllegalTransitionError: the sweep was cancelled.
    """
    sweep = lock_sweep(session, sweep_id)
    check_not_cancelled(sweep)
    retried = control_queries.retry_failed_jobs(session, sweep_id)
    if retried:
        run_again(session, sweep)
    return retried


_ACTIONS: Mapping[Action, Callable[[Session, int], object]] = {
    Action.PAUSE: pause_sweep,
    Action.RESUME: resume_sweep,
    Action.CANCEL: cancel_sweep,
    Action.RETRY: retry_sweep,
}


def extend_sweep(session: Session, sweep_id: int, *, trials: int, top: int | None = None) -> int:
    """Raises a sweep's trials per job to ``trials``; returns the number of jobs that it changed.

    Without ``top`` this concerns every completed or pending job, with it the ``top`` most accurate
    ones of the leaderboard. Results stay, keep their rank and count; a completed or cancelled sweep
    runs again. Rejected and cancelled jobs stay so, and running jobs keep their target: a later
    extension reaches them.

    Raises:
        SweepNotFoundError: there is no such sweep.
        IllegalTransitionError: the sweep was cancelled before it had results.
        InvalidInputError: no such job has fewer than ``trials`` trials.
        ConflictError: ``top`` is given and no job has results yet.
    """
    sweep = lock_sweep(session, sweep_id)
    if top is None:
        extended = control_queries.extend_jobs(session, sweep_id, trials)
    else:
        choice = choose_device(session, sweep_id)
        extended = control_queries.extend_leaders(
            session,
            sweep_id,
            trials,
            top,
            device=choice.device,
            min_throughput=choice.min_throughput,
        )
    if not extended:
        raise _nothing_to_extend(session, sweep, trials, top)
    run_again(session, sweep)
    return extended


def _nothing_to_extend(
    session: Session, sweep: Sweep, trials: int, top: int | None
) -> ConflictError | InvalidInputError:
    if not sweep_queries.count_ranked(session, sweep.id):
        check_not_cancelled(sweep)
        if top is not None:
            return ConflictError(f"Sweep {sweep.id} has no results yet, so there are no leaders.")
    return InvalidInputError(
        f"trials: no job of sweep {sweep.id} that could be extended has fewer than {trials} "
        f"trials; it began with {sweep.protocol['trials']}. Ask for more.",
        field="trials",
    )


def check_not_cancelled(sweep: Sweep) -> None:
    """Refuses what a cancelled sweep cannot do.

    Raises:
        IllegalTransitionError: the sweep was cancelled.
    """
    if sweep.status == SweepStatus.CANCELLED:
        raise IllegalTransitionError(
            f"Sweep {sweep.id} was cancelled permanently. Extend it to measure more trials of the "
            "networks that have results, or start a new sweep for the others."
        )


def run_again(session: Session, sweep: Sweep) -> None:
    """Makes a sweep with new pending jobs run unless it is paused, its groups hinted at once."""
    group_queries.clear_hints_of_sweep(session, sweep.id)
    if sweep.status in (SweepStatus.COMPLETED, SweepStatus.CANCELLED):
        _change_status(session, sweep, SweepStatus.RUNNING)


def lock_sweep(session: Session, sweep_id: int) -> Sweep:
    """Returns a sweep that no other transaction changes until this one ends.

    Raises:
        SweepNotFoundError: there is no such sweep.
    """
    sweep = sweep_queries.lock_sweep(session, sweep_id)
    if sweep is None:
        raise SweepNotFoundError(f"There is no sweep {sweep_id}.", field="sweep_id")
    return sweep


def _change_status(session: Session, sweep: Sweep, target: SweepStatus) -> None:
    """Changes the state of a locked sweep; an unchanged state is no error."""
    current = SweepStatus(sweep.status)
    check_sweep_transition(current, target)
    if current is not target:
        sweep_queries.update_sweep_status(session, sweep.id, target)
