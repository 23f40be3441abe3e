"""Two architectures on the same images, and two sweeps over the same architectures."""

from dataclasses import dataclass

import numpy as np
from sqlalchemy.orm import Session

from services.analysis.statistics.correlation import Agreement, compare_rankings
from services.analysis.statistics.intervals import Interval
from services.analysis.statistics.paired import (
    Answers,
    McNemar,
    bootstrap_difference,
    count_answers,
    differences,
    mcnemar,
    unpack_bits,
)
from services.leaderboard.leaders import get_job
from services.sweeps.reading import get_sweep, load_sweep
from shared.db.models import Job, Sweep
from shared.db.queries.analysis import arrays as array_queries
from shared.db.queries.sweeps import sweeps as sweep_queries
from shared.domain.arrays import BoolArray
from shared.domain.errors import NoResultsError, NotComparableError


@dataclass(frozen=True, slots=True)
class JobComparison:
    """Two jobs over the trials that both have; accuracies and difference use only these."""

    jobs: tuple[Job, Job]
    trials: list[int]
    images: int
    accuracies: tuple[float, float]
    difference: Interval  # of the first less the second
    answers: Answers
    test: McNemar


def compare_jobs(session: Session, first_id: int, second_id: int) -> JobComparison:
    """Compares two architectures image by image, trials paired by their number.

    They may be of one sweep, or of two that use the same images.

    Raises:
        JobNotFoundError: there is no such job.
        NotComparableError: their validation images are not the same.
        NoResultsError: they have no trial of the same number.
    """
    jobs = tuple(get_job(session, job_id) for job_id in (first_id, second_id))
    sweeps = [load_sweep(session, job.sweep_id) for job in jobs]
    _check_same_images(sweeps[0], sweeps[1])
    images = int(sweeps[0].protocol["validation_images"])
    trials, first, second = _paired_answers(session, first_id, second_id, images)
    difference = differences(first, second)
    return JobComparison(
        jobs=(jobs[0], jobs[1]),
        trials=trials,
        images=images,
        accuracies=(float(first.mean()), float(second.mean())),
        difference=bootstrap_difference(difference, len(trials)),
        answers=count_answers(first, second),
        test=mcnemar(difference),
    )


def _check_same_images(first: Sweep, second: Sweep) -> None:
    if first.id == second.id:
        return
    if None in (first.dataset_hash, second.dataset_hash):
        return  # no trials there, which is said later and better
    mine, theirs = (
        (sweep.dataset_hash, sweep.protocol["validation_images"]) for sweep in (first, second)
    )
    if mine != theirs:
        raise NotComparableError(
            f"Sweeps {first.id} and {second.id} validate on different images "
            f"({first.protocol['dataset']}, {mine[1]}; {second.protocol['dataset']}, {theirs[1]}): "
            "their networks cannot be compared image by image. Compare the sweeps instead."
        )


def _paired_answers(
    session: Session, first_id: int, second_id: int, images: int
) -> tuple[list[int], BoolArray, BoolArray]:
    first, second = (
        {row.trial: row.correct_bits for row in array_queries.select_answers(session, job_id)}
        for job_id in (first_id, second_id)
    )
    trials = sorted(first.keys() & second.keys())
    if not trials:
        raise NoResultsError(
            f"Jobs {first_id} and {second_id} have {len(first)} and {len(second)} trials, none of "
            "the same number: there is nothing to compare yet."
        )
    stacks = [np.stack([unpack_bits(bits[n], images) for n in trials]) for bits in (first, second)]
    return trials, stacks[0], stacks[1]


@dataclass(frozen=True, slots=True)
class SweepComparison:
    """Architectures of two sweeps with results, and how the accuracies of the shared ones agree."""

    sweeps: tuple[Sweep, Sweep]
    shared: int
    only_first: int
    only_second: int
    agreement: Agreement


def compare_sweeps(session: Session, first_id: int, second_id: int) -> SweepComparison:
    """Compares two sweeps by the architectures that have results in both, whatever their images.

    Raises:
        SweepNotFoundError: there is no such sweep.
        NoResultsError: one of them has no results.
    """
    first, second = (get_sweep(session, sweep_id) for sweep_id in (first_id, second_id))
    ranked = [sweep_queries.count_ranked(session, sweep_id) for sweep_id in (first_id, second_id)]
    for state, results in zip((first, second), ranked, strict=True):
        if not results:
            raise NoResultsError(f"Sweep {state.sweep.id} has no results yet.")
    accuracies = array_queries.select_shared_accuracies(session, first_id, second_id)
    shared = len(accuracies[0])
    return SweepComparison(
        sweeps=(first.sweep, second.sweep),
        shared=shared,
        only_first=ranked[0] - shared,
        only_second=ranked[1] - shared,
        agreement=compare_rankings(*accuracies),
    )
