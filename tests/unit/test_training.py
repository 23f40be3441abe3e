"""Recipes of trainings: defaults, widths, and what a request stands for."""

import numpy as np
import pytest
from pydantic import ValidationError

from api.schemas.trainings import TrainingsIn
from services.trainings.selection import stratified_sample
from shared.domain.architecture import Architecture, LayerConfig
from shared.domain.recipe import Recipe
from shared.domain.results.selection import BySample


def test_defaults_are_the_published_ones() -> None:
    recipe = Recipe()
    published = (recipe.epochs, recipe.batch_size, recipe.learning_rate, recipe.augment)
    assert published == (100, 64, 3e-4, "trivial_wide")
    assert (recipe.train_images, recipe.validation_images) == (None, None)


@pytest.mark.parametrize(("epochs", "warmup"), [(1, 0), (30, 1), (100, 5), (1000, 5)])
def test_short_trainings_warm_up_shortly(epochs: int, warmup: int) -> None:
    assert Recipe(epochs=epochs).warmup_epochs == warmup
    assert Recipe.model_validate(Recipe(epochs=epochs).model_dump()) == Recipe(epochs=epochs)


def test_a_warm_up_leaves_time_at_full_rate() -> None:
    with pytest.raises(ValidationError, match="fewer than epochs"):
        Recipe(epochs=3, warmup_epochs=3)


def test_widening_changes_only_channels() -> None:
    layers = (LayerConfig(32, 5, 3, 2, 0, "relu"), LayerConfig(32, 3, 2, 1, 1, "gelu"))
    wide = Recipe(channels=128).widen(Architecture(layers))
    assert [layer.channels for layer in wide.layers] == [128, 128]
    assert [layer[1:] for layer in wide.layers] == [layer[1:] for layer in layers]
    assert Recipe().widen(Architecture(layers)).layers == layers


def test_a_request_stands_for_every_width_and_seed_once() -> None:
    wanted = TrainingsIn.model_validate(
        {"select": {"by": "pareto"}, "channels": [32, 128, 32], "seeds": [4, 7]}
    )
    pairs = [(recipe.channels, recipe.seed) for recipe in wanted.recipes()]
    assert pairs == [(32, 4), (32, 7), (128, 4), (128, 7)]


def test_a_sample_gives_every_stratum_its_turn() -> None:
    accuracies = np.concatenate([np.full(90, 0.1), np.full(9, 0.5), [0.9]])
    ids = np.arange(100.0)
    sample = BySample(by="sample", count=6, strata=3)
    chosen = stratified_sample(ids, accuracies, sample)
    assert chosen == stratified_sample(ids, accuracies, sample)
    assert len(set(chosen)) == 6
    found = [accuracies[one] for one in chosen]
    assert found == [0.1, 0.5, 0.9, 0.1, 0.5, 0.1]
