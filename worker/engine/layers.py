"""Layers: who shares weights, the seed of every draw, and whole networks rebuilt from seeds."""

import hashlib
import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

from shared.domain.architecture import TORCH_ACTIVATIONS, Architecture, LayerConfig
from shared.domain.protocol import MemoryFormat, Protocol, WeightSharing

Weights = tuple[Tensor, Tensor]

_OVERWRITING: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu_, "tanh": torch.tanh_}


def shared_layers(
    scope: WeightSharing, layers: Sequence[LayerConfig], index: int
) -> Sequence[LayerConfig]:
    """Returns the layers that decide the draw of layer ``index``: equal ones share its weights."""
    if scope is WeightSharing.PREFIX:
        return layers[: index + 1]
    if scope is WeightSharing.SIBLINGS and index < len(layers) - 1:
        return layers[:-1]
    return layers


def layer_seed(
    seed: int, trial: int, scope: WeightSharing, layers: Sequence[LayerConfig], index: int
) -> int:
    """Returns the 63-bit seed of the weights of layer ``index`` of the network ``layers``.

    The text that is hashed never changes: (architecture, trial) can always be rebuilt.
    """
    keys = "|".join(layer.key for layer in shared_layers(scope, layers, index))
    text = f"convsweep/weights/1:{seed}:{trial}:{scope.value}:{keys}:{index}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def layer_seeds(protocol: Protocol, architecture: Architecture, trial: int) -> tuple[int, ...]:
    """Returns the seed of every layer of one trial, first layer first."""
    return tuple(
        layer_seed(protocol.seed, trial, protocol.weights.scope, architecture.layers, index)
        for index in range(len(architecture.layers))
    )


def draw_layer(layer: LayerConfig, channels_in: int, seed: int) -> Weights:
    """Returns float32 weight (channels, channels_in, k, k) and bias (channels,) on the CPU.

    They are what ``torch.nn.Conv2d`` starts with after ``torch.manual_seed(seed)``, whatever the
    device that uses them.

    Source: ``torch.nn.modules.conv._ConvNd.reset_parameters``.
    """
    generator = torch.Generator().manual_seed(seed)
    weight = torch.empty(layer.channels, channels_in, layer.kernel_size, layer.kernel_size)
    nn.init.kaiming_uniform_(weight, a=math.sqrt(5), generator=generator)
    bound = 1 / math.sqrt(channels_in * layer.kernel_size**2)
    bias = torch.empty(layer.channels).uniform_(-bound, bound, generator=generator)
    return weight, bias


def activation_module(name: str) -> nn.Module:
    """Returns the module of an activation of ``shared.domain.space``."""
    module: nn.Module = getattr(nn, TORCH_ACTIVATIONS[name])()
    return module


@lru_cache
def activation_function(name: str) -> Callable[[Tensor], Tensor]:
    """Returns an activation as a function, which overwrites its argument where PyTorch can."""
    return _OVERWRITING.get(name) or activation_module(name)


def torch_memory_format(memory_format: MemoryFormat) -> torch.memory_format:
    """Returns PyTorch's name of a memory format."""
    channels_last = memory_format is MemoryFormat.CHANNELS_LAST
    return torch.channels_last if channels_last else torch.contiguous_format


def make_conv(layer: LayerConfig, channels_in: int, device: torch.device | str) -> nn.Conv2d:
    """Returns an uninitialised convolution of this shape."""
    conv = nn.Conv2d(
        channels_in,
        layer.channels,
        layer.kernel_size,
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        device="meta",
    )
    return conv.to_empty(device=device)


def build_network(architecture: Architecture, trial: int, protocol: Protocol) -> nn.Sequential:
    """Returns the unshared network of one trial on the CPU, in evaluation mode.

    Maps images (N, C, H, W) to features (N, channels * height * width), both float32.
    """
    modules: list[nn.Module] = []
    channels = protocol.input_shape[0]
    seeds = layer_seeds(protocol, architecture, trial)
    for layer, seed in zip(architecture.layers, seeds, strict=True):
        conv = make_conv(layer, channels, "cpu")
        weight, bias = draw_layer(layer, channels, seed)
        conv.load_state_dict({"weight": weight, "bias": bias})
        modules += [conv, activation_module(layer.activation)]
        channels = layer.channels
    return nn.Sequential(*modules, nn.Flatten()).eval().requires_grad_(False)


def timed_network(architecture: Architecture, channels: int, device: torch.device) -> nn.Sequential:
    """Returns a network on ``device`` with whatever weights: they do not change its speed."""
    modules: list[nn.Module] = []
    for layer in architecture.layers:
        conv = nn.Conv2d(
            channels, layer.channels, layer.kernel_size,
            stride=layer.stride, padding=layer.padding, dilation=layer.dilation, device=device,
        )  # fmt: skip
        modules += [conv, activation_module(layer.activation)]
        channels = layer.channels
    return nn.Sequential(*modules, nn.Flatten()).eval().requires_grad_(False)


@lru_cache(maxsize=65_536)
def layer_output_shape(
    layer: LayerConfig, input_shape: tuple[int, int, int]
) -> tuple[int, int, int] | None:
    """Returns (C, H, W) after a layer as PyTorch itself works it out; None where it refuses."""
    conv = make_conv(layer, input_shape[0], "meta")
    try:
        shape = conv(torch.empty(1, *input_shape, device="meta")).shape
    except RuntimeError:  # what Conv2d raises where the kernel does not fit
        return None
    _, channels, height, width = shape
    return (channels, height, width) if min(height, width) > 0 else None


def network_shapes(
    architecture: Architecture, input_shape: tuple[int, int, int]
) -> list[tuple[int, int, int]] | None:
    """Returns (C, H, W) after every layer by PyTorch's rules; None for an impossible network."""
    shapes: list[tuple[int, int, int]] = []
    for layer in architecture.layers:
        shape = layer_output_shape(layer, shapes[-1] if shapes else input_shape)
        if shape is None:
            return None
        shapes.append(shape)
    return shapes
