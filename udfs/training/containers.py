"""The two forms of a shard: a tar as WebDataset reads it, and a Parquet file. The same samples give the same bytes."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

ENDINGS = {
    "jpeg": "jpg",
    "tiff": "tif",
    "heif": "heic",
}  # of files, where a format of udfs.images.decode is not its own
GROUP_BYTES = 64 << 20  # of images in one row group of Parquet: what a reader holds
SAMPLES = pa.schema(
    [
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("label", pa.string()),
        ("label_number", pa.int32()),
        ("labels", pa.list_(pa.string())),
        ("image_id", pa.int64()),
        ("uri", pa.string()),
        ("split", pa.string()),
        ("sha256", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a training set. label_number: its place among the classes of the set, None without a label. labels:
    where it has several, and then `label` is None."""

    image_id: int
    uri: str
    data: bytes
    format: str
    sha256: str
    label: str | None
    label_number: int | None
    labels: list[str] | None
    split: str | None

    @property
    def name(self) -> str:
        """Without a dot before the ending: WebDataset takes what stands before the first dot for the key."""
        return f"{self.image_id:012d}.{ENDINGS.get(self.format, self.format)}"

    def told(self) -> dict[str, Any]:
        names = ("image_id", "uri", "label", "label_number", "labels", "split", "sha256")
        return {name: getattr(self, name) for name in names}


class Container(Protocol):
    def add(self, sample: Sample) -> None: ...

    def close(self) -> None: ...


class WebDataset:
    """A tar of NUMBER.jpg, the bytes as they were; NUMBER.cls, the number of the label, where there is one; and
    NUMBER.json, what is known of it."""

    def __init__(self, path: Path) -> None:
        self._tar = tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115 (closed by close)

    def add(self, sample: Sample) -> None:
        self._member(sample.name, sample.data)
        key = sample.name.partition(".")[0]
        if sample.label_number is not None:
            self._member(f"{key}.cls", str(sample.label_number).encode())
        self._member(f"{key}.json", json.dumps(sample.told(), ensure_ascii=False).encode("utf-8", "replace"))

    def close(self) -> None:
        self._tar.close()

    def _member(self, name: str, data: bytes) -> None:
        info = tarfile.TarInfo(name)  # of no time and no person
        info.size, info.mode = len(data), 0o644
        self._tar.addfile(info, io.BytesIO(data))


class Parquet:
    """SAMPLES, the bytes of images not compressed again."""

    def __init__(self, path: Path) -> None:
        self._writer = pq.ParquetWriter(path, SAMPLES, compression="none", use_dictionary=False)
        self._waiting: list[dict[str, Any]] = []
        self._bytes = 0

    def add(self, sample: Sample) -> None:
        self._waiting.append({**sample.told(), "image": {"bytes": sample.data, "path": sample.name}})
        self._bytes += len(sample.data)
        if self._bytes >= GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.Table.from_pylist(self._waiting, schema=SAMPLES))
        self._waiting, self._bytes = [], 0


CONTAINERS: dict[str, tuple[str, type[WebDataset] | type[Parquet]]] = {
    "webdataset": ("tar", WebDataset),
    "parquet": ("parquet", Parquet),
}
