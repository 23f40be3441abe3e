"""A network's predictions image by image, from the bits that its trials store."""

from dataclasses import dataclass

import numpy as np
from sqlalchemy.orm import Session

from services.analysis.statistics.paired import unpack_bits
from services.leaderboard.leaders import get_job
from services.sweeps.reading import load_sweep
from shared.db.queries.analysis import arrays as array_queries
from shared.domain.errors import NoResultsError


@dataclass(frozen=True, slots=True)
class ClassAccuracy:
    """Accuracy on the images of one class, over all trials."""

    label: int
    images: int
    accuracy: float


@dataclass(frozen=True, slots=True)
class JobAnswers:
    """Number of trials that classified each validation image correctly, in order."""

    trials: int
    right: list[int]
    labels: list[int] | None  # None where no worker has reported them
    classes: list[ClassAccuracy]


def tally_answers(session: Session, job_id: int) -> JobAnswers:
    """Returns a job's answers by image and by class.

    Labels come from the workers that loaded the images. Without them there are no classes.

    Raises:
        JobNotFoundError: there is no such job.
        NoResultsError: it has no trials.
        NotComparableError: its trials do not have an answer per image.
    """
    job = get_job(session, job_id)
    sweep = load_sweep(session, job.sweep_id)
    images = int(sweep.protocol["validation_images"])
    answers = array_queries.select_answers(session, job_id)
    if not answers:
        raise NoResultsError(f"Job {job_id} has no trials yet, so there are no answers.")
    bits = np.stack([unpack_bits(row.correct_bits, images) for row in answers])
    right = bits.sum(axis=0)
    labels = sweep.dataset_hash and array_queries.select_labels(session, sweep.dataset_hash)
    if not labels or len(labels) != images:
        return JobAnswers(len(bits), right.tolist(), None, [])
    known = np.asarray(labels)
    classes = [
        ClassAccuracy(
            int(label), int((known == label).sum()), float(bits[:, known == label].mean())
        )
        for label in np.unique(known)
    ]
    return JobAnswers(len(bits), right.tolist(), labels, classes)
