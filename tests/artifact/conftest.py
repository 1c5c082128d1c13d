"""Fixtures for tests of modules that import torch."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from fastai.learner import Learner

import tests.support.torch_on_cpu  # noqa: F401
from dexpression.artifact.export import export_learner
from dexpression.artifact.manifest import export_paths
from dexpression.labels import SEVEN
from dexpression.network.architecture import DeXpression
from dexpression.network.loss import EmotionLoss
from dexpression.network.transforms import inference_dataloaders


@pytest.fixture(scope="session")
def learner_export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an export without an ONNX model, with the random weights of seed 0."""
    folder = tmp_path_factory.mktemp("learner")
    torch.manual_seed(0)
    learner = Learner(inference_dataloaders(SEVEN, 48), DeXpression.compact(7), loss_func=EmotionLoss(0.1))
    export_learner(learner, folder, 48, {"data": {"name": "drawn"}})
    return folder


@pytest.fixture
def exported(learner_export: Path, tmp_path: Path) -> Path:
    """The .pkl file of a copy of `learner_export`, which lies in `tmp_path` and which a test may change."""
    shutil.copytree(learner_export, tmp_path, dirs_exist_ok=True)
    return export_paths(tmp_path).learner
