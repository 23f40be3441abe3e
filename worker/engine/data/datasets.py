"""Image datasets by name: what is there, the images of a protocol, fetching the public ones.

A name is never a path. Only ``fetch_dataset`` touches the network.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from shared.domain.errors import (
    DatasetCorruptError,
    DatasetTooSmallError,
    InvalidInputError,
    UnavailableError,
)
from shared.domain.protocol import Protocol
from worker.engine.data.digits import digits_info, read_digits
from worker.engine.data.files import (
    FETCHABLE,
    DatasetInfo,
    Split,
    check_name,
    describe_dataset,
    download,
    read_npz,
    read_torchvision,
)
from worker.engine.data.regular_files import MAX_BYTES

__all__ = [
    "Dataset",
    "DatasetInfo",
    "fetch_dataset",
    "list_datasets",
    "load_dataset",
    "load_training_images",
]


@dataclass(frozen=True, eq=False)
class Dataset:
    """The images that a protocol or a training uses.

    Images are (N, C, H, W), float32 in [0, 1], or uint8 for trainings on stored bytes. Labels are
    int64 (N,) in ``range(classes)``. ``content_hash`` is the sha256, in hexadecimal, of images and
    labels as stored.
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    validation_images: Tensor
    validation_labels: Tensor
    classes: int
    content_hash: str

    def to(self, device: torch.device) -> "Dataset":
        """Returns the same dataset with all tensors on a device."""
        return replace(
            self,
            train_images=self.train_images.to(device),
            train_labels=self.train_labels.to(device),
            validation_images=self.validation_images.to(device),
            validation_labels=self.validation_labels.to(device),
        )


def load_dataset(data_dir: Path, protocol: Protocol, max_bytes: int = MAX_BYTES) -> Dataset:
    """Returns the images and labels that ``protocol`` measures on; the same ones every time.

    From each split the first images of every class are taken, as evenly as the numbers allow, in
    the order of the file. Values are the stored bytes divided by 255, nothing else.

    Raises:
        DatasetMissingError: nothing of that name is here; the message says where it belongs.
        DatasetCorruptError: what is here cannot be read, its images or labels are not usable, it is
            no regular file, or it declares more than ``max_bytes``.
        DatasetTooSmallError: a split holds fewer images than the protocol asks for.
        InvalidInputError: the name is not a dataset name.
    """
    stored = load_training_images(
        data_dir, protocol, protocol.train_images, protocol.validation_images, max_bytes
    )
    return replace(
        stored,
        train_images=_scaled(stored.train_images),
        validation_images=_scaled(stored.validation_images),
    )


def load_training_images(
    data_dir: Path,
    protocol: Protocol,
    train_images: int | None = None,
    validation_images: int | None = None,
    max_bytes: int = MAX_BYTES,
) -> Dataset:
    """Returns the protocol's dataset as stored, on the CPU; whole splits where no number is given.

    A given number takes the first images of every class, as evenly as the numbers allow.

    Raises:
        DatasetMissingError: nothing of that name is here; the message says where it belongs.
        DatasetCorruptError: what is here cannot be read, its images or labels are not usable, it is
            no regular file, or it declares more than ``max_bytes``.
        DatasetTooSmallError: a split holds fewer images than requested.
        InvalidInputError: the name is not a dataset name.
    """
    name = check_name(protocol.dataset)
    train, validation = _read(name, data_dir, protocol, max_bytes)
    classes = max(train.classes, validation.classes)
    if train_images is not None:
        train = _select(name, "training", train, train_images)
    if validation_images is not None:
        validation = _select(name, "validation", validation, validation_images)
    for split in (train, validation):
        _check_split(name, split, protocol, classes)
    return Dataset(
        name,
        *_stored(train),
        *_stored(validation),
        classes=classes,
        content_hash=_content_hash(train, validation),
    )


def _stored(split: Split) -> tuple[Tensor, Tensor]:
    """Returns images as they are stored, and labels."""
    return (
        torch.from_numpy(np.array(split.images, order="C")),
        torch.from_numpy(split.labels.astype(np.int64)),
    )


def list_datasets(data_dir: Path, max_bytes: int = MAX_BYTES) -> list[DatasetInfo]:
    """Returns every dataset that is here or could be fetched, by name. Reads headers only."""
    files = {path.stem for path in data_dir.glob("*.npz")} if data_dir.is_dir() else set()
    names = (files | set(FETCHABLE)) - {"digits"}
    known = [describe_dataset(name, data_dir, max_bytes) for name in names]
    return sorted([digits_info(), *known], key=lambda info: info.name)


def fetch_dataset(name: str, data_dir: Path) -> None:
    """Downloads a public dataset into ``data_dir``; what is already there is kept.

    Raises:
        InvalidInputError: no download is known for this name.
        UnavailableError: the server cannot be reached, or the disk is full.
        DatasetCorruptError: what arrived is not what was published.
    """
    if check_name(name) == "digits":
        return
    if name not in FETCHABLE:
        raise InvalidInputError(
            f"No download is known for {name!r}. Known: {', '.join(sorted(FETCHABLE))}. "
            f"Put images of your own into {data_dir / (name + '.npz')}.",
            field="dataset",
        )
    try:
        download(name, data_dir)
    except OSError as error:  # the network, or the disk
        raise UnavailableError(f"Cannot download {name}: {error}.") from error


def _read(name: str, data_dir: Path, protocol: Protocol, max_bytes: int) -> tuple[Split, Split]:
    if name == "digits":
        return read_digits(protocol.input_shape)
    if name in FETCHABLE:
        return read_torchvision(name, data_dir, max_bytes)
    return read_npz(name, data_dir, max_bytes)


def _select(name: str, role: str, split: Split, count: int) -> Split:
    if len(split.labels) < count:
        raise DatasetTooSmallError(
            f"Dataset {name!r} has {len(split.labels)} {role} images; "
            f"the protocol asks for {count}."
        )
    rank = np.empty(len(split.labels), dtype=np.int64)  # 0 for the first image of its class, ...
    for label in np.unique(split.labels):
        members = np.flatnonzero(split.labels == label)
        rank[members] = np.arange(len(members))
    chosen = np.sort(np.argsort(rank, kind="stable")[:count])
    return Split(split.images[chosen], split.labels[chosen], split.classes)


def _check_split(name: str, split: Split, protocol: Protocol, classes: int) -> None:
    if split.images.shape[1:] != protocol.input_shape:
        raise DatasetCorruptError(
            f"Dataset {name!r} has images of shape {split.images.shape[1:]}; the protocol's "
            f"input_shape is {protocol.input_shape}. Images are never rescaled unasked.",
            field="input_shape",
        )
    if split.labels.min() < 0 or split.labels.max() >= classes:
        raise DatasetCorruptError(f"Dataset {name!r} has labels outside 0..{classes - 1}.")


def _scaled(images: Tensor) -> Tensor:
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


def _content_hash(*splits: Split) -> str:
    digest = hashlib.sha256()
    for split in splits:
        digest.update(repr((split.images.dtype.name, split.images.shape)).encode())
        digest.update(np.ascontiguousarray(split.images).tobytes())
        digest.update(split.labels.astype("<i8").tobytes())
    return digest.hexdigest()
