"""Callbacks of a training run: seeds, progressive resizing, averaged weights, checkpoints, bfloat16."""

from __future__ import annotations

import copy
import logging
import math
import random
import time
import timeit
from pathlib import Path
from typing import Any

import torch
from fastai.callback.core import Callback, CancelEpochException, CancelFitException
from fastai.callback.fp16 import AMPMode, MixedPrecision
from fastai.torch_core import set_seed
from fastcore.foundation import L
from torch import Tensor, nn
from torch.amp import GradScaler, autocast
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dexpression.errors import BrokenCheckpoint

SAVED = ("network", "average", "optimizer", "seconds", "epochs", "smooth_loss", "stop_early")  # of a checkpoint
Tensors = tuple[Tensor, ...] | list[Tensor]

logger = logging.getLogger(__name__)


class SeedEpochs(Callback):
    """Seed each epoch by its number, so that a run that continues gives the same weights as one without a stop."""

    order = -90

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def before_epoch(self) -> None:
        seed = self.seed + 1_000 * self.epoch
        set_seed(seed)
        self.learn.dls.train.rng = random.Random(seed)


class ProgressiveResizing(Callback):
    """Train on small faces first and on full-size faces in the last third of the epochs (Tan and Le 2021).

    The side grows from `smallest` to `largest` pixels, in steps of 8, since the network halves its maps three times.
    The last epoch always has full-size faces. A run takes a quarter less time.
    """

    order = 61  # after faces are degraded

    def __init__(self, smallest: int, largest: int) -> None:
        self.sides = range(smallest, largest + 1, 8)

    def before_train(self) -> None:
        share = 1.5 * self.epoch / self.n_epoch  # of the two thirds of the epochs in which faces grow
        last = len(self.sides) - 1
        self.side = self.sides[last if self.epoch + 1 == self.n_epoch else min(int(share * last), last)]

    def before_batch(self) -> None:
        faces = self.learn.xb[0]
        if self.training and faces.shape[-1] > self.side:
            shrunk = functional.interpolate(faces, size=(self.side, self.side), mode="bilinear", antialias=True)
            self.learn.xb = (shrunk, *self.learn.xb[1:])


class FixedStatistics(Callback):
    """Keep the mean and variance of every batch normalisation, as a start has them.

    Small batches of degraded faces give worse ones: on 100 faces, accuracy falls although the loss on train does, too.
    """

    order = 50  # after fastai puts the model into training mode

    def before_train(self) -> None:
        for module in self.learn.model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()


class WeightAverage(Callback):
    """Validate, and end the run, with the exponential moving average of the weights.

    The decay grows with the steps up to `decay`, so that in a short run the average follows the weights and does not
    keep their random start: after n steps it is (1 + n) / (10 + n) at most, as in TensorFlow and timm.
    """

    order = -80  # before fastai puts the model into evaluation mode

    def __init__(self, decay: float) -> None:
        self.decay = decay

    def before_fit(self) -> None:
        self.network = self.learn.model
        self.average = AveragedModel(self.network, multi_avg_fn=self._update, use_buffers=True)

    def _update(self, averages: Tensors, weights: Tensors, steps: Tensor | int) -> None:
        decay = min(self.decay, (1 + int(steps)) / (10 + int(steps)))
        get_ema_multi_avg_fn(decay)(averages, weights, steps)  # type: ignore[no-untyped-call]

    def after_step(self) -> None:
        self.average.update_parameters(self.network)

    def before_validate(self) -> None:
        self.learn.model = self.average.module

    def after_validate(self) -> None:
        self.learn.model = self.network

    def after_fit(self) -> None:
        self.learn.model = self.average.module


class StopEarly(Callback):
    """End the run with its best weights when the loss on valid has not fallen for `patience` epochs.

    A run that is not ended ends with its last weights, for which the learning rate has fallen to nothing.
    """

    order = 65  # after the recorder, before the checkpoint, which saves this state too

    def __init__(self, patience: int) -> None:
        self.patience = patience

    def before_fit(self) -> None:
        self.state: dict[str, Any] = {"lowest": math.inf, "epoch": 0, "weights": {}}

    def before_epoch(self) -> None:
        waited = self.epoch - self.state["epoch"]
        if self.state["weights"] and not self._is_finished() and waited > self.patience:
            logger.info("The loss on valid has not fallen for %d epochs, so the run ends.", self.patience)
            self.learn.weight_average.average.module.load_state_dict(self.state["weights"])
            raise CancelFitException

    def after_epoch(self) -> None:
        loss = float(self.learn.recorder.values[-1][1])
        if not self._is_finished() and loss < self.state["lowest"]:
            weights = copy.deepcopy(self.learn.weight_average.average.module.state_dict())
            self.state = {"lowest": loss, "epoch": self.epoch, "weights": weights}

    def _is_finished(self) -> bool:
        return bool(self.epoch < len(self.learn.checkpoint.finished))


