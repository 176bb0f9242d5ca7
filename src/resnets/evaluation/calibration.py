"""From logits to probabilities, and how honest these are."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64]

BINS = 15  # equal-width bins of the top probability (Guo et al. 2017)


def softmax(logits: Floats) -> npt.NDArray[np.float64]:
    """(n, classes) logits to probabilities that sum to one a row."""
    return np.exp(log_softmax(logits))


def log_softmax(logits: Floats) -> npt.NDArray[np.float64]:
    """(n, classes) logits to natural logarithms of probabilities."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)), dtype=np.float64)


def sigmoid(logits: Floats) -> npt.NDArray[np.float64]:
    """Each logit to a probability of its own."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits.astype(np.float64))), dtype=np.float64)


def calibration_error(confidence: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]) -> float:
    """The mean gap between the top probability and the share that is right, over 15 bins, weighted by their size.

    confidence: (n,) in [0, 1]; a bin holds its upper edge, the first one zero too. NaN for n = 0.
    """
    bins = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    gaps = np.bincount(bins, weights=right - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(confidence)) if len(confidence) else float("nan")
