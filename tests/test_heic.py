"""HEIC files: the picture, its tiles and its transparency are all that the decoder gets, and its work is counted."""

from __future__ import annotations

import contextlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from dexpression.batch import predict_pictures
from dexpression.boxes import MAX_LAYERS
from dexpression.errors import PictureError, TooComplex, TooManyPixels, UnreadableImage
from dexpression.heic import register_decoder, strip_heic
from dexpression.jpeg import Effort
from dexpression.kinds import find_format
from dexpression.picture import PixelBudget, load_picture, read_picture
from tests.support.faces import encode
from tests.support.hostile import damage
from tests.support.server import ROOT

pytest.importorskip("pillow_heif", reason="HEIC is read with the extra heic")

from tests.support.heic import (
    COLOUR,
    FACE,
    Item,
    alpha,
    box,
    encode_heic,
    encode_turned_heic,
    grid_item,
    many_frames,
    of_another_size,
    one_tile_many_times,
    orientation_exif,
    picture_item,
    seeds,
    size,
    write_heic,
)

TURN = box(b"irot", b"\1")


def square() -> Item:
    """A picture of 96x96 pixels."""
    item = picture_item(encode_heic(COLOUR))
    return item._replace(properties=[*item.properties, size(96, 96)])


def difference(one: Image.Image, other: Image.Image) -> float:
    """The mean difference of the pixels of two pictures, 0..255."""
    assert (one.mode, one.size) == (other.mode, other.size)
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).mean())


@pytest.mark.parametrize("options", [{}, {"tile_size": 64}, {"chroma": 444}])
@pytest.mark.parametrize("picture", [FACE, COLOUR, COLOUR.crop((0, 0, 95, 33))])
def test_the_pixels_of_a_picture_and_of_a_picture_of_tiles_are_read(picture, options):
    assert difference(read_picture(encode_heic(picture, **options)), picture) < 6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_once_though_its_boxes_and_its_exif_say_how(orientation):
    picture = COLOUR.crop((0, 0, 96, 64))
    content = encode_turned_heic(picture, orientation)
    assert (b"irot" in content or b"imir" in content) == (orientation > 1)
    assert orientation_exif(orientation) in content
    assert difference(read_picture(content), picture) < 6
    loaded = load_picture(content)
    assert (loaded.width, loaded.height, loaded.image.size) == (96, 64, (96, 64))


def test_exif_alone_does_not_turn_a_picture_because_the_standard_says_so():
    content = encode_turned_heic(COLOUR, 1).replace(orientation_exif(1), orientation_exif(6))
    assert read_picture(content).tobytes() == read_picture(encode_heic(COLOUR)).tobytes()


