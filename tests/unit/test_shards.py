"""Catches images of tar archives and Parquet files that are missed, made up, cut, or read from the wrong place; a
hostile shard that crashes or fills the memory; and requests that are more than need be."""

import io
import json
import random
import tarfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit import range_server
from tests.unit.range_server import Store
from udfs.errors import ImageError
from udfs.stores import fetch, parquet_rows, ranges, shards, tar
from udfs.stores.fetch import Limits, Reference
from udfs.stores.tar import Member

LIMITS = Limits(max_bytes=1_000_000, timeout_s=5.0, retries=1)
FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with range_server.serve(monkeypatch) as found:
        yield found


def packed(files: dict[str, bytes], kind: int = tarfile.PAX_FORMAT) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=kind) as archive:
        for name, data in files.items():
            add(archive, name, data)
    return sink.getvalue()


def add(archive: tarfile.TarFile, name: str, data: bytes = b"", **values: Any) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in values.items():
        setattr(info, field, value)
    archive.addfile(info, io.BytesIO(data))


def listed(data: bytes) -> tuple[list[Member], int, str]:
    """(members, how many were skipped, the error or nothing)."""
    found: list[Member] = []
    skipped = [0]

    def skip() -> None:
        skipped[0] += 1

    try:
        found.extend(tar.list_tar(io.BytesIO(data), len(data), lambda name: name.endswith((".jpg", ".png")), skip))
    except ImageError as error:
        return found, skipped[0], str(error)
    return found, skipped[0], ""


def outcomes(references: list[Reference], limits: Limits = LIMITS, threads: int = 4) -> list[bytes | str]:
    """What fetch_all gives; of an error its code."""
    return [
        result.code if isinstance(result, ImageError) else result
        for result in fetch.fetch_all(references, limits, threads)
    ]


# Tar archives


@pytest.mark.parametrize("kind", FORMATS)
def test_members_lie_where_tarfile_finds_them(kind: int, tmp_path: Path) -> None:
    """An offset that forgets an extended header, a long name cut, a folder or a link taken for an image."""
    names = ["a.jpg", "d/b c.png", "d/é🐈.jpg", "new\nline.jpg", "n" * 90 + "/" + "m" * 90 + ".jpg", "./dot/e.jpg"]
    if kind != tarfile.USTAR_FORMAT:
        names.append("x" * 300 + ".jpg")
    data = {name: name.encode() * 100 for name in names}
    path = tmp_path / "s.tar"
    with tarfile.open(path, "w", format=kind) as archive:
        add(archive, "d", type=tarfile.DIRTYPE)
        for name, value in data.items():
            add(archive, name, value)
        add(archive, "link.jpg", type=tarfile.SYMTYPE, linkname="a.jpg")
        add(archive, "hard.jpg", type=tarfile.LNKTYPE, linkname="a.jpg")
        add(archive, "pipe.jpg", type=tarfile.FIFOTYPE)
        for name in (".hidden.jpg", "x/.git/a.jpg", "../up.jpg", "x/../up.jpg", "notes.txt"):
            add(archive, name, b"no")
    found, skipped, error = listed(path.read_bytes())
    assert (error, skipped) == ("", 8)
    assert [member.name for member in found] == [name.removeprefix("./") for name in names]
    with tarfile.open(path) as archive:
        expected = {info.name.removeprefix("./"): info.offset_data for info in archive if info.isreg()}
    assert {member.name: member.offset for member in found}.items() <= expected.items()
    references = [Reference("", str(path), member.offset, member.size_bytes) for member in found]
    assert outcomes(references) == list(data.values())
    assert [fetch.fetch(reference, LIMITS) for reference in references] == list(data.values())


