"""Set torch up for tests: the CPU, whose results repeat exactly, and one thread, because the batches are small."""

from __future__ import annotations

import torch
from fastai.torch_core import default_device

default_device(use=False)
torch.set_num_threads(1)
