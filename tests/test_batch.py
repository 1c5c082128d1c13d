"""Folders and files of any kind, name and size: each failure is one line, and the rest is predicted."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from dexpression import Predictor
from dexpression.batch import format_reading, predict_pictures
from dexpression.errors import DataError
from dexpression.labels import SEVEN
from dexpression.reading import Reading
from tests.support.faces import draw_face, encode

FACE = encode(draw_face("HAPPY", 0))
NAMES = ["new\nline.png", "tab\tx.png", "escape\x1b[31m.png", "-x.png", "bytes\udcff.png", "\u202egnp.png"]


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with one picture."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "z.png").write_bytes(FACE)
    return tmp_path / "in"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipes_and_folders_with_the_name_of_a_picture_are_one_line_each(shipped, folder, capsys):
    os.mkfifo(folder / "pipe.png")
    (folder / "empty.png").mkdir()
    failures = predict_pictures(shipped, [folder, folder / "pipe.png", folder / "empty.png"])
    assert failures == [
        f"{folder}/pipe.png: It is not a regular file.",
        f"There is no picture in {folder}/empty.png. Expected JPEG, PNG, WebP, BMP, GIF or AVIF.",
        f"{folder}/pipe.png: The file cannot be read (pipe.png is not a regular file).",
    ]
    assert capsys.readouterr().out.startswith(f"{folder}/z.png\t{shipped.predict(FACE).emotion}\t")


def test_content_decides_in_a_folder_what_is_a_picture_and_the_rest_is_counted(shipped, folder, capsys):
    for name in ("scan.jfif", "photo.JPE", "multi.mpo", "noext", "b.txt", "c.avif"):
        (folder / name).write_bytes(FACE)
    others = {
        "notes.txt": b"text",
        "README": b"text",
        "a.tiff": encode(draw_face("HAPPY", 0), "TIFF"),
        "x.pdf": b"%PDF-1",
    }
    leftovers = {".DS_Store": b"\0\0\0\1Bud1", "Thumbs.db": b"\xd0\xcf\x11\xe0", "._z.png": b"\0\5\x16\7"}
    for name, content in (others | leftovers).items():
        (folder / name).write_bytes(content)
    assert predict_pictures(shipped, [folder]) == []
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 7
    expected = "Files of other kinds were passed over: text (2), TIFF picture (1), PDF document (1)."
    assert printed.err == f"{folder}: {expected}\n"


def test_a_film_is_one_line_with_the_command_that_reads_it(shipped, folder, capsys):
    (folder / "clip.mp4").write_bytes(b"\0\0\0\x18ftypmp42\0\0\0\0isommp42")
    [failure] = predict_pictures(shipped, [folder / "clip.mp4", folder])
    assert failure.endswith(f"The file is a film. Read it by the command: dexpression video {folder}/clip.mp4")


def test_a_file_with_the_suffix_of_a_picture_and_another_content_is_one_line(shipped, folder, capsys):
    (folder / "error.jpg").write_bytes(b"<!doctype html><title>404")
    [failure] = predict_pictures(shipped, [folder])
    assert failure.startswith(f"{folder}/error.jpg: The file is a web page (HTML), not a picture")
    assert capsys.readouterr().err == ""


def test_nothing_is_passed_over_because_of_the_path_to_the_given_folder(shipped, folder, monkeypatch, capsys):
    (folder / "error.jpg").write_bytes(b"<!doctype html><title>404")
    (folder / "notes.txt").write_bytes(b"text")
    (folder / ".cache").mkdir()
    monkeypatch.chdir(folder / ".cache")
    [failure] = predict_pictures(shipped, [Path("..")])
    assert failure.startswith("../error.jpg: The file is a web page")
    assert capsys.readouterr().err == "..: Files of other kinds were passed over: text (1).\n"


def test_a_folder_of_other_files_alone_is_a_failure(shipped, tmp_path, capsys):
    (tmp_path / "a.txt").write_bytes(b"text")
    assert predict_pictures(shipped, [tmp_path]) == [
        f"There is no picture in {tmp_path}. Expected JPEG, PNG, WebP, BMP, GIF or AVIF."
    ]
    assert "text (1)" in capsys.readouterr().err


def test_a_link_is_left_out_in_a_folder_and_followed_if_it_is_named(shipped, folder, capsys):
    (folder / "link.png").symlink_to("z.png")
    [failure] = predict_pictures(shipped, [folder])
    assert failure == f"{folder}/link.png: It is a link, which is not followed."
    assert predict_pictures(shipped, [folder / "link.png"]) == []
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("output_format", ["text", "csv", "json"])
def test_a_name_does_not_break_lines(shipped, folder, name, output_format, capsys):
    try:
        (folder / "z.png").rename(folder / name)
        (folder / f"broken {name}").write_bytes(b"")
    except OSError:
        pytest.skip("this file system has no such names")
    [failure] = predict_pictures(shipped, [folder], output_format)
    *_, line = capsys.readouterr().out.split("\n")[:-1]
    assert (failure + line.replace("\t", "", 2)).isprintable()  # two tabs are the format's own
    assert (shipped.predict(FACE).emotion in line, "empty" in failure) == (True, True)


def test_json_has_the_path_itself_and_csv_and_text_have_escapes():
    path, reading = Path("a\nb\udcff.png"), Reading(1, 1, [], "people")
    lines = {kind: format_reading(path, reading, kind, SEVEN) for kind in ("json", "csv", "text")}
    assert json.loads(lines["json"][0])["path"] == str(path)
    assert next(csv.reader(lines["csv"]))[0] == "a\\nb\\udcff.png"
    assert lines["text"] == ["a\\nb\\udcff.png\tno face\t"]


@pytest.mark.parametrize("size", [(20_000, 10), (1, 50_000), (1, 1)])
def test_a_copy_that_cannot_be_written_is_one_line_and_the_rest_goes_on(shipped, folder, tmp_path, size, capsys):
    (folder / "a.webp").write_bytes(encode(Image.new("L", size)))  # the content of a file decides its format
    failures = predict_pictures(shipped, [folder], annotated_folder=tmp_path / "out")
    expected = [f"The copy cannot be written as WEBP with {size[0]}x{size[1]} pixels"] if max(size) > 16_383 else []
    assert [failure.partition(": ")[2].partition(".")[0] for failure in failures] == expected
    assert (tmp_path / "out" / "z.png").is_file()
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_an_explanation_is_in_the_json_and_in_the_copies(shipped, portrait, tmp_path, capsys):
    portrait.save(tmp_path / "photo.png")
    for explain, folder in ((False, "plain"), (True, "explained")):
        predict_pictures(shipped, [tmp_path / "photo.png"], "json", tmp_path / folder, explain=explain)
    plain, explained = (json.loads(line)["faces"][0] for line in capsys.readouterr().out.splitlines())
    assert list(explained.pop("evidence")["maps"]) == ["HAPPY"]
    assert plain == explained
    first, second = ((tmp_path / folder / "photo.png").read_bytes() for folder in ("plain", "explained"))
    assert first != second


def test_an_explanation_that_would_appear_nowhere_is_refused(shipped, folder):
    with pytest.raises(DataError, match=r"no place for an explanation\. Add --annotate DIR or --json"):
        predict_pictures(shipped, [folder], explain=True)


class Interrupted:
    """A predictor that does something else at its first call."""

    def __init__(self, predictor: Predictor, action: Callable[[], object]) -> None:
        self.classifier, self._predictor, self._actions = predictor.classifier, predictor, [action]

    def predict(self, *arguments, **options) -> Reading:
        if self._actions:
            self._actions.pop()()
        return self._predictor.predict(*arguments, **options)


def test_a_picture_that_disappears_is_one_line(shipped, folder, capsys):
    (folder / "a.png").write_bytes(FACE)
    failures = predict_pictures(Interrupted(shipped, (folder / "z.png").unlink), [folder])
    assert failures == [f"{folder}/z.png: The file cannot be read (No such file or directory)."]


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="this system cannot open files without following links")
@pytest.mark.parametrize("change", ["pipe", "link"])
def test_a_picture_that_becomes_a_pipe_or_a_link_is_one_line(shipped, folder, change, capsys):
    (folder / "a.png").write_bytes(FACE)

    def replace() -> None:
        path = (folder / "z.png").rename(folder / "moved")
        os.mkfifo(folder / "z.png") if change == "pipe" else (folder / "z.png").symlink_to(path)

    [failure] = predict_pictures(Interrupted(shipped, replace), [folder])
    assert failure.startswith(f"{folder}/z.png: The file cannot be read")


def test_a_copy_is_of_the_picture_that_was_predicted_though_it_disappears(shipped, folder, tmp_path, capsys):
    predictor = Interrupted(shipped, (folder / "z.png").unlink)
    assert predict_pictures(predictor, [folder], annotated_folder=tmp_path / "out") == []
    assert (tmp_path / "out" / "z.png").is_file()
