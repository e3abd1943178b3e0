"""What the app takes: one JSON line of `python -m tests.bench.serve [--photos DIR] [--labelled DIR]`.

    python -m tests.bench.serve [--images 2000000] [--vectors 1000000] [--parts rows,decisions,search,words]

- rows: a lake of made-up rows. start_s until the page is there, with the gallery made (first_ready_s: the first time,
  until it is); first_page_ms; filter_ms (three filters with all facets), jump_ms (200 rows at any place of a sorted
  list), map_ms (where all lie, the labels of all and what a filter holds), lasso_ms (what a lasso of 64 corners around
  a third of the map holds), step_ms (previous and next of a picture, as the server itself tells its time in
  Server-Timing; bar 1 ms), step_http_ms (the same as the client sees it, and rtt_ms an answer without work), folders_ms
  (the folders of a level under a filter), image_ms and image_cpu_ms (all of one picture, as the server tells, and CPU
  of the server), all the 95th percentile but image_cpu_ms, a mean; peak_mb of the server and its children, which share
  pages.
- decisions: DECISIONS by four clients at once: how many are there, twice, and after a restart; a second.
- search: vectors of 256 numbers; search_ms, the 95th percentile (search_cpu_ms, a mean), recall_at_10 against all,
  index_cpu_ms (of the command `index`, its start included) and index_bytes an image; told_recall, what the command
  itself measured; open_cpu_s until the app has the lake's index; then LATER more vectors: added_cpu_s of the command
  again, and the same of searches afterwards; own_cpu_ms, an image, where the lake has no index and the app makes one.
- words: text_map, mean average precision of the class names over --labelled (a folder of each class), and of
  tests.bench.serve_queries over --photos, whose names tell what they show. told_: the recall of like pictures, as a run
  measured it.
- scroll_ms: pages of 40 small pictures of --photos, made before, the 95th percentile."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import psutil
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from numpy.typing import NDArray

from jobs.indexing import store
from jobs.serve import gallery
from jobs.serve.searching import Searches
from tests.bench import engine_runs, process_tree, serve_lake, serve_queries
from udfs.networks.nouns import nouns
from udfs.stores import fetch

PARTS = ("rows", "decisions", "search", "words", "scroll")
TRIES = 60
DECISIONS, CLIENTS, TOGETHER = 100_000, 4, 100
QUERIES = 200
LATER = 10_000  # vectors
MODEL = "bench@1"
PICTURES = 40  # of a page
CONNECTIONS = 6  # of a browser to one host


class Server:
    """A server of a lake, in a process of its own. started_s: until the page was there. ready_s: until the lake was."""

    def __init__(self, lake: Path, cache: Path, *more: str) -> None:
        begun = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "imagesieve", "serve", "--lake", str(lake), "--no-browser",
             "--port", "0", *more],
            env={**engine_runs.environment(), "IMAGESIEVE_CACHE": str(cache)}, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        address = next(line for line in self._process.stdout if line.startswith("http")).strip()
        self.base, _, token = address.partition("/?token=")
        self.headers = {"authorization": f"Bearer {token}", "x-imagesieve": "1"}
        self.client = self.new_client()
        while True:
            try:
                self.client.get("/").raise_for_status()
                break
            except httpx.TransportError:
                time.sleep(0.01)
        self.started_s = time.monotonic() - begun
        while not self.get("/api/lake").json()["ready"]:
            time.sleep(0.02)
        self.ready_s = time.monotonic() - begun
        self.peak = 0

    def new_client(self) -> Any:
        return httpx.Client(base_url=self.base, headers=self.headers, timeout=120)

    def get(self, path: str) -> Any:
        found = self.client.get(path)
        found.raise_for_status()
        return found

    def own_ms(self, path: str) -> float:
        """How long the server says that its answer took."""
        told = str(self.get(path).headers["server-timing"])
        return float(told.removeprefix("app;dur="))

    def cpu_s(self) -> float:
        """Of the server's own process, since it began."""
        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)

    def memory(self) -> int:
        """Bytes of all processes, pages that they share counted once."""
        process = psutil.Process(self._process.pid)
        return sum(one.memory_full_info().pss for one in (process, *process.children(recursive=True)))

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()


@contextmanager
def served(lake: Path, cache: Path, *more: str) -> Iterator[Server]:
    server = Server(lake, cache, *more)
    try:
        yield server
    finally:
        server.close()


def quantile(values: list[float], digits: int = 1) -> float:
    """The 95th percentile."""
    return round(float(np.quantile(values, 0.95)), digits)


