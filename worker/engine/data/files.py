"""Datasets as files: NumPy archives that people bring, and the public sets torchvision knows."""

import math
import re
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.domain.errors import DatasetCorruptError, DatasetMissingError, InvalidInputError
from worker.engine.data.regular_files import MAX_BYTES, check_folder, check_size, open_regular

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_ARRAYS = ("train_x", "train_y", "test_x", "test_y")
# RuntimeError: an archive with a password, or packed in a way that Python does not know
_BROKEN = (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, RuntimeError)
MAX_CLASSES = 10_000  # labels beyond are not classes but something else
Headers = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]  # shape and type by array


class Split(NamedTuple):
    """Images (N, C, H, W), uint8 or float32 in [0, 1]; labels (N,) of any integer type."""

    images: NDArray[Any]
    labels: NDArray[Any]
    classes: int


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """What is known about a dataset without reading its images; None where it is not known."""

    name: str
    available: bool
    description: str
    hint: str  # what to do or where to put the file; why it cannot be used
    train_images: int | None = None
    validation_images: int | None = None
    image_shape: tuple[int, int, int] | None = None


class _Public(NamedTuple):
    description: str
    folder: str
    files: tuple[str, ...]
    train_images: int
    validation_images: int
    image_shape: tuple[int, int, int]
    open: Callable[[Path, bool, bool], Any]


def _torchvision() -> Any:
    from torchvision import datasets  # takes seconds, and few sweeps need it

    return datasets


