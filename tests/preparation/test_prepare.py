"""Preparing a data set from a server of our own: downloads, by hand, unpacking, what goes wrong."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import tarfile
import zipfile

import pytest
from archives import tar_folder, zip_folder
from colour_model import write_set
from download_server import MIB, Page

from segzoo import preparation
from segzoo.data import open_dataset
from segzoo.errors import DatasetError, IntegrityError, NetworkError, SegzooError, UsageError
from segzoo.preparation import carry_out


@pytest.fixture
def archive(tmp_path):
    """A zip with 40 pairs and 4 MiB of something else below Things/."""
    write_set(tmp_path / "made", 40)
    (tmp_path / "made/other.bin").write_bytes(random.Random(0).randbytes(4 << 20))
    return zip_folder(tmp_path / "made", tmp_path / "things.zip", inside="Things", stored=True)


def entry(*archives, count=40, **more):
    return {
        "root": "Things",
        "splits": {"val": {"images": "images", "labels": "labels", "count": count}},
        "classes": ["one", "two", "three"],
        "licence": "for tests",
        "archives": list(archives),
    } | more


@pytest.fixture
def published(server, manifest, archive):
    """The data set `things`, as a download with its hash."""
    body = archive.read_bytes()
    server.pages["/things.zip"] = Page(body)
    words = {"name": "things.zip", "url": [server.url("/things.zip")], "bytes": len(body)}
    words |= {"md5": hashlib.md5(body).hexdigest(), "take": {"Things": "."}}
    manifest(things=entry(words))
    return words


def run(tmp_path, **options):
    return preparation.prepare(preparation.make_plan("things", root=tmp_path / "root"), quiet=True, **options)


def test_a_download_is_checked_unpacked_counted_and_not_done_again(published, server, tmp_path):
    record = run(tmp_path)
    assert record.metrics["pairs"] == 40 and record.status == "ok"
    assert record.breakdown["split"] == [{"split": "val", "pairs": 40, "published": 40}]
    assert len(open_dataset("things", root=tmp_path / "root")) == 40
    state = json.loads((tmp_path / "root/Things/.segzoo-prepared.json").read_text())
    assert state["pairs"] == {"val": 40}
    assert state["archives"]["things.zip"] == hashlib.sha256(server.pages["/things.zip"].body).hexdigest()
    (tmp_path / "root/downloads/things.zip").unlink()
    assert preparation.make_plan("things", root=tmp_path / "root").done
    assert run(tmp_path).metrics["pairs"] == 40
    assert len(server.requests) == 1


def test_a_folder_that_somebody_unpacked_is_recognised_by_the_published_counts(published, server, tmp_path):
    shutil.copytree(tmp_path / "made", tmp_path / "root/Things")
    assert run(tmp_path).metrics["pairs"] == 40
    assert server.requests == []


def test_a_connection_that_breaks_off_is_resumed(published, server, tmp_path):
    server.pages["/things.zip"].cut_after = [2 * MIB + 9, MIB + 9]
    assert run(tmp_path).metrics["pairs"] == 40
    assert server.ranges() == [None, f"bytes={2 * MIB}-", f"bytes={3 * MIB}-"]


def test_an_interrupted_unpacking_goes_on_with_the_next_file(published, server, tmp_path):
    def stop_after_ten(names, count, what):
        for number, name in enumerate(names):
            if number == 10:
                raise KeyboardInterrupt
            yield name

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, progress=stop_after_ten)
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "root/Things").rglob("*") if path.is_file()}
    assert len(written) == 10 and not preparation.make_plan("things", root=tmp_path / "root").done
    assert run(tmp_path).metrics["pairs"] == 40
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert len(server.requests) == 1
    assert [path.name for path in (tmp_path / "root/Things").rglob(".*")] == [".segzoo-prepared.json"]


def test_another_file_than_the_published_one_is_refused(published, server, manifest, tmp_path):
    manifest(things=entry(published | {"md5": "0" * 32}))
    with pytest.raises(IntegrityError, match=r"its md5 is [0-9a-f]{32}, published is 0{32}"):
        run(tmp_path)
    assert not (tmp_path / "root/Things").exists()
    server.pages["/things.zip"] = Page(b"<!DOCTYPE html><p>moved", content_type="text/html")
    manifest(things=entry(published))
    with pytest.raises(NetworkError, match="an HTML page instead of archive"):
        run(tmp_path)


def test_the_next_address_is_tried(published, server, manifest, tmp_path):
    manifest(things=entry(published | {"url": [server.url("/gone.zip"), *published["url"]]}))
    assert run(tmp_path).metrics["pairs"] == 40
    assert [path for path, _ in server.requests] == ["/gone.zip", "/things.zip"]


def test_what_is_given_after_registration_is_asked_for_and_then_taken(published, manifest, archive, tmp_path):
    manifest(things=entry(published | {"url": [], "page": "https://example.org/register"}))
    with pytest.raises(DatasetError, match=r"fetch things\.zip \(https://example\.org/register\) into .*downloads and"):
        run(tmp_path)
    (tmp_path / "root/downloads").mkdir(parents=True)
    shutil.copy(archive, tmp_path / "root/downloads/things.zip")
    assert run(tmp_path).metrics["pairs"] == 40
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "things.zip").write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(IntegrityError, match=r"elsewhere/things\.zip is not the published file: it has 19 bytes"):
        preparation.prepare(preparation.make_plan("things", root=tmp_path / "new", archives=other), quiet=True)


def test_only_the_archives_of_the_wanted_splits_are_needed(published, server, manifest, tmp_path):
    words = entry(published | {"splits": ["val"]}, published | {"name": "more.zip", "splits": ["train"]})
    words["splits"]["train"] = {"images": "train", "labels": "train"}
    manifest(things=words)
    plan = preparation.make_plan("things", root=tmp_path / "root", splits=("val",))
    assert [part.archive.name for part in plan.parts] == ["things.zip"]
    assert preparation.prepare(plan, quiet=True).metrics["pairs"] == 40
    assert [part.way for part in preparation.make_plan("things", root=tmp_path / "root").parts] == ["here", "download"]
    with pytest.raises(UsageError, match="things has the splits train, val, not 'tain'; did you mean 'train'"):
        preparation.make_plan("things", splits=("tain",))


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_name_that_leads_out_of_the_folder_is_refused(kind, manifest, tmp_path):
    place = tmp_path / "root/downloads" / f"evil.{kind}"
    place.parent.mkdir(parents=True)
    if kind == "zip":
        with zipfile.ZipFile(place, "w") as opened:
            opened.writestr("Things/../../../evil.txt", "x")
    else:
        with tarfile.open(place, "w") as opened:
            member = tarfile.TarInfo("Things/../../../evil.txt")
            opened.addfile(member)
    manifest(things=entry({"name": place.name, "take": {"Things": "."}}))
    with pytest.raises(IntegrityError, match="holds the unsafe name"):
        run(tmp_path)
    assert not list(tmp_path.rglob("evil.txt"))


def test_links_in_a_tar_are_never_made(manifest, tmp_path):
    write_set(tmp_path / "made", 2)
    (tmp_path / "made/images/out").symlink_to("/etc")
    place = tmp_path / "root/downloads/things.tar"
    place.parent.mkdir(parents=True)
    tar_folder(tmp_path / "made", place, inside="Things")
    manifest(things=entry({"name": "things.tar", "take": {"Things": "."}}, count=2))
    assert run(tmp_path).metrics["pairs"] == 2
    assert not (tmp_path / "root/Things/images/out").exists()


def test_space_is_checked_before_anything_is_downloaded(published, server, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(carry_out.shutil, "disk_usage", lambda place: usage)
    with pytest.raises(SegzooError, match=r"not enough space in .*: about 0\.0 GB are needed, 0\.0 GB free"):
        run(tmp_path)
    assert server.requests == []


def test_another_number_of_pairs_and_a_foreign_archive_are_told(published, server, manifest, tmp_path):
    manifest(things=entry(published, count=41))
    with pytest.raises(DatasetError, match="things val: 40 pairs came out, published are 41"):
        run(tmp_path)
    manifest(things=entry(published | {"take": {"Stuff": "."}}))
    with pytest.raises(DatasetError, match=r"things\.zip has no folder Stuff, but Things; is it the right archive"):
        preparation.prepare(preparation.make_plan("things", root=tmp_path / "new"), quiet=True)


def test_what_cannot_be_prepared_says_why(manifest):
    with pytest.raises(UsageError, match="scenes is drawn by segzoo itself"):
        preparation.make_plan("scenes")
    with pytest.raises(UsageError, match=r"unknown data set 'ade2k'.*did you mean 'ade20k'"):
        preparation.make_plan("ade2k")
    manifest(mine={"classes": ["one"]})
    with pytest.raises(DatasetError, match="does not say of which archives mine is made"):
        preparation.make_plan("mine")
