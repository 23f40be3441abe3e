"""Weights: PyTorch's own initialisation, shared as the scope says, rebuilt from seeds."""

from pathlib import Path

import pytest
import torch
from torch import nn

from shared.domain.architecture import Architecture, LayerConfig
from shared.domain.protocol import Protocol, Weights, WeightSharing
from shared.domain.space import random_cnn_2025
from tests.engine.networks import digits, digits_protocol, evaluate, layer, right_answers
from worker.engine.layers import build_network, draw_layer, layer_seed, layer_seeds, network_shapes
from worker.engine.ridge.fit import encode_labels, fit_ridge, predict, scores

A, B, C, D = layer(8), layer(8, 5), layer(4), layer(4, 5)
SIBLING_SEEDS = [2_100_752_962_727_541_820, 8_010_509_919_213_986_027, 1_277_231_381_721_716_466]
PREFIX_SEEDS = [6_645_320_240_512_894_861, 7_354_297_174_792_328_785, 4_132_751_054_632_343_245]


@pytest.mark.parametrize("config", [layer(), layer(32, 9), layer(1, 1)])
def test_draws_are_what_conv2d_starts_with_under_the_same_seed(config: LayerConfig) -> None:
    weight, bias = draw_layer(config, 3, 12345)
    torch.manual_seed(12345)
    conv = nn.Conv2d(3, config.channels, config.kernel_size)
    assert torch.equal(weight, conv.weight)
    assert conv.bias is not None
    assert torch.equal(bias, conv.bias)


def test_draws_do_not_use_the_global_generator() -> None:
    state = torch.get_rng_state()
    draw_layer(layer(), 3, 1)
    build_network(Architecture((A, C)), 0, digits_protocol())
    assert torch.equal(state, torch.get_rng_state())


def seeds(scope: WeightSharing, *layers: LayerConfig, trial: int = 0, seed: int = 0) -> list[int]:
    return [layer_seed(seed, trial, scope, layers, index) for index in range(len(layers))]


def test_prefix_shares_a_layer_whenever_all_before_it_are_the_same() -> None:
    assert seeds(WeightSharing.PREFIX, A, B, C)[:2] == seeds(WeightSharing.PREFIX, A, B, D)[:2]
    assert seeds(WeightSharing.PREFIX, A, B, C)[:1] == seeds(WeightSharing.PREFIX, A, C, D)[:1]
    assert seeds(WeightSharing.PREFIX, A, B)[1] != seeds(WeightSharing.PREFIX, B, B)[1]


def test_only_siblings_share_layers_and_all_but_the_last() -> None:
    first, second = seeds(WeightSharing.SIBLINGS, A, B, C), seeds(WeightSharing.SIBLINGS, A, B, D)
    assert first[:2] == second[:2]
    assert first[2] != second[2]
    assert not set(first) & set(seeds(WeightSharing.SIBLINGS, A, C, C))


def test_without_sharing_every_architecture_has_its_own_weights() -> None:
    assert not set(seeds(WeightSharing.NONE, A, B, C)) & set(seeds(WeightSharing.NONE, A, B, D))


@pytest.mark.parametrize("scope", list(WeightSharing))
def test_trials_seeds_and_positions_draw_anew(scope: WeightSharing) -> None:
    drawn = [*seeds(scope, A, A, A), *seeds(scope, A, A, A, trial=1)]
    drawn += seeds(scope, A, A, A, seed=1)
    assert len(set(drawn)) == 9
    assert all(0 <= seed < 2**63 for seed in drawn)


def test_seeds_never_change() -> None:
    assert seeds(WeightSharing.SIBLINGS, A, B, C, trial=3, seed=7) == SIBLING_SEEDS
    assert seeds(WeightSharing.PREFIX, A, B, C, trial=3, seed=7) == PREFIX_SEEDS


def test_shapes_are_those_of_the_space_for_a_sample_of_the_published_one() -> None:
    space = random_cnn_2025()
    for index in range(0, len(space), 97):
        architecture = space.architecture(index)
        shapes = network_shapes(architecture, (3, 96, 96))
        ours = architecture.shapes((3, 96, 96))
        assert shapes == (ours if len(ours) == 3 else None)


@pytest.mark.parametrize("scope", list(WeightSharing))
def test_a_network_rebuilt_from_its_saved_weights_gives_the_trials_answers(
    scope: WeightSharing, tmp_path: Path
) -> None:
    protocol = digits_protocol(weights=Weights(scope=scope))
    group = [Architecture((A, B, C)), Architecture((A, B, layer(4, 3, 2, 1, 1, "gelu")))]
    (result,) = evaluate(group, protocol, range(1, 2))[1].trials
    torch.save(build_network(group[1], 1, protocol).state_dict(), tmp_path / "weights.pt")
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 5), nn.ReLU(),
        nn.Conv2d(8, 4, 3, 2, 1), nn.GELU(), nn.Flatten(),
    )  # fmt: skip
    network.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert _agreement(network, protocol, result.correct_bits) >= 0.999
    assert result.weights_seed == layer_seeds(protocol, group[1], 1)[-1]


def _agreement(network: nn.Module, protocol: Protocol, bits: bytes) -> float:
    dataset = digits(protocol)
    targets = encode_labels(dataset.train_labels)
    with torch.no_grad():
        (fit,) = fit_ridge([network(dataset.train_images)], targets, 1.0)
        predicted = predict(targets, scores(fit, network(dataset.validation_images)))
    right = (predicted == dataset.validation_labels).numpy()
    return float((right_answers(bits, len(right)) == right).mean())
