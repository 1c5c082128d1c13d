"""Decoding films: times, upright frames, limits, and files that are damaged, cut off, hostile or no films."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from dexpression.errors import UnreadableFilm
from dexpression.video import decoder
from dexpression.video.containers import find_container, is_cut_off
from dexpression.video.decoding import DecodedFrame, Film
from tests.support.films import CODES, change_durations, damage, draw_frame, turn, walk, write_film
from tests.support.server import ROOT

TENTHS = [pytest.approx(number / 10, abs=2e-3) for number in range(12)]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The same 12 frames at 10 a second, by the suffix of the container."""
    folder = tmp_path_factory.mktemp("films")
    return {suffix: write_film(folder / f"film{suffix}", walk(12)).read_bytes() for suffix in CODES}


def read(path: Path, every: float = 0) -> list[DecodedFrame]:
    with Film(path, every) as film:
        return list(film)


def read_part(path: Path, content: bytes) -> tuple[list[float], str | None]:
    """The times of the frames of a film that may be damaged, and the error after them."""
    path.write_bytes(content)
    times: list[float] = []
    try:
        with Film(path, 0) as film:
            times.extend(frame.time for frame in film)
    except UnreadableFilm as error:
        return times, str(error)
    return times, None


def difference(one: DecodedFrame, other: DecodedFrame) -> float:
    return float(abs(np.asarray(one.image, float) - np.asarray(other.image, float)).mean())


@pytest.mark.parametrize("suffix", CODES)
def test_frames_have_the_times_of_the_container(films, suffix, tmp_path):
    (tmp_path / f"film{suffix}").write_bytes(films[suffix])
    with Film(tmp_path / f"film{suffix}", 0) as film:
        assert (film.rate, film.seconds) == (10, pytest.approx(1.2))
        frames = list(film)
    assert [frame.time for frame in frames] == TENTHS
    expected = DecodedFrame(0, draw_frame((10, 40)))
    assert difference(frames[0], expected) < 5 < 10 < difference(frames[0], DecodedFrame(0, draw_frame((60, 40))))


@pytest.mark.parametrize(("suffix", "code"), [(".webm", "VP90"), (".mov", "mp4v"), (".mkv", "MJPG")])
def test_other_codes_and_containers_are_read(tmp_path, suffix, code):
    path = write_film(tmp_path / f"film{suffix}", (frame.resize((96, 64)) for frame in walk(3)), code=code)
    assert [frame.time for frame in read(path)] == TENTHS[:3]


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_film_that_says_so_is_turned_upright(films, degrees, tmp_path):
    (tmp_path / "film.mp4").write_bytes(films[".mp4"])
    (tmp_path / "turned.mp4").write_bytes(turn(films[".mp4"], degrees))
    plain, turned = read(tmp_path / "film.mp4", 1)[0], read(tmp_path / "turned.mp4", 1)[0]
    expected = DecodedFrame(0, plain.image.rotate(-degrees, expand=True))
    assert turned.image.size == expected.image.size
    assert difference(turned, expected) < 1


def test_a_variable_frame_rate_is_read_by_its_times(films, tmp_path):
    path = tmp_path / "film.mp4"
    path.write_bytes(change_durations(films[".mp4"], [0.1] * 3 + [0.02] * 6 + [0.5] * 3))
    times = [0, 0.1, 0.2, 0.3, 0.32, 0.34, 0.36, 0.38, 0.4, 0.42, 0.92, 1.42]
    assert [frame.time for frame in read(path)] == pytest.approx(times, abs=1e-3)
    assert [frame.time for frame in read(path, 0.1)] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.92, 1.42], abs=1e-3)


def test_a_film_of_one_frame_is_read(tmp_path):
    assert [frame.time for frame in read(write_film(tmp_path / "film.avi", walk(1)))] == [0]


class FakeCapture:
    """The part of cv2.VideoCapture that says when each frame is shown, in milliseconds."""

    def __init__(self, times: Sequence[float]) -> None:
        self._times, self._now = list(times), 0.0

    def grab(self) -> bool:
        if self._times:
            self._now = self._times.pop(0)
            return True
        return False

    def get(self, name: int) -> float:
        assert name == cv2.CAP_PROP_POS_MSEC
        return self._now


