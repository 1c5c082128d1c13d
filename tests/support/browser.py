"""A real browser, with a camera that films a portrait."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.remote.webdriver import WebDriver

from tests.support.faces import encode

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
OTHER_HOST = "faces.example"  # this machine by a name that browsers do not trust as they trust localhost

HAND_OVER = """
const bytes = Uint8Array.from(atob(arguments[0]), (letter) => letter.charCodeAt(0));
const carried = new DataTransfer();
carried.items.add(new File([bytes], arguments[1], { type: arguments[2] }));
const options = { dataTransfer: carried, clipboardData: carried, bubbles: true, cancelable: true };
const Kind = arguments[3] === "drop" ? DragEvent : ClipboardEvent;
document.body.dispatchEvent(new Kind(arguments[3], options));
"""


def open_browser(folder: Path, portrait: Image.Image) -> WebDriver:
    """Chromium without a window; its profile and what its camera shows lie in `folder`."""
    film = folder / "film.mjpeg"
    film.write_bytes(encode(portrait.crop((0, 0, 512, 384)), "JPEG") * 3)
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for flag in (
        "headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "no-first-run", "disable-sync",
        "disable-background-networking", "disable-component-update", "window-size=1000,900",
        f"user-data-dir={folder / 'profile'}", f"host-resolver-rules=MAP {OTHER_HOST} 127.0.0.1",
        "use-fake-device-for-media-stream", f"use-file-for-fake-video-capture={film}",
    ):  # fmt: skip
        options.add_argument(f"--{flag}")
    return webdriver.Chrome(options, Service(DRIVER))


def drop(page: WebDriver, content: bytes, name: str = "photo.jpg", kind: str = "image/jpeg") -> None:
    """Drop a file on the page."""
    page.execute_script(HAND_OVER, base64.b64encode(content).decode(), name, kind, "drop")


def paste(page: WebDriver, content: bytes) -> None:
    """Paste a picture, as after a screenshot."""
    page.execute_script(HAND_OVER, base64.b64encode(content).decode(), "image.png", "image/png", "paste")
