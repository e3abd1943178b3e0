"""Simulates the policy of the container's role: every request that a watch sends is looked up in it, and every action
in it must be of use. Catches a right that is missing, and one too many."""

import fnmatch
import json
import re
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from deltalake import write_deltalake

from jobs.engines import datasets, delta_log
from jobs.errors import ContractError, RunError
from jobs.lease import acquire
from jobs.live import command
from jobs.live.changes import Change
from tests import s3_server
from tests.emr import proxy as proxies
from tests.live import lakes
from tests.live.conftest import Queues
from tests.live.lakes import Book
from tests.unit.test_templates import template
from udfs.stores import objects

ACCOUNT = "123456789012"  # moto's
LAKE = "lakes/photos"
# What nothing here uses: an upload in parts that fails half-way is broken off by whoever writes large tables.
SELDOM = {"s3:AbortMultipartUpload"}
Call = tuple[str, str]  # action, ARN


def test_the_role_of_the_container(
    queues: Queues, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moto_server: s3_server.S3Server
) -> None:
    queues.receives(1)
    place = f"s3://{queues.bucket}-lakes/{LAKE}"
    queues.s3.create_bucket(Bucket=f"{queues.bucket}-lakes")
    lakes.make(tmp_path / "lake", [queues.uri("in")])
    for path in (tmp_path / "lake").rglob("*"):
        if path.is_file():
            key = f"{LAKE}/{path.relative_to(tmp_path / 'lake')}"
            queues.s3.put_object(Bucket=f"{queues.bucket}-lakes", Key=key, Body=path.read_bytes())
    queues.arrive("in/a.jpg", "in/bad.jpg")
    queues.tell("in/gone.jpg", "in/notes.txt")
    queues.send("poison")
    seen: list[Call] = []

    def before(changes: Sequence[Change]) -> None:
        """What brings images in reads them, and writes a lake as all else does."""
        if any("bad" in change.uri for change in changes):
            raise ContractError("no")
        with acquire(place, "run", 60):
            objects.put(f"{place}/_staging/run/x", b"x")
            objects.delete_below(f"{place}/_staging")
            options = delta_log.storage_options(place)
            images = datasets.dataset(place, "images").to_table()
            write_deltalake(f"{place}/images", images, mode="append", storage_options=options)
            for change in changes:
                if not change.removed:
                    objects.read_small(change.uri)

    with proxies.serve(moto_server.endpoint) as proxy:
        proxy.rules.append(lambda request: seen.extend(calls(request)))
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        url = queues.url.replace(moto_server.endpoint, proxy.endpoint)
        options = ["--lake", place, "--queue", url, "--once", "--visibility", "2s", "--every", "0"]
        with pytest.raises(RunError, match="no"):
            command.main(
                [*options, "--set", "metrics.namespace=imagesieve"], lambda *_: Book(tmp_path / "book.json", before)
            )
    assert set(Book(tmp_path / "book.json").images) == {queues.uri("in/a.jpg")}
    statements = role(queues)
    refused = sorted({call for call in seen if not allows(statements, *call)})
    assert not refused
    useless = {action for action in actions(statements) if action not in {action for action, _ in seen}}
    assert useless == SELDOM
    queue, dead = (f"arn:aws:sqs:us-east-1:{ACCOUNT}:{queues.bucket}{ending}" for ending in ("", "-dead"))
    for action, resource in (
        ("s3:GetObject", "arn:aws:s3:::other/in/a.jpg"),
        ("s3:GetObject", f"arn:aws:s3:::{queues.bucket}/out/a.jpg"),
        ("s3:PutObject", f"arn:aws:s3:::{queues.bucket}/in/a.jpg"),
        ("s3:DeleteObject", f"arn:aws:s3:::{queues.bucket}/in/a.jpg"),
        ("s3:PutObject", f"arn:aws:s3:::{queues.bucket}-lakes/lakes/other/images/x"),
        ("s3:PutObject", f"arn:aws:s3:::{queues.bucket}-lakes/lakes/photosx/x"),
        ("sqs:SendMessage", queue),
        ("sqs:PurgeQueue", queue),
        ("sqs:ReceiveMessage", dead),
        ("sqs:DeleteMessage", dead),
        ("cloudwatch:PutMetricData", "other"),
    ):
        assert not allows(statements, action, resource), (action, resource)


