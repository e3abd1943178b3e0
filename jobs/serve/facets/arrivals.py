"""Arrivals: in which run each picture came into the lake.

Numbers of images are given out in ascending order and never twice, so the images that a run of `catalog` added have the
numbers that follow those of all runs before it. `runs` says how many each added."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.compute as pc

from jobs.engines import delta_log
from jobs.engines.datasets import dataset
from jobs.lakes import read_marker
from jobs.serve.columns import Coded, Columns
from udfs.stores import uris


def arrivals(lake: str, columns: Columns) -> tuple[Coded, str]:
    """The run of each row, and why it is not known, "" where it is. lake: a canonical URI."""
    unknown = Coded(np.zeros(columns.images, np.uint8), [()])
    if delta_log.version(uris.join(lake, "runs")) is None:
        return unknown, "this lake has no table of runs"
    found = dataset(lake, "runs").to_table(
        columns=["run_id", "ended_at", "counts"], filter=(pc.field("job") == "catalog") & (pc.field("status") == "done")
    )
    runs = [(row["run_id"], int(json.loads(row["counts"]).get("added", 0)))
            for row in found.sort_by("ended_at").to_pylist()]  # fmt: skip
    runs = [(run, added) for run, added in runs if added]
    given_out = int(str((read_marker(lake) or {}).get("next_image_id", -1)))
    ends = np.cumsum([added for _, added in runs], dtype=np.int64)
    if not runs or int(ends[-1]) != given_out:
        return unknown, "a run was stopped while it listed the pictures: their numbers do not tell in which they came"
    codes = 1 + np.searchsorted(ends, columns.id, side="right")
    return Coded(codes.astype(np.min_scalar_type(len(runs))), [(), *((run,) for run, _ in runs)]), ""
