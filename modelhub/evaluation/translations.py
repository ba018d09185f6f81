"""How close translations are to those that people made."""

from collections.abc import Sequence
from typing import Any


def bleu(references: Sequence[str], hypotheses: Sequence[str]) -> dict[str, Any]:
    """BLEU and chrF of hypotheses, one for each reference, both from 0 to 100, as sacrebleu computes them.

    `signature` says how, so that figures can be compared (Post 2018, "A Call for Clarity in Reporting BLEU Scores").
    Of no rows both are null. Raises ValueError if the numbers of rows differ.
    """
    from sacrebleu.metrics import BLEU, CHRF

    if len(references) != len(hypotheses):
        raise ValueError(f"There are {len(hypotheses)} hypotheses for {len(references)} references.")
    if not references:
        return {"rows": 0, "bleu": None, "chrf": None}
    metric, letters = BLEU(), CHRF()
    score = metric.corpus_score(list(hypotheses), [list(references)])
    return {
        "rows": len(references),
        "bleu": float(score.score),
        "precisions": [float(one) for one in score.precisions],
        "brevity_penalty": float(score.bp),
        "length_ratio": float(score.ratio),
        "chrf": float(letters.corpus_score(list(hypotheses), [list(references)]).score),
        "signature": str(metric.get_signature()),
    }