def test_labels_of_webdataset() -> None:
    """A label that sticks to the next sample, or is missed because it stands first or last."""
    files = {
        "1.cls": b" cat \n", "1.jpg": b"a", "2.left.jpg": b"b", "2.right.jpg": b"c", "2.json": b"{}", "2.cls": b"dog",
        "3.jpg": b"d", "4.cls": b"", "4.jpg": b"e", "5.jpg": b"f", "5.cls": b"x" * 2000, "6/1.jpg": b"g",
        "7.jpg": b"h", "7.CLS": b"l" * 300,
    }  # fmt: skip
    found, skipped, error = listed(packed(files))
    assert (error, skipped) == ("", 1)
    assert [(member.name, member.label) for member in found] == [
        ("1.jpg", "cat"), ("2.left.jpg", "dog"), ("2.right.jpg", "dog"), ("3.jpg", None), ("4.jpg", None),
        ("5.jpg", None), ("6/1.jpg", None), ("7.jpg", "l" * 200),
    ]  # fmt: skip


def test_an_archive_that_is_cut() -> None:
    """A member listed whose data are not all there, a cut that nobody hears of, and a whole archive called broken."""
    data = packed({f"{number}.jpg": bytes([number]) * 700 for number in range(5)}, tarfile.USTAR_FORMAT)
    whole, _, error = listed(data)
    assert (len(whole), error) == (5, "")
    for cut in [*range(1, 8 * 1024, 97), 1024, 1536, 7680, 8191]:
        found, _, error = listed(data[:cut])
        assert found == [member for member in whole if member.offset + 700 <= cut]
        # A header takes 512 bytes, the data 1024; after a member there need not be more.
        assert (error == "") == (cut % 1536 == 0 or (cut >= 5 * 1536 and cut % 512 == 0)), cut
        assert error == "" or error.startswith("corrupt: not a whole tar archive")


@pytest.mark.parametrize("data", [b"", b"x", b"\x1f\x8b" + bytes(600), b"\xff" * 2000, b"PAR1" * 300])
def test_what_is_no_archive(data: bytes) -> None:
    found, _, error = listed(data)
    assert (found, error.split(":")[0]) == ([], "corrupt")


def header(name: bytes, size: bytes, kind: bytes = b"0") -> bytes:
    block = bytearray(512)
    block[:100] = name.ljust(100, b"\0")
    block[100:108] = b"0000644\0"
    block[124:136] = size.rjust(11, b"0") + b"\0" if len(size) < 12 else size
    block[156:157] = kind
    block[257:265] = b"ustar\x0000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


NEGATIVE = b"\xff" * 11 + b"\x00"  # base 256


@pytest.mark.parametrize(
    "hostile",
    [
        header(b"x.jpg", NEGATIVE),
        header(b"x.jpg", b"\x80" + b"\x7f" * 11),
        header(b"x.jpg", b"77777777777"),
        header(b"p", NEGATIVE, b"x"),
        header(b"p", b"77777777777", b"x"),
        header(b"p", b"77777777777", b"g"),
        header(b"p", b"77777777777", b"L"),
        header(b"p", NEGATIVE, b"L"),
        b"".join(header(b"p", b"1000", b"x") + b"11 path=ab\n".ljust(512, b"\0") for _ in range(3000)),
        b"".join(header(b"p", b"1000", b"L") + b"n".ljust(512, b"\0") for _ in range(3000)),
        header(b"p", b"1000", b"x") + b"99999999999 path=ab\n".ljust(512, b"\0") + header(b"x.jpg", b"0"),
        header(b"p", b"1000", b"x") + b"13 size=-512\n".ljust(512, b"\0") + header(b"x.jpg", b"0"),
        header(b"s.jpg", b"1000", b"S"),
    ],
)
def test_hostile_headers(hostile: bytes) -> None:
    """A length that leads back for ever, or asks for gigabytes; a chain of headers that ends the stack."""
    good = header(b"a.jpg", b"1") + b"a".ljust(512, b"\0")
    tracemalloc.start()
    found, _, _ = listed(good + hostile + good)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found[0] == Member("a.jpg", 512, 1)
    assert all(member.offset + (member.size_bytes or 0) <= len(good + hostile + good) for member in found)
    assert peak < 40_000_000


