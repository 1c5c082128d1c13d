"""Films on the page: the browser plays them, the server reads frames, and a timeline and rows come of it."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver

from dexpression.faces import FoundFace
from dexpression.figures.tracks import COLOURS
from dexpression.labels import SEVEN
from dexpression.picture import Box
from dexpression.reading import FaceReading, Prediction, Reading
from dexpression.video.decoding import DecodedFrame
from dexpression.video.frames import read_frames
from dexpression.video.rows import format_frame, header
from tests.support.browser import address, allow_camera, drop, is_one_face_shown, read, run_first, wait, wait_for_status
from tests.support.faces import encode
from tests.support.films import SIZE, draw_frame, walk, write_film
from tests.support.proxy import Proxy
from tests.support.server import ROOT, Server
from tests.support.web import LANDMARKS

pytestmark = pytest.mark.slow

OLD_BROWSER = "delete HTMLVideoElement.prototype.requestVideoFrameCallback;"  # Firefox before 132 has none
VIDEO = "const video = document.querySelector('video');"
# Whether a film that plays is paused while the page is hidden, and after that.
HIDE_AND_SHOW = f"""{VIDEO}
video.play();
return [true, false].map((value) => {{
  Object.defineProperty(document, "hidden", {{ value, configurable: true }});
  document.dispatchEvent(new Event("visibilitychange"));
  return video.paused;
}});"""


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of a head that moves to the right."""
    return write_film(tmp_path_factory.mktemp("films") / "walk, twice.webm", walk(20))


@pytest.fixture
def saved(browser: WebDriver, tmp_path: Path) -> Path:
    """The folder in which the browser saves files."""
    folder = {"behavior": "allow", "downloadPath": str(tmp_path)}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", folder)
    return tmp_path


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with Proxy(server.port) as proxy:
        yield proxy


def choose(page: WebDriver, *films: Path) -> None:
    page.find_element(By.ID, "file").send_keys("\n".join(map(str, films)))


def save_rows(page: WebDriver, folder: Path, name: str = "walk, twice-faces.csv") -> list[dict[str, str]]:
    """The rows of the CSV file that the page saves; the column names are those of `dexpression video`."""
    [button] = [button for button in page.find_elements(By.CSS_SELECTOR, ".buttons button") if "CSV" in button.text]
    button.click()
    wait(page, lambda: (folder / name).exists())
    text = (folder / name).read_text()
    assert text.splitlines()[0] == header("csv", SEVEN)[0]
    return list(csv.DictReader(io.StringIO(text)))


def is_box_shown(page: WebDriver) -> bool:
    return len(page.find_elements(By.CSS_SELECTOR, ".box")) == 1


def box_left(page: WebDriver) -> float:
    """The left edge of the box, in pixels of the film; -1 without one."""
    share = page.execute_script("return parseFloat(document.querySelector('.box')?.style.left ?? '-1')")
    return share / 100 * SIZE[0]


def step_to(page: WebDriver, seconds: float) -> None:
    """Step to a time in the film, and wait until a box is where its face is then."""
    page.execute_script(f"{VIDEO} video.currentTime = {seconds}")
    wait(page, lambda: box_left(page) == pytest.approx(34 + 30 * seconds, abs=6))


def times(rows: Sequence[dict[str, str]]) -> list[float]:
    return [float(row["time"]) for row in rows]


def strip_colours(page: WebDriver) -> set[str]:
    """The colours on the strip of the first track, from its left to its right; "" is blank."""
    pixels = page.execute_script(
        "const [strip] = document.querySelectorAll('.tracks canvas');"
        "return [...strip.getContext('2d').getImageData(0, 8, strip.width, 1).data]"
    )
    colours = zip(*(pixels[channel::4] for channel in range(4)), strict=True)
    return {f"#{red:02x}{green:02x}{blue:02x}" if alpha else "" for red, green, blue, alpha in colours}


@pytest.mark.parametrize("script", ["", OLD_BROWSER], ids=["new browser", "old browser"])
def test_a_chosen_film_plays_with_boxes_fills_its_timeline_and_is_saved_as_rows(browser, server, film, saved, script):
    with run_first(browser, script):
        browser.get(address(server))
    browser.get_log("browser")
    choose(browser, film)
    wait(browser, lambda: is_box_shown(browser))
    wait_for_status(browser, "The film has ended. Faces: 1.")
    for seconds in (0.1, 1.4, 0.7):  # on a busy machine, these may have been left out
        step_to(browser, seconds)
    assert read(browser, ".tracks").startswith("Face 1, 0.")
    assert any(f"{label} " in read(browser, ".tracks ul") for label in SEVEN)
    assert strip_colours(browser) - {""} <= set(COLOURS.values())
    rows = save_rows(browser, saved)
    assert len(rows) >= 4
    assert times(rows) == sorted({*times(rows)})
    places = [int(row["x"]) for row in rows]
    assert places[0] < places[-1]
    assert {(row["path"], row["track"]) for row in rows} == {("walk, twice.webm", "1")}
    assert browser.get_log("browser") == []


