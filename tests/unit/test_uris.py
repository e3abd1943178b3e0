"""Catches a name that changes on its way from a manifest or listing to the store."""

import os
import unicodedata
from pathlib import Path

import pytest

from udfs.stores import uris

NAMES = [
    "a b.jpg",
    'it\'s "quoted".jpg',
    "a#1.jpg",
    "100%.jpg",
    "%41.jpg",
    "what?.jpg",
    "a+b&c=d.jpg",
    unicodedata.normalize("NFC", "é.jpg"),
    unicodedata.normalize("NFD", "é.jpg"),
    "new\nline.jpg",
    "back\\slash.jpg",
    "😀.jpg",
]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("/data/a b#1.jpg", "/data/a b#1.jpg"),
        ("/data//a/./b/../c.jpg", "/data/a/c.jpg"),
        ("//data/a.jpg", "/data/a.jpg"),
        ("/data/", "/data"),
        ("/", "/"),
        ("file:/data/a%20b%23.jpg", "/data/a b#.jpg"),
        ("file:///data/100%25.jpg", "/data/100%.jpg"),
        ("file://localhost/data/a.jpg", "/data/a.jpg"),
        ("FILE:///data/a.jpg", "/data/a.jpg"),
        ("file:///data/caf%E9.jpg", "file:///data/caf%E9.jpg"),
        ("file:///data/caf%C3%A9.jpg", "/data/café.jpg"),
        ("s3a://b/k%20x", "s3://b/k%20x"),
        ("S3N://b/k", "s3://b/k"),
        ("s3://b", "s3://b/"),
        ("s3://b//lead", "s3://b//lead"),
        ("s3://b/p/../x//y/", "s3://b/p/../x//y/"),
    ],
)
def test_canonical(written: str, expected: str) -> None:
    assert uris.canonical(written) == expected
    assert uris.canonical(expected) == expected


@pytest.mark.parametrize(
    ("written", "base", "expected"),
    [
        ("a/b.jpg", "/data", "/data/a/b.jpg"),
        ("../b.jpg", "/data/lists", "/data/b.jpg"),
        ("/x/b.jpg", "/data", "/x/b.jpg"),
        ("b%20.jpg", "file:///d%FF", "file:///d%FF/b%2520.jpg"),
        ("a b.jpg", "s3://b/p", "s3://b/p/a b.jpg"),
        ("a.jpg", "s3://b/p/", "s3://b/p/a.jpg"),
        ("a.jpg", "s3://b/", "s3://b/a.jpg"),
        ("./../a.jpg", "s3://b/p/lists", "s3://b/p/a.jpg"),
        ("x/../a.jpg", "s3://b/p", "s3://b/p/x/../a.jpg"),
        ("a.jpg", "s3://b//x", "s3://b//x/a.jpg"),
        ("s3://c/k", "s3://b/p", "s3://c/k"),
    ],
)
def test_relative_to_a_base(written: str, base: str, expected: str) -> None:
    assert uris.canonical(written, base) == expected


def test_relative_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert uris.canonical("a/../b.jpg") == f"{tmp_path}/b.jpg"
    assert uris.canonical("caf\udce9.jpg").endswith("/caf%E9.jpg")


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "a\0b",
        "http://x/a.jpg",
        "gs://b/k",
        "data:image/png;base64,AA",
        "s3://",
        "s3:///k",
        "s3://b/\udce9",
        "file://host/a",
        "file:a",
        "file:///a%00b",
    ],
)
def test_refused(wrong: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (the kind of error is the contract)
        uris.canonical(wrong)


def test_out_of_the_bucket() -> None:
    with pytest.raises(ValueError, match="out of the bucket"):
        uris.canonical("../../a.jpg", "s3://b/p")


@pytest.mark.parametrize("name", [*NAMES, "x//y", "/lead", "trail/", "../up"])
def test_s3_names_keep_every_byte(name: str) -> None:
    for root in ("s3://b/", "s3://b/p", "s3://b/p/"):
        uri = uris.join(root, name)
        assert uris.canonical(uri) == uri
        assert uris.relative(uri, root) == name
        bucket, key = uris.split_s3(uri)
        assert (bucket, key) == ("b", root.removeprefix("s3://b/").removesuffix("/") + "/" * ("p" in root) + name)


@pytest.mark.parametrize("name", NAMES)
def test_local_names_keep_every_byte(name: str) -> None:
    uri = uris.join("/data", name)
    assert uris.canonical(uri) == uri
    assert uris.local_path(uri) == b"/data/" + name.encode()
    assert uris.relative(uri, "/data") == name
    assert uris.canonical("file://" + Path(os.fsdecode(uris.local_path(uri))).as_uri().removeprefix("file://")) == uri


def test_a_name_that_is_not_utf8() -> None:
    uri = uris.from_local_path(b"/d/caf\xe9 %.jpg")
    assert uri == "file:///d/caf%E9%20%25.jpg"
    assert uris.local_path(uri) == b"/d/caf\xe9 %.jpg"
    assert uris.relative(uri, "/d") == "caf%E9%20%25.jpg"
    assert uris.canonical(uri) == uri


def test_relative_refuses_a_neighbour() -> None:
    for uri, root in (("s3://b/p2/a", "s3://b/p"), ("/data2/a", "/data"), ("/a", "s3://b/"), ("/data", "/data")):
        with pytest.raises(ValueError, match="does not lie below"):
            uris.relative(uri, root)


def test_kinds() -> None:
    assert uris.is_s3("s3://b/k")
    assert not uris.is_s3("/s3://b")
    with pytest.raises(ValueError, match="not a local path"):
        uris.local_path("s3://b/k")
    with pytest.raises(ValueError, match="not an s3"):
        uris.split_s3("/a")
