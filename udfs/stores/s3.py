"""Connections to S3, made on first use and kept: obstore for many reads, boto3 for the rest; what their errors mean.

Keys: obstore (0.12) holds a key as a path of segments. It refuses `//`, segments `.` and `..` and ASCII control
characters, and drops a leading or a trailing `/` without a word, which can name another object. One key that it refuses
ends its whole listing. So every listing, and every read of such a key, goes through boto3, which keeps keys as they
are; all other keys reach the server byte for byte through obstore (seen with moto and versitygw).
"""

import os
import re
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from udfs.errors import ACCESS_DENIED, FETCH_FAILED, NOT_FOUND, TIMEOUT, ImageError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config, S3Store

# A change of any of these makes new connections (a test, or a notebook that switches its profile).
_VARIABLES = (
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_PROFILE",
    "AWS_ACCESS_KEY_ID",
    "AWS_SKIP_SIGNATURE",
)
_NOT_A_PATH = re.compile(r"[\x00-\x1f\x7f]|//|^/|/$|(?:^|/)\.\.?(?:/|$)")
_BAD_CREDENTIALS = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken")
# obstore has no kind of error for these: it tells them only in the dump of the Rust error behind its message.
_DUMP = "\n\nDebug source"
_TIMED_OUT = re.compile(r"\bkind: Timeout\b")
_CAUSE = re.compile(r'\bmessage: "([^"]*)"')
_lock = threading.Lock()  # boto3 sessions may not be made or asked for clients by two threads at once
# Whether this process was forked from one in which obstore had begun: its threads are not in the fork, where the first
# request would wait for ever. Such are the workers of a DataLoader of torch. There all goes through boto3.
_begun = _forked = False


class StoreError(ValueError):
    """A folder, bucket or object cannot be used at all; the message says what to do, on one line."""


def by_obstore(key: str) -> bool:
    """Whether obstore asks for exactly this key, and can be asked in this process."""
    return bool(key) and _NOT_A_PATH.search(key) is None and not _forked


