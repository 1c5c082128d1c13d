"""Draw the probabilities of each track of a film over time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dexpression.errors import DataError
from dexpression.video.frames import Frame
from dexpression.video.tracking import MAX_GAP_SECONDS

MAX_PANELS = 12  # of the tracks that are seen longest; more cannot be read
COLOURS = {
    "ANGRY": "#d62728",
    "DISGUST": "#2ca02c",
    "FEAR": "#9467bd",
    "HAPPY": "#ff9f0e",
    "NEUTRAL": "#7f7f7f",
    "SAD": "#1f77b4",
    "SURPRISE": "#17becf",
    "CONTEMPT": "#8c564b",
}
OTHER_COLOURS = colormaps["tab10"]
STRIP = 0.08  # of the height of a panel


class History:
    """What a track was in each frame that shows it."""

    def __init__(self, track: int) -> None:
        self.track = track
        self.times: list[float] = []
        self.probabilities: list[list[float]] = []  # a row for each time, a column for each label
        self.shown: list[str] = []

    @property
    def seconds(self) -> float:
        return self.times[-1] - self.times[0]


class TracksPlot:
    """Draws a panel for each track: the probability of each label, above a strip in the colour of the calm label."""

    def __init__(self, path: Path, labels: tuple[str, ...]) -> None:
        self._path = path
        self._colours = {
            label: COLOURS.get(label, OTHER_COLOURS(number % OTHER_COLOURS.N)) for number, label in enumerate(labels)
        }
        self._histories: dict[int, History] = {}

    def add(self, frame: Frame) -> None:
        """Take in the faces of a frame."""
        for face in frame.faces:
            history = self._histories.setdefault(face.track, History(face.track))
            history.times.append(frame.time)
            history.probabilities.append(list(face.reading.prediction.probabilities.values()))
            history.shown.append(face.result)

    def close(self) -> None:
        """Draw the plot and write it; raises DataError."""
        try:
            self.draw().savefig(self._path, dpi=150)
        except OSError as error:
            raise DataError(f"The plot {self._path} cannot be written ({error.strerror}).") from error

    def draw(self) -> Figure:
        """One panel for each of the tracks that are seen longest, in the order of their numbers."""
        longest = sorted(self._histories.values(), key=lambda history: -history.seconds)[:MAX_PANELS]
        figure = Figure(figsize=(9, 1.2 + 1.7 * max(1, len(longest))), layout="constrained")
        panels = figure.subplots(max(1, len(longest)), sharex=True, squeeze=False)[:, 0]
        for axes, history in zip(panels, sorted(longest, key=lambda history: history.track), strict=False):
            self._draw_panel(axes, history)
        panels[-1].set_xlabel("seconds")
        left_out = len(self._histories) - len(longest)
        title = f"{len(longest)} longest of {len(self._histories)} tracks" if left_out else ""
        figure.suptitle(title if self._histories else "No face was found", fontsize=10)
        if longest:
            handles, labels = panels[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside upper center", ncols=4, fontsize=9, frameon=False)
        return figure

    def _draw_panel(self, axes: Axes, history: History) -> None:
        for times, probabilities in _stretches(history):
            marker = "." if len(times) == 1 else ""
            for (label, colour), values in zip(self._colours.items(), zip(*probabilities, strict=True), strict=True):
                axes.plot(times, values, color=colour, linewidth=1.2, marker=marker, label=label)
        for label, start, end in _shown_labels(history):
            axes.axvspan(start, end, ymin=0, ymax=STRIP, color=self._colours[label], linewidth=0)
        axes.set(ylim=(-0.15, 1.03), yticks=(0, 0.5, 1), ylabel=f"track {history.track}")
        axes.grid(alpha=0.3)


def _stretches(history: History) -> Iterator[tuple[list[float], list[list[float]]]]:
    """The times and probabilities of a track, without the gaps in which it was not seen."""
    start = 0
    for end in range(1, len(history.times) + 1):
        if end == len(history.times) or history.times[end] - history.times[end - 1] > MAX_GAP_SECONDS:
            yield history.times[start:end], history.probabilities[start:end]
            start = end


def _shown_labels(history: History) -> Iterator[tuple[str, float, float]]:
    """Each calm label with the times from which and until which it was shown."""
    start = 0
    for end in range(1, len(history.times) + 1):
        if end == len(history.times) or history.shown[end] != history.shown[start]:
            yield history.shown[start], history.times[start], history.times[min(end, len(history.times) - 1)]
            start = end