@pytest.mark.parametrize(
    ("given", "times"),
    [
        ([0, 0, 0, 0], [0, 0.1, 0.2, 0.3]),  # no times
        ([0, 100, 100, 300], [0, 0.1, 0.2, 0.3]),
        ([500, 600, 0, 100], [0.5, 0.6, 0.7, 0.8]),  # joined from two films
        ([0, float("nan"), float("inf"), 1e300], [0, 0.1, 0.2, 1e297]),
    ],
)
def test_times_rise_though_the_container_does_not_say_so(given, times):
    assert list(decoder.read_times(FakeCapture(given), 10)) == pytest.approx(times)


@pytest.mark.parametrize(
    ("times", "every", "chosen"),
    [
        ([0, 0.04, 0.08, 0.12, 0.16, 0.2, 0.24], 0.1, [0, 0.12, 0.2]),
        ([0, 1 / 30, 2 / 30, 0.09999999, 4 / 30, 5 / 30, 0.2], 0.1, [0, 0.09999999, 0.2]),
        ([0.3, 0.35, 7, 7.05, 7.1], 0.1, [0.3, 7, 7.1]),
        ([0, 0.01], 0, [0, 0.01]),
    ],
)
def test_the_first_frame_at_or_after_each_multiple_is_chosen(times, every, chosen):
    assert list(decoder.choose_times(iter(times), every)) == chosen