def endpoint() -> str | None:
    """The URL of an S3 server other than AWS, from the environment."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None


def region() -> str:
    """The region requests are signed for: from the environment or the AWS profile, else us-east-1."""
    found = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if not found and not _anonymous():
        found = _session().region_name
    return str(found or "us-east-1")


def store(bucket: str, timeout_s: float, retries: int) -> "S3Store":
    """An obstore store for many reads. timeout_s: for one read with all its retries (503, 500, 429, resets, time-outs).

    Raises StoreError where no credentials are found."""
    global _begun  # noqa: PLW0603 (of the process)
    with _lock:
        _begun = True
        return _store(_environment(), bucket, timeout_s, retries)


def client(timeout_s: float = 10.0, retries: int = 5) -> Any:
    """A boto3 S3 client. timeout_s: of one attempt to connect or read. Raises StoreError where no credentials are."""
    with _lock:
        return _client(_environment(), timeout_s, retries)


def object_store_settings(renewed: bool = False) -> dict[str, str]:
    """What an object store in Rust (delta-rs, Sail) reaches S3 by, from the same places as all else here: the names of
    its settings without `aws_`, lower case. renewed: whether they are asked for again and again, so that credentials of
    a role, which end, may be in it. Raises StoreError where no credentials are found."""
    settings = {"region": region(), "allow_http": "true"}
    if (url := endpoint()) is not None:
        settings |= {"endpoint_url": url, "virtual_hosted_style_request": "false"}
    if _anonymous():
        return {**settings, "skip_signature": "true"}
    with _lock:
        found = _session().get_credentials()
    if found is None:
        raise _no_credentials()
    if renewed or not str(found.method).endswith("-role"):  # else the instance's, which the reader finds by itself
        frozen = found.get_frozen_credentials()
        settings |= {"access_key_id": frozen.access_key, "secret_access_key": frozen.secret_key}
        if frozen.token:
            settings["session_token"] = frozen.token
    return settings


def image_error(error: Exception) -> ImageError:
    """What an obstore, boto3 or operating system error while one image is read says about that image."""
    from obstore.exceptions import NotFoundError, PermissionDeniedError, UnauthenticatedError

    detail, _, dump = str(error).partition(_DUMP)
    if (cause := _CAUSE.search(dump)) is not None:
        detail = f"{detail}: {cause[1]}"
    code, status = aws_code(error)
    if isinstance(error, FileNotFoundError | NotFoundError | NotADirectoryError) or status == 404:
        return ImageError(NOT_FOUND, detail)
    if isinstance(error, PermissionError | PermissionDeniedError | UnauthenticatedError) or status in (401, 403):
        return ImageError(ACCESS_DENIED, detail)
    if isinstance(error, TimeoutError) or "Timeout" in code or _TIMED_OUT.search(dump):
        return ImageError(TIMEOUT, detail)
    return ImageError(FETCH_FAILED, detail)


def store_error(uri: str, error: Exception) -> StoreError:
    """One line on why uri cannot be used and what to do, from a boto3 or operating system error."""
    code, status = aws_code(error)
    server = f" at {endpoint()}" if endpoint() else ""
    if code == "NoSuchBucket":
        why = f"the bucket does not exist{server}: check its name and AWS_ENDPOINT_URL"
    elif code in _BAD_CREDENTIALS:
        why = f"the AWS credentials are wrong or have expired ({code}): renew them, or choose others with AWS_PROFILE"
    elif code in ("PermanentRedirect", "AuthorizationHeaderMalformed", "301"):
        why = f"the bucket is in another region than {region()}: set AWS_REGION"
    elif status in (401, 403) or isinstance(error, PermissionError):
        why = "access denied: grant s3:ListBucket, s3:GetObject (and s3:PutObject, s3:DeleteObject for a lake)"
        if isinstance(error, PermissionError):
            why = "permission denied: check the owner and mode of the file or folder"
    elif code in ("EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ConnectionClosedError"):
        why = f"the S3 server{server} does not answer ({code}): check AWS_ENDPOINT_URL, AWS_REGION and the network"
    elif isinstance(error, FileNotFoundError) or status == 404:
        why = "it does not exist"
    else:
        why = f"{type(error).__name__}: {error}"
    return StoreError(" ".join(f"{uri}: {why}".split()))


def is_aws_error(error: Exception) -> bool:
    """Whether boto3 raised it: a refusal by the server, or no answer."""
    from boto3.exceptions import S3UploadFailedError
    from botocore.exceptions import BotoCoreError, ClientError

    return isinstance(error, BotoCoreError | ClientError | S3UploadFailedError)


def aws_code(error: Exception) -> tuple[str, int]:
    """(code, HTTP status) of a boto3 error; (name of its class, 0) for one without an answer; ("", 0) for others."""
    from botocore.exceptions import ClientError

    if isinstance(error, ClientError):
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        return str(error.response.get("Error", {}).get("Code", "")), status
    return (type(error).__name__, 0) if is_aws_error(error) else ("", 0)


def _environment() -> tuple[str | None, ...]:
    return tuple(map(os.environ.get, _VARIABLES))


def _anonymous() -> bool:
    return os.environ.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true")


def _session() -> Any:
    import boto3
    from botocore.exceptions import BotoCoreError

    try:
        return boto3.Session()
    except BotoCoreError as error:  # an unknown AWS_PROFILE, a broken configuration file
        raise StoreError(f"no AWS credentials: {error}") from error


def _no_credentials() -> StoreError:
    return StoreError(
        "no AWS credentials: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run with an instance "
        "role; for a public bucket set AWS_SKIP_SIGNATURE=true"
    )


@lru_cache(maxsize=64)
def _store(environment: tuple[str | None, ...], bucket: str, timeout_s: float, retries: int) -> "S3Store":
    from obstore.store import S3Store

    # The last attempt begins before half the time is over and takes at most the other half.
    half = timedelta(seconds=timeout_s / 2)
    quarter = timedelta(seconds=timeout_s / 4)
    config: S3Config = {"region": region(), "virtual_hosted_style_request": False}
    options: ClientConfig = {"timeout": half, "connect_timeout": min(quarter, timedelta(seconds=5))}
    retry: RetryConfig = {
        "max_retries": retries,
        "retry_timeout": half,
        "backoff": {
            "init_backoff": timedelta(milliseconds=100),
            "max_backoff": min(quarter, timedelta(seconds=15)),
            "base": 2,
        },
    }
    if (url := endpoint()) is not None:
        config["endpoint"] = url
        options["allow_http"] = url.startswith("http://")
    provider: Callable[[], Any] | None = None
    if _anonymous():
        config["skip_signature"] = True
    else:
        provider = _provider(environment)
    return S3Store(bucket, config=config, client_options=options, retry_config=retry, credential_provider=provider)


@lru_cache(maxsize=8)
def _provider(_environment: tuple[str | None, ...]) -> Any:
    from botocore.exceptions import BotoCoreError

    session = _session()
    try:
        if session.get_credentials() is None:
            raise _no_credentials()
    except BotoCoreError as error:  # such as an SSO log-in that has ended
        raise StoreError(f"no AWS credentials: {error}") from error
    from obstore.auth.boto3 import Boto3CredentialProvider

    # botocore renews what has less than 10 minutes to live, so what it gives may be kept no longer than that.
    return Boto3CredentialProvider(session, ttl=timedelta(minutes=10))


@lru_cache(maxsize=16)
def _client(environment: tuple[str | None, ...], timeout_s: float, retries: int) -> Any:
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    url = endpoint()
    config = Config(
        connect_timeout=min(timeout_s, 5.0),
        read_timeout=timeout_s,
        retries={"mode": "standard", "total_max_attempts": retries + 1},
        max_pool_connections=64,
        s3={"addressing_style": "path" if url else "auto"},
    )
    if _anonymous():
        config = config.merge(Config(signature_version=UNSIGNED))
    else:
        _provider(environment)
    try:
        return _session().client("s3", endpoint_url=url, region_name=region(), config=config)
    except (BotoCoreError, ValueError) as error:  # a malformed endpoint
        raise StoreError(f"S3 cannot be used: {error}") from error


def _after_fork() -> None:
    """Connections are one process's own: a fork makes new ones."""
    global _lock, _forked
    _lock, _forked = threading.Lock(), _forked or _begun
    for made in (_store, _provider, _client):
        made.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
