"""Which labels are given for which: the probabilities of each given label where another is true."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import scipy.sparse

Probabilities = NDArray[np.float64]

RANDOM_SHARE = 0.6  # of the noise that the confident joint tells: labels are also wrong at random
# Of the diagonal that the confident joint tells. A class that is never confident is not certain to be wrong, and none
# is free of wrong labels: ten benchmark sets have 3 % on average (Northcutt, Athalye and Mueller 2021).
LEAST_KEPT, MOST_KEPT = 1e-3, 0.99
# Labels of a class that are taken to be there, beside those that were counted: right and wrong ones.
RIGHT, AT_LEAST = 10.0, 1.0


@dataclass(frozen=True)
class Noise:
    """T(true, given): the probability of each label that may be given to an image of each of C classes.

    kept: (C,) its diagonal. confused: (C, C) its off-diagonal, by given and true class, the even part left out. stray:
    (C,) what of it each other class gets evenly, by true class."""

    kept: Probabilities
    confused: scipy.sparse.csr_array
    stray: Probabilities

    def likelihoods(self, given: NDArray[np.int32], dtype: Any = np.float64) -> NDArray[Any]:
        """(n, C) T of each true class and the label that was given."""
        found: NDArray[Any] = self.confused[given].toarray().astype(dtype, copy=False)
        found += self.stray.astype(dtype)
        found[np.arange(len(given)), given] = self.kept[given]
        return found

    def times(self, by: float) -> Noise:
        """With so many times the wrong labels."""
        most = float((1 - self.kept).max(initial=0.0))
        by = min(by, 1 / most if most > 0 else by)
        return Noise(1 - by * (1 - self.kept), by * self.confused, by * self.stray)


def of_joint(joint: scipy.sparse.csr_array, sizes: NDArray[np.int64]) -> Noise:
    """From the confident joint, counts by given and confident class (Northcutt, Jiang and Chuang 2021, JAIR 70)."""
    from scipy import sparse

    count = len(sizes)
    given = np.maximum(np.asarray(joint.sum(axis=1)).ravel(), 1e-9)
    calibrated = sparse.diags_array(sizes / given) @ joint  # rows of the sizes that the classes have
    true = np.maximum(np.asarray(calibrated.sum(axis=0)).ravel(), 1e-9)
    columns = sparse.csr_array(calibrated @ sparse.diags_array(1 / true))
    diagonal = columns.diagonal()
    kept = np.clip(diagonal, LEAST_KEPT, MOST_KEPT)
    confusions = (1 - RANDOM_SHARE) * (1 - diagonal)
    return Noise(kept, (1 - RANDOM_SHARE) * _off(columns), (1 - kept - confusions) / (count - 1))


def of_counts(counts: scipy.sparse.csr_array, spread: float) -> Noise:
    """From numbers of images by given and true class, as far as these are known: sums of posterior probabilities. Off
    the diagonal they are drawn to even ones by a Dirichlet prior: so many more of each class, spread
    evenly."""
    from scipy import sparse

    count = counts.shape[0]
    own, off = counts.diagonal(), _off(counts)
    wrong = np.asarray(off.sum(axis=0)).ravel()
    total = own + RIGHT + wrong + AT_LEAST
    told = wrong / (wrong + spread)
    even = wrong * (1 - told) + AT_LEAST
    confused = sparse.csr_array(off @ sparse.diags_array(told / total))
    return Noise((own + RIGHT) / total, confused, even / total / (count - 1))


def _off(table: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    from scipy import sparse

    found = sparse.csr_array(table - sparse.diags_array(table.diagonal()))
    found.eliminate_zeros()
    return found
