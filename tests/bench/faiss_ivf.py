"""Build and search of faiss IndexIVFFlat, for a Python that has faiss and numpy and nothing else: run as a script.

    python faiss_ivf.py vectors.npy truth.npz K RECALL THREADS LISTS[,LISTS...] [PROBES]

prints one JSON line. vectors: (n, d) float32 of norm 1. truth: queries (q,), nearest (q, K), both row numbers.
With PROBES, one index is built and all vectors are searched with it. Without, an index is built for each number of
lists, only the queries are searched with more and more probes until their recall is RECALL, and what all would have
cost is reckoned from that. CPU is that of all threads from before the training on: the imports and the reading of the
vectors, which a service would have done anyway, are left out.
"""

import json
import sys
import time
from typing import Any

import numpy as np

LADDER = (1, 2, 4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 128, 192, 256)
TRAINED_ON = 64  # vectors a list; faiss asks for 39 to 256, and with fewer its training costs less


def recall(found: Any, queries: Any, nearest: Any) -> float:
    """Share of the nearest that were found, a query itself left out. found: (q, K + 1), nearest: (q, K)."""
    hits = [
        len(set(row[row != query][: len(true)]) & set(true))
        for row, query, true in zip(found, queries, nearest, strict=True)
    ]
    return sum(hits) / float(nearest.size)


def main(argv: list[str]) -> int:
    import faiss  # type: ignore[import-not-found, unused-ignore]

    vectors, truth = np.load(argv[0]), np.load(argv[1])
    queries, nearest = truth["queries"], truth["nearest"]
    k, wanted, threads = int(argv[2]), float(argv[3]), int(argv[4])
    if threads:
        faiss.omp_set_num_threads(threads)
    found = []
    for lists in [int(text) for text in argv[5].split(",")]:
        began, wall = time.process_time(), time.monotonic()
        index = faiss.IndexIVFFlat(
            faiss.IndexFlatIP(vectors.shape[1]), vectors.shape[1], lists, faiss.METRIC_INNER_PRODUCT
        )
        sample = np.random.default_rng(0).choice(len(vectors), min(len(vectors), TRAINED_ON * lists), replace=False)
        index.train(vectors[sample])
        index.add(vectors)
        build = time.process_time() - began
        result: dict[str, Any] = {
            "lists": lists,
            "threads": faiss.omp_get_max_threads(),
            "build_cpu_s": round(build, 1),
        }
        for probes in (int(argv[6]),) if len(argv) > 6 else LADDER:
            index.nprobe = probes
            began = time.process_time()
            rows = index.search(vectors if len(argv) > 6 else vectors[queries], k + 1)[1]
            search = (time.process_time() - began) * (len(vectors) / len(rows))
            reached = recall(rows[queries] if len(argv) > 6 else rows, queries, nearest)
            if reached >= wanted:
                break
        result |= {"probes": probes, "recall": round(reached, 4), "search_cpu_s": round(search, 1)}
        result |= {"cpu_s": round(build + search, 1), "wall_s": round(time.monotonic() - wall, 1)}
        found.append(result)
    print(json.dumps({"version": faiss.__version__, "searches": found}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
