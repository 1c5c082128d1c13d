"""What was measured, as tables and a figure: medians of the rounds."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from math import isnan, nan
from statistics import median

from matplotlib.figure import Figure

from benchmarks.callers import Load

OURS, STUDENT, FRAMES = "DeXpression", "student project", "640x480 frames"
CALLERS, MANY, CROWD = (1, 8, 32), 32, 256


@dataclass(frozen=True)
class Target:
    """`measured` is to be at least `bound`, or at most where `at_most`."""

    name: str
    measured: float
    bound: float
    at_most: bool = False

    def row(self) -> str:
        short = self.measured - self.bound if self.at_most else self.bound - self.measured
        verdict = "not measured" if isnan(short) else "met" if short <= 0 else f"missed by {short:.2f}"
        return f"| {self.name} | {'≤' if self.at_most else '≥'} {self.bound:g} | {self.measured:.2f} | {verdict} |"


@dataclass
class Results:
    """Of servers by name and number of callers; all else by name, in seconds, or answers a second."""

    loads: dict[tuple[str, int], list[Load]] = field(default_factory=lambda: defaultdict(list))
    figures: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    memory: dict[str, list[int]] = field(default_factory=dict)  # MB a process

    def load(self, name: str | None, callers: int, fact: str = "rate") -> float:
        """The median of one of a Load's facts; not a number where it was not measured, or nothing was answered."""
        rounds = self.loads.get((name or "", callers), [])
        return median(getattr(load, fact) for load in rounds) or nan if rounds else nan

    def figure(self, name: str) -> float:
        return median(self.figures.get(name, [nan]))

    def names(self) -> list[str]:
        return list(dict.fromkeys(name for name, _ in self.loads if name != FRAMES))

    def best_peer(self) -> str | None:
        peers = [name for name in self.names() if name not in (OURS, STUDENT)]
        return max(peers, key=lambda name: self.load(name, MANY), default=None)

    def targets(self) -> list[Target]:
        def ours(callers: int, fact: str = "rate") -> float:
            return self.load(OURS, callers, fact)

        rate, best, bare = ours(MANY), self.best_peer(), "the bare pipeline's"
        ours_all = [load for (name, _), rounds in self.loads.items() if name in (OURS, FRAMES) for load in rounds]
        more = self.figure("nine faces") - self.figure("one face")
        bad = sum(load.wrong + load.by_status.total() - load.by_status[200] - load.by_status[503] for load in ours_all)
        return [
            Target(f"rate at 32 callers, by the best peer's ({best})", rate / self.load(best, MANY), 1.5),
            Target("rate at 32 callers, by the student project's", rate / self.load(STUDENT, MANY), 10),
            Target(f"rate at 32 callers, by {bare} (stretch: 0.7)", rate / self.figure("crops, rate"), 0.5),
            Target("p99 at 32 callers, by p50", ours(MANY, "p99") / ours(MANY, "p50"), 3, at_most=True),
            Target(f"p50 of 1 caller less {bare}, ms", ours(1, "p50") - self.figure("crop, p50"), 1, at_most=True),
            Target(f"frames at 32 callers, by {bare}", self.load(FRAMES, MANY) / self.figure("frames, rate"), 0.6),
            Target("a 12-megapixel photo, by a frame", self.figure("photo") / self.figure("frame"), 4, at_most=True),
            Target("a face more, by a crop alone", 1000 * more / 8 / self.figure("crop, p50"), 1.2, at_most=True),
            Target("rate at 256 callers, by that at 32", ours(CROWD) / rate, 0.9),
            Target("ready, by loading the learner", self.figure(OURS) / self.figure("learner"), 1.5, at_most=True),
            Target("our answers that were wrong, or neither 200 nor 503", bad, 0, at_most=True),
        ]

    def report(self) -> str:
        """Markdown."""
        head = [
            "server",
            *(f"{callers} callers, 1/s" for callers in CALLERS),
            "p50 at 32, ms",
            "p99 at 32, ms",
            "by ours",
        ]
        rows = [_row([*head, "ready, s", "memory, MB (processes)", "not good"]), _row(["---"] * 10)]
        for name in self.names():
            rates = [self.load(name, callers) for callers in CALLERS]
            numbers = [f"{rate:.0f}" for rate in rates]
            numbers += [f"{self.load(name, MANY, fact):.1f}" for fact in ("p50", "p99")]
            numbers += [f"{rates[-1] / self.load(OURS, MANY):.2f}", f"{self.figure(name):.1f}"]
            rows.append(_row([name, *numbers, self._memory(name), self._failures(name, *CALLERS)]))
        rows += [
            "",
            "| target | bound | measured | |",
            "|---|---|---|---|",
            *(target.row() for target in self.targets()),
        ]
        rows += ["", *(f"- {name}: {self.figure(name):.4g}" for name in self.figures if name not in self.names())]
        rows += [f"- {FRAMES} at 32 callers: {self.load(FRAMES, MANY):.4g} a second"]
        for name, callers in self.loads:
            if callers == CROWD:
                rate, p50, p99, last = (self.load(name, CROWD, fact) for fact in ("rate", "p50", "p99", "slowest"))
                told = f"{rate:.0f} a second; ms: p50 {p50:.0f}, p99 {p99:.0f}, the last {last:.0f}"
                rows.append(f"- {name} at 256 callers: {told}; not good: {self._failures(name, CROWD) or 'none'}")
        return "\n".join(rows)

    def _memory(self, name: str) -> str:
        sizes = self.memory[name]
        return f"{sum(sizes)} ({', '.join(map(str, sizes))})" if sizes else ""

    def _failures(self, name: str, *crowds: int) -> str:
        """Wrong answers, statuses other than 200 (0: no answer) and connections that were closed."""
        failures: Counter[str] = Counter()
        for load in (load for callers in crowds for load in self.loads[name, callers]):
            failures.update({f"status {status}": n for status, n in load.by_status.items() if status != 200})
            failures.update({"wrong": load.wrong, "reconnects": load.reconnects})
        return ", ".join(f"{n} {what}" for what, n in failures.items() if n)

    def draw(self) -> Figure:
        """Throughput, and latency (p50; dashed: p99), against callers."""
        figure = Figure(figsize=(10, 4), layout="constrained")
        throughput, latency = figure.subplots(1, 2)
        for name in self.names():
            callers = sorted(number for other, number in self.loads if other == name)
            [line] = throughput.plot(callers, [self.load(name, n) for n in callers], marker="o", label=name)
            for fact, style in (("p50", "-"), ("p99", "--")):
                values = [self.load(name, n, fact) for n in callers]
                latency.plot(callers, values, style, marker="o", color=line.get_color())
        throughput.set(xscale="log", xlabel="callers", ylabel="answers a second", ylim=(0, None))
        latency.set(xscale="log", yscale="log", xlabel="callers", ylabel="milliseconds: p50, dashed p99")
        for axes in (throughput, latency):
            axes.set_xticks([*CALLERS, CROWD], [str(number) for number in (*CALLERS, CROWD)])
            axes.minorticks_off()
            axes.grid(alpha=0.3)
        throughput.legend(fontsize=8)
        return figure


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |".replace("| --- ", "|---").replace("--- |", "---|")
