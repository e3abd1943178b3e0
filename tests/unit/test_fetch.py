"""Catches a wrong answer to a missing, refused, slow, broken, huge or strangely named object, and disorder."""

import os
import shutil
import socket
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests import s3_server
from udfs.errors import ImageError
from udfs.stores import fetch, listing, objects, s3, uris
from udfs.stores.fetch import Limits, Reference

LIMITS = Limits(max_bytes=1000, timeout_s=4.0, retries=3)
STRANGE_KEYS = [
    "a b.jpg",
    'it\'s "q".jpg',
    "a#1.jpg",
    "100%.jpg",
    "%41%20x.jpg",
    "what?.jpg",
    "a+b&c=d.jpg",
    "a\\b.jpg",
    "~t*x|<>^`{}[].jpg",
    unicodedata.normalize("NFC", "é.jpg"),
    unicodedata.normalize("NFD", "é2.jpg"),
    "😀.jpg",
    "tab\tx.jpg",
    "\x01.jpg",
    "\x7f.jpg",
    "/lead.jpg",
    "lead.jpg",
    "trail/",
    "trail",
    "d//x.jpg",
    "d/x.jpg",
    "d/../up.jpg",
    "d/./here.jpg",
    "..",
    "x/..",
    "a.../x.jpg",
]


@pytest.fixture(scope="module")
def moto() -> Iterator[s3_server.S3Server]:
    with s3_server.serve() as server:
        yield server


@pytest.fixture
def lake(moto: s3_server.S3Server, monkeypatch: pytest.MonkeyPatch) -> s3_server.S3Server:
    _use(monkeypatch, moto.env)
    return moto


def _use(monkeypatch: pytest.MonkeyPatch, env: dict[str, str]) -> None:
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in env.items():
        monkeypatch.setenv(name, value)


class _Faulty(BaseHTTPRequestHandler):
    """Enough of S3's GET for a client; the key says what goes wrong, `seen` counts the requests for each."""

    protocol_version = "HTTP/1.1"
    seen: dict[str, int]
    busy: int
    most_busy: int
    lock: threading.Lock

    def log_message(self, *_args: object) -> None:
        pass

    def do_GET(self) -> None:
        key = unquote(self.path).removeprefix("/b/")
        cls = type(self)
        with cls.lock:
            cls.seen[key] = count = cls.seen.get(key, 0) + 1
            cls.busy += 1
            cls.most_busy = max(cls.most_busy, cls.busy)
        try:
            self._reply(key, count)
        finally:
            with cls.lock:
                cls.busy -= 1

    def _reply(self, key: str, count: int) -> None:
        kind, _, rest = key.partition("-")
        if kind == "status":
            self._send(int(rest), b"<Error><Code>Some</Code><Message>no</Message></Error>")
        elif kind == "once" and count == 1:
            self._send(int(rest), b"")
        elif kind == "reset" and count <= int(rest):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.close_connection = True
            self.connection.close()
        elif kind == "slow":
            time.sleep(float(rest))
            self._send(200, key.encode())
        elif kind == "stalled":
            self._head(200, 100)
            self.wfile.write(b"x" * 10)
            self.wfile.flush()
            time.sleep(float(rest))
            self.close_connection = True
        elif kind == "short":
            self._head(200, 100)
            self.wfile.write(b"x" * 10)
            self.close_connection = True
        elif kind == "long":
            self._head(200, 10)
            self.wfile.write(b"x" * 5000)
            self.close_connection = True
        elif kind == "gzip":
            self._send(200, b"not gzip at all", [("Content-Encoding", "gzip")])
        elif kind == "size":
            self._send(200, b"x" * int(rest.partition("-")[0]))
        elif kind == "huge":
            self._head(200, 1 << 40)
            self.close_connection = True
        else:
            self._send(200, key.encode())

    def _head(self, status: int, size: int, extra: list[tuple[str, str]] | None = None) -> None:
        self.send_response(status)
        for name, value in extra or []:
            self.send_header(name, value)
        self.send_header("Content-Length", str(size))
        self.send_header("ETag", '"e"')
        self.send_header("Last-Modified", formatdate(0, usegmt=True))
        self.end_headers()

    def _send(self, status: int, body: bytes, extra: list[tuple[str, str]] | None = None) -> None:
        self._head(status, len(body), extra)
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_args: object) -> None:
        """A client that hangs up is part of the test."""


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Faulty]]:
    handler = type("Handler", (_Faulty,), {"seen": {}, "busy": 0, "most_busy": 0, "lock": threading.Lock()})
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02), daemon=True)
    thread.start()
    _use(monkeypatch, s3_server.environment(f"http://127.0.0.1:{server.server_address[1]}"))
    yield handler
    server.shutdown()
    server.server_close()


