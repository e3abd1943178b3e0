"""Catches a decision that is lost, counts twice, or is confirmed before it is there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from deltalake import DeltaTable
from numpy.typing import NDArray

from jobs.serve import decisions as decisions_module
from jobs.serve.batches import DecisionError, Wanted
from jobs.serve.decisions import Decisions
from udfs.vectors.recall import wilson

IMAGES = 1000


def rows_of(ids: NDArray[np.int64]) -> NDArray[np.int32]:
    """The row of an image is its number."""
    return np.where((ids >= 0) & (ids < IMAGES), ids, -1).astype(np.int32)


@pytest.fixture
def decisions(tmp_path: Path) -> Iterator[Decisions]:
    opened = Decisions(str(tmp_path), IMAGES, rows_of)
    yield opened
    opened.close()


def told(decisions: Decisions) -> dict[int, str]:
    column = decisions.column()
    return {row: column.names[code][0] for row, code in enumerate(column.codes.tolist()) if code}


def again(decisions: Decisions) -> dict[int, str]:
    """What a server that starts now would know."""
    other = Decisions(decisions.lake, IMAGES, rows_of)
    try:
        return told(other)
    finally:
        other.close()


def test_the_last_one_counts_and_an_undone_one_does_not(decisions: Decisions) -> None:
    """An older decision that wins, a note that counts, an undo that takes back more than its batch, or only here."""
    first = decisions.decide([1, 2, 3], "remove", "anna")
    decisions.decide([2], "keep", "ben")
    decisions.decide([3], "relabel", "ben", label="dog")
    decisions.decide([1], "note", "anna", note="blurred?")
    assert told(decisions) == again(decisions) == {1: "remove", 2: "keep", 3: "relabel"}
    assert decisions.label(3) == "dog"
    assert [(batch.decision, undone) for batch, undone in decisions.history(1)] == [("remove", False), ("note", False)]
    decisions.undo("ben")
    assert told(decisions) == again(decisions) == {1: "remove", 2: "keep", 3: "remove"}
    assert decisions.label(3) is None
    decisions.undo("anna", first.batch_id)
    assert told(decisions) == again(decisions) == {2: "keep"}
    assert decisions.by_person() == {"anna": 1, "ben": 1}
    with pytest.raises(DecisionError, match="nothing to undo"):
        decisions.undo("anna", first.batch_id)
    with pytest.raises(DecisionError, match="nothing to undo"):
        decisions.undo("carl")


@pytest.mark.parametrize(
    ("ids", "decision", "label", "note", "told"),
    [
        ([1], "burn", None, None, "must be one of"),
        ([1], "relabel", None, None, "must be given with relabel"),
        ([1], "keep", "dog", None, "with nothing else"),
        ([IMAGES], "keep", None, None, "no such image"),
        ([], "keep", None, None, "no such image"),
        ([1], "relabel", "x" * 501, None, "at most"),
        ([1], "note", None, None, "note: must be given"),
    ],
)
def test_what_cannot_be_decided(
    decisions: Decisions, ids: list[int], decision: str, label: str | None, note: str | None, told: str
) -> None:
    """A row that no reader of the table understands."""
    with pytest.raises(DecisionError, match=told):
        decisions.decide(ids, decision, "anna", label, note)
    assert not decisions.recent(9)


def test_the_same_batch_twice_is_one(decisions: Decisions) -> None:
    """A request that is sent again, as its answer was lost."""
    decisions.decide([1], "keep", "anna", batch_id="mine")
    decisions.decide([1, 2], "remove", "anna", batch_id="mine")
    assert told(decisions) == again(decisions) == {1: "keep"}


def test_a_step_of_several_decisions_is_taken_back_whole(decisions: Decisions) -> None:
    """A step of which a part stays, is told as many, or is half written where one of it cannot be."""
    decisions.decide([9], "keep", "anna")
    batches = decisions.decide_all(
        [Wanted([1, 2], "remove"), Wanted([3], "relabel", "dog"), Wanted([4], "relabel", "cat")],
        "anna",
    )
    assert told(decisions) == again(decisions) == {1: "remove", 2: "remove", 3: "relabel", 4: "relabel", 9: "keep"}
    ((step, undone), (first, _)) = decisions.recent(9)
    assert ({batch.batch_id for batch in step}, undone) == ({batch.batch_id for batch in batches}, False)
    assert [batch.decision for batch in first] == ["keep"]
    with pytest.raises(DecisionError, match="label"):
        decisions.decide_all([Wanted([5], "remove"), Wanted([6], "relabel")], "anna")
    other = Decisions(decisions.lake, IMAGES, rows_of)  # a page that was loaded anew knows no batch
    try:
        assert sum(len(batch.ids) for batch in other.undo("anna")) == 4
        assert told(other) == again(decisions) == {9: "keep"}
    finally:
        other.close()
    decisions.refresh()
    with pytest.raises(DecisionError, match="nothing to undo"):
        decisions.undo("anna", batches[1].batch_id)
    assert decisions.decide_all([], "anna") == []


def test_what_a_rule_decided_is_not_judged(decisions: Decisions) -> None:
    """A figure of how often findings are right that counts what nobody has looked at, or forgets what somebody has."""

    def judged(of: Decisions) -> list[int]:
        return np.flatnonzero(of.judged()).tolist()

    decisions.decide([1, 2, 3], "keep", "anna")
    first = decisions.decide([3, 4, 5], "remove", "anna", batch_id="mine", by_rule=True)
    assert decisions.decide([9], "remove", "anna", batch_id="mine", by_rule=True) == first
    decisions.decide_all([Wanted([6], "remove")], "anna", by_rule=True)
    decisions.decide([5], "keep", "ben")
    other = Decisions(decisions.lake, IMAGES, rows_of)
    try:
        assert judged(decisions) == judged(other) == [1, 2, 5]
    finally:
        other.close()
    decisions.undo("anna")  # the step
    decisions.undo("anna")
    assert told(decisions) == again(decisions) == {1: "keep", 2: "keep", 3: "keep", 5: "keep"}
    assert judged(decisions) == [1, 2, 3, 5]


def test_many_at_once_lose_nothing(decisions: Decisions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decisions of several people at the same time, and the small files that become one meanwhile."""
    monkeypatch.setattr(decisions_module, "TIDIED", 5)

    def work(person: int) -> None:
        for number in range(25):
            decisions.decide([person * 250 + number], "keep" if number % 2 else "skip", f"p{person}")

    threads = [threading.Thread(target=work, args=(person,)) for person in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {p * 250 + n: "keep" if n % 2 else "skip" for p in range(4) for n in range(25)}
    assert told(decisions) == again(decisions) == expected
    rows = DeltaTable(f"{decisions.lake}/reviews").to_pyarrow_table()
    assert Counter(rows["review_id"].to_pylist()).most_common(1)[0][1] == 1
    assert rows.num_rows == 100


def test_two_servers_of_one_lake(decisions: Decisions) -> None:
    """A server that does not see, or overwrites, what another has written."""
    other = Decisions(decisions.lake, IMAGES, rows_of)
    try:
        decisions.decide([1], "keep", "anna")
        other.decide([2], "remove", "ben")
        decisions.decide([3], "skip", "anna")
        decisions.refresh()
        other.refresh()
        assert told(decisions) == told(other) == {1: "keep", 2: "remove", 3: "skip"}
    finally:
        other.close()


def test_what_was_confirmed_outlives_a_kill(tmp_path: Path) -> None:
    """A decision that is confirmed before it is on disk."""
    program = textwrap.dedent("""
        import sys
        import numpy as np
        from jobs.serve.decisions import Decisions
        found = Decisions(sys.argv[1], 100000, lambda ids: ids.astype(np.int32))
        for number in range(100000):
            found.decide([number], "keep", "anna")
            print(number, flush=True)
    """)
    child = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    confirmed = -1
    for line in child.stdout:
        confirmed = int(line)
        if confirmed == 12:
            os.kill(child.pid, signal.SIGKILL)
    child.wait()
    found = Decisions(str(tmp_path), IMAGES, rows_of)
    found.close()
    assert set(told(found)) >= set(range(confirmed + 1))
    assert len(told(found)) <= confirmed + 2


def test_wilson() -> None:
    """An interval other than Wilson's: his of 0 of 10 and 9 of 10."""
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(0.9, 10) == pytest.approx((0.5958, 0.9821), abs=1e-4)
