"""The page that reads faces in the browser, without a server: its folder, and its answers in Chromium."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver

from dexpression.__main__ import main
from dexpression.artifact.manifest import Manifest, export_paths
from dexpression.evidence import evidence_maps
from dexpression.labels import READINGS, SEVEN
from dexpression.prediction import Predictor
from dexpression.settings import Settings
from dexpression.web.device_page import ORT_FILES, ORT_VERSION
from tests.support.browser import (
    allow_camera,
    drop,
    is_one_face_shown,
    open_browser,
    read,
    require_chromium,
    run_first,
    wait,
)
from tests.support.device_page import OFFLINE, make_device_page, read_on_page, serve_folder
from tests.support.exports import remove_evidence
from tests.support.faces import draw_face, encode, encode_turned
from tests.support.films import walk, write_film

PLACES = {"x", "y", "width", "height", "roll"}  # members of readings that are in pixels or degrees
COLLECT_VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
"""
# Scales a picture in RGB to some size, a part of it to another size, and reduces it; gives the bytes.
SCALE = """
const [content, width, height, box, done] = arguments;
const run = async () => {
  const { Pixels, reduce, resize, toGrey } = await import(new URL("static/pixels.js", document.baseURI));
  const pixels = new Pixels(width, height, 3, Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0)));
  const scaled = [resize(pixels, 101, 67), toGrey(resize(pixels, 48, 48, box)), reduce(pixels, 3, 2)];
  return scaled.map(({ data }) => [...data]);
};
run().then(done, (error) => done(String(error)));
"""
# Computes the evidence of one face from a model's outputs; gives the maps of its labels.
EXPLAIN = """
const [data, dims, probabilities, readout, done] = arguments;
import(new URL("static/evidence.js", document.baseURI))
  .then(({ evidenceMaps }) => evidenceMaps({ data, dims }, probabilities, readout))
  .then(done, (error) => done(String(error)));
"""


@pytest.fixture
def fake_ort(tmp_path: Path) -> Path:
    folder = tmp_path / "dist"
    folder.mkdir()
    for name in ORT_FILES:
        (folder / name).write_bytes(b"")
    return folder


