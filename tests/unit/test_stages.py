"""Catches a stage that is skipped though a setting of its changed, that reads or writes what it does not declare, and
tables that nobody writes."""

import dataclasses
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from jobs import catalog, config, pipeline, report
from jobs.errors import ContractError
from jobs.lakes import Lake
from jobs.progress import Reporter
from jobs.stage import Context, Stage
from jobs.tables import TABLES

# Settings that decide how a run goes and not what comes of it, or that are looked at in every run.
DECIDE_NO_RESULT = {
    "catalog.max_removed_share", "catalog.stat",  # a limit of one run; of manifests, which are read in each
    "embed.runtime",  # the same network: images that were read by the other one are not read again
    "embed.fetch_threads", "embed.timeout_s", "embed.retries", "embed.decode_timeout_s", "embed.images_per_task",
    "embed.images_per_commit", "embed.batch", "embed.gpu_share", "embed.max_failed_share",
    "neighbours.recall_images", "neighbours.recall_floor", "neighbours.pair_recall_floor",  # of what is measured, and
    "neighbours.mend",  # whether that makes a run search again: lists that are there are as good as they were
    "clusters.max_edges_one_process",  # both ways give the same components
}  # fmt: skip
OF_NO_STAGE = {"clean", "lease", "metrics", "spark"}  # sections


class Seen:
    """A section of the settings, or all of them, that writes down which of its values were asked for."""

    def __init__(self, values: Any, seen: set[str], prefix: str = "") -> None:
        self._values, self._seen, self._prefix = values, seen, prefix

    def __getattr__(self, name: str) -> Any:
        value, path = getattr(self._values, name), f"{self._prefix}{name}"
        if dataclasses.is_dataclass(value) and not self._prefix:
            return Seen(value, self._seen, f"{path}.")
        self._seen.add(path)
        return value

    def as_dict(self) -> dict[str, Any]:
        return {name: _Section(values, self._seen, name) for name, values in self._values.as_dict().items()}


class _Section(dict[str, Any]):
    """A section as a dict; who takes it asks for all."""

    def __init__(self, values: Any, seen: set[str], name: str) -> None:
        named = values if isinstance(values, dict) else {}
        super().__init__(named)
        self._all, self._asked = {f"{name}.{key}" for key in named}, seen

    def __iter__(self) -> Iterator[str]:
        self._asked |= self._all
        return super().__iter__()

    def keys(self) -> Any:
        self._asked |= self._all
        return super().keys()


def decided_by(stage: Stage) -> set[str]:
    """The settings that a stage looks at to know whether it can be skipped."""
    seen: set[str] = set()
    inputs = SimpleNamespace(given=[], layout=None, owner=None)
    given = {catalog.JOB: SimpleNamespace(inputs=inputs), report.JOB: "/report"}
    settings = cast(config.Config, Seen(config.load(), seen))
    stage.settings(Context(cast(Lake, None), settings, cast(Reporter, None), given))
    return seen


def test_every_setting_decides_something() -> None:
    """A setting that changes what a stage makes, and does not make it run again."""
    known = {
        f"{section}.{name}"
        for section, values in config.load().as_dict().items()
        if isinstance(values, dict) and section not in OF_NO_STAGE
        for name in values
    }
    decided = set().union(*map(decided_by, pipeline.STAGES))
    assert known - decided - DECIDE_NO_RESULT == set()
    assert DECIDE_NO_RESULT - known == set()
    assert DECIDE_NO_RESULT & decided == set()


def test_every_table_is_written_by_one_stage_before_it_is_read() -> None:
    written: set[str] = set()
    for stage in pipeline.STAGES:
        assert set(stage.reads) <= written, stage.name
        assert not written & set(stage.writes), stage.name
        written |= set(stage.writes)
    assert written == set(TABLES) - {"runs", "reviews"}  # which people write


def test_other_tables_are_refused() -> None:
    lake = Lake.__new__(Lake)
    lake.uri = "/lake"
    narrow = lake.within(("images",), ("features",))
    for name in ("images", "features", "runs"):
        narrow.version(name)
    with pytest.raises(ContractError, match="reads issues"):
        narrow.read("issues")
    for write in (narrow.append, narrow.overwrite, narrow.merge):
        with pytest.raises(ContractError, match="writes images"):
            write("images", cast(Any, None))
