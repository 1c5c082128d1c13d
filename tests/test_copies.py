"""Annotated copies replace no picture, follow no link, and leave nothing half written."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from dexpression.copies import AnnotatedCopies
from dexpression.errors import DataError

GREY = Image.new("L", (20, 10), 128)


@pytest.fixture
def picture(tmp_path) -> Path:
    """A picture in a folder of its own."""
    (tmp_path / "in").mkdir()
    GREY.save(tmp_path / "in" / "a.png")
    return tmp_path / "in" / "a.png"


@pytest.fixture
def folder(tmp_path) -> Path:
    """An empty folder for the copies."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def write(folder: Path, picture: Path, name: str = "a.png", image: Image.Image = GREY) -> None:
    AnnotatedCopies(folder, {picture: Path(name)}).write(picture, image)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_copy_replaces_a_link_and_not_its_target(tmp_path, folder, picture):
    (tmp_path / "kept").write_text("kept")
    (folder / "a.png").symlink_to(tmp_path / "kept")
    write(folder, picture)
    assert (tmp_path / "kept").read_text() == "kept"
    assert not (folder / "a.png").is_symlink()
    assert names_in(folder) == ["a.png"]


def test_a_copy_is_not_written_into_a_folder_through_a_link(tmp_path, folder, picture):
    (tmp_path / "elsewhere").mkdir()
    (folder / "sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="sub is a link, which is not followed"):
        write(folder, picture, "sub/deep/a.png")
    assert names_in(tmp_path / "elsewhere") == []


def test_a_folder_for_copies_may_itself_be_a_link(tmp_path, folder, picture):
    (tmp_path / "link").symlink_to(folder)
    write(tmp_path / "link", picture, "sub/a.png")
    assert (folder / "sub" / "a.png").is_file()


@pytest.mark.parametrize("kind", ["same path", "path through a link", "hard link", "a given link"])
def test_a_copy_never_replaces_a_picture_by_whatever_path(tmp_path, folder, picture, kind):
    given, target = picture, picture.parent
    if kind == "path through a link":
        (tmp_path / "link").symlink_to(picture.parent)
        target = tmp_path / "link"
    if kind == "hard link":
        (folder / "a.png").hardlink_to(picture)
        target = folder
    if kind == "a given link":
        (folder / "a.png").symlink_to(picture)
        given, target = folder / "a.png", folder
    before = picture.read_bytes()
    with pytest.raises(DataError, match="would replace the picture"):
        AnnotatedCopies(target, {given: Path("a.png")})
    assert picture.read_bytes() == before


def test_a_picture_that_appears_in_the_place_of_a_copy_stays(folder, picture):
    copies = AnnotatedCopies(folder, {picture: Path("a.png")})
    before = picture.read_bytes()
    picture.rename(folder / "a.png")
    with pytest.raises(DataError, match="would replace the picture"):
        copies.write(picture, GREY)
    assert (folder / "a.png").read_bytes() == before


def test_names_that_some_file_system_takes_for_the_same_get_numbers(tmp_path, folder):
    names = ["a.png", "A.PNG", "a.png", "e\u0301.png", "\u00e9.png"]
    pictures = {tmp_path / str(number): Path(name) for number, name in enumerate(names)}
    copies = AnnotatedCopies(folder, pictures)
    for picture in pictures:
        copies.write(picture, GREY)
    assert names_in(folder) == sorted(["a.png", "A_2.PNG", "a_3.png", "e\u0301.png", "\u00e9_2.png"])


@pytest.mark.parametrize(
    ("name", "size"), [("a.webp", (16_384, 1)), ("a.gif", (1, 65_536)), ("a.jpg", (65_501, 1)), ("a.JPEG", (1, 65_536))]
)
def test_a_size_that_a_format_cannot_hold_is_refused_and_leaves_no_file(folder, picture, name, size, capfd):
    with pytest.raises(DataError, match=r"cannot be written as \w+ with"):
        write(folder, picture, name, Image.new("RGB", size))
    assert names_in(folder) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["n" * 255, "taken.png"])
def test_a_copy_that_cannot_be_written_is_refused_and_leaves_no_file(folder, picture, name):
    (folder / "taken.png").mkdir()
    with pytest.raises(DataError, match=r"The copy .* cannot be written"):
        write(folder, picture, name)
    assert names_in(folder) == ["taken.png"]


def test_a_folder_that_cannot_be_made_is_refused(picture):
    with pytest.raises(DataError, match=r"a\.png cannot be made"):
        AnnotatedCopies(picture, {picture: Path("a.png")})
