"""Chromium without a window, with a camera that shows a portrait."""

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
OTHER_HOST = "faces.example"  # another name of this machine; browsers give it no camera, as they do for localhost

DISPATCH_FILE = """
const [content, name, type, event] = arguments;
const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
const transfer = new DataTransfer();
transfer.items.add(new File([bytes], name, { type }));
const options = { dataTransfer: transfer, clipboardData: transfer, bubbles: true, cancelable: true };
const EventClass = event === "drop" ? DragEvent : ClipboardEvent;
document.body.dispatchEvent(new EventClass(event, options));
"""


def open_browser(folder: Path, portrait: Image.Image) -> WebDriver:
    """Start Chromium; `folder` gets its profile and the film that its camera shows."""
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


def drop(page: WebDriver, content: bytes, name: str = "photo.jpg", media_type: str = "image/jpeg") -> None:
    """Drop a file on the page."""
    page.execute_script(DISPATCH_FILE, base64.b64encode(content).decode(), name, media_type, "drop")


def paste(page: WebDriver, content: bytes) -> None:
    """Paste a PNG picture into the page, as after a screenshot."""
    page.execute_script(DISPATCH_FILE, base64.b64encode(content).decode(), "image.png", "image/png", "paste")
