"""When two images are near-duplicates: the cosine of their vectors, what is around them, and their pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from udfs.vectors.cosine import Values

ALIGNMENT_WEIGHT = 0.5  # 0.3 and 0.7 told copies from look-alikes no better
LIKELY = 0.28  # by which the likeness of an edit is more than half its alignment: of 99 in 100 edits that move much
BACKGROUND_RANK = 10  # the neighbour that stands for how alike everything around an image is
NO_BACKGROUND = 0.45  # of an image with fewer neighbours: about that of unrelated photographs


@dataclass(frozen=True)
class NearRule:
    """When two images are near-duplicates.

    The margin of a pair is its cosine above the mean of the two backgrounds, an image's background its cosine with its
    BACKGROUND_RANK-th neighbour: in a lake of one subject everything is alike, and only what stands out may be a copy.
    Two images are candidates where their cosine is at least `threshold` and their margin at least `margin`, and
    near-duplicates where margin + half the alignment (of udfs.images.alignment) make `evidence`; beyond its margin a
    cosine tells no more. From a cosine of `certain` on no evidence is asked. What the rule joins is looked at again
    (udfs.images.relations): a network takes two pages, two codes or two drawings for one."""

    threshold: float
    margin: float
    certain: float
    evidence: float = 0.0

    @property
    def least(self) -> float:
        """The cosine below which two images are no near-duplicates, whatever else speaks for it."""
        return min(self.threshold, self.certain)

    @property
    def surest(self) -> float:
        """The cosine from which on the network has no doubt; `threshold` where there is no such cosine."""
        return self.certain if self.certain <= 1 else self.threshold

    def doubtful(self, cosines: Values, left: Values, right: Values) -> NDArray[np.bool_]:
        """Pairs that need evidence."""
        above = _margins(cosines, left, right) >= self.margin
        return (cosines < self.certain) & (cosines >= self.threshold) & above

    def likely(self, cosines: Values, left: Values, right: Values, likeness: Values) -> NDArray[np.bool_]:
        """Pairs that need evidence and may have it: an alignment costs ten times what a likeness does. likeness: of
        udfs.images.starts."""
        margins = _margins(cosines, left, right)
        enough = (margins >= self.evidence) | (margins + likeness >= self.evidence + LIKELY)
        return self.doubtful(cosines, left, right) & enough

    def matches(
        self, cosines: Values, left: Values, right: Values, alignments: Values | float = 0.0
    ) -> NDArray[np.bool_]:
        """cosines and alignments of pairs, backgrounds of their sides: float64 that broadcast."""
        evidence = _margins(cosines, left, right) + ALIGNMENT_WEIGHT * alignments
        return (cosines >= self.certain) | (self.doubtful(cosines, left, right) & (evidence >= self.evidence))


def _margins(cosines: Values, left: Values, right: Values) -> Values:
    """See NearRule. cosines of pairs, backgrounds of their sides: float64 that broadcast."""
    return cosines - (left + right) / 2
