"""TrivialAugmentWide on batches against torchvision's, image by image, on real images."""

import math
from collections import Counter

import pytest
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor
from torchvision.transforms import v2

from shared.domain.errors import InvalidInputError
from worker.engine.training.augment import (
    BINS,
    OPERATIONS,
    SIGNED,
    Draw,
    augment,
    draw_operations,
    magnitudes_of,
)

GEOMETRIC = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
REFERENCE = v2.TrivialAugmentWide()


def photographs(size: tuple[int, int] = (96, 96)) -> Tensor:
    """Eight cuts of scikit-learn's two photographs, uint8 (8, 3, H, W)."""
    height, width = size
    cuts = []
    for photograph in load_sample_images().images:
        image = torch.tensor(photograph).permute(2, 0, 1)
        for top, left in ((0, 0), (120, 200), (250, 40), (300, 500)):
            cuts.append(image[:, top : top + height, left : left + width])
    return torch.stack(cuts)


def expected(image: Tensor, operation: str, magnitude: float) -> Tensor:
    """What torchvision makes of one image."""
    fill = None  # the default
    done: Tensor = REFERENCE._apply_image_or_video_transform(
        image, operation, magnitude, interpolation=v2.InterpolationMode.NEAREST, fill={Tensor: fill}
    )
    return done


def strengths(operation: str) -> list[float]:
    every = magnitudes_of(operation).tolist()
    return every + [-value for value in every if operation in SIGNED]


@pytest.mark.parametrize(
    ("kind", "channels"), [(torch.uint8, 3), (torch.float32, 3), (torch.uint8, 1)], ids=str
)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_does_to_a_batch_what_torchvision_does_to_each_image(
    operation: str, channels: int, kind: torch.dtype
) -> None:
    """Bytes are equal except for 0.02 %, which are off by one (rounding); geometric ones may take
    a neighbouring pixel in 0.1 % of places, where a coordinate lies between two. Floats differ
    by less than 1e-5, posterized and solarized ones only at their edges (0.02 %)."""
    images = photographs((64, 48))[:, :channels]
    images = images if kind is torch.uint8 else images.float() / 255
    steps = strengths(operation)
    wanted = [expected(images[n % 8], operation, value) for n, value in enumerate(steps)]
    numbers = torch.full((len(steps),), OPERATIONS.index(operation))
    batch = images[torch.arange(len(steps)) % 8]
    found = augment(batch, Draw(numbers, torch.tensor(steps)))
    assert found.dtype is kind
    difference = (found.double() - torch.stack(wanted).double()).abs()
    elsewhere = (difference > (1e-5 if kind is torch.float32 else 0)).double().mean().item()
    assert elsewhere <= (1e-3 if operation in GEOMETRIC else 2e-4)
    if operation not in GEOMETRIC and kind is torch.uint8:
        assert difference.max() <= 1
    assert torch.equal(batch, images[torch.arange(len(steps)) % 8]), "the input was changed"


def test_magnitudes_are_torchvisions() -> None:
    for operation, (magnitudes, signed) in v2.TrivialAugmentWide._AUGMENTATION_SPACE.items():
        theirs = magnitudes(BINS, 96, 96)
        theirs = torch.zeros(BINS) if theirs is None else theirs.float()
        assert torch.equal(magnitudes_of(operation), theirs)
        assert (operation in SIGNED) is signed
    assert list(v2.TrivialAugmentWide._AUGMENTATION_SPACE) == list(OPERATIONS)


def chi_squared(counts: Counter[object], cells: int) -> float:
    """Returns how far counts are from uniform, in standard deviations of chi-squared."""
    mean = counts.total() / cells
    found = sum((count - mean) ** 2 for count in counts.values()) / mean
    found += mean * (cells - len(counts))
    return (found - (cells - 1)) / math.sqrt(2 * (cells - 1))


def test_operations_magnitudes_and_signs_are_uniform() -> None:
    draw = draw_operations(200_000, torch.Generator().manual_seed(7))
    operations = Counter[object](draw.operations.tolist())
    assert abs(chi_squared(operations, len(OPERATIONS))) < 4
    rotated = draw.magnitudes[draw.operations == OPERATIONS.index("Rotate")]
    step = 135 / (BINS - 1)
    bins = Counter[object]((rotated.abs() / step).round().int().tolist())
    assert abs(chi_squared(bins, BINS)) < 4
    moving = rotated[rotated != 0]
    assert abs((moving < 0).double().mean().item() - 0.5) < 4 * 0.5 / math.sqrt(len(moving))
    posterized = draw.magnitudes[draw.operations == OPERATIONS.index("Posterize")]
    wanted = Counter(magnitudes_of("Posterize").int().tolist())
    found = Counter(posterized.int().tolist())
    for bits, share in wanted.items():
        assert found[bits] / len(posterized) == pytest.approx(share / BINS, abs=0.02)
    solarized = draw.magnitudes[draw.operations == OPERATIONS.index("Solarize")]
    assert solarized.min() == 0
    assert solarized.max() == 1


def test_the_distribution_is_that_of_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records what torchvision itself draws 4,000 times: same mean magnitude per operation."""
    seen: dict[str, list[float]] = {name: [] for name in OPERATIONS}

    def record(_: object, image: Tensor, name: str, magnitude: float, **_more: object) -> Tensor:
        seen[name].append(magnitude)
        return image

    monkeypatch.setattr(v2.TrivialAugmentWide, "_apply_image_or_video_transform", record)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        for _ in range(4_000):
            REFERENCE(torch.zeros(3, 4, 4, dtype=torch.uint8))
    draw = draw_operations(4_000, torch.Generator().manual_seed(3))
    for number, name in enumerate(OPERATIONS):
        mine, theirs = draw.magnitudes[draw.operations == number], torch.tensor(seen[name])
        deviation = math.sqrt(4_000 * (1 / 14) * (13 / 14) * 2)
        assert abs(len(mine) - len(theirs)) < 4 * deviation
        error = (mine.var() / len(mine) + theirs.var() / len(theirs)).sqrt()
        assert abs(mine.mean() - theirs.mean()) <= 4 * error


def test_images_of_a_batch_do_not_touch_each_other() -> None:
    images = photographs()
    draw = draw_operations(8, torch.Generator().manual_seed(1))
    together = augment(images, draw)
    separate = [augment(images[n : n + 1], draw[n : n + 1])[0] for n in range(8)]
    assert torch.equal(together, torch.stack(separate))


def test_images_of_other_channels_are_refused() -> None:
    draw = draw_operations(1, torch.Generator().manual_seed(1))
    with pytest.raises(InvalidInputError, match="one or three channels"):
        augment(torch.zeros(1, 2, 8, 8), draw)


def test_tiny_and_plain_images_pass() -> None:
    images = torch.full((len(OPERATIONS), 3, 2, 2), 9, dtype=torch.uint8)
    draw = Draw(torch.arange(len(OPERATIONS)), magnitudes_of("Brightness")[:14])
    assert augment(images, draw).shape == images.shape
