"""Convolutions in the frequency domain: PyTorch's own numbers, chosen where they are cheaper."""

import math

import pytest
import torch
from torch.nn import functional

from shared.domain.architecture import Architecture, LayerConfig
from shared.domain.protocol import Weights, WeightSharing
from tests.engine.networks import CPU, SLOWDOWNS, digits_protocol, evaluate, layer, tuned
from tests.engine.test_tree import share_differing
from worker.engine import forward
from worker.engine.cpu.spectral import Plan, choose_spectral, convolve, transform, transform_kernel
from worker.engine.forward import Forward
from worker.engine.tree import DrawnLayer, Network, grow_tree

NEVER_SPECTRAL = math.inf
TOLERANCE = 2e-6  # of the largest output; float32 direct convolutions have 1e-6


def deviation(config: LayerConfig, height: int, width: int) -> float:
    """Returns how far this layer is from float64, relative to the largest output."""
    generator = torch.Generator().manual_seed(config.kernel_size)
    images = torch.rand(3, 5, height, width, generator=generator)
    weight = torch.randn(config.channels, 5, *[config.kernel_size] * 2, generator=generator)
    geometry = (config.stride, config.padding, config.dilation)
    bias = torch.randn(config.channels, generator=generator)
    exact = functional.conv2d(images.double(), weight.double(), bias.double(), *geometry)
    plan = Plan(config, (5, height, width))
    images = images.contiguous(memory_format=torch.channels_last)
    found = convolve(transform(images, plan), transform_kernel(weight, plan), bias, plan)
    assert found.shape == exact.shape
    return float((found - exact).abs().max() / exact.abs().max())


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("dilation", [1, 2, 3, 4])
@pytest.mark.parametrize("padding", [0, 2])
def test_every_geometry_gives_the_numbers_of_conv2d(
    stride: int, dilation: int, padding: int
) -> None:
    for kernel_size in (1, 2, 3, 5, 7, 9):
        config = layer(6, kernel_size, stride, dilation, padding)
        for height, width in ((35, 35), (19, 30), (9, 12)):
            if Plan(config, (5, height, width)).output_size >= (1, 1):
                fits = min(Plan(config, (5, height, width)).output_size) > 0
                assert not fits or deviation(config, height, width) < TOLERANCE


def published_siblings() -> list[Architecture]:
    """Returns some networks of a group of the published space on small images."""
    prefix = (layer(32, 7, 2, 3), layer(32, 3, 1, 2))
    tails = [(9, 1, 1), (9, 1, 2), (9, 2, 2), (7, 1, 1), (3, 1, 1)]
    return [Architecture((*prefix, layer(32, *tail))) for tail in tails]


@pytest.mark.parametrize("slowdown", SLOWDOWNS)
def test_large_kernels_are_chosen_and_small_ones_are_not(slowdown: float) -> None:
    shape = (32, 35, 35)
    plans = [Plan(layer(32, k, s, d), shape) for k in (3, 9) for s in (1, 2, 3) for d in (1, 2, 3)]
    chosen = {plan.layer for plan in choose_spectral(plans, slowdown)}
    assert layer(32, 9, 1, 1) in chosen
    assert layer(32, 9, 1, 2) in chosen
    assert layer(32, 3, 1, 1) not in chosen
    assert choose_spectral([Plan(layer(32, 9, 3, 3), (3, 30, 30))], slowdown) == []


def test_a_higher_cost_of_products_chooses_fewer_layers() -> None:
    shape = (32, 35, 35)
    plans = [Plan(layer(32, k, s), shape) for k in range(2, 10) for s in (1, 2)]
    chosen = [set(choose_spectral(plans, slowdown)) for slowdown in (*SLOWDOWNS, 1e9)]
    assert chosen[0] > chosen[1] > chosen[2] == set()


@pytest.mark.parametrize("slowdown", SLOWDOWNS)
def test_the_transform_is_paid_once_by_all_siblings_on_a_grid(slowdown: float) -> None:
    """A layer that does not pay by itself may pay beside another one on the same grid."""
    plans = [Plan(layer(32, kernel_size), (32, 35, 35)) for kernel_size in range(2, 10)]
    single = {plan for plan in plans if choose_spectral([plan], slowdown)}
    assert set(choose_spectral(plans, slowdown)) > single


@pytest.mark.parametrize("slowdown", SLOWDOWNS)
def test_spectra_are_used_only_where_there_is_room_for_them(slowdown: float) -> None:
    network = Network(0, [DrawnLayer(layer(32, 9), 1)], [(32, 27, 27)])
    (root,) = grow_tree([network], (32, 35, 35))
    for room, used in ((2**30, True), (2**22, False)):
        layers = Forward([root], CPU, lanes=2, room=room, slowdown=slowdown)
        assert (layers.kernel_bytes(root) > 0) == used


@pytest.mark.parametrize("slowdown", SLOWDOWNS)
def test_equal_layers_of_other_draws_are_all_convolved_alike(slowdown: float) -> None:
    networks = [Network(i, [DrawnLayer(layer(32, 9), i)], [(32, 27, 27)]) for i in range(3)]
    roots = grow_tree(networks, (32, 35, 35))
    layers = Forward(roots, CPU, lanes=2, room=2**30, slowdown=slowdown)
    assert all(layers.kernel_bytes(root) > 0 for root in roots)


@pytest.mark.parametrize("slowdown", SLOWDOWNS)
@pytest.mark.parametrize("scope", list(WeightSharing))
def test_networks_answer_the_same_in_either_domain(
    scope: WeightSharing, slowdown: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Except for at most 0.1 % of images, on siblings of the published space and of all depths."""
    protocol = digits_protocol(input_shape=(3, 72, 72), weights=Weights(scope=scope))
    chosen: list[Plan] = []

    def choose(plans: list[Plan], slowdown: float) -> list[Plan]:
        chosen.extend(spectral_plans := choose_spectral(plans, slowdown))
        return spectral_plans

    monkeypatch.setattr(forward, "choose_spectral", choose)
    wide = layer(32, 7, 2, 3)
    deep = (wide, layer(32, 9), layer(32, 7))
    group = [*published_siblings(), Architecture(deep[:2]), Architecture(deep)]
    spectral = evaluate(group, protocol, range(2), tuning=tuned(slowdown))
    assert 9 in {plan.layer.kernel_size for plan in chosen}
    direct = evaluate(group, protocol, range(2), tuning=tuned(NEVER_SPECTRAL))
    assert share_differing(spectral, direct) <= 0.001