def test_transparent_parts_are_white_and_high_dynamic_range_is_read_in_8_bits():
    transparent = Image.new("RGBA", (96, 96), (90, 30, 60, 0))
    assert read_picture(encode_heic(transparent)).getextrema() == ((255, 255),) * 3
    deep = Image.fromarray(np.full((96, 96), 30_000, np.uint16))
    assert difference(read_picture(encode_heic(deep)), Image.new("L", (96, 96), 30_000 // 256)) < 2


def test_of_several_pictures_the_primary_one_is_read_and_the_others_do_not_count():
    others = [Image.new("RGB", (1000, 1000), shade) for shade in ("red", "green")]
    content = encode_heic(COLOUR, save_all=True, append_images=others, primary_index=0)
    budget = PixelBudget()
    assert difference(load_picture(content, budget).image, COLOUR) < 6
    assert budget.pixels - budget.left + budget.effort.pixels < 100_000
    assert strip_heic(content, Effort()).count(b"hvc1") == 1


@pytest.mark.parametrize("brand", [b"heic", b"hevc", b"mif1", b"msf1"])
def test_a_picture_under_each_brand_is_read_and_the_frames_of_a_film_in_it_are_left_out(brand):
    content = write_heic([square()], brand=brand) + box(b"moov", bytes(100))
    assert find_format(content) == "HEIF"
    assert b"moov" not in strip_heic(content, Effort())
    assert difference(read_picture(content), COLOUR) < 6


def test_exif_previews_and_depth_do_not_reach_the_decoder():
    depth = square()._replace(properties=[*square().properties, box(b"auxC", bytes(4), b"urn:example:depth\0")])
    items = [square(), depth, square(), Item(b"Exif", bytes(99))]
    content = write_heic(items, [(b"auxl", 2, [1]), (b"thmb", 3, [1]), (b"cdsc", 4, [1])])
    stripped = strip_heic(content, Effort())
    assert (len(stripped), stripped.count(b"hvc1"), stripped.count(b"Exif")) == (len(content), 1, 0)
    assert difference(read_picture(content), COLOUR) < 6


@pytest.mark.parametrize("length", [12, 40, 200, 400, 1_000, -300, -1])
def test_a_picture_whose_last_part_is_missing_is_refused_as_cut_off(length):
    with pytest.raises(UnreadableImage, match="a HEIC picture that is cut off"):
        read_picture(encode_heic(COLOUR)[:length])


@pytest.mark.parametrize("length", [-300, -1])
def test_a_picture_whose_last_tile_is_cut_off_is_refused(length):
    with pytest.raises(UnreadableImage, match="cut off"):
        read_picture(encode_heic(COLOUR, tile_size=64)[:length])


@pytest.mark.parametrize("place", [b"iinf", b"iloc", b"pitm", b"iprp", b"ispe", b"ipma", b"hvcC"])
def test_a_picture_whose_pixels_cannot_be_counted_is_refused(place):
    with pytest.raises(UnreadableImage, match="a HEIC picture, but damaged"):
        read_picture(encode_heic(COLOUR).replace(place, b"free"))


def test_every_tile_counts_as_often_as_it_is_named_and_every_frame_of_a_stream():
    effort = Effort()
    strip_heic(one_tile_many_times(4, 4), effort)
    assert effort.pixels == 16 * 256 * 256
    assert read_picture(many_frames(MAX_LAYERS)).size == (1024, 1024)
    for content in (many_frames(MAX_LAYERS + 1), one_tile_many_times(20, 20, claimed=64)):
        with pytest.raises(TooComplex):
            read_picture(content)


@pytest.mark.parametrize("side", [64, 300, 599, 601])
def test_a_picture_that_claims_another_size_than_its_stream_has_is_refused(side):
    with pytest.raises(UnreadableImage):
        read_picture(of_another_size(side, side))


BOMBS = {
    "a stream": lambda: of_another_size(32_000, 32_000),
    "a stream of the largest number": lambda: of_another_size(2**31 - 1, 2**31 - 1),
    "tiles": lambda: one_tile_many_times(25, 25, side=1_280),
    "tiles, of one": lambda: write_heic([grid_item(1, 1, 32_000, 32_000), square()], [(b"dimg", 1, [2])]),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_picture_of_a_gigapixel_is_refused_before_it_is_decoded(name):
    budget = PixelBudget(before_long=lambda: pytest.fail("The picture is about to be decoded."))
    with pytest.raises((TooManyPixels, TooComplex)):
        load_picture(BOMBS[name](), budget)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory of a process where Linux tells it")
def test_a_picture_that_claims_a_gigapixel_takes_no_memory():
    program = """
from pathlib import Path
from dexpression.errors import PictureError
from dexpression.picture import read_picture
from tests.test_heic import BOMBS, COLOUR, encode_heic
def peak(): return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
contents = [make() for make in BOMBS.values()]
read_picture(encode_heic(COLOUR))
before = peak()
for content in contents:
    try: read_picture(content)
    except PictureError: pass
    else: raise AssertionError
assert peak() - before < 20_000_000, peak() - before
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], cwd=ROOT, check=True)


HOSTILE = {
    "a picture that is turned twice": lambda: write_heic(
        [square()._replace(properties=[*square().properties, TURN, TURN])]
    ),
    "a picture that is its own transparency": lambda: write_heic([alpha(square())], [(b"auxl", 1, [1])]),
    "two pictures, each the transparency of the other": lambda: write_heic(
        [alpha(square()), alpha(square())], [(b"auxl", 1, [2]), (b"auxl", 2, [1])]
    ),
    "a grid of itself": lambda: write_heic([grid_item(1, 1, 96, 96)], [(b"dimg", 1, [1])]),
    "a grid of a grid": lambda: write_heic(
        [grid_item(1, 1, 96, 96), grid_item(1, 1, 96, 96), square()], [(b"dimg", 1, [2]), (b"dimg", 2, [3])]
    ),
    "a grid of a tile that is not there": lambda: write_heic([grid_item(1, 1, 96, 96)], [(b"dimg", 1, [9])]),
    "a grid that claims another size": lambda: one_tile_many_times(2, 2).replace(size(512, 512), size(64, 64)),
    "a grid of too few tiles": lambda: write_heic([grid_item(2, 1, 192, 96), square()], [(b"dimg", 1, [2])]),
    "a picture of overlays": lambda: write_heic([Item(b"iovl", bytes(99), [size(96, 96)]), square()]),
    "a picture in AV1": lambda: write_heic([square()._replace(kind=b"av01")]),
    "a transparency that is named too often": lambda: write_heic(
        [square(), alpha(square())], [(b"auxl", 2, [1] * 200)]
    ),
    "no items": lambda: box(b"ftyp", b"heic", bytes(4), b"mif1heic"),
    "many boxes": lambda: write_heic([square()]) + box(b"free") * 20_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_no_camera_writes_is_refused(name):
    with pytest.raises(PictureError, match=r"Save (it|the picture) anew"):
        read_picture(HOSTILE[name]())


@pytest.mark.parametrize("seed", range(5))
def test_damaged_bytes_give_a_picture_or_an_error(seed):
    for content in seeds():
        for damaged in damage(content, seed):
            with contextlib.suppress(PictureError):
                assert max(load_picture(damaged, PixelBudget(2_000_000)).image.size) <= 2_000_000


def test_a_heic_picture_of_a_folder_is_read_and_its_annotated_copy_is_a_png(shipped, portrait, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "IMG_1.HEIC").write_bytes(encode_turned_heic(portrait, 6))
    assert predict_pictures(shipped, [tmp_path / "in"], annotated_folder=tmp_path / "out") == []
    assert "\tHAPPY\t" in capsys.readouterr().out
    with Image.open(tmp_path / "out" / "IMG_1.HEIC.png") as copy:
        assert (copy.format, copy.size) == ("PNG", (512, 512))


def test_the_decoder_uses_one_thread_and_leaves_previews_alone():
    from pillow_heif import options

    register_decoder()
    assert (options.DECODE_THREADS, options.THUMBNAILS, options.DEPTH_IMAGES, options.AUX_IMAGES) == (
        1,
        False,
        False,
        False,
    )


@pytest.mark.slow
def test_the_decoder_is_loaded_only_when_a_picture_needs_it():
    program = f"""
import sys
from dexpression.picture import read_picture
read_picture({encode(FACE)!r})
assert "pillow_heif" not in sys.modules
read_picture({encode_heic(FACE)!r})
assert "pillow_heif" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_without_the_extra_the_error_says_how_to_get_it_or_what_to_send(monkeypatch):
    whole = encode_heic(COLOUR)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # an import of it fails
    for content in (whole, whole[:100]):
        with pytest.raises(UnreadableImage, match=r"HEIC picture.* Send JPEG, .*, or install the decoder: \S+"):
            read_picture(content)
    assert read_picture(encode(COLOUR)).size == (96, 96)
