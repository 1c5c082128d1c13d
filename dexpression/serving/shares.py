"""What the workers show each other and the supervisor, in shared memory."""

from __future__ import annotations

from collections.abc import MutableSequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Shares:
    """Numbers in shared memory, one of each per worker."""

    connections: MutableSequence[int]  # that are open
    beats: MutableSequence[int]  # a counter that stands still if the worker hangs
