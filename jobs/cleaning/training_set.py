"""The clean set as shards for training: which images go into which shard, and the manifest that replays it.

A folder of a training set holds SPLIT/SPLIT-000000.tar (or .parquet) and so on, `images.parquet`, a row for each image,
`shards.parquet`, a row for each shard, and `training-set.json`, which says how it was made and is written first, and
again at the end. The plan in it is what a run that goes on, or replays, is held to."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from jobs import __version__
from jobs.cleaning import files
from jobs.cleaning.applying import safe_name
from jobs.cleaning.rules import corrected
from jobs.engines.frames import keep, map_batches, map_groups, to_arrow
from jobs.errors import ConfigError, InputError
from jobs.lakes import Lake
from udfs.stores import fetch, objects, uris
from udfs.training import dealing
from udfs.training.containers import CONTAINERS
from udfs.training.shards import LISTED, PLACED, WRITTEN, ShardTask, Split, places, record_of, shard_writer

CODE = 2  # version of what decides the bytes of a shard
MANIFEST, IMAGES, SHARDS, LEFT_OUT = "training-set.json", "images.parquet", "shards.parquet", "left-out.jsonl"
MOST_LIST = 4 << 30  # bytes of a list that is read again
FEWEST, MOST = 100, 1_000_000  # images of a shard
SHARD_IMAGES = 4096
MOST_SPLITS, MOST_CLASSES = 1000, 100_000
UNSPLIT = "all"  # the folder of images without a split
READ_FROM = ("images", "features", "issues", "duplicates", "labels", "leaks", "reviews", "topics", "ratings")
# What a killed run was writing, as objects.replacing names it in a folder.
_DRAFT = re.compile(r".+\.(?:tar|parquet|json|jsonl)\.[0-9a-f]{16}\.tmp")

Shares = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Target:
    """What to write. to: a canonical URI. write: of CONTAINERS. shares: splits into which images without one are dealt.
    replay: the canonical URI of a set's MANIFEST, whose images are taken in place of the lake's."""

    to: str
    write: str
    seed: int
    shard_images: int
    shares: Shares = ()
    replay: str | None = None


def check(to: str, write: str, seed: int, shard_images: int, splits: str | None, lake: str) -> Target:
    """Looks at the arguments before anything is started. Raises ConfigError with all faults, StoreError."""
    faults = []
    if not FEWEST <= shard_images <= MOST:
        faults.append(f"--shard-images: must be {FEWEST}..{MOST}, got {shard_images}")
    if not 0 <= seed < 1 << 63:
        faults.append(f"--seed: must be 0..2^63-1, got {seed}")
    shares: Shares = ()
    try:
        shares = _shares(splits or "")
    except ValueError as error:
        faults.append(f"--splits: {error}")
    place = _folder(to, lake, faults)
    if faults:
        raise ConfigError("; ".join(faults))
    objects.check_access(place, must_exist=False)
    if objects.has_any(place) and not objects.exists(uris.join(place, MANIFEST)):
        raise ConfigError(f"--to {to}: is not empty, and no training set of imagesieve lies in it: name another folder")
    return Target(place, write, seed, shard_images, shares)


def check_replay(replay: str, to: str, lake: str) -> Target:
    """As check, for a set that is to be written again as it was. Raises ConfigError, InputError, StoreError."""
    source = uris.canonical(replay, base=os.getcwd())  # noqa: PTH109 (a text)
    plan = _manifest(source)["plan"]
    target = check(to, plan["write"], plan["seed"], plan["shard_images"], None, lake)
    if uris.join(target.to, MANIFEST) == source:
        raise ConfigError(f"--to {to}: is the set that is replayed: name another folder")
    return Target(target.to, target.write, target.seed, target.shard_images, (), source)


def write(lake: Lake, rows: DataFrame | None, target: Target, rules: dict[str, Any], limits: fetch.Limits) -> list[str]:
    """Writes the shards that are not there yet. rows: see rules.judged; None where a set is replayed. rules: of the
    section clean, to be told. Returns lines for a person. Raises ConfigError where another set lies there, InputError
    for images that cannot be read now: the same command goes on."""
    lines = []
    with tempfile.TemporaryDirectory(prefix="imagesieve-") as folder:
        listed = Path(folder) / IMAGES
        made_of: dict[str, Any]
        if rows is None:
            made_of = _copied(str(target.replay), listed)
        else:
            kept = _listed(lake, rows, target)
            lake.engine.write_in_order(kept, "uri", lake.staging("training-set"))
            unread = _kept(rows).count() - files.write(str(listed), lake.staging("training-set"), LISTED)
            lines += [f"{unread:>12,}  images to keep could not be read when the lake was made: in no shard"] * (
                unread > 0
            )
            versions = {name: lake.version(name) for name in READ_FROM}
            made_of = {"lake": lake.uri, "tables": versions, "rules": rules, "dealt": dict(target.shares)}
        table = pq.read_table(listed, columns=["split", "label", "labels"])
        plan = {
            "code": CODE, "write": target.write, "seed": target.seed, "shard_images": target.shard_images,
            "images": table.num_rows, "images_sha256": _digest(listed),
        }  # fmt: skip
        splits, classes = _splits(table, target.shard_images), _classes(table)
        if _is_whole(target, plan):
            return [*lines, f"{target.to}: this training set lies there already"]
        objects.put(uris.join(target.to, MANIFEST), _json({"plan": plan, "whole": False, "made_of": made_of}))
        with objects.replacing(uris.join(target.to, IMAGES)) as path:
            shutil.copyfile(listed, path)
    task = ShardTask(target.to, target.write, splits, classes, limits)
    frame = lake.engine.read_source(uris.join(target.to, IMAGES), "parquet").select(*LISTED.names)
    placed = map_batches(frame, places(target.seed, splits), from_arrow_schema(PLACED))
    done = to_arrow(map_groups(placed, ["part"], shard_writer(task), from_arrow_schema(WRITTEN))).sort_by("name")
    faults = [fault for fault in done["fault"].to_pylist() if fault is not None]
    if faults:
        raise InputError(
            f"{faults[0]}; {len(faults)} of {done.num_rows} shards were not written: the same command goes on from here"
        )
    lines += _ended(target, {"plan": plan, "whole": True, "made_of": made_of}, done, classes)
    return lines


def _ended(target: Target, told: dict[str, Any], done: pa.Table, classes: Sequence[str]) -> list[str]:
    """Writes what is known of the whole set. done: WRITTEN, by name. Returns lines for a person."""
    with objects.replacing(uris.join(target.to, SHARDS)) as path:
        pq.write_table(done.select(["name", "split", "images", "bytes", "sha256", "left_out"]), path)
        digest = _digest(path)
    left_out = _left_out(target, done)
    counts: dict[str, int] = {}
    for split, images in zip(done["split"].to_pylist(), done["images"].to_pylist(), strict=True):
        counts[split or UNSPLIT] = counts.get(split or UNSPLIT, 0) + images
    versions = {"imagesieve": __version__, "pyarrow": pa.__version__}
    whole = {"classes": list(classes), "splits": counts, "shards": done.num_rows, "shards_sha256": digest}
    objects.put(uris.join(target.to, MANIFEST), _json({**told, **whole, "left_out": left_out, "versions": versions}))
    objects.delete_below(uris.join(target.to, "_parts"))
    for folder in (target.to, *{uris.join(target.to, name.partition("/")[0]) for name in done["name"].to_pylist()}):
        for name in list(objects.list_names(folder)):
            if _DRAFT.fullmatch(name):
                objects.delete(uris.join(folder, name))
    parts = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items())[:20])
    lines = [f"{sum(counts.values()):>12,}  images in {done.num_rows:,} shards of {target.to}: {parts}"]
    if left_out:
        lines.append(
            f"{left_out:>12,}  are not there any more, or not as the lake has seen them: {LEFT_OUT} names them"
        )
    if target.replay is not None:
        lines.append(_compared(target, done))
    return lines


def _left_out(target: Target, done: pa.Table) -> int:
    """Writes LEFT_OUT where there is anything to name. Returns how many images that are."""
    count, names = 0, done.filter(pc.greater(done["left_out"], 0))["name"].to_pylist()
    if names:
        with objects.replacing(uris.join(target.to, LEFT_OUT)) as path, path.open("w", encoding="utf-8") as file:
            for name in names:
                for one in json.loads(objects.read_small(record_of(target.to, name)))["left_out"]:
                    file.write(json.dumps(one, ensure_ascii=True) + "\n")
                    count += 1
    return count


def _compared(target: Target, done: pa.Table) -> str:
    there = _read(uris.join(str(target.replay).rpartition("/")[0], SHARDS), ["name", "sha256"]).to_pylist()
    before, now = ({row["name"]: row["sha256"] for row in rows} for rows in (there, done.to_pylist()))
    others = sorted(name for name in {**before, **now} if before.get(name) != now.get(name))
    if others:
        return f"{len(others):,} shards are not what they were, the first of them {others[0]}"
    return f"all {len(now):,} shards are byte for byte what they were"


def _kept(rows: DataFrame) -> DataFrame:
    return rows.where(F.col("issue").isNull() & ~F.col("is_shard"))


def _listed(lake: Lake, rows: DataFrame, target: Target) -> DataFrame:
    """LISTED of the images to keep that could be read."""
    seen = lake.require("features").select("image_id", "sha256", "format")
    kept = _kept(rows).withColumns(corrected()).join(seen, "image_id").select(*LISTED.names)
    if not target.shares:
        return kept
    component = lake.read("duplicates").select("image_id", F.col("component_id").alias("component"))
    given = keep(settled(kept, component))
    free = given.where(F.col("split").isNull())
    images = free.count()
    large = (
        free.where(F.col("component").isNotNull())
        .groupBy("component").agg(F.count("*").alias("images"))
        .where(F.col("images") > dealing.LARGE * images)
    )  # fmt: skip
    sizes = {row["component"]: row["images"] for row in large.collect()}
    how = dealing.deal(target.seed, target.shares, images, sizes)
    return map_batches(given, dealing.dealt(how), from_arrow_schema(LISTED))


def settled(kept: DataFrame, component: DataFrame) -> DataFrame:
    """Images to keep, with `component`; one without a split has that of its near-duplicates, the first by name.
    component: (image_id, component)."""
    of = kept.select("image_id", "split").join(component, "image_id")
    known = of.where(F.col("split").isNotNull()).groupBy("component").agg(F.min("split").alias("settled"))
    near = of.join(known, "component", "left").select("image_id", "component", "settled")
    found = kept.join(near, "image_id", "left")
    return found.withColumn("split", F.coalesce("split", "settled")).drop("settled")


def _copied(replay: str, listed: Path) -> dict[str, Any]:
    """Brings the list of a set that is replayed. Raises InputError where it is not the one that the manifest names."""
    manifest = _manifest(replay)
    source = uris.join(replay.rpartition("/")[0], IMAGES)
    table = _read(source, LISTED.names)
    listed.write_bytes(objects.read_small(source, MOST_LIST))
    if _digest(listed) != manifest["plan"]["images_sha256"] or table.schema.names != LISTED.names:
        raise InputError(f"{source}: is not the list that {replay} was made of")
    made_of: dict[str, Any] = manifest["made_of"]
    return made_of


def _manifest(uri: str) -> dict[str, Any]:
    """Of a set that is whole. Raises InputError."""
    try:
        told = json.loads(objects.read_small(uri))
        plan = told["plan"]
        known = plan["code"] == CODE and plan["write"] in CONTAINERS and {"seed", "shard_images"} <= set(plan)
    except FileNotFoundError:
        raise InputError(f"{uri}: there is no such file") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{uri}: is no manifest of a training set ({error})") from error
    if not known or not told.get("whole"):
        raise InputError(f"{uri}: is of a set that is not whole, or of another version of imagesieve")
    found: dict[str, Any] = told
    return found


def _is_whole(target: Target, plan: dict[str, Any]) -> bool:
    """Whether this very set is there already. Raises ConfigError where another one is, whole or begun."""
    try:
        told = json.loads(objects.read_small(uris.join(target.to, MANIFEST)))
    except FileNotFoundError:
        return False
    except ValueError as error:
        raise ConfigError(f"--to {target.to}: {MANIFEST} cannot be read ({error})") from error
    before = told.get("plan") if isinstance(told, dict) else None
    if before != plan or not isinstance(before, dict):
        known = before if isinstance(before, dict) else {}
        other = [name for name in plan if known.get(name) != plan[name]]
        raise ConfigError(f"--to {target.to}: holds another training set ({', '.join(other)}): name another folder")
    return bool(told.get("whole"))


def _splits(table: pa.Table, shard_images: int) -> tuple[Split, ...]:
    """Raises ConfigError for too many splits, or two whose folders would have one name."""
    counted = table.group_by("split").aggregate([([], "count_all")]).to_pylist()
    counts = {row["split"]: row["count_all"] for row in counted}
    names = {split: safe_name(split) if split else UNSPLIT for split in counts}
    if len(counts) > MOST_SPLITS or len({name.lower() for name in names.values()}) < len(names):
        raise ConfigError(f"a training set has at most {MOST_SPLITS} splits, whose names differ as those of folders")
    splits, first = [], 0
    for split in sorted(counts, key=lambda split: (split is not None, split or "")):
        parts = -(-counts[split] // shard_images)
        splits.append(Split(split, names[split], first, parts))
        first += parts
    return tuple(splits)


def _classes(table: pa.Table) -> tuple[str, ...]:
    several = pc.list_flatten(table["labels"].combine_chunks())
    labels = pc.unique(pa.concat_arrays([table["label"].drop_null().combine_chunks(), several]))
    if len(labels) > MOST_CLASSES:
        raise ConfigError(f"{len(labels):,} labels: a training set has at most {MOST_CLASSES:,}")
    return tuple(sorted(labels.to_pylist()))


def _shares(text: str) -> Shares:
    """train=0.8,val=0.2. Raises ValueError."""
    shares = []
    for part in filter(None, text.split(",")):
        name, equals, share = part.strip().partition("=")
        try:
            shares.append((name, float(share)))
        except ValueError:
            equals = ""
        if not (name and equals):
            raise ValueError(f"must be NAME=SHARE,NAME=SHARE, got {text!r}")
    if shares and (
        not all(0 < share < 1 or share == 1 for _, share in shares)
        or abs(sum(share for _, share in shares) - 1) > 1e-6
        or len({name for name, _ in shares}) < len(shares)
    ):
        raise ValueError(f"shares must be of different names, over 0, and sum to 1, got {text!r}")
    return tuple(shares)


def _folder(to: str, lake: str, faults: list[str]) -> str:
    try:
        place = uris.canonical(to, base=os.getcwd()).rstrip("/")  # noqa: PTH109 (a text)
    except ValueError as error:
        faults.append(f"--to: {error}")
        return to
    if place == lake or place.startswith(f"{lake}/") or lake.startswith(f"{place}/"):
        faults.append(f"--to {to}: must be apart from the lake")
    return place


def _read(uri: str, columns: Sequence[str]) -> pa.Table:
    """Columns of a Parquet file of a set. Raises InputError."""
    try:
        return pq.read_table(pa.BufferReader(objects.read_small(uri, MOST_LIST)), columns=list(columns))
    except (FileNotFoundError, pa.ArrowException) as error:
        raise InputError(f"{uri}: cannot be read ({error})") from error


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=True, default=str).encode()
