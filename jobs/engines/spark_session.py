"""The one Spark session of a run: started with the right jars, checked on the driver and on an executor."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from jobs import __version__
from jobs.config import Config
from jobs.engines.base import CALL_SITES
from jobs.engines.spark_versions import RELEASE, jars
from jobs.errors import MachineError

# What decides vectors and scores, or carries rows between the driver and the executors.
COMPARED = (
    "numpy",
    "pandas",
    "pyarrow",
    "opencv-python-headless",
    "openvino",
    "pillow",
    "pi-heif",
    "scipy",
    "simplejpeg",
)
PROBES = 32
OLDEST_JAVA = 17  # Spark 4.0 runs on 17 and 21, Spark 3.5 on 17


def open_session(config: Config, uses_s3: bool) -> SparkSession:
    """A session with Delta and GraphFrames, and with S3A where the lake or a manifest is on s3://.

    Under spark-submit the session is the submitted one, if its jars carry Delta. A plain `spark-submit jobs/x.py` on
    one machine carries none: there a second JVM is started with the submitted settings and the jars of conf.
    Raises MachineError where Java or a jar is missing, or the executors run another version."""
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    given = _submitted_settings()
    own_jvm = "PYSPARK_GATEWAY_PORT" not in os.environ
    if own_jvm:
        _require_java()
    properties = {**_properties(config, uses_s3, given.get("spark.master")), **given}
    if own_jvm:
        properties |= {
            "spark.jars.packages": _packages(config, uses_s3, given.get("spark.jars.packages")),
            "spark.jars.excludes": _excludes(config),
        }
        properties.setdefault("spark.driver.memory", config.spark.driver_memory)
        properties.setdefault("spark.driver.extraJavaOptions", config.spark.driver_java_options)
    builder = SparkSession.builder.appName("imagesieve").config(map={**properties})
    with _jvm_output() as log:
        try:
            session: SparkSession = builder.getOrCreate()
        except Exception as error:  # py4j and Java errors share no base class
            raise MachineError(f"Spark did not start ({_last_line(log, error)}); its log is {log}") from error
    session.sparkContext.setLogLevel("ERROR")
    _check_versions(session)
    return session


def _properties(config: Config, uses_s3: bool, submitted_master: str | None) -> dict[str, str]:
    properties = {
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.ansi.enabled": "true",  # off by default in Spark 3.5: overflow must never pass in silence
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.parquet.compression.codec": "zstd",
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",  # with its zone; INT96, the default, has none
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(config.embed.batch),
        "spark.databricks.delta.snapshotPartitions": "2",
        "spark.ui.showConsoleProgress": "false",
        CALL_SITES: "false",
        # Workers reuse the loaded model from task to task.
        "spark.python.worker.reuse": "true",
    }
    master = submitted_master or config.spark.master or "local[*]"
    properties["spark.master"] = master
    if master.startswith("local["):
        properties |= {
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.host": "127.0.0.1",
            "spark.ui.enabled": "false",
        }
    partitions = config.spark.shuffle_partitions
    if partitions is None and master.startswith("local"):
        partitions = 2 * (os.cpu_count() or 1)
    if partitions is not None:
        properties["spark.sql.shuffle.partitions"] = str(partitions)
    if uses_s3:
        properties |= _s3_properties()
    return properties


def _packages(config: Config, uses_s3: bool, given: str | None) -> str:
    settings, usual = config.spark, jars()
    packages = [settings.delta_package or usual.delta, settings.graphframes_package or usual.graphframes]
    if uses_s3:
        packages += usual.s3 if settings.s3_packages is None else settings.s3_packages
    return ",".join(([given] if given else []) + packages)


def _excludes(config: Config) -> str:
    given = config.spark.s3_excludes
    return ",".join(jars().s3_excludes if given is None else given)


def _s3_properties() -> dict[str, str]:
    """s3:// through S3A where EMRFS is not there. Credentials come from the AWS chain, never from here."""
    if Path("/usr/share/aws/emr/emrfs").exists():
        return {}
    properties = {"spark.hadoop.fs.s3.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem"}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        properties |= {
            "spark.hadoop.fs.s3a.endpoint": endpoint,
            "spark.hadoop.fs.s3a.path.style.access": "true",
            "spark.hadoop.fs.s3a.connection.ssl.enabled": str(endpoint.startswith("https")).lower(),
        }
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region or endpoint:
        properties["spark.hadoop.fs.s3a.endpoint.region"] = region or "us-east-1"
    return properties


