"""The ONNX models of a learner, in float32 and in int8, give its answers for batches of any length."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from fastai.learner import Learner
from torch import nn

from dexpression.artifact.export import load_exported
from dexpression.artifact.quantisation import to_int8, to_onnx
from dexpression.engine import Backend, onnx_backend
from dexpression.labels import SEVEN
from dexpression.network.inference import torch_backend
from tests.support.faces import draw_face

FACES = np.stack([np.asarray(draw_face(label, seed)) for label in SEVEN for seed in range(20)])[:, None]


@pytest.fixture(scope="module")
def learner(exported_learner) -> Learner:
    return load_exported(exported_learner)[0]


@pytest.fixture(scope="module")
def expected(learner) -> np.ndarray:
    """The learner's own probabilities for all faces."""
    return torch_backend(learner)(FACES)


@pytest.fixture(scope="module")
def float32(learner) -> onnx.ModelProto:
    return to_onnx(learner, 48)


@pytest.fixture(scope="module")
def int8(float32) -> onnx.ModelProto:
    return to_int8(float32, FACES)


@pytest.fixture(scope="module")
def int8_backend(int8) -> Backend:
    return onnx_backend(int8.SerializeToString())


def test_the_float32_model_gives_the_learners_answers_for_batches_of_any_length(expected, float32):
    backend = onnx_backend(float32.SerializeToString())
    for count in (1, 3, len(FACES)):
        assert np.allclose(backend(FACES[:count]), expected[:count], atol=1e-4)


def test_the_int8_model_gives_nearly_the_learners_answers(expected, int8_backend):
    answers = int8_backend(FACES)
    assert np.abs(answers - expected).mean() < 0.05  # random weights put most faces near a decision boundary
    assert np.allclose(answers.sum(axis=1), 1, atol=1e-5)


def test_the_int8_model_has_less_than_a_third_of_the_size(float32, int8):
    assert int8.ByteSize() < float32.ByteSize() / 3


def test_every_normalisation_is_folded_into_a_convolution_and_the_learner_keeps_its_own(learner, float32):
    assert not {node.op_type for node in float32.graph.node} & {"BatchNormalization"}
    assert isinstance(learner.model.blocks[0].norm, nn.BatchNorm2d)


def test_an_onnx_model_holds_no_path(int8):
    content = int8.SerializeToString()
    assert not any(text in content for text in (b".py", b"/dexpression", b"\\dexpression"))


def test_many_threads_get_the_same_answers_as_one(int8_backend):
    one_by_one = [int8_backend(FACES[number : number + 1]) for number in range(len(FACES))]
    with ThreadPoolExecutor(16) as threads:
        at_once = list(threads.map(lambda number: int8_backend(FACES[number : number + 1]), range(len(FACES))))
    assert np.allclose(at_once, one_by_one, atol=1e-6)
