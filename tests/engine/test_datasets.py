"""Datasets by name: the same images every time, or an error that says what to do."""

import os
import re
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import datasets

from shared.domain.errors import (
    DatasetCorruptError,
    DatasetError,
    DatasetMissingError,
    DatasetTooSmallError,
    InvalidInputError,
)
from shared.domain.protocol import Protocol
from tests.engine.networks import NOWHERE, digits_protocol
from worker.engine.data.datasets import fetch_dataset, list_datasets, load_dataset
from worker.engine.data.files import FETCHABLE


def write_npz(folder: Path, name: str = "mine", **changes: Any) -> Path:
    """Writes 40 + 20 images of 4 classes by default."""
    generator = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "train_x": generator.integers(0, 256, (40, 3, 8, 8), dtype=np.uint8),
        "train_y": np.repeat(np.arange(4), 10),
        "test_x": generator.integers(0, 256, (20, 3, 8, 8), dtype=np.uint8),
        "test_y": np.tile(np.arange(4), 5),
    }
    arrays = {key: value for key, value in (arrays | changes).items() if value is not None}
    path = folder / f"{name}.npz"
    np.savez_compressed(path, **arrays)
    return path


def protocol_of(name: str = "mine", **changes: Any) -> Protocol:
    settings: dict[str, Any] = {
        "dataset": name, "train_images": 12, "validation_images": 8, "input_shape": (3, 8, 8),
    }  # fmt: skip
    return Protocol(**(settings | changes))


def test_images_are_the_stored_bytes_over_255_in_file_order_and_balanced(tmp_path: Path) -> None:
    stored = np.load(write_npz(tmp_path))
    dataset = load_dataset(tmp_path, protocol_of())
    chosen = [0, 1, 2, 10, 11, 12, 20, 21, 22, 30, 31, 32]  # three of each class
    assert dataset.train_labels.tolist() == stored["train_y"][chosen].tolist()
    expected = torch.from_numpy(stored["train_x"][chosen]).float() / 255
    assert torch.equal(dataset.train_images, expected)
    assert dataset.validation_labels.tolist() == [0, 1, 2, 3] * 2
    assert dataset.classes == 4


def test_the_content_hash_names_exactly_the_images_and_labels_used(tmp_path: Path) -> None:
    write_npz(tmp_path)
    first = load_dataset(tmp_path, protocol_of())
    assert re.fullmatch("[0-9a-f]{64}", first.content_hash)
    assert load_dataset(tmp_path, protocol_of()).content_hash == first.content_hash
    fewer = load_dataset(tmp_path, protocol_of(train_images=11))
    assert fewer.content_hash != first.content_hash
    write_npz(tmp_path, "other", train_y=np.repeat([1, 0, 2, 3], 10))
    other = load_dataset(tmp_path, protocol_of("other"))
    assert other.content_hash != first.content_hash


def test_digits_need_no_file_and_fit_any_input_shape() -> None:
    dataset = load_dataset(NOWHERE, digits_protocol(input_shape=(2, 17, 23)))
    assert dataset.train_images.shape == (120, 2, 17, 23)
    assert dataset.train_images.dtype == torch.float32
    assert 0 <= float(dataset.train_images.min()) < float(dataset.train_images.max()) <= 1
    assert torch.equal(dataset.train_images[:, 0], dataset.train_images[:, 1])
    assert torch.bincount(dataset.train_labels).tolist() == [12] * 10


@pytest.mark.parametrize("name", ["stl10", "cifar10"])
def test_a_public_dataset_that_is_not_here_says_how_to_fetch_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetMissingError, match=f"convsweep data fetch {name}"):
        load_dataset(tmp_path, protocol_of(name))


def test_a_damaged_public_dataset_is_corrupt_not_missing(tmp_path: Path) -> None:
    (tmp_path / "stl10_binary").mkdir()
    (tmp_path / "stl10_binary" / "train_X.bin").write_bytes(b"half a download")
    with pytest.raises(DatasetCorruptError, match="convsweep data fetch stl10"):
        load_dataset(tmp_path, protocol_of("stl10"))


