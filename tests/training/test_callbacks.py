"""Callbacks: faces grow during training, weights are averaged, and bfloat16 is used where it is faster."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dexpression.training import callbacks
from dexpression.training.callbacks import ProgressiveResizing, SeedEpochs, WeightAverage, is_faster_in_bfloat16


def sides(epochs: int, training: bool = True) -> list[int]:
    """The side of a batch of 48x48 faces in each epoch, after ProgressiveResizing from 32 to 48 pixels."""
    resizing = ProgressiveResizing(32, 48)
    found = []
    for epoch in range(epochs):
        resizing.learn = SimpleNamespace(
            epoch=epoch, n_epoch=epochs, training=training, xb=(torch.zeros(1, 1, 48, 48),)
        )
        resizing.before_train()
        resizing.before_batch()
        found.append(resizing.learn.xb[0].shape[-1])
    return found


def test_faces_grow_in_steps_of_8_until_the_last_third_of_the_epochs():
    assert sides(9) == [32, 32, 32, 40, 40, 40, 48, 48, 48]


@pytest.mark.parametrize("epochs", range(1, 9))
def test_the_last_epoch_has_full_size_faces_however_short_the_run_is(epochs):
    assert sides(epochs)[-1] == 48


def test_validation_faces_are_never_resized():
    assert sides(6, training=False) == [48] * 6


def test_each_epoch_has_its_own_seed_whatever_was_drawn_before():
    seeding = SeedEpochs(seed=7)
    drawn = []
    for epoch in (0, 1, 0):
        seeding.learn = SimpleNamespace(epoch=epoch, dls=SimpleNamespace(train=SimpleNamespace()))
        seeding.before_epoch()
        drawn.append((float(torch.rand(())), seeding.learn.dls.train.rng.random()))
    assert drawn[0] == drawn[2]
    assert drawn[0][0] != drawn[1][0]
    assert drawn[0][1] != drawn[1][1]


def test_validation_and_the_end_of_a_run_use_the_averaged_weights():
    network = nn.Linear(1, 1)
    averaging = WeightAverage(decay=0.75)
    averaging.learn = SimpleNamespace(model=network)
    averaging.before_fit()
    for value in (0.0, 1.0):  # the first step sets the average, and the second moves it by a quarter
        nn.init.constant_(network.weight, value)
        averaging.after_step()
    averaging.before_validate()
    assert averaging.learn.model.weight.item() == pytest.approx(0.25)
    averaging.after_validate()
    assert averaging.learn.model is network
    averaging.after_fit()
    assert averaging.learn.model.weight.item() == pytest.approx(0.25)


@pytest.mark.parametrize("seconds", [0.5, 1.2])
def test_a_processor_trains_in_bfloat16_if_a_convolution_is_faster_in_it(monkeypatch, seconds):
    monkeypatch.setattr(callbacks, "_seconds_of_convolution", {torch.bfloat16: seconds, torch.float32: 1.0}.get)
    assert is_faster_in_bfloat16(torch.device("cpu")) is (seconds < 1)
