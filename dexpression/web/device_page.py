"""Write the page as a folder that reads faces in the browser: with the models and onnxruntime-web, without a server."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dexpression import faces
from dexpression.errors import DataError
from dexpression.files import find_files, is_leftover, make_folders, make_output_folder, read_regular_file, replace_file
from dexpression.labels import ReadingName
from dexpression.picture import MIN_SHORT_SIDE
from dexpression.prediction import LARGEST_CROP
from dexpression.reading import MIN_FACE_CONFIDENCE
from dexpression.shipped import DETECTOR_WEIGHTS
from dexpression.web.documents import STATIC
from dexpression.web.protection import PAGE_SOURCES

ORT_VERSION = "1.30.0"  # of onnxruntime-web, with which the tests run
# Files of onnxruntime-web's entry /wasm, and their names in the folder: many web servers give .mjs a media type that
# browsers do not run.
ORT_FILES = {
    "ort.wasm.min.mjs": "ort.wasm.min.js",
    "ort-wasm-simd-threaded.mjs": "ort-wasm-simd-threaded.js",
    "ort-wasm-simd-threaded.wasm": "ort-wasm-simd-threaded.wasm",
}
MAX_ORT_BYTES = 100_000_000  # the largest has 14 million
AT_ROOT = ("index.html", "client.js")  # of the files of the page; the others lie in static/, as on a server
# A meta element knows no frame-ancestors.
POLICY = f"{PAGE_SOURCES}; script-src 'self' 'wasm-unsafe-eval'"

LIST = "files.json"  # of the paths of all files, by which a later page knows what to remove

Files = dict[str, bytes]  # by their paths in the folder


class DeviceModel(NamedTuple):
    """An ONNX model, and what device.js has to know of it."""

    content: bytes
    labels: Sequence[str]
    image_size: int  # pixels a side
    reading: ReadingName  # of its readings, the one that the page shows
    sha256: str  # of the learner
    readout: Mapping[str, Any] | None  # the manifest's calibration of the reading, if the model gives evidence


def write_device_page(folder: Path, ort: Path, model: DeviceModel) -> None:
    """Write the page, the models, and onnxruntime-web from the folder `ort` into a folder.

    The folder may have an earlier page, also of another version, which is replaced. Raises DataError if it has other
    files, if it cannot be written, or if `ort` lacks files.
    """
    files = _page_files() | _ort_files(ort) | _model_files(model)
    files[LIST] = json.dumps([*files, LIST], indent=1).encode()
    make_output_folder(folder)
    _remove_earlier(folder, files)
    for name, content in files.items():
        _write(folder, name, content)


def _model_files(model: DeviceModel) -> Files:
    content, *facts = model
    named = dict(zip(DeviceModel._fields[1:], facts, strict=True))
    return {
        "models/dexpression.onnx": content,
        "models/detector.onnx": DETECTOR_WEIGHTS.read_bytes(),
        "models/detector-LICENSE": DETECTOR_WEIGHTS.with_name("LICENSE").read_bytes(),
        "models/facts.json": json.dumps(named | {"search": _search()}, indent=2).encode(),
    }


def _search() -> dict[str, Any]:
    """The numbers of the search for faces, for detector.js."""
    return {
        "side": faces.SIDE,
        "quick_side": faces.QUICK_SIDE,
        "small_face": faces.SMALL_FACE,
        "possible": faces.POSSIBLE,
        "possible_small": faces.POSSIBLE_SMALL,
        "min_confidence": MIN_FACE_CONFIDENCE,
        "max_overlap": faces.MAX_OVERLAP,
        "max_faces": faces.MAX_FACES,
        "strides": faces.STRIDES,
        "crop_scale": faces.CROP_SCALE,
        "largest_crop": LARGEST_CROP,
        "min_short_side": MIN_SHORT_SIDE,
    }


def _page_files() -> Files:
    contents = {path.name: path.read_bytes() for path in sorted(STATIC.iterdir())}
    page = contents["index.html"].decode()
    for plain, changed in (
        ("<html ", "<html data-on-device "),
        ("<head>", f'<head>\n    <meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
    ):
        page = page.replace(plain, changed, 1)
    contents["index.html"] = page.encode()
    return {name if name in AT_ROOT else f"static/{name}": content for name, content in contents.items()}


def _ort_files(ort: Path) -> Files:
    try:
        return {f"onnxruntime/{new}": read_regular_file(ort / name, MAX_ORT_BYTES) for name, new in ORT_FILES.items()}
    except (OSError, ValueError) as error:  # the latter for a name with a zero byte
        raise DataError(
            f"{ort} has not all files of onnxruntime-web: {', '.join(ORT_FILES)}. Install it: npm install "
            f"onnxruntime-web@{ORT_VERSION}. Then give its folder dist: --ort node_modules/onnxruntime-web/dist"
        ) from error


def _remove_earlier(folder: Path, files: Files) -> None:
    """Remove what an earlier page has besides these files; raises DataError if there is anything else, not hidden."""
    found, left_out = find_files(folder, None)
    earlier = _listed_files(folder)
    superseded = []
    for path in [*found, *(one.path for one in left_out)]:
        name = path.relative_to(folder)
        if name.as_posix() in files or is_leftover(name):
            continue
        if name.as_posix() not in earlier:
            raise DataError(f"{folder} has other files than a page, such as {name}. Choose another folder.")
        superseded.append(path)
    for path in superseded:
        path.unlink()


def _listed_files(folder: Path) -> set[str]:
    """The files of the page in a folder, as it lists them itself; none if there is no page that does."""
    try:
        return set(json.loads((folder / LIST).read_bytes()))
    except (OSError, ValueError, TypeError):
        return set()


def _write(folder: Path, name: str, content: bytes) -> None:
    path = folder / name
    try:
        make_folders(folder, path.parent)
        replace_file(path, content)
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror}). Make room, or choose another folder.") from error
