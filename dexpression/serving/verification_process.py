"""The process that verifies an export: its memory is freed with it, and it can be killed."""

from __future__ import annotations

import os
import signal
import time
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from dexpression.artifact.manifest import OnnxModel
from dexpression.errors import DeXpressionError, StartError
from dexpression.serving.processes import PROCESSES

VERIFY_SECONDS = 120  # until a verification is killed; with PyTorch it takes about 5 on an idle machine


class Verified(NamedTuple):
    """The result of a verification."""

    model: OnnxModel
    with_learner: bool  # whether its answers were compared with those of its learner


class Verification:
    """A process that verifies an export, so that the memory is freed with it, and that can be killed."""

    def __init__(self, model_path: Path, with_learner: bool = False, nice: int = 0) -> None:
        self.with_learner = with_learner
        self.pipe, child_end = PROCESSES.Pipe(duplex=False)
        arguments = child_end, model_path, with_learner, nice
        self._process = PROCESSES.Process(target=_verify, args=arguments, name="verification", daemon=True)
        self._process.start()
        child_end.close()
        self._deadline = time.monotonic() + VERIFY_SECONDS

    def is_done(self) -> bool:
        """Whether `result` returns or raises at once."""
        return self.pipe.poll() or time.monotonic() > self._deadline

    def result(self) -> Verified:
        """Wait for the verified model; raises the reason against it, and StartError for no result in time."""
        if not self.pipe.poll(max(0.0, self._deadline - time.monotonic())):
            raise StartError(f"The verification of the model took longer than {VERIFY_SECONDS} s. Export it again.")
        try:
            result: Verified | DeXpressionError = self.pipe.recv()
        except EOFError:
            raise StartError("The process that verifies the model died. Is there enough free memory?") from None
        if isinstance(result, DeXpressionError):
            raise result
        return result

    def kill(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.join()
        self.pipe.close()


def _verify(pipe: Connection, model_path: Path, with_learner: bool, nice: int) -> None:
    """Send the Verified model, or the reason against it; `nice` lowers the priority, where the system supports it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the supervisor handles it
    if nice and hasattr(os, "nice"):
        os.nice(nice)
    warnings.simplefilter("ignore")  # fastai's imports warn
    from dexpression.artifact.verification import verify_export, verify_onnx_model

    try:
        model = verify_export(model_path) if with_learner else verify_onnx_model(model_path)
        pipe.send(Verified(model, with_learner or "onnx" not in model.manifest.digests))
    except DeXpressionError as error:
        pipe.send(error)
    except Exception as error:
        reason = f"The verification of the model failed ({type(error).__name__})."
        pipe.send(StartError(f"{reason} Export it again, or install DeXpression's packages again."))
