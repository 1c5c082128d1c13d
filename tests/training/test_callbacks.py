"""Callbacks: faces grow, weights are averaged, runs end early, and bfloat16 is used where it is faster."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import pytest
import torch
from fastai.callback.core import Callback, CancelFitException
from fastai.data.core import DataLoader, DataLoaders
from fastai.learner import Learner
from torch import nn

from dexpression.training import callbacks
from dexpression.training.callbacks import (
    FixedStatistics,
    ProgressiveResizing,
    SeedEpochs,
    StopEarly,
    WeightAverage,
    is_faster_in_bfloat16,
)


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


def normalisation_after(*callbacks: Callback) -> nn.BatchNorm2d:
    """A normalisation after two epochs, each with a validation, on maps whose mean is 5 and variance 9."""
    torch.manual_seed(0)
    maps = [(5 + 3 * torch.randn(1, 4, 4), torch.zeros(1, 4, 4)) for _ in range(8)]
    dataloaders = DataLoaders(*(DataLoader(maps, bs=4) for _ in range(2)))
    network = nn.Sequential(nn.BatchNorm2d(1))
    learner = Learner(dataloaders, network, loss_func=nn.functional.mse_loss, cbs=callbacks)
    with learner.no_bar(), learner.no_logging():
        learner.fit(2)
    return network[0]


def test_fixed_statistics_stay_as_the_start_has_them_while_the_weights_learn():
    learned, fixed = normalisation_after(), normalisation_after(FixedStatistics())
    assert learned.running_mean.item() > 1
    assert (fixed.running_mean.item(), fixed.running_var.item()) == (0, 1)
    assert fixed.weight.item() != 1


def averaged(decay: float, values: Sequence[float]) -> WeightAverage:
    """The average of a network whose only weight had these values, one after each step."""
    averaging = WeightAverage(decay)
    averaging.learn = SimpleNamespace(model=nn.Linear(1, 1))
    averaging.before_fit()
    for value in values:
        nn.init.constant_(averaging.learn.model.weight, value)
        averaging.after_step()
    return averaging


def test_validation_and_the_end_of_a_run_use_the_averaged_weights():
    averaging = averaged(0.0, [2.0, 1.0])
    network = averaging.learn.model
    averaging.before_validate()
    assert averaging.learn.model is not network
    assert averaging.learn.model.weight.item() == 1
    averaging.after_validate()
    assert averaging.learn.model is network
    averaging.after_fit()
    assert averaging.learn.model is averaging.average.module


@pytest.mark.parametrize("decay", [0.1, 0.5, 0.998])
def test_the_decay_of_the_average_grows_with_the_steps_up_to_its_limit(decay):
    expected, values = 0.0, [0.0, *range(1, 60)]
    for step, value in enumerate(values[1:], start=1):
        share = min(decay, (1 + step) / (10 + step))
        expected = share * expected + (1 - share) * value
    assert averaged(decay, values).average.module.weight.item() == pytest.approx(expected, rel=1e-5)


def test_the_average_forgets_a_start_within_a_few_steps_and_averages_many_in_a_long_run():
    few = averaged(0.998, [100.0, *[0.0] * 20]).average.module.weight.item()
    assert few < 0.1
    many = averaged(0.998, [0.0, 1.0] * 2_000).average.module.weight.item()
    assert many == pytest.approx(0.5, abs=0.01)


def run_with(losses: Sequence[float], patience: int) -> tuple[int, float]:
    """The number of epochs of a run with these losses on valid, and the epoch whose weights it ends with."""
    network, stopping, values = nn.Linear(1, 1), StopEarly(patience), []
    stopping.learn = SimpleNamespace(
        recorder=SimpleNamespace(values=values),
        weight_average=SimpleNamespace(average=SimpleNamespace(module=network)),
        checkpoint=SimpleNamespace(finished=[]),
    )
    stopping.before_fit()
    for epoch, loss in enumerate(losses):
        stopping.learn.epoch = epoch
        try:
            stopping.before_epoch()
        except CancelFitException:
            break
        nn.init.constant_(network.weight, epoch)
        values.append([0.0, loss, 0.5])
        stopping.after_epoch()
    return len(values), network.weight.item()


NAN = float("nan")


@pytest.mark.parametrize(
    ("losses", "epochs", "last"),
    [
        ([5, 4, 3, 2, 1], 5, 4),
        ([5, 4, 3, 4, 4, 4, 1], 6, 2),  # three epochs without a lower loss
        ([5, 4, 4, 4, 3, 3, 3, 3, 3], 8, 4),
        ([1, 2, 2], 3, 2),  # a run that is not ended keeps its last weights
        ([2, *[NAN] * 9], 4, 0),
        ([NAN] * 9, 9, 8),  # there are no better weights to go back to
    ],
    ids=str,
)
def test_a_run_ends_with_its_best_weights_when_the_loss_has_not_fallen_for_so_many_epochs(losses, epochs, last):
    assert run_with(losses, patience=3) == (epochs, last)


@pytest.mark.parametrize("seconds", [0.5, 1.2])
def test_a_processor_trains_in_bfloat16_if_a_convolution_is_faster_in_it(monkeypatch, seconds):
    monkeypatch.setattr(callbacks, "_seconds_of_convolution", {torch.bfloat16: seconds, torch.float32: 1.0}.get)
    assert is_faster_in_bfloat16(torch.device("cpu")) is (seconds < 1)
