"""The command `label`: a table with one row for each file, which a second run continues and never changes."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from dexpression import Predictor
from dexpression.__main__ import main
from dexpression.batch import predict_pictures
from dexpression.cluster import local
from dexpression.cluster import output as output_module
from dexpression.labels import SEVEN
from dexpression.settings import Settings
from tests.cluster.conftest import FACE
from tests.support.exports import change_manifest
from tests.support.faces import encode
from tests.support.server import ROOT

ALONE = ("--workers", "1")


def label(*arguments: Path | str) -> None:
    main(["label", *map(str, arguments)])


def rows(output: Path) -> list[dict[str, Any]]:
    return parquet.read_table(output).to_pylist()


def contents(output: Path) -> dict[Path, tuple[bytes, int]]:
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in output.rglob("*") if path.is_file()}


def refusal(*arguments: Path | str) -> str:
    with pytest.raises(SystemExit) as stopped:
        label(*arguments)
    assert "\n" not in str(stopped.value.code)
    return str(stopped.value.code)


@pytest.mark.usefixtures("in_process")
def test_a_row_has_what_predict_reads(shipped: Predictor, source, output, portrait, capsys):
    portrait.save(source / "a.jpg", quality=95)
    label(source, output, *ALONE)
    row, *others = rows(output)
    read = shipped.predict(source / "a.jpg").to_dict()
    assert capsys.readouterr().out == f"{output}: files 26, faces 26, errors 0.\n"
    assert [other["path"] for other in others] == [f"below/{number:02}.png" for number in range(25)]
    assert {name: row[name] for name in ("path", "kind", "error")} == {
        "path": "a.jpg", "kind": "a JPEG picture", "error": None
    }  # fmt: skip
    assert {name: row[name] for name in ("width", "height")} == read["image"]
    assert (row["model"], row["reading"]) == (shipped.public_facts()["sha256"], "people")
    [face], [expected] = row["faces"], read["faces"]
    assert list(face) == list(expected)
    assert list(face["probabilities"]) == list(SEVEN)
    assert (face["box"], face["result"]) == (expected["box"], expected["result"])
    assert face["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-6)


@pytest.mark.usefixtures("in_process")
def test_a_file_that_cannot_be_read_is_a_row_and_others_are_told_in_the_words_of_predict(
    shipped: Predictor, source, output, capsys
):
    bad = {
        "cut.png": ("undecodable_image", FACE[:-40]),
        "empty.png": ("empty_file", b""),
        "error.jpg": ("undecodable_image", b"<!doctype html><title>404"),
        "notes.txt": ("other_kind", b"text"),
        "README": ("other_kind", b"text"),
        "x.pdf": ("other_kind", b"%PDF-1"),
        "Thumbs.db": ("leftover", b"\xd0\xcf\x11\xe0"),
    }
    for name, (_, content) in bad.items():
        (source / name).write_bytes(content)
    (source / "link.png").symlink_to(source / "below" / "00.png")
    (source / ".hidden.png").write_bytes(FACE)
    label(source, output, *ALONE)
    printed = capsys.readouterr()
    assert printed.out == (
        f"{output}: files 34, faces 26, errors 4: undecodable_image (2), empty_file (1), left_out (1).\n"
    )
    errors = {row["path"]: row["error"] for row in rows(output) if row["error"]}
    codes = {name: code for name, (code, _) in bad.items()} | {"link.png": "left_out"}
    assert {path: error["code"] for path, error in errors.items()} == codes
    assert errors["link.png"]["message"] == "It is a link, which is not followed."
    predict_pictures(shipped, [source])
    assert printed.err.splitlines()[-1] in capsys.readouterr().err.splitlines()


@pytest.mark.skipif(os.name != "posix" or sys.platform == "darwin", reason="names are text on this system")
@pytest.mark.usefixtures("in_process")
def test_a_name_that_is_no_text_is_a_row(source, output, capsys):
    Path(os.fsdecode(os.fsencode(source) + b"/\xff.png")).write_bytes(FACE)
    label(source, output, *ALONE)
    [row] = [row for row in rows(output) if row["error"]]
    assert row["error"]["message"] == "It is a file whose name is not UTF-8. Rename it."


@pytest.mark.usefixtures("in_process")
def test_a_complete_run_that_is_repeated_writes_nothing_and_needs_no_source(source, output, capsys, monkeypatch):
    label(source, output, *ALONE)
    written, printed = contents(output), capsys.readouterr().out
    shutil.rmtree(source)
    monkeypatch.delattr(local, "Worker")
    label(source, output)
    assert contents(output) == written
    assert capsys.readouterr().out == printed


@pytest.mark.usefixtures("in_process")
def test_new_files_are_taken_with_update_only(source, output, capsys):
    label(source, output, *ALONE)
    before = contents(output)
    (source / "a new.png").write_bytes(FACE)
    (source / "below" / "00.png").write_bytes(FACE)
    label(source, output)
    assert contents(output) == before
    capsys.readouterr()
    label(source, output, "--update", *ALONE)
    printed = capsys.readouterr()
    assert printed.out == f"{output}: files 26, faces 26, errors 0.\n"
    assert "Files that have changed since they were listed, and keep their rows: 1.\nNew files: 1.\n" in printed.err
    after = contents(output)
    assert {path: after[path] for path in before} == before
    assert sorted(path.name for path in after.keys() - before.keys()) == ["00001.parquet", "part-00001-000000.parquet"]


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--reading", "labels"], "was begun with --reading people, not labels."),
        (["--detect", "always"], "was begun with --detect auto, not always."),
    ],
)
def test_other_options_are_refused(source, output, change, message):
    label(source, output, *ALONE)
    written = contents(output)
    assert message in refusal(source, output, "--update", *change)
    assert contents(output) == written


@pytest.mark.usefixtures("in_process")
def test_another_model_and_another_source_are_refused(shipped: Predictor, source, output, tmp_path):
    label(source, output, *ALONE)
    other = Path(shutil.copytree(Settings.model_path, tmp_path / "model"))
    change_manifest(other, digests=shipped.manifest.digests | {"safetensors": "0" * 64})
    message = f"was begun with the model {shipped.manifest.sha256}, not {'0' * 64}. Give the same as then, or another"
    assert message in refusal(source, output, "--model", other)
    (tmp_path / "others").mkdir()
    assert f"was begun with the source {source}, not {tmp_path}/others." in refusal(tmp_path / "others", output)


def test_the_learner_is_refused(source, output):
    message = refusal(source, output, "--model", Settings.model_path / "dexpression.safetensors")
    assert "labelling runs the ONNX model. Give its folder" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "out"], "nowhere is not a folder. Give a folder of pictures, or a URI such as s3://bucket/."),
        (["empty", "out"], "There is no file in"),
        (["empty folders", "out"], "There is no file in"),
        (["photos/below/00.png", "out"], "is not a folder"),
        (["photos", "photos/out"], "photos/out lies in photos, whose files are labelled. Give another folder."),
        (["photos", "s3://bucket/table"], "is no folder of this machine. Give one, or mount the bucket."),
        (["photos", "other"], "other has other files. Give a new or an empty folder."),
        (["photos", "other/file"], "The folder other/file cannot be made"),
        (["http://host/photos", "out"], "http://host/photos cannot be read (Unrecognized filesystem type in URI"),
        (["s3://?region=us-east-1", "out"], "names no bucket. Give a URI such as s3://bucket/."),
    ],
)
def test_a_source_or_an_output_that_cannot_be_used_is_one_line(source, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "empty folders/below", "other"):
        Path(folder).mkdir(parents=True)
    Path("other/file").touch()
    assert message in refusal(*arguments)
    assert list(Path().rglob("part-*")) == []


@pytest.mark.usefixtures("in_process")
def test_a_folder_that_vanishes_ends_the_run_and_no_row_says_that_its_files_are_bad(
    source, output, tmp_path, monkeypatch
):
    away, read = tmp_path / "away", local.Worker.label

    def unplugged(worker, entries):
        for number, row in enumerate(read(worker, entries)):
            yield row
            if number == 4 and "below/14" in row.path:
                source.rename(away)

    with monkeypatch.context() as patch:
        patch.setattr(local.Worker, "label", unplugged)
        assert "photos is not a folder" in refusal(source, output, *ALONE)
    assert len(rows(output)) == 10
    away.rename(source)
    label(source, output, *ALONE)
    assert [row["error"] for row in rows(output)] == [None] * 25


@pytest.mark.usefixtures("in_process")
def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(source, output, tmp_path, monkeypatch, capsys):
    read = local.Worker.label

    def interrupted(worker, entries):
        for row in read(worker, entries):
            yield row
            if row.path == "below/15.png":
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(local.Worker, "label", interrupted)
        with pytest.raises(SystemExit) as stopped:
            label(source, output, *ALONE)
    assert stopped.value.code == 130
    assert "10 of 25 files are labelled. The same command goes on.\n" in capsys.readouterr().err
    label(source, output, *ALONE)
    label(source, tmp_path / "at once", *ALONE)
    assert parquet.read_table(output) == parquet.read_table(tmp_path / "at once")


@pytest.mark.usefixtures("in_process")
def test_what_a_killed_run_left_half_written_is_removed(source, output):
    label(source, output, *ALONE)
    partial = output / ".dexpression-0123"
    partial.write_bytes(b"PAR1")
    label(source, output)
    assert not partial.exists()


@pytest.mark.usefixtures("in_process")
def test_a_second_run_at_the_same_time_is_refused(source, output, monkeypatch):
    refused = []
    read = local.Worker.label

    def meanwhile(worker, entries):
        refused.append(refusal(source, output))
        return read(worker, entries)

    monkeypatch.setattr(local.Worker, "label", meanwhile)
    label(source, output, *ALONE)
    assert set(refused) == {f"dexpression: Another process labels into {output}. Wait for it, or give another folder."}


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("name", ["00000.parquet", "job.json"])
def test_a_damaged_record_of_the_run_is_one_line(source, output, name):
    label(source, output, *ALONE)
    (output / "_manifest" / name).write_bytes(b"{}")
    assert "is damaged" in refusal(source, output)


@pytest.mark.usefixtures("in_process")
def test_a_damaged_file_of_the_table_is_named_and_made_again_once_it_is_deleted(source, output, capsys):
    label(source, output, *ALONE)
    damaged = output / "part-00000-000001.parquet"
    content = damaged.read_bytes()
    damaged.write_bytes(content[:100])
    message = refusal(source, output)
    assert damaged.name in message
    assert message.endswith("Delete that file, and run the command again.")
    damaged.unlink()
    label(source, output, *ALONE)
    assert damaged.read_bytes() == content


@pytest.mark.usefixtures("in_process")
def test_a_full_disk_is_one_line(source, output, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    label(source, output, *ALONE)
    (output / "part-00000-000001.parquet").unlink()
    monkeypatch.setattr(output_module, "replace_file", full)
    assert "cannot be written (No space left on device). Make room, and run" in refusal(source, output, *ALONE)


@pytest.mark.usefixtures("in_process")
def test_a_file_from_a_year_that_has_no_date_is_labelled(source, output):
    os.utime(source / "below" / "00.png", (1e12, 1e12))
    label(source, output, *ALONE)
    assert [row["error"] for row in rows(output)] == [None] * 25


@pytest.mark.slow
def test_a_run_that_is_interrupted_and_then_killed_goes_on_and_gives_the_same_table(source, output, tmp_path):
    slow = encode(Image.new("L", (640, 480)))  # so that the first run is not done before it is interrupted
    for number in range(275):
        (source / f"{number}.png").write_bytes(slow)
    running = start_to_label(source, output, files=1)
    os.killpg(running.pid, signal.SIGINT)  # as Ctrl-C in a terminal does
    _, error = running.communicate(timeout=60)
    assert running.returncode == 130
    assert re.search(r"^\d+ of 300 files are labelled\. The same command goes on\.\n$", error, re.MULTILINE)
    assert "Traceback" not in error
    wait_for_the_end_of(running.pid)

    interrupted = len(list(output.glob("part-*")))
    running = start_to_label(source, output, files=interrupted + 1)
    running.kill()
    running.communicate(timeout=60)
    wait_for_the_end_of(running.pid)
    assert len(rows(output)) < 300

    label(source, output, "--workers", "1")
    label(source, tmp_path / "at once", "--workers", "2")
    table: pa.Table = parquet.read_table(output)
    assert table.num_rows == 300
    assert table == parquet.read_table(tmp_path / "at once")


def start_to_label(source: Path, output: Path, files: int, *options: str) -> subprocess.Popen[str]:
    """Run the command until the table has so many files, and return it."""
    command = [sys.executable, "-m", "dexpression", "label", source, output, "--workers", "2", *options]
    running = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while len(list(output.glob("part-*"))) < files:
        assert running.poll() is None
        time.sleep(0.005)
    return running


def wait_for_the_end_of(group: int) -> None:
    """Wait until no process of the group is left; a test that waits in vain is stopped."""
    with suppress(ProcessLookupError):
        while True:
            os.killpg(group, 0)
            time.sleep(0.05)
