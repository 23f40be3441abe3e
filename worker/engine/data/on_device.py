"""Images on the device: uploaded once, also where sweeps over different datasets take turns."""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor

from worker.engine.data.datasets import Dataset
from worker.engine.forward import memory_format
from worker.engine.ridge.fit import Targets, encode_labels

IMAGES_SHARE = 8  # datasets kept for later use take at most this part of the memory budget


@dataclass(frozen=True, eq=False)
class ImagesOnDevice:
    """The images of a dataset on a device, training images first, with coded targets.

    ``images`` float32 (N, C, H, W); ``labels`` int64 (N,) on the CPU.
    """

    images: Tensor
    labels: Tensor
    targets: Targets

    @property
    def nbytes(self) -> int:
        return self.images.nbytes


class ImageStore:
    """Keeps the datasets used last on their devices.

    The current one is always kept, others as long as all of them together stay within a share of
    the memory budget.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Dataset, torch.device], ImagesOnDevice] = OrderedDict()

    def get(self, dataset: Dataset, device: torch.device, budget_bytes: int) -> ImagesOnDevice:
        """Returns a dataset on the device; copies it there if it is not."""
        key = dataset, device
        images = self._kept.pop(key, None)
        if images is None:
            self._make_room(budget_bytes // IMAGES_SHARE - dataset_bytes(dataset))
            images = _upload(dataset, device)
        self._kept[key] = images
        return images

    def clear(self) -> None:
        """Forgets every dataset."""
        self._kept.clear()

    def _make_room(self, room: int) -> None:
        while self._kept and sum(kept.nbytes for kept in self._kept.values()) > room:
            self._kept.popitem(last=False)


def dataset_bytes(dataset: Dataset) -> int:
    """Returns what the images of a dataset take as float32."""
    return 4 * (dataset.train_images.numel() + dataset.validation_images.numel())


def _upload(dataset: Dataset, device: torch.device) -> ImagesOnDevice:
    train, validation = dataset.train_images, dataset.validation_images
    shape = (len(train) + len(validation), *train.shape[1:])
    images = torch.empty(shape, device=device, memory_format=memory_format(device))
    images[: len(train)].copy_(train)  # the only copy: images may take much memory
    images[len(train) :].copy_(validation)
    labels = torch.cat([dataset.train_labels, dataset.validation_labels])
    return ImagesOnDevice(images, labels, encode_labels(dataset.train_labels.to(device)))


IMAGES = ImageStore()
