"""What the app says of images: rows of a gallery, and one image with all that the tables know of it."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Any

import pyarrow.compute as pc

from jobs.engines.datasets import Opened
from jobs.pages.texts import ISSUES as TEXTS
from jobs.serve.batches import Batch
from jobs.serve.columns import Columns
from jobs.serve.decisions import Decisions
from jobs.serve.gallery import ALL_SCORES
from udfs.images.rows import PROPERTIES

NEIGHBOURS = 12
MEMBERS = 50
CONCEPTS = 5
ROWS_AT_ONCE = 16_384  # of a table that is read for one image: more take more memory


def row(columns: Columns, decisions: Decisions, number: int, score: float | None = None) -> dict[str, Any]:
    """One row in short. score: of the sort or the search."""
    cluster = int(columns.numbers("cluster")[number])
    uri = columns.uri(number)
    in_cluster = cluster >= 0
    return {
        "id": int(columns.id[number]),
        "name": "/".join(uri.split("/")[-2:]),
        "uri": uri,
        "label": _text(columns, "label", number),
        "split": _text(columns, "split", number),
        "issues": list(columns.coded("issue").of(number)),
        "suggestion": _text(columns, "suggestion", number),
        "suggested_label": _text(columns, "suggested", number),
        "width": int(columns.numbers("width")[number]),
        "height": int(columns.numbers("height")[number]),
        "cluster": cluster if in_cluster else None,
        "cluster_size": int(columns.numbers("cluster_size")[number]) if in_cluster else None,
        "is_keeper": bool(columns.numbers("is_keeper")[number]) if in_cluster else None,
        "relation": " ".join(columns.coded("relation").of(number)) or None,
        "decision": "".join(decisions.column().of(number)) or None,
        "decided_label": decisions.label(number),
        "score": score,
        "readable": bool(columns.numbers("readable")[number]),
    }


def image(tables: Opened, columns: Columns, decisions: Decisions, number: int) -> dict[str, Any]:
    """One image with findings, properties, neighbours, its cluster and its history. Raises FileNotFoundError where the
    tables have been vacuumed since they were opened."""
    image_id = int(columns.id[number])

    def rows_of(table: str, names: Iterable[str], is_there: bool = True) -> list[dict[str, Any]]:
        opened = tables.get(table) if is_there else None
        if opened is None:
            return []
        # One thread: for so few rows others cost more than they save.
        scan = opened.scanner(
            columns=list(names), filter=pc.field("image_id") == image_id, use_threads=False, batch_size=ROWS_AT_ONCE,
            batch_readahead=1, fragment_readahead=1,
        )  # fmt: skip
        rows: list[dict[str, Any]] = scan.to_table().to_pylist()
        return rows

    # The gallery knows already where there is nothing to be read.
    is_readable = bool(columns.numbers("readable")[number])
    has_findings, has_failed = (bool(columns.coded(name).of(number)) for name in ("issue", "error"))
    names = ("issue", "score", "evidence_id", "cosine", "detail", "suggestion", "suggested_label")
    findings = rows_of("issues", names, has_findings)
    neighbours = rows_of("neighbours", ("rank", "neighbour_id", "cosine"), is_readable)
    neighbours = sorted(neighbours, key=lambda each: each["rank"])[:NEIGHBOURS]
    concepts = rows_of("concepts", ("rank", "concept", "confidence"), is_readable)
    concepts = sorted(concepts, key=lambda each: each["rank"])[:CONCEPTS]
    properties = next(iter(rows_of("features", PROPERTIES, is_readable)), {})
    failure = next(iter(rows_of("failures", ("error", "detail"), has_failed)), None)
    asked = {each["neighbour_id"] for each in neighbours} | {each["evidence_id"] for each in findings}
    others = columns.rows_of(i for i in asked if i is not None)
    short = {i: row(columns, decisions, n) for i, n in others.items()}
    cluster = int(columns.numbers("cluster")[number])
    members = columns.members(cluster)[:MEMBERS].tolist() if cluster >= 0 else []
    modified = int(columns.numbers("modified")[number])
    size = int(columns.numbers("size_bytes")[number])
    return {
        **row(columns, decisions, number),
        "format": _text(columns, "format", number),
        "medium": _text(columns, "medium", number),
        "damage": _text(columns, "damage", number),
        "source": _text(columns, "source", number),
        "size_bytes": size if size >= 0 else None,
        "modified_at": time(datetime.datetime.fromtimestamp(modified / 1000, datetime.UTC)) if modified >= 0 else None,
        "failure": failure,
        "properties": properties,
        "scores": {name: columns.score(name, number) for name in ALL_SCORES},
        "concepts": [[each["concept"], each["confidence"]] for each in concepts],
        "topic": int(topic) if (topic := _text(columns, "topic", number)) else None,
        "findings": [
            {**each, "title": TEXTS[each["issue"]].title, "evidence": short.get(each["evidence_id"])}
            for each in findings
        ],
        "neighbours": [
            {**short[each["neighbour_id"]], "cosine": each["cosine"]}
            for each in neighbours
            if each["neighbour_id"] in short
        ],
        "cluster_members": [row(columns, decisions, member) for member in members],
        "history": [
            {"id": b.batch_id, "decision": b.decision, "label": b.label, "note": b.note, "by": b.by, "at": time(b.at),
             "undone": undone}
            for b, undone in decisions.history(image_id)
        ],
    }  # fmt: skip


def step(batches: list[Batch], undone: bool) -> dict[str, Any]:
    """The batches of a step in short, as one."""
    first, names = batches[0], sorted({batch.decision for batch in batches})
    return {
        "batch": first.batch_id, "decision": ", ".join(names), "label": first.label if len(batches) == 1 else None,
        "count": sum(len(batch.ids) for batch in batches), "note": first.note, "by": first.by, "at": time(first.at),
        "undone": undone,
    }  # fmt: skip


def time(at: datetime.datetime) -> str:
    """Of UTC, to the second."""
    return at.astimezone(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _text(columns: Columns, name: str, number: int) -> str | None:
    return columns.coded(name).told(number)
