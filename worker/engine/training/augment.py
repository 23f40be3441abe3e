"""TrivialAugmentWide on the device: every image its own operation, a batch at a time."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from shared.domain.errors import InvalidInputError
from shared.domain.recipe import AUGMENTABLE_CHANNELS

BINS = 31  # magnitudes of an operation
OPERATIONS = (
    "Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color",
    "Contrast", "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize",
)  # fmt: skip
SIGNED = frozenset(OPERATIONS[1:10])
_GREATEST = dict.fromkeys(OPERATIONS[1:10], 0.99) | {
    "TranslateX": 32.0, "TranslateY": 32.0, "Rotate": 135.0,
}  # fmt: skip
_TO_BYTE = 255 + 1.0 - 1e-3  # how torchvision scales [0, 1] to bytes


@dataclass(frozen=True, slots=True)
class Draw:
    """What happens to each image: operations int64 (N,) in ``OPERATIONS``, magnitudes float (N,).

    Both lie on the CPU, so that nothing has to wait for a device to know what is to be done.
    """

    operations: Tensor
    magnitudes: Tensor

    def __getitem__(self, part: slice) -> "Draw":
        return Draw(self.operations[part], self.magnitudes[part])


def magnitudes_of(operation: str) -> Tensor:
    """Returns the magnitudes (31,) of an operation, zeros where it has none.

    Source: ``torchvision.transforms.v2.TrivialAugmentWide._AUGMENTATION_SPACE``.
    """
    if operation in SIGNED:
        return torch.linspace(0.0, _GREATEST[operation], BINS)
    if operation == "Posterize":
        return (8 - (torch.arange(BINS) / ((BINS - 1) / 6))).round()
    if operation == "Solarize":
        return torch.linspace(1.0, 0.0, BINS)
    return torch.zeros(BINS)


_MAGNITUDES = torch.stack([magnitudes_of(name) for name in OPERATIONS])
_IS_SIGNED = torch.tensor([name in SIGNED for name in OPERATIONS])


def draw_operations(count: int, generator: torch.Generator) -> Draw:
    """Returns an operation and a magnitude for each of ``count`` images, all independent.

    Operations and magnitudes are uniform; signed operations turn around half of the time.
    ``generator`` is one of the CPU.
    """
    operations = torch.randint(len(OPERATIONS), (count,), generator=generator)
    bins = torch.randint(BINS, (count,), generator=generator)
    negative = torch.rand(count, generator=generator) <= 0.5
    magnitudes = _MAGNITUDES[operations, bins]
    turned = negative & _IS_SIGNED[operations]
    return Draw(operations, torch.where(turned, -magnitudes, magnitudes))


def augment(images: Tensor, draw: Draw) -> Tensor:
    """Returns each image after its operation; the images handed in stay as they are.

    Args:
        images: uint8, or floating point in [0, 1], (N, C, H, W) with one or three channels, on any
            device; what comes back has the same type, shape and device.

    Raises:
        InvalidInputError: the images have neither one nor three channels.

    Source: ``torchvision.transforms.v2.TrivialAugmentWide``, nearest neighbours, fill 0.
    """
    if images.shape[1] not in AUGMENTABLE_CHANNELS:
        raise InvalidInputError(
            f"TrivialAugmentWide needs images of one or three channels, not {images.shape[1]}; "
            "train them with augment none.",
            field="augment",
        )
    order = draw.operations.argsort(stable=True)
    order_on_device = order.to(images.device, non_blocking=True)
    strengths = draw.magnitudes[order].to(images.device, non_blocking=True)
    counts = torch.bincount(draw.operations, minlength=len(OPERATIONS)).tolist()
    groups = torch.split(images.index_select(0, order_on_device), counts)
    changed = [
        change(group, strength)
        for change, group, strength in zip(
            _FUNCTIONS, groups, torch.split(strengths, counts), strict=True
        )
        if len(group)
    ]
    return torch.cat(changed).index_select(0, order_on_device.argsort())


def _identity(images: Tensor, _: Tensor) -> Tensor:
    return images


def _bound(images: Tensor) -> float:
    return 1.0 if images.is_floating_point() else 255.0


def _per_image(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def _restore(values: Tensor, images: Tensor) -> Tensor:
    """Returns floating-point values clamped to the range of images and in their type."""
    return values.clamp_(0, _bound(images)).to(images.dtype)


def _float(images: Tensor) -> Tensor:
    return images if images.is_floating_point() else images.float()


def _sample(images: Tensor, inverse: Tensor) -> Tensor:
    """Returns images whose every pixel comes from where ``inverse`` (N, 2, 3) says, else black.

    Coordinates are pixels around the middle of the image. Nearest neighbour.
    """
    n, channels, height, width = images.shape
    kind = images.dtype if images.is_floating_point() else torch.float32
    x = torch.linspace((1 - width) / 2, (width - 1) / 2, width, device=images.device, dtype=kind)
    y = torch.linspace((1 - height) / 2, (height - 1) / 2, height, device=images.device, dtype=kind)
    halves = torch.tensor([0.5 * width, 0.5 * height], device=images.device, dtype=kind)

    def places(row: Tensor, size: int) -> Tensor:
        """Rounds as ``torch.nn.functional.grid_sample`` does, whose order of steps this is."""
        across, down, shift = (part.view(n, 1, 1) for part in row.unbind(1))
        scaled = (x * across + y.view(1, height, 1) * down).add_(shift)
        return scaled.add_(1).mul_(size).sub_(1).mul_(0.5).round_()

    across, down = (inverse.to(kind) / halves.view(1, 2, 1)).unbind(1)
    columns, rows = places(across, width), places(down, height)
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    pixels = rows.mul_(width).add_(columns).mul_(inside).to(torch.int64)  # exact below 2**24
    moved = images.flatten(2).gather(2, pixels.view(n, 1, -1).expand(n, channels, -1))
    return moved.view_as(images).mul_(inside.unsqueeze(1))


def _matrix(a: Tensor, b: Tensor, tx: Tensor, c: Tensor, d: Tensor, ty: Tensor) -> Tensor:
    return torch.stack([a, b, tx, c, d, ty], dim=1).view(-1, 2, 3)


def _shear_x(images: Tensor, strength: Tensor) -> Tensor:
    one, zero = torch.ones_like(strength), torch.zeros_like(strength)
    top = strength * (images.shape[-2] / 2)  # the upper left corner stays where it is
    return _sample(images, _matrix(one, strength, top, zero, one, zero))


def _shear_y(images: Tensor, strength: Tensor) -> Tensor:
    one, zero = torch.ones_like(strength), torch.zeros_like(strength)
    left = strength * (images.shape[-1] / 2)
    return _sample(images, _matrix(one, zero, zero, strength, one, left))


def _translate_x(images: Tensor, strength: Tensor) -> Tensor:
    one, zero = torch.ones_like(strength), torch.zeros_like(strength)
    return _sample(images, _matrix(one, zero, -strength.trunc(), zero, one, zero))


def _translate_y(images: Tensor, strength: Tensor) -> Tensor:
    one, zero = torch.ones_like(strength), torch.zeros_like(strength)
    return _sample(images, _matrix(one, zero, zero, zero, one, -strength.trunc()))


def _rotate(images: Tensor, degrees: Tensor) -> Tensor:
    angle = -degrees.double() * (math.pi / 180)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    return _sample(images, _matrix(cos, sin, zero, -sin, cos, zero))


def _blend(images: Tensor, others: Tensor, strength: Tensor) -> Tensor:
    """Returns ``1 + strength`` parts of images and ``-strength`` parts of others."""
    ratio = 1 + _per_image(strength).double()  # as torchvision's, which is a Python float
    mine, theirs = ratio.to(others.dtype), (1 - ratio).to(others.dtype)
    return _restore(torch.addcmul(images * mine, others, theirs), images)


def _grey(images: Tensor) -> Tensor:
    """Returns (N, 1, H, W) floating-point brightness, whole numbers for bytes."""
    if images.shape[1] == 1:
        return _float(images)
    red, green, blue = images.unbind(1)
    grey = red.mul(0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114).unsqueeze(1)
    return grey if images.is_floating_point() else grey.floor_()


def _brightness(images: Tensor, strength: Tensor) -> Tensor:
    return _restore(images * _per_image(1 + strength), images)


def _color(images: Tensor, strength: Tensor) -> Tensor:
    if images.shape[1] == 1:
        return images
    return _blend(images, _grey(images), strength)


def _contrast(images: Tensor, strength: Tensor) -> Tensor:
    return _blend(images, _grey(images).mean(dim=(1, 2, 3), keepdim=True), strength)


def _sharpness(images: Tensor, strength: Tensor) -> Tensor:
    if min(images.shape[-2:]) <= 2:
        return images
    values = images.to(_float(images).dtype, copy=True)
    rows = values[..., :-2, :] + values[..., 1:-1, :] + values[..., 2:, :]
    blurred = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    inner = values[..., 1:-1, 1:-1]
    blurred.add_(inner, alpha=4).div_(13)
    if not images.is_floating_point():
        blurred.round_()
    inner.add_(blurred.sub_(inner).mul_(_per_image(-strength)))
    return _restore(values, images)


def _posterize(images: Tensor, bits: Tensor) -> Tensor:
    levels = _per_image(2 ** bits.round())
    if images.is_floating_point():
        levels = levels.to(images.dtype)
        return torch.minimum((images * levels).floor_(), levels - 1) / levels
    return images & (256 - 256 / levels).to(torch.uint8)


def _solarize(images: Tensor, strength: Tensor) -> Tensor:
    threshold = _per_image(strength) * _bound(images)
    if images.is_floating_point():
        return torch.where(images >= threshold, 1.0 - images, images)
    least = threshold.ceil().to(torch.uint8)  # bytes are compared faster than floats
    return torch.where(images >= least, images.bitwise_not(), images)


def _autocontrast(images: Tensor, _: Tensor) -> Tensor:
    values = _float(images)
    least, greatest = (_float(found((2, 3), keepdim=True)) for found in (images.amin, images.amax))
    flat = greatest == least
    scale = torch.where(flat, 1.0, (greatest - least) * (1 / _bound(images)))
    return _restore((values - torch.where(flat, 0.0, least)) / scale, images)


def _equalize(images: Tensor, _: Tensor) -> Tensor:
    if images.is_floating_point():
        bytes_ = images.mul(_TO_BYTE).to(torch.uint8)
        return _equalize(bytes_, _).to(images.dtype) / 255
    pixels = images.flatten(2).long()
    shape = (*pixels.shape[:2], 256)
    counts = torch.zeros(shape, dtype=torch.int32, device=images.device)
    counts.scatter_add_(2, pixels, counts.new_ones(1).expand_as(pixels))
    below = counts.cumsum(2)
    brightest = counts.gather(2, below.argmax(2, keepdim=True))  # pixels of the greatest value
    step = (pixels.shape[2] - brightest).div(255, rounding_mode="floor")
    table = torch.zeros(shape, dtype=torch.uint8, device=images.device)
    spread = (below[..., :-1] + step // 2).div(step.clamp(min=1), rounding_mode="floor")
    table[..., 1:] = spread.clamp_(0, 255).to(torch.uint8)
    equal = table.gather(2, pixels).view_as(images)
    return torch.where(step.unsqueeze(3) != 0, equal, images)


_FUNCTIONS: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    _identity, _shear_x, _shear_y, _translate_x, _translate_y, _rotate, _brightness, _color,
    _contrast, _sharpness, _posterize, _solarize, _autocontrast, _equalize,
)  # fmt: skip
