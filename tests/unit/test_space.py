"""Search spaces: the published space, PyTorch's own arithmetic, order, identity, clear errors."""

import hashlib
import itertools
import tracemalloc
from typing import Any, NamedTuple

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from pydantic import ValidationError
from torch.nn import functional

from services.sweeps.creation import preview_sweep
from shared.domain.architecture import Architecture, LayerConfig
from shared.domain.errors import InvalidInputError
from shared.domain.protocol import Gates, Protocol
from shared.domain.space import SPACE_PRESETS, LayerSpace, SearchSpace, random_cnn_2025
from tests.unit.published import CLASSES, INPUT_SHAPE, PARAMETERS, RATIOS, Triple

Shape = tuple[int, ...]


def published(
    kernel_size: Triple, stride: Triple, dilation: Triple, channels: int = 32
) -> Architecture:
    rows = zip(kernel_size, stride, dilation, strict=True)
    return Architecture(tuple(LayerConfig(channels, k, s, d, 0, "relu") for k, s, d in rows))


class Walked(NamedTuple):
    """What PyTorch makes of an architecture up to some layer."""

    activation: torch.Tensor  # without storage
    parameters: int
    flops: int


def convolve_on_meta(before: Walked | None, layer: LayerConfig) -> Walked | None:
    """Returns ``before`` with one more layer, or None where PyTorch refuses it."""
    if before is None:
        return None
    shape = (layer.channels, before.activation.shape[0], layer.kernel_size, layer.kernel_size)
    weight = torch.empty(shape, device="meta")
    bias = torch.empty(layer.channels, device="meta")
    geometry = (layer.stride, layer.padding, layer.dilation)
    try:
        activation = functional.conv2d(before.activation, weight, bias, *geometry)
    except RuntimeError:
        return None
    return Walked(
        activation,
        before.parameters + weight.numel() + bias.numel(),
        before.flops + 2 * weight.numel() * activation[0].numel(),
    )


def walk_on_meta(space: SearchSpace, input_shape: Shape) -> list[Walked | None]:
    """Returns PyTorch's view of every architecture, for a space without mixed depths."""
    level: list[Walked | None] = [Walked(torch.empty(input_shape, device="meta"), 0, 0)]
    for layer_space in space.layers:
        layers = [layer_space.at(index) for index in range(layer_space.size)]
        level = [convolve_on_meta(before, layer) for before in level for layer in layers]
    return level


def test_published_space_has_46656_architectures_in_1296_groups() -> None:
    space = random_cnn_2025()
    assert len(space) == 46_656
    assert space.groups == 1_296


def test_published_space_splits_as_pytorch_does() -> None:
    (table,) = random_cnn_2025().tables(INPUT_SHAPE)
    refused = {str(reason): int(rows.sum()) for reason, rows in table.reasons(None, 1.0).items()}
    assert refused == {
        "invalid_shape": 10_287,
        "ratio_above_maximum": 4_348,
        "ratio_below_minimum": 0,
    }
    assert len(table.index) - sum(refused.values()) == 32_021


def test_arithmetic_agrees_with_pytorch_on_every_published_architecture() -> None:
    space = random_cnn_2025()
    (table,) = space.tables(INPUT_SHAPE)
    networks = walk_on_meta(space, INPUT_SHAPE)
    assert [network is not None for network in networks] == table.fits.tolist()
    valid = [network for network in networks if network is not None]
    assert [n.activation.numel() for n in valid] == table.features[table.fits].tolist()
    assert [n.parameters for n in valid] == table.parameters[table.fits].tolist()
    assert [n.flops for n in valid] == table.flops[table.fits].tolist()


@pytest.mark.parametrize(("kernel_size", "stride", "dilation", "ratio"), RATIOS)
def test_published_ratios_come_out(
    kernel_size: Triple, stride: Triple, dilation: Triple, ratio: float
) -> None:
    ours = published(kernel_size, stride, dilation).measures(INPUT_SHAPE).ratio
    assert abs(ours - ratio) < 1e-7  # the article prints seven digits


@pytest.mark.parametrize(("kernel_size", "stride", "dilation", "at_32", "at_128"), PARAMETERS)
def test_published_parameter_counts_come_out_exactly(
    kernel_size: Triple, stride: Triple, dilation: Triple, at_32: int, at_128: int
) -> None:
    for channels, count in ((32, at_32), (128, at_128)):
        measures = published(kernel_size, stride, dilation, channels).measures(INPUT_SHAPE)
        assert measures.parameters_with_head(CLASSES) == count


