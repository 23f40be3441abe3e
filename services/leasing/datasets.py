"""Datasets that workers measure on: whether they are a sweep's own, and their labels."""

from sqlalchemy.orm import Session

from shared.db.queries.leasing import datasets as dataset_queries
from shared.domain.errors import DatasetMismatchError


def check_dataset_hash(sweep_id: int, dataset: str, mine: str, pinned: str) -> None:
    """Returns if a worker's copy of a dataset is the one that the sweep's earlier trials used.

    Raises:
        DatasetMismatchError: it is not.
    """
    if mine != pinned:
        raise DatasetMismatchError(
            f"Dataset {dataset!r} here has content {mine[:12]}, but the trials of sweep {sweep_id} "
            f"were measured on {pinned[:12]}. Copy the same files to this worker's data folder, "
            "or start a new sweep."
        )


def note_labels(session: Session, dataset_hash: str, labels: list[int]) -> None:
    """Stores the labels of validation images, so that answers can be grouped by class."""
    dataset_queries.insert_labels(session, dataset_hash, labels)
