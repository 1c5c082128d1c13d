"""A manifest has digests of the faces that a model was trained on, on which its scores are too high."""

from __future__ import annotations

import dataclasses

import pytest
from PIL import Image

from dexpression.artifact.manifest import Manifest, export_paths
from dexpression.labels import SEVEN
from dexpression.training.digests import encode_digests, trained_on, warn_of_overlap
from dexpression.training.face_set import Face
from tests.support.faces import draw_face

FACES = [Face(f"{label}{seed}.png", label, None, draw_face(label, seed)) for label in SEVEN for seed in range(5)]


@pytest.fixture(scope="module")
def manifest(exported_learner) -> Manifest:
    """A manifest without digests."""
    return Manifest.read(export_paths(exported_learner).manifest)


def with_digests(manifest: Manifest, digests: object) -> Manifest:
    return dataclasses.replace(manifest, data={"digests": digests})


def test_the_faces_of_the_training_are_found_among_others_whatever_their_names_and_labels(manifest):
    trained = with_digests(manifest, encode_digests(FACES[::2]))
    renamed = [dataclasses.replace(face, name="x.png", label="SAD") for face in FACES]
    assert trained_on(trained, renamed) == [True, False] * 17 + [True]


def test_the_digests_do_not_tell_the_order_or_repetition_of_faces():
    assert encode_digests(FACES) == encode_digests([*FACES[::-1], *FACES[:3]])


def test_a_changed_pixel_makes_another_face(manifest):
    changed = draw_face("SAD", 0)
    changed.putpixel((0, 0), changed.getpixel((0, 0)) ^ 1)
    face = dataclasses.replace(FACES[0], image=changed)
    assert trained_on(
        with_digests(manifest, encode_digests([Face("a", "SAD", None, draw_face("SAD", 0))])), [face]
    ) == [False]


def test_digests_of_many_faces_are_short_and_hardly_ever_match_others(manifest):
    noise = [Image.effect_noise((8, 8), 64 + number % 9) for number in range(4_000)]
    faces = [Face(str(number), "SAD", None, image) for number, image in enumerate(noise)]
    digests = encode_digests(faces[:2_000])
    assert len(digests) <= 2_000 * 5.4
    assert sum(trained_on(with_digests(manifest, digests), faces[2_000:])) <= 1


def test_a_manifest_without_digests_knows_no_face(manifest):
    assert trained_on(manifest, FACES) == [False] * len(FACES)


@pytest.mark.parametrize(
    "digests", ["", "not base64", "\u00e9", "AA", "A", 7, None, ["AAAA"], {"a": 1}, "AAAA" * 9], ids=ascii
)
def test_digests_that_no_run_writes_know_no_face(manifest, digests):
    assert trained_on(with_digests(manifest, digests), FACES) == [False] * len(FACES)


def test_a_warning_says_how_many_of_the_scored_faces_were_trained_on(manifest, caplog):
    trained = with_digests(manifest, encode_digests(FACES[:10]))
    warn_of_overlap(trained, FACES)
    assert caplog.messages == [
        "The model was trained on 10 of the 35 faces that are scored, so the scores are too high.",
    ]
    caplog.clear()
    warn_of_overlap(trained, FACES[10:], "start")
    assert caplog.messages == []


def test_a_manifest_also_knows_the_faces_that_the_start_was_trained_on(manifest):
    start = with_digests(manifest, encode_digests(FACES[:1]))
    both = with_digests(manifest, encode_digests(FACES[1:2], start))
    assert trained_on(both, FACES)[:2] == [True, True]
