"""Commands from Python, without a command line."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from imagesieve.calling import command
from imagesieve.tables import Lake

Place = str | os.PathLike[str]


def run(
    inputs: Place | Iterable[Place],
    lake: Place | None = None,
    layout: str | None = None,
    settings: Mapping[str, Any] | None = None,
    config: Place | Iterable[Place] = (),
    report: Place | None = None,
    new_map: bool = False,
    new_index: bool = False,
    owner: str | None = None,
) -> Lake:
    """Runs all stages and returns the lake; what has not changed since the last run is not done again.

    inputs: folders, s3:// prefixes, tar or Parquet files, manifests, inventories. lake: a folder or an s3://
    prefix, by default ./NAME-lake for the name of the first input. layout: columns that are read from paths, such
    as "{split}/{label}/*". owner: where a path names whose an image is, such as "users/{owner}/**". settings: by
    "section.key", over the YAML files of config, over the defaults. report: where its pages go, by default
    LAKE/report. new_map: lays the map out anew, where one is there that would do; new_index: makes the index for
    searches anew. It prints what `imagesieve run` prints. Raises RunError, one line for people."""
    plan = command(
        "run",
        settings,
        _places(config),
        inputs=_places(inputs),
        lake=None if lake is None else os.fspath(lake),
        layout=layout,
        report=None if report is None else os.fspath(report),
        new_map=new_map,
        new_index=new_index,
        owner=owner,
    )
    return Lake(plan.lake, plan.ready["report"].given)


def _places(given: Place | Iterable[Place]) -> list[str]:
    """One place, or several, as texts."""
    if isinstance(given, str | os.PathLike):
        return [os.fspath(given)]
    return [os.fspath(one) for one in given]
