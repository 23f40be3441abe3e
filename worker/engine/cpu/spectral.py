"""Convolutions in the frequency domain: fewer operations for large kernels, on the CPU.

Siblings convolve the same activation: it is transformed once for all of them. Every transform is a
matrix product with sines and cosines, so maps of any size are equally good and only the outputs
that a stride keeps are ever computed.
"""

# Notation for one side: an input of n pixels is cut into q phases x_r[m] = x[q m + r] of P pixels.
# With stride s > 1, q = s: output m sums taps i over x[s m + d i] = x_r[m + o], where
# r = d i mod q and o = d i div q, so it is a sum over phases of plain correlations. With stride 1,
# q = d: every tap has r = 0 and o = i, and phase r alone makes the outputs d m + r. A correlation
# with period P is a product of spectra; outputs whose taps stay inside the period are not wrapped.
# u, v number the frequencies of rows and columns, v only to P // 2: activations are real.

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from shared.domain.architecture import LayerConfig, output_size
from worker.engine.tree import FLOAT_BYTES, Shape

TRANSFORM_SLOWDOWN = 2.0  # a product's over a transform's, most of which is memory traffic
TRANSFORMED_TOGETHER = 8  # images whose transform stays in the caches


class Grid(NamedTuple):
    """How an activation is padded and cut into phases before its transform."""

    period: int
    padding: int


def grid_of(layer: LayerConfig) -> Grid:
    """Returns the grid on which a layer is a product of spectra."""
    return Grid(layer.stride if layer.stride > 1 else layer.dilation, layer.padding)


