"""Core: brings batches of changes into a lake, each whole or not at all, at a cost in proportion to what is new.

A batch is read, compared with what is at hand of the lake (known.Known), and written to the journal; from then on it
counts, whatever is killed. What holds an image against the lake as a whole stays as the last whole run found it."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs import __version__, clusters, embed, issues, neighbours
from jobs.catalog import JOB as CATALOG
from jobs.config import Config
from jobs.engines import journal
from jobs.engines.base import Engine, MapBatches
from jobs.engines.choice import choose
from jobs.engines.opening import Opening, explained
from jobs.erasure.suppression import forgotten_of
from jobs.errors import ConfigError, LakeBusyError, LakeError
from jobs.issues import USUAL, Usual
from jobs.lakes import Lake
from jobs.lease import LeaseHeld, LeaseLost, acquire, new_run_id
from jobs.live import albums, duplicates, findings, following
from jobs.live.changes import Bringer, Change, Outcome
from jobs.live.draft import Draft
from jobs.live.following import Following
from jobs.live.known import FOUND_BY, Known, ids_of
from jobs.live.neighbours import move
from jobs.live.plan import Places, Plan, plan
from jobs.progress import Reporter
from jobs.stage import Context, History
from jobs.tables import TABLES
from jobs.upkeep.compacting import join_all
from udfs import arrow
from udfs.images import rows as image_rows
from udfs.networks import models, preparation
from udfs.stores import fetch, uris
from udfs.stores.cache import user_cache

JOB = "watch"
BATCH_MARK = "next_batch"  # in the lake's marker
JOIN_EACH, JOIN_FILES = 50, 20  # batches after which tables of so many files get fewer
ALONE = 32  # images that one child reads, before another is asked
# Tables that only a whole run adds rows of images to: rows of images that are gone go.
OF_WHOLE_RUNS = ("detections", "labels", "label_sets", "topics", "map")
FOLLOWED = (*FOUND_BY, "embeddings", "centres", "cells", "scores", *OF_WHOLE_RUNS, *following.TABLES)
JUDGED_BY = (embed.STAGE, neighbours.STAGE, clusters.STAGE, issues.STAGE)  # the last says what is usual


def open_bringer(lake: str, config: Config, reporter: Reporter) -> Bringer:
    """The bringer of a lake that is there, with an engine of its own. lake: a canonical URI. Raises RunError."""
    with ExitStack() as stack:
        opening = stack.enter_context(Opening(choose(config.spark), config, uris.is_s3(lake)))
        opening.check_lake(lake)
        core = Core(lake, config, reporter, opening.engine(uris.is_s3(lake)))
        return _WithEngine(core, stack.pop_all())


@dataclass(frozen=True)
class _WithEngine:
    """A core, and the engine that ends with it."""

    core: Core
    engine: ExitStack

    def bring(self, changes: Sequence[Change]) -> Outcome:
        return self.core.bring(changes)

    def close(self) -> None:
        with self.engine:
            self.core.close()


class Core:
    """A Bringer for one lake. engine: open, closed by whoever opened it. at_hand: a folder of its own; None: one of the
    user's caches."""

    def __init__(
        self,
        lake: str,
        config: Config,
        reporter: Reporter,
        engine: Engine,
        at_hand: Path | None = None,
    ) -> None:
        self._uri, self._config, self._reporter, self._engine = lake, config, reporter, engine
        self._model = models.find(config.embed.model, config.models)
        self._limits = fetch.Limits(config.embed.max_bytes, config.embed.timeout_s, config.embed.retries)
        folder = at_hand or Known.place(user_cache(), lake)
        self._known = Known(folder, lake, self._model.key, config.neighbours.k)
        self._read: MapBatches | None = None
        self._following: Following | None = None  # of what is known

    def bring(self, changes: Sequence[Change]) -> Outcome:
        """See Bringer. Raises RunError."""
        run_id = new_run_id()
        try:
            with ExitStack() as stack:
                lease = stack.enter_context(acquire(self._uri, run_id, self._config.lease.ttl_s))
                stack.enter_context(explained(self._engine))
                lake = Lake(self._engine.spark, self._uri, run_id, lease)
                lake.open()
                versions = {name: lake.version(name) for name in FOLLOWED}
                if not self._known.is_of(versions):
                    self._known.make(versions, json.dumps(self._learnt(lake)))
                    self._following = None
                return self._brought(lake, changes)
        except (LeaseHeld, LeaseLost) as error:
            raise LakeBusyError(str(error)) from error
        except models.ModelError as error:
            raise ConfigError(str(error)) from error

    def close(self) -> None:
        """See Bringer."""
        self._known.close()

    def _learnt(self, lake: Lake) -> dict[str, Any]:
        """What of the lake's runs a batch needs. Raises LakeError, ConfigError where they do not serve."""
        history, context = History(lake), Context(lake, self._config, self._reporter)
        listed, usual = history.last_done(CATALOG), {}
        for stage in JUDGED_BY:
            last = history.last_done(stage.name)
            if listed is None or last is None:
                raise LakeError(f"{self._uri} was not made whole yet: run `imagesieve run` first")
            now = json.loads(json.dumps({**stage.settings(context), "version": __version__}))
            if last["settings"] != now:
                other = sorted(
                    name for name in now.keys() | last["settings"].keys() if now.get(name) != last["settings"].get(name)
                )
                raise ConfigError(
                    f"{stage.name} ran with other settings ({', '.join(other)}): run `imagesieve run` with these once"
                )
            usual = last["counts"].get(USUAL, {})
        patterns = listed["settings"] if listed is not None else {}
        told = following.learnt(history, self._model.key)
        return {"layout": patterns.get("layout"), "owner": patterns.get("owner"), USUAL: usual, **told}

    def _brought(self, lake: Lake, changes: Sequence[Change]) -> Outcome:
        began, known = time.time(), self._known
        learnt = json.loads(known.learnt)
        places = Places(tuple(known.distinct("source")), learnt["layout"], learnt["owner"])
        forgotten = forgotten_of(self._uri, {change.uri for change in changes})
        changes = [change for change in changes if change.removed or change.uri not in forgotten]
        first = max(lake.next_id("next_image_id"), known.highest_id() + 1)
        done = plan(changes, known, places, first)
        done.left_out += len(forgotten)
        if not done.to_read and not done.removed:
            return Outcome(None, 0, 0, 0, done.same, 0, done.left_out)
        follow = self._follow(learnt)
        read = self._images(done)
        with known.changing():
            outcome = self._written(lake, done, read, Usual.of(learnt[USUAL]), follow, began)
            if outcome.batch and outcome.batch % JOIN_EACH == 0:
                join_all(self._uri, lake.confirm, JOIN_FILES)
            known.settled({name: lake.version(name) for name in FOLLOWED})
        return outcome

    def _written(
        self, lake: Lake, done: Plan, read: pa.Table, usual: Usual, follow: Following, began: float
    ) -> Outcome:
        """Brings all tables in line with what was read."""
        draft = Draft(lake, self._known)
        touched = self._tables(draft, done, read, usual, follow)
        number = lake.next_id(BATCH_MARK)
        failed = read.filter(pc.is_valid(read["error"])).num_rows
        outcome = Outcome(
            number, len(done.added), len(done.changed), len(done.removed), done.same, failed, done.left_out
        )
        draft.put("runs", [self._run(lake, outcome, began)], new=True)
        marks = {
            "next_image_id": max([lake.next_id("next_image_id"), *(row["image_id"] + 1 for row in done.added)]),
            "next_cluster_id": touched.next_cluster_id,
            BATCH_MARK: number + 1,
        }
        journal.write(self._uri, number + 1, draft.changes, marks, TABLES, draft.files)
        lake.settle()
        lake.clear_staging()
        return outcome

    def _tables(self, draft: Draft, done: Plan, read: pa.Table, usual: Usual, follow: Following) -> duplicates.Touched:
        """Drafts all tables but `runs`."""
        known, gone = draft.known, {*done.removed, *(row["image_id"] for row in done.changed)}
        good = read.filter(pc.is_null(read["error"]))
        good_ids, read_ids = set(ids_of(good).tolist()), set(ids_of(read).tolist())
        hashes = set(known.of_images("features", gone, ("pixel_hash",))["pixel_hash"].to_pylist())
        lost, owners = gone - good_ids, albums.owners(known, gone)
        draft.put("images", done.to_read, _keys(done.removed), new=not gone)
        draft.put(
            "features",
            good,
            _keys(lost & set(ids_of(known.of_images("features", gone, ("image_id",))).tolist())),
            new=not gone,
        )
        vectors = good.append_column("model", pa.repeat(self._model.key, good.num_rows))
        held = draft.keys_in_lake("embeddings", gone).to_pylist()
        replaced = [row for row in held if row["model"] != self._model.key or row["image_id"] not in good_ids]
        draft.put("embeddings", vectors, replaced, new=not gone)
        failed = findings.failure_rows(read, datetime.datetime.now(datetime.UTC))
        before = known.of_images("failures", gone | read_ids, ("image_id", "stage"))
        still = set(ids_of(failed).tolist())
        passed = [row for row in before.to_pylist() if row["image_id"] not in still]
        draft.put("failures", failed, passed, new=not before.num_rows)
        moved = move(draft, good.select(["image_id", "pixel_hash", "vector"]), gone, hashes, self._config.neighbours.k)
        touched = duplicates.touch(draft, self._config, moved)
        findings.find(
            draft, self._config, usual, good.drop_columns(["vector"]), read_ids, gone,
            moved.copies | touched.in_clusters | touched.alike,
        )  # fmt: skip
        for name in OF_WHOLE_RUNS:
            draft.put(name, None, draft.keys_in_lake(name, gone))
        follow.bring(draft, good, gone, owners)
        return touched

    def _follow(self, learnt: dict[str, Any]) -> Following:
        """Made once for what is known of the lake. Raises ModelError, LakeError."""
        if self._following is None:
            self._following = Following(self._uri, self._model, learnt)
        return self._following

    def _images(self, done: Plan) -> pa.Table:
        """EMBEDDED of all that is to be read."""
        attempts = {
            row["image_id"]: row["attempt"]
            for row in self._known.of_images("failures", [row["image_id"] for row in done.changed]).to_pylist()
        }
        rows = [{**row, "has_features": False, "attempt": attempts.get(row["image_id"], 0) + 1} for row in done.to_read]
        if not rows:
            return image_rows.EMBEDDED.empty_table()
        run = self._reader()
        parts = min(self._engine.cores, -(-len(rows) // ALONE))
        tables = [pa.Table.from_pylist(rows[part::parts], schema=image_rows.PENDING) for part in range(parts)]
        size = self._config.embed.batch
        with ThreadPoolExecutor(parts) as pool:
            found = pool.map(lambda table: list(run(iter(table.to_batches(size)))), tables)
            batches = [batch.select(image_rows.EMBEDDED.names) for part in found for batch in part]
        return pa.Table.from_batches(batches, schema=image_rows.EMBEDDED)

    def _reader(self) -> MapBatches:
        """What reads images in child processes, which stay open for later batches."""
        if self._read is None:
            settings, model = self._config.embed, self._model
            if model.format == "vectors":
                raise ConfigError(f"{model.key}: vectors made elsewhere cannot be made of what arrives")
            prepared = preparation.prepare(
                model, user_cache(), embed.choose_runtime(self._engine, settings.runtime, model.format)
            )
            task = arrow.task_maker(
                prepared, model, self._limits, settings.fetch_threads, settings.max_pixels,
                self._engine.workers(prepared.files),
            )  # fmt: skip
            self._read = arrow.embed_batches(task, settings.decode_timeout_s, lambda _: None)
        return self._read

    def _run(self, lake: Lake, outcome: Outcome, began: float) -> dict[str, Any]:
        """The row of `runs`."""
        read = outcome.added + outcome.changed
        counts = {
            "in": read, "out": read - outcome.failed, "failed": outcome.failed, "added": outcome.added,
            "changed": outcome.changed, "removed": outcome.removed, "batch": outcome.batch,
        }  # fmt: skip
        ended = time.time()
        return {
            "run_id": lake.run_id, "job": JOB, "version": __version__,
            "config": json.dumps({"settings": {}, "all": self._config.as_dict()}, sort_keys=True),
            "inputs": "{}", "counts": json.dumps(counts, sort_keys=True),
            "started_at": datetime.datetime.fromtimestamp(began, datetime.UTC),
            "ended_at": datetime.datetime.fromtimestamp(ended, datetime.UTC),
            "seconds": ended - began, "status": "done",
        }  # fmt: skip


def _keys(ids: Iterable[int]) -> list[dict[str, int]]:
    return [{"image_id": one} for one in sorted(ids)]