def timed(work: Callable[[int], Any], tries: int = TRIES) -> float:
    """The 95th percentile in milliseconds. work: gets the number of the try."""
    found = []
    for number in range(tries):
        begun = time.perf_counter()
        work(number)
        found.append(time.perf_counter() - begun)
    return quantile([1000 * seconds for seconds in found])


def rows(work: Path, images: int) -> dict[str, Any]:
    lake, cache = work / "rows", work / "rows-cache"
    serve_lake.write(lake, images)
    with served(lake, cache) as server:
        first_ready = server.ready_s
    draw = np.random.default_rng(0)
    with served(lake, cache) as server:
        peaks = []

        def filtered(number: int) -> None:
            low = number / (2 * TRIES)
            names = ("dark", "blurry", "near_duplicate", "wrong_label", "noisy", "outlier")
            query = f"issue={names[number % 6]}&split={('train', 'val', 'test')[number % 3]}&score=blur_score:{low}:0.9"
            server.get(f"/api/facets?{query}")
            server.get(f"/api/rows?{query}&limit=200")
            if number % 10 == 0:
                peaks.append(server.memory())

        def step() -> str:
            return f"/api/step?sort=-blur_score&id={draw.integers(0, images)}"

        def mapped(number: int) -> None:
            for path in ("map", "map/colours?facet=label", f"map/view?score=blur_score:{number / 1000}:0.9"):
                server.get(f"/api/{path}")

        def lassoed(number: int) -> None:
            turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
            away = (0.33 + number / 1000) * (1 + 0.1 * np.sin(7 * turn))
            corners = 0.5 + away[:, np.newaxis] * np.stack([np.cos(turn), np.sin(turn)], axis=1)
            server.get(f"/api/map/view?lasso={','.join(f'{one:.5f}' for one in corners.ravel())}")

        begun = time.perf_counter()
        server.get("/api/rows?limit=200")
        server.get("/api/facets")
        first_page = 1000 * (time.perf_counter() - begun)
        found = {
            "images": images,
            "start_s": round(server.started_s, 2),
            "ready_s": round(server.ready_s, 2),
            "first_ready_s": round(first_ready, 1),
            "first_page_ms": round(first_page, 1),
            "filter_ms": timed(filtered),
            "jump_ms": timed(
                lambda _: server.get(f"/api/rows?sort=-blur_score&limit=200&offset={draw.integers(0, images)}")
            ),
            "step_ms": quantile([server.own_ms(step()) for _ in range(500)], 2),
            "step_http_ms": timed(lambda _: server.get(step()), 500),
            "map_ms": timed(mapped, 20),
            "lasso_ms": timed(lassoed, 20),
            "rtt_ms": timed(lambda _: server.get("/app.css"), 500),
            "text_filter_ms": timed(lambda n: server.get(f"/api/rows?text={n:04}"), 20),
            "folders_ms": timed(lambda n: server.get(f"/api/folders?split={('train', 'val', 'test')[n % 3]}"), 20),
        }
        cpu = server.cpu_s()
        found["image_ms"] = quantile([server.own_ms(f"/api/image/{draw.integers(0, images)}") for _ in range(TRIES)])
        found["image_cpu_ms"] = round(1000 * (server.cpu_s() - cpu) / TRIES, 1)
        return {**found, "peak_mb": round(max([*peaks, server.memory()]) / 1e6)}


