"""Catches a row that takes others with it when native code crashes or hangs, and rows lost or doubled on the way."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pytest

from udfs.children import isolation, pool
from udfs.children.messages import ROW, Batches, Board

IN = pa.schema([("n", pa.int64())])
OUT = pa.schema([("n", pa.int64()), ("twice", pa.int64()), ("how", pa.string())])


@dataclass(frozen=True)
class Doubling:
    """Doubles n. crash, hang: n on which it does that; once: only the first time, told by files in that folder.
    ahead: rows that it takes before it answers the first."""

    crash: frozenset[int] = frozenset()
    hang: frozenset[int] = frozenset()
    once: Path | None = None
    fail: frozenset[int] = frozenset()
    blind: bool = False
    ahead: int = 0
    broken: str = ""
    seen: dict[str, str] = field(default_factory=dict, hash=False, compare=False)

    def open(self) -> Callable[[Batches, Board], Batches]:
        if self.broken:
            raise ValueError(self.broken)
        return self._work

    def _work(self, batches: Batches, board: Board) -> Batches:
        held: list[dict[str, int]] = []
        for batch in batches:
            held += batch.to_pylist()
            while len(held) > self.ahead:
                yield self._answer(held.pop(0), board)
        while held:
            yield self._answer(held.pop(0), board)

    def _answer(self, row: dict[str, int], board: Board) -> pa.RecordBatch:
        n = row["n"]
        if self.blind:
            self._suffer(n)
        with board.at(row[ROW]):
            self._suffer(n)
        answer = {"n": n, "twice": 2 * n, "how": str(os.getpid()), ROW: row[ROW]}
        return pa.RecordBatch.from_pylist([answer], schema=OUT.append(pa.field(ROW, pa.int64())))

    def _suffer(self, n: int) -> None:
        if self.once is not None and n in self.crash | self.hang:
            mark = self.once / str(n)
            if mark.exists():
                return
            mark.touch()
        if n in self.crash:
            os.kill(os.getpid(), signal.SIGSEGV)
        if n in self.hang:
            time.sleep(60)
        if n in self.fail:
            raise KeyError(n)


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    yield
    pool.close()


def batches(count: int, size: int = 5) -> Iterator[pa.RecordBatch]:
    for start in range(0, count, size):
        yield pa.RecordBatch.from_pydict({"n": list(range(start, min(start + size, count)))}, schema=IN)


def failed(row: pa.RecordBatch, why: str) -> pa.RecordBatch:
    assert row.schema == IN
    return pa.RecordBatch.from_pylist([{"n": row.column("n")[0].as_py(), "twice": None, "how": why}], schema=OUT)


def ran(task: Doubling, count: int, hang_s: float = 30.0) -> dict[int, tuple[int | None, str]]:
    """n to (twice, how); fails where one came twice."""
    found: dict[int, tuple[int | None, str]] = {}
    for batch in isolation.run(batches(count), task, failed, hang_s):
        assert batch.schema == OUT
        for row in batch.to_pylist():
            assert row["n"] not in found
            found[row["n"]] = (row["twice"], row["how"])
    return found


def twice(found: dict[int, tuple[int | None, str]]) -> dict[int, int | None]:
    return {n: value for n, (value, _) in found.items()}


def test_all_rows_go_through_another_process_which_is_kept() -> None:
    """Rows lost, doubled or worked on in this process; a child for each call: its model would be opened anew."""
    first = ran(Doubling(), 23)
    assert twice(first) == {n: 2 * n for n in range(23)}
    (child,) = {how for _, how in first.values()}
    assert int(child) != os.getpid()
    assert {how for _, how in ran(Doubling(), 3).values()} == {child}


def test_a_child_that_is_kept_takes_other_tasks() -> None:
    """A child for each task, of which each would hold its model, or one that goes on with the task before."""
    (child,) = {how for _, how in ran(Doubling(), 3).values()}
    assert set(pool.children()) == {int(child)}
    other = ran(Doubling(crash=frozenset({1})), 2)
    assert other[0] == (0, child)
    assert other[1][1].startswith("killed by SIGSEGV")


@pytest.mark.parametrize("ahead", [0, 7, 1000])
def test_a_crash_costs_its_row_alone(ahead: int) -> None:
    """One bad image that ends the task, or takes those that were fetched ahead with it."""
    found = ran(Doubling(crash=frozenset({0, 11, 12, 22}), ahead=ahead), 23)
    assert twice(found) == {n: None if n in (0, 11, 12, 22) else 2 * n for n in range(23)}
    assert found[11][1].startswith("killed by SIGSEGV")


def test_a_crash_that_does_not_come_again_costs_nothing(tmp_path: Path) -> None:
    """An image blamed for a child that was ended by something else, such as a full memory."""
    assert twice(ran(Doubling(crash=frozenset({3, 9}), once=tmp_path), 12)) == {n: 2 * n for n in range(12)}


def test_a_hang_costs_its_row_alone() -> None:
    """A decoder that never returns holds a task for ever."""
    found = ran(Doubling(hang=frozenset({4})), 8, hang_s=0.5)
    assert twice(found) == {n: None if n == 4 else 2 * n for n in range(8)}
    assert found[4][1] == "it did not end within 0.5 s"


def test_a_crash_outside_of_any_row_is_traced_to_its_row() -> None:
    """A shard that crashes its reader before an image of it is decoded."""
    found = ran(Doubling(crash=frozenset({6}), blind=True), 9)
    assert twice(found) == {n: None if n == 6 else 2 * n for n in range(9)}


def test_a_machine_on_which_everything_crashes_stops() -> None:
    """A broken installation that fills `failures` with a whole lake."""
    with pytest.raises(RuntimeError, match="10 images in a row ended the decoder: killed by SIGSEGV"):
        ran(Doubling(crash=frozenset(range(100))), 100)


def test_an_error_of_the_task_is_raised_here() -> None:
    """A bug that passes for a bad image."""
    with pytest.raises(RuntimeError, match="KeyError: 5"):
        ran(Doubling(fail=frozenset({5})), 9)
    assert twice(ran(Doubling(), 2)) == {0: 0, 1: 2}


def test_a_task_that_cannot_be_opened_says_why() -> None:
    with pytest.raises(RuntimeError, match="ValueError: no such model"):
        ran(Doubling(broken="no such model"), 9)


def test_an_error_of_the_source_is_raised_here() -> None:
    """An upstream failure that ends as a short table."""

    def source() -> Iterator[pa.RecordBatch]:
        yield from batches(10)
        raise OSError("the shuffle is gone")

    with pytest.raises(OSError, match="the shuffle is gone"):
        list(isolation.run(source(), Doubling(), failed, 30))


def test_no_rows_start_no_child() -> None:
    assert list(isolation.run(iter(()), Doubling(broken="opened"), failed, 30)) == []


def test_a_call_that_is_given_up_leaves_no_child() -> None:
    """A cancelled task whose child goes on in the background."""
    results = isolation.run(batches(100), Doubling(), failed, 30)
    child = int(next(iter(results)).column("how")[0].as_py())
    results.close()  # type: ignore[attr-defined]
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_an_idle_child_ends_and_another_takes_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory of a model that is held through all stages that follow; rows lost to a child that has just ended."""
    first = {how for _, how in ran(Doubling(), 3).values()}
    ((child,),) = pool._idle.values()
    assert child.is_there()
    child.kill()  # as if it had been idle
    second = ran(Doubling(), 5)
    assert twice(second) == {n: 2 * n for n in range(5)}
    assert {how for _, how in second.values()} != first
    ((child,),) = pool._idle.values()
    monkeypatch.setattr(child, "is_there", lambda: True)  # it ends between the question and the first row
    child.kill()
    assert twice(ran(Doubling(), 5)) == {n: 2 * n for n in range(5)}


def test_the_child_goes_with_its_parent() -> None:
    """A worker that is killed leaves a child that burns a core."""
    reading, writing = os.pipe()
    parent = os.fork()
    if parent == 0:
        task = Doubling(hang=frozenset({1}))
        for batch in isolation.run(batches(2, 1), task, failed, 100):
            os.write(writing, batch.column("how")[0].as_py().encode())
        os._exit(0)
    child = int(os.read(reading, 100))
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    ends = time.monotonic() + 10
    while time.monotonic() < ends:
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return
        time.sleep(0.05)
    pytest.fail("the child lives on")
