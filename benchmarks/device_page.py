"""The time of a frame in the browser and in Python: `pipenv run python -W ignore -m benchmarks.device_page`.

Chromium and Python take turns, with one thread each. It needs Chromium and npm.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median

from PIL import Image
from skimage.data import astronaut

from dexpression import Predictor
from dexpression.artifact.manifest import load_onnx_model
from dexpression.faces import FaceDetector
from dexpression.shipped import default_model_path
from tests.support.browser import open_browser
from tests.support.device_page import OFFLINE, make_device_page, read_on_page, serve_folder
from tests.support.faces import encode

ROUNDS, TIMES = 5, 10
SIZES = [(48, 48), (640, 480), (1280, 960)]


def main() -> None:
    """Print a table of medians in milliseconds."""
    portrait = Image.fromarray(astronaut())
    predictor = Predictor.from_onnx_model(load_onnx_model(default_model_path()), FaceDetector.load(threads=1))
    with tempfile.TemporaryDirectory() as name:
        packages, folder, profile = (Path(name) / part for part in ("npm", "page", "browser"))
        packages.mkdir()
        profile.mkdir()
        make_device_page(packages, folder)
        browser = open_browser(profile, portrait, OFFLINE)
        try:
            with serve_folder(folder) as address:
                browser.set_script_timeout(120)
                browser.get(address)
                print("| picture | browser | Python | ratio |\n|---|---|---|---|")
                for size in SIZES:
                    content = encode(portrait.resize(size), "JPEG")
                    read_on_page(browser, content)  # loads the models
                    there, here = [], []
                    for _ in range(ROUNDS):
                        there += read_on_page(browser, content, TIMES)["milliseconds"]
                        here += [_milliseconds(predictor, content) for _ in range(TIMES)]
                    row = median(there), median(here), median(there) / median(here)
                    print("| {}x{} | {:.1f} ms | {:.1f} ms | {:.1f} |".format(*size, *row))
        finally:
            browser.quit()


def _milliseconds(predictor: Predictor, content: bytes) -> float:
    start = time.perf_counter()
    predictor.predict(content)
    return 1000 * (time.perf_counter() - start)


if __name__ == "__main__":
    main()
