"""Catches files that are missed, taken before they are whole, or taken for gone, with real files."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from jobs.errors import InputError
from jobs.live.figures import Figures
from jobs.live.log import Log
from jobs.live.service import Service
from jobs.live.sources import folder as folders
from jobs.live.sources.comparing import Differences, compare
from jobs.live.sources.folder import Folder
from jobs.live.sources.messages import Gathering
from jobs.live.sources.wanted import Wanted, spellings
from tests.live import lakes
from tests.live.lakes import Book
from udfs.stores import listing
from udfs.stores.s3_objects import Limits

SOON = Gathering(every_s=0, at_least=1, at_most=1000, once=False)


class Watch:
    """A service on a folder `photos` beside a lake; after each batch the lake's table has what the book has."""

    def __init__(self, tmp_path: Path, gathering: Gathering = SOON, rescan_s: float = 3600) -> None:
        self.lake, self.photos = tmp_path / "lake", tmp_path / "photos"
        self.book = Book(tmp_path / "book.json", after=lambda _: lakes.known(self.lake, self.book.images))
        self.figures, self.stop, self._gathering, self._rescan_s = Figures(), threading.Event(), gathering, rescan_s
        self.wanted = Wanted(
            spellings(str(self.photos)), frozenset({"jpg"}), frozenset({"tar"}), (f"{self.photos}/lake/",)
        )
        self._thread: threading.Thread | None = None

    def source(self) -> Folder:
        return Folder(str(self.lake), self.wanted, self._gathering, self._rescan_s, 0.5, self.figures, Log())

    def run(self) -> None:
        source = self.source()
        try:
            once = self._gathering.once
            Service(source, lambda: self.book, Limits(), once, self.figures, Log()).run(self.stop)
        finally:
            source.close()

    def start(self) -> None:
        """Watches in a thread; returns when the first listing is done."""
        self._thread = threading.Thread(target=self.run)
        self._thread.start()
        until(lambda: not self.figures.not_ready())
        time.sleep(0.5)

    def end(self) -> None:
        self.stop.set()
        if self._thread is not None:
            self._thread.join(30)
            assert not self._thread.is_alive()

    def write(self, name: str, text: str = "x") -> Path:
        path = self.photos / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def holds(self, *names: str) -> bool:
        """Whether the lake has just these files, as they are now."""
        now = {str(self.photos / name): listing.stat(str(self.photos / name)).etag for name in names}
        return self.book.images == now


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    found = Watch(tmp_path)
    found.photos.mkdir()
    lakes.make(found.lake, [str(found.photos)])
    yield found
    found.end()


def until(true: Callable[[], bool], within_s: float = 20.0) -> None:
    ends = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_what_comes_changes_and_goes(watch: Watch) -> None:
    watch.start()
    watch.write("a.jpg")
    watch.write("sub/deep/b.JPG")
    watch.write("notes.txt")
    watch.write(".c.jpg")
    watch.write(".trash/d.jpg")
    watch.write("lake/e.jpg")
    watch.write("ä 📷.jpg")
    until(lambda: watch.holds("a.jpg", "sub/deep/b.JPG", "ä 📷.jpg"))
    watch.write("a.jpg", "other")
    until(lambda: watch.holds("a.jpg", "sub/deep/b.JPG", "ä 📷.jpg"))
    (watch.photos / "a.jpg").unlink()
    until(lambda: watch.holds("sub/deep/b.JPG", "ä 📷.jpg"))
    (watch.photos / "sub/deep/b.JPG").rename(watch.photos / "c.jpg")
    until(lambda: watch.holds("c.jpg", "ä 📷.jpg"))
    assert not any("trash" in uri or "lake/" in uri or ".c" in uri for _, uri in watch.book.history)


def test_folders_that_are_moved(watch: Watch, tmp_path: Path) -> None:
    """No event names the files in them."""
    watch.start()
    for name in ("one/a.jpg", "one/two/b.jpg", "one/two/c.txt"):
        path = tmp_path / "outside" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x", encoding="utf-8")
    (tmp_path / "outside/one").rename(watch.photos / "in")
    until(lambda: watch.holds("in/a.jpg", "in/two/b.jpg"))
    (watch.photos / "in").rename(watch.photos / "renamed")
    until(lambda: watch.holds("renamed/a.jpg", "renamed/two/b.jpg"))
    (watch.photos / "renamed/two").rename(tmp_path / "out")
    until(lambda: watch.holds("renamed/a.jpg"))


def test_a_file_is_taken_when_it_is_whole(watch: Watch) -> None:
    """Half a picture in the lake, as a failure: a file that is written for seconds, and one renamed into place."""
    watch.start()
    with (watch.photos / "slow.jpg").open("w", encoding="utf-8") as file:
        for _ in range(12):
            file.write("x")
            file.flush()
            time.sleep(0.25)
            assert not watch.book.images
    draft = watch.write("fast.jpg.part", "y")
    draft.rename(watch.photos / "fast.jpg")
    until(lambda: watch.holds("slow.jpg", "fast.jpg"))
    assert len(watch.book.history) == 2


