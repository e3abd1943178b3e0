"""boto3 clients, and what their errors mean in one line. boto3 itself reads AWS_ENDPOINT_URL."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from emr.errors import AwsError
from jobs.errors import ConfigError
from udfs.stores import s3
from udfs.stores.s3 import aws_code

_CREDENTIALS = ("InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId", "SignatureDoesNotMatch",
                "ExpiredToken", "ExpiredTokenException", "InvalidToken", "NoCredentialsError", "AuthFailure",
                "PartialCredentialsError", "TokenRetrievalError", "SSOTokenLoadError",
                "UnauthorizedSSOTokenError", "CredentialRetrievalError")  # fmt: skip
_DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "UnauthorizedException")
_SILENT = ("EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ConnectionClosedError")
NO_CREDENTIALS = (
    "no AWS credentials: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run `aws sso login`"
)


def printable(text: object, limit: int = 1000) -> str:
    """One line without control characters: no name or log can move the cursor, hide a line or change its direction."""
    return " ".join(harmless(str(text)[:limit]).split())


def harmless(text: str) -> str:
    """A line of a log, its spaces kept: what could do something to a terminal is a question mark."""
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character in "\t\n\r":
        return " "
    # Cc, Cf: controls and what changes the direction of text; Cs: half of a pair; Zl, Zp: line breaks of Unicode.
    return "?" if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") else character


class Clients:
    """The clients of one region. Raises ConfigError where there is no region, AwsError for a broken profile."""

    def __init__(self, region: str | None = None) -> None:
        import boto3
        from botocore.exceptions import BotoCoreError

        try:
            given = region or os.environ.get("AWS_REGION")
            self._session = boto3.Session(region_name=given)
            found = self._session.region_name
        except BotoCoreError as error:
            raise AwsError(f"no AWS credentials: {printable(error)}") from error
        if not found:
            raise ConfigError("no AWS region: give --region, or set AWS_REGION")
        self.region = str(found)
        os.environ["AWS_REGION"] = self.region  # udfs.stores.s3 asks the same one
        self._clients: dict[tuple[str, int], Any] = {}

    def get(self, service: str, attempts: int = 4) -> Any:
        """attempts: how often a request is sent, on throttling, 500 and lost connections; 1 for what may not happen
        twice. Raises AwsError."""
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        key = (service, attempts)
        if key not in self._clients:
            config = Config(
                connect_timeout=5,
                read_timeout=30,
                retries={"mode": "standard", "total_max_attempts": attempts},
                s3={"addressing_style": "path" if os.environ.get("AWS_ENDPOINT_URL") else "auto"},
            )
            try:
                self._clients[key] = self._session.client(service, config=config)
            except (BotoCoreError, ValueError) as error:  # ValueError: an AWS_ENDPOINT_URL that is none
                raise AwsError(f"{service}: {printable(error)}") from error
        return self._clients[key]


def is_aws_error(error: Exception) -> bool:
    """Whether boto3 raised it: a refusal, no answer, or an answer that is none."""
    from botocore.parsers import ResponseParserError

    return s3.is_aws_error(error) or isinstance(error, ResponseParserError)


def reason(error: Exception) -> str:
    """Why AWS did not do what was asked, on one line."""
    code, status = aws_code(error)
    if code in _CREDENTIALS:
        missing = code in ("NoCredentialsError", "PartialCredentialsError")
        return NO_CREDENTIALS if missing else f"the AWS credentials are wrong or have expired ({code}): renew them"
    if code in _DENIED or status == 403:
        return f"access denied: {printable(_message(error), 400)}"
    if code in _SILENT:
        return f"no answer ({code}): check the network, --region and AWS_ENDPOINT_URL"
    if status >= 500 or not s3.is_aws_error(error):
        return f"the server answered with an error of its own ({status or 'no XML'})"
    return printable(_message(error) or error, 400)


def _message(error: Exception) -> str:
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Message", "")) if isinstance(response, dict) else ""


def bad_credentials(error: Exception) -> bool:
    """Whether every other request would fail for the same reason."""
    return aws_code(error)[0] in _CREDENTIALS


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Turns boto3's errors into AwsError: `what: why`."""
    try:
        yield
    except Exception as error:
        if not is_aws_error(error):
            raise
        raise AwsError(f"{what}: {reason(error)}") from error
