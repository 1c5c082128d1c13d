"""The model that we ship, with its real weights."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from dexpression.artifact.export import load_exported
from dexpression.labels import SEVEN
from dexpression.prediction import Predictor, load_classifier
from dexpression.settings import Settings
from dexpression.training.evaluation import evaluate
from dexpression.web.answers import ModelAnswer
from tests.support.faces import encode_turned
from tests.support.server import ROOT

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
    card = ModelAnswer.model_validate(shipped.public_facts(), strict=True)
    assert card.results["five"].split == "valid"
    assert card.results["five"].n > 2_000


LEARNER_ROWS = {"five": "five(?!, by)", "seven": "seven(?!, by|, what)", "votes": "(seven, )?what more than half"}
INT8_ROWS = {"five": "five, by", "seven": "seven, by", "votes": "what people saw, by"}


@pytest.fixture(scope="module")
def fer2013(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not FER2013.exists():
        pytest.skip("FER2013 is not here; it may not be distributed with the project")
    folder = tmp_path_factory.mktemp("data")
    with zipfile.ZipFile(FER2013) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if "/train/" not in name])
    return folder / "fer2013"


@pytest.mark.parametrize(
    ("model", "rows", "texts"),
    [
        ("dexpression.pkl", LEARNER_ROWS, ["README.md", "model/README.md"]),
        ("dexpression.onnx", INT8_ROWS, ["model/README.md"]),
    ],
)
def test_its_scores_on_valid_are_what_the_readme_and_the_card_say(fer2013, model, rows, texts):
    classifier, _ = load_classifier(Settings.model_path.with_name(model))
    results = {name: evaluate(classifier, fer2013, name) for name in ("five", "seven")}
    results["votes"] = evaluate(classifier, fer2013, truth="votes")
    assert [result.n for result in results.values()] == [2_498, 3_536, 2_810]
    assert results["five"].accuracy >= 0.76
    for text in texts:
        for name, result in results.items():
            cells = f"{result.n:,} | {result.accuracy:.1%} | {result.balanced_accuracy:.1%} |".replace("%", " %")
            cells += f" {result.ece:.3f} |" if text == "model/README.md" else ""
            assert re.search(rf"\| {rows[name]}[^|]*\| {re.escape(cells)}", (ROOT / text).read_text()), cells
