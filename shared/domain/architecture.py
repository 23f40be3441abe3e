"""One architecture: its layers, its identity, its shapes, sizes and costs.

All arithmetic is integer arithmetic that works on single numbers and on numpy columns alike, so one
architecture and a million of them are computed by the same lines.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple, TypeVar, get_args

from pydantic import Field

from shared.domain.arrays import IntArray
from shared.domain.errors import InvalidInputError

Activation = Literal["relu", "gelu", "silu", "tanh", "none"]
ACTIVATIONS: tuple[str, ...] = get_args(Activation)
TORCH_ACTIVATIONS: dict[str, str] = {  # names of the modules in torch.nn
    "relu": "ReLU", "gelu": "GELU", "silu": "SiLU", "tanh": "Tanh", "none": "Identity",
}  # fmt: skip
FLOAT32_BYTES = 4
IntOrArray = TypeVar("IntOrArray", int, IntArray)
PositiveCount = Annotated[int, Field(gt=0, strict=True)]  # neither true nor "3"
InputShape = tuple[PositiveCount, PositiveCount, PositiveCount]  # (C, H, W)


class LayerConfig(NamedTuple):
    """One convolution and what follows it. Kernels are square; padding is zeros on every side."""

    channels: int
    kernel_size: int
    stride: int
    dilation: int
    padding: int
    activation: str

    @property
    def key(self) -> str:
        """Canonical text; identities and weight seeds are made of it, so it never changes."""
        return (
            f"c{self.channels}k{self.kernel_size}s{self.stride}"
            f"d{self.dilation}p{self.padding}{self.activation}"
        )


def output_size(
    size: IntOrArray,
    kernel_size: IntOrArray,
    stride: IntOrArray,
    dilation: IntOrArray,
    padding: IntOrArray,
) -> IntOrArray:
    """Returns the length of one side after a convolution; below 1 where the kernel does not fit.

    Source: the formula in PyTorch's documentation of ``torch.nn.Conv2d``.
    """
    return (size + 2 * padding - dilation * (kernel_size - 1) - 1) // stride + 1


@dataclass(frozen=True, slots=True)
class Architecture:
    """A network: convolutions in sequence, each followed by its activation, then flattened."""

    layers: tuple[LayerConfig, ...]

    @classmethod
    def of_columns(
        cls,
        channels: Sequence[int],
        kernel_size: Sequence[int],
        stride: Sequence[int],
        dilation: Sequence[int],
        padding: Sequence[int],
        activation: Sequence[str],
    ) -> "Architecture":
        """Returns the network whose layers have these settings; one entry per layer in each."""
        columns = (channels, kernel_size, stride, dilation, padding, activation)
        return cls(tuple(map(LayerConfig._make, zip(*columns, strict=True))))

    @property
    def hash(self) -> bytes:
        """32 bytes that identify this architecture in every sweep and version (SHA-256)."""
        return architecture_hash([layer.key for layer in self.layers])

    @property
    def prefix(self) -> tuple[LayerConfig, ...]:
        """All layers but the last: architectures with the same prefix form a group."""
        return self.layers[:-1]

    def output_shape(self, input_shape: Sequence[int]) -> tuple[int, int, int] | None:
        """Returns (C, H, W) after the last layer, or None where a kernel does not fit."""
        shapes = self.shapes(input_shape)
        return shapes[-1] if len(shapes) == len(self.layers) else None

    def shapes(self, input_shape: Sequence[int]) -> list[tuple[int, int, int]]:
        """Returns (C, H, W) after each layer, ending before the first that does not fit."""
        _, height, width = input_shape
        shapes: list[tuple[int, int, int]] = []
        for layer in self.layers:
            geometry = (layer.kernel_size, layer.stride, layer.dilation, layer.padding)
            height, width = output_size(height, *geometry), output_size(width, *geometry)
            if min(height, width) < 1:
                break
            shapes.append((layer.channels, height, width))
        return shapes

    def measures(self, input_shape: Sequence[int]) -> "Measures":
        """Returns size and cost on inputs of ``input_shape`` (C, H, W).

        Raises:
            InvalidInputError: a kernel does not fit, so there is nothing to measure.
        """
        costs = self._all_layer_costs(input_shape)
        return Measures(
            features=math.prod(costs[-1].shape),
            input_elements=math.prod(input_shape),
            parameters=sum(cost.parameters for cost in costs),
            flops=sum(cost.flops for cost in costs),
        )

    def layer_costs(self, input_shape: Sequence[int]) -> list["LayerCost"]:
        """Returns shape and cost of each layer, ending before the first that does not fit."""
        costs, before = [], input_shape[0]
        for layer, shape in zip(self.layers, self.shapes(input_shape), strict=False):
            cost = layer_cost(before, layer.channels, layer.kernel_size, shape[1] * shape[2])
            costs.append(LayerCost(shape, *cost))
            before = layer.channels
        return costs

    def bytes_moved(self, input_shape: Sequence[int], batch_size: int) -> float:
        """Returns the bytes per image that layers read and write at least, in batches of this size.

        Raises:
            InvalidInputError: a kernel does not fit, so there is nothing to move.
        """
        costs = self._all_layer_costs(input_shape)
        total, before = 0, math.prod(input_shape)
        for cost in costs:
            after = math.prod(cost.shape)
            total += layer_bytes(before, after, cost.parameters, batch_size)
            before = after
        return total / batch_size

    def _all_layer_costs(self, input_shape: Sequence[int]) -> list["LayerCost"]:
        costs = self.layer_costs(input_shape)
        if len(costs) < len(self.layers):
            raise InvalidInputError(f"Layer {len(costs)} of {self} does not fit its input.")
        return costs

    def __str__(self) -> str:
        return "-".join(layer.key for layer in self.layers)


class LayerCost(NamedTuple):
    """(C, H, W) after a layer, and what the layer costs."""

    shape: tuple[int, int, int]
    parameters: int
    flops: int  # per image


class Measures(NamedTuple):
    """What depends only on the shape of a network. FLOPs count a multiply and an add as two."""

    features: int  # elements of the last activation
    input_elements: int
    parameters: int  # convolutions only
    flops: int  # per image, convolutions only

    @property
    def ratio(self) -> float:
        """Output elements per input element."""
        return self.features / self.input_elements

    def parameters_with_head(self, classes: int) -> int:
        """Parameters together with a linear classifier from the features to ``classes``."""
        return self.parameters + (self.features + 1) * classes


def layer_cost(
    channels_in: IntOrArray, channels: IntOrArray, kernel_size: IntOrArray, positions: IntOrArray
) -> tuple[IntOrArray, IntOrArray]:
    """Returns (parameters, FLOPs per image) of a convolution with ``positions`` outputs."""
    taps = channels_in * kernel_size * kernel_size
    return channels * (taps + 1), 2 * channels * taps * positions


def layer_bytes(
    elements_in: IntOrArray, elements_out: IntOrArray, parameters: IntOrArray, batch_size: int
) -> IntOrArray:
    """Returns the bytes of a batch's inputs and outputs and of the weights, in float32.

    Elements are those of one image.
    """
    return FLOAT32_BYTES * ((elements_in + elements_out) * batch_size + parameters)


def architecture_hash(layer_keys: Sequence[str]) -> bytes:
    """Returns the identity of the network whose layers have these keys."""
    return hashlib.sha256("|".join(layer_keys).encode()).digest()
