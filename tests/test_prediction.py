"""Predictions of faces and readings of pictures, by the shipped ONNX model and by a learner."""

from __future__ import annotations

import hashlib
import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dexpression import Predictor
from dexpression.artifact.manifest import export_paths
from dexpression.errors import BrokenWeights, NoEvidence, UnknownDetection, UnknownReading, UnreadableImage
from dexpression.faces import FaceDetector
from dexpression.labels import SEVEN
from dexpression.prediction import FaceClassifier
from dexpression.reading import Prediction
from dexpression.settings import Settings
from tests.support.faces import draw_face, encode

FACES = [draw_face(label, seed, size) for label in SEVEN for seed, size in ((0, 48), (1, 100))]


@pytest.fixture(scope="module")
def classifier(shipped: Predictor) -> FaceClassifier:
    return shipped.classifier


def probabilities(predictions: list[Prediction]) -> np.ndarray:
    return np.array([list(prediction.probabilities.values()) for prediction in predictions])


@pytest.mark.slow
def test_a_pkl_file_gives_the_predictions_of_its_learner_in_every_format(exported_learner: Path, tmp_path):
    from dexpression.artifact.export import load_exported

    learner, _ = load_exported(exported_learner)
    predictor = Predictor.load(exported_learner)
    for file_format in ("PNG", "JPEG", "WEBP", "BMP", "GIF"):
        for number, face in enumerate(FACES[:4]):
            path = tmp_path / f"{number}.{file_format.lower()}"
            path.write_bytes(encode(face, file_format))
            label, _, expected = learner.predict(path)
            prediction = predictor.predict(path, "never").prediction
            assert prediction.emotion == label
            assert np.allclose(probabilities([prediction])[0], expected, atol=1e-4)


def test_the_predictions_of_a_batch_are_those_of_single_faces(classifier):
    batch = probabilities(classifier.predict(FACES))
    single = np.concatenate([probabilities(classifier.predict([face])) for face in FACES])
    assert np.allclose(batch, single, atol=1e-5)


def test_many_threads_get_the_readings_that_one_thread_gets(shipped, portrait):
    pictures = [*FACES, portrait.resize((200, 200))]
    one_by_one = [shipped.predict(picture).to_dict() for picture in pictures] * 10
    with ThreadPoolExecutor(32) as threads:
        assert list(threads.map(lambda picture: shipped.predict(picture).to_dict(), pictures * 10)) == one_by_one


def test_probabilities_are_in_the_order_of_the_labels_and_sum_to_one(shipped):
    prediction = shipped.predict(FACES[0]).prediction
    assert tuple(prediction.probabilities) == SEVEN
    assert sum(prediction.probabilities.values()) == pytest.approx(1)


def test_no_faces_give_no_predictions(classifier):
    assert classifier.predict([]) == []


def test_bytes_path_and_image_of_a_picture_give_the_same_reading_with_every_face(shipped, portrait, tmp_path):
    pair = Image.new("RGB", (1024, 512))
    for left in (0, 512):
        pair.paste(portrait, (left, 0))
    (tmp_path / "pair.png").write_bytes(encode(pair))
    readings = [shipped.predict(given) for given in (encode(pair), tmp_path / "pair.png", pair)]
    assert len(readings[0].faces) == 2
    assert readings[0] == readings[1] == readings[2]


def test_a_picture_of_at_most_64x64_pixels_is_one_face_unless_detection_is_required(shipped):
    blank = Image.new("L", (64, 40))
    [whole] = shipped.predict(blank).faces
    assert (whole.box.left, whole.box.right, whole.detection_confidence) == (12, 52, None)
    assert shipped.predict(blank, "always").faces == shipped.predict(Image.new("L", (65, 40))).faces == []


def test_tiles_read_the_small_faces_of_a_large_picture_from_all_of_its_pixels(shipped, portrait):
    picture = Image.new("RGB", (4000, 3000), "grey")
    for left in (100, 2000, 3700):
        picture.paste(portrait.resize((200, 200)), (left, 2700))  # a face is 35 pixels wide
    content = encode(picture, "JPEG", quality=95)
    assert shipped.predict(content).faces == []
    readings = [shipped.predict(given, "tiles") for given in (content, picture, np.asarray(picture))]
    for reading in readings:
        assert [face.prediction.emotion for face in reading.faces] == ["HAPPY"] * 3
        assert min(face.prediction.confidence for face in reading.faces) > 0.9
        assert {round(face.box.top - 2700, -1) for face in reading.faces} <= {20, 30}


def test_thorough_searches_at_640_pixels_at_once(shipped, portrait):
    [found] = FaceDetector.load().find_faces(portrait, thoroughly=True)
    [face] = shipped.predict(portrait, "thorough").faces
    assert face.box == found.box
    assert face.box != shipped.predict(portrait).faces[0].box


