"""Which labels are given for which: the probabilities of each given label where another is true."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import scipy.sparse

Probabilities = NDArray[np.float64]

# Labels of a class that are taken to be there beside those that were counted, as often wrong as those of all classes;
# and wrong labels of all, spread over the given classes by their sizes.
STRENGTH, BY_SIZE = 10.0, 5.0
# Of the labels of a class. None is free of wrong ones: ten benchmark sets have 3 % on average (Northcutt, Athalye and
# Mueller 2021).
LEAST_WRONG = 1e-3


@dataclass(frozen=True)
class Noise:
    """T(true, given): the probability of each label that may be given to an image of each of C classes.

    kept: (C,) its diagonal. confused: (C, C) its off-diagonal, by given and true class, without what is spread over
    all other classes: into[given] * stray[true]. into: (C,) sum 1."""

    kept: Probabilities
    confused: scipy.sparse.csr_array
    stray: Probabilities
    into: Probabilities

    def likelihoods(self, given: NDArray[np.int32], dtype: Any = np.float64) -> NDArray[Any]:
        """(n, C) T of each true class and the label that was given."""
        found: NDArray[Any] = self.confused[given].toarray().astype(dtype, copy=False)
        found += self.into[given][:, None].astype(dtype) * self.stray.astype(dtype)
        found[np.arange(len(given)), given] = self.kept[given]
        return found

    def times(self, by: float) -> Noise:
        """With so many times the wrong labels."""
        most = float((1 - self.kept).max(initial=0.0))
        by = min(by, 1 / most if most > 0 else by)
        return Noise(1 - by * (1 - self.kept), by * self.confused, by * self.stray, self.into)


def of_counts(counts: scipy.sparse.csr_array, spread: float, sizes: NDArray[np.int64]) -> Noise:
    """From numbers of images by given and true class, as far as these are known: sums of posterior probabilities.

    How often a class is given wrongly is drawn to what is so of all, and which labels it gets to those that wrong
    labels of all classes are (Dirichlet priors; of the latter with spread images)."""
    from scipy import sparse

    own, off = counts.diagonal(), _off(counts)
    wrong, shares = np.asarray(off.sum(axis=0)).ravel(), sizes / sizes.sum()
    into = np.asarray(off.sum(axis=1)).ravel() + BY_SIZE * shares
    into /= into.sum()
    overall = float(wrong.sum() / max(counts.sum(), 1e-9))
    lost = np.maximum((wrong + STRENGTH * overall) / (own + wrong + STRENGTH), LEAST_WRONG)
    told = wrong / (wrong + spread)
    confused = sparse.csr_array(off @ sparse.diags_array(lost * told / np.maximum(wrong, 1e-300)))
    return Noise(1 - lost, confused, lost * (1 - told) / np.maximum(1 - into, 1e-300), into)


def calibrated(joint: scipy.sparse.csr_array, sizes: NDArray[np.int64]) -> scipy.sparse.csr_array:
    """The confident joint, counts by given and confident class, with rows of the sizes that the classes have
    (Northcutt, Jiang and Chuang 2021, JAIR 70)."""
    from scipy import sparse

    given = np.maximum(np.asarray(joint.sum(axis=1)).ravel(), 1e-9)
    return sparse.csr_array(sparse.diags_array(sizes / given) @ joint)


def _off(table: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    from scipy import sparse

    found = sparse.csr_array(table - sparse.diags_array(table.diagonal()))
    found.eliminate_zeros()
    return found
