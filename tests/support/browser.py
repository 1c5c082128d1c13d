"""Chromium without a window, with a camera that shows a portrait, and what tests of the page do in it."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.wait import WebDriverWait

from tests.support.faces import encode
from tests.support.server import DEADLINE_SECONDS, Server

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
OTHER_HOST = "faces.example"  # another name of this machine; browsers give it no camera, as they do for localhost

DISPATCH_FILE = """
const [contents, name, type, event] = arguments;
const transfer = new DataTransfer();
for (const [index, content] of contents.entries()) {
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  transfer.items.add(new File([bytes], index ? `${index + 1}-${name}` : name, { type }));
}
const options = { dataTransfer: transfer, clipboardData: transfer, bubbles: true, cancelable: true };
const EventClass = event === "drop" ? DragEvent : ClipboardEvent;
document.body.dispatchEvent(new EventClass(event, options));
"""


def require_chromium() -> None:
    """Skip the test without Chromium or its driver; in CI, fail."""
    if not (CHROMIUM and DRIVER):
        missing = "Chromium and its driver are not installed (Debian: chromium, chromium-driver)"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)


def open_browser(folder: Path, portrait: Image.Image, hosts: str = f"MAP {OTHER_HOST} 127.0.0.1") -> WebDriver:
    """Start Chromium; `folder` gets its profile and the film that its camera shows.

    `hosts`: rules for names of hosts, as Chromium takes them.
    """
    film = folder / "film.mjpeg"
    film.write_bytes(encode(portrait.crop((0, 0, 512, 384)), "JPEG") * 3)
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for flag in (
        "headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "no-first-run", "disable-sync",
        "disable-background-networking", "disable-component-update", "window-size=1000,900",
        f"user-data-dir={folder / 'profile'}", f"host-resolver-rules={hosts}",
        "use-fake-device-for-media-stream", f"use-file-for-fake-video-capture={film}",
    ):  # fmt: skip
        options.add_argument(f"--{flag}")
    return webdriver.Chrome(options, Service(DRIVER))


def address(server: Server) -> str:
    """The address that a user types, to which browsers give the camera."""
    return f"http://localhost:{server.port}"


def drop(page: WebDriver, *contents: bytes, name: str = "photo.jpg", media_type: str = "image/jpeg") -> None:
    """Drop files on the page; after the first, their names begin with their numbers."""
    page.execute_script(DISPATCH_FILE, _in_base64(contents), name, media_type, "drop")


def paste(page: WebDriver, content: bytes) -> None:
    """Paste a PNG picture into the page, as after a screenshot."""
    page.execute_script(DISPATCH_FILE, _in_base64([content]), "image.png", "image/png", "paste")


def _in_base64(contents: Sequence[bytes]) -> list[str]:
    return [base64.b64encode(content).decode() for content in contents]


def read(page: WebDriver, selector: str) -> str:
    """The visible text of all elements that a selector finds, one below the other."""
    return "\n".join(element.text for element in page.find_elements(By.CSS_SELECTOR, selector))


def wait(page: WebDriver, condition: Callable[[], bool]) -> None:
    """Wait until a condition is true; after DEADLINE_SECONDS the test fails with the text of the page."""
    try:
        WebDriverWait(page, DEADLINE_SECONDS, 0.1).until(lambda _: condition())
    except TimeoutException:
        pytest.fail(f"The page says: {read(page, 'body')}")


def wait_for_status(page: WebDriver, part: str) -> None:
    """Wait until the status line has this part."""
    wait(page, lambda: part in read(page, "#status"))


def is_one_face_shown(page: WebDriver) -> bool:
    return read(page, "#status").startswith("One face: ") and read(page, ".faces").startswith("Face 1: ")


def allow_camera(page: WebDriver, setting: str) -> None:
    page.execute_cdp_cmd("Browser.setPermission", {"permission": {"name": "camera"}, "setting": setting})


@contextmanager
def run_first(page: WebDriver, script: str) -> Iterator[None]:
    """Let a script run in every page that is loaded meanwhile, before the scripts of the page."""
    added = page.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    try:
        yield
    finally:
        page.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
