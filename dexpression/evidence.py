"""Evidence: what each place of a face says for each label, so that a prediction can be looked into.

The network ends in a mean over places and one linear layer. These two can change places: then each place has logits
of its own, and their mean over the places is the logits of the face (class activation maps, Zhou et al. 2016). So this
is no estimate of what the network does, but what it adds up. A place sees more of the face than itself: what counts
most for it is near its centre.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

TINY = float(np.finfo(np.float32).tiny)  # in place of a probability of 0, whose logarithm is infinite


def evidence_maps(evidence: np.ndarray, probabilities: np.ndarray, readout: Mapping[str, Any]) -> np.ndarray:
    """Turn a model's evidence (N, heads, labels, rows, columns) into that of one reading, (N, labels, rows, columns).

    At each place, the evidence for a label is its logit less the mean of all labels' logits: above 0, the place speaks
    for the label. The softmax of the means over the places is `probabilities` (N, labels), those of the reading.
    `readout` has its vote_share and temperature, as in the manifest.
    """
    logits = evidence / readout["temperature"]
    shares = _shares_of_heads(logits.mean(axis=(3, 4)), readout["vote_share"])
    maps = (shares[..., None, None] * logits).sum(axis=1)
    maps -= maps.mean(axis=1, keepdims=True)  # what speaks for all labels alike changes no probability
    # Class factors, and a reading that mixes the probabilities of two heads, add a constant to each label.
    means = np.log(np.maximum(probabilities, TINY))
    means -= means.mean(axis=1, keepdims=True)
    centred: np.ndarray = maps + (means - maps.mean(axis=(2, 3)))[..., None, None]
    return centred


def _shares_of_heads(logits: np.ndarray, vote_share: float) -> np.ndarray:
    """How much of each label's probability comes from each head: (N, heads, labels), summing to 1 over the heads."""
    powers = np.exp(logits - logits.max(axis=2, keepdims=True))
    probabilities = powers / powers.sum(axis=2, keepdims=True)
    weights = [1.0] if logits.shape[1] == 1 else [1 - vote_share, vote_share]
    parts = probabilities * np.reshape(weights, (-1, 1)) + TINY
    shares: np.ndarray = parts / parts.sum(axis=1, keepdims=True)
    return shares
