"""The page that reads faces in the browser: its folder, a web server for that alone, and its readings."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from selenium.webdriver.remote.webdriver import WebDriver

from dexpression.__main__ import main
from dexpression.web.device_page import ORT_VERSION
from tests.support.tools import install_node_packages

OFFLINE = "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"  # for the browser: no host has an address but this machine
# Reads a picture so many times; gives its reading and the milliseconds of each time.
READ = """
const [content, options, times, done] = arguments;
const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
const run = async () => {
  const { predict } = await import(new URL("static/device.js", document.baseURI));
  const milliseconds = [];
  let reading;
  for (let time = 0; time < times; time += 1) {
    const start = performance.now();
    reading = await predict(new Blob([bytes]), options);
    milliseconds.push(performance.now() - start);
  }
  return { reading, milliseconds };
};
run().catch((error) => ({ error: error.key ?? String(error) })).then((answer) => done(JSON.stringify(answer)));
"""


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files, as `python3 -m http.server` does, without a log."""

    def log_message(self, *_: object) -> None:
        pass


def make_device_page(packages: Path, folder: Path) -> None:
    """Write the page into a folder by the command, with onnxruntime-web from the registry of npm.

    Raises FileNotFoundError without npm, and SubprocessError if it cannot be installed.
    """
    install_node_packages(packages, f"onnxruntime-web@{ORT_VERSION}")
    main(["page", str(folder), "--ort", str(packages / "node_modules/onnxruntime-web/dist")])
    shutil.rmtree(packages)  # 150 MB


@contextlib.contextmanager
def serve_folder(folder: Path) -> Iterator[str]:
    """Serve a folder below a path of its name; gives the address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=folder.parent)) as site:
        threading.Thread(target=site.serve_forever).start()
        yield f"http://127.0.0.1:{site.server_port}/{folder.name}/"
        site.shutdown()


def read_on_page(page: WebDriver, content: bytes, times: int = 1, **options: str) -> dict[str, Any]:
    """Read a picture in the browser; gives `reading` and the `milliseconds` of each time."""
    given = base64.b64encode(content).decode(), options, times
    answer: dict[str, Any] = json.loads(page.execute_async_script(READ, *given))
    assert "error" not in answer, answer["error"]
    return answer
