"""Only regular files are read, links are not followed, and names are shown on one line."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from dexpression.errors import UnreadableImage
from dexpression.files import find_files, find_folders, is_folder, printable, read_picture_file, read_regular_file

SUFFIXES = {".png"}


def special_file(path: Path, kind: str) -> Path:
    """Make a pipe, a socket, a folder, or a link to a device; skips the test where the system has none."""
    if kind == "pipe" and hasattr(os, "mkfifo"):
        os.mkfifo(path)
    elif kind == "socket" and hasattr(socket, "AF_UNIX"):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    elif kind == "folder":
        path.mkdir()
    elif kind == "device" and Path("/dev/zero").exists():
        path.symlink_to("/dev/zero")
    else:
        pytest.skip(f"this system has no {kind}")
    return path


def open_files() -> int | None:
    """The number of files that this process holds open; None where the system does not say."""
    return len(list(Path("/dev/fd").iterdir())) if is_folder("/dev/fd") else None


@pytest.mark.parametrize("kind", ["pipe", "socket", "folder", "device"])
def test_a_file_that_is_not_regular_is_refused_at_once(tmp_path, kind):
    path = special_file(tmp_path / "a.png", kind)
    before = open_files()
    with pytest.raises(OSError, match=r"not a regular file|No such device"):
        read_regular_file(path, 100)
    with pytest.raises(UnreadableImage, match="The file cannot be read"):
        read_picture_file(path)
    assert open_files() == before


def test_a_file_over_the_limit_is_refused_and_one_at_the_limit_read(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert read_regular_file(tmp_path / "a", 5) == b"12345"
    with pytest.raises(OSError, match="a has more than 4 bytes"):
        read_regular_file(tmp_path / "a", 4)


@pytest.mark.parametrize("name", ["x" * 5000, "zero\0byte", "missing"])
def test_a_name_that_no_file_can_have_is_no_folder_and_is_unreadable(name):
    assert not is_folder(name)
    with pytest.raises(UnreadableImage, match="The file cannot be read"):
        read_picture_file(name)


def test_files_are_found_at_any_depth_in_order(tmp_path):
    deepest = tmp_path
    for name in ["b"] * 150 + ["a.png"]:
        deepest = deepest / name
    deepest.mkdir(parents=True)
    expected = [tmp_path / "a.PNG", deepest / "x.png"]
    for path in (*expected, tmp_path / "notes.txt"):
        path.write_bytes(b"")
    assert find_files(tmp_path, SUFFIXES) == (expected, [])


@pytest.mark.parametrize("kind", ["pipe", "socket", "folder", "device"])
def test_what_has_the_name_of_a_file_and_is_none_is_left_out(tmp_path, kind):
    path = special_file(tmp_path / "a.png", kind)
    files, [left_out] = find_files(tmp_path, SUFFIXES)
    assert (files, left_out.path) == ([], path)


def test_links_are_left_out_with_a_reason(tmp_path):
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "a.png").write_bytes(b"")
    links = {"file.png": "in/a.png", "folder": "in", "loop": ".", "nothing.png": "nowhere"}
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    (tmp_path / "link.txt").symlink_to("in/a.png")  # is of no interest, like any other text file
    files, left_out = find_files(tmp_path, SUFFIXES)
    assert files == [tmp_path / "in" / "a.png"]
    assert [path.name for path, _ in left_out] == sorted(links)
    assert {reason for _, reason in left_out} == {"a link, which is not followed"}
    assert find_folders(tmp_path)[0] == [tmp_path / "in"]


def test_a_folder_that_cannot_be_listed_is_left_out_with_a_reason(tmp_path):
    missing = tmp_path / "missing"
    for find in (find_folders, lambda path: find_files(path, SUFFIXES)):
        [left_out] = find(missing)[1]
        assert left_out.path == missing
        assert left_out.reason.startswith("a folder that cannot be listed")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Zoë 😀 a b\\c.png", "Zoë 😀 a b\\c.png"),
        ("a\nb\tc\r\x1b[31m\x7f", "a\\nb\\tc\\r\\x1b[31m\\x7f"),
        ("\udcff \x9b \u202e \u2028", "\\udcff \\x9b \\u202e \\u2028"),
    ],
)
def test_only_characters_that_could_change_lines_or_a_terminal_become_escapes(text, shown):
    assert printable(text) == shown