def test_a_missing_archive_says_where_to_put_it(tmp_path: Path) -> None:
    with pytest.raises(DatasetMissingError, match=re.escape(f"put mine.npz into {tmp_path}")):
        load_dataset(tmp_path, protocol_of())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_x": np.zeros((40, 3, 8, 8), dtype=np.float32)}, "train_x is float32"),
        ({"test_x": np.zeros((20, 8, 8), dtype=np.uint8)}, "test_x is uint8 of shape"),
        ({"train_y": np.zeros(39, dtype=np.int64)}, "train_y is int64 of shape"),
        ({"train_y": np.zeros(40)}, "train_y is float64"),
        ({"test_y": None}, "lacks an array"),
        ({"test_y": np.full(20, -1)}, "negative labels"),
        ({"train_y": np.array([object()] * 40)}, "train_y is object"),
        ({"train_y": np.full(40, 2**64 - 1, dtype=np.uint64)}, "more than 10,000 classes"),
    ],
)
def test_an_archive_of_anything_else_is_corrupt(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    write_npz(tmp_path, **changes)
    with pytest.raises(DatasetCorruptError, match=message):
        load_dataset(tmp_path, protocol_of())


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "flipped", "password"])
def test_a_damaged_archive_is_corrupt(damage: str, tmp_path: Path) -> None:
    path = write_npz(tmp_path)
    whole = path.read_bytes()
    middle = len(whole) // 3
    flipped = whole[:middle] + bytes(byte ^ 255 for byte in whole[middle : middle + 64])
    flipped += whole[middle + 64 :]
    locked = re.sub(  # the flag that says a member is encrypted, in both kinds of header
        rb"(PK\x01\x02.{4}|PK\x03\x04..)\x00", lambda m: m[1] + b"\x01", whole, flags=re.DOTALL
    )
    contents = {
        "empty": b"",
        "text": b"no zip",
        "cut": whole[:middle],
        "flipped": flipped,
        "password": locked,
    }
    path.write_bytes(contents[damage])
    with pytest.raises(DatasetCorruptError, match=re.escape(str(path))):
        load_dataset(tmp_path, protocol_of())


def test_a_damaged_archive_does_not_keep_the_others_from_the_list(tmp_path: Path) -> None:
    write_npz(tmp_path, "good")
    (tmp_path / "bad.npz").write_bytes(b"no zip")
    write_npz(tmp_path, "digits")  # a file never stands in for the bundled set
    listed = [(info.name, info.available) for info in list_datasets(tmp_path)]
    assert ("good", True) in listed
    assert ("bad", False) in listed
    assert [name for name, _ in listed].count("digits") == 1


