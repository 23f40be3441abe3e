"""scikit-learn's bundled digits, scaled up: real images that need no download."""

import numpy as np
import torch
from torch.nn import functional

from worker.engine.data.files import DatasetInfo, Split

TRAIN_IMAGES = 1000
IMAGES = 1797
_SHUFFLE_SEED = 20_250_617


def digits_info() -> DatasetInfo:
    """Returns what ``list_datasets`` says about the digits."""
    return DatasetInfo(
        name="digits",
        available=True,
        description="Handwritten digits bundled with scikit-learn, scaled to any size; 10 classes.",
        hint="Always there.",
        train_images=TRAIN_IMAGES,
        validation_images=IMAGES - TRAIN_IMAGES,
        image_shape=None,
    )


def read_digits(input_shape: tuple[int, int, int]) -> tuple[Split, Split]:
    """Returns training and validation digits as float32 (N, C, H, W) in [0, 1].

    They are shuffled once by a fixed seed, scaled bilinearly to H x W and repeated on C channels.
    """
    from sklearn.datasets import load_digits  # takes seconds, and few sweeps need it

    bundle = load_digits()
    order = np.random.RandomState(_SHUFFLE_SEED).permutation(IMAGES)
    channels, height, width = input_shape
    small = torch.from_numpy(bundle.images[order]).float()[:, None] / 16
    large = functional.interpolate(small, (height, width), mode="bilinear", align_corners=False)
    images = large.clamp(0, 1).expand(-1, channels, -1, -1).numpy()
    labels = bundle.target[order].astype(np.int64)
    cut = TRAIN_IMAGES
    return Split(images[:cut], labels[:cut], 10), Split(images[cut:], labels[cut:], 10)
