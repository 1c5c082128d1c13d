"""The files that come with the package: the default export, and the weights of the face detector."""

from __future__ import annotations

from pathlib import Path

PACKAGE_FOLDER = Path(__file__).parent
DETECTOR_WEIGHTS = PACKAGE_FOLDER / "yunet" / "face_detection_yunet_2023mar.onnx"


def default_model_path(package_folder: Path = PACKAGE_FOLDER) -> Path:
    """The folder of the default export: in the installed package or, in a checkout, `model/` beside the package."""
    installed = package_folder / "model"
    return installed if installed.is_dir() else package_folder.parent / "model"