def recorded_faces(frames: int) -> Iterator[list[FaceReading]]:
    """Faces that cross, shake, leave and return, and whose labels jump."""
    random = np.random.default_rng(0)
    for number in range(frames):
        lefts = (10 + 4 * number, 400 - 4 * number, 200 + 60 * np.sin(number / 5))
        faces = []
        for index, left in enumerate(lefts):
            if random.uniform() < 0.15 or (index == 2 and 30 < number < 60):
                continue
            x, y = (round(place + random.normal(0, 3)) for place in (left, 60 * index))
            shares = random.dirichlet(np.linspace(0.3, 1.5, 7)[:: 1 if number % 40 < 20 else -1])
            probabilities = {label: round(share, 6) for label, share in zip(SEVEN, shares.tolist(), strict=True)}
            faces.append(FaceReading(Box(x, y, x + 50 + number % 3, y + 60), 0.9, Prediction(probabilities)))
        yield faces


class RecordedPredictor:
    """A predictor and a detector of recorded faces, which finds the number of a frame in its width."""

    def __init__(self, recorded: Sequence[list[FaceReading]]) -> None:
        self._recorded, self._found, self.detector = recorded, iter(recorded), self

    def find_faces(self, frame: Image.Image) -> list[FoundFace]:
        return [FoundFace(face.box, 1.0, LANDMARKS) for face in self._recorded[frame.width - 1]]

    def find_near(self, frame: Image.Image, _: object) -> list[FoundFace]:
        return self.find_faces(frame)

    def predict_faces(self, pictures: Sequence[object], *_: object) -> list[list[FaceReading]]:
        return list(itertools.islice(self._found, len(pictures)))


# The CSV of the page for readings, in an order in which a person who steps back and forth reads them.
READ_OUT_OF_ORDER = """
const [readings, name, done] = arguments;
const { Frames } = await import(new URL("static/frames.js", location.href));
const frames = new Frames();
for (const start of [100, 0, 50]) {
  for (const [time, reading] of readings.slice(start, start + 50)) frames.add(time, reading);
}
frames.add(...readings[50]);
done(frames.toCsv(name));
"""


def test_the_page_gives_the_tracks_labels_and_rows_of_the_command_in_whatever_order_frames_are_read(page):
    recorded = list(recorded_faces(150))
    moments = np.cumsum(np.random.default_rng(1).choice([0.04, 0.1, 0.31], len(recorded))).round(3).tolist()
    decoded = [DecodedFrame(moment, Image.new("RGB", (number, 8))) for number, moment in enumerate(moments, 1)]
    frames = read_frames(RecordedPredictor(recorded), decoded, "people")
    lines = [line for frame in frames for line in format_frame(Path("clip.webm"), frame, "csv", SEVEN)]
    expected = list(csv.reader(lines))
    readings = [
        (moment, Reading(500, 300, faces, "people").to_dict()) for moment, faces in zip(moments, recorded, strict=True)
    ]
    text = page.execute_async_script(READ_OUT_OF_ORDER, readings, "clip.webm")
    head, *rows = csv.reader(io.StringIO(text))
    assert (head, len(rows)) == (header("csv", SEVEN)[0].split(","), len(expected))
    assert [row[2] for row in rows] == [row[2] for row in expected]  # tracks
    assert [row[8] for row in rows] == [row[8] for row in expected]  # calm labels
    numbers = [[float(value) for value in row[1:8] + row[9:]] for row in rows]
    assert np.allclose(numbers, [[float(value) for value in row[1:8] + row[9:]] for row in expected], atol=2e-6)
    assert len({row[2] for row in rows}) > 3
    assert len({row[8] for row in rows}) > 3


def test_the_colours_of_the_timeline_are_those_of_the_plot():
    source = (ROOT / "dexpression" / "web" / "static" / "timeline.js").read_text()
    for label, colour in COLOURS.items():
        assert f'  {label}: "{colour}",' in source


