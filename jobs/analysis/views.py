"""The views: their statements for each engine, and the tables that they read."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

from pyspark.sql.types import (
    BooleanType,
    DataType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    StringType,
    TimestampType,
)

from jobs.engines.base import Table
from jobs.tables import TABLES
from udfs.stores import uris

ENGINES = ("duckdb", "athena", "redshift")
FILES = {"duckdb": "views.sql", "athena": "athena.sql", "redshift": "redshift.sql"}
SCHEMA = "imagesieve"  # of the external tables in Redshift
_VIEW = re.compile(r"CREATE OR REPLACE VIEW (?:\w+\.)?(\w+)", re.IGNORECASE)
_TYPES: dict[type[DataType], str] = {
    LongType: "BIGINT", IntegerType: "INTEGER", DoubleType: "DOUBLE PRECISION", FloatType: "REAL",
    BooleanType: "BOOLEAN", TimestampType: "TIMESTAMP", StringType: "VARCHAR(65535)",
}  # fmt: skip


@cache
def views(engine: str = "duckdb") -> dict[str, str]:
    """The statement that makes each view, by its name, in the order of the file. engine: one of ENGINES."""
    text = resources.files("jobs.analysis").joinpath(FILES[engine]).read_text(encoding="utf-8")
    plain = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
    statements = [statement.strip() for statement in plain.split(";") if statement.strip()]
    return {_name(statement): statement for statement in statements}


def reads(statement: str) -> tuple[str, ...]:
    """The tables of a lake that a view reads."""
    return tuple(
        name for name in TABLES if re.search(rf"\b(?:FROM|JOIN)\s+(?:\w+\.)?{name}\b", statement, re.IGNORECASE)
    )


def script(engine: str, lake: str) -> str:
    """All statements for a lake: tables where the engine does not know them yet, then views. lake: a canonical URI.
    Raises ValueError for Redshift and a lake that does not lie on S3."""
    statements = list(views(engine).values())
    names = [name for name in TABLES if any(name in reads(statement) for statement in statements)]
    if engine == "duckdb":
        head = ["INSTALL delta", "LOAD delta"]
        head += [
            f"CREATE OR REPLACE VIEW {name} AS SELECT * FROM delta_scan({_quoted(uris.join(lake, name))})"  # noqa: S608
            for name in names
        ]
    elif engine == "redshift":
        if not uris.is_s3(lake):
            raise ValueError(f"Redshift Spectrum reads S3 alone, got {lake}")
        head = [_external(TABLES[name], lake) for name in names]
    else:
        head = []  # they are in the database of Glue
    return "".join(f"{statement};\n\n" for statement in (*head, *statements))


def _external(table: Table, lake: str) -> str:
    """An external table of Redshift Spectrum over Delta's manifests, without the columns that it cannot hold."""
    known = [(field.name, _TYPES[type(field.dataType)]) for field in table.schema if type(field.dataType) in _TYPES]
    columns = ",\n".join(f'    "{name}" {kind}' for name, kind in known)
    place = _quoted(uris.join(lake, table.name, "_symlink_format_manifest"))
    return (
        f"DROP TABLE IF EXISTS {SCHEMA}.{table.name};\n\nCREATE EXTERNAL TABLE {SCHEMA}.{table.name} (\n{columns}\n)\n"
        "ROW FORMAT SERDE 'org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe'\n"
        "STORED AS INPUTFORMAT 'org.apache.hadoop.hive.ql.io.SymlinkTextInputFormat'\n"
        f"OUTPUTFORMAT 'org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat'\nLOCATION {place}"
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _name(statement: str) -> str:
    found = _VIEW.match(statement)
    if found is None:
        raise ValueError(f"no view: {statement[:60]!r}")
    return found[1]
