"""Decoding: formats, modes, EXIF, large pictures, and files that are not pictures."""

from __future__ import annotations

import re
import struct

import numpy as np
import pytest
from PIL import Image, ImageChops

from dexpression.errors import EmptyFile, OtherLargePictures, TooComplex, TooManyPixels, UnreadableImage
from dexpression.kinds import FORMATS, name_kind
from dexpression.picture import (
    ONE_LARGE_PICTURE,
    Box,
    PixelBudget,
    frame_face,
    load_picture,
    read_picture,
    to_grey,
    turn_upright,
)
from tests.support.faces import draw_face, encode, encode_turned
from tests.support.hostile import progressive_jpeg, run_length_bmp

FACE = draw_face("HAPPY", 0, size=96)
COLOUR = Image.merge("RGB", [FACE, FACE, FACE])
NOISY = Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)).resize((240, 240))


def opaque() -> Image.Image:
    return COLOUR.convert("RGBA")


@pytest.mark.parametrize(
    ("file_format", "image", "tolerance"),
    [
        ("PNG", FACE, 0),
        ("PNG", COLOUR, 0),
        ("PNG", opaque(), 0),
        ("PNG", FACE.convert("LA"), 0),
        ("PNG", FACE.convert("P"), 0),
        ("PNG", FACE.convert("I;16").point(lambda value: value * 257), 1),
        ("JPEG", FACE, 6),
        ("JPEG", COLOUR, 6),
        ("JPEG", COLOUR.convert("CMYK"), 6),
        ("WEBP", COLOUR, 6),
        ("BMP", COLOUR, 0),
        ("GIF", FACE, 0),
        ("AVIF", FACE, 6),
        ("AVIF", COLOUR, 6),
    ],
)
def test_a_face_has_the_same_pixels_in_every_format_and_mode(file_format, image, tolerance):
    picture = read_picture(encode(image, file_format))
    assert picture.mode in ("L", "RGB")
    assert np.abs(np.asarray(to_grey(picture), int) - np.asarray(FACE, int)).mean() <= tolerance


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_upright_as_its_exif_says(orientation):
    upright = read_picture(encode_turned(FACE, orientation))
    assert upright.tobytes() == FACE.tobytes()
    assert turn_upright(upright).tobytes() == FACE.tobytes()  # a second call changes nothing


def test_the_effort_of_all_pictures_of_a_request_counts_together():
    run_lengths, budget = run_length_bmp(2000, 1000, b"\x00\x01"), PixelBudget()
    for _ in range(2):
        with pytest.raises(UnreadableImage):  # its pixels are not there, but it was worked on
            load_picture(run_lengths, budget)
    with pytest.raises(TooComplex):
        load_picture(run_lengths, budget)


@pytest.mark.parametrize("content", [encode(Image.new("1", (1500, 1500))), progressive_jpeg(1000, 1000, 30)])
def test_what_makes_a_request_take_long_is_announced_before_it_is_decoded(content):
    announced = []
    load_picture(content, PixelBudget(before_long=lambda: announced.append(1)))
    load_picture(encode(FACE), PixelBudget(before_long=lambda: announced.append(2)))
    assert announced == [1]


def test_only_one_large_picture_is_decoded_at_a_time_and_small_ones_do_not_wait(monkeypatch):
    monkeypatch.setattr("dexpression.picture.TURN_SECONDS", 0.1)
    large = encode(Image.new("L", (2000, 2000)))
    with ONE_LARGE_PICTURE:
        with pytest.raises(OtherLargePictures):
            load_picture(large)
        assert load_picture(encode(FACE)).width == 96
    assert load_picture(large).width == 2000
    assert not ONE_LARGE_PICTURE.locked()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow warns, and decodes the picture
@pytest.mark.parametrize("garbage", [b"Exif\0\0" + bytes(20), b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0"])
def test_a_picture_with_damaged_exif_is_read(garbage):
    assert read_picture(encode(FACE, "JPEG", exif=garbage)).size == FACE.size


def test_an_error_for_a_missing_file_says_that_it_cannot_be_read(tmp_path):
    with pytest.raises(UnreadableImage, match="cannot be read"):
        read_picture(tmp_path / "none.png")


def test_an_upright_picture_in_mode_l_or_rgb_is_not_copied():
    assert turn_upright(COLOUR) is COLOUR
    assert turn_upright(FACE) is FACE


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_picture_is_reduced_and_its_original_size_is_kept(file_format, orientation):
    large = COLOUR.resize((3000, 4000))
    picture = load_picture(encode_turned(large, orientation, file_format))
    assert (picture.width, picture.height) == (3000, 4000)
    assert 960 <= min(picture.image.size) <= 1500
    assert picture.to_original(Box(0, 0, *picture.image.size)) == Box(0, 0, 3000, 4000)
    whole = read_picture(encode_turned(large, orientation, file_format))
    assert whole.size == (3000, 4000)
    assert ImageChops.difference(whole.resize((30, 40)), picture.image.resize((30, 40))).getextrema()[0][1] < 12


def test_a_picture_with_a_shorter_side_under_twice_the_minimum_is_not_reduced():
    assert load_picture(encode(Image.new("L", (4000, 1919)), "JPEG")).image.size == (4000, 1919)


def test_transparent_parts_become_white():
    assert read_picture(encode(Image.new("RGBA", (4, 4), (0, 0, 0, 0)))).getpixel((0, 0)) == (255, 255, 255)


def test_a_picture_with_16_bits_a_pixel_keeps_all_256_shades():
    ramp = Image.fromarray(np.linspace(0, 65535, 256, dtype=np.uint16)[None])
    assert np.asarray(read_picture(encode(ramp))).ravel().tolist() == list(range(256))


def test_an_animation_is_read_as_its_first_frame():
    animation = encode(FACE, "GIF", save_all=True, append_images=[Image.new("L", FACE.size)])
    assert to_grey(read_picture(animation)).tobytes() == FACE.tobytes()


def test_an_empty_file_has_its_own_error():
    with pytest.raises(EmptyFile, match="empty"):
        read_picture(b"")


@pytest.mark.parametrize("content", [b"x", b"%PDF-1.4 not a picture", encode(FACE, "TIFF"), bytes(100)])
def test_the_error_for_what_is_no_picture_names_what_it_is_and_what_to_send(content):
    with pytest.raises(UnreadableImage, match=f"The file is {name_kind(content)}, not a picture .* Send JPEG, PNG"):
        read_picture(content)


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 0.9, 0.97])
def test_a_picture_that_is_cut_off_is_refused_as_cut_off_in_every_format(file_format, share):
    content = encode(NOISY, file_format)
    with pytest.raises(UnreadableImage, match=r"is cut off: its last part is missing\. Send"):
        load_picture(content[: int(share * len(content))])


