"""The engine Sail, embedded: a server process beside this one, Parquet by Sail, Delta's log by delta-rs.

What Sail does in silence is looked for here: types that come out of functions (udfs.children.in_child), files that are
not there, rows that a table's log counts otherwise, orders that a plan drops, CHECKs and nulls before a commit."""

from __future__ import annotations

import os
import re
import secrets
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from jobs.config import Config
from jobs.engines import delta_log
from jobs.engines.base import CALL_SITES, Counter, Engine, MapBatches, Table
from jobs.engines.sail_files import Files, parquet_files, written
from jobs.engines.sail_server import Server
from jobs.engines.sail_start import usable_cores
from jobs.engines.sail_types import arrow_of_text, arrow_schema, ddl
from jobs.errors import ContractError, LakeError, MachineError
from udfs.arrow import Place
from udfs.children import in_child
from udfs.groups import of_each_group
from udfs.stores import objects, uris

ROWS_OF_GROUPS = 1024  # in a batch on its way to a function of groups: 5 MB of 1,280 numbers
_BROKEN = "of RPC that terminated with"  # gRPC's own words, in place of an answer
ENDS_S = 10.0  # from a broken connection to the end of a process that holds much memory
STRETCH = 1 << 26  # of the second column of map_in_order's near: so much of a shard stays in one task


def open_sail(server: Server, config: Config) -> SailEngine:
    """A session on a launched server. Raises MachineError where that has ended."""
    from pyspark import cloudpickle
    from pyspark.sql.connect.client import DefaultChannelBuilder
    from pyspark.sql.connect.session import SparkSession as Remote

    import jobs

    # One partition is what a small lake has.
    warnings.filterwarnings("ignore", "WARN WindowExpression", UserWarning)
    try:
        address = server.wait()
    except OSError as error:
        raise MachineError(f"the embedded engine did not start ({error})") from error
    # Not by the proxy of the environment: it is on this machine.
    channel = DefaultChannelBuilder(f"sc://{address}", [("grpc.enable_http_proxy", 0)])
    os.environ["SPARK_CONNECT_MODE_ENABLED"] = "1"  # by which pyspark.sql.functions are the client's
    spark: Any = Remote.builder.channelBuilder(channel).create()
    spark.client.set_retry_policies([])  # a server that does not answer has ended
    spark.client.disable_reattachable_execute()  # it is on this machine: no connection is lost, only the server
    settings = {
        "spark.sql.ansi.enabled": "true",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "8192",
        CALL_SITES: "false",
    }
    spark.conf._set_all(settings, silent=False)  # one request
    # What stands in jobs is sent as code: to import it, a child would import PySpark.
    register: Callable[[Any], None] = cloudpickle.register_pickle_by_value
    register(jobs)
    return SailEngine(spark, server, config.embed.batch)