@dataclass(frozen=True)
class Side:
    """One side of a map on a grid: ``length`` pixels with padding, ``cells`` in every phase."""

    length: int
    period: int

    @property
    def cells(self) -> int:
        return -(-self.length // self.period)

    @property
    def half(self) -> int:
        """Frequencies of a real signal of this many cells."""
        return self.cells // 2 + 1


@dataclass(frozen=True)
class Plan:
    """How one layer convolves maps of one shape in the frequency domain, and what that takes."""

    layer: LayerConfig
    input_shape: Shape

    @cached_property
    def grid(self) -> Grid:
        return grid_of(self.layer)

    @cached_property
    def rows(self) -> Side:
        return Side(self.input_shape[1] + 2 * self.layer.padding, self.grid.period)

    @cached_property
    def columns(self) -> Side:
        return Side(self.input_shape[2] + 2 * self.layer.padding, self.grid.period)

    @cached_property
    def output_size(self) -> tuple[int, int]:
        _, height, width = self.input_shape
        geometry = self.layer[1:5]
        return output_size(height, *geometry), output_size(width, *geometry)

    @property
    def phases(self) -> int:
        return self.grid.period**2

    @property
    def split(self) -> bool:
        """Whether phases make outputs of their own, as images of their own would."""
        return self.layer.stride == 1

    @cached_property
    def phases_in(self) -> int:
        """Phases that one output sums over; one of all where every tap falls on the first."""
        on_first = self.layer.dilation % self.grid.period == 0
        return 1 if on_first else self.phases

    @cached_property
    def cells_out(self) -> tuple[int, int]:
        """Height and width of what one set of phases makes."""
        height, width = self.output_size
        step = self.grid.period if self.split else 1
        return -(-height // step), -(-width // step)

    @property
    def maps_out(self) -> int:
        """Maps of ``cells_out`` for one image and channel."""
        return self.phases if self.split else 1

    @property
    def frequencies(self) -> int:
        return self.rows.cells * self.columns.half

    def transform_flops(self) -> int:
        """Returns what the transform of one image costs, for all layers on the same grid."""
        columns, rows = self.columns, self.rows
        maps = self.phases * self.input_shape[0]
        across = 2 * rows.cells * 2 * columns.half * columns.cells
        down = 2 * 2 * rows.cells * 2 * rows.cells * columns.half
        return maps * (across + down)

    def convolution_flops(self) -> int:
        """Returns what product and way back cost for one image."""
        taps = 2 * self.phases_in * self.input_shape[0]
        product = 2 * self.frequencies * self.maps_out * taps * 2 * self.layer.channels
        height, width = self.cells_out
        up = 2 * 2 * height * 2 * self.frequencies
        across = 2 * height * width * 2 * self.columns.half
        return product + self.maps_out * self.layer.channels * (up + across)

    def direct_flops(self) -> int:
        """Returns what the direct convolution of one image costs."""
        height, width = self.output_size
        taps = self.input_shape[0] * self.layer.kernel_size**2
        return 2 * self.layer.channels * taps * height * width

    def spectrum_bytes(self) -> int:
        """Returns the memory of one image's spectrum and of what it is made from."""
        return 4 * self.frequencies * self.phases * 2 * self.input_shape[0] * FLOAT_BYTES

    def working_bytes(self) -> int:
        """Returns the memory of one image on its way from product to output."""
        height, width = self.cells_out
        one_row = self.rows.cells * 2
        back = 2 * height * self.columns.half + 2 * height * width
        return (one_row + back) * self.maps_out * self.layer.channels * FLOAT_BYTES

    def kernel_bytes(self) -> int:
        """Returns the memory of the kernel's spectrum."""
        taps = 2 * self.phases_in * self.input_shape[0]
        return 2 * self.frequencies * taps * self.layer.channels * FLOAT_BYTES


def choose_spectral(plans: Iterable[Plan], slowdown: float) -> list[Plan]:
    """Returns those of some siblings' plans that are cheaper than direct convolutions.

    The transform counts once for all layers on the same grid. ``slowdown`` is how many times more
    operations per second a direct convolution does than the products of spectra.
    """
    by_grid: dict[Grid, list[Plan]] = {}
    for plan in plans:
        by_grid.setdefault(plan.grid, []).append(plan)
    chosen = []
    for alike in by_grid.values():
        gains = {p: p.direct_flops() - slowdown * p.convolution_flops() for p in alike}
        cheaper = [plan for plan in alike if gains[plan] > 0]
        transform_cost = slowdown * TRANSFORM_SLOWDOWN * alike[0].transform_flops()
        if sum(gains[p] for p in cheaper) > transform_cost:
            chosen += cheaper
    return chosen


def transform(images: Tensor, plan: Plan) -> Tensor:
    """Returns the spectra of activations (m, C, H, W) on the plan's grid.

    float32 (columns' frequencies, rows' frequencies, m, phases, 2, C), real parts before imaginary.
    """
    rows, columns, period = plan.rows, plan.columns, plan.grid.period
    count, channels, height, width = images.shape
    padding = plan.layer.padding
    right = columns.cells * period - width - padding
    below = rows.cells * period - height - padding
    if padding or right or below:
        images = functional.pad(images, (padding, right, padding, below))
    shape = (columns.half, rows.cells, count, plan.phases, 2, channels)
    spectra = images.new_empty(shape)
    for start in range(0, count, TRANSFORMED_TOGETHER):
        piece = slice(start, start + TRANSFORMED_TOGETHER)
        _transform_piece(images[piece], plan, spectra[:, :, piece])
    return spectra


def _transform_piece(images: Tensor, plan: Plan, spectra: Tensor) -> None:
    rows, columns, period = plan.rows, plan.columns, plan.grid.period
    count, channels = images.shape[:2]
    cut = images.permute(0, 2, 3, 1)
    cut = cut.reshape(count, rows.cells, period, columns.cells, period, channels)
    maps = cut.permute(1, 3, 0, 2, 4, 5).reshape(rows.cells, columns.cells, -1)
    across = _forward_columns(columns.cells, images.dtype)
    half = torch.matmul(across, maps).view(rows.cells * 2, -1)
    full = torch.mm(_forward_rows(rows.cells, images.dtype), half)
    full = full.view(2, rows.cells, columns.half, count, plan.phases, channels)
    spectra.copy_(full.permute(2, 1, 3, 4, 0, 5))


def transform_kernel(weight: Tensor, plan: Plan) -> Tensor:
    """Returns the spectrum of a kernel (channels, C, k, k), ready to be multiplied with.

    float32 (2, columns' frequencies, rows' frequencies, phases * 2 * C, channels): what makes the
    real part of the product, then what makes its imaginary part.
    """
    channels, channels_in, size, _ = weight.shape
    down = _tap_waves(plan.rows.cells, plan.rows.cells, plan.layer, plan.phases_in)
    across = _tap_waves(plan.columns.half, plan.columns.cells, plan.layer, plan.phases_in)
    taps = weight.permute(2, 3, 1, 0).reshape(size, -1).to(torch.complex64)
    partly = torch.mm(down, taps).view(-1, size, channels_in * channels)
    wave = torch.mm(across, partly.transpose(0, 1).reshape(size, -1))
    sides = math.isqrt(plan.phases_in)
    wave = wave.view(sides, plan.columns.half, sides, plan.rows.cells, channels_in, channels)
    wave = wave.permute(1, 3, 2, 0, 4, 5).flatten(2, 3)  # v, u, phase, C, channels
    kernel = weight.new_empty(2, *wave.shape[:3], 2, channels_in, channels)
    kernel[0, ..., 0, :, :] = kernel[1, ..., 1, :, :] = wave.real
    kernel[1, ..., 0, :, :] = wave.imag
    kernel[0, ..., 1, :, :] = -wave.imag
    return kernel.flatten(3, 5)


def convolve(spectra: Tensor, kernel: Tensor, bias: Tensor, plan: Plan) -> Tensor:
    """Returns the convolution of activations known by their spectra.

    ``spectra`` are those of ``transform``, ``kernel`` that of ``transform_kernel``, ``bias``
    (channels,). float32 (m, channels, H', W') in channels last layout, equal to
    ``torch.nn.functional.conv2d`` up to rounding.
    """
    frequencies, cells, count = spectra.shape[:3]
    maps = count * plan.maps_out
    if plan.split:
        factors = spectra.view(frequencies, cells, maps, -1)
    else:
        factors = spectra[:, :, :, : plan.phases_in].flatten(3)
    height, width = plan.cells_out
    channels = plan.layer.channels
    product = spectra.new_empty(2, cells, maps, channels)
    partly = spectra.new_empty(2 * height, frequencies, maps * channels)
    up = _backward_rows(height, cells, spectra.dtype)
    for v in range(frequencies):
        for part in range(2):
            torch.bmm(factors[v], kernel[part, v], out=product[part])
        if v == 0:  # a constant lives where both frequencies are zero
            product[0, 0] += bias * (cells * plan.columns.cells)
        torch.mm(up, product.view(2 * cells, -1), out=partly[:, v])
    across = _backward_columns(width, plan.columns.cells, cells, spectra.dtype)
    back = torch.matmul(across, partly.view(height, 2 * frequencies, -1))
    return _assemble(back.view(height, width, count, plan.maps_out, channels), plan)


def _assemble(back: Tensor, plan: Plan) -> Tensor:
    """Puts the maps that phases made where they belong: (h, w, m, phases, channels) to images."""
    height, width = plan.output_size
    step = plan.grid.period if plan.split else 1
    output = back.new_empty(back.shape[2], height, width, back.shape[4])
    for phase in range(plan.maps_out):
        target = output[:, phase // step :: step, phase % step :: step]
        source = back[: target.shape[1], : target.shape[2], :, phase]
        target.copy_(source.permute(2, 0, 1, 3))
    return output.permute(0, 3, 1, 2)


def _angles(first: Tensor, second: Tensor, cells: int) -> Tensor:
    """Returns 2 pi first x second / cells, float64, reduced so that nothing large is rounded."""
    return (first[:, None] * second[None, :] % cells).double() * (2 * math.pi / cells)


@lru_cache(maxsize=256)
def _forward_columns(cells: int, dtype: torch.dtype) -> Tensor:
    """Rows of a real map to half spectra: (2 * half, cells), real parts first."""
    angles = _angles(torch.arange(cells // 2 + 1), torch.arange(cells), cells)
    return torch.cat([angles.cos(), -angles.sin()]).to(dtype)


@lru_cache(maxsize=256)
def _forward_rows(cells: int, dtype: torch.dtype) -> Tensor:
    """Columns of half spectra to spectra: (2 * cells, cells * 2) for (row, part) as input."""
    angles = _angles(torch.arange(cells), torch.arange(cells), cells)
    real = torch.stack([angles.cos(), angles.sin()], dim=-1)
    imaginary = torch.stack([-angles.sin(), angles.cos()], dim=-1)
    return torch.cat([real, imaginary]).flatten(1).to(dtype)


@lru_cache(maxsize=256)
def _backward_rows(height: int, cells: int, dtype: torch.dtype) -> Tensor:
    """Spectra to the first ``height`` rows of half spectra: (height * 2, 2 * cells)."""
    angles = _angles(torch.arange(height), torch.arange(cells), cells)
    real = torch.cat([angles.cos(), -angles.sin()], dim=1)
    imaginary = torch.cat([angles.sin(), angles.cos()], dim=1)
    return torch.stack([real, imaginary], dim=1).flatten(0, 1).to(dtype)


@lru_cache(maxsize=256)
def _backward_columns(width: int, cells: int, rows: int, dtype: torch.dtype) -> Tensor:
    """Half spectra to the first ``width`` pixels, scaled: (width, 2 * half)."""
    frequencies = torch.arange(cells // 2 + 1)
    angles = _angles(torch.arange(width), frequencies, cells)
    unpaired = (frequencies == 0) | (2 * frequencies == cells)  # the others stand for a pair
    scale = torch.where(unpaired, 1.0, 2.0).double() / (cells * rows)
    return torch.cat([angles.cos() * scale, -angles.sin() * scale], dim=1).to(dtype)


@lru_cache(maxsize=256)
def _tap_waves(frequencies: int, cells: int, layer: LayerConfig, phases_in: int) -> Tensor:
    """Conjugate waves of a kernel's taps, by phase: complex64 (phases * frequencies, k)."""
    period = grid_of(layer).period
    places = torch.arange(layer.kernel_size) * layer.dilation
    angles = _angles(torch.arange(frequencies), places // period, cells)
    waves = torch.polar(torch.ones_like(angles), angles)
    phases = torch.arange(math.isqrt(phases_in))
    falls = places[None, :] % period == phases[:, None]
    return torch.where(falls[:, None, :], waves[None], 0).flatten(0, 1).to(torch.complex64)
