"""Small objects of a lake, on S3 or in a folder, and whether a place can be used at all. URIs are canonical.

All through boto3 and plain files: these are few, and any key must work. Errors are StoreError, one line each.
"""

import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

from udfs.stores import s3, uris
from udfs.stores.s3 import StoreError

_LISTED = 10_000  # more than this is not a small folder


def check_access(uri: str, must_exist: bool = True) -> None:
    """Finds out in a few seconds whether uri can be read: a file, or a folder or S3 prefix with something in it.

    must_exist: False for a lake that may be made by this run. Raises StoreError saying what to do: no credentials, no
    such bucket, access denied, nothing there, another region, no answer from the server."""
    if not uris.is_s3(uri):
        _check_local(uri, must_exist)
        return
    bucket, key = uris.split_s3(uri)
    with _explained(uri):
        client = s3.client(timeout_s=3.0, retries=1)
        prefix = key if not key or key.endswith("/") else key + "/"
        answer = client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)
        # boto3 follows a bucket into its region by itself; the readers of single objects do not.
        there = answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region", s3.region())
        if s3.endpoint() is None and there != s3.region():
            raise StoreError(f"{uri}: the bucket is in {there}, not in {s3.region()}: set AWS_REGION={there}")
        if must_exist and not answer.get("KeyCount") and not (key and exists(uri)):
            raise StoreError(f"{uri}: there is nothing below this prefix: check its spelling")


def exists(uri: str) -> bool:
    """Whether there is an object, a file or (locally) a folder of this name. Raises StoreError."""
    if not uris.is_s3(uri):
        return os.path.lexists(uris.local_path(uri))
    bucket, key = uris.split_s3(uri)
    with _explained(uri):
        try:
            s3.client().head_object(Bucket=bucket, Key=key)
        except _client_error() as error:
            if _status(error) == 404:
                return False
            raise
    return True


def read_small(uri: str, max_bytes: int = 16 << 20) -> bytes:
    """The bytes of a small object. Raises FileNotFoundError where there is none, StoreError where it is too large."""
    with _explained(uri):
        if not uris.is_s3(uri):
            with Path(os.fsdecode(uris.local_path(uri))).open("rb") as file:
                data = file.read(max_bytes + 1)
        else:
            bucket, key = uris.split_s3(uri)
            try:
                with s3.client().get_object(Bucket=bucket, Key=key)["Body"] as body:
                    data = bytes(body.read(max_bytes + 1))
            except _client_error() as error:
                if _code(error) == "NoSuchKey":
                    raise FileNotFoundError(uri) from error
                raise
    if len(data) > max_bytes:
        raise StoreError(f"{uri}: more than {max_bytes} bytes")
    return data


def put(uri: str, data: bytes) -> None:
    """Writes an object whole, in place of any that was there; folders are made. Raises StoreError."""
    with _explained(uri):
        if uris.is_s3(uri):
            bucket, key = uris.split_s3(uri)
            s3.client().put_object(Bucket=bucket, Key=key, Body=data)
            return
        path = uris.local_path(uri)
        draft = _written_beside(path, data)
        os.replace(draft, path)  # noqa: PTH105 (bytes)


@contextmanager
def replacing(uri: str) -> Iterator[Path]:
    """The path of a new local file to write; at the end it stands at uri whole, in place of any that was there.

    Folders are made. An S3 object is uploaded in parts, so it may be large. On an error nothing has changed.
    Raises StoreError."""
    with _explained(uri):
        path = None if uris.is_s3(uri) else uris.local_path(uri)
        draft = Path(os.fsdecode(_written_beside(path, b""))) if path is not None else _temporary()
        try:
            yield draft
            if path is not None:
                with draft.open("rb") as file:
                    os.fsync(file.fileno())
                os.replace(draft, os.fsdecode(path))  # noqa: PTH105 (as put does)
            else:
                bucket, key = uris.split_s3(uri)
                s3.client(timeout_s=60.0).upload_file(str(draft), bucket, key)
        finally:
            draft.unlink(missing_ok=True)