def test_measures_of_something_that_does_not_fit_raise() -> None:
    architecture = published((9, 9, 9), (3, 3, 3), (3, 3, 3))
    assert architecture.output_shape(INPUT_SHAPE) is None
    with pytest.raises(InvalidInputError, match="does not fit"):
        architecture.measures(INPUT_SHAPE)
    with pytest.raises(InvalidInputError, match="does not fit"):
        architecture.bytes_moved(INPUT_SHAPE, 32)


def test_bytes_moved_are_those_of_inputs_outputs_and_shared_weights() -> None:
    architecture = published((3, 3, 3), (3, 2, 1), (1, 1, 1))  # sides 96, 32, 15, 13
    elements = (3 * 96**2 + 32 * 32**2) + 32 * (32**2 + 15**2) + 32 * (15**2 + 13**2)
    parameters = 32 * (3 * 9 + 1) + 2 * 32 * (32 * 9 + 1)
    for batch_size in (1, 32):
        expected = 4 * (elements + parameters / batch_size)
        assert architecture.bytes_moved(INPUT_SHAPE, batch_size) == expected


# An identity must never change: results of years hang on it.
HASHES = {
    0: "d51ca75292f7438c78debac42c6dec9fe7a33d002d5832e23691930a3d1f4e0f",
    1: "1e5c66883c12227005cc61a1a47a5e62f113b6206529573b98db8271998351c9",
    12_345: "e63e71f4a756f66e00dd959517b3fb0f940670075f249a6ccb24206688c24206",
    46_655: "e5786c225b706fe2a10ac280697bdabb0fbb7beba91216626774dd87c1011f98",
}


@pytest.mark.parametrize(("index", "digest"), list(HASHES.items()))
def test_order_and_hash_of_the_published_space_never_change(index: int, digest: str) -> None:
    assert random_cnn_2025().architecture(index).hash.hex() == digest


# the same for every field that the published space leaves at one value
EVERY_FIELD = "7f895a97f281527d47b153dfd2cf2a7190fc2df2478439e47c74ac4d8a92727d"


def test_order_and_hash_of_a_space_that_varies_every_field_never_change() -> None:
    layer = LayerSpace(
        channels=(4, 8), kernel_size=(1, 3), stride=(1, 2), dilation=(1, 2), padding=(0, 1),
        activation=("relu", "gelu"),
    )  # fmt: skip
    space = SearchSpace(layers=(layer, LayerSpace(padding=(0, 2))))
    assert len(space) == 128
    identities = b"".join(architecture.hash for architecture in space)
    assert hashlib.sha256(identities).hexdigest() == EVERY_FIELD


def test_hash_covers_every_field_of_every_layer() -> None:
    base = LayerConfig(8, 3, 1, 1, 0, "relu")
    changed = [
        base._replace(channels=9),
        base._replace(kernel_size=5),
        base._replace(stride=2),
        base._replace(dilation=2),
        base._replace(padding=1),
        base._replace(activation="gelu"),
    ]
    stacks = [(base,), (base, base), *[(base, layer) for layer in changed]]
    stacks += [(layer, base) for layer in changed]
    assert len({Architecture(layers).hash for layers in stacks}) == len(stacks)


def test_last_layer_varies_fastest_and_last_field_fastest_within_it() -> None:
    layer = LayerSpace(kernel_size=(3, 5), activation=("relu", "tanh"))
    space = SearchSpace(layers=(layer, layer))
    layers = [layer.at(index) for index in range(layer.size)]
    assert [(one.kernel_size, one.activation) for one in layers] == [
        (3, "relu"), (3, "tanh"), (5, "relu"), (5, "tanh"),
    ]  # fmt: skip
    assert [one.layers for one in space] == list(itertools.product(layers, layers))


MIXED = SearchSpace(
    layers=(
        LayerSpace(kernel_size=(3, 5), stride=(1, 2)),
        LayerSpace(kernel_size=(3, 5, 7)),
        LayerSpace(padding=(0, 1), activation=("relu", "none")),
    ),
    depths=(2, 3, 1),
)


