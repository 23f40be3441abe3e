"""Search spaces: which architectures there are, in which order, and all of them as columns."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from shared.domain.architecture import (
    ACTIVATIONS,
    Activation,
    Architecture,
    LayerConfig,
    PositiveCount,
    architecture_hash,
    layer_cost,
    output_size,
)
from shared.domain.arrays import BoolArray, FloatArray, IntArray
from shared.domain.errors import InvalidInputError
from shared.domain.measurements import Reason

MAX_ARCHITECTURES = 10_000_000
MAX_LAYERS = 16
MAX_LAYER_CHOICES = 65_536
MAX_DECLARED = 2 * MAX_LAYER_CHOICES  # options of all layers together, used or not
MAX_COUNT = 2**63 - 1  # columns are 64-bit integers, here and in the database

Channels = Annotated[int, Field(strict=True, ge=1, le=8192)]
Size = Annotated[int, Field(strict=True, ge=1, le=255)]
Padding = Annotated[int, Field(strict=True, ge=0, le=255)]


class Parameter(NamedTuple):
    """A parameter that a search space may vary: a field of a layer; layers count from 0."""

    field: str
    layer: int

    def __str__(self) -> str:
        return f"{self.field}[{self.layer}]"


class LayerSpace(BaseModel):
    """The choices for one layer; every combination of them is in the space."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # a longer list has a choice twice; its end is not even read
    channels: Annotated[tuple[Channels, ...], Field(max_length=8192)] = (32,)
    kernel_size: Annotated[tuple[Size, ...], Field(max_length=255)] = (3,)
    stride: Annotated[tuple[Size, ...], Field(max_length=255)] = (1,)
    dilation: Annotated[tuple[Size, ...], Field(max_length=255)] = (1,)
    padding: Annotated[tuple[Padding, ...], Field(max_length=256)] = (0,)
    activation: Annotated[tuple[Activation, ...], Field(max_length=len(ACTIVATIONS))] = ("relu",)

    @field_validator("*")
    @classmethod
    def _some_and_distinct(cls, choices: tuple[Any, ...]) -> tuple[Any, ...]:
        if not choices:
            raise ValueError("needs at least one choice")
        if len(set(choices)) < len(choices):
            raise ValueError("names a choice twice")
        return choices

    @model_validator(mode="after")
    def _bounded(self) -> "LayerSpace":
        if self.size > MAX_LAYER_CHOICES:
            raise ValueError(
                f"{self.size:,} combinations are more than the {MAX_LAYER_CHOICES:,} that one "
                "layer may have; remove choices"
            )
        return self

    @property
    def size(self) -> int:
        """How many layers this describes."""
        return math.prod(len(choices) for choices in self._choices)

    @property
    def _choices(self) -> tuple[tuple[Any, ...], ...]:
        return tuple(getattr(self, name) for name in LayerConfig._fields)

    def repeats(self, choices: IntArray) -> BoolArray:
        """Returns which choices compute the same as another one that comes earlier.

        A dilation has no effect on a kernel of size 1. ``choices`` are indices as of ``at``.
        """
        sizes = [len(values) for values in self._choices]
        places = dict(zip(LayerConfig._fields, np.unravel_index(choices, sizes), strict=True))
        pointwise = np.array(self.kernel_size)[places["kernel_size"]] == 1
        repeated: BoolArray = pointwise & (places["dilation"] > 0)
        return repeated

    def at(self, index: int) -> LayerConfig:
        """Returns layer ``index``; the last field of ``LayerConfig`` varies fastest."""
        values: list[Any] = []
        for choices in reversed(self._choices):
            index, choice = divmod(index, len(choices))
            values.append(choices[choice])
        return LayerConfig(*reversed(values))

    @cached_property
    def options(self) -> list[LayerConfig]:
        """Every layer that this describes, in order."""
        return [self.at(index) for index in range(self.size)]

    @property
    def numbers(self) -> IntArray:
        """The numeric fields of every layer that this describes, in order: (5, size)."""
        *numeric, activations = self._choices
        grid = np.meshgrid(*numeric, np.arange(len(activations)), indexing="ij")
        return np.stack([values.ravel() for values in grid[:-1]]).astype(np.int64)


