"""What networks trained before say of a face, for another to learn beside the truth (Hinton et al. 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from fastai.learner import Learner
from torch import Tensor

from dexpression.data import stack_pixels, vote_shares
from dexpression.errors import RecipeError
from dexpression.learner import FaceReader
from dexpression.loss import per_head
from dexpression.sources import Face

BATCH = 256


class Teachers:
    """Faces -> the same faces with targets: between their own truth and the mean of what the teachers answer.

    `trust`, 0..1, is the teachers' share. Two people in three agree with a label of FER2013: what several networks see
    in a face is often nearer to the truth, and tells how like two emotions look.
    """

    def __init__(self, learners: Sequence[Learner], trust: float) -> None:
        self.labels = list(learners[0].dls.vocab)
        self.readers = [FaceReader(learner).to(memory_format=torch.channels_last) for learner in learners]
        self.trust = trust

    def __call__(self, faces: Sequence[Face], heads: int) -> list[Face]:
        """The faces with targets (heads, labels) of sum 1; raises RecipeError if a teacher has fewer heads."""
        truth = np.stack([self._truth(face)[:heads] for face in faces])
        trust = np.where(truth.any(axis=2, keepdims=True), self.trust, 1.0)  # where nobody voted, the teachers alone
        targets = (1 - trust) * truth + trust * self.answers(stack_pixels(faces), heads)
        return [replace(face, targets=rows) for face, rows in zip(faces, targets.tolist(), strict=True)]

    def answers(self, pixels: np.ndarray, heads: int) -> np.ndarray:
        """(N, heads, labels): mean probabilities of faces (N, 1, H, W) and of their mirror images."""
        with torch.inference_mode():
            answers = [self._answers(batch, heads) for batch in torch.split(torch.from_numpy(pixels), BATCH)]
        return torch.cat(answers).numpy()

    def _answers(self, pixels: Tensor, heads: int) -> Tensor:
        views = [pixels, pixels.flip(-1)]
        logits = [per_head(reader.logits(view)) for reader in self.readers for view in views]
        if any(answer.shape[1] < heads for answer in logits):
            raise RecipeError("A teacher never learnt the votes, as this run does. Choose another, or --votes 0.")
        return torch.stack([answer[:, :heads].softmax(dim=-1) for answer in logits]).mean(dim=0)

    def _truth(self, face: Face) -> np.ndarray:
        return np.array([[float(face.label == label) for label in self.labels], vote_shares(face, self.labels)])
