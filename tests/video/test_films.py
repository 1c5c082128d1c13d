"""Films from file to rows, summaries, annotated film and plot: by Python and by the command line."""

from __future__ import annotations

import csv
import gc
import json
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dexpression import Predictor
from dexpression.__main__ import main
from dexpression.errors import UnknownReading, UnreadableFilm
from dexpression.labels import SEVEN
from dexpression.video import frames as frames_module
from dexpression.video.decoding import DecodedFrame, Film
from dexpression.video.frames import read_frames
from dexpression.video.summary import TrackSummary
from tests.support.films import draw_frame, portrait, walk, write_film
from tests.support.server import ROOT

COLUMNS = "path,time,track,x,y,width,height,detection_confidence,result,confidence"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One second: two heads, of which the second one is there until half of it."""
    folder = tmp_path_factory.mktemp("clip")
    small = portrait(60)
    frames = [draw_frame((10 + 2 * number, 40)) for number in range(10)]
    for frame in frames[:5]:
        frame.paste(small, (170, 60))
    return write_film(folder / "clip, of two.avi", frames)


@pytest.fixture
def blank(tmp_path) -> Path:
    return write_film(tmp_path / "blank.avi", [Image.new("RGB", (96, 64), "grey")] * 3)


def video(*arguments: Path | str) -> None:
    main(["video", *map(str, arguments)])


def test_csv_has_a_row_for_each_face_of_each_frame(shipped: Predictor, clip, capsys):
    video(clip, "--csv")
    out, error = capsys.readouterr()
    rows = list(csv.DictReader(out.splitlines()))
    assert out.splitlines()[0] == ",".join([COLUMNS, *SEVEN])
    assert [(row["time"], row["track"]) for row in rows[:3]] == [("0.0", "1"), ("0.0", "2"), ("0.1", "1")]
    assert len(rows) == 15
    assert {row["result"] for row in rows} == {"HAPPY"}
    assert error.splitlines() == [
        f"{clip}: track 1, 0.00 to 0.90 s: happy 100%; 0 changes.",
        f"{clip}: track 2, 0.00 to 0.40 s: happy 100%; 0 changes.",
    ]


def test_json_and_python_give_the_same_frames_and_json_ends_with_the_summaries(shipped: Predictor, clip, capsys):
    video(clip, "--json", "--every", "0.3")
    *printed, last = map(json.loads, capsys.readouterr().out.splitlines())
    frames = [frame.to_dict() for frame in shipped.video(clip, every=0.3)]
    assert printed == [{"path": str(clip)} | frame for frame in frames]
    assert [frame["time"] for frame in frames] == [0, 0.3, 0.6, 0.9]
    tracks = [(track["track"], track["first"], track["last"], track["shares"]) for track in last["tracks"]]
    assert tracks == [(1, 0, 0.9, {"HAPPY": 1}), (2, 0, 0.3, {"HAPPY": 1})]


def test_text_is_one_line_a_face_and_a_film_without_faces_is_named(clip, blank, capsys):
    video(clip, blank, "--faces", "1")
    out, error = capsys.readouterr()
    lines = [line.split("\t") for line in out.splitlines()]
    assert {(path, track, result) for path, _, track, result, _ in lines} == {(str(clip), "1", "HAPPY")}
    assert [time for _, time, *_ in lines][:3] == ["0.000", "0.100", "0.200"]
    assert error.splitlines()[-1] == f"{blank}: no face was found."


def test_a_film_without_a_frame_has_neither_a_summary_nor_a_plot(tmp_path, capsys):
    film, plot = write_film(tmp_path / "film.mp4", walk(3)), tmp_path / "plot.png"
    film.write_bytes(film.read_bytes().replace(b"stsz", b"free"))  # the sizes of its frames
    plot.write_bytes(b"of another film")
    with pytest.raises(SystemExit, match="The film is damaged"):
        video(film, "--json", "--plot", plot)
    assert capsys.readouterr() == ("", "")
    assert plot.read_bytes() == b"of another film"


def test_the_annotated_film_lasts_as_long_as_the_film_and_has_boxes(clip, tmp_path, capsys):
    video(clip, "--every", "0.2", "--annotate", tmp_path / "new" / "out.mp4")
    with Film(tmp_path / "new" / "out.mp4", 0) as drawn, Film(clip, 0.2) as original:
        pairs = list(zip(drawn, original, strict=True))
    assert [frame.time for frame, _ in pairs] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8], abs=1e-3)
    for frame, plain in pairs:
        yellow = np.asarray(frame.image, int) - np.asarray(plain.image, int)
        assert (yellow[..., 0] - yellow[..., 2] > 60).sum() > 200
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out.mp4"]


def test_the_annotated_film_repeats_a_frame_that_stays_and_its_gaps_are_bounded(tmp_path):
    from dexpression.video.annotated_film import AnnotatedFilm

    output = AnnotatedFilm(tmp_path / "out.mp4", 10)
    for time in (0.5, 0.8, 0.82, 1e9, 1e9 + 0.1):
        output.add(frames_module.Frame(time, draw_frame((50, 40)), []))
    output.close()
    with Film(tmp_path / "out.mp4", 0) as film:
        assert len(list(film)) == 4 + 100 + 1 + 1


def test_the_plot_has_a_panel_for_each_track(clip, tmp_path, capsys):
    from dexpression.figures.tracks import TracksPlot

    video(clip, "--plot", tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as drawn:
        assert drawn.format == "PNG"
    plot = TracksPlot(tmp_path / "unused.png", SEVEN)
    for frame in Predictor.load().video(clip):
        plot.add(frame)
    panels = plot.draw().axes
    assert [axes.get_ylabel() for axes in panels] == ["track 1", "track 2"]
    assert [len(axes.get_lines()) for axes in panels] == [7, 7]


def test_a_plot_without_a_face_is_drawn_too(blank, tmp_path, capsys):
    video(blank, "--plot", tmp_path / "out.png")
    assert (tmp_path / "out.png").is_file()


def test_a_film_that_is_cut_off_costs_one_line_keeps_its_rows_and_the_next_is_read(clip, tmp_path, capsys):
    cut = tmp_path / "cut.avi"
    cut.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    with pytest.raises(SystemExit, match=r"cut\.avi: The film is cut off") as stopped:
        video(cut, tmp_path / "missing.avi", clip, "--csv")
    assert len(str(stopped.value.code).splitlines()) == 2
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert {row["path"] for row in rows} == {str(cut), str(clip)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["clip.avi", "other.avi", "--plot", "out.png"], "out.png can be of one film, and 2 are given. Give one."),
        (["clip.avi", "--annotate", "out.avi"], r"out.avi does not end in \.mp4"),
        (["clip.avi", "--plot", "out.pdf"], r"out.pdf does not end in \.png"),
        (["clip.mp4", "--annotate", "clip.mp4"], "clip.mp4 is the film itself"),
        (["nowhere.avi"], "nowhere.avi: The file cannot be read"),
    ],
)
def test_an_error_that_the_caller_can_fix_is_one_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("clip.mp4").touch()
    with pytest.raises(SystemExit, match=message) as stopped:
        video(*arguments)
    assert "\n" not in str(stopped.value.code)


@pytest.mark.parametrize("option", [["--every", "-1"], ["--every", "nan"], ["--faces", "0"]])
def test_a_number_out_of_range_is_refused(option, capsys):
    with pytest.raises(SystemExit) as stopped:
        video("clip.avi", *option)
    assert (stopped.value.code, option[0] in capsys.readouterr().err) == (2, True)


def test_an_unknown_reading_is_refused_before_the_film_is_opened(shipped: Predictor):
    with pytest.raises(UnknownReading):
        next(shipped.video("nowhere.avi", reading="unknown"))


def test_frames_are_read_in_batches_and_few_are_in_memory(shipped: Predictor, monkeypatch):
    monkeypatch.setattr(frames_module, "BATCH_FRAMES", 4)
    images: list[weakref.ref[Image.Image]] = []

    def decoded() -> Iterator[DecodedFrame]:
        for number in range(20):
            image = Image.new("RGB", (70, 70))
            images.append(weakref.ref(image))
            yield DecodedFrame(number / 10, image)
        raise UnreadableFilm("cut off")

    frames = read_frames(shipped, decoded(), "people")
    for number in range(20):
        next(frames)
        if number % 7 == 6:  # collecting takes a second among all that the tests load
            gc.collect()
            assert sum(image() is not None for image in images) <= 6
    with pytest.raises(UnreadableFilm):
        next(frames)


def test_the_summary_counts_time_not_frames():
    summary = TrackSummary(3, 1.0)
    for time, label in ((1.0, "SAD"), (1.1, "HAPPY"), (1.9, "HAPPY"), (2.0, "SAD")):
        summary.add(time, label)
    assert summary.shares == pytest.approx({"HAPPY": 0.9, "SAD": 0.1})
    assert str(summary) == "track 3, 1.00 to 2.00 s: happy 90%, sad 10%; 2 changes"


@pytest.mark.slow
def test_ctrl_c_leaves_complete_rows_and_outputs(tmp_path):
    film = write_film(tmp_path / "long.avi", walk(150))
    command = [sys.executable, "-m", "dexpression", "video", film, "--csv", "--annotate", tmp_path / "out.mp4"]
    running = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    rows = [running.stdout.readline() for _ in range(20)]
    running.send_signal(signal.SIGINT)
    out, error = running.communicate(timeout=60)
    rows += out.splitlines(keepends=True)
    assert running.returncode == 130
    assert len(rows) < 150
    assert {row.count(",") for row in rows} == {COLUMNS.count(",") + 7}
    assert rows[-1].endswith("\n")
    assert "track 1" in error
    with Film(tmp_path / "out.mp4", 0) as film:
        assert len(list(film)) >= 15
