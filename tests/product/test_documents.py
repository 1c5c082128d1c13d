"""Every command and example in the documents runs, and gives the answer that is printed below it."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from dexpression.labels import SEVEN
from tests.support.browser import open_browser, require_chromium
from tests.support.documents import DOCUMENTS, Block, code_blocks, comparable, copy_project
from tests.support.server import ROOT, Server

BLOCKS = [block for document in DOCUMENTS for block in code_blocks(document)]
TIMEOUT = 1_200  # seconds for one command; the longest trains a network


def examples(*languages: str) -> pytest.MarkDecorator:
    """One test for each block in these languages that says no reason not to be run."""
    chosen = [block for block in BLOCKS if block.language in languages and not block.reason]
    return pytest.mark.parametrize("block", chosen, ids=lambda block: f"{block.document} {block.text[:40]!r}")


@pytest.fixture(scope="module")
def server(light_shipped: Path) -> Iterator[Server]:
    with Server(light_shipped) as server:
        yield server


@pytest.fixture(scope="module")
def project(portrait: Image.Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_project(tmp_path_factory.mktemp("documents"), portrait)


def run(command: list[str], project: Path) -> str:
    folders = [str(project / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]  # also without activation
    environ = os.environ | {"PATH": os.pathsep.join(folders), "PYTHONPATH": str(project)}
    done = subprocess.run(command, cwd=project, env=environ, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def at(server: Server, text: str) -> str:
    """The text with the address of the running server in place of the documented one."""
    return text.replace("localhost:9874", f"localhost:{server.port}")


@pytest.fixture(scope="module")
def run_command(server: Server, project: Path) -> Callable[[str], str]:
    """Run a command of the documents, and return what it prints. A command that stands in two of them runs once."""
    return functools.cache(lambda command: run(["bash", "-c", at(server, command)], project))


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.document} {block.text[:40]!r}")
def test_a_code_block_is_run_or_says_why_not(block: Block):
    assert block.reason or block.language in ("console", "python", "html", "haproxy", "nginx")
    assert block.language != "console" or block.commands()


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT)
@examples("console")
def test_commands_give_the_printed_answer(block, run_command):
    for command, printed in block.commands():
        output = run_command(command)
        if printed:
            assert comparable(output) == comparable(printed)


@pytest.mark.slow
@examples("python")
def test_python_examples_print_something(block, server, project):
    assert run([sys.executable, "-c", at(server, block.text)], project)


@pytest.mark.slow
@examples("html")
def test_web_pages_show_an_emotion(block, server, project, portrait, tmp_path):
    require_chromium()
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.wait import WebDriverWait

    (tmp_path / "index.html").write_text(f"<!doctype html>{at(server, block.text)}")
    browser = open_browser(tmp_path, portrait)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=tmp_path)) as site:
        threading.Thread(target=site.serve_forever).start()
        try:
            browser.execute_cdp_cmd("Browser.setPermission", {"permission": {"name": "camera"}, "setting": "granted"})
            browser.get(f"http://localhost:{site.server_port}")
            for chooser in browser.find_elements(By.ID, "photo"):
                chooser.send_keys(str(project / "photo.jpg"))
            answer = browser.find_element(By.ID, "answer")
            WebDriverWait(browser, 60).until(lambda _: answer.text in SEVEN)
        finally:
            browser.quit()
            site.shutdown()


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) < 110


def test_the_portuguese_readme_has_the_same_commands_names_links_and_headings():
    documents = ("README.md", "README.pt-BR.md")
    commands = [[(block.language, block.text, block.reason) for block in code_blocks(name)] for name in documents]
    assert commands[0] == commands[1], "Change README.pt-BR.md as README.md."
    for pattern in (r"^    \S.*$", r"\]\((?!README)([^)\s]+)\)", r"^#+ ", r"`[^`\n]+`"):
        found = [sorted(re.findall(pattern, (ROOT / name).read_text(), re.MULTILINE)) for name in documents]
        assert found[0] == found[1], "Change README.pt-BR.md as README.md."


def test_links_to_files_lead_somewhere():
    for document in (
        *DOCUMENTS,
        "README.pt-BR.md",
        "SECURITY.md",
        "benchmarks/README.md",
        "notebooks/experiments.md",
        "CHANGELOG.md",
    ):
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", (ROOT / document).read_text()):
            assert ((ROOT / document).parent / target).exists(), f"{document}: {target}"
