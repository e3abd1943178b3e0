"""SQS: one queue and its dead letters, ten messages a request, and what their errors mean."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from udfs.stores import s3

PER_REQUEST = 10  # messages: SQS's own limit
LONGEST_WAIT_S = 20  # of one request: SQS's own limit
THREADS = 8  # requests at once: one takes 10 to 20 ms, nearly all of it waiting
ATTEMPTS = 4  # at messages that a request left undone
_URL = re.compile(r"https?://[^\s/?#@]+/(?:[^\s?#]+/)?[A-Za-z0-9_-]{1,80}(?:\.fifo)?", re.ASCII)
_REGION = re.compile(r"//(?:[^/]*\.)?sqs\.([a-z0-9-]+)\.|//([a-z0-9-]+)\.queue\.", re.ASCII)
_GONE = ("ReceiptHandleIsInvalid", "InvalidParameterValue", "MessageNotInflight", "InvalidIdFormat")


class QueueError(ValueError):
    """A queue cannot be used, or does not answer: one line that says what to do."""


@dataclass(frozen=True)
class Message:
    """sent_at: seconds since 1970. receives: how often it was handed out, this time too."""

    receipt: str
    body: str
    sent_at: float
    receives: int


class Sqs:
    """One queue. Its methods raise QueueError where SQS does not answer after retries; safe for several threads."""

    def __init__(self, url: str, dead_letters: str | None = None) -> None:
        """dead_letters: the URL of their queue; None: that of the queue's redrive policy. Raises QueueError where there
        is neither, or a queue cannot be used."""
        for given in (url, dead_letters or url):
            if not _URL.fullmatch(given):
                raise QueueError(f"{given[:200]!r} is no URL of a queue: https://sqs.REGION.amazonaws.com/ACCOUNT/NAME")
            if given.endswith(".fifo"):
                raise QueueError(f"{given}: is a FIFO queue, to which S3 sends nothing: use a standard one")
        self.url = url
        self._client = _client(url)
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="sqs")
        attributes = self._ask(
            "get_queue_attributes", AttributeNames=["RedrivePolicy", "ApproximateNumberOfMessages"]
        ).get("Attributes", {})
        policy = _policy(attributes.get("RedrivePolicy"))
        self.most_receives: int | None = int(policy["maxReceiveCount"]) if policy else None
        if dead_letters is None:
            if not policy:
                raise QueueError(f"{url}: has no redrive policy: give it one, or name --dead-letters")
            account, name = policy["deadLetterTargetArn"].split(":")[4:6]
            dead_letters = self._ask("get_queue_url", None, QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"]
        self.dead_letters: str = dead_letters

    def close(self) -> None:
        self._pool.shutdown()
        self._client.close()

    def receive(self, wait_s: float, visibility_s: int) -> list[Message]:
        """At most ten messages, which nobody else gets for visibility_s; none where none has come after wait_s."""
        answer = self._ask(
            "receive_message",
            MaxNumberOfMessages=PER_REQUEST,
            WaitTimeSeconds=max(0, min(LONGEST_WAIT_S, int(wait_s))),
            VisibilityTimeout=visibility_s,
            MessageSystemAttributeNames=["SentTimestamp", "ApproximateReceiveCount"],
        )
        found = []
        for one in answer.get("Messages", ()):
            attributes = one.get("Attributes", {})
            sent_at = int(attributes.get("SentTimestamp", 0)) / 1000
            receives = int(attributes.get("ApproximateReceiveCount", 1))
            found.append(Message(one["ReceiptHandle"], one.get("Body", ""), sent_at, receives))
        return found

    def waiting(self) -> int:
        """About how many messages nobody has taken yet."""
        asked = self._ask("get_queue_attributes", AttributeNames=["ApproximateNumberOfMessages"])
        return int(asked.get("Attributes", {}).get("ApproximateNumberOfMessages", 0))

    def delete(self, receipts: Sequence[str]) -> list[str]:
        """Deletes messages; those that stayed are returned, and come again. Tries ATTEMPTS times."""
        return self._each("delete_message_batch", [{"ReceiptHandle": receipt} for receipt in receipts])[0]

    def keep(self, receipts: Mapping[str, int]) -> list[str]:
        """Nobody else gets these messages for so many seconds from now, 0..43200; 0 gives them back. Returns those that
        are lost: somebody else may have them by now."""
        wanted = [{"ReceiptHandle": receipt, "VisibilityTimeout": seconds} for receipt, seconds in receipts.items()]
        undone, gone = self._each("change_message_visibility_batch", wanted)
        return [*undone, *gone]

    def bury(self, message: Message, reason: str) -> None:
        """Sends a message to the dead letters with the reason why, and only then deletes it."""
        attributes = {"reason": {"DataType": "String", "StringValue": reason[:256] or "unknown"}}
        self._ask("send_message", self.dead_letters, MessageBody=message.body, MessageAttributes=attributes)
        self.delete([message.receipt])

    def _each(self, call: str, entries: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
        """Sends entries in tens, again those that failed. Returns the receipts of those that it could not do, and of
        those of messages that are no longer ours."""
        left, gone = list(entries), []
        for _ in range(ATTEMPTS):
            if not left:
                break
            tens = [left[at : at + PER_REQUEST] for at in range(0, len(left), PER_REQUEST)]
            send: Callable[[Sequence[Mapping[str, Any]]], Any] = lambda ten: self._ten(call, ten)  # noqa: E731
            answers = list(self._pool.map(send, tens))
            left = [entry for again, _ in answers for entry in again]
            gone += [entry["ReceiptHandle"] for _, ours in answers for entry in ours]
        return [entry["ReceiptHandle"] for entry in left], gone

    def _ten(self, call: str, ten: Sequence[Mapping[str, Any]]) -> tuple[list[Any], list[Any]]:
        """Those of the entries to send again, and those of messages that are not ours."""
        entries = [{"Id": str(number), **entry} for number, entry in enumerate(ten)]
        failed = self._ask(call, Entries=entries).get("Failed", ())
        gone = {int(one["Id"]) for one in failed if one.get("Code", "").rpartition(".")[2] in _GONE}
        again = {int(one["Id"]) for one in failed} - gone
        return [ten[number] for number in sorted(again)], [ten[number] for number in sorted(gone)]

    def _ask(self, call: str, url: str | None = "", **arguments: Any) -> Any:
        """url: of the queue; "" this one, None a call that needs none."""
        if url is not None:
            arguments["QueueUrl"] = url or self.url
        try:
            return getattr(self._client, call)(**arguments)
        except Exception as error:
            if s3.is_aws_error(error):
                raise _queue_error(url or self.url, call, error) from error
            raise


def _client(url: str) -> Any:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    named = _REGION.search(url)
    region = (named[1] or named[2]) if named else s3.region()
    config = Config(
        connect_timeout=5.0,
        read_timeout=LONGEST_WAIT_S + 10.0,
        retries={"mode": "standard", "total_max_attempts": 6},
        max_pool_connections=THREADS + 2,
    )
    try:
        return boto3.session.Session().client("sqs", region_name=region, config=config)
    except (BotoCoreError, ValueError) as error:
        raise QueueError(f"{url}: SQS cannot be used: {' '.join(str(error).split())}") from error


def _policy(text: str | None) -> dict[str, Any]:
    """A redrive policy, or {} where there is none."""
    try:
        found = json.loads(text or "{}")
        return found if {"maxReceiveCount", "deadLetterTargetArn"} <= set(found) else {}
    except (ValueError, TypeError):
        return {}


def _queue_error(url: str, call: str, error: Exception) -> QueueError:
    code, status = s3.aws_code(error)
    action = "sqs:" + "".join(part.title() for part in call.removesuffix("_batch").split("_"))
    if "NonExistentQueue" in code or "QueueDoesNotExist" in code or status == 404:
        why = "there is no such queue: check its URL, and AWS_REGION"
    elif status in (401, 403):
        why = f"access denied ({code}): grant {action}"
    elif not status:
        why = f"SQS does not answer ({code}): check the URL, the network and the credentials"
    else:
        why = f"{action} failed ({code}): {error}"
    return QueueError(" ".join(f"{url}: {why}".split())[:500])
