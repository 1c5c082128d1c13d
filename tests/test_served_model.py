"""The model that we ship, with its real weights."""

from __future__ import annotations

import re
import zipfile

import pytest
from conftest import encode_turned
from PIL import Image
from running import ROOT

from dexpression.artifact import load_exported
from dexpression.evaluation import evaluate
from dexpression.labels import FIVE, SEVEN
from dexpression.prediction import Predictor
from dexpression.settings import Settings
from dexpression.web.answers import ModelAnswer

FER2013 = ROOT.parent / "shared" / "data" / "fer2013.zip"
FACE = (166, 69, 278, 181)  # of scikit-image's astronaut, framed as FER2013 frames faces


@pytest.fixture(scope="module")
def shipped() -> Predictor:
    return Predictor.load(Settings.model_path)


@pytest.fixture(scope="module")
def smile(portrait: Image.Image) -> Image.Image:
    return portrait.crop(FACE)


def test_it_knows_seven_emotions_and_is_small():
    _, manifest = load_exported(Settings.model_path)
    assert tuple(manifest.labels) == SEVEN
    assert Settings.model_path.stat().st_size < 12_000_000


def test_it_gives_the_recorded_answer_to_a_smile(shipped, smile):
    face = shipped.predict(smile, "never").prediction
    assert (face.emotion, face.confidence) == ("HAPPY", pytest.approx(0.9258, abs=1e-3))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_reads_a_whole_photo_whichever_way_the_camera_was_held(shipped, portrait, orientation):
    [face] = shipped.predict(encode_turned(portrait, orientation)).faces
    assert face.prediction.emotion == "HAPPY"
    assert face.to_dict()["box"] == shipped.predict(portrait).to_dict()["faces"][0]["box"]
    assert face.prediction.confidence == pytest.approx(shipped.predict(portrait).prediction.confidence, abs=1e-3)


def test_its_card_is_what_the_interface_promises(shipped):
    card = ModelAnswer.model_validate(shipped.card(), strict=True)
    assert card.results["five"].split == "valid"
    assert card.results["five"].n > 2_000


@pytest.mark.skipif(not FER2013.exists(), reason="FER2013 is not here; it may not be distributed with the project")
def test_its_accuracy_on_valid_is_what_the_readme_and_the_card_say(shipped, tmp_path):
    with zipfile.ZipFile(FER2013) as archive:
        archive.extractall(tmp_path, [name for name in archive.namelist() if "/valid/" in name])
    results = {name: evaluate(shipped.classifier, tmp_path / "fer2013" / "valid", name) for name in ("five", "seven")}
    assert (results["five"].n, results["seven"].n) == (2_498, 3_536)
    assert results["five"].accuracy >= 0.76
    for text in (ROOT / "README.md").read_text(), (ROOT / "model" / "README.md").read_text():
        for name, labels in (("five", FIVE), ("seven", SEVEN)):
            result = results[name]
            cells = f"{result.n:,} | {result.accuracy:.1%} | {result.balanced_accuracy:.1%} |".replace("%", " %")
            assert re.search(rf"\| {name}(?!, by)\b[^|]*\| {re.escape(cells)}", text), labels