def test_a_film_without_a_face_says_so_and_is_saved_without_rows(page, saved, tmp_path):
    choose(page, write_film(tmp_path / "empty.webm", [draw_frame()] * 5))
    wait_for_status(page, "The film has ended. No face was found.")
    assert read(page, ".tracks") == ""
    page.find_element(By.CSS_SELECTOR, ".buttons button:last-child").click()
    wait(page, lambda: (saved / "empty-faces.csv").exists())
    assert (saved / "empty-faces.csv").read_text() == f"{header('csv', [])[0]}\n"


def test_a_film_that_the_browser_cannot_play_is_explained(page, tmp_path):
    choose(page, write_film(tmp_path / "other.mp4", walk(3)))  # MPEG-4 part 2
    wait_for_status(page, "Save it as MP4 (H.264) or WebM, or read it with the command dexpression video.")
    drop(page, b"not a film", name="notes.webm", media_type="video/webm")
    wait_for_status(page, "cannot play this film")
    drop(page, b"", name="empty.webm", media_type="video/webm")
    wait_for_status(page, "The file is empty.")


def test_a_film_among_pictures_is_to_be_given_alone(page, film, portrait, tmp_path):
    portrait.save(tmp_path / "photo.jpg")
    choose(page, tmp_path / "photo.jpg", film)
    wait_for_status(page, "1 of 2 pictures were read.")
    assert "Give it alone" in read(page, ".result:last-child")


def test_a_film_waits_while_the_page_asks_for_a_token(browser, exported_learner, film, saved):
    with Server(exported_learner, DEXPRESSION_TOKEN="sesame-9") as locked:
        browser.get(address(locked))
        choose(browser, film)
        wait_for_status(browser, "This server requires a token")
        paused, end = browser.execute_script(f"{VIDEO} return [video.paused, video.currentTime]")
        browser.switch_to.active_element.send_keys("sesame-9\n")
        wait_for_status(browser, "The film has ended. Faces: 1.")
        assert paused
        assert times(save_rows(browser, saved))[0] <= end


def test_frames_for_which_the_server_is_too_busy_are_skipped_and_the_page_says_so(browser, proxy, film, saved):
    browser.get(proxy.url)
    proxy.status = 503
    choose(browser, film)
    wait_for_status(browser, "(503). This page tries again")
    proxy.status = 0
    wait_for_status(browser, "The film has ended. Faces: 1.")
    assert times(save_rows(browser, saved))[0] >= 0.9  # the page waits for a second


def test_a_film_that_is_shown_again_is_not_read_again_and_shows_its_boxes(browser, proxy, film):
    browser.get(proxy.url)
    choose(browser, film)
    wait_for_status(browser, "The film has ended.")
    seen = []
    for seconds in (0.2, 1.6, 0.2, 1.6):
        step_to(browser, seconds)
        seen.append((box_left(browser), len(proxy.posts)))
    (left, _), (right, count), *again = seen
    assert left < right
    assert again == [(left, count), (right, count)]


def test_a_film_stands_still_while_its_page_is_hidden(page, film):
    choose(page, film)
    wait_for_status(page, "The film has ended.")
    assert page.execute_script(HIDE_AND_SHOW) == [True, False]


def test_another_file_ends_a_film_and_gives_its_memory_back(page, film, portrait):
    choose(page, film)
    wait(page, lambda: is_box_shown(page))
    page.execute_script(f"{VIDEO} window.film = {{ video, address: video.src }}")
    drop(page, encode(portrait, "JPEG"))
    wait(page, lambda: bool(page.find_elements(By.CSS_SELECTOR, ".stage img")) and is_one_face_shown(page))
    assert not page.find_elements(By.CSS_SELECTOR, "video, .timeline")
    is_gone = "const [done] = arguments; fetch(film.address).then(() => done(false), () => done(film.video.paused))"
    assert page.execute_async_script(is_gone)


def test_a_damaged_film_keeps_what_was_read(page, film, saved):
    content = film.read_bytes()
    drop(page, content[: len(content) // 2], name=film.name, media_type="video/webm")
    wait(page, lambda: "has ended" in read(page, "#status") or "is damaged after" in read(page, "#status"))
    assert len(save_rows(page, saved)) > 0


def test_the_camera_shows_calm_labels_of_numbered_faces(page):
    allow_camera(page, "granted")
    page.find_element(By.ID, "camera").click()
    wait(page, lambda: is_one_face_shown(page))
    assert page.find_element(By.CSS_SELECTOR, ".faces").get_attribute("aria-label") == "Faces, by number"
    page.find_element(By.ID, "camera").click()
