"""Which pictures to ask a person about next: those whose judgement would teach most of all the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from udfs.ratings.crossval import USUAL
from udfs.ratings.heads import Head
from udfs.ratings.linear import FREE, PICKED, Numbers
from udfs.ratings.space import SHARED, Space
from udfs.vectors.cosine import Vectors

MOST = 3000  # pictures among which the next ones are chosen, each with those before it in mind
MOST_JUDGED = 20_000  # of the pictures that were judged, so many are held against them
NOISE = 4.0  # variance of a judgement about the log-odds, where yes and no are as likely


@dataclass(frozen=True)
class Design:
    """What is known of the weights of a linear score in few directions. basis: (d, k) that turns rows of a space into
    these. covariance: (k + 1, k + 1) of the weights and the offset. moments: (k + 1, k + 1) mean square of (row, 1)
    over the pictures that are to be scored.

    A judgement of x lowers the variance of all scores by x C M C x / (x C x + noise): active learning by the expected
    variance (Cohn, Ghahramani and Jordan, 1996) under the prior of the fits. What the judgements say counts for nothing
    here: a head of few judgements is too sure of where the verge lies."""

    space: Space
    basis: Numbers
    covariance: Numbers
    moments: Numbers

    @staticmethod
    def of(space: Space, judged: Vectors, scored: Vectors | None = None) -> Design:
        """judged: (m, d) float32, pictures that were judged. scored: (n, d), some of those that are to be scored; by
        default the sample of the lake."""
        basis = _main_directions(space) if space.shared is None else space.shared
        sample = _turned(space, basis, space.sample if scored is None else scored)
        known = _turned(space, basis, judged[-MOST_JUDGED:]) if len(judged) else np.zeros((0, basis.shape[1] + 1))
        prior = np.diag(np.append(np.full(basis.shape[1], USUAL), FREE))
        covariance = np.linalg.inv(prior + known.T @ known / NOISE)
        return Design(space, basis, covariance, sample.T @ sample / max(len(sample), 1))

    def gains(self, vectors: Vectors) -> Numbers:
        """(n,) by how much a judgement of each would lower the mean variance of all scores."""
        return _gains(_turned(self.space, self.basis, vectors), self.covariance, self.moments)

    def choose(self, vectors: Vectors, count: int) -> NDArray[np.int64]:
        """The rows of the vectors to be judged, the first first, each chosen as if those before it had been judged."""
        rows, covariance = _turned(self.space, self.basis, vectors), self.covariance
        chosen: list[int] = []
        for _ in range(min(count, len(rows))):
            gains = _gains(rows, covariance, self.moments)
            gains[chosen] = -1.0
            best = int(np.argmax(gains))
            chosen.append(best)
            told = covariance @ rows[best]
            covariance = covariance - np.outer(told, told) / (rows[best] @ told + NOISE)
        return np.array(chosen, np.int64)


def _turned(space: Space, basis: Numbers, vectors: Vectors) -> Numbers:
    return np.column_stack([space.rows(vectors) @ basis, np.ones(len(vectors))])


def _main_directions(space: Space) -> Numbers:
    """(d, k) the directions in which the vectors of the lake vary most."""
    rows = space.rows(space.sample)
    _, ways = np.linalg.eigh(rows.T @ rows)
    return np.asarray(ways[:, ::-1][:, :SHARED])


def _gains(rows: Numbers, covariance: Numbers, moments: Numbers) -> Numbers:
    told = rows @ covariance
    lowered = np.einsum("nk,nk->n", told @ moments, told)
    return np.asarray(lowered / (np.maximum(np.einsum("nk,nk->n", told, rows), 0.0) + NOISE))


def least_sure(head: Head, scores: Numbers, unsure: Numbers, count: int) -> NDArray[np.int64]:
    """The rows of the pictures that a head is least sure of: of probabilities those nearest to one half, of others
    those of the largest standard deviation."""
    doubt = -np.abs(scores - 0.5) if head.kind == PICKED else np.nan_to_num(unsure)
    return np.argsort(-doubt, kind="stable")[:count]
