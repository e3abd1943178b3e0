"""Plan: which images of a lake a batch of changes adds, changes and removes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from jobs.inputs.layout import layout_pattern, owner_pattern
from jobs.live.changes import Change
from jobs.live.known import Known


@dataclass
class Plan:
    """added, changed: rows of `images` as they are to be. removed: ids."""

    added: list[dict[str, Any]] = field(default_factory=list)
    changed: list[dict[str, Any]] = field(default_factory=list)
    removed: list[int] = field(default_factory=list)
    same: int = 0
    left_out: int = 0

    @property
    def to_read(self) -> list[dict[str, Any]]:
        return [*self.added, *self.changed]


@dataclass(frozen=True)
class Places:
    """Where images of the lake come from. sources: canonical URIs of its inputs. layout, owner: patterns of the run
    that listed them."""

    sources: tuple[str, ...]
    layout: str | None
    owner: str | None = None

    def of(self, uri: str) -> dict[str, Any] | None:
        """source, relative, split, label and owner of an image; None where it is of none of the sources."""
        below = [source for source in self.sources if uri.startswith(source.rstrip("/") + "/")]
        if not below:
            return None
        source = max(below, key=len)
        relative = uri[len(source.rstrip("/")) + 1 :]
        found: dict[str, Any] = {"source": source, "relative": relative, "split": None, "label": None, "owner": None}
        if self.layout:
            pattern, names = layout_pattern(self.layout)
            match = re.match(pattern, relative)
            found |= dict(zip(names, match.groups(), strict=True)) if match else {}
        if self.owner and (match := re.match(owner_pattern(self.owner), relative)):
            found["owner"] = match[1]
        return found


def plan(changes: Sequence[Change], known: Known, places: Places, first_id: int) -> Plan:
    """What is to be done. Of several changes of one object the last counts. first_id: the first never given out."""
    last = {change.uri: change for change in changes}
    there = {row["uri"]: row for row in known.rows("images", "uri", last).to_pylist()}
    found, out = list[tuple[Change, dict[str, Any]]](), Plan()
    for change in last.values():
        place = places.of(change.uri)
        if change.uri in there:
            place = place or {**there[change.uri], "relative": change.uri}
        if place is None:
            out.left_out += 1
        else:
            found.append((change, place))
    added = []
    for change, place in found:
        old = there.get(change.uri)
        if change.removed:
            if old is None:
                out.same += 1
            else:
                out.removed.append(old["image_id"])
            continue
        row = {
            "uri": change.uri, "etag": change.etag, "size_bytes": change.size_bytes, "modified_at": change.modified_at,
            "labels": None, "shard": None, "shard_offset": None, **place,
        }  # fmt: skip
        if old is None:
            added.append(row)
        elif (old["etag"], old["size_bytes"]) != (change.etag, change.size_bytes):
            out.changed.append({**row, "image_id": old["image_id"]})
        else:
            out.same += 1
    added.sort(key=lambda row: (row["relative"], row["uri"]))
    out.added = [{**row, "image_id": first_id + number} for number, row in enumerate(added)]
    return out