class Checkpoint(Callback):
    """Save the run after every epoch, and continue from the saved state; finished epochs are shown but not repeated.

    Raises BrokenCheckpoint for a file that is damaged.
    """

    order = 70  # after the recorder, because finished epochs are put back into its table

    def __init__(self, file: Path, device: torch.device) -> None:
        self.file = file
        # Read here, because fastai puts words before the message of an error in a callback.
        self.saved = self._read(device) if file.exists() else None

    def _read(self, device: torch.device) -> dict[str, Any]:
        try:
            state: dict[str, Any] = torch.load(self.file, map_location=device, weights_only=True)
            return {name: state[name] for name in SAVED}
        except MemoryError:
            raise
        except Exception as error:  # torch raises nearly anything on a damaged file
            raise BrokenCheckpoint(
                f"The checkpoint {self.file} is damaged. Delete it and give the same command again: "
                "the run then starts anew."
            ) from error

    def before_fit(self) -> None:
        self.finished: list[list[float]] = []
        self.seconds: list[float] = []  # that the finished epochs took
        if self.saved:
            self._continue_from(self.saved)

    def _continue_from(self, state: dict[str, Any]) -> None:
        self.learn.weight_average.network.load_state_dict(state["network"])
        self.learn.weight_average.average.load_state_dict(state["average"])
        optimizer = self.learn.opt
        optimizer.load_state_dict({"state": state["optimizer"], "hypers": optimizer.hypers})
        self.finished, self.seconds = state["epochs"], state["seconds"]
        loss = state["smooth_loss"]
        loss["val"] = loss["val"].cpu()  # fastai records on the CPU, whatever device trains
        vars(self.learn.recorder.smooth_loss).update(loss)
        self.learn.stop_early.state = state["stop_early"]

    def before_epoch(self) -> None:
        if self.epoch < len(self.finished):
            self.learn.recorder.log += self.finished[self.epoch]
            self.learn.recorder.start_epoch -= self.seconds[self.epoch]  # as the table shows
            raise CancelEpochException

    def after_epoch(self) -> None:
        if self.epoch < len(self.finished):
            return
        recorder = self.learn.recorder
        self.seconds.append(time.time() - recorder.start_epoch)
        partial = self.file.with_suffix(".partial")  # a run stopped while it saves keeps its last checkpoint
        torch.save(
            {
                "network": self.learn.weight_average.network.state_dict(),
                "average": self.learn.weight_average.average.state_dict(),
                "optimizer": list(self.learn.opt.state_dict()["state"]),  # the schedule sets the hyperparameters
                "seconds": self.seconds,
                "epochs": [[float(value) for value in row] for row in recorder.values],
                "smooth_loss": {"count": recorder.smooth_loss.count, "val": recorder.smooth_loss.val},
                "stop_early": self.learn.stop_early.state,
            },
            partial,
        )
        partial.replace(self.file)


class Bfloat16(MixedPrecision):
    """Mixed precision in bfloat16 on any device; fastai's own callback works on CUDA alone."""

    def __init__(self, device_type: str) -> None:
        super().__init__(amp_mode=AMPMode.BF16)
        self.device_type = device_type

    def before_fit(self) -> None:
        self.autocast = autocast(self.device_type, dtype=torch.bfloat16)
        self.learn.scaler = GradScaler(self.device_type, enabled=False)  # bfloat16 has the range of float32
        self.scales = L()


def is_faster_in_bfloat16(device: torch.device) -> bool:
    """Whether a device trains faster in bfloat16 than in float32: measured on a CPU; on a GPU, the driver says it.

    Processor flags do not tell. Of two processors with AVX512-BF16, one took 1.2 and one 0.5 times as long as in
    float32.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and _seconds_of_convolution(torch.bfloat16) < _seconds_of_convolution(torch.float32)


def _seconds_of_convolution(dtype: torch.dtype) -> float:
    convolution = nn.Conv2d(64, 64, 3, padding=1, dtype=dtype).to(memory_format=torch.channels_last)
    maps = torch.rand(16, 64, 24, 24, dtype=dtype).to(memory_format=torch.channels_last)
    return min(timeit.repeat(lambda: convolution(maps).sum().backward(), number=1, repeat=5))