def _code(read: Callable[[], object]) -> str:
    with pytest.raises(ImageError) as caught:
        read()
    return caught.value.code


# Faults of S3


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("status-404", "not_found"),
        ("status-403", "access_denied"),
        ("status-401", "access_denied"),
        ("status-400", "fetch_failed"),
        ("huge", "too_many_bytes"),
        ("size-1001", "too_many_bytes"),
        ("d//status-404", "fetch_failed"),
    ],
)
def test_answers_that_are_final(faulty: type[_Faulty], key: str, code: str) -> None:
    if key.startswith("d//"):
        # Such keys take boto3's way.
        assert fetch.fetch(Reference(f"s3://b/{key}"), LIMITS) == key.encode()
        return
    assert _code(lambda: fetch.fetch(Reference(f"s3://b/{key}"), LIMITS)) == code
    assert faulty.seen == {key: 1}


@pytest.mark.parametrize("status", ["500", "503", "429"])
def test_passing_trouble_is_tried_again(faulty: type[_Faulty], status: str) -> None:
    key = f"once-{status}"
    assert fetch.fetch(Reference(f"s3://b/{key}"), LIMITS) == key.encode()
    assert faulty.seen == {key: 2}


def test_lasting_trouble_ends(faulty: type[_Faulty]) -> None:
    assert _code(lambda: fetch.fetch(Reference("s3://b/status-503"), LIMITS)) == "fetch_failed"
    assert faulty.seen == {"status-503": 4}


def test_resets(faulty: type[_Faulty]) -> None:
    assert fetch.fetch(Reference("s3://b/reset-2"), LIMITS) == b"reset-2"
    assert _code(lambda: fetch.fetch(Reference("s3://b/reset-99"), LIMITS)) == "fetch_failed"


@pytest.mark.parametrize("key", ["slow-3", "stalled-3"])
def test_no_answer_in_time(faulty: type[_Faulty], key: str) -> None:
    began = time.monotonic()
    assert _code(lambda: fetch.fetch(Reference(f"s3://b/{key}"), Limits(1000, 1.0, 9))) == "timeout"
    assert time.monotonic() - began < 2.5


def test_servers_that_lie_about_the_size(faulty: type[_Faulty]) -> None:
    assert _code(lambda: fetch.fetch(Reference("s3://b/short"), Limits(1000, 2.0, 1))) in ("fetch_failed", "timeout")
    assert fetch.fetch(Reference("s3://b/long"), LIMITS) == b"x" * 10
    assert fetch.fetch(Reference("s3://b/gzip"), LIMITS) == b"not gzip at all"


def test_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    _use(monkeypatch, s3_server.environment("http://127.0.0.1:9"))
    assert _code(lambda: fetch.fetch(Reference("s3://b/k"), Limits(1000, 1.0, 1))) in ("fetch_failed", "timeout")


def test_no_credentials_stop_the_run_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _use(monkeypatch, {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path)})
    with pytest.raises(s3.StoreError, match="no AWS credentials: set AWS_PROFILE"):
        fetch.fetch(Reference("s3://b/k"), LIMITS)
    with pytest.raises(s3.StoreError, match="no AWS credentials"):
        list(fetch.fetch_all([Reference("s3://b/k")], LIMITS))
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(s3.StoreError, match="nobody"):
        fetch.fetch(Reference("s3://b/k"), LIMITS)


