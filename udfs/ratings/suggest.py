"""Which pictures to ask a person about next: those whose judgement would teach most of all the others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from udfs.ratings.heads import Head
from udfs.ratings.linear import FREE, PICKED, Numbers
from udfs.ratings.space import Space
from udfs.vectors.cosine import Vectors

MOST = 3000  # pictures that are compared with one another: 72 MB
MOST_JUDGED = 1000  # of the pictures that were judged, so many are held against them
STRENGTH = 0.1  # of the prior of weights: as few judgements are learnt by
NOISE = 4.0  # variance of a judgement about the log-odds, where yes and no are as likely


def most_telling(space: Space, pool: Vectors, judged: Vectors, count: int) -> NDArray[np.int64]:
    """The rows of the pool of which a judgement each would lower the variance of all scores most, the first first.

    pool: (n, d) float32, n <= MOST, pictures that are not judged; judged: (m, d); both best as means of pictures and
    their neighbours, for these are learnt from. Each is chosen as if those before it had been judged: active learning
    by the expected variance (Cohn, Ghahramani and Jordan, 1996) under the prior of the fits. What the judgements say
    counts for nothing here: a head of few judgements is too sure of where the verge lies."""
    judged = judged[-MOST_JUDGED:]
    rows, known = space.rows(pool), space.rows(judged) if len(judged) else np.zeros((0, pool.shape[1]))
    covariance = rows @ rows.T / STRENGTH + 1 / FREE
    if len(known):
        across = rows @ known.T / STRENGTH + 1 / FREE
        among = known @ known.T / STRENGTH + 1 / FREE + NOISE * np.eye(len(known))
        covariance -= across @ np.linalg.solve(among, across.T)
    chosen: list[int] = []
    for _ in range(min(count, len(pool))):
        own = np.maximum(covariance.diagonal(), 0.0)
        gain = np.einsum("nm,nm->n", covariance, covariance) / (own + NOISE)
        gain[chosen] = -1.0
        best = int(np.argmax(gain))
        chosen.append(best)
        column = covariance[best].copy()
        covariance -= np.outer(column, column) / (own[best] + NOISE)
    return np.array(chosen, np.int64)


def least_sure(head: Head, scores: Numbers, unsure: Numbers, count: int) -> NDArray[np.int64]:
    """The rows of the pictures that a head is least sure of: of probabilities those nearest to one half, of others
    those of the largest standard deviation."""
    doubt = -np.abs(scores - 0.5) if head.kind == PICKED else np.nan_to_num(unsure)
    return np.argsort(-doubt, kind="stable")[:count]
