"""Pictures as Python programs hold them, and one class of errors for whatever is none."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from dexpression.errors import EmptyFile, PictureError, UnreadableImage
from dexpression.inputs import to_picture
from tests.support.faces import draw_face, encode

GREY = draw_face("HAPPY", 0, size=96)
COLOUR = Image.merge("RGB", [draw_face(label, 0, size=96) for label in ("HAPPY", "SAD", "FEAR")])
CONTENT = encode(COLOUR)


def test_bytes_paths_files_images_and_arrays_give_the_same_picture(tmp_path):
    path = tmp_path / "face"
    path.write_bytes(CONTENT)
    pixels = np.asarray(COLOUR)
    with path.open("rb") as file, path.open("rb", buffering=0) as unbuffered:
        given = [
            *(CONTENT, bytearray(CONTENT), memoryview(CONTENT), path, str(path), file, unbuffered, io.BytesIO(CONTENT)),
            *(
                COLOUR,
                pixels,
                pixels / 255,
                np.float32(pixels / 255),
                pixels[:, ::-1][:, ::-1],
                np.asfortranarray(pixels),
            ),
        ]
        assert {to_picture(picture).image.tobytes() for picture in given} == {COLOUR.tobytes()}


def test_an_array_of_two_dimensions_is_grey():
    picture = to_picture(np.asarray(GREY))
    assert (picture.image.mode, picture.image.tobytes()) == ("L", GREY.tobytes())
    assert (to_picture(np.zeros((20, 30))).width, to_picture(np.zeros((20, 30))).height) == (30, 20)


def test_a_file_is_read_from_its_beginning_wherever_it_stands():
    file = io.BytesIO()
    COLOUR.save(file, "PNG")  # it stands at the end now
    assert to_picture(file).width == to_picture(file).width == 96


class Upload:
    """A stream that cannot go back, as from a network."""

    def read(self, size: int) -> bytes:
        return CONTENT[:size]


def test_a_stream_that_cannot_go_back_is_read_from_where_it_is():
    assert to_picture(Upload()).width == 96


def closed() -> io.BytesIO:
    file = io.BytesIO(CONTENT)
    file.close()
    return file


def cut_image() -> Image.Image:
    return Image.open(io.BytesIO(CONTENT[:500]))


WRONG = {
    "nothing, as from cv2.imread": (None, "type NoneType is not a picture. Give a path, bytes"),
    "a number, which would be an open file's": (0, "type int is not a picture"),
    "a list": ([[0, 1], [1, 0]], "type list is not a picture"),
    "channels first": (np.zeros((3, 48, 48), np.uint8), r"shape \(3, 48, 48\) .* Give \(height, width\)"),
    "four channels": (np.zeros((48, 48, 4), np.uint8), r"shape \(48, 48, 4\)"),
    "a batch": (np.zeros((1, 48, 48, 3), np.uint8), "shape"),
    "an empty array": (np.zeros((0, 48, 3), np.uint8), "shape"),
    "wide numbers": (np.zeros((48, 48), np.int64), "array of int64 is no picture. Give uint8, or floats from 0 to 1"),
    "yes and no": (np.zeros((48, 48), bool), "array of bool"),
    "floats up to 255": (np.full((48, 48), 200.0), "above 1"),
    "negative floats": (np.full((48, 48), -0.1), "below 0"),
    "no numbers": (np.full((48, 48), np.nan), "NaN"),
    "an empty image": (Image.new("RGB", (0, 0)), "has no pixels"),
    "a cut image": (cut_image(), "The PIL image is cut off"),
    "a closed file": (closed(), "closed file"),
    "a file of text": (io.StringIO("text"), "Open it in binary mode"),
    "a document": (io.BytesIO(b"%PDF-1.7"), "a PDF document, not a picture"),
    "a path of nothing": ("/nowhere/face.png", "cannot be read"),
}


@pytest.mark.parametrize("name", WRONG)
def test_whatever_cannot_be_read_is_one_class_of_error_that_says_what_to_give(name):
    given, message = WRONG[name]
    with pytest.raises(PictureError, match=message):
        to_picture(given)


def test_an_empty_file_has_its_own_class_of_these_errors():
    assert issubclass(EmptyFile, PictureError)
    with pytest.raises(EmptyFile):
        to_picture(io.BytesIO())
    assert issubclass(UnreadableImage, PictureError)
