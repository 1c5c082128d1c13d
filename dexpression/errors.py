"""What a caller can be told. Every message says what was found and how to mend it."""

from __future__ import annotations

from typing import ClassVar


class DeXpressionError(Exception):
    """Whoever called can fix this; the message is fit to be shown as it is."""


class SettingError(DeXpressionError):
    """A DEXPRESSION_* variable has a value that cannot be used."""


class RecipeError(DeXpressionError):
    """A training run cannot be made with these values."""


class DataError(DeXpressionError):
    """The faces to train or to evaluate on cannot be used as they are."""


class ArtifactError(DeXpressionError):
    """What lies in model/ cannot be loaded, or what should lie there cannot be written."""


class MissingArtifact(ArtifactError):
    """A file of the exported learner, or its manifest, is not there or cannot be read."""


class UnwritableArtifact(ArtifactError):
    """There is no room for an export, or no right to write it."""


class BrokenManifest(ArtifactError):
    """The manifest is not one of ours, or does not fit the learner."""


class BrokenLearner(ArtifactError):
    """The exported file is damaged, or holds something else."""


class DigestMismatch(ArtifactError):
    """The exported file is not the one that the manifest describes."""


class ForeignClass(ArtifactError):
    """The exported file names something that a learner has no need of; nothing of it was run."""


class IncompatibleVersion(ArtifactError):
    """The learner was exported by another fastai."""


class UnknownLabels(DeXpressionError):
    """Labels were asked for that the model does not know."""


class RequestError(DeXpressionError):
    """A request that cannot be answered. `code` is stable; the message may be reworded."""

    code, status = "bad_request", 400
    headers: ClassVar[dict[str, str]] = {}


class MissingFile(RequestError):
    code, status = "missing_file", 400


class EmptyFile(RequestError):
    code, status = "empty_file", 400


class BadBase64(RequestError):
    code, status = "bad_base64", 400


class BadParameter(RequestError):
    code, status = "bad_parameter", 400


class TooManyPictures(RequestError):
    code, status = "payload_too_large", 413


class UnsupportedMediaType(RequestError):
    code, status = "unsupported_media_type", 415


class UnreadableImage(RequestError):
    code, status = "undecodable_image", 422


class TooManyPixels(RequestError):
    code, status = "too_many_pixels", 422


class NoFace(RequestError):
    code, status = "no_face", 422


class NotReady(RequestError):
    code, status = "not_ready", 503
    headers: ClassVar[dict[str, str]] = {"Retry-After": "1"}


class Overloaded(RequestError):
    code, status = "overloaded", 503
    headers: ClassVar[dict[str, str]] = {"Retry-After": "1"}


class TooLittleMemory(Overloaded):
    def __init__(self) -> None:
        super().__init__("There is too little memory for this now. Send it again in a second, or a smaller picture.")


class Unauthorized(RequestError):
    code, status = "unauthorized", 401
    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": "Bearer"}
