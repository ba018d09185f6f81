"""Whether a bundle is the translator that was trained: the scores of its translations are computed again in Keras."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from modelhub.recipes.translation import recipe
from modelhub.recipes.translation.model import Transformer
from modelhub.seq2seq import Bundle
from modelhub.subwords import END, START
from modelhub.trainer.task import Failure

# Compared by the gate; each has ten tokens or so.
ROWS = 64
# Of the logarithm of a probability, a token.
MAX_DIFFERENCE = 1e-3

Ids = NDArray[np.int32]


def compared(bundle: Bundle, model: Transformer, sources: Sequence[Ids]) -> dict[str, Any]:
    """How far the bundle's greedy translations and their scores are from what the trained model says of them.

    `max_difference` is of the logarithm of a translation's probability, by its tokens; `agreement` the share of tokens
    that are the trained model's likeliest, too.
    """
    longest = max(map(len, sources))
    lengths = np.array([len(row) for row in sources], np.int32)
    tokens = recipe.padded(sources, length=longest)
    # Without a length penalty the score is the logarithm of the probability itself.
    found = bundle.translate(tokens, lengths, beam=1, length_penalty=0.0)
    ended = found.lengths < bundle.settings.limits(lengths)
    rows = [
        [START, *row[:length].tolist(), *([END] if end else [])]
        for row, length, end in zip(found.tokens, found.lengths, ended, strict=True)
    ]
    targets = recipe.padded(rows, length=max(map(len, rows)))
    likely = tf.nn.log_softmax(model.logits(tokens, targets[:, :-1])).numpy()
    return _differences(likely, targets[:, 1:], found.scores, counts=np.array([len(row) - 1 for row in rows]))


def require(conversion: dict[str, Any]) -> None:
    """Raises Failure if the bundle is not the model that was trained."""
    if not conversion["max_difference"] <= MAX_DIFFERENCE:
        raise Failure(
            "The file for serving does not agree with the trained model: the logarithm of a token's probability "
            f"differs by {conversion['max_difference']:.3g}, at most {MAX_DIFFERENCE:g} is allowed. "
            "The fault is on our side; please tell us the job's id."
        )


def _differences(
    likely: NDArray[np.float32], truths: Ids, scores: NDArray[np.float32], *, counts: NDArray[np.int64]
) -> dict[str, Any]:
    counted = np.arange(truths.shape[1]) < counts[:, None]
    chosen = np.take_along_axis(likely, truths[..., None], -1)[..., 0]
    sums = np.where(counted, chosen, 0).sum(axis=1)
    same = likely.argmax(axis=-1) == truths
    return {
        "rows": len(truths),
        "max_difference": float(np.max(np.abs(sums - scores) / counts)),
        "agreement": float(same[counted].mean()),
    }