def no_regular_file(kind: str, path: Path) -> None:
    """Puts something into the place of a file that would be read forever."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to a device":
        path.symlink_to("/dev/zero")
    elif kind == "link to a pipe":
        os.mkfifo(path.with_name("pipe"))
        path.symlink_to("pipe")
    else:
        path.mkdir()


def test_a_link_that_leads_nowhere_does_not_keep_the_others_from_the_list(tmp_path: Path) -> None:
    (tmp_path / "mine.npz").symlink_to("gone.npz")
    assert not {info.name: info for info in list_datasets(tmp_path)}["mine"].available


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["pipe", "link to a device", "link to a pipe", "folder"])
def test_what_is_no_regular_file_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    no_regular_file(kind, tmp_path / "mine.npz")
    with pytest.raises(DatasetCorruptError, match=r"mine\.npz is not a regular file"):
        load_dataset(tmp_path, protocol_of())
    [mine] = [info for info in list_datasets(tmp_path) if info.name == "mine"]
    assert not mine.available
    assert "not a regular file" in mine.hint
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    if kind != "folder":
        no_regular_file(kind, folder / "train_X.bin")
        with pytest.raises(DatasetCorruptError, match=r"(train_X\.bin|pipe) is not a regular"):
            load_dataset(tmp_path, protocol_of("stl10"))


def test_an_archive_is_refused_by_its_declared_size_before_anything_is_allocated(
    tmp_path: Path,
) -> None:
    bomb = np.zeros((4000, 3, 64, 64), dtype=np.uint8)  # 47 MiB, packed into 48 KiB
    path = write_npz(tmp_path, train_x=bomb, train_y=np.zeros(4000, dtype=np.int64))
    assert path.stat().st_size < 2**20
    limit = 16 * 2**20
    tracemalloc.start()
    with pytest.raises(DatasetCorruptError, match="CONVSWEEP_MAX_DATASET_BYTES"):
        load_dataset(tmp_path, protocol_of(), limit)
    assert not {info.name: info for info in list_datasets(tmp_path, limit)}["mine"].available
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_an_array_that_declares_more_than_the_archive_has_is_corrupt(tmp_path: Path) -> None:
    path = write_npz(tmp_path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    lie = members["train_x.npy"].replace(b"(40, 3, 8, 8)", b"(40, 3, 8,8000)")
    members["train_x.npy"] = lie.replace(b"  \n", b"\n", 1)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(DatasetCorruptError, match="declares more data than the archive has"):
        load_dataset(tmp_path, protocol_of())


def test_too_few_images_are_too_few(tmp_path: Path) -> None:
    write_npz(tmp_path)
    with pytest.raises(DatasetTooSmallError, match=r"20 validation images; .* 21"):
        load_dataset(tmp_path, protocol_of(validation_images=21))


def test_images_of_another_size_are_refused_not_rescaled(tmp_path: Path) -> None:
    write_npz(tmp_path)
    with pytest.raises(DatasetError, match=re.escape("(3, 8, 8); the protocol's input_shape is")):
        load_dataset(tmp_path, protocol_of(input_shape=(3, 16, 16)))


@pytest.mark.parametrize("name", ["../secret", "a/b", "", "A", "x.npz", "a\n"])
def test_a_name_never_leads_out_of_the_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="not the name of a dataset"):
        load_dataset(tmp_path, protocol_of().model_copy(update={"dataset": name}))
    with pytest.raises(InvalidInputError, match="not the name of a dataset"):
        fetch_dataset(name, tmp_path)


def test_the_list_shows_what_is_here_what_is_broken_and_what_can_be_fetched(tmp_path: Path) -> None:
    write_npz(tmp_path)
    (tmp_path / "broken.npz").write_bytes(b"no zip")
    infos = {info.name: info for info in list_datasets(tmp_path)}
    assert set(infos) == {"broken", "cifar10", "digits", "mine", "stl10"}
    assert infos["mine"].available
    assert (infos["mine"].train_images, infos["mine"].validation_images) == (40, 20)
    assert infos["mine"].image_shape == (3, 8, 8)
    assert not infos["broken"].available
    assert "not a readable" in infos["broken"].hint
    assert infos["stl10"].hint == "Fetch it with: convsweep data fetch stl10"
    assert {info.name for info in list_datasets(NOWHERE)} == {"cifar10", "digits", "stl10"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_x": np.zeros((0, 3, 8, 8), np.uint8), "train_y": np.zeros(0, int)}, "no images"),
        ({"test_x": np.zeros((20, 3, 0, 8), np.uint8)}, "no images"),
        (
            {"test_x": np.zeros((20, 3, 9, 8), np.uint8)},
            r"\(3, 9, 8\), .* \(3, 8, 8\)",
        ),
        (
            {"test_x": np.zeros((20, 1, 8, 8), np.uint8)},
            r"\(1, 8, 8\), .* \(3, 8, 8\)",
        ),
        ({"train_x": np.zeros((40, 3, 8, 8))}, "train_x is float64"),
        ({"train_y": np.zeros(39, int)}, "train_y is int64 of shape"),
    ],
)
def test_a_file_whose_headers_are_wrong_is_neither_ready_nor_loaded(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    write_npz(tmp_path, **changes)
    info = next(info for info in list_datasets(tmp_path) if info.name == "mine")
    assert not info.available
    assert re.search(message, info.hint)
    with pytest.raises(DatasetCorruptError, match=message):
        load_dataset(tmp_path, protocol_of())


def test_half_a_public_dataset_is_not_ready_and_says_what_is_missing(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for number in range(1, 6):
        (folder / f"data_batch_{number}").write_bytes(b"images")
    info = next(info for info in list_datasets(tmp_path) if info.name == "cifar10")
    assert not info.available
    assert "test_batch" in info.hint
    assert "convsweep data fetch cifar10" in info.hint


def test_the_files_of_public_datasets_are_those_that_torchvision_checks() -> None:
    for name, source in (("stl10", datasets.STL10), ("cifar10", datasets.CIFAR10)):
        listed = {file for file, _ in source.train_list + source.test_list}
        assert set(FETCHABLE[name].files) == listed
        assert FETCHABLE[name].folder == source.base_folder


def test_fetching_an_unpublished_dataset_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(str(tmp_path / "mine.npz"))):
        fetch_dataset("mine", tmp_path)
    fetch_dataset("digits", tmp_path)
