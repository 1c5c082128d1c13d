"""The files of the served export, watched for changes."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType

from dexpression.artifact.manifest import export_paths


class ModelFiles:
    """Notices when the files of an export were written again."""

    def __init__(self, model_path: Path) -> None:
        self._paths = export_paths(model_path)
        self._reported = self._last_seen = self._stamps()
        self._requested = False
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, self._request)

    def have_changed(self) -> bool:
        """True once per change, when two calls in a row see the same files, so that writing has ended; or on SIGHUP."""
        stamps, before = self._stamps(), self._last_seen
        self._last_seen = stamps
        if self._requested or (stamps == before and stamps != self._reported):
            self._requested, self._reported = False, stamps
            return True
        return False

    def _request(self, _signal: int, _frame: FrameType | None) -> None:
        self._requested = True

    def _stamps(self) -> list[tuple[int, int] | None]:
        """Modification time in nanoseconds and size in bytes of each file; None for one that cannot be read."""
        stamps: list[tuple[int, int] | None] = []
        for path in self._paths:
            try:
                status = path.stat()
                stamps.append((status.st_mtime_ns, status.st_size))
            except OSError:
                stamps.append(None)
        return stamps
