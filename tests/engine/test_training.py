"""Training one network: it learns, repeats itself, and goes on as if nothing had happened."""

import copy
import json
import math
from pathlib import Path

import pytest
import torch

from shared.domain.architecture import Architecture, LayerConfig
from shared.domain.errors import CheckpointError, DatasetTooSmallError, NonFiniteError
from shared.domain.protocol import MemoryFormat, Precision, Protocol
from shared.domain.recipe import Augment, EpochResult, Recipe, best_epoch
from worker.engine.data.datasets import Dataset, load_training_images
from worker.engine.training.loop import Training, build_trainable, learning_rate

CPU = torch.device("cpu")
PUBLISHED = Path(__file__).parents[1] / "published_trained.json"


def tiny(channels: int = 8) -> Architecture:
    return Architecture(
        (LayerConfig(channels, 3, 2, 1, 0, "relu"), LayerConfig(channels, 3, 1, 1, 0, "relu"))
    )


def digits(train: int | None = 192, validation: int | None = 128) -> Dataset:
    protocol = Protocol(dataset="digits", input_shape=(1, 16, 16))
    return load_training_images(Path("/nowhere"), protocol, train, validation)


def recipe(**changes: object) -> Recipe:
    return Recipe.model_validate({"epochs": 4, "warmup_epochs": 1, "learning_rate": 1e-2} | changes)


def run(training: Training, epochs: int) -> list[EpochResult]:
    return [training.run_epoch(lambda: None) for _ in range(epochs)]


def measured(results: list[EpochResult]) -> list[tuple[float, ...]]:
    """Everything but the times."""
    return [
        (r.train_loss, r.train_accuracy, r.validation_loss, r.validation_accuracy, r.learning_rate)
        for r in results
    ]


def test_training_learns_and_keeps_the_weights_of_its_best_epoch() -> None:
    training = Training(tiny(), recipe(epochs=8, augment="none"), digits(), CPU)
    results = run(training, 8)
    assert training.is_complete
    assert results[-1].train_loss < results[0].train_loss / 2
    best = best_epoch(results)
    assert best.validation_accuracy > 0.6  # ten digits: chance is 0.1
    again = Training(tiny(), recipe(), digits(), CPU)
    again.network.load_state_dict(training.best_weights)
    assert again._validate(lambda: None)[1] == best.validation_accuracy


@pytest.mark.parametrize("augmentation", list(Augment))
def test_a_training_that_goes_on_from_a_state_repeats_the_undisturbed_one(
    augmentation: Augment,
) -> None:
    wanted = recipe(augment=augmentation.value)
    undisturbed = run(Training(tiny(), wanted, digits(), CPU), 4)
    first = Training(tiny(), wanted, digits(), CPU)
    run(first, 2)
    state = copy.deepcopy(first.state())
    second = Training(tiny(), wanted, digits(), CPU)
    second.load_state(state)
    run(second, 2)
    assert measured(second.results) == measured(undisturbed)


def test_states_of_another_network_and_damaged_ones_are_refused() -> None:
    state = Training(tiny(4), recipe(), digits(), CPU).state()
    training = Training(tiny(8), recipe(), digits(), CPU)
    for wrong in (state, {}, {**state, "results": [{"epoch": 1}]}):
        with pytest.raises(CheckpointError, match="no state of this training"):
            training.load_state(wrong)


def test_seeds_decide_weights_order_and_augmentation() -> None:
    same = [run(Training(tiny(), recipe(seed=3), digits(), CPU), 1) for _ in range(2)]
    other = run(Training(tiny(), recipe(seed=4), digits(), CPU), 1)
    assert measured(same[0]) == measured(same[1])
    assert measured(other) != measured(same[0])


def test_rate_rises_linearly_and_falls_as_a_cosine() -> None:
    wanted = recipe(epochs=10, warmup_epochs=2, learning_rate=1.0)
    rates = [learning_rate(wanted, step, 5) for step in range(50)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10] == pytest.approx(1.0)
    assert rates[30] == pytest.approx(0.5)
    assert rates[49] < 0.01
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(
        torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0), T_max=40
    )
    for step in range(10, 50):
        assert rates[step] == pytest.approx(reference._get_closed_form_lr()[0])
        reference.last_epoch += 1


@pytest.mark.parametrize("augmentation", list(Augment))
@pytest.mark.parametrize("memory_format", list(MemoryFormat))
@pytest.mark.parametrize("precision", list(Precision))
def test_every_option_trains(
    augmentation: Augment, memory_format: MemoryFormat, precision: Precision
) -> None:
    options = {"augment": augmentation, "memory_format": memory_format, "precision": precision}
    result = run(Training(tiny(), recipe(**options), digits(64, 64), CPU), 1)[0]
    assert math.isfinite(result.train_loss)
    assert result.images_per_s is not None


def test_a_shared_device_reports_no_rate() -> None:
    result = run(Training(tiny(), recipe(share_device=True), digits(64, 64), CPU), 1)[0]
    assert result.images_per_s is None


def test_a_loss_that_is_no_number_is_an_error() -> None:
    training = Training(tiny(), recipe(), digits(64, 64), CPU)
    with torch.no_grad():
        next(training.network.parameters()).fill_(math.nan)
    with pytest.raises(NonFiniteError, match="epoch 1"):
        training.run_epoch(lambda: None)


def test_whole_splits_are_the_default_and_too_few_images_an_error() -> None:
    whole = digits(None, None)
    assert (len(whole.train_labels), len(whole.validation_labels)) == (1000, 797)
    with pytest.raises(DatasetTooSmallError, match="asks for 2000"):
        digits(2000)


def test_networks_have_the_published_numbers_of_parameters() -> None:
    for row in json.loads(PUBLISHED.read_text()):
        layers = zip(row["kernel_size"], row["stride"], row["dilation"], strict=True)
        searched = Architecture(tuple(LayerConfig(32, k, s, d, 0, "relu") for k, s, d in layers))
        wanted = Recipe(channels=row["channels"])
        network = build_trainable(wanted.widen(searched), (3, 96, 96), 10, wanted)
        assert sum(part.numel() for part in network.parameters()) == row["parameters"]
