"""Catches lists of neighbours that are merged wrongly."""

import numpy as np

from udfs.vectors.merge import Pairs, merged


def test_merged_is_a_plain_sort() -> None:
    """A pair that counts twice, a wrong order of ties, or a list longer than k."""
    generator = np.random.default_rng(0)
    keys = generator.integers(0, 2**60, 40)
    others = generator.integers(0, 40, 3000)
    rows = generator.integers(0, 50, 3000)
    cosine = np.round(generator.uniform(-1, 1, (50, 40)), 1)  # many ties
    pairs = Pairs(rows, others + 2**40, keys[others], cosine[rows, others])
    found = merged(pairs, 7)
    expected = []
    for row in range(50):
        mine = {int(other) for other in others[rows == row]}
        order = sorted(mine, key=lambda other: (-cosine[row, other], int(keys[other]), other))
        expected += [(row, other + 2**40, int(keys[other]), cosine[row, other]) for other in order[:7]]
    columns = (found.rows, found.others, found.other_keys, found.cosines)
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == expected


def test_merged_of_nothing() -> None:
    """A crash on an empty bucket."""
    none = np.empty(0, np.int64)
    assert len(merged(Pairs(none, none, none, np.empty(0)), 3).rows) == 0