FETCHABLE: dict[str, _Public] = {
    "stl10": _Public(
        "STL-10: photographs of 10 classes; train split, test split for validation.",
        "stl10_binary",
        ("train_X.bin", "train_y.bin", "unlabeled_X.bin", "test_X.bin", "test_y.bin"),
        5000, 8000, (3, 96, 96),
        lambda root, train, fetch: _torchvision().STL10(
            str(root), split="train" if train else "test", download=fetch
        ),
    ),
    "cifar10": _Public(
        "CIFAR-10: small photographs of 10 classes; test split for validation.",
        "cifar-10-batches-py",
        (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"),
        50_000, 10_000, (3, 32, 32),
        lambda root, train, fetch: _torchvision().CIFAR10(str(root), train=train, download=fetch),
    ),
}  # fmt: skip


def check_name(name: str) -> str:
    """Returns ``name`` when it can name a dataset, so that it can never lead out of the folder.

    Raises:
        InvalidInputError: it cannot.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInputError(f"{name!r} is not the name of a dataset.", field="dataset")
    return name


def describe_dataset(name: str, data_dir: Path, max_bytes: int = MAX_BYTES) -> DatasetInfo:
    """Returns what headers and file names say about a dataset other than the digits."""
    if public := FETCHABLE.get(name):
        hint = _what_to_fetch(name, data_dir / public.folder)
        return DatasetInfo(
            name, hint is None, public.description, hint or "Ready.",
            public.train_images, public.validation_images, public.image_shape,
        )  # fmt: skip
    path = data_dir / f"{name}.npz"
    try:
        check_name(name)
        with open_regular(path) as file:
            headers = _read_headers(path, file, max_bytes)
        _check_headers(path, headers)
    except (DatasetCorruptError, InvalidInputError) as error:
        return DatasetInfo(name, False, f"Images from {path.name}.", error.message)
    except FileNotFoundError:
        return DatasetInfo(name, False, f"Images from {path.name}.", f"{path} leads nowhere.")
    train, test = headers["train_x"][0], headers["test_x"][0]
    return DatasetInfo(
        name, True, f"Images from {path.name}.", "Ready.", train[0], test[0],
        (train[1], train[2], train[3]),
    )  # fmt: skip


def _what_to_fetch(name: str, folder: Path) -> str | None:
    """Returns what to do to get a public dataset; None where all of its files are here."""
    if not folder.is_dir():
        return f"Fetch it with: convsweep data fetch {name}"
    missing = [file for file in FETCHABLE[name].files if not (folder / file).is_file()]
    if not missing:
        return None
    return f"{folder} lacks {', '.join(missing)}. Delete it, then run: convsweep data fetch {name}"


def read_npz(name: str, data_dir: Path, max_bytes: int = MAX_BYTES) -> tuple[Split, Split]:
    """Returns the training and validation split of ``NAME.npz``.

    Raises:
        DatasetMissingError: there is no such file.
        DatasetCorruptError: it is not an archive of the four arrays, they do not fit together, or
            they are larger than ``max_bytes`` in all.
    """
    path = data_dir / f"{name}.npz"
    try:
        file = open_regular(path)
    except FileNotFoundError as error:
        raise DatasetMissingError(
            f"Dataset {name!r} is not here: put {name}.npz into {data_dir}, with uint8 train_x and "
            "test_x (N, 3, H, W) and integer train_y and test_y (N,)."
        ) from error
    with file:
        _check_headers(path, _read_headers(path, file, max_bytes))
        file.seek(0)
        try:
            with np.load(file, allow_pickle=False) as archive:
                arrays = [archive[key] for key in _ARRAYS]
        except _BROKEN as error:
            raise DatasetCorruptError(f"{path} cannot be read: {error}") from error
    train_x, train_y, test_x, test_y = arrays
    classes = int(max(train_y.max(initial=0), test_y.max(initial=0))) + 1
    for labels in (train_y, test_y):
        if labels.min(initial=0) < 0:
            raise DatasetCorruptError(f"{path} has negative labels; they count from 0.")
    if classes > MAX_CLASSES:
        raise DatasetCorruptError(
            f"{path} has labels up to {classes - 1}; more than {MAX_CLASSES:,} classes are refused."
        )
    return Split(train_x, train_y, classes), Split(test_x, test_y, classes)


def read_torchvision(name: str, data_dir: Path, max_bytes: int = MAX_BYTES) -> tuple[Split, Split]:
    """Returns the training and test split of a public dataset that was fetched before.

    Raises:
        DatasetMissingError: it was not.
        DatasetCorruptError: its files are not those that were published, or no regular files.
    """
    public = FETCHABLE[name]
    if not (data_dir / public.folder).is_dir():
        raise DatasetMissingError(
            f"Dataset {name!r} is not in {data_dir}. Fetch it with: convsweep data fetch {name}"
        )
    check_folder(data_dir / public.folder, max_bytes)
    try:
        train, test = (_split(public.open(data_dir, train, False)) for train in (True, False))
    except _BROKEN as error:
        raise DatasetCorruptError(
            f"{data_dir / public.folder} is damaged: {error} Delete it, then run: "
            f"convsweep data fetch {name}"
        ) from error
    return train, test


def download(name: str, data_dir: Path) -> None:
    """Downloads a dataset of ``FETCHABLE``.

    Raises:
        DatasetCorruptError: what arrived is not what was published.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    try:
        for train in (True, False):
            FETCHABLE[name].open(data_dir, train, True)
    except (RuntimeError, zipfile.BadZipFile, EOFError) as error:
        raise DatasetCorruptError(f"The download of {name} is damaged: {error}") from error


def _split(source: Any) -> Split:
    if hasattr(source, "targets"):  # CIFAR-10 keeps (N, H, W, C) and a list
        images, labels = np.moveaxis(source.data, 3, 1), np.asarray(source.targets)
    else:
        images, labels = source.data, np.asarray(source.labels)
    return Split(images, labels, 10)


def _read_headers(path: Path, file: BinaryIO, max_bytes: int) -> Headers:
    """Returns the shape and type of each array, whose declared sizes are within the limit."""
    headers, total = {}, 0
    try:
        with zipfile.ZipFile(file) as archive:
            for key in _ARRAYS:
                packed = archive.getinfo(f"{key}.npy")
                with archive.open(packed) as member:
                    shape, dtype = _read_header(member)
                declared = math.prod(shape) * dtype.itemsize
                if declared > packed.file_size:
                    raise ValueError(f"{key} declares more data than the archive has")
                total += packed.file_size
                headers[key] = (shape, dtype)
    except KeyError as error:
        raise DatasetCorruptError(f"{path} lacks an array: {error.args[0]}") from error
    except _BROKEN as error:
        raise DatasetCorruptError(f"{path} is not a readable NumPy archive: {error}") from error
    check_size(path, total, max_bytes)
    return headers


def _read_header(member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(member)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, _, dtype = read(member)
    return shape, dtype


def _check_headers(path: Path, headers: Headers) -> None:
    train, test = headers["train_x"][0], headers["test_x"][0]
    for images, labels in (("train_x", "train_y"), ("test_x", "test_y")):
        (shape, dtype), (label_shape, label_dtype) = headers[images], headers[labels]
        if dtype != np.uint8 or len(shape) != 4:
            raise DatasetCorruptError(
                f"{path}: {images} is {dtype} of shape {shape}; it has to be uint8 (N, C, H, W)."
            )
        if min(shape) < 1:
            raise DatasetCorruptError(f"{path}: {images} has no images: its shape is {shape}.")
        if label_dtype.kind not in "iu" or label_shape != shape[:1]:
            raise DatasetCorruptError(
                f"{path}: {labels} is {label_dtype} of shape {label_shape}; it has to be integers "
                f"of shape ({shape[0]},)."
            )
    if test[1:] != train[1:]:
        raise DatasetCorruptError(
            f"{path}: images of test_x are {test[1:]}, those of train_x {train[1:]}."
        )
