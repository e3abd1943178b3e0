"""Opens the chosen engine, for one run: the embedded one starts while the run's arguments are still looked at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

from jobs.config import Config
from jobs.engines import interrupts, sail_start
from jobs.engines.base import Engine
from jobs.engines.choice import SAIL, Choice, choose
from jobs.errors import MachineError

if TYPE_CHECKING:
    from jobs.engines.sail_server import Server


class Opening:
    """An engine that is being opened; a context manager that closes it."""

    def __init__(self, choice: Choice, config: Config, mentions_s3: bool) -> None:
        self.choice = choice
        self._config = config
        self._server: Server | None = None
        self._engine: Engine | None = None
        if choice.engine == SAIL:
            self._server = sail_start.launch(uses_s3=mentions_s3)
            interrupts.at_once(self._server.kill)

    def check_lake(self, uri: str) -> None:
        """Raises LakeError where the engine cannot write a lake of that name."""
        if self._server is not None:
            sail_start.check_lake(uri)

    def engine(self, uses_s3: bool) -> Engine:
        """The engine, open. uses_s3: whether it is itself to read or write there. Raises MachineError."""
        if self._server is not None:
            from jobs.engines import sail

            self._engine = sail.open_sail(self._server, self._config)
        else:
            from jobs.engines import spark

            self._engine = spark.open_spark(self._config, uses_s3)
        return self._engine

    def __enter__(self) -> Opening:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        opened = self._engine or self._server
        if opened is not None:
            opened.close()
        interrupts.at_once(None)


@contextmanager
def open_engine(config: Config, uses_s3: bool = False) -> Iterator[Engine]:
    """The engine that the settings choose, for a while. uses_s3: whether it is itself to read or write there.

    Raises ConfigError, MachineError."""
    with Opening(choose(config.spark), config, uses_s3) as opening:
        yield opening.engine(uses_s3)


@contextmanager
def explained(engine: Engine) -> Iterator[None]:
    """While inside, an error of the engine or a worker is a MachineError of one line."""
    try:
        yield
    except Exception as error:
        if interrupts.happened():
            raise KeyboardInterrupt from error
        told = engine.explain(error)
        if told is None:
            raise
        raise MachineError(told) from error