@pytest.fixture
def doubtful(portrait: Image.Image) -> Image.Image:
    """The portrait with its mouth upside down: no label is certain, so small differences of pixels show."""
    mouth = (198, 132, 254, 166)
    doubtful = portrait.copy()
    doubtful.paste(portrait.crop(mouth).transpose(Image.Transpose.FLIP_TOP_BOTTOM), mouth)
    return doubtful


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the command writes, with onnxruntime-web from the registry of npm."""
    packages, folder = tmp_path_factory.mktemp("npm"), tmp_path_factory.mktemp("site") / "page"
    try:
        make_device_page(packages, folder)
    except (FileNotFoundError, subprocess.SubprocessError) as error:
        pytest.skip(f"onnxruntime-web@{ORT_VERSION} cannot be installed: {error}")
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """The address of the folder, below a path, on a web server that knows nothing of DeXpression."""
    with serve_folder(folder) as address:
        yield address


@pytest.fixture(scope="module")
def browser(portrait: Image.Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    require_chromium()
    browser = open_browser(tmp_path_factory.mktemp("offline"), portrait, OFFLINE)
    browser.set_script_timeout(120)
    yield browser
    browser.quit()


@pytest.fixture
def page(browser: WebDriver, address: str) -> Iterator[WebDriver]:
    """The page; whatever a test does there, it breaks no rule of its policy and loads nothing from elsewhere."""
    with run_first(browser, COLLECT_VIOLATIONS):
        browser.get(address)
        yield browser
        assert browser.execute_script("return window.violations") == []
        loaded = browser.execute_script("return performance.getEntriesByType('resource').map(({ name }) => name)")
        own = (address, "blob:http://127.0.0.1:", "data:")
        assert [name for name in loaded if not name.startswith(own)] == []


def assert_same(found: Any, expected: Any, tolerance: float, pixels: float) -> None:
    """Compare two readings as JSON: probabilities to a tolerance, places to some pixels, all else exactly."""
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for name, value in expected.items():
            assert_same(found[name], value, pixels if name in PLACES else tolerance, pixels)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other, tolerance, pixels)
    elif isinstance(expected, (int, float)):
        assert found == pytest.approx(expected, abs=tolerance)
    else:
        assert found == expected


def assert_same_reading(
    page: WebDriver, shipped: Predictor, content: bytes, tolerance: float, pixels: float, explain: bool = False
) -> None:
    found = read_on_page(page, content, explain="all" if explain else "false")["reading"]
    model = {"name": "dexpression", "sha256": shipped.manifest.sha256}
    expected = shipped.predict(content, explain=explain).to_dict() | {"model": model, "request_id": found["request_id"]}
    assert_same(found, expected, tolerance, pixels)


def test_a_folder_without_onnxruntime_web_is_refused_with_the_command_that_installs_it(fake_ort, tmp_path):
    (fake_ort / "ort.wasm.min.mjs").unlink()
    with pytest.raises(SystemExit, match=f"npm install onnxruntime-web@{ORT_VERSION}"):
        main(["page", str(tmp_path / "out"), "--ort", str(fake_ort)])
    assert not (tmp_path / "out").exists()


def test_a_page_replaces_an_earlier_one_and_no_other_files(fake_ort, tmp_path):
    out = tmp_path / "out"
    (out / ".git").mkdir(parents=True)
    (out / ".git" / "HEAD").touch()
    for _ in range(2):
        main(["page", str(out), "--ort", str(fake_ort)])
    (out / "static" / "letter.txt").touch()
    with pytest.raises(SystemExit, match=r"other files than a page, such as static/letter\.txt"):
        main(["page", str(out), "--ort", str(fake_ort)])


@pytest.mark.parametrize("reading", READINGS)
def test_the_page_gets_the_calibration_of_its_reading_from_the_manifest(fake_ort, tmp_path, reading):
    main(["page", str(tmp_path / "out"), "--ort", str(fake_ort), "--reading", reading])
    facts = json.loads((tmp_path / "out" / "models" / "facts.json").read_text())
    assert facts["readout"] == Manifest.of_export(Settings.model_path).calibration[reading]


def test_a_file_in_place_of_the_folder_is_refused(fake_ort, tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(SystemExit, match="cannot be made"):
        main(["page", str(tmp_path / "out"), "--ort", str(fake_ort)])


@pytest.mark.slow
def test_pictures_are_scaled_as_pillow_scales_them(page, portrait):
    picture, box = portrait.resize((200, 150)), (31.3, 22.7, 140.9, 132.3)
    content = base64.b64encode(picture.tobytes()).decode()
    sides = dict(zip(("left", "top", "right", "bottom"), box, strict=True))
    found = page.execute_async_script(SCALE, content, *picture.size, sides)
    scaled = [
        picture.resize((101, 67), Image.Resampling.BILINEAR),
        picture.resize((48, 48), Image.Resampling.BILINEAR, box=box).convert("L"),
        picture.reduce((3, 2)),
    ]
    assert [bytes(pixels) for pixels in found] == [image.tobytes() for image in scaled]


@pytest.mark.slow
def test_probabilities_of_cropped_faces_are_those_of_the_server(page, shipped):
    for label in SEVEN:
        assert_same_reading(page, shipped, encode(draw_face(label, seed=3)), tolerance=0.002, pixels=0)
    assert_same_reading(page, shipped, encode(draw_face("HAPPY", 3, 64).crop((0, 5, 64, 60))), 0.002, 0)


@pytest.mark.slow
def test_evidence_is_that_of_the_server_for_each_label(page, shipped):
    for label in SEVEN:
        assert_same_reading(page, shipped, encode(draw_face(label, seed=3)), tolerance=1e-3, pixels=0, explain=True)


@pytest.mark.slow
@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("readout", [{"vote_share": 0.3, "temperature": 0.7}, {"vote_share": 1.0, "temperature": 2.0}])
def test_evidence_of_any_reading_is_computed_as_in_python(page, heads, readout):
    random = np.random.default_rng(heads)
    evidence = random.normal(0, 4, (1, heads, 5, 3, 4))
    probabilities = np.append(random.dirichlet(np.ones(4)), 0)[None]
    given = evidence.ravel().tolist(), evidence.shape, probabilities[0].tolist(), readout
    expected = evidence_maps(evidence, probabilities, readout)
    assert np.array(page.execute_async_script(EXPLAIN, *given)) == pytest.approx(expected[0], abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(512, 512), (130, 130), (333, 512), (1000, 700)], ids=str)
def test_probabilities_of_photos_are_those_of_the_server(page, shipped, doubtful, size):
    file_format = "PNG" if max(size) == 512 else "JPEG"
    assert_same_reading(page, shipped, encode(doubtful.resize(size), file_format), tolerance=0.02, pixels=1)


@pytest.mark.slow
def test_a_large_photo_is_read_as_on_the_server_which_decodes_it_in_a_reduced_size(page, shipped, portrait):
    assert_same_reading(page, shipped, encode(portrait.resize((3000, 2900)), "JPEG"), tolerance=0.02, pixels=2)


@pytest.mark.slow
@pytest.mark.parametrize("orientation", [3, 6, 7])
def test_a_turned_photo_is_read_upright(page, shipped, doubtful, orientation):
    content = encode_turned(doubtful.resize((500, 400)), orientation, "JPEG")
    assert_same_reading(page, shipped, content, tolerance=0.02, pixels=1)


@pytest.mark.slow
def test_several_faces_come_in_the_order_of_the_server(page, shipped, doubtful):
    crowd = Image.new("RGB", (1200, 600), "white")
    for number, side in enumerate((120, 200, 300, 160)):
        crowd.paste(doubtful.resize((side, side)), (300 * number, 100))
    assert_same_reading(page, shipped, encode(crowd), tolerance=0.02, pixels=1)


@pytest.mark.slow
def test_transparent_parts_are_white_and_a_picture_without_a_face_has_none(page, shipped, portrait):
    see_through = portrait.convert("RGBA")
    see_through.putalpha(Image.fromarray(np.tile(np.linspace(120, 255, 512).astype(np.uint8), (512, 1))))
    assert_same_reading(page, shipped, encode(see_through), tolerance=0.02, pixels=1)
    assert_same_reading(page, shipped, encode(Image.new("RGB", (700, 90), "white")), tolerance=0, pixels=0)


def test_a_newer_page_replaces_an_earlier_one_with_all_its_files_and_nothing_else(fake_ort, tmp_path):
    folder = tmp_path / "page"
    write = ["page", str(folder), "--ort", str(fake_ort)]
    main(write)
    listed = json.loads((folder / "files.json").read_text())
    assert sorted(listed) == sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    former = folder / "static" / "of-an-earlier-version.js"
    former.write_text("")
    (folder / "files.json").write_text(json.dumps([*listed, "static/of-an-earlier-version.js", "../../out.txt"]))
    main(write)
    assert not former.exists()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(SystemExit, match=r"has other files than a page, such as notes\.txt"):
        main(write)
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_learner_is_refused_as_the_page_runs_the_onnx_model(fake_ort, tmp_path):
    learner = export_paths(Settings.model_path).weights
    with pytest.raises(SystemExit, match="is the learner, and the page runs the ONNX model"):
        main(["page", str(tmp_path / "page"), "--ort", str(fake_ort), "--model", str(learner)])


@pytest.mark.slow
def test_the_policy_lets_the_page_send_nothing_to_other_hosts(page):
    page.execute_script("fetch('http://127.0.0.1:9/', { method: 'POST', body: 'a' }).catch(() => {})")
    wait(page, lambda: page.execute_script("return window.violations.splice(0)") == ["connect-src"])


@pytest.mark.slow
def test_a_dropped_picture_is_shown_with_the_words_of_this_page(page, portrait):
    wait(page, lambda: "Nothing is sent anywhere." in read(page, ".drop"))
    assert "curl" not in read(page, "body")
    drop(page, encode(portrait, "JPEG"))
    wait(page, lambda: is_one_face_shown(page))
    page.find_element(By.ID, "sample").click()
    wait(page, lambda: "HAPPY" in read(page, "#status"))


@pytest.mark.slow
def test_the_switch_why_lays_a_map_over_the_face_and_says_it_in_words(page, portrait):
    drop(page, encode(portrait, "JPEG"))
    wait(page, lambda: is_one_face_shown(page))
    page.find_element(By.CSS_SELECTOR, ".buttons [aria-pressed]").click()
    wait(page, lambda: " speaks " in read(page, "#status"))
    shown, picture = (page.find_element(By.CSS_SELECTOR, name).rect for name in (".why-map", ".stage img"))
    assert shown["width"] / picture["width"] == pytest.approx(110 / 512, abs=0.02)  # the square around the face


@pytest.mark.slow
def test_of_a_model_without_evidence_the_switch_why_says_what_to_do(page, address, folder, fake_ort, tmp_path):
    model = shutil.copytree(export_paths(Settings.model_path).manifest.parent, tmp_path / "model")
    remove_evidence(model)
    older = folder / "older"
    main(["page", str(older), "--ort", str(fake_ort), "--model", str(model)])
    shutil.copytree(folder / "onnxruntime", older / "onnxruntime", dirs_exist_ok=True)
    page.get(f"{address}older/")
    drop(page, encode(draw_face("HAPPY", 0)))
    wait(page, lambda: is_one_face_shown(page))
    page.find_element(By.CSS_SELECTOR, ".buttons [aria-pressed]").click()
    wait(page, lambda: "cannot say why" in read(page, "#status"))


@pytest.mark.slow
@pytest.mark.parametrize(("content", "words"), [(b"text", "This browser cannot read the file"), (b"", "file is empty")])
def test_what_is_no_picture_is_explained(page, content, words):
    drop(page, content, name="notes.txt", media_type="text/plain")
    wait(page, lambda: words in read(page, "#status"))


@pytest.mark.slow
def test_the_newer_of_two_pictures_stays(page, portrait):
    drop(page, encode(portrait.resize((1500, 1500))))
    drop(page, encode(Image.new("RGB", (200, 200), "white")))
    wait(page, lambda: read(page, "#status") == "No face was found.")
    read_on_page(page, encode(draw_face("HAPPY", 0)))  # after the older one
    assert read(page, "#status") == "No face was found."


@pytest.mark.slow
def test_the_camera_and_a_film_are_followed(page, tmp_path):
    allow_camera(page, "granted")
    page.find_element(By.ID, "camera").click()
    wait(page, lambda: is_one_face_shown(page))
    write_film(tmp_path / "clip.webm", walk(10))
    drop(page, (tmp_path / "clip.webm").read_bytes(), name="clip.webm", media_type="video/webm")
    wait(page, lambda: "The film has ended. Faces: 1." in read(page, "#status"))


@pytest.mark.slow
def test_a_folder_that_is_not_complete_is_explained(page, folder, address):
    model = folder / "models" / "detector.onnx"
    content = model.read_bytes()
    model.unlink()
    try:
        page.refresh()
        drop(page, encode(draw_face("HAPPY", 0)))
        wait(page, lambda: "(detector.onnx: 404)" in read(page, "#status"))
    finally:
        model.write_bytes(content)


@pytest.mark.slow
def test_a_page_that_is_opened_as_a_file_says_what_to_do(browser, folder):
    browser.get((folder / "index.html").as_uri())
    wait(browser, lambda: "run python3 -m http.server" in read(browser, "#not-started"))