class SailEngine(Engine):
    """See Engine."""

    name = "sail"

    def __init__(self, spark: SparkSession, server: Server, rows: int) -> None:
        super().__init__(spark)
        self._server = server
        self._files = Files(spark, server.folder)
        self._rows = rows
        self._cores = usable_cores()
        self._seen: dict[str, tuple[int | None, list[str]]] = {}
        self._closed = False

    @property
    def cores(self) -> int:
        return self._cores

    # --- rows of the driver ---

    def rows(self, values: Iterable[Any], schema: StructType | str) -> DataFrame:
        given = list(values)
        kind = arrow_schema(schema) if isinstance(schema, StructType) else arrow_of_text(schema)
        columns = [
            [row.get(field.name) if isinstance(row, dict) else row[place] for row in given]
            for place, field in enumerate(kind)
        ]
        for column, found in zip(schema if isinstance(schema, StructType) else (), columns, strict=False):
            if not column.nullable and any(value is None for value in found):
                raise ValueError(f"the column {column.name} may not be null")
        arrays = [pa.array(found, field.type) for found, field in zip(columns, kind, strict=True)]
        return self._files.through_file(pa.table(arrays, schema=kind), schema)

    def from_arrow(self, table: pa.Table, schema: StructType) -> DataFrame:
        if any(column.null_count for column in table.columns):
            raise ValueError("a table with nulls cannot be handed to the engine")
        return self._files.through_file(table.cast(arrow_schema(schema)), schema)

    def to_arrow(self, frame: DataFrame) -> pa.Table:
        return frame.toArrow()

    # --- frames ---

    def keep(self, frame: DataFrame) -> DataFrame:
        kept: DataFrame = frame.localCheckpoint()
        return kept

    def forget(self, frame: DataFrame) -> None:
        """A checkpoint goes with the server's folder."""

    def forget_all(self) -> None:
        """A checkpoint goes with the server's folder."""

    def small(self, frame: DataFrame) -> DataFrame:
        return frame  # there are no hints, and nothing is sent

    @contextmanager
    def batch_rows(self, rows: int) -> Iterator[None]:
        usual, self._rows = self._rows, rows
        try:
            yield
        finally:
            self._rows = usual

    def map_batches(
        self, frame: DataFrame, run: MapBatches, schema: StructType, isolated: bool = False, resources: Any = None
    ) -> DataFrame:
        # The rows of a small table are one partition: dealt out, all cores have some.
        dealt = frame if isolated else frame.repartition(self.cores)
        return self._mapped(dealt, run, schema, isolated, self._rows)

    def _mapped(self, frame: DataFrame, run: MapBatches, schema: StructType, isolated: bool, rows: int) -> DataFrame:
        from pyspark import cloudpickle

        dumps: Callable[[Any], bytes] = cloudpickle.dumps
        name = getattr(run, "__qualname__", type(run).__name__).replace(".<locals>.run", "").replace(".<locals>", "")
        inside = in_child.Function(dumps(run), name, arrow_schema(schema), rows, isolated)
        return frame.mapInArrow(inside, ddl(schema))

    def map_together(
        self, frame: DataFrame, keys: Sequence[str], run: MapBatches, schema: StructType, partitions: int | None = None
    ) -> DataFrame:
        return self._mapped(_in_order(frame, keys, keys), run, schema, False, self._rows)

    def map_in_order(
        self,
        frame: DataFrame,
        tasks: int,
        near: Sequence[str],
        order: Sequence[str],
        run: MapBatches,
        schema: StructType,
        resources: Any = None,
    ) -> DataFrame:
        first, second = near[:2]  # a shard, and the place in it
        stretches = frame.withColumn("_stretch", F.floor(F.col(second) / F.lit(STRETCH)))
        return self._mapped(_in_order(stretches, (first, "_stretch"), order), run, schema, True, self._rows)

    def map_groups(
        self, frame: DataFrame, keys: Sequence[str], run: Callable[[pa.Table], pa.Table], schema: StructType
    ) -> DataFrame:
        grouped = of_each_group(tuple(keys), run)
        return self._mapped(_in_order(frame, keys, keys), grouped, schema, False, ROWS_OF_GROUPS)

    def tasks(self, wanted: int) -> int:
        return self.cores  # all that there are run at once, whatever their number

    # --- files and workers ---

    def read_parquet(self, folder: str, schema: StructType) -> DataFrame:
        return self._files.read([file.uri for file in parquet_files(folder)], schema)

    def write_parquet(self, frame: DataFrame, folder: str) -> None:
        self._files.replace(frame, folder)

    def write_in_order(self, frame: DataFrame, key: str, folder: str) -> None:
        self._files.write_in_order(frame, key, folder)

    def read_source(self, uri: str, kind: str) -> DataFrame:
        return self._files.read_source(uri, kind)

    def workers(self, files: Sequence[Path]) -> Callable[[], Place]:
        place = Place(tuple(files), None, 1)
        return lambda: place

    def counter(self) -> Counter:
        file = self._server.folder / f"count-{secrets.token_hex(4)}"
        file.touch()
        return Counter(in_child.Count(str(file)), lambda: file.stat().st_size)

    # --- GPUs ---

    def offers_gpus(self) -> bool | None:
        return None

    def gpu_resources(self, share: float) -> Any:
        return None

    # --- Delta ---

    def read_table(self, path: str, table: Table) -> DataFrame:
        version = delta_log.version(path)
        seen, files = self._seen.get(path, (None, []))
        if seen != version:
            files = self._looked_at(path, table, set(files))
            self._seen[path] = version, files
        return self._files.read(files, table.schema)

    def _looked_at(self, path: str, table: Table, known: set[str]) -> list[str]:
        """The files of a table. Raises LakeError where one of those not known yet is lost or damaged."""
        rows = delta_log.files_of(delta_log.delta_table(path), path)
        new = {file: counted for file, counted in rows.items() if file not in known}
        lost = next((file for file in new if not uris.is_s3(file) and not objects.exists(file)), None)
        if lost:
            raise LakeError(f"{path} has lost {lost}, which its log names: restore it, or make a new --lake")
        counted = [number for number in new.values() if number is not None]
        if new and len(counted) == len(new):
            found = self._files.read(list(new), table.schema).count()
            if found != sum(counted):
                told = f"{found:,} rows where its log tells of {sum(counted):,}"
                raise LakeError(f"{path} has {told}: its files are damaged")
        return list(rows)

    def create(self, path: str, table: Table) -> None:
        delta_log.create(path, table)

    def append(self, path: str, table: Table, rows: DataFrame) -> None:
        self._commit(path, table, rows, "append")

    def overwrite(self, path: str, table: Table, rows: DataFrame) -> None:
        self._commit(path, table, rows, "overwrite")

    def _commit(self, path: str, table: Table, rows: DataFrame, mode: str) -> None:
        """Writes the rows into a folder of the table, looks at what came of it, and makes it part of the table."""
        # Found out first: a table that cannot be written costs no work.
        there = delta_log.delta_table(path)
        part = f"part-{secrets.token_hex(8)}"
        folder = uris.join(path, part)
        self._files.write(rows, folder)
        try:
            files = list(written(folder, part))
            self._check(table, [uris.join(path, *file.path.split("/")) for file in files], sum(f.rows for f in files))
        except BaseException:
            objects.delete_below(folder)
            raise
        files = [file for file in files if file.rows]
        if files or (mode == "overwrite" and delta_log.files_of(there, path)):
            delta_log.commit(there, files, mode)
            known = self._seen.get(path, (None, []))[1]
            # These were just read: read_table asks the log anew, and looks at none of them again.
            self._seen[path] = None, [*known, *(uris.join(path, *file.path.split("/")) for file in files)]
        if not files:
            objects.delete_below(folder)

    def _check(self, table: Table, files: Sequence[str], counted: int) -> None:
        """Raises ContractError where a row breaks a check of the table, or rows were lost on the way."""
        if not counted:
            return
        wrong = {column.name: F.col(column.name).isNull() for column in table.schema if not column.nullable}
        wrong |= {name: ~F.coalesce(F.expr(condition), F.lit(False)) for name, condition in table.checks.items()}
        broken = [F.count_if(condition).alias(f"c{number}") for number, condition in enumerate(wrong.values())]
        row = self._files.read(files, table.schema).agg(F.count("*").alias("rows"), *broken).collect()[0]
        for number, name in enumerate(wrong):
            if row[f"c{number}"]:
                raise ContractError(f"{table.name}: {row[f'c{number}']} rows break {name}: not written")
        if row["rows"] != counted:
            raise ContractError(f"{table.name}: {row['rows']} of {counted} rows can be read again: not written")

    def delete(self, path: str, table: Table, ids: DataFrame) -> None:
        there = self.read_table(path, table)
        if there.join(ids.select("image_id"), "image_id", "left_semi").isEmpty():
            return
        left = there.join(ids.select("image_id"), "image_id", "left_anti")
        self.overwrite(path, table, left.select(*table.schema.names))

    def merge(self, path: str, table: Table, changes: DataFrame) -> None:
        changes = self.keep(changes)
        if changes.isEmpty():
            return
        names = table.schema.names
        left = self.read_table(path, table).join(changes.select(*table.key), list(table.key), "left_anti")
        new = changes.where(~F.col("removed")).select(*names)
        self.overwrite(path, table, left.select(*names).unionByName(new))

    # --- life ---

    @property
    def has_graphframes(self) -> bool:
        return False

    def explain(self, error: BaseException) -> str | None:
        from pyspark.errors import PySparkException, PythonException

        text = str(error)
        is_broken = isinstance(error, PySparkException) and _BROKEN in text
        if self._server.has_ended(ENDS_S if is_broken else 0):
            return f"the embedded engine ended ({self._server.why()}): run the same command again to go on"
        if is_broken:
            details = re.search(r'details = "(.*)"', text)
            return f"the connection to the embedded engine broke ({details[1][:300] if details else 'no word'})"
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if isinstance(error, PythonException):
            return f"a worker failed: {(lines or ['no word'])[-1][:300]}"
        if isinstance(error, PySparkException):
            return f"the embedded engine failed: {(lines or [type(error).__name__])[0][:300]}"
        return None

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._server.close()
            session: Any = self.spark
            session.release_session_on_close = False  # the server has gone, and the session with it
            session.stop()


def _in_order(frame: DataFrame, keys: Sequence[str], order: Sequence[str]) -> DataFrame:
    """Rows with the same keys in one partition, one after another, in this order. The plan drops a sort before a
    function without a word; that of a window it needs, as long as somebody reads the window's column."""
    number = F.row_number().over(Window.partitionBy(*keys).orderBy(*order))
    return frame.withColumn(in_child.NUMBER, number)