def test_many_faces_are_classified_in_batches_of_limited_size(shipped):
    sizes = []

    def backend(pixels: np.ndarray) -> dict[str, np.ndarray]:
        sizes.append(len(pixels))
        return {"people": np.full((len(pixels), 7), 1 / 7)}

    assert len(FaceClassifier.of_export(backend, shipped.manifest).predict(FACES[:1] * 150)) == 150
    assert sizes == [64, 64, 22]


def test_an_unknown_way_to_detect_faces_is_refused_with_the_known_ones(shipped):
    with pytest.raises(UnknownDetection, match=r"detect='tile'\. Choose from auto, always, never, thorough, tiles"):
        shipped.predict(FACES[0], "tile")


def test_an_opencv_frame_in_rgb_an_open_file_and_a_path_give_the_same_reading(shipped, portrait, tmp_path):
    path = tmp_path / "face.png"
    portrait.save(path)
    with path.open("rb") as file:
        readings = [shipped.predict(given) for given in (np.asarray(portrait), file, path)]
    assert readings[0] == readings[1] == readings[2]
    assert readings[0].emotion == "HAPPY"


def test_bytes_that_are_not_a_picture_are_refused(shipped):
    with pytest.raises(UnreadableImage):
        shipped.predict(b"not a picture")


def test_a_picture_without_a_face_is_predicted_as_one_face_only_on_request(shipped):
    blank = Image.new("L", (100, 100))
    assert shipped.predict(blank).prediction is None
    reading = shipped.predict(blank, whole=True)
    assert (reading.faces, reading.prediction) == ([], shipped.predict(blank, "never").prediction)


@pytest.mark.parametrize("suffix", [".onnx", pytest.param(".pkl", marks=pytest.mark.slow)])
def test_an_export_is_named_by_the_digest_of_its_weights_whichever_file_predicts(suffix):
    learner = export_paths(Settings.model_path).learner
    predictor = Predictor.load(learner.with_suffix(suffix))
    weights = learner.with_suffix(".safetensors").read_bytes()
    assert predictor.public_facts()["sha256"] == hashlib.sha256(weights).hexdigest()


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_probabilities_that_are_not_numbers_are_refused(shipped, number):
    classifier = FaceClassifier.of_export(
        lambda pixels: {"people": np.full((len(pixels), 7), number)}, shipped.manifest
    )
    with pytest.raises(BrokenWeights, match="not numbers"):
        classifier.predict(FACES[:1])


def test_a_reading_is_named_and_people_is_the_default_of_the_shipped_model(shipped):
    default, people, labels = (shipped.predict(FACES[0], reading=name) for name in (None, "people", "labels"))
    assert (default.name, labels.name) == ("people", "labels")
    assert default == people
    assert abs(people.prediction.confidence - labels.prediction.confidence) > 0.01


@pytest.mark.parametrize("detect", ["never", "always"])
def test_a_reading_that_the_model_lacks_is_refused_with_the_reason(exported_learner, detect):
    predictor = Predictor.load(exported_learner.parent)
    assert predictor.predict(FACES[0], detect).name == "labels"
    with pytest.raises(UnknownReading, match=r"'people', because it was trained without FER\+ votes\. It has: labels"):
        predictor.predict(FACES[0], detect, reading="people")


@pytest.mark.parametrize("detect", ["always", "never"])
def test_an_export_of_a_version_before_evidence_answers_but_does_not_explain(model, detect):
    from tests.support.exports import remove_evidence

    before = Predictor.load(model.parent).predict(FACES[0], detect)
    remove_evidence(model)
    predictor = Predictor.load(model.parent)
    assert predictor.predict(FACES[0], detect) == before
    with pytest.raises(NoEvidence, match="Export its learner again"):
        predictor.predict(FACES[0], detect, explain=True)


@pytest.mark.parametrize("engine", ["dexpression.onnx", "dexpression.safetensors"])
def test_the_onnx_model_and_its_learner_give_the_same_explanation(exported_learner, engine):
    one, other = (
        Predictor.load(exported_learner.with_name(name)).predict(FACES[0], "never", explain=True).faces[0].prediction
        for name in (engine, "dexpression.onnx")
    )
    assert one.evidence.keys() == one.probabilities.keys()
    assert all(np.allclose(one.evidence[label], other.evidence[label], atol=1e-3) for label in SEVEN)


@pytest.mark.parametrize("image", [Image.new("L", (0, 10)), Image.new("RGB", (10, 0)), Image.new("La", (9, 9))])
def test_an_image_without_pixels_or_in_a_mode_that_cannot_be_converted_is_refused(shipped, image):
    for detect in ("auto", "always", "never"):
        with pytest.raises(UnreadableImage):
            shipped.predict(image, detect)


def test_an_image_whose_file_is_cut_off_is_refused(shipped):
    with pytest.raises(UnreadableImage), Image.open(io.BytesIO(encode(FACES[1])[:300])) as image:
        shipped.predict(image)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_path_that_is_no_regular_file_is_refused_at_once(shipped, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", tmp_path, str(tmp_path / "missing"), "zero\0byte"):
        with pytest.raises(UnreadableImage, match="The file cannot be read"):
            shipped.predict(path)