def test_bits_that_flip() -> None:
    """An error of the parser that is not told as one of the shard."""
    data = packed({f"{'n' * 120}{number}.jpg": bytes(300) for number in range(6)}, tarfile.PAX_FORMAT)
    dice = random.Random(1)
    for _ in range(300):
        broken = bytearray(data)
        for _ in range(dice.randint(1, 20)):
            broken[dice.randrange(len(broken))] = dice.randrange(256)
        found, _, _ = listed(bytes(broken))
        assert all(member.offset >= 0 and member.offset + (member.size_bytes or 0) <= len(data) for member in found)


def test_memory_does_not_grow_with_the_members() -> None:
    data = packed({f"{number}.jpg": b"" for number in range(3000)}, tarfile.USTAR_FORMAT)
    tracemalloc.start()
    number = sum(1 for _ in tar.list_tar(io.BytesIO(data), len(data), lambda _: True, lambda: None))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert number == 3000
    assert peak < 300_000


def test_repeats() -> None:
    once, twice = tar.Repeats(), tar.Repeats()
    assert not once.any()
    for number in range(1000):
        once.add(f"{number}.jpg")
        twice.add(f"{number % 999}.jpg")
    assert (once.any(), twice.any()) == (False, True)


# Parquet files


def image_struct(*fields: tuple[str, pa.DataType]) -> pa.DataType:
    return pa.struct(list(fields))


@pytest.mark.parametrize(
    ("schema", "column"),
    [
        ({"image": pa.binary()}, "image"),
        ({"x": pa.binary(), "jpg": pa.large_binary(), "data": pa.binary()}, "jpg"),
        ({"data": pa.binary(), "bytes": pa.binary()}, "bytes"),
        ({"image": image_struct(("bytes", pa.binary()), ("path", pa.string())), "x": pa.binary()}, "image.bytes"),
        ({"image": pa.string(), "thumb": pa.binary()}, "thumb"),
        ({"pic": image_struct(("path", pa.string()), ("bytes", pa.large_binary()))}, "pic.bytes"),
        ({"a": pa.binary(), "b": pa.binary()}, None),
        ({"image": image_struct(("path", pa.string()))}, None),
        ({"image": pa.list_(pa.binary()), "n": pa.int64()}, None),
        ({}, None),
    ],
)
def test_which_column_holds_the_images(schema: dict[str, pa.DataType], column: str | None) -> None:
    assert parquet_rows.bytes_column(pa.schema(list(schema.items()))) == column


def rows_of(table: pa.Table, **how: Any) -> list[Member]:
    sink = io.BytesIO()
    pq.write_table(table, sink, **how)
    return list(parquet_rows.list_rows(sink))


