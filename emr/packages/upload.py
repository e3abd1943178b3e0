"""A package goes to S3: only what differs, each object with its SHA-256, the manifest last."""

from __future__ import annotations

import base64
import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from emr.errors import AwsError
from emr.packages import archive, manifest
from jobs.errors import ConfigError, InputError
from udfs.stores import s3, uris

MAX_BYTES = 5 << 30  # of one PUT. In parts S3 would keep a checksum of checksums, which nobody else can compute


def upload(folder: Path, prefix: str, replace: bool, say: Callable[[str], object] = sys.stderr.write) -> str:
    """Uploads the package in folder to PREFIX/imagesieve-VERSION and returns that URI. Environments of other kinds that
    are there already stay.

    replace: whether files of this version may change. Raises ConfigError where they would and may not, or one is too
    large; InputError where what is there is no package, or a file is not what the manifest says; AwsError for what S3
    refuses."""
    package = manifest.read(str(folder))
    try:
        target = uris.join(uris.canonical(prefix), f"imagesieve-{package.version}")
        bucket, key = uris.split_s3(target)
    except ValueError as error:
        raise ConfigError(f"--to must be s3://BUCKET/PREFIX: {error}") from error
    for name, file in package.files.items():
        if file.bytes > MAX_BYTES:
            raise ConfigError(f"{name} has {file.bytes} bytes, more than the {MAX_BYTES} of one object's upload")
    there = manifest.read_if_there(target)
    known = there.files if there is not None else {}
    changed = sorted(name for name, file in package.files.items() if name in known and known[name] != file)
    if changed and not replace:
        raise ConfigError(
            f"{target} has other bytes in {', '.join(changed)}: runs may be using it. Raise __version__ in jobs and "
            "udfs, or give --replace"
        )
    client = s3.client(timeout_s=60.0)
    try:
        for name, file in sorted(package.files.items()):
            if _digest(client, bucket, f"{key}/{name}") == file.sha256:
                say(f"{name}: there already\n")
                continue
            if archive.sha256(folder / name) != file.sha256:
                raise InputError(f"{folder / name} is not what its manifest says: run imagesieve emr package again")
            say(f"{name}: {file.bytes / 1e6:,.1f} MB\n")
            with (folder / name).open("rb") as body:
                client.put_object(
                    Bucket=bucket,
                    Key=f"{key}/{name}",
                    Body=body,
                    ContentLength=file.bytes,
                    ChecksumAlgorithm="SHA256",
                    ChecksumSHA256=base64.b64encode(bytes.fromhex(file.sha256)).decode(),
                )
        environments = {**(there.environments if there is not None else {}), **package.environments}
        whole = dataclasses.replace(package, uri=target, files={**known, **package.files}, environments=environments)
        client.put_object(Bucket=bucket, Key=f"{key}/{manifest.NAME}", Body=manifest.text(whole).encode())
    except Exception as error:
        if s3.is_aws_error(error):
            raise AwsError(str(s3.store_error(target, error))) from error
        raise
    return target


def _digest(client: Any, bucket: str, key: str) -> str:
    """The SHA-256 that S3 keeps of an object, "" where there is no such object or checksum."""
    from botocore.exceptions import ClientError

    try:
        answer = client.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    except ClientError as error:
        if s3.aws_code(error)[1] == 404:
            return ""
        raise
    try:
        return base64.b64decode(answer.get("ChecksumSHA256", "")).hex()
    except ValueError:  # of an upload in parts: 'DIGEST-NUMBER'
        return ""
