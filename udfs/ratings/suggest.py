"""Which pictures to ask a person about next: those whose judgement would teach most of all the others."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from udfs.ratings.crossval import USUAL
from udfs.ratings.heads import Head
from udfs.ratings.linear import FREE, PICKED, Numbers, expit
from udfs.ratings.space import SHARED, Space
from udfs.vectors.cosine import Vectors

MOST = 3000  # pictures among which the next ones are chosen, each with those before it in mind
MOST_JUDGED = 20_000  # of the pictures that were judged, so many are held against them


@dataclass(frozen=True)
class Design:
    """What is known of the weights of a score in few directions. basis: (d, k) that turns rows of a space into these.
    covariance: (k + 1, k + 1) of the weights and the offset, by Laplace's approximation. head: what was learnt.

    A judgement of x tells log(1 + h x C x) / 2 of the weights, with h = p (1 - p) for yes or no: it teaches where the
    score is unsure and the answer open (Houlsby et al., Bayesian active learning by disagreement, 2011)."""

    space: Space
    head: Head
    basis: Numbers
    covariance: Numbers

    @staticmethod
    def of(space: Space, head: Head, judged: Vectors) -> Design:
        """judged: (m, d) float32, pictures that were judged."""
        basis = _main_directions(space) if space.shared is None else space.shared
        judged = judged[-MOST_JUDGED:].reshape(-1, len(space.mean))
        known = _turned(space, basis, judged)
        prior = np.diag(np.append(np.full(basis.shape[1], USUAL), FREE))
        open_answers = _open(head, judged, np.zeros(len(judged)))
        covariance = np.linalg.inv(prior + (known * open_answers[:, None]).T @ known)
        return Design(space, head, basis, np.asarray(covariance, np.float64))

    def gains(self, vectors: Vectors) -> Numbers:
        """(n,) what a judgement of each would tell of the weights, in nats."""
        rows = _turned(self.space, self.basis, vectors)
        variances = _variances(rows, self.covariance)
        return np.asarray(np.log1p(variances * _open(self.head, vectors, variances)) / 2)

    def choose(self, vectors: Vectors, count: int) -> NDArray[np.int64]:
        """The rows of the vectors to be judged, the first first, each chosen as if those before it had been judged."""
        rows, covariance = _turned(self.space, self.basis, vectors), self.covariance
        chosen: list[int] = []
        for _ in range(min(count, len(rows))):
            variances = _variances(rows, covariance)
            open_answers = _open(self.head, vectors, variances)
            told = variances * open_answers
            told[chosen] = -1.0
            best = int(np.argmax(told))
            chosen.append(best)
            way = covariance @ rows[best]
            covariance = covariance - np.outer(way, way) * open_answers[best] / (1 + told[best])
        return np.array(chosen, np.int64)


def _open(head: Head, vectors: Vectors, variances: Numbers) -> Numbers:
    """(n,) variances of the answers: p (1 - p) of the mean probability, by MacKay's approximation (1992); 1 where an
    answer is not yes or no. variances: (n,) of the log-odds."""
    if head.kind != PICKED:
        return np.ones(len(vectors))
    odds = head.slope * replace(head, measured=None).raw(vectors) + head.shift
    likely = expit(odds / np.sqrt(1 + np.pi * variances / 8))
    return np.asarray(likely * (1 - likely))


def _turned(space: Space, basis: Numbers, vectors: Vectors) -> Numbers:
    return np.column_stack([space.rows(vectors) @ basis, np.ones(len(vectors))])


def _main_directions(space: Space) -> Numbers:
    """(d, k) the directions in which the vectors of the lake vary most."""
    rows = space.rows(space.sample)
    _, ways = np.linalg.eigh(rows.T @ rows)
    return np.asarray(ways[:, ::-1][:, :SHARED])


def _variances(rows: Numbers, covariance: Numbers) -> Numbers:
    return np.asarray(np.maximum(np.einsum("nk,nk->n", rows @ covariance, rows), 0.0))


def least_sure(head: Head, scores: Numbers, unsure: Numbers, count: int) -> NDArray[np.int64]:
    """The rows of the pictures that a head is least sure of: of probabilities those nearest to one half, of others
    those of the largest standard deviation."""
    doubt = -np.abs(scores - 0.5) if head.kind == PICKED else np.nan_to_num(unsure)
    return np.argsort(-doubt, kind="stable")[:count]
