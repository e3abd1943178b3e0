"""Catches images that are lost, brought in twice or never, and messages that stay, by the real boto3 over the wire."""

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from jobs.errors import ContractError, InputError, LakeBusyError
from jobs.live import service as services
from jobs.live.changes import Change
from jobs.live.figures import Figures
from jobs.live.log import Log
from jobs.live.service import Service
from jobs.live.sources.messages import Gathering, Messages
from jobs.live.sources.sqs import QueueError, Sqs
from jobs.live.sources.wanted import Wanted
from tests import s3_server
from tests.live.conftest import Queues
from tests.live.lakes import Book
from tests.live.test_events import bridged, enveloped
from udfs.stores.s3_objects import Limits

ONCE = Gathering(every_s=0, at_least=1, at_most=100, once=True)


class Watch:
    """A service on a queue, with everything that one would look at. open_bringer is called for each opening."""

    def __init__(self, queues: Queues, book: Book, gathering: Gathering = ONCE, visibility_s: int = 30) -> None:
        self.figures, self.book, self.stop = Figures(), book, threading.Event()
        self.opened: Callable[[], Book] = lambda: book
        what = Wanted((f"s3://{queues.bucket}/",), frozenset({"jpg"}), frozenset({"tar"}), (queues.uri("lake/"),))
        self.source = Messages(Sqs(queues.url), what, gathering, visibility_s, self.figures, Log())
        self.figures.of_source(self.source.behind)
        self._once = gathering.once

    def open(self) -> Book:
        return self.opened()

    def run(self) -> None:
        limits = Limits(timeout_s=5, retries=1)
        try:
            Service(self.source, self.open, limits, self._once, self.figures, Log()).run(self.stop)
        finally:
            self.source.close()


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book(tmp_path / "book.json")


def test_every_way_in(queues: Queues, book: Book) -> None:
    """Messages of each form, twice, of what came, changed, went, was never there, and is no image."""
    for key in ("a.jpg", "b.jpg", "c.jpg", "notes.txt", "lake/x.jpg", "ä b+c.jpg"):
        queues.put(key)
    queues.tell("a.jpg", "a.jpg", "notes.txt", "lake/x.jpg", "%C3%A4+b%2Bc.jpg", "gone.jpg")
    queues.send(
        json.dumps({"Event": "s3:TestEvent"}),
        bridged("Object Created", "b.jpg").replace('"photos"', f'"{queues.bucket}"'),
        enveloped(bridged("Object Created", "c.jpg").replace('"photos"', f'"{queues.bucket}"')),
    )
    watch = Watch(queues, book)
    watch.run()
    assert set(book.images) == {queues.uri(key) for key in ("a.jpg", "b.jpg", "c.jpg", "ä b+c.jpg")}
    assert len(book.history) == 4
    assert queues.counts() == (0, 0)
    assert queues.buried() == []
    assert watch.figures.counted("left_out") == 2
    assert watch.figures.counted("added") == 4
    assert watch.figures.counted("same") == 1


def test_what_is_told_is_what_the_store_says(queues: Queues, book: Book) -> None:
    """Etag, size or time other than a listing's: the next whole run would take the image for a changed one."""
    from udfs.stores import listing

    queues.arrive("a.jpg", body=b"four")
    Watch(queues, book).run()
    ((listed,),) = listing.list_files(f"s3://{queues.bucket}/")
    assert book.batches == [[Change(listed.uri, False, listed.etag, listed.size_bytes, listed.modified_at)]]


@pytest.mark.parametrize("order", [0, 1])
def test_the_store_is_right_and_not_the_order(queues: Queues, book: Book, order: int) -> None:
    """A late message of an older state that undoes a newer one: deleted and made again, and the other way round."""
    for key in ("back.jpg", "gone.jpg"):
        queues.arrive(key, body=b"old")
    Watch(queues, book).run()
    queues.put("back.jpg", b"newer")
    queues.s3.delete_object(Bucket=queues.bucket, Key="gone.jpg")
    for name in ("ObjectRemoved:Delete", "ObjectCreated:Put")[:: 1 - 2 * order]:
        queues.tell("back.jpg", "gone.jpg", name=name)
        Watch(queues, book).run()
    assert set(book.images) == {queues.uri("back.jpg")}
    assert sorted(what for what, _ in book.history) == ["added", "added", "changed", "removed"]


def test_versions(queues: Queues, book: Book) -> None:
    """Removing an old version taken for removing the object, and a delete marker that is not; undeleting."""
    queues.s3.put_bucket_versioning(Bucket=queues.bucket, VersioningConfiguration={"Status": "Enabled"})
    old = queues.s3.put_object(Bucket=queues.bucket, Key="a.jpg", Body=b"old")["VersionId"]
    queues.arrive("a.jpg", body=b"new")
    Watch(queues, book).run()
    etag = book.images[queues.uri("a.jpg")]
    queues.s3.delete_object(Bucket=queues.bucket, Key="a.jpg", VersionId=old)
    queues.tell("a.jpg", name="ObjectRemoved:Delete")
    Watch(queues, book).run()
    assert book.images == {queues.uri("a.jpg"): etag}
    marker = queues.s3.delete_object(Bucket=queues.bucket, Key="a.jpg")["VersionId"]
    queues.tell("a.jpg", name="ObjectRemoved:DeleteMarkerCreated")
    Watch(queues, book).run()
    assert book.images == {}
    queues.s3.delete_object(Bucket=queues.bucket, Key="a.jpg", VersionId=marker)
    queues.tell("a.jpg", name="ObjectRemoved:Delete")
    Watch(queues, book).run()
    assert book.images == {queues.uri("a.jpg"): etag}


