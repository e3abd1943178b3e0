"""Two processes on one lake."""

import socket
from pathlib import Path

import pytest

from jobs import pipeline
from tests.conftest import MASTER
from tests.e2e import images, lakes

BUSY = 5


@pytest.mark.slow
def test_one_of_two_runs(tmp_path: Path) -> None:
    """Catches two runs that write to one lake at once: Delta on S3 then loses commits without a word."""
    files = {f"{n}.jpg": images.jpeg(images.picture(n)) for n in range(3)}
    folder = images.write(tmp_path / "in", files)
    argv = ["run", str(folder), "--lake", str(tmp_path / "lake"), *MASTER]
    two = [lakes.start(*argv, cwd=tmp_path) for _ in range(2)]
    try:
        ended = [lakes.Ended(-1, *one.communicate(timeout=900)) for one in two]
    finally:
        for one in two:
            one.kill()
    codes = [one.returncode for one in two]
    assert sorted(codes) == [0, BUSY], [one.err for one in ended]
    line = ended[codes.index(BUSY)].err.splitlines()[-1]
    winner = two[codes.index(0)]
    assert "is being written by run" in line
    assert f"(host {socket.gethostname()}, pid {winner.pid})" in line
    assert len(lakes.rows(tmp_path / "lake", "embeddings")) == 3
    jobs = [row["job"] for row in lakes.rows(tmp_path / "lake", "runs")]
    assert sorted(jobs) == sorted(pipeline.NAMES)
