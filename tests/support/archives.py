"""ZIP archives in the form that `torch.save` writes, with any contents, for tests of the unpickler."""

from __future__ import annotations

import io
import zipfile

import torch


def pickled_archive(value: object) -> bytes:
    """The archive that `torch.save` writes for a value."""
    buffer = io.BytesIO()
    torch.save(value, buffer, pickle_protocol=4)
    return buffer.getvalue()


def archive_of(program: bytes, name: str = "data.pkl", packing: int = zipfile.ZIP_STORED) -> bytes:
    """The archive that `torch.save` writes for an empty list, with the member `name` replaced by a pickle program."""
    buffer = io.BytesIO(pickled_archive([]))
    with zipfile.ZipFile(buffer) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    folder = next(iter(members)).split("/")[0]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", packing) as archive:
        for member, content in (members | {f"{folder}/{name}": program}).items():
            archive.writestr(member, content)
    return buffer.getvalue()
