"""The annotated film: the frames that were read, with a box, the track and the calm label on each face."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from dexpression.annotation import draw_boxes
from dexpression.errors import DataError
from dexpression.files import partial_beside
from dexpression.video.containers import is_cut_off
from dexpression.video.frames import Frame

SUFFIX = ".mp4"
MAX_GAP_SECONDS = 10  # between two frames, for which the first one stays; longer ones are shortened to that


class AnnotatedFilm:
    """Writes a film that lasts as long as what it shows.

    Its frames follow at a constant rate, so that a frame of the original is repeated or left out where that changes.
    """

    def __init__(self, path: Path, rate: float) -> None:
        """Prepare to write so many frames a second."""
        self._path, self._rate = path, rate
        self._partial = partial_beside(path, SUFFIX)
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._start = 0.0  # the time of the first frame
        self._count = 0  # of written frames
        self._last: np.ndarray | None = None

    def add(self, frame: Frame) -> None:
        """Draw a frame and write it; raises DataError. The first one decides the size."""
        if self._writer is None:
            self._start, self._size = frame.time, frame.image.size
            self._writer = self._open()
        drawn = _draw(frame)
        if drawn.size != self._size:
            drawn = drawn.resize(self._size)
        missing = round((frame.time - self._start) * self._rate) - self._count
        most = round(MAX_GAP_SECONDS * self._rate)
        if missing > most:
            self._start += (missing - most) / self._rate
        for _ in range(min(missing, most)):
            self._put(self._last)
        self._last = np.ascontiguousarray(np.asarray(drawn)[:, :, ::-1])  # OpenCV has BGR
        if missing >= 0:
            self._put(self._last)

    def close(self) -> None:
        """Complete the film and give it its name; another file of this name is replaced. Raises DataError."""
        if self._writer is None:
            return
        self._writer.release()
        try:
            with self._partial.open("rb") as film:
                is_complete = not is_cut_off(film, "MP4")  # OpenCV does not say that a disk is full
            if not is_complete:
                raise DataError(f"The film {self._path} cannot be written to its end. Is the disk full?")
            self._partial.replace(self._path)
        except OSError as error:
            raise DataError(f"The film {self._path} cannot be written ({error.strerror}).") from error
        finally:
            self._partial.unlink(missing_ok=True)

    def _open(self) -> cv2.VideoWriter:
        code = cv2.VideoWriter.fourcc(*"mp4v")
        writer = cv2.VideoWriter(str(self._partial), cv2.CAP_FFMPEG, code, self._rate, self._size)
        if not writer.isOpened():
            size = f"{self._size[0]}x{self._size[1]} pixels"
            raise DataError(f"The film {self._path} cannot be written with {size}. Is its folder writable?")
        return writer

    def _put(self, pixels: np.ndarray | None) -> None:
        if self._writer is not None and pixels is not None:
            self._writer.write(pixels)
            self._count += 1


def _draw(frame: Frame) -> Image.Image:
    return draw_boxes(
        frame.image,
        [(face.reading.box, f"#{face.track} {face.result} {face.confidence:.0%}") for face in frame.faces],
    )
