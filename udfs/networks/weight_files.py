"""Weights files on this machine: found in a package or copied into the cache, and checked."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import secrets
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from udfs.networks.models import Model, ModelError
from udfs.stores import s3, uris

MAX_WEIGHTS_BYTES = 4 << 30  # of one weights file: the largest networks that make sense here have 2 GB

_CHUNK_BYTES = 1 << 20


def weights_file(model: Model, cache: Path) -> Path:
    """The weights of a network on this machine, of the right SHA-256: the file of an installed package, found without
    an import of it, or a copy in cache, which is made the first time.

    Raises ModelError: the package is not installed or lacks the file, the URI cannot be read, it holds more than
    MAX_WEIGHTS_BYTES, or other bytes. OSError where the cache cannot be written."""
    if model.package:
        return packaged(model.key, model.package, model.weights, model.sha256)
    # A copy also of a local file: what was checked is what is read, whatever happens to the original.
    path = cache / f"{model.name}-{model.revision}-{model.sha256[:16]}.weights"
    if path.exists():
        check_digest(model, path)
        return path
    cache.mkdir(parents=True, exist_ok=True)
    draft = cache / f".fetching-{secrets.token_hex(8)}"
    try:
        _copy(model, draft)
        check_digest(model, draft, model.weights)
        draft.replace(path)
    finally:
        with suppress(FileNotFoundError):
            draft.unlink()
    return path


def packaged(key: str, package: str, path: str, sha256: str, install: str = "") -> Path:
    """A file of an installed package, of that SHA-256, found without an import of it. key: of what it is for. path: in
    site-packages. install: the command that installs the package, to be told. Raises ModelError."""
    try:
        file = Path(str(importlib.metadata.distribution(package).locate_file(path)))
    except importlib.metadata.PackageNotFoundError:
        told = f": {install}" if install else ""
        raise ModelError(f"{key}: install {package}, which carries its weights{told}") from None
    if not file.is_file():
        raise ModelError(f"{key}: {package} has no file {file}")
    _check(key, sha256, file, str(file))
    return file


def check_digest(model: Model, weights: Path, called: str | None = None) -> None:
    """Raises ModelError where the file, named as called, is not the model's: asked before anything parses it."""
    _check(model.key, model.sha256, weights, called or str(weights))


def _check(key: str, sha256: str, file: Path, called: str) -> None:
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    if digest != sha256:
        raise ModelError(f"{key}: {called} has SHA-256 {digest}, expected {sha256}")


def _copy(model: Model, draft: Path) -> None:
    """Streams the weights from their URI into draft."""
    try:
        with draft.open("xb") as sink:
            copied = 0
            for chunk in _chunks(model.weights):
                copied += len(chunk)
                if copied > MAX_WEIGHTS_BYTES:
                    raise ModelError(f"{model.key}: {model.weights} holds more than {MAX_WEIGHTS_BYTES} bytes")
                sink.write(chunk)
    except s3.StoreError as error:
        raise ModelError(f"{model.key}: {error}") from error


def _chunks(uri: str) -> Iterator[bytes]:
    """The bytes of a file or an object, piece by piece. Raises StoreError."""
    try:
        if uris.is_s3(uri):
            bucket, key = uris.split_s3(uri)
            with closing(s3.client(timeout_s=60.0).get_object(Bucket=bucket, Key=key)["Body"]) as body:
                yield from body.iter_chunks(_CHUNK_BYTES)
            return
        path = Path(os.fsdecode(uris.local_path(uri)))
        if not path.is_file():  # opening a pipe would hang
            raise s3.StoreError(f"{uri}: {'is not a file' if path.exists() else 'it does not exist'}")
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
    except s3.StoreError:
        raise
    except Exception as error:
        if isinstance(error, OSError) or s3.is_aws_error(error):
            raise s3.store_error(uri, error) from error
        raise