def test_a_damaged_picture_is_not_called_cut_off():
    content = encode(NOISY)
    with pytest.raises(UnreadableImage, match="a PNG picture, but damaged"):
        read_picture(content.replace(b"IHDR", b"JHDR"))


JPEGS = {
    "baseline": encode(NOISY, "JPEG", quality=95),
    "progressive": encode(NOISY, "JPEG", progressive=True),
    "with a restart in each row": encode(NOISY, "JPEG", restart_marker_rows=1),
    "with a restart in each block": encode(NOISY, "JPEG", restart_marker_blocks=1),
}


@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.parametrize("end", [b"", b"\xff", bytes(5_000), b"\xff" + bytes(5_000), b"\xff\xd8\xff\xe0"])
def test_a_jpeg_without_its_end_marker_is_read_if_all_pixels_are_there(kind, end):
    whole = JPEGS[kind]
    assert read_picture(whole[:-2] + end).tobytes() == read_picture(whole).tobytes()


@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.parametrize("end", [b"", bytes(50_000), b"\xff\xd8\xff\xe0"])
def test_a_jpeg_that_is_cut_off_is_refused_wherever_it_is_cut(kind, end):
    whole = JPEGS[kind]
    restarts = [found.start() for found in re.finditer(rb"\xff[\xd0-\xd7]", whole)]
    for place in (*range(len(whole) // 2, len(whole) - 100, 997), *restarts[5:-5:50]):
        with pytest.raises(UnreadableImage, match="cut off"):
            read_picture(whole[:place] + end)


def bmp(alpha: np.ndarray) -> bytes:
    """The colour picture as a BMP file whose header says that there is transparency."""
    pixels = np.dstack([np.asarray(COLOUR)[::-1, :, ::-1], alpha]).tobytes()
    header = struct.pack("<IiiHHIIiiII", 108, 96, 96, 1, 32, 3, len(pixels), 2835, 2835, 0, 0)
    header += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    return b"BM" + struct.pack("<IHHI", 122 + len(pixels), 0, 0, 122) + header + pixels


def test_a_bmp_whose_every_pixel_claims_to_be_transparent_is_opaque_as_other_programs_show_it():
    assert read_picture(bmp(np.zeros((96, 96), np.uint8))).tobytes() == COLOUR.tobytes()
    half = np.repeat(np.uint8([0, 255]), 48)[None].repeat(96, axis=0)
    shown = np.asarray(read_picture(bmp(half)))
    assert (shown[:, :48] == 255).all()
    assert (shown[:, 48:] == np.asarray(COLOUR)[:, 48:]).all()


def test_too_many_pixels_are_refused_before_they_are_decoded():
    truncated = encode(Image.new("1", (4000, 4000)))[:200]  # decoding these bytes would raise UnreadableImage
    with pytest.raises(TooManyPixels, match="1000000 pixels"):
        read_picture(truncated, PixelBudget(1_000_000))


def test_a_picture_counts_before_it_is_decoded_and_only_if_it_fits():
    budget = PixelBudget(20_000)
    with pytest.raises(UnreadableImage):
        read_picture(encode(FACE)[:200], budget)
    assert budget.left == 20_000 - 96 * 96
    with pytest.raises(TooManyPixels):
        read_picture(encode(FACE.resize((120, 120))), budget)
    assert read_picture(encode(FACE), budget).size == FACE.size


def test_the_frame_of_a_wide_picture_is_its_centred_square():
    wide = Image.new("L", (300, 100), 0)
    wide.paste(255, (100, 0, 200, 100))
    assert np.asarray(frame_face(wide, 48))[:, 1:-1].min() == 255  # the outermost columns blend with their neighbours


def test_scaling_down_is_antialiased():
    stripes = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (480, 240)))
    middle = np.asarray(frame_face(stripes, 48))[4:-4, 4:-4]
    assert np.ptp(middle.astype(int)) < 30
