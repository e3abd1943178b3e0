"""Catches a forked child that is told from others by anything but its speed: crashes, words, ends, what it may read."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from udfs.children import forks

pytestmark = pytest.mark.skipif(not forks.can_fork(), reason="children are not forked on this system")

# The fork server's environment and children are those of a process of their own.
PROGRAM = """
import json, os, pickle, signal, sys
from pyspark import cloudpickle
import pyarrow as pa
from udfs.children import forks, in_child, isolation, pool

SCHEMA = pa.schema([("n", pa.int64())])


def function(body):
    space = {}
    exec(body, space)
    return in_child.Function(cloudpickle.dumps(space["run"]), "double", SCHEMA, 2, False)


def batches(count):
    for start in range(count):
        yield pa.record_batch([pa.array([start], pa.int64())], schema=SCHEMA)


def result(body, count=5):
    try:
        return [n for batch in function(body)(batches(count)) for n in batch.column("n").to_pylist()]
    except isolation.WorkerError as error:
        return str(error)


def main():
    os.environ.update(pool.MALLOC)
    pool.start_by(forks.ForkServer())
{body}


if __name__ == "__main__":
    main()
"""


def ran(tmp_path: Path, body: str) -> list[str]:
    script = tmp_path / "script.py"
    script.write_text(PROGRAM.replace("{body}", textwrap.indent(body, "    ")), encoding="utf-8")
    root = str(Path(__file__).resolve().parents[2])
    ended = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "PYTHONPATH": root},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


DOUBLE = (
    "import pyarrow as pa, pyarrow.compute as pc\ndef run(bs):\n for b in bs:\n"
    "  yield pa.record_batch([pc.multiply(b.column(0), 2)], names=['n'])"
)


def test_rows_come_back_and_children_are_kept(tmp_path: Path) -> None:
    said = ran(tmp_path, f"for _ in range(2): print(result({DOUBLE!r}), len(pool.children()))")
    assert said == ["[0, 2, 4, 6, 8] 1"] * 2


@pytest.mark.parametrize(
    ("does", "told"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "double ended: killed by SIGSEGV"),
        ("print('last words', flush=True); os._exit(3)", "double ended: ended with exit code 3: last words"),
        ("raise ValueError('a\\nb')", "double: ValueError: a b"),
    ],
)
def test_its_end_is_one_line(tmp_path: Path, does: str, told: str) -> None:
    body = f"import os, signal\ndef run(bs):\n for b in bs:\n  {does}\n  yield b"
    assert ran(tmp_path, f"print(result({body!r}))\nprint(result({DOUBLE!r}))") == [told, "[0, 2, 4, 6, 8]"]


def test_it_has_its_modules_and_not_pandas(tmp_path: Path) -> None:
    body = (
        "import sys, pyarrow as pa\ndef run(bs):\n for b in bs:\n"
        "  found = [int(name in sys.modules) for name in ('cv2', 'pandas')]\n"
        "  yield pa.record_batch([pa.array(found)], names=['n'])"
    )
    assert ran(tmp_path, f"print(result({body!r}, 1))") == ["[1, 0]"]


def test_it_reads_nothing_of_its_parent(tmp_path: Path) -> None:
    """Catches an inherited standard input: a decoder that reads it would take what the parent was sent."""
    body = (
        "import os, pyarrow as pa\ndef run(bs):\n for b in bs:\n"
        "  yield pa.record_batch([pa.array([len(os.read(0, 1))])], names=['n'])"
    )
    assert ran(tmp_path, f"print(result({body!r}, 1))") == ["[0]"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_none_is_left_when_its_parent_goes(tmp_path: Path, number: signal.Signals) -> None:
    script = tmp_path / "script.py"
    body = f"result({DOUBLE!r})\nprint(*pool.children(), flush=True)\nimport time\ntime.sleep(60)"
    script.write_text(PROGRAM.replace("{body}", textwrap.indent(body, "    ")), encoding="utf-8")
    root = str(Path(__file__).resolve().parents[2])
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": root}
    ) as parent:
        assert parent.stdout is not None
        children = [int(word) for word in parent.stdout.readline().split()]
        assert children
        parent.send_signal(number)
        parent.wait(10)
    deadline = time.monotonic() + 5
    while any(map(is_there, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [child for child in children if is_there(child)]


def is_there(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
