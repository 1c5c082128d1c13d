"""Files that change while they are labelled: each costs its own row."""

from __future__ import annotations

import pytest

from dexpression import Predictor
from dexpression.artifact.manifest import load_onnx_model
from dexpression.cluster import rows
from dexpression.cluster.rows import Job, Row, label_file
from dexpression.cluster.source import Entry, FolderSource
from dexpression.errors import DataError
from dexpression.settings import Settings
from tests.cluster.conftest import FACE


@pytest.fixture
def label(shipped: Predictor, source):
    job = Job(FolderSource(source), load_onnx_model(Settings.model_path), "people", "auto")
    return lambda name: next(label_file(Entry(name, size=1), job, shipped))


def test_a_file_that_was_deleted_and_one_that_became_a_link_are_not_read(label, source):
    (source / "link.png").symlink_to(source / "below" / "00.png")
    deleted, link = label("gone.png"), label("link.png")
    assert (deleted.error.code, link.error.code) == ("unreadable_file", "unreadable_file")
    assert deleted.error.message == "The file cannot be read (No such file or directory)."


def test_a_file_that_grew_is_read_to_its_end(label, source):
    (source / "grown.bmp").write_bytes(FACE + bytes(10_000))
    row = label("grown.bmp")
    assert (row.kind, row.width, row.error) == ("a PNG picture", 48, None)


def test_a_file_of_another_kind_is_not_read_beyond_its_beginning(label, source, monkeypatch):
    (source / "sound.mp3").write_bytes(b"ID3")
    monkeypatch.delattr(rows, "_read_rest")
    message = "The file is sound, not a picture that can be read."
    assert label("sound.mp3") == Row("sound.mp3", "sound", error=rows.Problem("other_kind", message))


def test_a_file_that_is_too_large_is_not_decoded(label, source, monkeypatch):
    monkeypatch.setattr(rows, "MAX_PICTURE_BYTES", 1000)
    (source / "large.png").write_bytes(FACE + bytes(3000))
    assert label("large.png").error.message == "The file has more than 1000 bytes."


def test_a_source_that_is_gone_is_no_error_of_its_files(label, source):
    source.rename(source.with_name("away"))
    source.mkdir()  # where a drive was mounted
    with pytest.raises(DataError, match="There is no file in"):
        label("below/00.png")