@pytest.mark.parametrize("suffix", CODES)
@pytest.mark.parametrize("tenth", range(1, 10))
def test_the_decoder_gives_the_complete_part_of_a_film_and_says_that_it_is_cut_off(films, suffix, tenth, tmp_path):
    path = tmp_path / "film"
    path.write_bytes(films[suffix][: len(films[suffix]) * tenth // 10])
    with path.open("rb") as film:
        *frames, last = (record for record, _ in decoder.decode(film, 0))
    times = [frame["time"] for frame in frames if "time" in frame]
    assert "cut off" in last.values()
    assert times == TENTHS[: len(times)]
    assert len(times) >= (tenth - 3 if suffix == ".avi" else 0)  # the index of MP4 is at its end


@pytest.mark.parametrize(("suffix", "part"), [(".avi", "The part up to 0.60 s was read."), (".mp4", "Nothing can be")])
def test_a_film_that_is_cut_off_is_one_line_after_its_frames(films, suffix, part, tmp_path):
    times, failure = read_part(tmp_path / "film", films[suffix][: len(films[suffix]) * 6 // 10])
    assert len(times) == (7 if suffix == ".avi" else 0)
    assert failure.startswith(f"The film is cut off: its last part is missing. {part}")


def test_a_film_is_complete_whose_length_is_not_known(tmp_path):
    for content, container in (
        (b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\0mdat", "MP4"),  # to the end of the file
        (b"\x1aE\xdf\xa3\x80\x18S\x80g\x01\xff\xff\xff\xff\xff\xff\xff", "Matroska"),  # a recording that went on
        (b"RIFF\0\0\0\0AVI LIST", "AVI"),
    ):
        (tmp_path / "film").write_bytes(content + bytes(100))
        with (tmp_path / "film").open("rb") as film:
            assert find_container(content) == container
            assert not is_cut_off(film, container)


@pytest.mark.slow
def test_damaged_films_give_rising_times_and_at_most_one_line(films, tmp_path):
    for seed in range(24):
        content = films[list(CODES)[seed % len(CODES)]]
        times, failure = read_part(tmp_path / "film", damage(content, seed))
        assert all(one < other for one, other in pairwise(times)), seed
        assert failure is None or "\n" not in failure, seed


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is an empty file, not a film that can be read"),
        (b"ffconcat version 1.0\nfile other.mp4\n", "is text, not a film"),
        (b"#EXTM3U\nhttp://127.0.0.1/film.mp4\n", "is text, not a film"),
        (b"\0\0\0\x18ftypM4A \0\0\0\0", "is sound, not a film"),
        (b"FLV\x01\x05\0\0\0\x09", "in a container that is not read. Save it anew, as MP4, MOV, WebM, MKV or AVI"),
        (b"\0\0\0\x08mdat" + bytes(99), "damaged, or has no pictures"),
    ],
)
def test_a_file_that_is_no_film_is_named(content, message, tmp_path):
    times, failure = read_part(tmp_path / "film.mp4", content)
    assert times == []
    assert message in failure


def test_a_film_of_which_no_frame_can_be_decoded_is_one_line(films, tmp_path):
    content = films[".mp4"]
    start, end = content.index(b"mdat") + 4, content.index(b"moov") - 4
    times, failure = read_part(tmp_path / "film.mp4", content[:start] + bytes(end - start) + content[end:])
    assert (times, failure[:19]) == ([], "The film is damaged")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    for path in (tmp_path / "pipe.mp4", tmp_path, tmp_path / "missing.mp4", "zero\0byte", "http://127.0.0.1/a.mp4"):
        with pytest.raises(UnreadableFilm, match="The file cannot be read"):
            Film(path, 0)


def decode_directly(content: bytes, path: Path) -> list[dict[str, object]]:
    """The records that the program gives for a file of any kind, without the pixels."""
    path.write_bytes(content)
    with path.open("rb") as file:
        command = [sys.executable, "-m", "dexpression.video.decoder", "0"]
        done = subprocess.run(command, stdin=file, capture_output=True, cwd=ROOT)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b"{")]


def test_ffmpeg_opens_no_other_file_and_no_other_container(films, tmp_path):
    (tmp_path / "other.avi").write_bytes(films[".avi"])
    listed = f"ffconcat version 1.0\nfile {tmp_path}/other.avi\n".encode()
    assert decode_directly(listed, tmp_path / "list") == [{"error": "damaged"}]
    assert decode_directly(b"YUV4MPEG2 W4 H4 F25:1\nFRAME\n" + bytes(24), tmp_path / "raw") == [{"error": "damaged"}]


def test_a_name_is_never_read_as_an_address_or_an_option(films, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("concat:a|b.avi", "new\nbytes\udcff.avi", "%03d.avi"):
        Path(name).write_bytes(films[".avi"])
        assert len(read(Path(name), 0.5)) == 3


LIMITS = {
    "memory": "bytearray(3 << 30)",
    "processor time": "while True: pass",
    "a clock": "import time; time.sleep(30)",
    "files": "import os; os.write(os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY), b'x')",
}


@pytest.mark.slow
@pytest.mark.skipif(decoder.resource is None, reason="this system limits no process")
@pytest.mark.parametrize("limit", LIMITS)
def test_the_process_is_limited(limit, tmp_path):
    program = f"""
import sys
from dexpression.video import decoder
decoder.MAX_SECONDS = 1
decoder.limit_process()
with decoder.limited_time():
    {LIMITS[limit]}
"""
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "file"], cwd=ROOT, capture_output=True, timeout=20)
    assert done.returncode != 0


def test_a_decoder_that_dies_costs_one_line_after_the_frames_before(films, tmp_path):
    (tmp_path / "film.avi").write_bytes(films[".avi"] * 50)  # more than the pipe holds
    with Film(tmp_path / "film.avi", 0) as film:
        frames = iter(film)
        next(frames)
        film._process.kill()
        with pytest.raises(UnreadableFilm, match=r"The part up to \S+ s was read"):
            list(frames)


def test_leaving_the_film_ends_the_process(films, tmp_path):
    (tmp_path / "film.avi").write_bytes(films[".avi"])
    with Film(tmp_path / "film.avi", 0) as film:
        next(iter(film))
    assert film._process.returncode is not None


def test_a_frame_of_too_many_pixels_is_refused(monkeypatch):
    names = ("FRAME_WIDTH", "FRAME_HEIGHT")
    sizes = {getattr(cv2, f"CAP_PROP_{name}"): 10_000 for name in names}
    capture = SimpleNamespace(get=sizes.get, isOpened=lambda: True)
    monkeypatch.setattr(decoder, "open_capture", lambda _: capture)
    with Path(os.devnull).open("rb") as film:
        assert list(decoder.decode(film, 0)) == [({"error": "too many pixels"}, b"")]
