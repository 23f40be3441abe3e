"""Creating trainings of chosen networks."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from services.sweeps.reading import load_sweep
from services.trainings.selection import choose_jobs
from shared.db.queries.trainings import trainings as training_queries
from shared.db.queries.trainings.trainings import TrainingRow
from shared.domain.errors import InvalidInputError
from shared.domain.recipe import AUGMENTABLE_CHANNELS, Augment, Recipe
from shared.domain.results.selection import Selection

MAX_TRAININGS = 10_000  # of one request


@dataclass(frozen=True, slots=True)
class CreatedTrainings:
    """The trainings of a request, and how many of them are new."""

    trainings: list[TrainingRow]
    created: int


def create_trainings(
    session: Session, sweep_id: int, selection: Selection, recipes: Sequence[Recipe]
) -> CreatedTrainings:
    """Adds a pending training of every chosen network under every recipe, all or none.

    A network is trained once under a recipe: existing trainings are returned
    unchanged, so a repeated request is safe.

    Raises:
        SweepNotFoundError: there is no such sweep.
        InvalidInputError: a chosen job is not of the sweep or did not complete, there are too many
            trainings, augmentation cannot change the images, or a filter or sort does not fit.
        NoResultsError: no job matches.
    """
    _check_augmentation(session, sweep_id, recipes)
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
    return CreatedTrainings(training_queries.select_trainings_of(session, keys), created)


def _check_augmentation(session: Session, sweep_id: int, recipes: Sequence[Recipe]) -> None:
    channels = load_sweep(session, sweep_id).protocol["input_shape"][0]
    augmented = any(recipe.augment is not Augment.NONE for recipe in recipes)
    if augmented and channels not in AUGMENTABLE_CHANNELS:
        raise InvalidInputError(
            "recipe.augment: augmentation needs images of one or three channels; those of sweep "
            f"{sweep_id} have {channels}; set augment to none.",
            field="recipe.augment",
        )


def _recipe_hash(recipe: Recipe) -> str:
    text = json.dumps(recipe.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
