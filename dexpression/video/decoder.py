"""The program that decodes a film, in a process of its own: `python -m dexpression.video.decoder SECONDS < film`.

FFmpeg, inside OpenCV, parses bytes of unknown origin. It gets them from an open file: it sees no name and opens nothing
by itself. Limits on memory and time end the process, whatever it does.

Standard output has records, each of them a line of JSON. A record of a frame is followed by its pixels, in RGB.
"""

from __future__ import annotations

import faulthandler
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from dexpression.kinds import HEAD_BYTES
from dexpression.video.containers import find_container, is_cut_off

if TYPE_CHECKING:
    import cv2

try:
    import resource
except ImportError:  # on Windows, where time is limited and memory is not
    resource = None  # type: ignore[assignment]

MAX_MEMORY_BYTES = 2 << 30  # address space; frames of 7680x4320 pixels take half of that
MAX_SECONDS = 60  # for one frame, and to open a film: of processor time, and by the clock
MAX_FRAME_PIXELS = 7680 * 4320
RATES = (1.0, 240.0)  # frames a second that are believed
USUAL_RATE = 25.0
TOLERANCE = 1e-3  # seconds; containers count time in milliseconds or finer

# FFmpeg reads these containers alone, and none of its protocols. Damaged parts of a film are passed over, however long.
ENVIRONMENT = {
    "OPENCV_FFMPEG_CAPTURE_OPTIONS": "format_whitelist;mov,mp4,matroska,webm,avi|protocol_whitelist;none",
    "OPENCV_FFMPEG_READ_ATTEMPTS": "1000000",
    "OPENCV_FFMPEG_DECODE_ATTEMPTS": "1000000",
    "OPENBLAS_NUM_THREADS": "1",  # each thread takes address space
}

Record = tuple[dict[str, Any], bytes]


def main() -> None:
    """Decode the film on standard input, and write a record of a frame every so many seconds, or of all for 0."""
    records = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no record
    os.environ.update(ENVIRONMENT)
    limit_process()
    for record, pixels in decode(sys.stdin.buffer, float(sys.argv[1])):
        records.write(json.dumps(record).encode() + b"\n" + pixels)
        records.flush()


def limit_process() -> None:
    """Limit the memory of this process, and let it write no file."""
    if resource:
        for kind, most in (
            (resource.RLIMIT_AS, MAX_MEMORY_BYTES),
            (resource.RLIMIT_FSIZE, 0),
            (resource.RLIMIT_CORE, 0),
        ):
            resource.setrlimit(kind, (most, most))


@contextmanager
def limited_time() -> Iterator[None]:
    """End this process if the block takes longer than `MAX_SECONDS`, even inside a library."""
    if resource:
        earlier = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time()) + MAX_SECONDS, earlier[1]))
    faulthandler.dump_traceback_later(MAX_SECONDS, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        if resource:
            resource.setrlimit(resource.RLIMIT_CPU, earlier)


def decode(film: BinaryIO, every: float) -> Iterator[Record]:
    """Records of a film: what is known of it, or an error; a frame every so many seconds; the end."""
    with limited_time():
        film.seek(0)
        container = find_container(film.read(HEAD_BYTES))
        cut_off = container is not None and is_cut_off(film, container)
        capture = open_capture(film)
    pixels = _number(capture, "FRAME_WIDTH") * _number(capture, "FRAME_HEIGHT")
    if not capture.isOpened() or pixels > MAX_FRAME_PIXELS:
        yield {"error": "too many pixels" if pixels else "cut off" if cut_off else "damaged"}, b""
        return
    rate = _frame_rate(capture)
    yield {"rate": rate, "seconds": max(0.0, _number(capture, "FRAME_COUNT")) / rate}, b""
    for moment in choose_times(read_times(capture, rate), every):
        with limited_time():
            record = _read_frame(capture, moment)
        if record:
            yield record
    yield {"end": "cut off" if cut_off else "complete"}, b""


def open_capture(film: BinaryIO) -> cv2.VideoCapture:
    """Let FFmpeg open the film. One thread decodes; frames come upright, turned as the film says."""
    import cv2

    film.seek(0)
    options = [cv2.CAP_PROP_N_THREADS, 1]
    capture: cv2.VideoCapture = cv2.VideoCapture(film, cv2.CAP_FFMPEG, options)  # type: ignore[call-overload]
    return capture


def read_times(capture: cv2.VideoCapture, rate: float) -> Iterator[float]:
    """The time of each frame in seconds, as the container has it; the frame itself may be retrieved until the next.

    Times rise. A frame that has none, or one that is not later, follows the frame before at the frame rate.
    """
    last = -math.inf
    while _grab(capture):
        given = _number(capture, "POS_MSEC") / 1000
        last = given if given > last else last + 1 / rate
        yield last


def choose_times(times: Iterator[float], every: float) -> Iterator[float]:
    """The first time, and then the first at or after each multiple of `every` seconds; all times for 0."""
    due = -math.inf
    for moment in times:
        if moment + TOLERANCE >= due:
            due = every * (1 + (moment + TOLERANCE) // every) if every else moment
            yield moment


def _grab(capture: cv2.VideoCapture) -> bool:
    with limited_time():
        return bool(capture.grab())


def _read_frame(capture: cv2.VideoCapture, moment: float) -> Record | None:
    """The record of the grabbed frame and its pixels; None for a frame that has none, or too many."""
    found, frame = capture.retrieve()
    if not found or frame.shape[0] * frame.shape[1] > MAX_FRAME_PIXELS:
        return None
    height, width, _ = frame.shape
    return {"time": moment, "width": width, "height": height}, frame[:, :, ::-1].tobytes()  # OpenCV has BGR


def _frame_rate(capture: cv2.VideoCapture) -> float:
    rate = _number(capture, "FPS")
    return rate if RATES[0] <= rate <= RATES[1] else USUAL_RATE


def _number(capture: cv2.VideoCapture, name: str) -> float:
    """A property of the film; 0 for one that is not known."""
    import cv2

    number = float(capture.get(getattr(cv2, f"CAP_PROP_{name}")))
    return number if math.isfinite(number) else 0.0


if __name__ == "__main__":
    main()