class SearchSpace(BaseModel):
    """Every network whose layers come from ``layers``, in a stable order.

    Networks of depth ``d`` use the first ``d`` layer spaces. They are ordered by the place of their
    depth in ``depths``, then layer by layer, the last layer varying fastest: a group (same prefix)
    is a run of consecutive indices.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    layers: tuple[LayerSpace, ...]
    depths: tuple[PositiveCount, ...] | None = Field(
        default=None, description="Depths to enumerate; all layers when left out."
    )

    @field_validator("layers")
    @classmethod
    def _some_layers(cls, layers: tuple[LayerSpace, ...]) -> tuple[LayerSpace, ...]:
        if not 1 <= len(layers) <= MAX_LAYERS:
            raise ValueError(f"needs 1 to {MAX_LAYERS} layers, not {len(layers)}")
        return layers

    @field_validator("depths")
    @classmethod
    def _depths_distinct(cls, depths: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if depths is not None and (not depths or len(set(depths)) < len(depths)):
            raise ValueError("needs at least one depth, each of them once")
        return depths

    @model_validator(mode="after")
    def _bounded(self) -> "SearchSpace":
        if self.depths is not None and max(self.depths) > len(self.layers):
            raise ValueError(
                f"depths: {max(self.depths)} is deeper than the {len(self.layers)} layers given"
            )
        declared = sum(layer.size for layer in self.layers)
        size = sum(block.size for block in self.blocks)  # may be more than len() can say
        if size > MAX_ARCHITECTURES:
            raise ValueError(
                f"layers: {size:,} architectures are more than the {MAX_ARCHITECTURES:,} "
                "that one sweep may hold; remove choices"
            )
        if declared > MAX_DECLARED:
            raise ValueError(
                f"layers: {declared:,} combinations in all layers together are more than the "
                f"{MAX_DECLARED:,} that a space may name; remove choices or unused layers"
            )
        return self

    @cached_property
    def blocks(self) -> tuple["DepthBlock", ...]:
        """The runs of architectures of equal depth, in order."""
        sizes = [layer.size for layer in self.layers]
        depths = self.depths or (len(self.layers),)
        counts = [math.prod(sizes[:depth]) for depth in depths]
        groups = [math.prod(sizes[: depth - 1]) for depth in depths]
        return tuple(
            DepthBlock(depth, start, size, first_group, tuple(sizes[:depth]))
            for depth, start, size, first_group in zip(
                depths, accumulate(counts, initial=0), counts, accumulate(groups, initial=0),
                strict=False,
            )
        )  # fmt: skip

    def __len__(self) -> int:
        return sum(block.size for block in self.blocks)

    @property
    def depth(self) -> int:
        """Number of layers of the deepest network."""
        return max(block.depth for block in self.blocks)

    @property
    def varied_parameters(self) -> list[Parameter]:
        """The parameters with more than one choice, by layer."""
        return [
            Parameter(field, layer)
            for layer, choices in enumerate(self._used_layers)
            for field in LayerConfig._fields
            if len(getattr(choices, field)) > 1
        ]

    @property
    def groups(self) -> int:
        """How many groups, that is distinct prefixes, the space has."""
        return sum(block.size // block.group_size for block in self.blocks)

    def architecture(self, index: int) -> Architecture:
        """Returns architecture ``index`` of the enumeration.

        Raises:
            InvalidInputError: the index lies outside the space.
        """
        for block in self.blocks:
            if 0 <= index - block.start < block.size:
                choices = np.unravel_index(index - block.start, block.sizes)
                layers = zip(self.layers, choices, strict=False)
                return Architecture(tuple(layer.at(int(choice)) for layer, choice in layers))
        raise InvalidInputError(f"Index {index} is outside a space of {len(self)}.", field="index")

    def __iter__(self) -> Iterator[Architecture]:  # type: ignore[override]
        """Yields every architecture in order, without holding them."""
        return (self.architecture(index) for index in range(len(self)))

    def tables(self, input_shape: Sequence[int], rows: int = 65_536) -> Iterator["SpaceTable"]:
        """Yields the whole space as tables of at most ``rows`` rows, in order.

        Raises:
            InvalidInputError: sizes or costs could be too large to be counted.
        """
        self._check_countable(input_shape)
        numbers = [layer.numbers for layer in self._used_layers]
        for block in self.blocks:
            for start in range(0, block.size, rows):
                offsets = np.arange(start, min(start + rows, block.size))
                yield self._table(block, numbers[: block.depth], offsets, input_shape)

    @property
    def _used_layers(self) -> tuple[LayerSpace, ...]:
        """The layers that some network has; ``depths`` may leave out the last ones."""
        return self.layers[: self.depth]

    def repeats(self, table: "SpaceTable") -> BoolArray:
        """Returns which rows of a table compute the same as an earlier row of the space."""
        repeated = np.zeros(len(table.index), dtype=bool)
        for layer, choices in zip(self.layers, table.choices, strict=False):
            if 1 in layer.kernel_size and len(layer.dilation) > 1:
                repeated |= layer.repeats(choices)
        return repeated

    def _check_countable(self, input_shape: Sequence[int]) -> None:
        channels, height, width = input_shape
        worst = 0
        for layer in self._used_layers:
            height, width = (side + 2 * max(layer.padding) for side in (height, width))
            kernel_size, channels_out = max(layer.kernel_size), max(layer.channels)
            worst += layer_cost(channels, channels_out, kernel_size, height * width)[1]
            channels = channels_out
        if worst > MAX_COUNT:
            raise InvalidInputError(
                f"Networks of this space on inputs of {tuple(input_shape)} are too large to count.",
                field="space",
            )

    def _table(
        self,
        block: "DepthBlock",
        numbers: Sequence[IntArray],
        offsets: IntArray,
        input_shape: Sequence[int],
    ) -> "SpaceTable":
        choices = np.unravel_index(offsets, block.sizes)
        fits = np.ones(len(offsets), dtype=bool)
        channels, height, width = (np.full(len(offsets), side) for side in input_shape)
        parameters, flops = np.zeros_like(offsets), np.zeros_like(offsets)
        for layer_numbers, choice in zip(numbers, choices, strict=True):
            channels_out, *geometry = layer_numbers[:, choice]
            height, width = output_size(height, *geometry), output_size(width, *geometry)
            fits &= (height >= 1) & (width >= 1)
            weights, cost = layer_cost(channels, channels_out, geometry[0], height * width)
            parameters, flops, channels = parameters + weights, flops + cost, channels_out
        return SpaceTable(
            index=offsets + block.start,
            group=offsets // block.group_size + block.first_group,
            layers=self.layers[: block.depth],
            choices=choices,
            fits=fits,
            features=channels * height * width,
            input_elements=math.prod(input_shape),
            parameters=parameters,
            flops=flops,
        )


class DepthBlock(NamedTuple):
    """The architectures of one depth: where they start and how many choices each layer has."""

    depth: int
    start: int
    size: int
    first_group: int
    sizes: tuple[int, ...]

    @property
    def group_size(self) -> int:
        return self.sizes[-1]


@dataclass(frozen=True)
class SpaceTable:
    """Consecutive architectures of equal depth as columns.

    ``features``, ``parameters`` and ``flops`` mean nothing where ``fits`` is false.
    """

    index: IntArray
    group: IntArray
    layers: tuple[LayerSpace, ...]
    choices: tuple[IntArray, ...]  # per layer, an index into its options
    fits: BoolArray
    features: IntArray
    input_elements: int
    parameters: IntArray
    flops: IntArray

    @property
    def options(self) -> list[list[LayerConfig]]:
        """The options of each layer; only rows are made of them, numbers are not."""
        return [layer.options for layer in self.layers]

    @cached_property
    def ratio(self) -> FloatArray:
        return self.features / self.input_elements

    def reasons(self, min_ratio: float | None, max_ratio: float | None) -> dict[Reason, BoolArray]:
        """Returns, per reason, which rows the shape check refuses for it; no row has two."""
        return {
            Reason.INVALID_SHAPE: ~self.fits,
            Reason.RATIO_ABOVE_MAXIMUM: self.fits & (self.ratio > (max_ratio or math.inf)),
            Reason.RATIO_BELOW_MINIMUM: self.fits & (self.ratio < (min_ratio or 0.0)),
        }

    def rows(self) -> Iterator[tuple[tuple[LayerConfig, ...], LayerConfig, bytes]]:
        """Yields (all layers but the last, the last, hash) per row.

        Rows of a group, which follow each other, are given the same tuple of first layers.
        """
        *firsts, last_options = self.options
        last_keys = [layer.key for layer in last_options]
        place: list[int] | None = None
        first: tuple[LayerConfig, ...] = ()
        first_keys: list[str] = []
        for *row, last in zip(*(choice.tolist() for choice in self.choices), strict=True):
            if row != place:
                place = row
                first = tuple(options[i] for options, i in zip(firsts, row, strict=True))
                first_keys = [layer.key for layer in first]
            yield first, last_options[last], architecture_hash([*first_keys, last_keys[last]])


def random_cnn_2025(channels: int = 32) -> SearchSpace:
    """The published space: three layers, 36 choices each, 46,656 networks.

    Source: the random-CNN experiment of 2025-06-17.
    """
    layer = LayerSpace(
        channels=(channels,), kernel_size=(3, 5, 7, 9), stride=(1, 2, 3), dilation=(1, 2, 3)
    )
    return SearchSpace(layers=(layer, layer, layer))


def quick() -> SearchSpace:
    """A small space for a first look: three layers, eight choices each, 512 networks."""
    layer = LayerSpace(channels=(8,), kernel_size=(3, 5), stride=(1, 2), dilation=(1, 2))
    return SearchSpace(layers=(layer, layer, layer))


SPACE_PRESETS = {"random-cnn-2025": random_cnn_2025, "quick": quick}
