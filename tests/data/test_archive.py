"""A data set is the same in a folder, a zip and a tar."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from archives import tar_folder, zip_folder
from colour_model import AS_STORED, ColourModel, write_set
from oracle_files import shared_data

from segzoo.data import open_dataset, read_pair
from segzoo.data.archive import open_archive
from segzoo.errors import DatasetError
from segzoo.evaluation import evaluate


@pytest.fixture
def folder(tmp_path):
    return write_set(tmp_path / "things", 5)


@pytest.fixture
def kinds(folder, tmp_path, monkeypatch):
    """The same files as a folder and as archives of every kind."""
    monkeypatch.setenv("SEGZOO_DATA", str(tmp_path / "data"))
    return [
        folder,
        zip_folder(folder, tmp_path / "things.zip"),
        zip_folder(folder, tmp_path / "stored/things.zip", inside="deep/things", stored=True),
        tar_folder(folder, tmp_path / "things.tar", inside="things"),
        tar_folder(folder, tmp_path / "things.tar.gz", mode="w:gz"),
        tar_folder(folder, tmp_path / "things.tar.xz", mode="w:xz"),
    ]


@pytest.fixture(autouse=True)
def stored_folder(tmp_path):
    (tmp_path / "stored").mkdir()


def test_folder_and_archives_have_one_fingerprint_and_one_record(kinds):
    sets = [open_dataset(kind) for kind in kinds]
    assert len({data.fingerprint() for data in sets}) == 1
    assert {(data.name, len(data), tuple(data.classes)) for data in sets} == {
        ("things", 5, ("class 0", "class 1", "class 2"))
    }
    runs = [evaluate(ColourModel(3), data, AS_STORED) for data in sets]
    assert all(run.breakdown == runs[0].breakdown for run in runs)
    for key in ("dataset", "split", "data_fingerprint"):
        assert len({run.conditions[key] for run in runs}) == 1


def test_a_compressed_tar_is_unpacked_once_and_says_so(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SEGZOO_DATA", str(tmp_path / "data"))
    archive = tar_folder(folder, tmp_path / "things.tar.gz", mode="w:gz")
    open_dataset(archive)
    assert "unpacking it once to" in capsys.readouterr().err
    open_dataset(archive)
    assert capsys.readouterr().err == ""
    assert [path.suffix for path in sorted((tmp_path / "data/unpacked").iterdir())] == [".lock", ".tar"]
    os.utime(archive, ns=(0, 0))
    open_dataset(archive)
    assert "unpacking it once to" in capsys.readouterr().err


def test_a_compressed_tar_that_was_cut_off_is_refused_and_leaves_nothing(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGZOO_DATA", str(tmp_path / "data"))
    archive = tar_folder(folder, tmp_path / "things.tgz", mode="w:gz")
    archive.write_bytes(archive.read_bytes()[:-200])
    with pytest.raises(DatasetError, match=r"things\.tgz is damaged or was cut off"):
        open_dataset(archive)
    assert list((tmp_path / "data/unpacked").glob("*.tar")) == []


def _labels(dataset, numbers):
    return [int(read_pair(dataset, number).label.sum()) for number in numbers]


def _in_a_process(dataset, numbers, queue):
    queue.put(_labels(dataset, numbers))


def test_forked_processes_that_share_an_open_archive_read_the_right_bytes(kinds):
    dataset = open_dataset(kinds[1])
    expected = _labels(dataset, range(5))
    context = multiprocessing.get_context("fork")
    queues = [context.Queue() for _ in range(2)]
    orders = [[*range(5)] * 20, [*range(4, -1, -1)] * 20]
    workers = [
        context.Process(target=_in_a_process, args=(dataset, order, queue))
        for order, queue in zip(orders, queues, strict=True)
    ]
    for worker in workers:
        worker.start()
    answers = [queue.get(timeout=60) for queue in queues]
    for worker in workers:
        worker.join()
    assert answers == [expected * 20, expected[::-1] * 20]


def test_a_data_set_that_was_sent_to_another_process_opens_its_archive_anew(kinds):
    for kind in kinds:
        dataset = open_dataset(kind)
        expected = _labels(dataset, range(5))
        assert _labels(pickle.loads(pickle.dumps(dataset)), range(5)) == expected


def test_threads_that_share_an_open_archive_read_the_right_bytes(kinds):
    for kind in kinds[1:4]:
        dataset = open_dataset(kind)
        expected = _labels(dataset, range(5))
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda number, data=dataset: _labels(data, [number % 5])[0], range(100)))
        assert answers == expected * 20


def test_damage_in_an_archive_names_the_file_in_it(folder, tmp_path):
    archive = zip_folder(folder, tmp_path / "things.zip")
    with zipfile.ZipFile(archive) as opened:
        entry = opened.getinfo("labels/002.png")
    data = bytearray(archive.read_bytes())
    middle = entry.header_offset + 30 + len(entry.filename) + entry.compress_size // 2
    data[middle] ^= 0xFF
    archive.write_bytes(data)
    dataset = open_dataset(archive)
    with pytest.raises(DatasetError, match=r"things\.zip/labels/002\.png is damaged"):
        dataset.label(2)
    assert dataset.label(1).shape


def test_what_is_no_archive_or_a_part_of_one_is_refused(folder, tmp_path):
    archive = zip_folder(folder, tmp_path / "things.zip")
    (tmp_path / "part.zip").write_bytes(archive.read_bytes()[:-300])
    (tmp_path / "page.zip").write_bytes(b"<html>" * 99)
    for name in ("part.zip", "page.zip"):
        with pytest.raises(DatasetError, match="is no zip or tar archive, or one that was cut off"):
            open_dataset(tmp_path / name)
    with pytest.raises(DatasetError, match=r"things\.zip/a"):
        open_archive(archive).read("a")


@pytest.mark.parametrize("make", [zip_folder, tar_folder])
def test_no_damage_of_an_archives_bytes_is_anything_but_an_error_of_the_data_set(make, folder, tmp_path):
    data, rng, refused = make(folder, tmp_path / "things.archive").read_bytes(), random.Random(5), 0
    for number in range(150):
        damaged = bytearray(data)
        # The end, where a zip has its directory, as often as all the rest.
        for _ in range(3):
            damaged[rng.randrange(len(data)) if rng.random() < 0.5 else -rng.randrange(1, 400)] = rng.randrange(256)
        place = tmp_path / f"damaged-{number}"
        place.write_bytes(damaged[: rng.randrange(1, len(data))] if rng.random() < 0.2 else damaged)
        try:
            files = open_archive(place)
            for name in list(files.below("")):
                files.read(name)
        except DatasetError:
            refused += 1
    assert refused > 10


def test_an_encrypted_zip_and_an_unknown_packing_are_refused(folder, tmp_path):
    with zipfile.ZipFile(tmp_path / "packed.zip", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("images/a.png", b"x")
    with pytest.raises(DatasetError, match="is packed by method 12; unpack it"):
        open_dataset(tmp_path / "packed.zip")
    data = bytearray(zip_folder(folder, tmp_path / "things.zip").read_bytes())
    at = data.rfind(b"PK\x01\x02")
    data[at + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(data)
    with pytest.raises(DatasetError, match="is encrypted; unpack it"):
        open_dataset(tmp_path / "locked.zip")


def test_an_archive_that_is_written_again_during_a_run_stops_it(folder, tmp_path):
    archive = zip_folder(folder, tmp_path / "things.zip")
    dataset = open_dataset(archive)
    dataset.image(0)
    with archive.open("ab") as file:
        file.write(b"more")
    with pytest.raises(DatasetError, match=r"things\.zip has changed since the data set was opened \(\d+ bytes then"):
        dataset.image(1)


def test_a_file_that_changes_during_a_run_is_named(folder):
    dataset = open_dataset(folder)
    image, label = folder / "images/001.png", folder / "labels/003.png"
    image.write_bytes(image.read_bytes() + b"\0")
    os.utime(label, ns=(1, 1))
    with pytest.raises(DatasetError, match=r"images/001\.png has changed since .* \((\d+) bytes then, \d+ now\)"):
        dataset.image(1)
    with pytest.raises(DatasetError, match=r"labels/003\.png has changed since .* \(it was written again\)"):
        dataset.label(3)
    with pytest.raises(DatasetError, match="start again when nothing writes to the data set"):
        evaluate(ColourModel(3), dataset, AS_STORED)


def test_real_ade20k_is_the_same_from_its_zip(tmp_path):
    real = shared_data("ADEChallengeData2016")
    archive = zip_folder(real, tmp_path / "ADEChallengeData2016.zip", inside="ADEChallengeData2016")
    here, there = (open_dataset("ade20k", root=root) for root in (real, archive))
    assert here.fingerprint() == there.fingerprint() and len(there) == 6
    for index in range(6):
        one, other = read_pair(here, index), read_pair(there, index)
        assert one.name == other.name
        assert np.array_equal(one.image, other.image) and np.array_equal(one.label, other.label)