def decisions(work: Path) -> dict[str, Any]:
    lake, cache = work / "decided", work / "decided-cache"
    serve_lake.write(lake, DECISIONS)
    with served(lake, cache) as server:

        def decide(client: int) -> None:
            asking = server.new_client()
            own = range(client, DECISIONS, CLIENTS)
            for first in range(0, len(own), TOGETHER):
                ids = list(own[first : first + TOGETHER])
                asking.post("/api/decide", json={"ids": ids, "decision": "remove"}).raise_for_status()

        begun = time.monotonic()
        threads = [threading.Thread(target=decide, args=(client,)) for client in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.monotonic() - begun
        there = server.get("/api/rows?decision=remove&limit=1").json()["total"]
    kept = DeltaTable(str(lake / "reviews")).to_pyarrow_table(columns=["image_id"])["image_id"].to_pylist()
    with served(lake, cache) as server:
        again = server.get("/api/rows?decision=remove&limit=1").json()["total"]
    return {
        "decisions": DECISIONS, "lost": DECISIONS - there, "twice": sum(n > 1 for n in Counter(kept).values()),
        "lost_after_restart": DECISIONS - again, "decisions_a_second": round(DECISIONS / seconds),
    }  # fmt: skip


def search(work: Path, count: int) -> dict[str, Any]:
    lake = work / "vectors"
    vectors = vectors_of_subjects(count + LATER)
    _write(lake, vectors[:count])
    card = work / "card.yaml"
    card.write_text(
        f"models:\n  {MODEL}:\n    format: vectors\n    weights: {work / 'none.parquet'}\n"
        f"    dimension: {vectors.shape[1]}\n    licence: none\n    source: none\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-W", "ignore", "-m", "imagesieve", "index", "--lake", str(lake), "--config", str(card),
               "--set", f"embed.model={MODEL}"]  # fmt: skip
    cpu = engine_runs.ended(command).cpu_s
    kept = store.read(str(lake))
    assert kept is not None
    assert kept.recall is not None
    found = {
        "vectors": count, "index_cpu_ms": round(1000 * cpu / count, 3), "told_recall": kept.recall.at_10,
        "index_bytes": round(sum(file.bytes for file in kept.files()) / count), **_searched(lake, vectors[:count]),
    }  # fmt: skip
    serve_lake.write_more(lake, count, LATER, labels=10)
    _write_vectors(lake, vectors, count)
    added = engine_runs.ended(command).cpu_s
    later = _searched(lake, vectors)
    found |= {"later": LATER, "added_cpu_s": round(added, 1), **{f"later_{name}": each for name, each in later.items()}}
    store.remove(str(lake))
    own = _searched(lake, vectors)["open_cpu_s"]
    return {**found, "own_cpu_ms": round(1000 * own / len(vectors), 3)}


def _searched(lake: Path, vectors: NDArray[np.float32]) -> dict[str, Any]:
    """Of all vectors of a lake, in the order of the ids."""
    at = gallery.versions(str(lake))
    columns = gallery.opened(str(lake), at)
    begun = time.process_time()
    searches = Searches(str(lake), at, columns, fetch.Limits(), 10**8)
    searches.wait()
    cpu = time.process_time() - begun
    assert searches.index is not None, searches.fault
    queries = np.random.default_rng(1).integers(0, len(vectors), QUERIES)
    hits, times, cpu_s = 0, [], 0.0
    for row in queries.tolist():
        begun, cpu_begun = time.perf_counter(), time.process_time()
        found, _ = searches.index.like(vectors[row])
        times.append(time.perf_counter() - begun)
        cpu_s += time.process_time() - cpu_begun
        true = np.argpartition(-(vectors @ vectors[row]), 10)[:10]
        hits += len({int(columns.id[r]) for r in found[:10]} & set(true.tolist()))
    return {
        "search_ms": round(1000 * float(np.quantile(times, 0.95)), 1), "recall_at_10": round(hits / 10 / QUERIES, 4),
        "search_cpu_ms": round(1000 * cpu_s / QUERIES, 1), "open_cpu_s": round(cpu, 2),
    }  # fmt: skip


def vectors_of_subjects(count: int, dimension: int = 256, subjects: int = 2000) -> NDArray[np.float32]:
    """Vectors of so many subjects of unequal size, each with a few directions of its own: like those of a network,
    whose neighbours lie at a median cosine of 0.8."""
    draw = np.random.default_rng(0)
    weights = 1 / np.arange(1, dimension + 1) ** 0.5
    middles = draw.standard_normal((subjects, dimension)) * weights
    own = draw.choice(subjects, count, p=(share := 1 / np.arange(1, subjects + 1) ** 0.5) / share.sum())
    found = np.empty((count, dimension), np.float32)
    for start in range(0, count, 100_000):
        part = slice(start, min(start + 100_000, count))
        noise = draw.standard_normal((part.stop - start, dimension)) * weights
        found[part] = middles[own[part]] + 0.7 * noise
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def _write(lake: Path, vectors: NDArray[np.float32]) -> None:
    serve_lake.write(lake, len(vectors), labels=10)
    day = serve_lake.SOME_DAY
    told = {"run_id": "r", "job": "embed", "version": "0", "inputs": "{}", "counts": "{}", "status": "done"}
    run = {**told, "config": json.dumps({"settings": {"model": MODEL}}), "started_at": day, "ended_at": day}
    run["seconds"] = 1.0
    write_deltalake(str(lake / "runs"), pa.Table.from_pylist([run]))
    _write_vectors(lake, vectors, 0)


def _write_vectors(lake: Path, vectors: NDArray[np.float32], first: int) -> None:
    """Those from the first one on."""
    kind = pa.list_(pa.field("element", pa.float32(), nullable=False))
    for start in range(first, len(vectors), 50_000):
        part = vectors[start : start + 50_000]
        offsets = pa.array(np.arange(len(part) + 1) * part.shape[1], pa.int32())
        lists = pa.ListArray.from_arrays(offsets, pa.array(part.ravel())).cast(kind)
        ids = pa.array(np.arange(start, start + len(part)))
        keys = pa.array([MODEL] * len(part))
        norms = pa.array(np.ones(len(part), np.float32))
        columns = {"image_id": ids, "model": keys, "vector": lists, "norm": norms}
        write_deltalake(str(lake / "embeddings"), pa.table(columns), mode="append")
        copies = {"image_id": ids, "representative_id": ids, "content_key": ids}
        write_deltalake(str(lake / "copies"), pa.table(copies), mode="append")


def average_precision(relevant: NDArray[np.bool_]) -> float:
    """relevant: of all pictures, in the order of an answer."""
    places = np.flatnonzero(relevant)
    return float((np.arange(1, len(places) + 1) / (places + 1)).mean()) if len(places) else 0.0


def words(work: Path, labelled: Path | None, photos: Path | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, folder, more in (("labelled", labelled, ("--layout", "{label}/*")), ("photos", photos, ())):
        if folder is None:
            continue
        lake = work / f"words-{name}"
        engine_runs.measured(folder, lake, *more)
        at = gallery.versions(str(lake))
        columns = gallery.opened(str(lake), at)
        searches = Searches(str(lake), at, columns, fetch.Limits(), 10**8)
        searches.wait()
        assert searches.index is not None, searches.fault
        found[f"told_{name}"] = searches.told["recall"]
        if name == "labelled":
            label = columns.coded("label")
            truth = {names[0]: label.having(names) for names in label.names if names}
        else:
            uris = [columns.uri(row) for row in range(columns.images)]
            truth = {query: np.array([bool(re.search(which, uri)) for uri in uris]) for query, which in
                     serve_queries.QUERIES.items()}  # fmt: skip
        each = {}
        for query, relevant in truth.items():
            weights = [one for term in nouns().terms(query) if (one := nouns().weights(term)).any()]
            rows_found = searches.index.of_classes(weights, columns.images)[0] if weights else np.empty(0, np.int32)
            rest = np.setdiff1d(np.arange(columns.images), rows_found)
            each[query] = average_precision(relevant[np.concatenate([rows_found, rest]).astype(np.int64)])
        found[f"text_map_{name}"] = round(float(np.mean(list(each.values()))), 3)
        found[f"worst_{name}"] = {query: round(each[query], 2) for query in sorted(each, key=each.__getitem__)[:5]}
    return found


def scroll(work: Path, photos: Path) -> dict[str, Any]:
    lake = work / "words-photos"
    if not lake.exists():
        engine_runs.measured(photos, lake)
    with served(lake, work / "scroll-cache") as server:
        total = server.get("/api/lake").json()["images"]
        ids = [row["id"] for row in server.get(f"/api/rows?limit={min(total, 500)}").json()["rows"]]
        own = threading.local()  # a connection for each thread, with little work of its own

        def fetched(image_id: int) -> None:
            if not hasattr(own, "connection"):
                own.connection = http.client.HTTPConnection(server.base.partition("//")[2])
            own.connection.request("GET", f"/api/thumb/{image_id}", headers=server.headers)
            answer = own.connection.getresponse()
            answer.read()
            assert answer.status in (200, 404), answer.status

        with ThreadPoolExecutor(CONNECTIONS) as pool:

            def page(number: int) -> None:
                first = number * PICTURES % max(1, len(ids) - PICTURES)
                list(pool.map(fetched, ids[first : first + PICTURES]))

            cold = timed(page, -(-len(ids) // PICTURES))
            return {"cold_scroll_ms": cold, "scroll_ms": timed(page)}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.serve")
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--labelled", type=Path)
    parser.add_argument("--images", type=int, default=2_000_000)
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {','.join(PARTS)}")
    options = parser.parse_args(argv)
    parts = options.parts.split(",")
    if set(parts) - set(PARTS) or ("scroll" in parts and options.photos is None):
        parser.error(f"--parts is of {', '.join(PARTS)}; scroll needs --photos")
    found: dict[str, Any] = {"machine": process_tree.machine()}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        os.environ["IMAGESIEVE_CACHE"] = str(work / "cache")
        if "rows" in parts:
            found |= rows(work, options.images)
            shutil.rmtree(work / "rows")
        if "decisions" in parts:
            found |= decisions(work)
        if "search" in parts:
            found |= search(work, options.vectors)
        if "words" in parts:
            found |= words(work, options.labelled, options.photos)
        if "scroll" in parts:
            found |= scroll(work, options.photos)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