def _temporary() -> Path:
    file, path = tempfile.mkstemp(prefix="imagesieve-")
    os.close(file)
    return Path(path)


def put_if_absent(uri: str, data: bytes) -> bool:
    """Writes an object whole and says True, or says False and changes nothing where there is one of that name.

    Of any number of callers one hears True at most; none does where the answer to a write was lost and the write was
    sent again, so a caller that hears False compares what is there. Raises StoreError."""
    with _explained(uri):
        if uris.is_s3(uri):
            return _put_object_if_absent(*uris.split_s3(uri), data)
        path = uris.local_path(uri)
        draft = _written_beside(path, data)
        try:
            os.link(draft, path)  # unlike O_EXCL it never shows a file half written
        except FileExistsError:
            return False
        finally:
            os.unlink(draft)  # noqa: PTH108 (bytes)
        return True


def delete(uri: str) -> None:
    """Deletes an object or a file; one that is not there is none of its concern. Raises StoreError."""
    with _explained(uri):
        if uris.is_s3(uri):
            bucket, key = uris.split_s3(uri)
            s3.client().delete_object(Bucket=bucket, Key=key)
            return
        with suppress(FileNotFoundError):
            os.unlink(uris.local_path(uri))  # noqa: PTH108 (bytes)


def list_small(uri: str) -> list[str]:
    """The sorted names of the objects or files directly in a folder; none where it does not exist. Raises StoreError,
    also for a folder of more than 10,000."""
    with _explained(uri):
        names = sorted(islice(_names(uri), _LISTED + 1))
    if len(names) > _LISTED:
        raise StoreError(f"{uri}: more than {_LISTED} objects: not a folder of imagesieve's")
    return names


def list_names(uri: str, after: str = "") -> Iterator[str]:
    """The names of the objects or files directly in a folder, in no order; none where it does not exist. after: those
    that come after it in the order of bytes. Raises StoreError."""
    with _explained(uri):
        yield from (name for name in _names(uri, after) if name > after)


def list_below(uri: str) -> Iterator[tuple[str, float]]:
    """(path below it, when it was changed in seconds since 1970) of every file or object below a folder or prefix, in
    no order; hidden ones too, and links as what they are. None where it does not exist. Raises StoreError."""
    with _explained(uri):
        if uris.is_s3(uri):
            bucket, key = uris.split_s3(uri)
            prefix = key.rstrip("/") + "/" if key else ""
            for page in s3.client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                for item in page.get("Contents", ()):
                    yield item["Key"][len(prefix) :], item["LastModified"].timestamp()
            return
        top = os.fsdecode(uris.local_path(uri)).rstrip("/") or "/"
        for folder, _, names in os.walk(top):
            for name in names:
                path = os.path.join(folder, name)  # noqa: PTH118 (as os.walk gives it)
                with suppress(FileNotFoundError):
                    yield path[len(top) + 1 :], os.lstat(path).st_mtime


def delete_below(uri: str) -> None:
    """Deletes a folder, or all objects below a prefix; a missing one is none of its concern. Raises StoreError."""
    with _explained(uri):
        if not uris.is_s3(uri):
            with suppress(FileNotFoundError):
                shutil.rmtree(uris.local_path(uri))
            return
        bucket, key = uris.split_s3(uri)
        client = s3.client()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key.rstrip("/") + "/")
        for page in pages:
            keys = [{"Key": item["Key"]} for item in page.get("Contents", ())]
            if not keys:
                continue
            answer = client.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
            for error in answer.get("Errors", ())[:1]:
                raise StoreError(f"{uri}: cannot be deleted ({error.get('Code')})")