def test_poison_is_put_aside_with_the_reason(queues: Queues, book: Book) -> None:
    """A message that nobody can use: it stops all others, is lost, or nobody learns why."""
    queues.arrive("a.jpg")
    queues.send("hello", '{"Records": 1}')
    queues.arrive("b.jpg")
    watch = Watch(queues, book)
    watch.run()
    assert set(book.images) == {queues.uri("a.jpg"), queues.uri("b.jpg")}
    assert queues.counts() == (0, 0)
    buried = dict(queues.buried())
    assert set(buried) == {"hello", '{"Records": 1}'}
    assert "not JSON" in str(buried["hello"])
    assert watch.figures.counted("poison_messages") == 2


def test_a_batch_that_is_refused_is_halved(queues: Queues, tmp_path: Path) -> None:
    """One picture that keeps all others out, and others that end as dead letters for it."""

    def before(changes: Sequence[Change]) -> None:
        if any("bad" in change.uri for change in changes):
            raise ContractError("cannot be")

    book = Book(tmp_path / "book.json", before)
    keys = [f"{number:02}.jpg" for number in range(30)]
    queues.arrive(*keys[:11], "bad.jpg", *keys[11:])
    watch = Watch(queues, book)
    with pytest.raises(ContractError):
        watch.run()
    assert set(book.images) == {queues.uri(key) for key in keys}
    assert len(book.history) == len(keys)
    assert queues.counts() == (0, 1)  # it comes again later
    assert 4 <= watch.figures.counted("refused_batches") <= 6  # half, half, half, …: of 31 it takes five or so


