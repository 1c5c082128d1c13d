"""The page of the server in a real browser."""

from __future__ import annotations

import base64
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from dexpression.labels import SEVEN
from tests.support.browser import CHROMIUM, DRIVER, OTHER_HOST, drop, open_browser, paste
from tests.support.faces import OWN_LABELS, encode
from tests.support.server import DEADLINE_SECONDS, Server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser(portrait: Image.Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    if not (CHROMIUM and DRIVER):
        missing = "Chromium and its driver are not installed (Debian: chromium, chromium-driver)"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    browser = open_browser(tmp_path_factory.mktemp("browser"), portrait)
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def server(exported_learner: Path) -> Iterator[Server]:
    with Server(exported_learner, DEXPRESSION_HOSTS=OTHER_HOST) as server:
        yield server


def address(server: Server) -> str:
    """The address that a user types, to which browsers give the camera."""
    return f"http://localhost:{server.port}"


@pytest.fixture
def page(browser: WebDriver, server: Server) -> WebDriver:
    browser.get(address(server))
    return browser


def read(page: WebDriver, selector: str) -> str:
    """The visible text of an element."""
    return page.find_element(By.CSS_SELECTOR, selector).text


def wait(page: WebDriver, condition: Callable[[], bool]) -> None:
    """Wait until a condition is true; after DEADLINE_SECONDS the test fails with the text of the page."""
    try:
        WebDriverWait(page, DEADLINE_SECONDS, 0.1).until(lambda _: condition())
    except TimeoutException:
        pytest.fail(f"The page says: {read(page, 'body')}")


def allow_camera(page: WebDriver, setting: str) -> None:
    page.execute_cdp_cmd("Browser.setPermission", {"permission": {"name": "camera"}, "setting": setting})


# Counts the requests of a page whose answers have not arrived completely.
COUNT_OPEN_REQUESTS = """
const send = window.fetch;
window.openRequests = 0;
window.fetch = async (...options) => {
  window.openRequests += 1;
  try {
    const response = await send(...options);
    await response.clone().text();
    return response;
  } finally {
    window.openRequests -= 1;
  }
};
"""
ASK_AGAIN = (
    "const [done] = arguments; fetch('/health/live').then((answer) => answer.text()).then(() => setTimeout(done));"
)


def wait_for_late_answers(page: WebDriver) -> None:
    """Wait until each request since COUNT_OPEN_REQUESTS was answered or aborted, and the page has seen the answers."""
    wait(page, lambda: page.execute_script("return window.openRequests === 0"))
    page.execute_async_script(ASK_AGAIN)  # the page handles answers in their order


def is_one_face_shown(page: WebDriver) -> bool:
    return read(page, "#status").startswith("One face: ") and read(page, "#faces").startswith("Face 1: ")


def test_a_dropped_picture_shows_a_box_on_its_face_and_every_label_as_text(page, portrait):
    drop(page, encode(portrait, "JPEG"))
    wait(page, lambda: is_one_face_shown(page))
    assert all(label in read(page, "#faces") for label in SEVEN)
    box, picture = (page.find_element(By.CSS_SELECTOR, name).rect for name in (".box", "#stage img"))
    middle = (box["x"] + box["width"] / 2 - picture["x"]) / picture["width"]
    assert middle == pytest.approx(223 / 512, abs=0.03)  # the middle of the face


def test_a_picture_can_be_chosen_with_the_keyboard_alone(page, portrait, tmp_path):
    portrait.save(tmp_path / "photo.png")
    page.switch_to.active_element.send_keys(Keys.TAB)
    chooser = page.find_element(By.ID, "file")
    assert page.switch_to.active_element == chooser
    chooser.send_keys(str(tmp_path / "photo.png"))
    wait(page, lambda: is_one_face_shown(page))


def test_the_status_says_how_many_faces_were_found_or_that_there_is_none(page, portrait):
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


def test_the_newer_of_two_pictures_stays_when_the_older_one_is_answered_late(page, portrait):
    page.execute_script(COUNT_OPEN_REQUESTS)
    drop(page, encode(portrait.resize((2000, 2000))))
    drop(page, encode(Image.new("RGB", (200, 200), "white")))
    wait(page, lambda: read(page, "#status") == "No face was found.")
    wait_for_late_answers(page)
    assert read(page, "#status") == "No face was found."


def test_a_file_that_is_not_a_picture_shows_the_error_of_the_server(page):
    drop(page, b"not a picture", "notes.txt", "text/plain")
    wait(page, lambda: "The file is not a decodable image." in read(page, "#status"))


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


def test_a_new_model_with_other_labels_changes_the_list_while_the_camera_is_read(browser, model, own_model):
    with Server(model) as server:
        browser.get(address(server))
        allow_camera(browser, "granted")
        browser.find_element(By.ID, "camera").click()
        wait(browser, lambda: is_one_face_shown(browser) and "SURPRISE" in read(browser, "#faces"))
        for path in own_model.parent.iterdir():
            shutil.copy(path, model.parent)
        wait(browser, lambda: all(label in read(browser, "#faces") for label in OWN_LABELS))
        assert "SURPRISE" not in read(browser, "#faces")


def test_a_blocked_camera_is_explained(page):
    allow_camera(page, "denied")
    page.find_element(By.ID, "camera").click()
    wait(page, lambda: "Allow it in the browser" in read(page, "#status"))


def test_without_https_on_another_host_the_page_says_why_there_is_no_camera(browser, server):
    browser.get(f"http://{OTHER_HOST}:{server.port}")
    browser.find_element(By.ID, "camera").click()
    wait(browser, lambda: "HTTPS" in read(browser, "#status"))


def test_the_page_tries_again_until_a_stopped_server_has_started_again(page, server, portrait):
    allow_camera(page, "granted")
    for start_reading in (lambda: drop(page, encode(portrait, "JPEG")), page.find_element(By.ID, "camera").click):
        server.stop()
        start_reading()
        wait(page, lambda: "does not answer" in read(page, "#status"))
        server.start()
        wait(page, lambda: is_one_face_shown(page))


class OtherSite(BaseHTTPRequestHandler):
    """A page of another origin."""

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
        address(server),
        photo,
    )
    assert len(result["faces"]) == 1
    assert "SAD" not in result["probabilities"]


