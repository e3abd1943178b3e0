"""Catches an engine that was killed and is told of in the words of gRPC, because its connections break first."""

import subprocess
from pathlib import Path

import pytest
from pyspark.errors.exceptions.connect import SparkConnectGrpcException

from jobs.engines.sail import SailEngine
from jobs.engines.sail_server import Server
from tests.conftest import sail_only

pytestmark = sail_only
BROKEN = """<_MultiThreadedRendezvous of RPC that terminated with:
\tstatus = StatusCode.UNAVAILABLE
\tdetails = "recvmsg:Connection reset by peer"
\tdebug_error_string = "UNKNOWN:Error received from peer"
>"""


def engine(tmp_path: Path, program: str) -> SailEngine:
    """An engine whose server is a process of sh."""
    server = Server.__new__(Server)
    server.log = tmp_path / "log"
    server._process = subprocess.Popen(["/bin/sh", "-c", program])
    made = SailEngine.__new__(SailEngine)
    made._server = server
    return made


def test_a_connection_breaks_before_the_engine_has_ended(tmp_path: Path) -> None:
    told = engine(tmp_path, "sleep 1; kill -9 $$").explain(SparkConnectGrpcException(BROKEN))
    assert told is not None
    assert told.startswith("the embedded engine ended (killed by SIGKILL")


def test_a_connection_breaks_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.engines.sail.ENDS_S", 0.1)
    one = engine(tmp_path, "exec sleep 60")
    told = one.explain(SparkConnectGrpcException(BROKEN))
    one._server._process.kill()
    one._server._process.wait()
    assert told == "the connection to the embedded engine broke (recvmsg:Connection reset by peer)"


def test_what_the_engine_says_is_told_at_once(tmp_path: Path) -> None:
    one = engine(tmp_path, "exec sleep 60")
    told = one.explain(SparkConnectGrpcException("no such column\nmore"))
    one._server._process.kill()
    one._server._process.wait()
    assert told == "the embedded engine failed: no such column"
