"""Turn the measurements into tables and a figure; each number is the median of the rounds."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from math import isnan, nan
from statistics import median

from matplotlib.figure import Figure

from benchmarks.callers import Load
from benchmarks.servers import SAME_APP

OURS, STUDENT, FRAMES = "DeXpression", "student project", "640x480 frames"
CALLER_COUNTS, MAIN_COUNT, HIGH_COUNT = (1, 8, 32), 32, 256  # simultaneous callers


@dataclass(frozen=True)
class Target:
    """A target: `measured` has to be at least `bound` or, with `at_most`, at most `bound`."""

    name: str
    measured: float
    bound: float
    at_most: bool = False

    def row(self) -> str:
        """The row of the Markdown table."""
        short = self.measured - self.bound if self.at_most else self.bound - self.measured
        verdict = "not measured" if isnan(short) else "met" if short <= 0 else f"missed by {short:.2f}"
        return f"| {self.name} | {'≤' if self.at_most else '≥'} {self.bound:g} | {self.measured:.2f} | {verdict} |"


@dataclass
class Results:
    """All measurements: loads by server and number of callers, everything else by name."""

    loads: dict[tuple[str, int], list[Load]] = field(default_factory=lambda: defaultdict(list))
    # Seconds or, where the name says so, milliseconds (p50) or answers a second (rate).
    numbers: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    memory: dict[str, list[int]] = field(default_factory=dict)  # MB of each process

    def load(self, name: str | None, callers: int, field_name: str = "rate") -> float:
        """The median of one field of a Load; NaN if it was not measured or nothing was answered."""
        rounds = self.loads.get((name or "", callers), [])
        return median(getattr(load, field_name) for load in rounds) or nan if rounds else nan

    def number(self, name: str) -> float:
        """The median of a measurement by name; NaN if it was not measured."""
        return median(self.numbers.get(name, [nan]))

    def names(self) -> list[str]:
        """The names of the measured servers."""
        return list(dict.fromkeys(name for name, _ in self.loads if name != FRAMES))

    def best_peer(self) -> str | None:
        """The fastest peer with an app of its own at 32 callers; None if no peer was measured."""
        peers = [name for name in self.names() if name not in (OURS, STUDENT) and not name.startswith(SAME_APP)]
        return max(peers, key=lambda name: self.load(name, MAIN_COUNT), default=None)

    def targets(self) -> list[Target]:
        """Our targets for speed, with what was measured."""

        def ours(callers: int, field_name: str = "rate") -> float:
            return self.load(OURS, callers, field_name)

        rate, best, bare = ours(MAIN_COUNT), self.best_peer(), "bare pipeline"
        ours_all = [load for (name, _), rounds in self.loads.items() if name in (OURS, FRAMES) for load in rounds]
        more = self.number("nine faces") - self.number("one face")
        bad = sum(load.wrong + load.by_status.total() - load.by_status[200] - load.by_status[503] for load in ours_all)
        return [
            Target(f"rate at 32 callers / best peer ({best})", rate / self.load(best, MAIN_COUNT), 1.5),
            Target("rate at 32 callers / student project", rate / self.load(STUDENT, MAIN_COUNT), 10),
            Target(f"rate at 32 callers / {bare} (stretch goal: 0.7)", rate / self.number("crops, rate"), 0.5),
            Target("p99 at 32 callers / p50", ours(MAIN_COUNT, "p99") / ours(MAIN_COUNT, "p50"), 3, at_most=True),
            Target(f"p50 at 1 caller - {bare}, ms", ours(1, "p50") - self.number("crop, p50"), 1, at_most=True),
            Target(f"frames at 32 callers / {bare}", self.load(FRAMES, MAIN_COUNT) / self.number("frames, rate"), 0.6),
            Target(
                "time of a 12-megapixel photo / frame", self.number("photo") / self.number("frame"), 4, at_most=True
            ),
            Target(
                "time of one more face / single crop", 1000 * more / 8 / self.number("crop, p50"), 1.2, at_most=True
            ),
            Target("rate at 256 callers / at 32", ours(HIGH_COUNT) / rate, 0.9),
            Target(
                "time until ready / loading the learner", self.number(OURS) / self.number("learner"), 1.5, at_most=True
            ),
            Target("our answers that were wrong, or neither 200 nor 503", bad, 0, at_most=True),
        ]

    def report(self) -> str:
        """Both tables and all other measurements, as Markdown."""
        head = [
            "server",
            *(f"answers/s at {callers}" for callers in CALLER_COUNTS),
            "p50 at 32, ms",
            "p99 at 32, ms",
            "relative to ours",
        ]
        rows = [_row([*head, "ready, s", "memory, MB (processes)", "failures"]), _row(["---"] * 10)]
        for name in self.names():
            rates = [self.load(name, callers) for callers in CALLER_COUNTS]
            numbers = [f"{rate:.0f}" for rate in rates]
            numbers += [f"{self.load(name, MAIN_COUNT, percentile):.1f}" for percentile in ("p50", "p99")]
            numbers += [f"{rates[-1] / self.load(OURS, MAIN_COUNT):.2f}", f"{self.number(name):.1f}"]
            rows.append(_row([name, *numbers, self._memory(name), self._failures(name, *CALLER_COUNTS)]))
        rows += [
            "",
            "| target | bound | measured | |",
            "|---|---|---|---|",
            *(target.row() for target in self.targets()),
        ]
        rows += ["", *(f"- {name}: {self.number(name):.4g}" for name in self.numbers if name not in self.names())]
        rows += [f"- {FRAMES} at 32 callers: {self.load(FRAMES, MAIN_COUNT):.4g} a second"]
        for name, callers in self.loads:
            if callers == HIGH_COUNT:
                rate, p50, p99, slowest = (
                    self.load(name, HIGH_COUNT, field_name) for field_name in ("rate", "p50", "p99", "slowest")
                )
                times = f"p50 {p50:.0f}, p99 {p99:.0f}, slowest {slowest:.0f} ms"
                failures = self._failures(name, HIGH_COUNT) or "none"
                rows.append(f"- {name} at 256 callers: {rate:.0f} a second; {times}; failures: {failures}")
        return "\n".join(rows)

    def _memory(self, name: str) -> str:
        sizes = self.memory[name]
        return f"{sum(sizes)} ({', '.join(map(str, sizes))})" if sizes else ""

    def _failures(self, name: str, *caller_counts: int) -> str:
        """Count wrong answers, statuses other than 200 (0: no answer) and connections that the server closed."""
        failures: Counter[str] = Counter()
        for load in (load for callers in caller_counts for load in self.loads[name, callers]):
            failures.update({f"status {status}": n for status, n in load.by_status.items() if status != 200})
            failures.update({"wrong": load.wrong, "reconnects": load.reconnects})
        return ", ".join(f"{n} {failure}" for failure, n in failures.items() if n)

    def draw(self) -> Figure:
        """Draw throughput and latency (p50; dashed: p99) against the number of callers."""
        figure = Figure(figsize=(10, 4), layout="constrained")
        throughput, latency = figure.subplots(1, 2)
        for name in self.names():
            callers = sorted(number for other, number in self.loads if other == name)
            [line] = throughput.plot(callers, [self.load(name, n) for n in callers], marker="o", label=name)
            for percentile, style in (("p50", "-"), ("p99", "--")):
                values = [self.load(name, n, percentile) for n in callers]
                latency.plot(callers, values, style, marker="o", color=line.get_color())
        throughput.set(xscale="log", xlabel="callers", ylabel="answers a second", ylim=(0, None))
        latency.set(xscale="log", yscale="log", xlabel="callers", ylabel="milliseconds: p50, dashed p99")
        for axes in (throughput, latency):
            axes.set_xticks([*CALLER_COUNTS, HIGH_COUNT], [str(number) for number in (*CALLER_COUNTS, HIGH_COUNT)])
            axes.minorticks_off()
            axes.grid(alpha=0.3)
        throughput.legend(fontsize=8)
        return figure


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |".replace("| --- ", "|---").replace("--- |", "---|")