def test_public_buckets_need_no_credentials(
    faulty: type[_Faulty], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    assert fetch.fetch(Reference("s3://b/k"), LIMITS) == b"k"
    assert fetch.fetch(Reference("s3://b/d//k"), LIMITS) == b"d//k"


# Many at once


def test_order_errors_and_bounds(faulty: type[_Faulty], tmp_path: Path) -> None:
    (tmp_path / "local").write_bytes(b"from disk")
    keys = [f"slow-0.0{9 - i % 10}-{i}".rsplit("-", 1)[0] if i % 5 == 0 else f"key{i}" for i in range(60)]
    source = [f"s3://b/{key}" for key in keys]
    source[7] = str(tmp_path / "local")
    source[11] = str(tmp_path / "missing")
    source[13] = "s3://b/status-404"
    expected: list[object] = [key.encode() for key in keys]
    expected[7], expected[11], expected[13] = b"from disk", "not_found", "not_found"
    taken = 0

    def counted() -> Iterator[Reference]:
        nonlocal taken
        for uri in source:
            taken += 1
            yield Reference(uri)

    for given, result in enumerate(fetch.fetch_all(counted(), LIMITS, threads=4)):
        assert (result.code if isinstance(result, ImageError) else result) == expected[given]
        assert taken <= given + 1 + 8
    assert taken == 60
    assert 2 <= faulty.most_busy <= 4


def test_bytes_ahead_are_bounded(faulty: type[_Faulty], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "AHEAD_BYTES", 100_000)
    source = [f"s3://b/size-{40_000 if i % 3 else 90_000}-{i}" for i in range(40)]
    source[5] = "s3://b/size-250000-5"  # larger than the whole window
    results = fetch.fetch_all(map(Reference, source), Limits(max_bytes=1_000_000, timeout_s=10), threads=8)
    first = next(results)
    time.sleep(0.2)  # all that may be read ahead has been
    sizes = [len(first)] if isinstance(first, bytes) else []
    sizes += [len(result) for result in results if isinstance(result, bytes)]
    assert sizes == [int(uri.split("-")[1]) for uri in source]
    again = len(source) * 0.6  # objects put off for want of room are asked for twice: the exception
    assert sum(faulty.seen.values()) - len(source) < again


def test_the_window_never_holds_more() -> None:
    window = fetch._Window()
    assert window.admit(fetch.AHEAD_BYTES - 10)
    assert not window.admit(11)
    assert not window.has_room()
    window.release(fetch.AHEAD_BYTES - 10)
    assert window.admit(11)


def test_an_abandoned_iterator_asks_for_no_more(faulty: type[_Faulty]) -> None:
    results = fetch.fetch_all((Reference(f"s3://b/slow-0.02{i}") for i in range(1000)), LIMITS, threads=2)
    next(results)
    results.close()  # type: ignore[attr-defined]
    time.sleep(0.2)
    assert sum(faulty.seen.values()) <= 6


def test_nothing_and_wrong_arguments() -> None:
    assert list(fetch.fetch_all([], LIMITS)) == []
    with pytest.raises(ValueError, match="threads"):
        list(fetch.fetch_all([], LIMITS, threads=0))


# Names


def test_strange_keys_from_list_to_bytes(lake: s3_server.S3Server) -> None:
    put = lake.client().put_object
    for key in STRANGE_KEYS:
        put(Bucket=lake.bucket, Key="p/" + key, Body=key.encode())
        put(Bucket=lake.bucket, Key=key, Body=key.encode())
    for root in (f"s3://{lake.bucket}/p", f"s3://{lake.bucket}/p/"):
        listed = [one for batch in listing.list_files(root, batch=7) for one in batch]
        assert sorted(one.relative for one in listed) == sorted(STRANGE_KEYS)
        assert all(uris.canonical(one.uri) == one.uri for one in listed)
    whole = {one.relative for batch in listing.list_files(f"s3://{lake.bucket}/") for one in batch}
    assert whole >= set(STRANGE_KEYS)
    found = list(fetch.fetch_all([Reference(one.uri) for one in listed], LIMITS, threads=4))
    assert found == [one.relative.encode() for one in listed]
    for one in listed:
        stat = listing.stat(one.uri)
        assert (stat.size_bytes, stat.etag) == (one.size_bytes, one.etag)


def test_a_newline_in_a_key(faulty: type[_Faulty]) -> None:
    # moto's own routes do not match such keys.
    assert fetch.fetch(Reference("s3://b/new\nline.jpg"), LIMITS) == b"new\nline.jpg"


def test_strange_local_names_from_list_to_bytes(tmp_path: Path) -> None:
    names = [name for name in STRANGE_KEYS if "/" not in name and name != ".."] + ["new\nline.jpg"]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    raw = os.fsencode(tmp_path) + b"/caf\xe9 1.jpg"
    Path(os.fsdecode(raw)).write_bytes(b"latin")
    listed = {one.relative: one for batch in listing.list_files(str(tmp_path)) for one in batch}
    assert set(listed) == {*names, "caf%E9%201.jpg"}
    for name in names:
        assert fetch.fetch(Reference(listed[name].uri), LIMITS) == name.encode()
    odd = listed["caf%E9%201.jpg"].uri
    assert odd.startswith("file:///")
    assert odd.endswith("/caf%E9%201.jpg")
    assert fetch.fetch(Reference(odd), LIMITS) == b"latin"


# Folders


def test_what_a_folder_holds(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in ("a.jpg", "x/b.jpg", "x/y/c.jpg", ".hidden.jpg", ".git/d.jpg", "x/.e"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"12345")
    (root / "link.jpg").symlink_to(root / "a.jpg")
    (root / "dangling.jpg").symlink_to(root / "nothing")
    (root / "loop").symlink_to(root)
    os.mkfifo(root / "pipe.jpg")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "f.jpg").write_bytes(b"")
    (root / "folder").symlink_to(tmp_path / "outside")
    os.utime(root / "a.jpg", ns=(0, 1_700_000_000_123_456_789))
    listed = {one.relative: one for batch in listing.list_files(str(root), batch=2) for one in batch}
    assert set(listed) == {"a.jpg", "x/b.jpg", "x/y/c.jpg", "link.jpg"}
    unlisted = listing.Unlisted()
    (root / "circle.jpg").symlink_to(root / "circle.jpg")
    assert sum(map(len, listing.list_files(str(root), unlisted=unlisted))) == 4
    assert (unlisted.links, unlisted.folders) == (4, 0)  # to nothing, in a circle, and two to folders
    (root / "circle.jpg").unlink()
    one = listed["a.jpg"]
    assert one.uri == str(root / "a.jpg")
    assert (one.size_bytes, one.etag) == (5, f"{1_700_000_000_123_456_789:x}-5")
    assert one.modified_at == datetime(2023, 11, 14, 22, 13, 20, 123456, UTC)
    assert listing.stat(one.uri) == (5, one.etag, one.modified_at)
    (tmp_path / "to_root").symlink_to(root)
    assert sum(map(len, listing.list_files(str(tmp_path / "to_root")))) == 4


def test_batches(tmp_path: Path) -> None:
    for i in range(25):
        (tmp_path / f"{i}.jpg").touch()
    assert [len(batch) for batch in listing.list_files(str(tmp_path), batch=10)] == [10, 10, 5]
    with pytest.raises(ValueError, match="batch"):
        list(listing.list_files(str(tmp_path), batch=0))


def test_paths_below_a_folder_with_umlauts(tmp_path: Path) -> None:
    """A split read as `rain`: the root's length counted in bytes."""
    (tmp_path / "Größe ねこ" / "train").mkdir(parents=True)
    (tmp_path / "Größe ねこ" / "train" / "1.jpg").touch()
    for root in (str(tmp_path / "Größe ねこ"), f"{tmp_path}/Größe ねこ/"):
        assert [one.relative for batch in listing.list_files(root) for one in batch] == ["train/1.jpg"]


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(s3.StoreError, match="does not exist"):
        list(listing.list_files(str(tmp_path / "missing")))
    (tmp_path / "a" / "b").mkdir(parents=True)
    scan = os.scandir

    def refuse(path: bytes) -> object:
        if path.endswith(b"/b"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(s3.StoreError, match="/a/b: permission denied"):
        list(listing.list_files(str(tmp_path)))


def test_prefixes_of_s3(lake: s3_server.S3Server) -> None:
    put = lake.client().put_object
    for key in ("q/a.jpg", "q/x/b.jpg", "q2/c.jpg", "q/.hidden", "q/.x/d.jpg", "q/marker/", "q", "q/"):
        put(Bucket=lake.bucket, Key=key, Body=b"" if key.endswith("/") else b"123")
    listed = [one for batch in listing.list_files(f"s3://{lake.bucket}/q") for one in batch]
    assert {one.relative for one in listed} == {"a.jpg", "x/b.jpg"}
    one = listed[0]
    assert one.size_bytes == 3
    assert one.etag == "202cb962ac59075b964b07152d234b70"
    assert one.modified_at is not None
    assert one.modified_at.tzinfo == UTC
    assert list(listing.list_files(f"s3://{lake.bucket}/nothing")) == []
    with pytest.raises(s3.StoreError, match="the bucket does not exist"):
        list(listing.list_files("s3://no-such-bucket/"))


def test_more_keys_than_a_page_has(lake: s3_server.S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    put = lake.client().put_object
    for i in range(12):
        put(Bucket=lake.bucket, Key=f"many/{i}.jpg", Body=b"")
    listed = [one.relative for batch in listing.list_files(f"s3://{lake.bucket}/many", batch=5) for one in batch]
    assert sorted(listed) == sorted(f"{i}.jpg" for i in range(12))


# Files


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(tmp_path)  # a socket's path is short
        listener.bind("socket")
        for name, detail in ((".", "a folder"), ("pipe", "a pipe"), ("socket", "a socket")):
            with pytest.raises(ImageError, match=detail) as caught:
                fetch.fetch(Reference(uris.canonical(name)), LIMITS)
            assert caught.value.code == "fetch_failed"
            assert _code(lambda name=name: listing.stat(uris.canonical(name))) == "fetch_failed"  # type: ignore[misc]
    assert _code(lambda: fetch.fetch(Reference("/dev/zero"), LIMITS)) == "fetch_failed"
    assert _code(lambda: fetch.fetch(Reference(f"{tmp_path}/missing"), LIMITS)) == "not_found"
    assert _code(lambda: listing.stat(f"{tmp_path}/missing")) == "not_found"
    assert _code(lambda: fetch.fetch(Reference(f"{tmp_path}/file/below"), LIMITS)) == "not_found"
    assert _code(lambda: fetch.fetch(Reference(f"{tmp_path}/{'n' * 300}"), LIMITS)) == "fetch_failed"

    def refuse(*_args: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert _code(lambda: fetch.fetch(Reference(f"{tmp_path}/file"), LIMITS)) == "access_denied"


def test_sizes_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a"
    for size in (0, 1, 999, 1000):
        file.write_bytes(b"x" * size)
        assert fetch.fetch(Reference(str(file)), LIMITS) == b"x" * size
    file.write_bytes(b"x" * 1001)
    assert _code(lambda: fetch.fetch(Reference(str(file)), LIMITS)) == "too_many_bytes"
    os.truncate(file, 1 << 40)  # sparse: reading it would never end
    assert _code(lambda: fetch.fetch(Reference(str(file)), LIMITS)) == "too_many_bytes"


@pytest.mark.parametrize(("grown", "expected"), [(900, 900), (1000, 1000), (5000, "too_many_bytes"), (3, 3)])
def test_a_file_that_changes_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grown: int, expected: object
) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"x" * 10)
    fstat = os.fstat

    def then_change(number: int) -> os.stat_result:
        found = fstat(number)
        file.write_bytes(b"x" * grown)
        return found

    monkeypatch.setattr(os, "fstat", then_change)
    if isinstance(expected, str):
        assert _code(lambda: fetch.fetch(Reference(str(file)), LIMITS)) == expected
    else:
        assert fetch.fetch(Reference(str(file)), LIMITS) == b"x" * grown


# Bookkeeping


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_small_objects(kind: str, lake: s3_server.S3Server, tmp_path: Path) -> None:
    root = str(tmp_path / "lake") if kind == "local" else f"s3://{lake.bucket}/small"
    name = uris.join(root, "x", "a #%?é.json")
    assert objects.list_small(uris.join(root, "x")) == []
    assert not objects.exists(name)
    with pytest.raises(FileNotFoundError):
        objects.read_small(name)
    objects.delete(name)
    assert objects.put_if_absent(name, b"first")
    assert not objects.put_if_absent(name, b"second")
    assert objects.read_small(name) == b"first"
    objects.put(name, b"third")
    objects.put(uris.join(root, "x", "below", "b"), b"")
    assert objects.read_small(name) == b"third"
    assert objects.exists(name)
    with pytest.raises(s3.StoreError, match="more than 4 bytes"):
        objects.read_small(name, max_bytes=4)
    assert objects.list_small(uris.join(root, "x")) == ["a #%?é.json"]
    objects.delete(name)
    assert not objects.exists(name)


def test_access_to_s3(lake: s3_server.S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    objects.put(f"s3://{lake.bucket}/there/a.jpg", b"1")
    objects.check_access(f"s3://{lake.bucket}/there")
    objects.check_access(f"s3://{lake.bucket}/there/a.jpg")
    objects.check_access(f"s3://{lake.bucket}/nothing", must_exist=False)
    began = time.monotonic()
    for uri, why in (
        (f"s3://{lake.bucket}/nothing", "nothing below this prefix"),
        (f"s3://{lake.bucket}/ther", "nothing below this prefix"),
        ("s3://no-such-bucket/x", "the bucket does not exist"),
    ):
        with pytest.raises(s3.StoreError, match=why) as caught:
            objects.check_access(uri)
        assert uri in str(caught.value)
        assert "\n" not in str(caught.value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(s3.StoreError, match=r"http://127.0.0.1:9 does not answer .* check AWS_ENDPOINT_URL"):
        objects.check_access("s3://b/x")
    _use(monkeypatch, {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path)})
    with pytest.raises(s3.StoreError, match="no AWS credentials: set AWS_PROFILE"):
        objects.check_access("s3://b/x")
    assert time.monotonic() - began < 10


def test_access_denied(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(_Faulty):
        seen, busy, most_busy, lock = {}, 0, 0, threading.Lock()

        def do_GET(self) -> None:
            code = b"ExpiredToken" if b"old" in self.path.encode() else b"AccessDenied"
            self._send(403, b"<Error><Code>" + code + b"</Code><Message>no</Message></Error>")

    server = _Server(("127.0.0.1", 0), Refusing)
    threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02), daemon=True).start()
    _use(monkeypatch, s3_server.environment(f"http://127.0.0.1:{server.server_address[1]}"))
    try:
        with pytest.raises(s3.StoreError, match="access denied: grant s3:ListBucket"):
            objects.check_access("s3://b/x")
        with pytest.raises(s3.StoreError, match=r"have expired \(ExpiredToken\): renew them"):
            objects.check_access("s3://old/x")
    finally:
        server.shutdown()
        server.server_close()


def test_access_to_folders(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_bytes(b"1")
    objects.check_access(str(tmp_path))
    objects.check_access(str(tmp_path / "file"))
    objects.check_access(str(tmp_path / "empty"), must_exist=False)
    objects.check_access(str(tmp_path / "new" / "lake"), must_exist=False)
    for name, why in (("empty", "the folder is empty"), ("missing", "no such file or folder")):
        with pytest.raises(s3.StoreError, match=why):
            objects.check_access(str(tmp_path / name))
    with pytest.raises(s3.StoreError, match="cannot be made"):
        objects.check_access(str(tmp_path / "file" / "lake"), must_exist=False)


@pytest.mark.photos
def test_photographs(tmp_path: Path) -> None:
    root = os.environ.get("IMAGESIEVE_PHOTOS")
    if not root:
        pytest.skip("IMAGESIEVE_PHOTOS is not set")
    listed = [one for batch in listing.list_files(uris.canonical(root)) for one in batch][:50]
    copies = []
    for number, one in enumerate(listed):
        shutil.copy(os.fsdecode(uris.local_path(one.uri)), tmp_path / str(number))
        copies.append((tmp_path / str(number)).read_bytes())
    assert list(fetch.fetch_all([Reference(one.uri) for one in listed], Limits())) == copies
