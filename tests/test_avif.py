"""AVIF files: what their decoder would work on is counted, and the first picture is all that it gets."""

from __future__ import annotations

import contextlib
import struct
import time

import pytest
from PIL import Image

from dexpression.avif import strip_avif
from dexpression.boxes import MAX_LAYERS, ends_in_box
from dexpression.errors import TooComplex, UnreadableImage
from dexpression.jpeg import Effort
from dexpression.picture import PixelBudget, load_picture, read_picture
from tests.support.faces import draw_face, encode
from tests.support.hostile import (
    avif_of_another_size,
    avif_of_many_frames,
    avif_with_exif,
    damage,
    exif_of_many_entries,
)

FACE = draw_face("HAPPY", 0, size=96)
COLOUR = Image.merge("RGB", [FACE, FACE, FACE])


def effort_of(content: bytes) -> float:
    effort = Effort()
    strip_avif(content, effort)
    return effort.pixels


def test_every_frame_of_every_layer_counts_with_all_its_pixels():
    half = Image.merge("RGBA", [FACE, FACE, FACE, FACE])
    assert effort_of(encode(COLOUR, "AVIF")) == 96 * 96
    assert effort_of(encode(half, "AVIF")) == 2 * 96 * 96
    assert effort_of(avif_of_many_frames(5)) == 5 * 1024 * 1024


@pytest.mark.parametrize("size", [(64, 64), (8, 1000), (1, 1)])
def test_a_picture_that_claims_fewer_pixels_than_its_stream_has_is_refused(size):
    with pytest.raises(TooComplex):
        read_picture(avif_of_another_size(*size))


def test_a_picture_may_have_as_many_frames_as_layers_and_rounding_need_and_no_more():
    assert read_picture(avif_of_many_frames(MAX_LAYERS)).size == (1024, 1024)
    with pytest.raises(TooComplex):
        read_picture(avif_of_many_frames(MAX_LAYERS + 1))


def test_the_pixels_of_a_stream_are_announced_before_they_are_decoded():
    announced: list[int] = []
    load_picture(avif_of_many_frames(1), PixelBudget(before_long=lambda: announced.append(1)))
    load_picture(encode(COLOUR, "AVIF"), PixelBudget(before_long=lambda: announced.append(2)))
    assert announced == [1]


def test_exif_is_not_read_however_much_there_is():
    content = avif_with_exif(exif_of_many_entries(30_000))
    started = time.process_time()
    assert read_picture(content).getexif() == {}
    assert time.process_time() - started < 1


def test_of_an_animation_only_the_first_picture_reaches_the_decoder():
    frames = [Image.new("L", FACE.size, shade) for shade in (0, 255)]
    animation = encode(FACE, "AVIF", save_all=True, append_images=frames)
    assert b"moov" not in strip_avif(animation, Effort())
    assert read_picture(animation).tobytes() == read_picture(encode(FACE, "AVIF")).tobytes()


@pytest.mark.parametrize("place", [b"iinf", b"iloc", b"pitm", b"iprp", b"ispe", b"ipma"])
def test_a_picture_whose_pixels_cannot_be_counted_is_refused(place):
    with pytest.raises(UnreadableImage, match="an AVIF picture, but damaged"):
        read_picture(encode(COLOUR, "AVIF").replace(place, b"free"))


def test_a_box_that_claims_millions_of_parts_is_refused_at_once():
    content = encode(COLOUR, "AVIF")
    place = content.index(b"ipma") + 8
    with pytest.raises(TooComplex):
        strip_avif(content[:place] + struct.pack(">I", 2**32 - 1) + bytes(10**6) + content[place + 4 :], Effort())


def test_every_beginning_ends_within_a_box_or_between_two():
    content = encode(COLOUR, "AVIF")
    assert not ends_in_box(content)
    assert all(ends_in_box(content[:length]) for length in range(len(content) - 50, len(content)))


@pytest.mark.parametrize("seed", range(20))
def test_damaged_bytes_keep_their_length_or_are_refused(seed):
    for content in damage(encode(COLOUR, "AVIF"), seed):
        with contextlib.suppress(TooComplex):
            assert len(strip_avif(content, Effort())) == max(4, len(content))