def _submitted_settings() -> dict[str, str]:
    """The settings of the spark-submit that runs this process; empty without one.

    Where that JVM has no Delta and runs on one machine, it is left alone: its address is taken out of the environment,
    so that pyspark starts another with the same settings."""
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        return {}
    from pyspark.java_gateway import launch_gateway

    gateway = launch_gateway()  # type: ignore[no-untyped-call]
    jvm: Any = gateway.jvm
    settings = {entry._1(): entry._2() for entry in jvm.org.apache.spark.SparkConf(True).getAll()}
    has_delta = _has_class(jvm, "io.delta.tables.DeltaTable")
    gateway.close()
    if not has_delta:
        if not settings.get("spark.master", "local[*]").startswith("local["):
            file = "spark-cpu-3.5.properties" if RELEASE == "3.5" else "spark-cpu.properties"
            raise MachineError(
                f"Delta is not on Spark's class path: pass --properties-file conf/{file} to spark-submit"
            )
        for name in ("PYSPARK_GATEWAY_PORT", "PYSPARK_GATEWAY_SECRET"):
            os.environ.pop(name, None)
    # The name and the file of the submission do not concern the session.
    return {name: value for name, value in settings.items() if not name.startswith(("spark.app.", "spark.submit."))}


def _has_class(jvm: Any, name: str) -> bool:
    from py4j.protocol import Py4JError

    try:
        jvm.java.lang.Class.forName(name, False, jvm.Thread.currentThread().getContextClassLoader())
    except Py4JError:
        return False
    return True


def _require_java() -> None:
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    say = f"install a JDK {OLDEST_JAVA} or newer and put it on PATH or in JAVA_HOME"
    if not java or not Path(java).exists():
        raise MachineError(f"no Java found: {say}")
    text = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    quoted = text.split('"')[1] if text.count('"') >= 2 else ""
    major = quoted.removeprefix("1.").split(".")[0].split("-")[0]
    if not major.isdigit() or int(major) < OLDEST_JAVA:
        raise MachineError(f"Java {quoted or '?'} at {java} is too old: {say}")


@contextlib.contextmanager
def _jvm_output() -> Iterator[Path]:
    """While inside, a started JVM inherits a log file as stdout and stderr, so that a terminal stays readable."""
    log = Path(tempfile.gettempdir()) / f"imagesieve-spark-{os.getpid()}.log"
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        yield log
        return
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    # O_NOFOLLOW: the name is guessable and the folder is shared.
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        os.dup2(file, 1)
        os.dup2(file, 2)
        yield log
    finally:
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)
        for descriptor in (*kept, file):
            os.close(descriptor)


def _last_line(log: Path, error: BaseException) -> str:
    lines = (
        [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()] if log.exists() else []
    )
    told = [line for line in lines if "Exception" in line or "Error" in line or "UNRESOLVED" in line]
    return (told or lines or [str(error).splitlines()[0]])[-1][:300]


def _check_versions(session: SparkSession) -> None:
    """Makes sure that the executors import our `udfs` (it is a general name), of the driver's version, and run the
    driver's Python with its versions of COMPARED. Up to PROBES tasks are asked, so that more than one executor is.

    jobs/__init__.py looks after the driver itself. Raises MachineError."""
    names = COMPARED

    def probe(_: Iterable[int]) -> list[tuple[str, str, dict[str, str]]]:  # in here, so that it is sent as code
        import importlib.metadata

        versions = {}
        for name in names:
            try:
                versions[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                versions[name] = "missing"
        try:
            import udfs as found
        except ImportError:
            return [("missing", "nowhere", versions)]
        return [(getattr(found, "__version__", "unknown"), str(found.__file__), versions)]

    spark = session.sparkContext
    tasks = 1 if str(spark.master).startswith("local[") else min(PROBES, spark.defaultParallelism)
    own = probe(())[0][2]
    say = "give both the environment of imagesieve emr package, or set PYSPARK_PYTHON to the same Python"
    try:
        answers = spark.parallelize(range(tasks), tasks).mapPartitions(probe).collect()
    except Exception as error:  # py4j and Java errors share no base class
        if "PYTHON_VERSION_MISMATCH" in str(error):  # every worker of pyspark compares its Python's x.y
            mine = ".".join(map(str, sys.version_info[:2]))
            raise MachineError(f"executors run another Python than the driver's {mine}: {say}") from error
        raise
    for version, where, versions in answers:
        if version != __version__:
            raise MachineError(
                f"executors import udfs {version} from {where}, not imagesieve {__version__}: "
                "pass --py-files imagesieve.zip (make package)"
            )
        others = [f"{name} {versions[name]} (driver: {own[name]})" for name in names if versions[name] != own[name]]
        if others:
            raise MachineError(f"executors have {', '.join(others)}: {say}")


def explain(error: BaseException) -> str | None:
    """The last line of what a Python worker said, for an error that came from one; None for others."""
    from pyspark.errors import PythonException

    if not isinstance(error, PythonException):
        return None
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if re.match(r"[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit)\b", line)]
    return f"a worker failed: {(told or lines or [type(error).__name__])[-1][:300]}"
