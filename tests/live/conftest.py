"""moto in a process of its own, and queues on it."""

import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests import s3_server
from tests.live.test_events import direct, record


@dataclass(frozen=True)
class Queues:
    """A bucket, a queue of its events and one for dead letters, whose messages are received twice at most."""

    bucket: str
    url: str
    dead: str
    s3: Any
    sqs: Any

    def put(self, key: str, body: bytes = b"x") -> None:
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)

    def send(self, *bodies: str) -> None:
        for body in bodies:
            self.sqs.send_message(QueueUrl=self.url, MessageBody=body)

    def tell(self, *keys: str, name: str = "ObjectCreated:Put") -> None:
        """Events of keys, whatever the bucket holds."""
        for key in keys:
            event = record(name, key)
            event["s3"]["bucket"] = {"name": self.bucket}
            self.send(direct(event))

    def arrive(self, *keys: str, body: bytes = b"x") -> None:
        for key in keys:
            self.put(key, body)
        self.tell(*keys)

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"

    def counts(self) -> tuple[int, int]:
        """(visible, not visible) messages of the queue."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        return int(found[names[0]]), int(found[names[1]])

    def receives(self, most: int) -> None:
        """After so many receives SQS puts a message aside."""
        arn = self.sqs.get_queue_attributes(QueueUrl=self.dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": most})
        self.sqs.set_queue_attributes(QueueUrl=self.url, Attributes={"RedrivePolicy": policy})

    def buried(self) -> list[tuple[str, str | None]]:
        """(body, reason) of all dead letters."""
        found = []
        while got := self.sqs.receive_message(
            QueueUrl=self.dead, MaxNumberOfMessages=10, MessageAttributeNames=["All"], VisibilityTimeout=60
        ).get("Messages"):
            for one in got:
                reason = one.get("MessageAttributes", {}).get("reason", {}).get("StringValue")
                found.append((one["Body"], reason))
        return found


@pytest.fixture(scope="session")
def moto_server() -> Iterator[s3_server.S3Server]:
    with s3_server.serve(bucket="unused") as server:
        yield server


@pytest.fixture
def aws(moto_server: s3_server.S3Server, monkeypatch: pytest.MonkeyPatch) -> s3_server.S3Server:
    """Every client of this process goes to moto."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in moto_server.env.items():
        monkeypatch.setenv(name, value)
    return moto_server


@pytest.fixture
def queues(aws: s3_server.S3Server) -> Queues:
    import boto3

    name = uuid.uuid4().hex[:12]
    sqs = boto3.session.Session().client("sqs")
    s3 = aws.client()
    s3.create_bucket(Bucket=name)
    dead = sqs.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
    found = Queues(name, sqs.create_queue(QueueName=name)["QueueUrl"], dead, s3, sqs)
    found.receives(2)
    return found