def open_documentation(browser: WebDriver, server: Server) -> None:
    browser.get(f"{address(server)}/docs/")
    wait(browser, lambda: "/v1/predict" in read(browser, "body"))


def test_the_documentation_loads_everything_from_this_server(browser, server):
    open_documentation(browser, server)
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert {name.split("/")[2] for name in loaded if name.startswith("http")} == {f"localhost:{server.port}"}


def test_the_documentation_reads_a_picture_without_an_error_in_the_console(browser, server, portrait, tmp_path):
    portrait.save(tmp_path / "photo.jpg")
    browser.get_log("browser")  # what earlier pages have logged
    open_documentation(browser, server)
    assert browser.find_element(By.CLASS_NAME, "opblock-tag").text.startswith("Pictures")
    operation = browser.find_element(By.ID, "operations-Pictures-predict")

    def find(selector: str) -> WebElement:
        wait(browser, lambda: bool(operation.find_elements(By.CSS_SELECTOR, selector)))
        return operation.find_element(By.CSS_SELECTOR, selector)

    find(".opblock-summary-control").click()
    find(".try-out__btn").click()
    find("input[type=file]").send_keys(str(tmp_path / "photo.jpg"))
    browser.execute_script("arguments[0].click()", find(".execute"))  # which may be below the window
    assert find(".live-responses-table .response .response-col_status").text == "200"
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_the_documentation_shows_padlocks_only_where_a_token_is_required(browser, server, exported_learner):
    open_documentation(browser, server)
    assert not browser.find_elements(By.CSS_SELECTOR, ".authorize, .authorization__btn")
    with Server(exported_learner, DEXPRESSION_TOKEN="sesame-9") as locked:
        open_documentation(browser, locked)
        assert len(browser.find_elements(By.CSS_SELECTOR, ".opblock .authorization__btn")) == 4


def test_a_server_that_requires_a_token_gets_the_one_that_was_typed(browser, exported_learner, portrait):
    with Server(exported_learner, DEXPRESSION_TOKEN="sesame-9") as server:
        browser.get(address(server))
        assert not browser.find_element(By.ID, "token").is_displayed()
        drop(browser, encode(portrait, "JPEG"))
        wait(browser, lambda: "This server requires a token" in read(browser, "#status"))
        browser.switch_to.active_element.send_keys("sesame-9")
        drop(browser, encode(portrait, "JPEG"))
        wait(browser, lambda: read(browser, "#status").startswith("One face: "))