def test_what_was_done_while_nobody_watched(watch: Watch) -> None:
    """New, changed and removed files, and one in a shard, which no listing shows as a file."""
    same, changed = watch.write("same.jpg"), watch.write("changed.jpg")
    known = {str(path): str(listing.stat(str(path)).etag) for path in (same, changed)}
    images = {**known, str(watch.photos / "gone.jpg"): "0"}
    lakes.known(watch.lake, images)
    os.utime(changed, (1, 1))
    watch.write("new.jpg")
    found = compare(str(watch.lake), [str(watch.photos)], watch.wanted)
    assert found.fresh == [str(watch.photos / name) for name in ("changed.jpg", "new.jpg")]
    assert found.gone == [str(watch.photos / "gone.jpg")]
    assert found.known == 3
    once = Watch(watch.photos.parent, Gathering(0, 1, 1000, once=True))
    once.run()
    assert sorted(change.uri.rpartition("/")[2] for change in once.book.batches[0]) == [
        "changed.jpg",
        "gone.jpg",
        "new.jpg",
    ]
    assert len(once.book.batches) == 1


def test_events_that_were_missed(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel keeps some events and drops the others: here it keeps so few that a few files are a burst."""
    monkeypatch.setattr(folders, "_queued", lambda: 4)
    listed: list[object] = []

    def compared(lake: str, roots: Sequence[str], wanted: Wanted) -> Differences:
        listed.append(roots)
        return compare(lake, roots, wanted)

    monkeypatch.setattr(folders, "compare", compared)
    watch.start()
    before = len(listed)
    for number in range(10):
        watch.write(f"{number}.jpg")
    until(lambda: watch.holds(*[f"{number}.jpg" for number in range(10)]))
    assert [str(watch.photos)] in listed[before:]


def test_a_listing_every_so_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What no event told of stays unseen for ever."""
    watch = Watch(tmp_path, rescan_s=1.0)
    watch.photos.mkdir()
    lakes.make(watch.lake, [str(watch.photos)])
    monkeypatch.setattr(Folder, "_hear", lambda _: None)
    watch.start()
    try:
        watch.write("a.jpg")
        until(lambda: watch.holds("a.jpg"))
    finally:
        watch.end()


def test_a_name_that_is_not_utf_8(watch: Watch) -> None:
    """watchfiles ends at one; the others are to be seen all the same."""
    watch.start()
    name = os.fsencode(watch.photos) + b"/\xff.jpg"
    Path(os.fsdecode(name)).write_text("x", encoding="utf-8")
    watch.write("a.jpg")
    until(lambda: len(watch.book.images) == 2)
    assert str(watch.photos / "a.jpg") in watch.book.images
    assert any(uri.startswith("file:///") and uri.endswith("/%FF.jpg") for uri in watch.book.images)


def test_a_disk_that_is_not_there(watch: Watch) -> None:
    """All images of a lake removed because their disk was not mounted."""
    lakes.known(watch.lake, {str(watch.photos / f"{number}.jpg"): "0" for number in range(9)})
    watch.write("a.jpg")
    with pytest.raises(InputError, match="9 of the lake's 9 images are not there"):
        watch.run()
    assert watch.book.history == []
    (watch.photos / "a.jpg").unlink()
    watch.photos.rmdir()
    with pytest.raises(InputError, match="does not exist"):
        watch.run()


def test_another_folder_of_its_name(watch: Watch, tmp_path: Path) -> None:
    """A disk that is mounted again, and whose events nobody hears then."""
    watch.start()
    watch.write("a.jpg")
    until(lambda: watch.holds("a.jpg"))
    watch.photos.rename(tmp_path / "before")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/a.jpg").write_text("x", encoding="utf-8")
    time.sleep(1.5)
    assert len(watch.book.images) == 1  # nothing counts as gone while nothing is there
    (tmp_path / "other").rename(watch.photos)
    watch.write("b.jpg")
    until(lambda: watch.holds("a.jpg", "b.jpg"))
    time.sleep(1)
    watch.write("c.jpg")
    until(lambda: watch.holds("a.jpg", "b.jpg", "c.jpg"))


def test_a_file_that_is_refused(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file that keeps all others out, or is tried for ever."""
    from jobs.errors import ContractError

    monkeypatch.setattr(folders, "again_in_s", lambda _: 0)
    monkeypatch.setattr(folders, "MOST_TRIES", 2)

    def before(changes: object) -> None:
        if "bad" in str(changes):
            raise ContractError("cannot be")

    watch.book._before = before
    watch.write("a.jpg")
    watch.write("bad.jpg")
    watch.write("b.jpg")
    watch.start()
    until(lambda: watch.holds("a.jpg", "b.jpg") and watch.figures.counted("poison_messages") == 1)
