"""The errors that a caller can fix. Every message says what was found and what to do about it."""

from __future__ import annotations

from typing import ClassVar


class DeXpressionError(Exception):
    """An error that the caller can fix; its message may be shown as it is."""


class SettingError(DeXpressionError):
    """A DEXPRESSION_* variable has a value that cannot be used."""


class StartError(DeXpressionError):
    """The server's processes cannot start."""


class MissingExtra(DeXpressionError):
    """A command needs libraries that are not installed."""


class RecipeError(DeXpressionError):
    """A training run is not possible with these options."""


class BrokenCheckpoint(DeXpressionError):
    """The checkpoint of a training run is damaged."""


class WorseModel(DeXpressionError):
    """A trained model is worse than the one that its export would replace."""


class DataError(DeXpressionError):
    """The faces for training or evaluation, or the pictures to predict, cannot be used as they are."""


class UnreadableFilm(DeXpressionError):
    """A film cannot be read, or only its beginning."""


class UnknownLabels(DeXpressionError):
    """The model does not know the requested labels."""


class UnknownDetection(DeXpressionError):
    """There is no such way to detect faces."""


class UnknownReading(DeXpressionError):
    """The model does not have the requested reading."""


class NoEvidence(DeXpressionError):
    """The model gives no evidence, so it cannot explain its answers."""

    def __init__(self) -> None:
        super().__init__(
            "The model gives no evidence: it was exported by a version before explanations, or its network is `paper`. "
            "Export its learner again (docs/training.md), or do not ask for an explanation."
        )


class ArtifactError(DeXpressionError):
    """An export cannot be loaded, or cannot be written."""


class MissingArtifact(ArtifactError):
    """A file of the export does not exist or cannot be read."""


class UnwritableArtifact(ArtifactError):
    """The disk is full, or the folder may not be written to."""


class BrokenManifest(ArtifactError):
    """The manifest is not valid, or does not fit the learner."""


class BrokenWeights(ArtifactError):
    """The file of weights is damaged, or does not fit the network, or the network no longer answers as recorded."""


class BrokenOnnxModel(ArtifactError):
    """The ONNX model is damaged, or is not one that an export writes."""


class DigestMismatch(ArtifactError):
    """A file is not the one that the manifest describes."""


class PictureError(DeXpressionError):
    """A picture cannot be read, whatever the reason. `code` is stable; the message may be reworded."""

    code: ClassVar[str] = "undecodable_image"


class EmptyFile(PictureError):
    """The file has no bytes."""

    code = "empty_file"


class UnreadableImage(PictureError):
    """The file, image or array is not a picture of an accepted form, or is damaged, cut off, or cannot be opened."""


class MissingDecoder(UnreadableImage):
    """The picture is of a form whose decoder is not installed."""


class TooManyPixels(PictureError):
    """The picture has more pixels than are allowed."""

    code = "too_many_pixels"


class TooComplex(PictureError):
    """Decoding the picture would take much longer than that of other pictures of its size."""

    code = "too_complex"

    def __init__(self) -> None:
        super().__init__(
            "The file takes too long to decode for a picture of its size. Save the picture anew as JPEG or PNG."
        )


class OutOfMemory(PictureError):
    """There is not enough free memory for the picture at the moment."""

    code = "overloaded"

    def __init__(self) -> None:
        super().__init__("There is not enough free memory. Try again in a second, or with a smaller picture.")


class OtherLargePictures(PictureError):
    """Other large pictures are decoded in this process, and the turn of this one has not come."""

    code = "overloaded"

    def __init__(self) -> None:
        super().__init__("Other large pictures are decoded. Try again in a second, or with a smaller picture.")
