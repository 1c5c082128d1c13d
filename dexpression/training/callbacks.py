"""What happens between the batches of a run: seeds, growing faces, averaged weights, checkpoints, bfloat16."""

from __future__ import annotations

import random
import timeit
from pathlib import Path

import torch
from fastai.callback.core import Callback, CancelEpochException
from fastai.callback.fp16 import AMPMode, MixedPrecision
from fastai.torch_core import set_seed
from fastcore.foundation import L
from torch import nn
from torch.amp import GradScaler, autocast
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class SeedEpochs(Callback):
    """Make an epoch depend on the seed and its number alone: a run gone on with equals one that was never stopped."""

    order = -90

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def before_epoch(self) -> None:
        seed = self.seed + 1_000 * self.epoch
        set_seed(seed)
        self.learn.dls.train.rng = random.Random(seed)


class GrowFaces(Callback):
    """Train on faces shrunk to `smallest` pixels a side at first, on whole ones in the last third of the epochs.

    That is the last one at least. A run takes a quarter less time: progressive resizing, as in Tan and Le 2021
    (EfficientNetV2). The side grows by 8 pixels, so that maps which are halved three times stay whole.
    """

    def __init__(self, smallest: int, largest: int) -> None:
        self.sides = range(smallest, largest + 1, 8)

    def before_train(self) -> None:
        share = 1.5 * self.epoch / self.n_epoch  # of the two thirds in which they grow
        last = len(self.sides) - 1
        self.side = self.sides[last if self.epoch + 1 == self.n_epoch else min(int(share * last), last)]

    def before_batch(self) -> None:
        faces = self.learn.xb[0]
        if self.training and faces.shape[-1] > self.side:
            shrunk = functional.interpolate(faces, size=(self.side, self.side), mode="bilinear", antialias=True)
            self.learn.xb = (shrunk, *self.learn.xb[1:])


class WeightAverage(Callback):
    """Validate, and end, with the exponential moving average of the weights."""

    order = -80  # before fastai puts the model into evaluation mode

    def __init__(self, decay: float) -> None:
        self.decay = decay

    def before_fit(self) -> None:
        self.network = self.learn.model
        average = get_ema_multi_avg_fn(self.decay)  # type: ignore[no-untyped-call]
        self.average = AveragedModel(self.network, multi_avg_fn=average, use_buffers=True)

    def after_step(self) -> None:
        self.average.update_parameters(self.network)

    def before_validate(self) -> None:
        self.learn.model = self.average.module

    def after_validate(self) -> None:
        self.learn.model = self.network

    def after_fit(self) -> None:
        self.learn.model = self.average.module


class Checkpoint(Callback):
    """Save the run after every epoch, and take it up where it was saved; finished epochs are shown, not repeated."""

    order = 70  # after the recorder, whose table finished epochs are put back into

    def __init__(self, file: Path) -> None:
        self.file = file

    def before_fit(self) -> None:
        self.finished: list[list[float]] = []
        if not self.file.exists():
            return
        state = torch.load(self.file, map_location=self.learn.dls.device, weights_only=True)
        self.learn.weight_average.network.load_state_dict(state["network"])
        self.learn.weight_average.average.load_state_dict(state["average"])
        optimizer = self.learn.opt
        optimizer.load_state_dict({"state": state["optimizer"], "hypers": optimizer.hypers})
        self.finished = state["epochs"]
        loss = state["smooth_loss"]
        loss["val"] = loss["val"].cpu()  # fastai records on the CPU, wherever it trains
        vars(self.learn.recorder.smooth_loss).update(loss)

    def before_epoch(self) -> None:
        if self.epoch < len(self.finished):
            self.learn.recorder.log += self.finished[self.epoch]
            raise CancelEpochException

    def after_epoch(self) -> None:
        if self.epoch < len(self.finished):
            return
        recorder = self.learn.recorder
        partial = self.file.with_suffix(".partial")  # a run stopped while saving keeps its last checkpoint
        torch.save(
            {
                "network": self.learn.weight_average.network.state_dict(),
                "average": self.learn.weight_average.average.state_dict(),
                "optimizer": list(self.learn.opt.state_dict()["state"]),  # the schedule sets the rest
                "epochs": [[float(value) for value in row] for row in recorder.values],
                "smooth_loss": {"count": recorder.smooth_loss.count, "val": recorder.smooth_loss.val},
            },
            partial,
        )
        partial.replace(self.file)


class Bfloat16(MixedPrecision):
    """fastai's mixed precision on whatever device the data is on; its own is for CUDA alone."""

    def __init__(self, device_type: str) -> None:
        super().__init__(amp_mode=AMPMode.BF16)
        self.device_type = device_type

    def before_fit(self) -> None:
        self.autocast = autocast(self.device_type, dtype=torch.bfloat16)
        self.learn.scaler = GradScaler(self.device_type, enabled=False)  # bfloat16 has the range of float32
        self.scales = L()


def is_faster_in_bfloat16(device: torch.device) -> bool:
    """True for GPUs that have it, and for CPUs on which a convolution that is learnt in it takes less time.

    No flag of the processor tells: of two with AVX512-BF16 alone, one took 1.2 and one 0.5 times as long as in float32.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and _seconds_of_convolution(torch.bfloat16) < _seconds_of_convolution(torch.float32)


def _seconds_of_convolution(dtype: torch.dtype) -> float:
    convolution = nn.Conv2d(64, 64, 3, padding=1, dtype=dtype).to(memory_format=torch.channels_last)
    maps = torch.rand(16, 64, 24, 24, dtype=dtype).to(memory_format=torch.channels_last)
    return min(timeit.repeat(lambda: convolution(maps).sum().backward(), number=1, repeat=5))
