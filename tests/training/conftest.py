"""Tests of modules that import torch."""

import tests.support.torch_on_cpu  # noqa: F401
