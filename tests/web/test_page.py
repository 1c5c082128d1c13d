"""The page, in a real browser, as a person sees it."""

from __future__ import annotations

import base64
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.wait import WebDriverWait

from dexpression.labels import SEVEN
from tests.support.browser import CHROMIUM, DRIVER, OTHER_HOST, drop, open_browser, paste
from tests.support.faces import encode
from tests.support.server import free_port, start, wait_until_ready


@pytest.fixture(scope="module")
def browser(portrait: Image.Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    if not (CHROMIUM and DRIVER):
        missing = "Chromium and its driver are not installed (Debian: chromium, chromium-driver)"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    browser = open_browser(tmp_path_factory.mktemp("browser"), portrait)
    yield browser
    browser.quit()


class Server:
    """One that can be stopped, and started again on the same port."""

    def __init__(self, model: Path, **settings: str) -> None:
        self.model, self.port, self.settings = model, free_port(), settings
        self.url = f"http://localhost:{self.port}"
        self.start()

    def start(self) -> None:
        self.process: subprocess.Popen[str] = start(self.port, self.model, **self.settings)
        wait_until_ready(self.url, self.process)

    def stop(self) -> None:
        self.process.terminate()
        self.process.communicate()


@pytest.fixture(scope="module")
def server(exported_learner: Path) -> Iterator[Server]:
    server = Server(exported_learner)
    yield server
    server.stop()


@pytest.fixture
def page(browser: WebDriver, server: Server) -> WebDriver:
    browser.get(server.url)
    return browser


def read(page: WebDriver, name: str) -> str:
    return page.find_element(By.CSS_SELECTOR, name).text


def wait(page: WebDriver, until: Callable[[], bool]) -> None:
    try:
        WebDriverWait(page, 60, 0.1).until(lambda _: until())
    except TimeoutException:
        pytest.fail(f"The page says: {read(page, 'body')}")


def allow_camera(page: WebDriver, setting: str) -> None:
    page.execute_cdp_cmd("Browser.setPermission", {"permission": {"name": "camera"}, "setting": setting})


def is_one_face_shown(page: WebDriver) -> bool:
    return read(page, "#status").startswith("One face: ") and read(page, "#faces").startswith("Face 1: ")


def test_a_dropped_picture_shows_its_face_boxed_and_every_label_in_words(page, portrait):
    drop(page, encode(portrait, "JPEG"))
    wait(page, lambda: is_one_face_shown(page))
    assert all(label in read(page, "#faces") for label in SEVEN)
    box, picture = (page.find_element(By.CSS_SELECTOR, name).rect for name in (".box", "#stage img"))
    middle = (box["x"] + box["width"] / 2 - picture["x"]) / picture["width"]
    assert middle == pytest.approx(223 / 512, abs=0.03)  # where the face is


def test_a_picture_can_be_chosen_with_the_keyboard_alone(page, portrait, tmp_path):
    portrait.save(tmp_path / "photo.png")
    page.switch_to.active_element.send_keys(Keys.TAB)
    chooser = page.find_element(By.ID, "file")
    assert page.switch_to.active_element == chooser
    chooser.send_keys(str(tmp_path / "photo.png"))
    wait(page, lambda: is_one_face_shown(page))


def test_several_faces_are_counted_and_none_is_said_to_be_none(page, portrait):
    twice = Image.new("RGB", (1024, 512))
    for left in (0, 512):
        twice.paste(portrait, (left, 0))
    drop(page, encode(twice, "JPEG"))
    wait(page, lambda: read(page, "#status").startswith("2 faces: "))
    drop(page, encode(Image.new("RGB", (200, 200), "white"), "PNG"))
    wait(page, lambda: read(page, "#status") == "No face was found.")
    assert read(page, "#faces") == ""


def test_a_pasted_picture_is_read(page, portrait):
    paste(page, encode(portrait, "JPEG"))
    wait(page, lambda: is_one_face_shown(page))


def test_the_last_of_two_pictures_is_the_one_that_is_shown(page, portrait):
    drop(page, encode(portrait.resize((2000, 2000))))
    drop(page, encode(Image.new("RGB", (200, 200), "white")))
    wait(page, lambda: read(page, "#status") == "No face was found.")
    time.sleep(1)  # for an answer to the first to come late
    assert read(page, "#status") == "No face was found."


def test_what_is_no_picture_is_told_in_the_words_of_the_server(page):
    drop(page, b"no picture", "notes.txt", "text/plain")
    wait(page, lambda: "no picture that can be decoded" in read(page, "#status"))


def test_the_camera_is_read_live_until_it_is_switched_off(page):
    allow_camera(page, "granted")
    button = page.find_element(By.ID, "camera")
    button.click()
    wait(page, lambda: is_one_face_shown(page))
    first = page.find_element(By.CSS_SELECTOR, ".box")
    wait(page, lambda: page.find_element(By.CSS_SELECTOR, ".box") != first)  # the answer to another frame
    assert button.text == "Switch the camera off"
    button.click()
    wait(page, lambda: read(page, "#status") == "The camera is off.")
    assert read(page, "#faces") == ""


def test_a_refused_camera_is_explained(page):
    allow_camera(page, "denied")
    page.find_element(By.ID, "camera").click()
    wait(page, lambda: "Allow it in the browser" in read(page, "#status"))


def test_a_page_that_browsers_do_not_trust_with_a_camera_says_why(browser, server):
    browser.get(f"http://{OTHER_HOST}:{server.port}")
    browser.find_element(By.ID, "camera").click()
    wait(browser, lambda: "HTTPS" in read(browser, "#status"))


def test_the_page_recovers_by_itself_when_the_server_comes_back(page, server, portrait):
    allow_camera(page, "granted")
    for start_reading in (lambda: drop(page, encode(portrait, "JPEG")), page.find_element(By.ID, "camera").click):
        server.stop()
        start_reading()
        wait(page, lambda: "does not answer" in read(page, "#status"))
        server.start()
        wait(page, lambda: is_one_face_shown(page))


class OtherSite(BaseHTTPRequestHandler):
    """Somebody else's page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>Another page</title>")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def other_site() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), OtherSite) as site:
        threading.Thread(target=site.serve_forever).start()
        yield f"http://127.0.0.1:{site.server_port}"
        site.shutdown()


def test_another_page_can_import_the_client(browser, server, other_site, portrait):
    browser.get(other_site)
    photo = base64.b64encode(encode(portrait, "JPEG")).decode()
    result = browser.execute_async_script(
        """const [server, photo, done] = arguments;
        const { predict } = await import(server + "/client.js");
        const bytes = Uint8Array.from(atob(photo), (letter) => letter.charCodeAt(0));
        done(await predict(new Blob([bytes]), { labels: "five" }));""",
        server.url,
        photo,
    )
    assert len(result["faces"]) == 1
    assert "SAD" not in result["probabilities"]


def test_the_interface_can_be_read_without_any_other_machine(browser, server):
    browser.get(f"{server.url}/docs/")
    wait(browser, lambda: "/v1/predict" in read(browser, "body"))
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert {name.split("/")[2] for name in loaded if name.startswith("http")} == {f"localhost:{server.port}"}


def test_a_server_that_wants_a_token_is_given_the_one_that_was_typed(browser, exported_learner, portrait):
    server = Server(exported_learner, DEXPRESSION_TOKEN="sesame-9")
    try:
        browser.get(server.url)
        assert not browser.find_element(By.ID, "token").is_displayed()
        drop(browser, encode(portrait, "JPEG"))
        wait(browser, lambda: "This server wants a token" in read(browser, "#status"))
        browser.switch_to.active_element.send_keys("sesame-9")
        drop(browser, encode(portrait, "JPEG"))
        wait(browser, lambda: read(browser, "#status").startswith("One face: "))
    finally:
        server.stop()
