"""What the workers show each other and the supervisor, in shared memory."""

from __future__ import annotations

from collections.abc import MutableSequence
from dataclasses import dataclass


@dataclass(frozen=True)
class SharedCounters:
    """Counters in shared memory, one of each per worker."""

    connections: MutableSequence[int]  # that are open
    heartbeats: MutableSequence[int]  # it increases as long as the worker does not hang
