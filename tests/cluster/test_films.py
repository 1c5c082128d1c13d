"""Films of a source: a row for each minute of them, in the same table as pictures."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
from pyarrow import fs, parquet

from dexpression import Predictor
from dexpression.__main__ import main
from dexpression.artifact.manifest import load_onnx_model
from dexpression.cluster import films, table
from dexpression.cluster.local import label_locally
from dexpression.cluster.manifest import Manifest
from dexpression.cluster.remote import RemoteSource
from dexpression.cluster.rows import Job, Row, label_file
from dexpression.cluster.source import Entry, FolderSource, Source
from dexpression.cluster.table import Table
from dexpression.errors import DataError, MissingExtra
from dexpression.labels import SEVEN
from dexpression.settings import Settings
from tests.cluster.conftest import FACE
from tests.support.films import draw_frame, write_film

NAME = "long.avi"


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """65 seconds, of which each has one frame with a face."""
    path = tmp_path_factory.mktemp("film") / NAME
    return write_film(path, [draw_frame((40, 40))] * 65, rate=1).read_bytes()


@pytest.fixture
def folder(tmp_path: Path, film: bytes) -> Path:
    """A folder with a film and a picture."""
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / NAME).write_bytes(film)
    (folder / "picture.png").write_bytes(FACE)
    return folder


@pytest.fixture
def bucket(folder: Path) -> RemoteSource:
    return RemoteSource(fs.SubTreeFileSystem(str(folder.parent), fs.LocalFileSystem()), folder.name, "s3://source/")


def make_job(source: Source) -> Job:
    return Job(source, load_onnx_model(Settings.model_path), "people", "auto")


@pytest.fixture
def read(shipped: Predictor):
    """The rows of the film in a source."""
    return lambda source: list(label_file(Entry(NAME), make_job(source), shipped))


def errors(rows: Sequence[Row]) -> list[str | None]:
    return [row.error and row.error.code for row in rows]


@pytest.mark.usefixtures("in_process")
def test_a_film_has_a_row_for_each_minute_and_pictures_have_theirs(folder, tmp_path, capsys):
    main(["label", str(folder), str(tmp_path / "table")])
    first, second, picture = parquet.read_table(tmp_path / "table").to_pylist()
    assert capsys.readouterr().out == f"{tmp_path}/table: files 2, faces 1, minutes of film 2, errors 0.\n"
    assert [(row["path"], row["kind"], row["start"], row["seconds"]) for row in (first, second, picture)] == [
        (NAME, "a film", 0, 60),
        (NAME, "a film", 60, 4),
        ("picture.png", "a PNG picture", None, None),
    ]
    assert (first["width"], first["height"], first["faces"], first["error"]) == (240, 160, None, None)
    assert (len(picture["faces"]), picture["tracks"]) == (1, None)
    [track] = second["tracks"]
    assert list(track) == ["track", "first", "last", "result", "shares", "changes", "probabilities"]
    assert (track["track"], track["first"], track["last"], track["result"]) == (1, 60, 64, "HAPPY")
    assert list(track["shares"]) == list(track["probabilities"]) == list(SEVEN)
    assert track["shares"]["HAPPY"] == 1
    assert track["probabilities"]["HAPPY"] > 0.9


@pytest.mark.slow
def test_a_worker_reads_a_film_in_another_process(folder, tmp_path, capsys):
    main(["label", str(folder), str(tmp_path / "table"), "--workers", "1"])
    assert capsys.readouterr().out == f"{tmp_path}/table: files 2, faces 1, minutes of film 2, errors 0.\n"


def test_a_film_of_a_bucket_has_the_same_rows(folder, bucket, read):
    assert read(bucket) == read(FolderSource(folder))


def test_a_film_of_a_bucket_that_is_too_large_to_copy_is_one_row(bucket, read, monkeypatch):
    monkeypatch.setattr(films, "MAX_COPIED_BYTES", 10_000)
    [row] = read(bucket)
    assert row.error.code == "unreadable_file"
    assert "a film of a bucket may have 10000 bytes; copy it to a folder" in row.error.message


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has this device")
def test_a_full_disk_is_no_fault_of_a_film_and_ends_the_run(bucket, read, monkeypatch):
    monkeypatch.setattr(films, "TemporaryFile", partial(Path("/dev/full").open, "r+b"))
    with pytest.raises(DataError, match=r"to the temporary folder \(No space left on device\)\. Make room there"):
        read(bucket)


def test_a_film_that_is_cut_off_has_the_rows_of_its_beginning_and_one_of_the_error(folder, read, film):
    (folder / NAME).write_bytes(film[: len(film) // 2])
    first, error = read(FolderSource(folder))
    assert (first.start, first.error, len(first.tracks)) == (0, None, 1)
    assert (error.start, error.tracks, error.error.code) == (None, None, "undecodable_film")
    assert "The film is cut off: its last part is missing. The part up to" in error.error.message


def test_a_film_that_lasts_too_long_is_read_up_to_a_limit(folder, read, monkeypatch):
    monkeypatch.setattr(films, "MAX_MINUTES", 1)
    rows = read(FolderSource(folder))
    assert errors(rows) == [None, "undecodable_film"]
    assert rows[1].error.message == "Only 1 minutes of the film were read. Cut it into shorter ones."


@pytest.mark.parametrize("content", [b"FLV\x01" + bytes(99), b"\0\0\0\x18ftypmp42\0\0\0\0isommp42"])
def test_a_file_that_only_begins_as_a_film_is_one_row(folder, read, content):
    (folder / NAME).write_bytes(content)
    assert errors(read(FolderSource(folder))) == ["undecodable_film"]


def test_a_film_shows_life_at_each_frame(shipped: Predictor, folder):
    signs: list[None] = []
    list(label_file(Entry(NAME), make_job(FolderSource(folder)), shipped, lambda: signs.append(None)))
    assert len(signs) == 65


def test_a_source_that_is_gone_is_no_error_of_its_films(shipped: Predictor, folder, film):
    (folder / NAME).write_bytes(film[: len(film) // 2])
    job = make_job(FolderSource(folder))
    rows = label_file(Entry(NAME), job, shipped, lambda: shutil.rmtree(folder, ignore_errors=True))
    assert next(rows).start == 0
    with pytest.raises(DataError, match="is not a folder"):
        next(rows)


@pytest.mark.usefixtures("in_process")
def test_without_the_extra_a_film_is_passed_over_and_its_row_says_how_to_get_it(folder, tmp_path, capsys, monkeypatch):
    def missing(*_: object) -> None:
        raise MissingExtra("Reading a film needs more packages, such as cv2. Install: it")

    monkeypatch.setattr(films, "require_extra", missing)
    main(["label", str(folder), str(tmp_path / "table")])
    printed = capsys.readouterr()
    assert printed.out == f"{tmp_path}/table: files 2, faces 1, errors 0.\n"
    assert printed.err.splitlines()[-2:] == [
        f"{folder}: Files of other kinds were passed over: film (1).",
        f"{folder}: To read the films, install the extra [video], and label into another folder.",
    ]
    film, _ = parquet.read_table(tmp_path / "table").to_pylist()
    assert film["error"] == {
        "code": "other_kind",
        "message": "The file is a film. Reading a film needs more packages, such as cv2. Install: it",
    }


@pytest.mark.usefixtures("in_process")
def test_progress_counts_files_and_few_rows_are_in_memory_at_once(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(table, "MAX_GROUP", 2)
    job, done = make_job(FolderSource(folder)), []
    manifest = Manifest(tmp_path)
    manifest.add(job.source.list_entries())
    label_locally(job, manifest.blocks(), Table(tmp_path, job), 1, lambda: done.append(None))
    assert len(done) == 2
    [part] = tmp_path.glob("part-*")
    written = parquet.ParquetFile(part).metadata
    assert (written.num_rows, written.num_row_groups) == (3, 3)


def test_large_files_make_small_blocks(tmp_path):
    manifest = Manifest(tmp_path)
    sizes = [400_000_000, 600_000_000, 1, 5_000_000_000, *[1] * 12]
    manifest.add([Entry(f"{number:02}", size) for number, size in enumerate(sizes)])
    blocks = manifest.blocks()
    assert [block.files for block in blocks] == [2, 1, 1, 10, 2]
    assert [entry.path for block in blocks for entry in block.read()] == [f"{number:02}" for number in range(16)]