def test_mixed_depths_come_in_the_order_of_depths() -> None:
    depths = [len(architecture.layers) for architecture in MIXED]
    assert depths == [2] * 12 + [3] * 48 + [1] * 4
    assert len(MIXED) == 64
    assert MIXED.groups == 4 + 12 + 1
    assert len({architecture.hash for architecture in MIXED}) == 64


@pytest.mark.parametrize("space", [MIXED, SPACE_PRESETS["quick"]()])
def test_groups_are_runs_of_consecutive_indices_with_equal_prefix(space: SearchSpace) -> None:
    groups = [int(group) for table in space.tables((1, 32, 32)) for group in table.group]
    assert groups == sorted(groups)
    assert set(groups) == set(range(space.groups))
    by_group: dict[int, set[Any]] = {}
    for index, group in enumerate(groups):
        architecture = space.architecture(index)
        key = (len(architecture.layers), architecture.prefix)
        by_group.setdefault(group, set()).add(key)
    assert all(len(prefixes) == 1 for prefixes in by_group.values())
    assert len(set().union(*by_group.values())) == space.groups


@pytest.mark.parametrize("rows", [1, 5, 7, 65_536])
def test_tables_agree_with_single_architectures_whatever_their_length(rows: int) -> None:
    input_shape = (2, 11, 9)
    seen = 0
    for table in MIXED.tables(input_shape, rows=rows):
        assert len(table.index) <= rows
        for row, (first, last, digest) in enumerate(table.rows()):
            architecture = MIXED.architecture(seen)
            assert table.index[row] == seen
            assert ((*first, last), digest) == (architecture.layers, architecture.hash)
            shape = architecture.output_shape(input_shape)
            assert table.fits[row] == (shape is not None)
            if shape is not None:
                measures = architecture.measures(input_shape)
                assert table.features[row] == measures.features
                assert table.ratio[row] == measures.ratio
                assert table.parameters[row] == measures.parameters
                assert table.flops[row] == measures.flops
            seen += 1
    assert seen == len(MIXED)


@pytest.mark.parametrize("index", [-1, 64, 10**12])
def test_index_outside_the_space_is_refused(index: int) -> None:
    with pytest.raises(InvalidInputError, match="outside a space of 64"):
        MIXED.architecture(index)


MANY = tuple(range(1, 101))


@pytest.mark.parametrize(
    ("space", "field"),
    [
        ({"layers": [{"kernel_size": []}]}, "layers.0.kernel_size"),
        ({"layers": [{}, {"stride": [0]}]}, "layers.1.stride.0"),
        ({"layers": [{"stride": [-2]}]}, "layers.0.stride.0"),
        ({"layers": [{"dilation": [0]}]}, "layers.0.dilation.0"),
        ({"layers": [{"padding": [-1]}]}, "layers.0.padding.0"),
        ({"layers": [{"channels": [0]}]}, "layers.0.channels.0"),
        ({"layers": [{"kernel_size": [2.5]}]}, "layers.0.kernel_size.0"),
        ({"layers": [{"kernel_size": [3, 5, 3]}]}, "layers.0.kernel_size"),
        ({"layers": [{"activation": ["relu", "swish"]}]}, "layers.0.activation.1"),
        ({"layers": [{"kernel": [3]}]}, "layers.0.kernel"),
        ({"layers": [{}], "depth": [1]}, "depth"),
        ({"layers": []}, "layers"),
        ({"layers": [{}] * 17}, "layers"),
        ({"layers": [{}], "depths": []}, "depths"),
        ({"layers": [{}], "depths": [0]}, "depths.0"),
        ({"layers": [{}, {}], "depths": [2, 2]}, "depths"),
        ({"layers": [{}, {}], "depths": [1, 3]}, "depths: 3 is deeper than the 2 layers"),
        ({"layers": [{"channels": MANY}] * 4}, "layers: 100,000,000 architectures"),
        ({"layers": [{"channels": MANY}] * 16}, "layers: 1"),  # 10**32: more than len() can say
    ],
)
def test_what_no_space_can_be_is_refused_by_the_name_of_its_field(
    space: dict[str, Any], field: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        SearchSpace.model_validate(space)
    first = caught.value.errors()[0]
    named = ".".join(str(part) for part in first["loc"])
    assert field in (named, *[first["msg"].removeprefix("Value error, ")[: len(field)]])


def test_ten_million_architectures_are_allowed_and_one_more_is_not() -> None:
    layer = LayerSpace(channels=tuple(range(1, 3163)))
    assert len(SearchSpace(layers=(layer, layer))) == 3162**2
    larger = LayerSpace(channels=tuple(range(1, 3164)))
    with pytest.raises(ValidationError, match="10,000,000"):
        SearchSpace(layers=(layer, larger))


def test_an_input_too_large_to_count_with_is_refused() -> None:
    layer = LayerSpace(channels=(8192,), kernel_size=(255,), padding=(255,))
    space = SearchSpace(layers=(layer,) * 3)
    with pytest.raises(InvalidInputError) as caught:
        next(space.tables((8192, 65_536, 65_536)))
    assert caught.value.field == "space"


def choices(*values: Any) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True).map(tuple)