def test_columns_beside_the_images() -> None:
    """A label that is a number, a class of Hugging Face or a category; a missing one; a column that is no text."""
    told = {"info": {"features": {"label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}}}
    pictures = pa.array([b"1", b"2", b"3", b"4"])
    table = pa.table({"image": pictures, "label": [1, 0, -1, 7]})
    assert [row.label for row in rows_of(table)] == ["1", "0", "-1", "7"]
    named = table.replace_schema_metadata({"huggingface": json.dumps(told)})
    assert [row.label for row in rows_of(named, row_group_size=3)] == ["dog", "cat", None, "7"]
    strange = table.replace_schema_metadata({"huggingface": '{"info": {"features": []}}'})
    assert [row.label for row in rows_of(strange)] == ["1", "0", "-1", "7"]
    texts = pa.table(
        {
            "image": pictures,
            "label": pa.array(["a", None, " b ", "a"]).dictionary_encode(),
            "split": ["train", "", None, "l" * 300],
            "source": pa.array([[1], None, [2], []]),
        }
    )
    assert rows_of(texts) == [
        Member("0", 0, None, None, "train", "a"), Member("1", 1), Member("2", 2, label="b"),
        Member("3", 3, None, None, "l" * 200, "a"),
    ]  # fmt: skip
    assert rows_of(pa.table({"image": pictures})) == [Member(str(n), n) for n in range(4)]
    assert rows_of(pa.table({"text": ["a"]})) == []


def test_lists_of_labels_beside_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists that are shifted by a missing one, a label beside them, numbers without their names, and too many."""
    pictures = pa.array([b"1", b"2", b"3", b"4"])
    table = pa.table(
        {"image": pictures, "label": ["cat", "cat", "dog", "eel"], "labels": [["b", " a", "b", None], None, [], ["c"]]}
    )
    for size in (4, 3):
        found = rows_of(table, row_group_size=size)
        assert [row.labels for row in found] == [["a", "b"], None, [], ["c"]]
        assert [row.label for row in found] == [None, "cat", None, None]
    numbers = pa.table({"image": pictures, "label": [[1, 0], [5], [-1], None]})
    assert [row.labels for row in rows_of(numbers)] == [["0", "1"], ["5"], ["-1"], None]
    for feature in ([{"names": ["cat", "dog"]}], {"feature": {"names": ["cat", "dog"]}}):
        told = json.dumps({"info": {"features": {"label": feature}}})
        named = numbers.replace_schema_metadata({"huggingface": told})
        assert [row.labels for row in rows_of(named)] == [["cat", "dog"], ["5"], [], None]
    monkeypatch.setattr(parquet_rows, "MOST_LABELS", 2)
    many = pa.table({"image": pictures, "labels": [[str(n) for n in range(9)]] * 4})
    assert [row.labels for row in rows_of(many)] == [["0", "1"]] * 4


def test_rows_that_are_only_claimed() -> None:
    """A small file that fills the lake with a billion images."""
    empty = pa.table({"image": pa.nulls(200_000, pa.binary())})
    with pytest.raises(ImageError, match=r"200000 rows in .* bytes cannot be images"):
        rows_of(empty)
    assert len(rows_of(empty.slice(0, 9000))) == 9000


PICTURES = [bytes([number % 251]) * (1 + 3701 * number % 9000) for number in range(500)]


def parquet_bytes(pictures: list[bytes | None], struct: bool = False, **how: Any) -> bytes:
    sink = io.BytesIO()
    column = pa.array(pictures, pa.binary())
    if struct:
        valid = [picture != b"no struct" for picture in pictures]
        column = pa.StructArray.from_arrays([column], ["bytes"], mask=pa.array([not one for one in valid]))
    pq.write_table(pa.table({"note": ["x" * 50] * len(pictures), "image": column}), sink, **how)
    return sink.getvalue()


@pytest.mark.parametrize("struct", [False, True])
@pytest.mark.parametrize("place", ["local", "s3", "s3 //"])
def test_rows_in_any_order(store: Store, tmp_path: Path, struct: bool, place: str) -> None:
    """The bytes of another row, after a jump to and fro and over the ends of row groups."""
    data = parquet_bytes([*PICTURES], struct, row_group_size=130, data_page_size=20_000)
    store.objects["d/s.parquet"] = store.objects["d//s.parquet"] = data
    (tmp_path / "s.parquet").write_bytes(data)
    uri = {"local": str(tmp_path / "s.parquet"), "s3": "s3://b/d/s.parquet", "s3 //": "s3://b/d//s.parquet"}[place]
    in_order = list(range(500))
    shuffled = random.Random(2).sample(in_order, 40)
    for order in (in_order, [499, 0, 129, 130, 131, 130, 5, 5, 390, 389], shuffled):
        assert outcomes([Reference("", uri, number) for number in order]) == [PICTURES[number] for number in order]
    assert fetch.fetch(Reference("", uri, 77), LIMITS) == PICTURES[77]


def test_rows_that_are_none(tmp_path: Path) -> None:
    pictures = [b"a", None, b"", b"x" * 2000, b"no struct", b"b"]
    for struct in (False, True):
        path = tmp_path / f"{struct}.parquet"
        path.write_bytes(parquet_bytes(pictures, struct))
        found = outcomes([Reference("", str(path), n) for n in [*range(6), 6, -1]], Limits(max_bytes=1999))
        fifth = "empty" if struct else b"no struct"
        assert found == [b"a", "empty", "empty", "too_many_bytes", fifth, b"b", "not_found", "corrupt"]


def test_broken_parquet_files(tmp_path: Path) -> None:
    """A broken page that ends the task or is given out as an image; rows before it that are lost."""
    noise = random.Random(3)
    pictures: list[bytes | None] = [noise.randbytes(5000) for _ in range(600)]
    data = parquet_bytes(
        pictures,
        row_group_size=300,
        use_dictionary=False,
        data_page_size=100_000,
        compression="snappy",
        write_batch_size=5,
    )
    column = pq.ParquetFile(io.BytesIO(data)).metadata.row_group(0).column(1)
    middle = column.data_page_offset + column.total_compressed_size // 2
    broken = bytearray(data)
    broken[middle - 300_000 : middle + 300_000] = b"\xff" * 600_000
    path = tmp_path / "broken.parquet"
    path.write_bytes(broken)
    found = outcomes([Reference("", str(path), number) for number in range(600)])
    right = [result == picture for result, picture in zip(found, pictures, strict=True)]
    first = found.index("corrupt")
    assert first == 80  # four pages of 20 rows; the broken bytes begin in the fifth
    assert found[first:300] == ["corrupt"] * (300 - first)
    assert all(right[:first] + right[300:])
    for name, text in (("cut", data[: len(data) // 2]), ("none", b"no"), ("foot", b"PAR1" + b"\xff" * 100 + b"PAR1")):
        (tmp_path / f"{name}.parquet").write_bytes(text)
        assert outcomes([Reference("", str(tmp_path / f"{name}.parquet"), n) for n in range(3)]) == ["corrupt"] * 3
    (tmp_path / "text.parquet").write_bytes(b"")
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "text.parquet")
    assert outcomes([Reference("", str(tmp_path / "text.parquet"), 0)]) == ["corrupt"]
    assert outcomes([Reference("", str(tmp_path / "missing.parquet"), 0)]) == ["not_found"]


def test_a_row_group_is_not_read_whole(tmp_path: Path) -> None:
    noise = random.Random(4)
    pictures: list[bytes | None] = [noise.randbytes(200_000) for _ in range(250)]
    path = tmp_path / "s.parquet"
    # The writer looks at a page's size only after each write_batch_size rows; a page is always read whole.
    path.write_bytes(parquet_bytes(pictures, use_dictionary=False, write_batch_size=5))
    before = pa.total_allocated_bytes()
    most = 0
    rows = parquet_rows.Rows(str(path), LIMITS)
    for number, picture in enumerate(pictures):
        assert rows.read(number) == picture
        most = max(most, pa.total_allocated_bytes() - before)
    rows.close()
    assert most < 15_000_000  # of 50


# Reading from S3


def members_of(data: bytes, uri: str) -> list[Reference]:
    return [Reference(f"{uri}!/{one.name}", uri, one.offset, one.size_bytes) for one in listed(data)[0]]


def test_neighbours_are_read_by_one_request(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request for each member; a gap read that costs more than a request; a read larger than what may be held."""
    files = {f"{number:03}.jpg": bytes([number]) * 3000 for number in range(100)}
    store.objects["s.tar"] = data = packed(files)
    references = members_of(data, "s3://b/s.tar")
    assert outcomes(references) == list(files.values())
    assert store.asked == [("s.tar", 512, 99 * 3584 + 3000)]
    store.asked.clear()
    monkeypatch.setattr(fetch, "JOINT_BYTES", 40_000)
    assert outcomes(references) == list(files.values())
    assert len(store.asked) == 10  # 11 members and the gaps between them are 39,000 bytes
    assert max(length for _, _, length in store.asked) <= 40_000
    store.asked.clear()
    monkeypatch.setattr(fetch, "JOINT_GAP", 5000)
    few = [references[n] for n in (0, 1, 3, 6, 6, 5)]
    assert outcomes(few) == [files[f"{n:03}.jpg"] for n in (0, 1, 3, 6, 6, 5)]
    assert sorted(store.asked) == [("s.tar", 512 + at * 3584, size) for at, size in
                                   ((0, 3 * 3584 + 3000), (5, 3000), (6, 3000), (6, 3000))]  # fmt: skip
    store.asked.clear()
    monkeypatch.setattr(fetch, "JOINT_MEMBERS", 7)
    assert outcomes(references[:10]) == list(files.values())[:10]
    assert len(store.asked) == 2


def test_shards_and_objects_in_turn(store: Store, tmp_path: Path) -> None:
    """Results in another order than asked for, or those of one shard given out as another's."""
    files = {f"{number}.jpg": bytes([number]) * 50 for number in range(6)}
    data = packed(files)
    (tmp_path / "local.tar").write_bytes(data)
    (tmp_path / "rows.parquet").write_bytes(parquet_bytes(list(files.values())))
    store.objects |= {"1.tar": data, "2.tar": packed({k: v[::-1] + b"2" for k, v in files.items()}), "x//y.tar": data}
    store.objects["alone.jpg"] = b"alone"
    one = members_of(data, "s3://b/1.tar")
    two = members_of(store.objects["2.tar"], "s3://b/2.tar")
    odd = members_of(data, "s3://b/x//y.tar")
    local = members_of(data, str(tmp_path / "local.tar"))
    rows = [Reference("", str(tmp_path / "rows.parquet"), number) for number in range(6)]
    value = list(files.values())
    references = [
        one[0], two[0], one[1], Reference("s3://b/alone.jpg"), one[2], one[3], local[4], local[1], rows[3], rows[1],
        odd[5], odd[0], Reference("s3://b/missing"), local[0], two[5],
    ]  # fmt: skip
    expected: list[bytes | str] = [
        value[0], value[0] + b"2", value[1], b"alone", value[2], value[3], value[4], value[1], value[3], value[1],
        value[5], value[0], "not_found", value[0], value[5] + b"2",
    ]  # fmt: skip
    for threads in (1, 8):
        assert outcomes(references, threads=threads) == expected


def test_members_that_cannot_be_read(store: Store, tmp_path: Path) -> None:
    """Bytes of another length, a member too large that is read, a bad place that ends the run."""
    data = packed({f"{number}.jpg": bytes([number]) * 1000 for number in range(4)})
    good = members_of(data, "s3://b/s.tar")
    store.objects["s.tar"] = data[: (good[2].offset or 0) + 999]
    (tmp_path / "s.tar").write_bytes(store.objects["s.tar"])
    bad = [
        good[0]._replace(size_bytes=2_000_000),
        good[0]._replace(size_bytes=None),
        good[0]._replace(size_bytes=-1),
        good[0]._replace(offset=-5),
        good[0]._replace(offset=None),
        good[0]._replace(offset=2**62, size_bytes=5),
        good[0]._replace(size_bytes=0),
    ]
    expected = [bytes(1000), b"\1" * 1000, "truncated", "truncated",
                "too_many_bytes", "corrupt", "corrupt", "corrupt", "corrupt", "truncated", b""]  # fmt: skip
    assert outcomes(good + bad) == expected
    assert ("s.tar", good[0].offset, 2_000_000) not in store.asked
    local = [one._replace(shard=str(tmp_path / "s.tar")) for one in good + bad]
    assert outcomes(local) == expected
    for reference, result in zip(good + bad + local, expected * 2, strict=True):
        if isinstance(result, str):
            with pytest.raises(ImageError) as caught:
                fetch.fetch(reference, LIMITS)
            assert caught.value.code == result
    store.objects["s.tar"] = data
    store.short.add("s.tar")  # obstore itself refuses such an answer
    assert outcomes(good) == ["fetch_failed"] * 4
    del store.objects["s.tar"]
    assert outcomes(good) == ["not_found"] * 4
    (tmp_path / "s.tar").unlink()
    assert outcomes(local[:2]) == ["not_found"] * 2


def test_the_window_holds_for_shards(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """More read ahead than may be held; or nothing more read once it was full."""
    monkeypatch.setattr(fetch, "AHEAD_BYTES", 100_000)
    monkeypatch.setattr(fetch, "JOINT_BYTES", 40_000)
    files = {f"{number:03}.jpg": bytes([number % 251]) * 9000 for number in range(60)}
    store.objects["s.tar"] = data = packed(files)
    results = fetch.fetch_all(members_of(data, "s3://b/s.tar"), LIMITS, threads=8)
    found = [next(results)]
    assert 1 <= len(store.asked) <= 3  # 40,000 bytes each
    found += list(results)
    assert found == list(files.values())
    big = packed({"0.jpg": b"x" * 150_000, "1.jpg": b"y"})
    store.objects["big.tar"] = big
    assert outcomes(members_of(big, "s3://b/big.tar")) == [b"x" * 150_000, b"y"]


def test_a_shard_that_stands_for_itself(store: Store, tmp_path: Path) -> None:
    """An archive read whole as if it were an image, or a failure that does not say what is wrong."""
    data = packed({"0.jpg": b"x" * 1000})
    store.objects["cut.tar"] = data[:900]
    (tmp_path / "x.parquet").write_bytes(b"no")
    (tmp_path / "whole.tar").write_bytes(data)
    for uri, why in (
        ("s3://b/cut.tar", "unexpected end of data after 0 members"),
        (str(tmp_path / "x.parquet"), "no footer"),
        (str(tmp_path / "whole.tar"), "could not be listed"),
    ):
        (result,) = fetch.fetch_all([Reference(uri)], LIMITS)
        assert isinstance(result, ImageError)
        assert (result.code, why in result.detail) == ("corrupt", True), result
        with pytest.raises(ImageError, match=why):
            fetch.fetch(Reference(uri), LIMITS)
    assert outcomes([Reference("s3://b/gone.tar"), Reference(str(tmp_path / "gone.tar"))]) == ["not_found"] * 2


# A file in parts


def test_a_file_from_s3_is_that_file(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes from the wrong place after a jump, with requests under way ahead of the reader."""
    monkeypatch.setattr(ranges, "AHEAD", 5000)
    monkeypatch.setattr(ranges, "FIRST", 300)
    store.objects["f"] = data = random.Random(5).randbytes(60_000)
    dice = random.Random(6)
    for _ in range(8):
        with ranges.open_file("s3://b/f", None, LIMITS) as (file, size):
            assert size == 60_000
            oracle = io.BytesIO(data)
            for _ in range(60):
                if dice.random() < 0.3:
                    to = dice.randrange(61_000)
                    assert file.seek(to) == oracle.seek(to)
                if dice.random() < 0.1 and isinstance(file, ranges.RangeFile):
                    file.announce(dice.randrange(60_000), dice.randrange(70_000))
                length = dice.randrange(4000)
                assert file.read(length) == oracle.read(length)
                assert file.tell() == oracle.tell()


def test_requests_of_a_listing(store: Store) -> None:
    """An archive of small images listed by a request each, or one of large images read whole."""
    small = packed({f"{number}.jpg": bytes(20_000) for number in range(200)})
    large = packed({f"{number}.jpg": bytes(1_500_000) for number in range(4)})
    store.objects |= {"small.tar": small, "large.tar": large}
    for name, number in (("small.tar", 200), ("large.tar", 4)):
        found = list(shards.list_members(f"s3://b/{name}", None, LIMITS, lambda _: True, lambda: None))
        assert len(found) == number
    asked = [length for key, _, length in store.asked if key == "small.tar"]
    assert len(asked) < 15
    asked = [length for key, _, length in store.asked if key == "large.tar"]
    assert sum(asked) < 0.2 * len(large)


def test_requests_of_rows(store: Store) -> None:
    """A column read by many small requests, or with the columns beside it."""
    noise = random.Random(7)
    pictures: list[bytes | None] = [noise.randbytes(40_000) for _ in range(100)]
    store.objects["s.parquet"] = data = parquet_bytes(pictures, row_group_size=50, use_dictionary=False)
    assert outcomes([Reference("", "s3://b/s.parquet", number) for number in range(100)]) == pictures
    assert len(store.asked) <= 4  # the end, and a request for each row group
    assert sum(length for _, _, length in store.asked) < 1.1 * len(data)
    assert store.heads == 1


def test_a_shard_that_goes_while_it_is_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the library says in place of what the store said; an error that is forgotten at the second reading."""
    monkeypatch.setattr(ranges, "AHEAD", 20_000)
    noise = random.Random(8)
    data = parquet_bytes([noise.randbytes(5000) for _ in range(800)], use_dictionary=False, write_batch_size=10)
    store.objects["s.parquet"] = data
    results = fetch.fetch_all([Reference("", "s3://b/s.parquet", number) for number in range(800)], LIMITS)
    assert isinstance(next(results), bytes)
    del store.objects["s.parquet"]
    assert {result.code for result in results if isinstance(result, ImageError)} == {"not_found"}
    store.objects["f"] = data
    with ranges.open_file("s3://b/f", len(data), LIMITS) as (file, _):
        file.read(10)
        del store.objects["f"]
        for _ in range(3):
            with pytest.raises(ImageError, match="not_found"):
                file.read(400_000)
    store.objects["f"] = data[:5000]
    with (
        ranges.open_file("s3://b/f", len(data), LIMITS) as (file, _),
        pytest.raises(ImageError, match="shorter now"),
    ):
        file.read(400_000)


# As rows of Arrow


def test_expand(tmp_path: Path) -> None:
    """A broken shard that takes its members or the other shards with it, and what is skipped not counted."""
    endings, rows = ("jpg",), []
    data = packed({"a.jpg": b"1", "b.txt": b"2", "a.jpg ": b"3"})
    cut = packed({"1.jpg": b"1", "2.jpg": b"2" * 1000})[:2500]
    for name, text in {"w.tar": data, "cut.tar": cut, "no.parquet": b"no", "d/t.tar": packed({"x": b""})}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(text)
        rows.append(shards.File(str(tmp_path / name), name, "/in", len(text), "e", None)._asdict())
    pq.write_table(
        pa.table({"jpg": [b"1", b"2"], "source": ["web", None], "labels": [["a"], None]}), tmp_path / "p.parquet"
    )
    pq.write_table(pa.table({"n": [1]}), tmp_path / "n.parquet")
    with tarfile.open(tmp_path / "again.tar", "w") as archive:
        for _ in range(2):
            add(archive, "same.jpg", b"x")
    for name in ("p.parquet", "n.parquet", "again.tar", "gone.tar", "table/p.parquet"):
        rows.append(shards.File(str(tmp_path / name), name, "/in", None, "e", None)._asdict())
    batch = pa.RecordBatch.from_pylist(rows, schema=shards.FILES)
    work = shards.expand(endings, LIMITS, (f"{tmp_path}/table/",))
    found = [row for out in work(iter([batch])) for row in out.to_pylist()]
    members = [
        (row["relative"], row["source"], row["shard_offset"], row["shard"] is None) for row in found if row["uri"]
    ]
    again = [row["shard_offset"] for row in found if row["relative"] == "again.tar/same.jpg"]
    assert members == [
        ("w.tar/a.jpg", "/in", listed(data)[0][0].offset, False),
        ("cut.tar/1.jpg", "/in", 512, False), ("cut.tar", "/in", None, True), ("no.parquet", "/in", None, True),
        ("p.parquet/0", "web", 0, False), ("p.parquet/1", "/in", 1, False),
        ("again.tar/same.jpg", "/in", again[0], False), ("again.tar/same.jpg", "/in", again[1], False),
    ]  # fmt: skip
    assert [row["labels"] for row in found if row["uri"] and "p.parquet/" in row["relative"]] == [["a"], None]
    assert found[0]["uri"] == f"{tmp_path}/w.tar!/a.jpg"
    notes = {Path(row["shard"]).name: row for row in found if not row["uri"]}
    assert {name: row["skipped"] for name, row in notes.items() if row["skipped"]} == {
        "w.tar": 2, "t.tar": 1, "n.parquet": 1, "p.parquet": 1,
    }  # fmt: skip
    assert [name for name, row in notes.items() if row["repeats"]] == ["again.tar"]
    faults = {name: row["fault"].split(":")[0] for name, row in notes.items() if row["fault"]}
    assert faults == {"gone.tar": "not_found"}
