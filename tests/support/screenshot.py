"""Draw imgs/page.png, the page as the README shows it: `python -W ignore -m tests.support.screenshot`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait
from skimage.data import astronaut

from dexpression.settings import Settings
from tests.support.browser import drop, open_browser
from tests.support.faces import encode
from tests.support.server import ROOT, Server


def main() -> None:
    """Serve the shipped model and drop a portrait (Eileen Collins, NASA, public domain) on the page."""
    portrait = Image.fromarray(astronaut())
    with Server(Settings.model_path) as server, tempfile.TemporaryDirectory() as folder:
        browser = open_browser(Path(folder), portrait)
        try:
            browser.set_window_size(1000, 860)
            browser.get(server.url)
            drop(browser, encode(portrait.crop((0, 0, 512, 400))))
            WebDriverWait(browser, 60).until(lambda page: "One face" in page.find_element(By.ID, "status").text)
            browser.save_screenshot(str(ROOT / "imgs" / "page.png"))
        finally:
            browser.quit()


if __name__ == "__main__":
    main()