layer_spaces = st.builds(
    LayerSpace,
    channels=choices(1, 2, 5),
    kernel_size=choices(1, 2, 3, 4, 7),
    stride=choices(1, 2, 3),
    dilation=choices(1, 2, 3),
    padding=choices(0, 1, 2, 4),
    activation=choices("relu", "gelu", "silu", "tanh", "none"),
)
spaces = st.lists(layer_spaces, min_size=1, max_size=2).map(
    lambda layers: SearchSpace(layers=tuple(layers))
)
sides = st.integers(min_value=1, max_value=20)


@settings(max_examples=25, deadline=None)
@given(spaces, st.tuples(st.integers(1, 3), sides, sides))
def test_any_space_enumerates_each_architecture_once_and_shapes_are_pytorchs(
    space: SearchSpace, input_shape: Shape
) -> None:
    architectures = list(space)
    assert len(architectures) == len(space)
    assert len(set(architectures)) == len(space)
    assert len({architecture.hash for architecture in architectures}) == len(space)
    shapes = [architecture.output_shape(input_shape) for architecture in architectures]
    networks = walk_on_meta(space, input_shape)
    assert shapes == [n and tuple(n.activation.shape) for n in networks]
    fits = [fits for table in space.tables(input_shape) for fits in table.fits.tolist()]
    assert fits == [shape is not None for shape in shapes]


def test_a_layer_with_too_many_combinations_is_refused_with_their_number() -> None:
    with pytest.raises(ValidationError, match="65,792 combinations"):
        LayerSpace(channels=tuple(range(1, 258)), padding=tuple(range(256)))


def test_layers_that_no_network_has_cost_a_preview_nothing() -> None:
    used, unused = LayerSpace(channels=(8, 16)), LayerSpace(channels=tuple(range(1, 8193)))
    space = SearchSpace(layers=(used, *[unused] * 15), depths=(1,))
    tracemalloc.start()
    preview = preview_sweep(space, Protocol(dataset="digits", input_shape=(1, 32, 32)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert preview.total == 2
    assert peak < 2**20


def test_a_preview_of_many_options_builds_numbers_and_no_layers() -> None:
    layer = LayerSpace(channels=tuple(range(1, 257)), kernel_size=tuple(range(1, 256)))
    space = SearchSpace(layers=(layer,))
    tracemalloc.start()
    preview = preview_sweep(space, Protocol(dataset="digits", input_shape=(1, 32, 32)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert preview.total == 65_280
    assert peak < 16 * 2**20
    assert "options" not in vars(layer)


def test_the_options_of_all_layers_together_are_limited_used_or_not() -> None:
    layer = LayerSpace(channels=tuple(range(1, 257)), kernel_size=tuple(range(1, 256)))
    with pytest.raises(ValidationError, match="195,840 combinations in all layers together"):
        SearchSpace(layers=(layer,) * 3, depths=(1,))


def test_a_preview_adds_costs_beyond_64_bits_exactly() -> None:
    layer = LayerSpace(channels=tuple(range(8001, 8193)), kernel_size=tuple(range(101, 256)))
    space = SearchSpace(layers=(layer,))
    protocol = Protocol(
        dataset="digits", input_shape=(512, 1024, 1024), train_images=2, validation_images=1,
        gates=Gates(max_ratio=None),
    )  # fmt: skip
    (table,) = space.tables(protocol.input_shape)
    flops = [int(value) for value in table.flops]
    assert sum(flops) > 2**63
    assert preview_sweep(space, protocol).flops == sum(flops)
