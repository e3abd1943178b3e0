"""A package's way to S3, over the wire: what is sent, what is not, and what is refused."""

import base64
import hashlib
from pathlib import Path
from typing import Any

import pytest

from emr.packages import manifest, upload
from jobs.errors import ConfigError, InputError
from tests.s3_server import S3Server
from tests.unit.test_emr_package import small_package


@pytest.fixture
def prefix(s3: S3Server, request: pytest.FixtureRequest) -> str:
    return f"s3://{s3.bucket}/packages/{request.node.name}"


def put(folder: Path, prefix: str, replace: bool = False) -> tuple[str, list[str]]:
    """The URI, and what was said."""
    said: list[str] = []
    return upload.upload(folder, prefix, replace, said.append), said


def head(s3: S3Server, uri: str) -> dict[str, Any]:
    key = uri.removeprefix(f"s3://{s3.bucket}/")
    answer: dict[str, Any] = s3.client().head_object(Bucket=s3.bucket, Key=key, ChecksumMode="ENABLED")
    return answer


def test_upload(s3: S3Server, prefix: str, tmp_path: Path) -> None:
    """An object without its checksum, other bytes, or a manifest that is there before the files are."""
    made = small_package(tmp_path / "p")
    uri, said = put(tmp_path / "p", prefix + "/")
    assert uri == f"{prefix}/imagesieve-0.1.0"
    for name, file in made.files.items():
        answer = head(s3, f"{uri}/{name}")
        assert base64.b64decode(answer["ChecksumSHA256"]).hex() == file.sha256
        assert answer["ContentLength"] == file.bytes
    assert manifest.read(uri).files == made.files
    assert manifest.read(uri).uri == uri
    assert len(said) == len(made.files)
    times = {name: head(s3, f"{uri}/{name}")["LastModified"] for name in (*made.files, manifest.NAME)}
    assert max(times.values()) == times[manifest.NAME]


def test_only_what_differs_is_sent(s3: S3Server, prefix: str, tmp_path: Path) -> None:
    """Hundreds of megabytes that are sent again each time."""
    small_package(tmp_path / "p")
    uri, _ = put(tmp_path / "p", prefix)
    key = uri.removeprefix(f"s3://{s3.bucket}/")
    s3.client().delete_object(Bucket=s3.bucket, Key=f"{key}/g.jar")
    _, said = put(tmp_path / "p", prefix)
    assert sorted(line.split(":")[1].strip() for line in said) == ["0.0 MB", *["there already"] * 3]


def test_a_version_does_not_change(s3: S3Server, prefix: str, tmp_path: Path) -> None:
    """A run whose executors load other code than its driver did, because somebody uploaded in between."""
    small_package(tmp_path / "p")
    uri, _ = put(tmp_path / "p", prefix)
    changed = small_package(tmp_path / "p", zipped=b"other")
    with pytest.raises(ConfigError, match=r"has other bytes in imagesieve\.zip: .* or give --replace"):
        put(tmp_path / "p", prefix)
    assert manifest.read(uri).files["imagesieve.zip"].sha256 == hashlib.sha256(b"zip").hexdigest()
    put(tmp_path / "p", prefix, replace=True)
    assert manifest.read(uri).files == changed.files
    small_package(tmp_path / "q", version="0.2.0", zipped=b"third")
    assert put(tmp_path / "q", prefix)[0] == f"{prefix}/imagesieve-0.2.0"


def test_kinds_come_together(prefix: str, tmp_path: Path) -> None:
    """A second kind that takes the first one away."""
    small_package(tmp_path / "c", kind="cpu")
    small_package(tmp_path / "g", kind="gpu")
    put(tmp_path / "c", prefix)
    uri, said = put(tmp_path / "g", prefix)
    whole = manifest.read(uri)
    assert set(whole.environments) == {"cpu", "gpu"}
    assert set(whole.files) == {"imagesieve.zip", "g.jar", "cpu.tar.gz", "m-cpu.tar.gz", "gpu.tar.gz", "m-gpu.tar.gz"}
    assert "imagesieve.zip: there already\n" in said


def test_an_upload_that_was_cut_off(s3: S3Server, prefix: str, tmp_path: Path) -> None:
    """An object that somebody else put there, or half of a package, taken for the whole."""
    made = small_package(tmp_path / "p")
    key = f"{prefix}/imagesieve-0.1.0".removeprefix(f"s3://{s3.bucket}/")
    s3.client().put_object(Bucket=s3.bucket, Key=f"{key}/g.jar", Body=b"foreign")
    with pytest.raises(InputError, match="holds no package"):
        manifest.read(f"s3://{s3.bucket}/{key}")
    uri, _ = put(tmp_path / "p", prefix)
    assert base64.b64decode(head(s3, f"{uri}/g.jar")["ChecksumSHA256"]).hex() == made.files["g.jar"].sha256


def test_changed_since_it_was_built(prefix: str, tmp_path: Path) -> None:
    """Bytes that are not those of the manifest under a manifest that says they are."""
    small_package(tmp_path / "p")
    (tmp_path / "p" / "g.jar").write_bytes(b"raj")
    with pytest.raises(InputError, match=r"g\.jar is not what its manifest says"):
        put(tmp_path / "p", prefix)
    assert manifest.read_if_there(f"{prefix}/imagesieve-0.1.0") is None


@pytest.mark.parametrize(
    ("to", "error", "told"),
    [
        ("s3://no-such-bucket-here/p", InputError, "the bucket does not exist"),
        ("s3://", ConfigError, "--to must be s3://BUCKET/PREFIX"),
    ],
)
def test_bad_places(s3: S3Server, to: str, error: type[Exception], told: str, tmp_path: Path) -> None:
    """A traceback of boto3 for a misspelt bucket."""
    small_package(tmp_path / "p")
    with pytest.raises(error, match=told):
        put(tmp_path / "p", to)


def test_too_large(prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload that S3 refuses after an hour."""
    small_package(tmp_path / "p")
    monkeypatch.setattr(upload, "MAX_BYTES", 2)
    with pytest.raises(ConfigError, match="more than the 2 of one object's upload"):
        put(tmp_path / "p", prefix)
