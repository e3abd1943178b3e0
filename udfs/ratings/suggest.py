"""Which pictures to ask a person about next: those whose judgement would teach most of all the others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from udfs.ratings.heads import Head, Sureness
from udfs.ratings.linear import PICKED, Numbers, expit
from udfs.vectors.cosine import Vectors

MOST = 3000  # pictures that are compared with one another: 72 MB


def most_telling(head: Head, vectors: Vectors, count: int, raw: Numbers) -> NDArray[np.int64]:
    """The rows of pictures of which a judgement each would lower the variance of all the scores most, the first first.

    vectors: (n, d) float32, n <= MOST, of pictures that are not judged. raw: (n,) scores of Head.raw(). Each next one is
    chosen as if the ones before it had been judged: active learning by the expected reduction of the variance (Cohn,
    Ghahramani and Jordan, 1996), for logistic heads at the curvature of the fit. Pictures on the verge count more: there
    an error turns a yes into a no. Raises ValueError for a head that does not know how sure it is."""
    sure = head.sureness
    if sure is None:
        raise ValueError(f"{head.key} does not know how sure it is")
    covariance = _covariance(sure, vectors)
    if head.kind == PICKED:
        likely = expit(raw)
        curved = likely * (1 - likely)
    else:
        curved = np.full(len(vectors), 0.25)
    worth, noise = curved, 1 / np.maximum(curved, 1e-3)
    if head.kind != PICKED:
        noise = np.full(len(vectors), float(head.about.get("noise", 1.0)) ** 2)
    chosen: list[int] = []
    for _ in range(min(count, len(vectors))):
        own = np.maximum(covariance.diagonal(), 0.0)
        gain = (np.square(covariance) @ worth) / (own + noise)
        gain[chosen] = -1.0
        best = int(np.argmax(gain))
        chosen.append(best)
        column = covariance[best].copy()
        covariance -= np.outer(column, column) / (own[best] + noise[best])
    return np.array(chosen, np.int64)


def _covariance(sure: Sureness, vectors: Vectors) -> Numbers:
    """(n, n) of the scores."""
    rows = (vectors.astype(np.float64) - sure.mean) / sure.scale
    learnt = rows @ sure.ways[:-1] + sure.ways[-1]
    found = sure.wide * (rows @ rows.T) + sure.flat - learnt @ learnt.T
    return np.asarray(found)


def least_sure(head: Head, scores: Numbers, unsure: Numbers, count: int) -> NDArray[np.int64]:
    """The rows of the pictures that a head is least sure of: of probabilities those nearest to one half, of others those
    of the largest standard deviation."""
    doubt = -np.abs(scores - 0.5) if head.kind == PICKED else unsure
    return np.argsort(-doubt, kind="stable")[:count]