def calls(request: proxies.Request) -> Iterator[Call]:
    """What of IAM a request needs. The resource of PutMetricData is its namespace, by which alone it is bound."""
    action, body = request.action, request.body
    host = request.headers.get("x-amz-target", "")
    if "SQS" in host:
        given = json.loads(body)
        name = given.get("QueueUrl", "").rpartition("/")[2] or given["QueueName"]
        yield f"sqs:{action.removesuffix('Batch')}", f"arn:aws:sqs:us-east-1:{ACCOUNT}:{name}"
        return
    if action == "PutMetricData" or b"PutMetricData" in body:
        yield "cloudwatch:PutMetricData", "imagesieve" if b"imagesieve" in body else "?"
        return
    path, _, query = request.path.partition("?")
    bucket, _, key = urllib.parse.unquote(path.lstrip("/")).partition("/")
    arn = f"arn:aws:s3:::{bucket}"
    if request.method == "POST" and query.startswith("delete"):
        for found in re.findall(rb"<Key>([^<]*)</Key>", body):
            yield "s3:DeleteObject", f"{arn}/{found.decode()}"
    elif not key:
        yield "s3:ListBucket", arn
    else:
        named = {"GET": "GetObject", "HEAD": "GetObject", "PUT": "PutObject", "POST": "PutObject"}
        yield f"s3:{named.get(request.method, 'DeleteObject')}", f"{arn}/{key}"


def role(queues: Queues) -> list[dict[str, Any]]:
    """The statements of the role in watch.yaml, as they are where its queue, buckets and prefixes are these."""
    policy = template("watch.yaml")["Resources"]["TaskRole"]["Properties"]["Policies"][0]["PolicyDocument"]
    queue = f"arn:aws:sqs:us-east-1:{ACCOUNT}:{queues.bucket}"
    values = {"AWS::Partition": "aws", "ImagesBucket": queues.bucket, "ImagesPrefix": "in/", "LakePrefix": LAKE,
              "Name": f"{queues.bucket}-lakes"}  # fmt: skip

    def filled(value: Any) -> Any:
        if isinstance(value, list):
            return [filled(one) for one in value]
        if not isinstance(value, dict):
            return value
        if "Fn::GetAtt" in value:
            return {"Queue": queue, "DeadLetters": f"{queue}-dead"}[value["Fn::GetAtt"][0]]
        if "Fn::Sub" in value:
            text = value["Fn::Sub"] if isinstance(value["Fn::Sub"], str) else value["Fn::Sub"][0]
            return re.sub(r"\$\{([\w:]+)\}", lambda name: values[name[1]], text)
        return {key: filled(one) for key, one in value.items()}

    return list(filled(policy["Statement"]))


def listed(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def actions(statements: Sequence[dict[str, Any]]) -> set[str]:
    return {action for statement in statements for action in listed(statement["Action"])}


def allows(statements: Sequence[dict[str, Any]], action: str, resource: str) -> bool:
    """Whether one of the statements lets the action be done. A condition is looked at as the resource itself."""
    for statement in statements:
        assert statement["Effect"] == "Allow"
        condition = statement.get("Condition", {"StringEquals": {}})["StringEquals"]
        assert set(condition) <= {"cloudwatch:namespace"}
        resources = listed(condition.get("cloudwatch:namespace", statement["Resource"]))
        if action in listed(statement["Action"]) and any(fnmatch.fnmatchcase(resource, one) for one in resources):
            return True
    return False
