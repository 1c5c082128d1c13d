"""The page of the server in a real browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select

from dexpression.labels import SEVEN
from tests.support.browser import (
    OTHER_HOST,
    address,
    allow_camera,
    drop,
    is_one_face_shown,
    paste,
    read,
    run_first,
    wait,
    wait_for_status,
)
from tests.support.faces import OWN_LABELS, encode
from tests.support.server import Server, copy_without_learner

pytestmark = pytest.mark.slow


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


def test_a_dropped_picture_shows_a_box_on_its_face_and_every_label_as_text(page, portrait):
    drop(page, encode(portrait, "JPEG"))
    wait(page, lambda: is_one_face_shown(page))
    assert all(label in read(page, ".faces") for label in SEVEN)
    assert page.find_element(By.CSS_SELECTOR, ".faces").get_attribute("aria-label") == "Faces, largest first"
    box, picture = (page.find_element(By.CSS_SELECTOR, name).rect for name in (".box", ".stage img"))
    middle = (box["x"] + box["width"] / 2 - picture["x"]) / picture["width"]
    assert middle == pytest.approx(223 / 512, abs=0.03)  # the middle of the face


def test_the_switch_why_lays_a_map_over_the_face_and_says_it_in_words(page, portrait):
    drop(page, encode(portrait, "JPEG"))
    wait(page, lambda: is_one_face_shown(page))
    switch = page.find_element(By.CSS_SELECTOR, ".buttons [aria-pressed]")
    assert (switch.text, switch.get_attribute("aria-pressed")) == ("Why?", "false")
    switch.click()
    wait(page, lambda: switch.get_attribute("aria-pressed") == "true")
    assert " speaks " in read(page, ".faces .why-words") == read(page, "#status")
    shown, picture = (page.find_element(By.CSS_SELECTOR, name).rect for name in (".why-map", ".stage img"))
    assert shown["width"] / picture["width"] == pytest.approx(110 / 512, abs=0.02)  # the square around the face
    switch.click()
    assert page.find_elements(By.CSS_SELECTOR, ".why-map, .why-words") == []
    assert switch.get_attribute("aria-pressed") == "false"


def test_without_a_face_there_is_no_switch_why(page):
    drop(page, encode(Image.new("RGB", (200, 200), "white"), "PNG"))
    wait_for_status(page, "No face was found.")
    assert page.find_elements(By.CSS_SELECTOR, ".buttons [aria-pressed]") == []


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
    assert read(page, ".faces") == ""


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
    drop(page, b"not a picture", name="notes.txt", media_type="text/plain")
    wait(page, lambda: "The file is text, not a picture that can be read." in read(page, "#status"))


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
    assert read(page, ".faces") == ""


def test_a_new_model_with_other_labels_changes_the_list_while_the_camera_is_read(browser, light_model, own_model):
    with Server(light_model) as server:
        browser.get(address(server))
        allow_camera(browser, "granted")
        browser.find_element(By.ID, "camera").click()
        wait(browser, lambda: is_one_face_shown(browser) and "SURPRISE" in read(browser, ".faces"))
        copy_without_learner(own_model, light_model.parent)
        wait(browser, lambda: all(label in read(browser, ".faces") for label in OWN_LABELS))
        assert "SURPRISE" not in read(browser, ".faces")


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


@pytest.fixture(scope="module")
def locked_server(light_export: Path) -> Iterator[Server]:
    """A server that requires the token sesame-9."""
    with Server(light_export, DEXPRESSION_TOKEN="sesame-9") as server:
        yield server


def test_the_documentation_shows_padlocks_only_where_a_token_is_required(browser, server, locked_server):
    open_documentation(browser, server)
    assert not browser.find_elements(By.CSS_SELECTOR, ".authorize, .authorization__btn")
    open_documentation(browser, locked_server)
    assert len(browser.find_elements(By.CSS_SELECTOR, ".opblock .authorization__btn")) == 4


@pytest.fixture
def token_page(browser: WebDriver, locked_server: Server) -> Iterator[WebDriver]:
    """The page of a server that requires a token, in a tab that knows none."""
    browser.get(address(locked_server))
    yield browser
    browser.execute_script("sessionStorage.clear()")


def send_token(page: WebDriver, token: str) -> None:
    page.switch_to.active_element.send_keys(Keys.CONTROL, "a")
    page.switch_to.active_element.send_keys(token, Keys.ENTER)


def test_a_token_is_asked_for_until_it_is_right_and_the_request_is_then_repeated(token_page, portrait):
    assert not token_page.find_element(By.ID, "token").is_displayed()
    drop(token_page, encode(portrait, "JPEG"))
    wait_for_status(token_page, "This server requires a token")
    send_token(token_page, "open")
    wait_for_status(token_page, "does not know this token")
    send_token(token_page, "sesame-9")
    wait(token_page, lambda: is_one_face_shown(token_page))
    assert not token_page.find_element(By.ID, "token").is_displayed()


def test_a_token_is_kept_for_the_tab_and_a_typed_one_is_sent_with_the_next_picture(token_page, portrait):
    drop(token_page, encode(portrait, "JPEG"))
    wait_for_status(token_page, "This server requires a token")
    token_page.switch_to.active_element.send_keys("sesame-9")
    drop(token_page, encode(portrait, "JPEG"))
    wait(token_page, lambda: is_one_face_shown(token_page))
    token_page.refresh()
    drop(token_page, encode(portrait, "JPEG"))
    wait(token_page, lambda: is_one_face_shown(token_page))
    assert token_page.execute_script("return localStorage.length") == 0


# A second camera, which looks away from the person. It shows what the first one does.
SECOND_CAMERA = """
const { mediaDevices } = navigator;
const [list, open] = [mediaDevices.enumerateDevices, mediaDevices.getUserMedia].map((f) => f.bind(mediaDevices));
const back = { kind: "videoinput", deviceId: "back", label: "Back camera" };
mediaDevices.enumerateDevices = async () => [...await list(), back];
window.opened = [];
mediaDevices.getUserMedia = async ({ video: { deviceId, ...video } }) => {
  window.opened.push(deviceId?.exact ?? video.facingMode);
  const stream = await open({ video });
  const [track] = stream.getVideoTracks();
  const settings = track.getSettings();
  const changed = { ...settings, deviceId: "back", facingMode: "environment" };
  if (deviceId?.exact === "back") track.getSettings = () => changed;
  return stream;
};
"""


def test_another_camera_can_be_chosen_and_only_one_that_sees_the_person_is_mirrored(browser, server):
    with run_first(browser, SECOND_CAMERA):
        browser.get(address(server))
    allow_camera(browser, "granted")
    browser.find_element(By.ID, "camera").click()
    wait(browser, lambda: is_one_face_shown(browser))
    assert browser.find_elements(By.CSS_SELECTOR, "video.mirrored")
    Select(browser.find_element(By.ID, "cameras")).select_by_visible_text("Back camera")
    wait(browser, lambda: browser.execute_script("return window.opened") == ["user", "back"])
    wait(browser, lambda: is_one_face_shown(browser))
    assert not browser.find_elements(By.CSS_SELECTOR, "video.mirrored")
    assert Select(browser.find_element(By.ID, "cameras")).first_selected_option.text == "Back camera"


def test_with_one_camera_there_is_no_choice(page):
    allow_camera(page, "granted")
    page.find_element(By.ID, "camera").click()
    wait(page, lambda: is_one_face_shown(page))
    assert not page.find_element(By.ID, "cameras").is_displayed()


def test_a_frozen_camera_stands_still_with_its_faces_until_it_goes_on(page):
    allow_camera(page, "granted")
    freeze = page.find_element(By.ID, "freeze")
    assert not freeze.is_displayed()
    page.find_element(By.ID, "camera").click()
    wait(page, lambda: is_one_face_shown(page))
    page.execute_script(COUNT_OPEN_REQUESTS)
    freeze.click()
    wait_for_late_answers(page)
    moment = page.execute_script("return document.querySelector('video').currentTime")
    assert (freeze.text, is_one_face_shown(page)) == ("Continue", True)
    assert page.execute_script("return document.querySelector('video').currentTime") == moment
    box = page.find_element(By.CSS_SELECTOR, ".box")
    freeze.click()
    wait(page, lambda: page.find_element(By.CSS_SELECTOR, ".box") != box)


def test_one_click_reads_the_sample(page):
    page.find_element(By.ID, "sample").click()
    wait(page, lambda: is_one_face_shown(page))
    assert page.find_element(By.CSS_SELECTOR, ".stage img").get_attribute("alt") == "sample.jpg"


def tile(portrait: Image.Image, count: int, columns: int) -> bytes:
    """A picture of `count` faces."""
    side = 256
    picture = Image.new("RGB", (columns * side, -(-count // columns) * side))
    for number in range(count):
        picture.paste(portrait.resize((side, side)), (number % columns * side, number // columns * side))
    return encode(picture, "JPEG")


def numbers_on_boxes(page: WebDriver) -> list[str]:
    return [label.text for label in page.find_elements(By.CSS_SELECTOR, ".box .label")]


def test_in_a_crowd_boxes_have_numbers_cards_are_folded_and_the_status_counts(page, portrait):
    drop(page, tile(portrait, 5, 3))
    wait_for_status(page, "5 faces: ")
    counts = [int(part.split()[0]) for part in read(page, "#status").removeprefix("5 faces: ").split(", ")]
    assert (sum(counts), counts) == (5, sorted(counts, reverse=True))
    assert sorted(numbers_on_boxes(page)) == ["1", "2", "3", "4", "5"]
    assert not any(bars.is_displayed() for bars in page.find_elements(By.CSS_SELECTOR, ".bars"))
    drop(page, tile(portrait, 4, 2))
    wait_for_status(page, "4 faces: ")
    assert all(bars.is_displayed() for bars in page.find_elements(By.CSS_SELECTOR, ".bars"))


@pytest.mark.parametrize(("side", "has_words"), [(240, False), (1200, True)])
def test_a_box_that_is_narrower_than_its_label_has_a_number_alone(page, portrait, side, has_words):
    page.set_window_size(1000, 900)
    drop(
        page, encode(portrait.crop((150, 40, 300, 190) if has_words else (0, 0, 512, 512)).resize((side, side)), "JPEG")
    )
    wait(page, lambda: is_one_face_shown(page))
    [label] = numbers_on_boxes(page)
    assert (label in SEVEN, label == "1") == (has_words, not has_words)


def is_marked(page: WebDriver, number: int) -> bool:
    """Whether the box and the card of a face, and no others, are marked."""
    marked = page.find_elements(By.CSS_SELECTOR, ".active")
    return [element.get_attribute("data-face") for element in marked] == [str(number)] * 2


def test_a_face_is_marked_on_picture_and_card_by_pointer_and_focus(page, portrait):
    drop(page, tile(portrait, 5, 3))
    wait_for_status(page, "5 faces: ")
    box, card = (page.find_element(By.CSS_SELECTOR, f"{name}[data-face='3']") for name in (".box", ".faces li"))
    ActionChains(page).move_to_element(box).perform()
    assert is_marked(page, 3)
    ActionChains(page).move_to_element(page.find_element(By.CSS_SELECTOR, ".faces li[data-face='2']")).perform()
    assert is_marked(page, 2)
    box.click()
    assert card.find_element(By.CSS_SELECTOR, ".bars").is_displayed()
    ActionChains(page).move_to_element(page.find_element(By.ID, "status")).perform()
    page.switch_to.active_element.send_keys(Keys.TAB)  # from the clicked face's card to the next one
    assert is_marked(page, 4)


def test_the_picture_of_a_crowd_stays_in_sight_while_its_cards_scroll(page, portrait):
    page.set_window_size(500, 800)
    drop(page, tile(portrait, 20, 5))
    wait_for_status(page, "20 faces: ")
    last = page.find_element(By.CSS_SELECTOR, ".faces > li:last-child")
    page.execute_script("arguments[0].scrollIntoView({ block: 'end' })", last)
    top, bottom, height = page.execute_script(
        "const { top, bottom } = document.querySelector('.stage').getBoundingClientRect();"
        "return [top, bottom, innerHeight]"
    )
    assert 0 <= top < bottom < height / 2
    page.set_window_size(1000, 900)


def test_a_face_of_48_pixels_is_scaled_up_and_nothing_covers_it(page, portrait):
    drop(page, encode(portrait.crop((170, 60, 275, 180)).resize((48, 48))))
    wait(page, lambda: is_one_face_shown(page))
    assert page.find_element(By.CSS_SELECTOR, ".stage img").rect["width"] >= 300
    assert numbers_on_boxes(page) == [""]


def test_several_pictures_are_read_one_below_the_other(page, portrait):
    drop(page, encode(portrait, "JPEG"), b"not a picture", encode(Image.new("RGB", (200, 200))), tile(portrait, 2, 2))
    wait_for_status(page, "3 of 4 pictures were read. Faces: 3. ")
    articles = [element.text for element in page.find_elements(By.CSS_SELECTOR, ".result")]
    names = ("photo.jpg", "2-photo.jpg", "3-photo.jpg", "4-photo.jpg")
    assert all(name in text for name, text in zip(names, articles, strict=True))
    assert "One face: " in articles[0]
    assert "not a picture that can be read" in articles[1]
    assert "No face was found." in articles[2]
    assert "2 faces: " in articles[3]


def test_a_picture_with_more_pixels_than_the_server_allows_is_sent_again_with_less(browser, light_export, portrait):
    with Server(light_export, DEXPRESSION_MAX_PIXELS="2000000") as server:
        browser.get(address(server))
        drop(browser, encode(portrait.resize((3000, 3000)), "JPEG"))
        wait(browser, lambda: is_one_face_shown(browser))


def test_the_reading_can_be_copied_as_json_and_saved_as_a_picture(page, portrait, tmp_path):
    page.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    drop(page, encode(portrait, "JPEG"))
    wait(page, lambda: is_one_face_shown(page))
    page.execute_script("navigator.clipboard.writeText = async (text) => { window.copied = text }")
    copy, save = (page.find_element(By.XPATH, f"//button[text()='{text}']") for text in ("Copy JSON", "Save picture"))
    copy.click()
    wait(page, lambda: copy.text == "Copied")
    copied = json.loads(page.execute_script("return window.copied"))
    assert copied["faces"][0]["result"] in read(page, "#status")
    save.click()
    wait(page, lambda: (tmp_path / "photo-faces.jpg").exists())
    saved = Image.open(tmp_path / "photo-faces.jpg")
    box = copied["faces"][0]["box"]
    red, green, blue = saved.getpixel((box["x"], box["y"] + box["height"] // 2))
    assert (saved.size, red > 200, green > 150, blue < 100) == (
        portrait.size,
        True,
        True,
        True,
    )  # the yellow of the box


# What browsers of 2022 and 2023 lack: iOS 16, Firefox 115 and the like.
OLD_BROWSER = """
delete AbortSignal.any;
delete AbortSignal.timeout;
delete Object.groupBy;
delete Promise.withResolvers;
for (const name of ["ariaHidden", "ariaLabel"]) delete Element.prototype[name];
"""


def test_the_page_works_in_browsers_of_2022(browser, server, portrait):
    with run_first(browser, OLD_BROWSER):
        browser.get(address(server))
    drop(browser, encode(portrait, "JPEG"))
    wait(browser, lambda: is_one_face_shown(browser))
    assert browser.execute_script("return document.querySelector('.box').getAttribute('aria-hidden')") == "true"


def test_a_browser_that_cannot_run_the_page_is_told_what_it_needs(browser, server):
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/page.js"]})
    browser.get(address(server))
    wait(browser, lambda: "a browser of 2022 or later" in read(browser, "body"))
    browser.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})


def test_the_page_says_that_its_labels_can_differ_from_those_of_curl(page, server):
    assert read(page, "#curl") == f"curl -F file=@photo.jpg {address(server)}/"
    assert "can differ for the same photo" in read(page, "footer")


def test_nothing_of_the_page_is_against_its_own_policy(page, portrait):
    page.get_log("browser")
    page.find_element(By.ID, "sample").click()
    wait(page, lambda: is_one_face_shown(page))
    assert page.get_log("browser") == []