def has_any(uri: str, but: tuple[str, ...] = ()) -> bool:
    """Whether anything lies below a folder or prefix. but: names in it that do not count. Raises StoreError."""
    with _explained(uri):
        if not uris.is_s3(uri):
            try:
                return any(os.fsdecode(entry.name) not in but for entry in os.scandir(uris.local_path(uri)))
            except (FileNotFoundError, NotADirectoryError):
                return False
        bucket, key = uris.split_s3(uri)
        prefix = key if not key or key.endswith("/") else key + "/"
        answer = s3.client().list_objects_v2(Bucket=bucket, Prefix=prefix, Delimiter="/", MaxKeys=len(but) + 2)
        found = [item["Key"] for item in answer.get("Contents", ())] + [
            p["Prefix"] for p in answer.get("CommonPrefixes", ())
        ]
        return any(name[len(prefix) :].rstrip("/") not in ("", *but) for name in found)


def _names(uri: str, after: str = "") -> Iterator[str]:
    if uris.is_s3(uri):
        bucket, key = uris.split_s3(uri)
        prefix = key if not key or key.endswith("/") else key + "/"
        start = {"StartAfter": prefix + after} if after else {}
        paginator = s3.client().get_paginator("list_objects_v2")
        pages = paginator.paginate(Bucket=bucket, Prefix=prefix, Delimiter="/", **start)
        for page in pages:
            yield from (item["Key"][len(prefix) :] for item in page.get("Contents", ()) if item["Key"] != prefix)
        return
    try:
        with os.scandir(uris.local_path(uri)) as entries:
            yield from (os.fsdecode(entry.name) for entry in entries if entry.is_file())
    except FileNotFoundError:
        return


def _put_object_if_absent(bucket: str, key: str, data: bytes) -> bool:
    attempts = 5
    for attempt in range(attempts):
        try:
            s3.client().put_object(Bucket=bucket, Key=key, Body=data, IfNoneMatch="*")
        except _client_error() as error:
            if _status(error) == 412:
                return False
            # 409: another conditional write to this key has not ended yet.
            if _status(error) != 409 or attempt == attempts - 1:
                raise
            time.sleep(0.1 * 2**attempt)
        else:
            return True
    return False


def _written_beside(path: bytes, data: bytes) -> bytes:
    """A file of a name of its own in the folder of path, on disk."""
    os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 (bytes)
    draft = path + b"." + secrets.token_hex(8).encode() + b".tmp"
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    with os.fdopen(file, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    return draft


def _check_local(uri: str, must_exist: bool) -> None:
    path = uris.local_path(uri)
    with _explained(uri):
        if os.path.isdir(path):  # noqa: PTH112 (bytes)
            with os.scandir(path) as entries:
                if must_exist and next(entries, None) is None:
                    raise StoreError(f"{uri}: the folder is empty: check its spelling")
        elif os.path.lexists(path):
            if not must_exist:
                raise StoreError(f"{uri}: is a file: name a folder")
            with Path(os.fsdecode(path)).open("rb"):
                pass
        elif must_exist:
            raise StoreError(f"{uri}: there is no such file or folder: check its spelling")
        else:
            above = path
            while not os.path.lexists(above):
                above = os.path.dirname(above)  # noqa: PTH120 (bytes)
            if not os.path.isdir(above) or not os.access(above, os.W_OK | os.X_OK):  # noqa: PTH112 (bytes)
                raise StoreError(f"{uri}: cannot be made: {os.fsdecode(above)} is not a folder that you may write to")


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    try:
        yield
    except (StoreError, FileNotFoundError):
        raise
    except Exception as error:
        if isinstance(error, OSError) or s3.is_aws_error(error):
            raise s3.store_error(uri, error) from error
        raise


def _client_error() -> type[Exception]:
    from botocore.exceptions import ClientError

    return ClientError  # type: ignore[no-any-return]


def _status(error: Exception) -> int:
    return s3.aws_code(error)[1]


def _code(error: Exception) -> str:
    return s3.aws_code(error)[0]
