"""Connected components of a graph in one process."""

from __future__ import annotations

import numpy as np

from udfs.vectors.cosine import Ids


def prepare() -> None:
    """Imports what the first call would wait for."""
    from scipy.sparse import csgraph  # noqa: F401


def label_components(sources: Ids, targets: Ids) -> tuple[Ids, Ids]:
    """sources, targets: (e,) int64, ends of edges. Returns (nodes ascending, lowest id in the component of each)."""
    from scipy.sparse import coo_array, csgraph

    nodes, positions = np.unique(np.concatenate([sources, targets]), return_inverse=True)
    if not len(nodes):
        return nodes, nodes
    rows, columns = positions[: len(sources)], positions[len(sources) :]
    graph = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(len(nodes), len(nodes)))
    count, labels = csgraph.connected_components(graph, directed=False)
    lowest = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(lowest, labels, nodes)
    return nodes, lowest[labels]
