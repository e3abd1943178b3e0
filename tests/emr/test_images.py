"""Catches a count of images that is made up: a listing cut short, shards, folders, names that begin alike."""

from collections.abc import Iterator
from typing import Any

import pytest

from emr import images
from jobs.errors import InputError

ENDINGS = ("jpg", "png")


class Store:
    """Stands for emr.clients.Clients and for a client of S3. keys: with their sizes."""

    def __init__(self, keys: dict[str, int], per_page: int = 1000) -> None:
        self.keys, self.per_page = keys, per_page

    def get(self, _: str) -> "Store":
        return self

    def get_paginator(self, _: str) -> "Store":
        return self

    def paginate(self, Bucket: str, Prefix: str) -> Iterator[dict[str, Any]]:
        found = [{"Key": key, "Size": size} for key, size in sorted(self.keys.items()) if key.startswith(Prefix)]
        for start in range(0, max(len(found), 1), self.per_page):
            end = start + self.per_page
            yield {"Contents": found[start:end], "IsTruncated": end < len(found)}

    def list_objects_v2(self, Bucket: str, Prefix: str, MaxKeys: int) -> dict[str, Any]:
        return next(self.paginate(Bucket, Prefix))


def _count(store: Store, *uris: str) -> images.Count:
    return images.count(store, uris, ENDINGS)  # type: ignore[arg-type]


def test_a_listing() -> None:
    keys = {"a/1.jpg": 10, "a/2.PNG": 30, "a/": 0, "a/.hidden/3.jpg": 9, "a/notes.txt": 5, "ab/4.jpg": 7}
    told = _count(Store(keys), "s3://b/a")
    assert (told.images, told.bytes_per_image, told.text) == (2, 20, "2 by a listing")


def test_several_inputs() -> None:
    """Catches means of means."""
    keys = {"a/1.jpg": 100, "b/1.jpg": 10, "b/2.jpg": 10, "b/3.jpg": 10}
    told = _count(Store(keys), "s3://b/a/", "s3://b/b/")
    assert (told.images, told.bytes_per_image) == (4, 32.5)


def test_a_listing_cut_short() -> None:
    """Catches that the beginning of a large lake is taken for all of it, or that all of it is listed here."""
    keys = {f"{number:06}.jpg": 8 for number in range(images.PAGES * 10 + 1)}
    told = _count(Store(keys, per_page=10), "s3://b/")
    assert told.images is None
    assert (told.bytes_per_image, told.text) == (8, f"more than {images.PAGES * 10:,}, by a listing that was cut short")
    del keys["000000.jpg"]
    assert _count(Store(keys, per_page=10), "s3://b/").images == images.PAGES * 10


def test_shards_are_not_told() -> None:
    told = _count(Store({"a/1.jpg": 10, "a/1.tar": 1000}), "s3://b/a/")
    assert (told.images, told.bytes_per_image) == (None, 10)
    assert "1 shards" in told.text


def test_one_object() -> None:
    assert _count(Store({"a/1.jpg": 10, "a/1.jpg.bak/2.jpg": 10}), "s3://b/a/1.jpg").images == 2


@pytest.mark.parametrize("keys", [{}, {"b/1.jpg": 1}, {"a/readme.txt": 1}])
def test_nothing_there(keys: dict[str, int]) -> None:
    with pytest.raises(InputError, match="s3://b/a/: "):
        _count(Store(keys), "s3://b/a/")
