"""An S3 server for tests: moto, in a process of its own, with one bucket."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class S3Server:
    """env: what a client of it needs in its environment; nothing is set by `serve` itself."""

    endpoint: str
    bucket: str
    env: dict[str, str] = field(repr=False)

    def client(self) -> Any:
        """A boto3 client of its own, to put things in place whatever the code under test does."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.env["AWS_REGION"],
            aws_access_key_id=self.env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.env["AWS_SECRET_ACCESS_KEY"],
            config=Config(s3={"addressing_style": "path"}),
        )


def environment(endpoint: str) -> dict[str, str]:
    """The variables that point every AWS client at endpoint, with keys that only a test server takes."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@contextmanager
def serve(bucket: str = "lake", start_s: float = 30.0) -> Iterator[S3Server]:
    """A moto server on a free port of 127.0.0.1 with an empty bucket, until the block ends.

    Raises RuntimeError where it has not answered after start_s."""
    for attempt in range(3):  # another process can take the free port first
        port = _free_port()
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=_clean())
        endpoint = f"http://127.0.0.1:{port}"
        try:
            if not _answers(process, endpoint, start_s):
                if attempt < 2:
                    continue
                raise RuntimeError("the moto server does not start")
            server = S3Server(endpoint, bucket, environment(endpoint))
            server.client().create_bucket(Bucket=bucket)
            yield server
            return
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _clean() -> dict[str, str]:
    """This environment without AWS's: moto would send some requests on to an AWS_ENDPOINT_URL."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _answers(process: "subprocess.Popen[bytes]", endpoint: str, start_s: float) -> bool:
    ends = time.monotonic() + start_s
    while time.monotonic() < ends and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{endpoint}/moto-api/", timeout=2):
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    return False
