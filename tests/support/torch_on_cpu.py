"""Set torch up for tests: no GPU, whose results differ a little each time, and one thread, since batches are small."""

from __future__ import annotations

import torch
from fastai.torch_core import default_device

default_device(use=False)
torch.set_num_threads(1)
