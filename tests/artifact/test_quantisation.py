"""The ONNX form of a learner: the same answers, smaller, for batches of any length."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from torch import nn

from dexpression.artifact.export import load_exported
from dexpression.artifact.quantisation import to_int8, to_onnx
from dexpression.engine import Backend, onnx_backend
from dexpression.labels import SEVEN
from dexpression.network.inference import torch_backend
from tests.support.faces import draw_face

FACES = np.stack([np.asarray(draw_face(label, seed)) for label in SEVEN for seed in range(20)])[:, None]


@pytest.fixture(scope="module")
def learner(exported_learner):
    return load_exported(exported_learner)[0]


@pytest.fixture(scope="module")
def float32(learner) -> onnx.ModelProto:
    return to_onnx(learner, 48)


@pytest.fixture(scope="module")
def int8(float32) -> Backend:
    return onnx_backend(to_int8(float32, FACES).SerializeToString())


def test_the_float32_form_answers_as_the_learner_does(learner, float32):
    engine = onnx_backend(float32.SerializeToString())
    for count in (1, 3, len(FACES)):
        assert np.allclose(engine(FACES[:count]), torch_backend(learner)(FACES[:count]), atol=1e-4)


def test_the_int8_form_answers_nearly_so(learner, int8):
    answers, expected = int8(FACES), torch_backend(learner)(FACES)
    assert np.abs(answers - expected).mean() < 0.05  # untrained, it stands at the edge everywhere
    assert np.allclose(answers.sum(axis=1), 1, atol=1e-5)


def test_int8_is_a_third_of_the_size(float32):
    assert to_int8(float32, FACES).ByteSize() < float32.ByteSize() / 3


def test_every_normalisation_is_part_of_a_convolution_and_the_learner_is_left_as_it_was(learner, float32):
    assert not {node.op_type for node in float32.graph.node} & {"BatchNormalization"}
    assert isinstance(learner.model.blocks[0].norm, nn.BatchNorm2d)


def test_no_path_stands_in_the_file(float32):
    content = to_int8(float32, FACES).SerializeToString()
    assert not any(text in content for text in (b".py", b"/dexpression", b"\\dexpression"))


def test_many_threads_get_the_answers_that_one_gets(int8):
    one_by_one = [int8(FACES[number : number + 1]) for number in range(len(FACES))]
    with ThreadPoolExecutor(16) as threads:
        at_once = list(threads.map(lambda number: int8(FACES[number : number + 1]), range(len(FACES))))
    assert np.allclose(at_once, one_by_one, atol=1e-6)
