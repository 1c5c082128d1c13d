"""Read films, and write what is in them: rows, a summary of each track, an annotated film, and a plot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, Protocol

from tqdm import tqdm

from dexpression.batch import Format, failure_line
from dexpression.errors import DataError, UnreadableFilm
from dexpression.files import identities, make_output_folder
from dexpression.labels import ReadingName
from dexpression.prediction import Predictor
from dexpression.reading import EVERY_SECONDS
from dexpression.video.decoding import Film
from dexpression.video.frames import Frame, read_frames
from dexpression.video.rows import Rows, header
from dexpression.video.summary import Summaries

PROGRESS = "{l_bar}{bar}| {n:.0f}/{total:.0f} s of film [{elapsed}<{remaining}]"
PROGRESS_WITHOUT_LENGTH = "{n:.0f} s of film [{elapsed}]"


class Output(Protocol):
    """Something that is written of a film."""

    def add(self, frame: Frame) -> None:
        """Take in the next frame."""
        ...

    def close(self) -> None:
        """Complete what is written, also of a film that was not read to its end."""
        ...


class Options(NamedTuple):
    """What is read of films, and what is written besides rows and summaries."""

    output_format: Format = "text"
    every: float = EVERY_SECONDS  # seconds from frame to frame; 0 for all
    max_faces: int | None = None  # of a frame
    reading: ReadingName | None = None
    annotated_path: Path | None = None
    plot_path: Path | None = None


def read_films(predictor: Predictor, films: Sequence[Path], options: Options) -> list[str]:
    """Print the rows of each film, and return one line for each that was not read, or not to its end.

    Raises UnknownReading, and DataError if the annotated film or the plot cannot be written.
    """
    predictor.classifier.choose(options.reading)
    _check_output(films, options.annotated_path, ".mp4")
    _check_output(films, options.plot_path, ".png")
    for line in header(options.output_format, predictor.classifier.labels):
        print(line)
    failures = []
    for path in films:
        try:
            _read_film(predictor, path, options)
        except (UnreadableFilm, DataError) as error:
            failures.append(failure_line(path, error))
    return failures


def _read_film(predictor: Predictor, path: Path, options: Options) -> None:
    reading = predictor.classifier.choose(options.reading)
    with Film(path, options.every) as film, ExitStack() as closing:
        outputs: list[Output] = []  # of a film without a frame, there is nothing to say or to draw
        for frame in _show_progress(read_frames(predictor, film, reading, options.max_faces), film.seconds):
            if not outputs:
                outputs = _open_outputs(predictor, path, film, options)
                for output in outputs:
                    closing.callback(output.close)
            for output in outputs:
                output.add(frame)


def _open_outputs(predictor: Predictor, path: Path, film: Film, options: Options) -> list[Output]:
    labels = predictor.classifier.labels
    outputs: list[Output] = [Rows(path, options.output_format, labels), Summaries(path, options.output_format)]
    if options.annotated_path:
        from dexpression.video.annotated_film import AnnotatedFilm  # OpenCV takes half a second

        rate = min(film.rate, 1 / options.every) if options.every else film.rate
        outputs.append(AnnotatedFilm(options.annotated_path, rate))
    if options.plot_path:
        from dexpression.figures.tracks import TracksPlot  # matplotlib does, too

        outputs.append(TracksPlot(options.plot_path, labels))
    return outputs


def _show_progress(frames: Iterator[Frame], seconds: float) -> Iterator[Frame]:
    """The frames, while a bar on a terminal shows how many of the film's seconds are read."""
    bar_format = PROGRESS if seconds else PROGRESS_WITHOUT_LENGTH
    with tqdm(total=seconds or None, bar_format=bar_format, disable=None) as bar:
        for frame in frames:
            yield frame
            bar.update(frame.time - bar.n)


def _check_output(films: Sequence[Path], path: Path | None, suffix: str) -> None:
    """Make the folder of an output; raises DataError if it cannot be written, or would replace a film."""
    if path is None:
        return
    if len(films) > 1:
        raise DataError(f"{path} can be of one film, and {len(films)} are given. Give one.")
    if path.suffix.lower() != suffix:
        raise DataError(f"{path} does not end in {suffix}. Choose such a name.")
    if not identities(films[0]).isdisjoint(identities(path, follow_links=[False])):
        raise DataError(f"{path} is the film itself. Choose another name.")
    make_output_folder(path.parent)
