"""Protocols: the presets, and clear refusals of what could not be measured."""

from typing import Any

import pytest
from pydantic import ValidationError

from shared.domain.protocol import PROTOCOL_PRESETS, Order, Protocol, WeightSharing
from shared.domain.space import SPACE_PRESETS


def test_published_preset_is_the_published_protocol() -> None:
    protocol = PROTOCOL_PRESETS["random-cnn-2025"]()
    assert protocol.dataset == "stl10"
    assert (protocol.train_images, protocol.validation_images) == (500, 500)
    assert protocol.input_shape == (3, 96, 96)
    assert protocol.trials == 5
    assert protocol.ridge_alpha == 1.0
    assert protocol.gates.min_accuracy == 0.25
    assert protocol.gates.min_throughput == 200
    assert protocol.gates.max_ratio == 1.0
    assert protocol.timing is not None
    assert protocol.timing.batch_size == 32


def test_quick_preset_needs_no_download_and_no_gpu() -> None:
    protocol = PROTOCOL_PRESETS["quick"]()
    assert protocol.dataset == "digits"
    assert protocol.device_class == "any"
    assert protocol.train_images + protocol.validation_images <= 1_797  # images in digits


def test_every_preset_has_a_space_and_a_protocol() -> None:
    assert SPACE_PRESETS.keys() == PROTOCOL_PRESETS.keys()


def test_defaults_give_informative_early_results_and_paired_siblings() -> None:
    protocol = Protocol(dataset="digits")
    assert protocol.order is Order.RANDOM
    assert protocol.weights.scope is WeightSharing.SIBLINGS


@pytest.mark.parametrize("preset", PROTOCOL_PRESETS)
def test_protocol_survives_json_unchanged(preset: str) -> None:
    protocol = PROTOCOL_PRESETS[preset]()
    assert Protocol.model_validate(protocol.model_dump(mode="json")) == protocol


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"dataset": "../../etc/passwd"}, "dataset"),
        ({"dataset": "/tmp/x.npz"}, "dataset"),
        ({"dataset": ""}, "dataset"),
        ({"dataset": "a" * 65}, "dataset"),
        ({"dataset": "digits\n"}, "dataset"),
        ({"train_images": 1}, "train_images"),
        ({"train_images": 20_001}, "train_images"),
        ({"validation_images": 0}, "validation_images"),
        ({"input_shape": [3, 96]}, "input_shape.2"),
        ({"input_shape": [3, 0, 96]}, "input_shape.1"),
        ({"trials": 0}, "trials"),
        ({"trials": 1001}, "trials"),
        ({"ridge_alpha": 0}, "ridge_alpha"),
        ({"ridge_alpha": float("inf")}, "ridge_alpha"),
        ({"gates": {"min_accuracy": 25}}, "gates.min_accuracy"),
        ({"gates": {"min_accuracy": float("nan")}}, "gates.min_accuracy"),
        ({"gates": {"min_throughput": 0}}, "gates.min_throughput"),
        ({"gates": {"max_ratio": 0}}, "gates.max_ratio"),
        ({"gates": {"speed": 1}}, "gates.speed"),
        ({"timing": {"batch_size": 0}}, "timing.batch_size"),
        ({"timing": {"precision": "float16"}}, "timing.precision"),
        ({"weights": {"scope": "all"}}, "weights.scope"),
        ({"device_class": "tpu"}, "device_class"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"order": "best"}, "order"),
        ({"epochs": 3}, "epochs"),
    ],
)
def test_value_that_does_not_fit_is_refused_by_the_name_of_its_field(
    changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        Protocol.model_validate({"dataset": "digits"} | changes)
    assert [".".join(map(str, error["loc"])) for error in caught.value.errors()] == [field]


def test_ratio_range_that_nothing_could_pass_is_refused() -> None:
    with pytest.raises(ValidationError, match="min_ratio: is larger than max_ratio"):
        Protocol.model_validate({"dataset": "digits", "gates": {"min_ratio": 2, "max_ratio": 1}})


def test_throughput_gate_without_timing_is_refused() -> None:
    values = {"dataset": "digits", "timing": None, "gates": {"min_throughput": 200}}
    with pytest.raises(ValidationError, match=r"timing: cannot be left out"):
        Protocol.model_validate(values)
