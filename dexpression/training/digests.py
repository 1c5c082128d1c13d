"""Digests of the faces that a network was trained on, which its manifest keeps, so that scores on them are known."""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import Iterable, Sequence

from dexpression.artifact.manifest import Manifest
from dexpression.training.face_set import Face

BYTES = 4  # of each digest: among 27,000 faces, one in 160,000 others seems to be known


logger = logging.getLogger(__name__)


def digest_face(face: Face) -> bytes:
    """The SHA-256 digest of a face's pixels."""
    return hashlib.sha256(face.image.tobytes()).digest()


def encode_digests(faces: Iterable[Face], start: Manifest | None = None) -> str:
    """The first bytes of the digests of all faces, and of those that the start of a run was trained on, as base64."""
    known = {digest_face(face)[:BYTES] for face in faces} | (_decode(start) if start else set())
    return base64.b64encode(b"".join(sorted(known))).decode()


def trained_on(manifest: Manifest, faces: Sequence[Face]) -> list[bool]:
    """Whether each face is one of those that the model was trained on; False for all if the manifest has no digests.

    Faces have the size of the model's input.
    """
    known = _decode(manifest)
    return [digest_face(face)[:BYTES] in known for face in faces]


def _decode(manifest: Manifest) -> set[bytes]:
    """The digests in a manifest, or none."""
    try:
        content = base64.b64decode(str(manifest.data.get("digests", "")))
    except ValueError:  # not base64, in a manifest from others
        return set()
    return {content[place : place + BYTES] for place in range(0, len(content), BYTES)}


def warn_of_overlap(manifest: Manifest, faces: Sequence[Face], model: str = "model") -> None:
    """Log how many of the faces to score the model was trained on, if any."""
    known = sum(trained_on(manifest, faces))
    if known:
        logger.warning(
            "The %s was trained on %d of the %d faces that are scored, so the scores are too high.",
            model,
            known,
            len(faces),
        )
