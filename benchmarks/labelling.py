"""What `dexpression label` makes of the cores: `pipenv run python -W ignore -m benchmarks.labelling`.

The pictures are drawn: 640x480 pixels with two faces, as JPEG. A loop in one process, with one thread, is compared with
the command; so are as many such loops at once as the command has workers, because two hardware threads of one core are
less than twice one. The command on Ray starts Ray first, which takes seconds: with more pictures, its rate is higher.
`--pictures 20000` shows that memory does not grow.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dexpression.artifact.manifest import load_onnx_model
from dexpression.faces import FaceDetector
from dexpression.prediction import Predictor
from dexpression.serving.capacity import find_cores
from dexpression.shipped import default_model_path
from tests.support.films import draw_frame, portrait

TARGET = 0.85  # of the rate of one process, for each core
RAY_TARGET = 0.7  # of that
MIN_SECONDS = 5.0  # of a loop


def main() -> None:
    """Print a table of rates in pictures a second, and of memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=find_cores())
    parser.add_argument("--on", default="ray", help="as in the command: ray:HOST:PORT for a cluster that runs already")
    parser.add_argument("--loop", type=Path, metavar="FOLDER", help="be one of the loops, and print its rate")
    options = parser.parse_args()
    if options.loop:
        print(measure_loop(options.loop))
        return
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), options.pictures, options.workers, options.on)


def compare(folder: Path, count: int, workers: int, on: str) -> None:
    """Measure loops and the command, and print the ratios."""
    few, all_of_them = (draw(folder / name, size) for name, size in (("few", count // 10), ("all", count)))
    one, together = rate_of_loops(few, 1), rate_of_loops(few, workers)
    label(few, folder / "table of few", workers)
    small = peak_megabytes()
    rate = count / label(all_of_them, folder / "table", workers)
    on_ray = count / label(all_of_them, folder / "table of Ray", workers, on)
    print(f"| | pictures a second | in relation to one process |\n|---|---|---|\n| one process | {one:.1f} | 1.00 |")
    print(f"| {workers} processes without a table | {together:.1f} | {together / one:.2f} |")
    print(f"| label --workers {workers} | {rate:.1f} | {rate / one:.2f} (target: {TARGET * workers:.2f}) |")
    target = RAY_TARGET * TARGET * workers
    print(f"| label --workers {workers} --on {on} | {on_ray:.1f} | {on_ray / one:.2f} (target: {target:.2f}) |")
    print(f"\nLargest process: {small} MB for {count // 10} pictures, {peak_megabytes()} MB for {count}.")


def draw(folder: Path, count: int) -> Path:
    """Write pictures of which no two are alike."""
    folder.mkdir()
    face = portrait(200)
    for number in range(count):
        frame = draw_frame((number % 200, number // 200), (380, 220), size=(640, 480), face=face)
        frame.save(folder / f"{number:06}.jpg", quality=90)
    return folder


def measure_loop(folder: Path) -> float:
    """The pictures a second that this process reads with one thread, once the model is loaded."""
    predictor = Predictor.from_onnx_model(load_onnx_model(default_model_path()), FaceDetector.load(threads=1))
    count, start = 0, time.perf_counter()
    while time.perf_counter() < start + MIN_SECONDS:
        for path in folder.iterdir():
            predictor.predict(path)
            count += 1
    return count / (time.perf_counter() - start)


def rate_of_loops(folder: Path, count: int) -> float:
    """The pictures a second of so many loops together, each in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.labelling", "--loop", str(folder)]
    loops = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]  # noqa: S603
    return sum(float(loop.communicate()[0]) for loop in loops)


def label(folder: Path, output: Path, workers: int, engine: str = "local") -> float:
    """The seconds that the command takes, with its start and its end."""
    command = [sys.executable, "-m", "dexpression", "label", str(folder), str(output), "--workers", str(workers)]
    command += ["--on", engine]
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - our own command
    return time.perf_counter() - start


def peak_megabytes() -> int:
    """The peak memory of the largest process that has run until now (Linux counts in kilobytes)."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024


if __name__ == "__main__":
    main()