def test_a_message_that_is_refused_for_ever(queues: Queues, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that comes for ever, and one put aside without the reason."""
    monkeypatch.setattr("jobs.live.sources.messages.again_in_s", lambda _: 0)

    def before(_: Sequence[Change]) -> None:
        raise ZeroDivisionError("of the core's own")

    book = Book(tmp_path / "book.json", before)
    queues.arrive("bad.jpg")
    with pytest.raises(Exception, match="of the core's own"):
        Watch(queues, book).run()
    ((body, reason),) = queues.buried()
    assert "bad.jpg" in body
    assert reason == "ZeroDivisionError: of the core's own"
    assert queues.counts() == (0, 0)
    assert book.closed >= 2  # nobody knows what state it was in


def test_a_busy_lake_is_waited_for(queues: Queues, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A weekly run of an hour in which messages are taken for poison, or the watch ends."""
    monkeypatch.setattr(services, "OPEN_WAIT_S", 0.05)
    busy = [4]

    def before(_: Sequence[Change]) -> None:
        busy[0] -= 1
        if busy[0] >= 0:
            raise LakeBusyError("another run writes")

    book = Book(tmp_path / "book.json", before)
    queues.arrive("a.jpg", "b.jpg")
    watch = Watch(queues, book, Gathering(0, 1, 100, once=False))
    seen = []
    opening = [2]

    def opened() -> Book:
        opening[0] -= 1
        if opening[0] >= 0:
            seen.append(watch.figures.not_ready())
            raise LakeBusyError("another run writes")
        return book

    watch.opened = opened
    thread = threading.Thread(target=watch.run)
    thread.start()
    _until(lambda: len(book.images) == 2 and queues.counts() == (0, 0))
    assert watch.figures.not_ready() == ""
    watch.stop.set()
    thread.join(30)
    assert not thread.is_alive()
    assert any("another run writes" in why for why in seen)
    assert len(book.history) == 2
    assert watch.figures.counted("refused_batches") == 0
    assert queues.buried() == []


def test_once_ends_with_what_is_wrong(queues: Queues, tmp_path: Path) -> None:
    """Exit code 0 of a watch that has brought nothing in."""

    def before(_: Sequence[Change]) -> None:
        raise LakeBusyError("another run writes")

    queues.arrive("a.jpg")
    with pytest.raises(LakeBusyError):
        Watch(queues, Book(tmp_path / "book.json", before)).run()
    assert queues.counts() == (1, 0)  # at once, for the next


def test_objects_that_cannot_be_looked_at(queues: Queues, book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    """One object without an answer that keeps others out, or is taken for one that has gone."""
    from udfs.errors import ACCESS_DENIED, ImageError
    from udfs.stores import listing

    real = listing.stat

    def stat(uri: str, limits: Limits | None = None) -> listing.Stat:
        if "closed" in uri:
            raise ImageError(ACCESS_DENIED, "no")
        return real(uri, limits)

    monkeypatch.setattr(listing, "stat", stat)
    queues.arrive("a.jpg", "closed.jpg", "b.jpg")
    with pytest.raises(InputError, match=r"closed\.jpg"):
        Watch(queues, book).run()
    assert set(book.images) == {queues.uri("a.jpg"), queues.uri("b.jpg")}
    assert queues.counts() == (0, 1)


def test_gathering(queues: Queues, book: Book) -> None:
    """A batch for each image, one of more than the cap, and one that waits for its time though enough are there."""
    queues.arrive(*[f"{number}.jpg" for number in range(25)])
    watch = Watch(queues, book, Gathering(every_s=3600, at_least=5, at_most=20, once=False))
    thread = threading.Thread(target=watch.run)
    started = time.monotonic()
    thread.start()
    _until(lambda: len(book.images) == 25)
    assert time.monotonic() - started < 20
    watch.stop.set()
    thread.join(30)
    assert [len(batch) for batch in book.batches] == [20, 5]
    assert queues.counts() == (0, 0)


def test_the_oldest_decides(queues: Queues, book: Book) -> None:
    """A watch that waits for ever for at_least, and one that counts from when it looked."""
    queues.arrive("a.jpg")
    watch = Watch(queues, book, Gathering(every_s=2, at_least=1000, at_most=1000, once=False))
    thread = threading.Thread(target=watch.run)
    sent = time.time()
    thread.start()
    _until(lambda: bool(book.images))
    assert 1.5 < time.time() - sent < 10
    watch.stop.set()
    thread.join(30)


def test_a_stop_gives_back_what_is_at_hand(queues: Queues, book: Book) -> None:
    queues.arrive("a.jpg", "b.jpg")
    watch = Watch(queues, book, Gathering(every_s=3600, at_least=1000, at_most=1000, once=False))
    thread = threading.Thread(target=watch.run)
    thread.start()
    _until(lambda: queues.counts() == (0, 2) and watch.source.behind()[0] == 2)  # given out, and arrived here
    watch.stop.set()
    thread.join(30)
    assert not thread.is_alive()
    assert queues.counts() == (2, 0)
    assert book.images == {}


def test_a_long_batch_keeps_its_messages(queues: Queues, tmp_path: Path) -> None:
    """Messages that come again while their batch is at work, and go to another watch."""
    seen = []

    def before(_: Sequence[Change]) -> None:
        ends = time.monotonic() + 7
        while time.monotonic() < ends:
            seen.append(queues.counts()[0])
            time.sleep(0.2)

    book = Book(tmp_path / "book.json", before)
    queues.arrive(*[f"{number}.jpg" for number in range(12)])
    Watch(queues, book, visibility_s=3).run()
    assert set(seen) == {0}
    assert len(book.batches) == 1


def test_a_queue_that_cannot_be_used(aws: s3_server.S3Server, queues: Queues) -> None:
    """A traceback, or a watch that runs and hears nothing."""
    with pytest.raises(QueueError, match="no such queue"):
        Sqs(queues.url + "x")
    with pytest.raises(QueueError, match="no redrive policy"):
        Sqs(queues.dead)
    Sqs(queues.dead, queues.url).close()
    for url in ("photos", "s3://a/b", "https://sqs.eu-west-1.amazonaws.com/1/a.fifo", "https://h/../x y", "https://h"):
        with pytest.raises(QueueError):
            Sqs(url)


@pytest.mark.parametrize("seed", range(2))
def test_kills(queues: Queues, tmp_path: Path, seed: int) -> None:
    """A process ended at any moment: before a commit, between the commit and the deletion, in the middle of deletions.
    Then something is missing, there twice, or a message stays."""
    shuffled = random.Random(seed)
    keys = [f"{number:03}.jpg" for number in range(40)]
    for key in keys:
        queues.put(key)
    told = keys + keys[:10]
    shuffled.shuffle(told)
    queues.tell(*told)
    queues.receives(1000)
    book = tmp_path / "book.json"
    ended = 0
    for attempt in range(20):
        moment = shuffled.choice(["before", "after", "deleting"]) if attempt < 6 else "never"
        command = [sys.executable, "-m", "tests.live.killed", queues.url, queues.bucket, str(book), moment]
        ended = subprocess.run(command, check=False, timeout=120).returncode
        assert ended in (0, 9)
        if attempt >= 6 and queues.counts() == (0, 0):
            break
        time.sleep(1.1)  # until its messages come again
    assert ended == 0
    assert set(Book(book).images) == {queues.uri(key) for key in keys}
    assert sorted(uri for _, uri in Book(book).history) == sorted(queues.uri(key) for key in keys)
    assert queues.counts() == (0, 0)
    assert queues.buried() == []


def test_messages_that_tell_of_nothing(queues: Queues, book: Book) -> None:
    """Messages of what is no image that stay, or for which a lake is opened: some buckets have little else."""
    queues.receives(1000)
    queues.tell(*[f"{number}.txt" for number in range(120)])
    watch = Watch(queues, book)
    watch.run()
    assert queues.counts() == (0, 0)
    assert book.batches == []
    assert watch.figures.counted("left_out") == 120


def _until(true: Callable[[], bool], within_s: float = 30.0) -> None:
    ends = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.05)
