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
from dexpression.labels import EVIDENCE, READINGS, SEVEN
from dexpression.network.inference import torch_backend
from tests.support.faces import draw_face

FACES = np.stack([np.asarray(draw_face(label, seed)) for label in SEVEN for seed in range(20)])[:, None]


@pytest.fixture(scope="module")
def learner(two_readings) -> Learner:
    """A learner with two heads, so with both readings."""
    return load_exported(two_readings)[0]


@pytest.fixture(scope="module")
def expected(learner) -> dict[str, np.ndarray]:
    """The learner's own probabilities of each reading for all faces."""
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
        answers = backend(FACES[:count])
        assert list(answers) == [*READINGS, EVIDENCE]
        assert all(np.allclose(answers[reading], expected[reading][:count], atol=1e-4) for reading in READINGS)


def test_the_two_readings_differ(expected):
    assert (expected["people"].argmax(axis=1) != expected["labels"].argmax(axis=1)).mean() > 0.2


def test_the_int8_model_gives_nearly_the_learners_answers(expected, int8_backend):
    answers = int8_backend(FACES)
    for reading in READINGS:
        rows = answers[reading]
        assert np.abs(rows - expected[reading]).mean() < 0.05  # random weights put most faces near a decision boundary
        assert np.allclose(rows.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("kind", ["torch", "float32", "int8"])
def test_the_mean_of_the_evidence_is_the_logit_to_1e_4(kind, request, learner):
    """Each reading of this learner is one head at temperature 1, so its log-odds are differences of logits."""
    answers = (
        torch_backend(learner) if kind == "torch" else onnx_backend(request.getfixturevalue(kind).SerializeToString())
    )(FACES)
    logits = answers[EVIDENCE].astype(np.float64).mean(axis=(3, 4))  # (N, heads, labels)
    for head, reading in enumerate(reversed(READINGS)):
        log_odds = np.log(answers[reading].astype(np.float64))
        certain = answers[reading].min(axis=1) > 1e-3  # float32 rounds the logarithm of smaller ones
        assert certain.sum() > 10
        difference = (logits[:, head] - logits[:, head, :1]) - (log_odds - log_odds[:, :1])
        assert np.abs(difference[certain]).max() < 1e-4


def test_the_int8_model_computes_the_evidence_in_float32(int8):
    [weights] = (tensor for tensor in int8.graph.initializer if tensor.name == "network.classifier.3.weight")
    assert weights.data_type == onnx.TensorProto.FLOAT


def test_the_int8_model_has_less_than_a_third_of_the_size(float32, int8):
    assert int8.ByteSize() < float32.ByteSize() / 3


def test_every_normalisation_is_folded_into_a_convolution_and_the_learner_keeps_its_own(learner, float32):
    assert not {node.op_type for node in float32.graph.node} & {"BatchNormalization"}
    assert isinstance(learner.model.blocks[0].norm, nn.BatchNorm2d)


def test_an_onnx_model_holds_no_path(int8):
    content = int8.SerializeToString()
    assert not any(text in content for text in (b".py", b"/dexpression", b"\\dexpression"))


def test_many_threads_get_the_same_answers_as_one(int8_backend):
    def answer(number: int) -> list[np.ndarray]:
        answers = int8_backend(FACES[number : number + 1])
        return [answers[reading] for reading in READINGS]

    one_by_one = [answer(number) for number in range(len(FACES))]
    with ThreadPoolExecutor(16) as threads:
        at_once = list(threads.map(answer, range(len(FACES))))
    assert np.allclose(at_once, one_by_one, atol=1e-6)
