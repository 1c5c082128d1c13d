"""The shipped model, with its real weights."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from dexpression import Predictor
from dexpression.artifact.manifest import export_paths
from dexpression.labels import SEVEN, ReadingName
from dexpression.settings import Settings
from dexpression.training.evaluation import Truth, evaluate, labelled_faces
from dexpression.web.answers import ModelAnswer
from tests.support.faces import encode_turned
from tests.support.server import ROOT

FER2013 = ROOT.parent / "shared" / "data" / "fer2013.zip"
FACE = (166, 69, 278, 181)  # in the portrait, framed as FER2013 frames faces


@pytest.fixture(scope="module")
def smile(portrait: Image.Image) -> Image.Image:
    return portrait.crop(FACE)


def test_it_knows_seven_emotions_and_its_files_are_under_12_mb(shipped):
    assert shipped.classifier.labels == tuple(shipped.manifest.labels) == SEVEN
    assert all(path.stat().st_size < 12_000_000 for path in export_paths(Settings.model_path))


@pytest.mark.parametrize(
    ("suffix", "reading", "confidence"),
    [
        (".onnx", "people", 1.0),
        (".onnx", "labels", 0.9188),
        pytest.param(".pkl", "people", 1.0, marks=pytest.mark.slow),
        pytest.param(".pkl", "labels", 0.9197, marks=pytest.mark.slow),
    ],
)
def test_it_gives_the_recorded_prediction_for_a_smile(smile, suffix, reading, confidence):
    predictor = Predictor.load(export_paths(Settings.model_path).onnx.with_suffix(suffix))
    face = predictor.predict(smile, "never", reading=reading).prediction
    assert (face.emotion, face.confidence) == ("HAPPY", pytest.approx(confidence, abs=1e-3))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_reads_a_photo_alike_in_every_exif_orientation(shipped, portrait, orientation):
    [face] = shipped.predict(encode_turned(portrait, orientation)).faces
    assert face.prediction.emotion == "HAPPY"
    assert face.to_dict()["box"] == shipped.predict(portrait).to_dict()["faces"][0]["box"]
    assert face.prediction.confidence == pytest.approx(shipped.predict(portrait).prediction.confidence, abs=1e-3)


def test_its_public_facts_have_the_form_that_the_interface_documents(shipped):
    facts = ModelAnswer.model_validate(shipped.public_facts(), strict=True)
    assert (facts.readings, facts.calibration.keys()) == (["people", "labels"], {"people", "labels"})
    for reading in ("people", "labels"):
        assert facts.results[reading]["five"].split == "valid"
        assert facts.results[reading]["five"].n > 2_000


@pytest.fixture(scope="module")
def fer2013(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The valid split of FER2013, and the FER+ votes."""
    if not FER2013.exists():
        pytest.skip("FER2013 is not here; it must not be distributed with the project")
    folder = tmp_path_factory.mktemp("data")
    with zipfile.ZipFile(FER2013) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if "/train/" not in name])
    return folder / "fer2013"


@pytest.fixture(scope="module")
def results() -> list[str]:
    """The lines of the model card under headings that start with Results."""
    card = (ROOT / "model" / "README.md").read_text()
    return "".join(re.findall(r"^#+ Results.*?(?=^#|\Z)", card, re.MULTILINE | re.DOTALL)).splitlines()


@pytest.mark.slow
def test_its_scores_on_the_valid_split_are_those_of_the_model_card(shipped, fer2013, results):
    truths: dict[ReadingName, Truth] = {"people": "votes", "labels": "labels"}
    scores = {
        (reading, name): evaluate(
            shipped.classifier, *labelled_faces(shipped.classifier, fer2013, name, truth=truth), reading
        )
        for reading, truth in truths.items()
        for name in ("five", "seven")
    }
    assert [score.n for score in scores.values()] == [2_396, 3_137, 2_498, 3_536]
    assert scores["people", "five"].accuracy >= 0.93
    assert scores["labels", "five"].accuracy >= 0.76
    for (reading, name), score in scores.items():
        shares = f"{score.accuracy:.1%} | {score.balanced_accuracy:.1%} | {score.ece:.3f}"
        row = f"| `{reading}` | {name} | {score.n:,} | {shares} |"
        assert row.replace("%", " %") in results
