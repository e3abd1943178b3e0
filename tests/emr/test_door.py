"""Catches a Lambda function that answers otherwise than the lake, asks for more than its policy allows, lets in who is
not signed in, or keeps more of the lake than there is room for; by moto, with the handler as Lambda calls it."""

from __future__ import annotations

import base64
import fnmatch
import json
import re
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagesieve
import pytest
from pyspark.sql import SparkSession

from emr.door import handler as door
from jobs.errors import LakeError
from jobs.serve.door import asking, prepared
from tests import s3_server
from tests.e2e import images, lakes
from tests.emr import proxy as proxies
from tests.emr.test_stack import plain
from tests.unit.test_templates import ROOT, template
from udfs.children import pool

BUCKET, PREFIX = "doors", "lakes/photos"
LAKE = f"s3://{BUCKET}/{PREFIX}"
VALUES = {"LakeBucket": BUCKET, "LakePrefix": PREFIX, "PictureBucket": BUCKET, "PicturePrefix": "incoming"}


@dataclass(frozen=True)
class Placed:
    """A lake in S3 with its door prepared, the same lake here, and who has asked S3 for what."""

    here: Path
    proxy: proxies.Proxy
    cache: Path


@pytest.fixture(scope="module")
def placed(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Placed]:
    root = tmp_path_factory.mktemp("lambda")
    folder = images.write(root / "in", {f"{n:02d}.jpg": images.jpeg(images.picture(n, 320, 240)) for n in range(24)})
    lakes.ran(spark, "run", folder, "--lake", root / "lake")
    with s3_server.serve(BUCKET) as server, proxies.serve(server.endpoint) as proxy:
        client = server.client()
        for file in (root / "lake").rglob("*"):
            if file.is_file():
                client.upload_file(str(file), BUCKET, f"{PREFIX}/{file.relative_to(root / 'lake')}")
        client.put_object(Bucket=BUCKET, Key="incoming/a.jpg", Body=images.near_copy(images.picture(5, 320, 240)))
        client.put_object(Bucket=BUCKET, Key="secret/a.jpg", Body=b"secret")
        with pytest.MonkeyPatch.context() as patch:
            for name, value in s3_server.environment(proxy.endpoint).items():
                patch.setenv(name, value)
            patch.setenv("IMAGESIEVE_CACHE", str(root / "preparing"))
            asking.prepare(LAKE)
            pool.close()  # whose children know another cache
            patch.setenv("IMAGESIEVE_CACHE", str(root / "cache"))
            patch.setenv("IMAGESIEVE_LAKE", LAKE)
            patch.setenv("IMAGESIEVE_DOOR_FROM", f"s3://{BUCKET}/incoming")
            proxy.seen.clear()
            yield Placed(root / "lake", proxy, root / "cache")
            pool.close()


@pytest.fixture(autouse=True)
def _new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "_open", None)


def event(data: bytes, kind: str = "image/jpeg", **changed: Any) -> dict[str, Any]:
    """As a function URL gives it, payload 2.0."""
    return {
        "version": "2.0", "rawPath": "/", "rawQueryString": "", "headers": {"content-type": kind},
        "requestContext": {"http": {"method": "POST", "path": "/"}, "authorizer": {"iam": {"accountId": "1"}}},
        "body": base64.b64encode(data).decode(), "isBase64Encoded": True, **changed,
    }  # fmt: skip


def answered(given: dict[str, Any]) -> tuple[int, Any]:
    found = door.handler(given)
    assert set(found) == {"statusCode", "headers", "body"}
    return found["statusCode"], json.loads(found["body"])


def test_it_says_what_the_lake_says(placed: Placed, tmp_path: Path) -> None:
    """Files that were not copied, or looks that are read from another place; a lake that is read whole."""
    data = images.near_copy(images.picture(5, 320, 240))
    status, said = answered(event(data))
    assert status == 200
    kept = {path.name for path in placed.cache.rglob("*")}
    assert "looks.bin" not in kept
    assert "vectors.bin" not in kept
    here = imagesieve.open(placed.here).check(data)
    assert said["near"][0]["relation"] == "resized brightness"
    for name in said:
        assert name in ("lake",) or said[name] == here[name], name
    status, by_uri = answered(event(json.dumps({"uri": f"s3://{BUCKET}/incoming/a.jpg"}).encode(), "application/json"))
    assert (status, by_uri["near"]) == (200, said["near"])
    tables = {seen.split("/photos/")[1].split("/")[0] for seen in placed.proxy.seen if seen.endswith(".parquet")}
    assert "features" not in tables, "the table of looks was read"
    assert "embeddings" not in tables


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"requestContext": {"http": {"method": "POST"}}}, 403),
        ({"requestContext": {"http": {"method": "POST"}, "authorizer": {}}}, 403),
        ({"requestContext": None}, 403),
        ({"requestContext": {"http": {"method": "GET"}, "authorizer": {"iam": {}}}}, 403),
        ({"requestContext": {"http": {"method": "GET"}, "authorizer": {"iam": {"accountId": "1"}}}}, 405),
        ({"body": "###"}, 400),
        ({"body": "A" * (9 << 20)}, 413),
    ],
)
def test_what_is_refused(placed: Placed, changed: dict[str, Any], status: int) -> None:
    found, said = answered(event(b"", **changed))
    assert found == status
    assert set(said) == {"detail"}


@pytest.mark.parametrize(
    ("uri", "status"),
    [
        ("file:///etc/passwd", 400),
        ("http://169.254.169.254/latest/", 400),
        (f"s3://{BUCKET}/secret/a.jpg", 403),
        (f"s3://{BUCKET}/incoming/../secret/a.jpg", 400),
        ("s3://elsewhere/incoming/a.jpg", 403),
    ],
)
def test_what_may_not_be_named(placed: Placed, uri: str, status: int) -> None:
    found, said = answered(event(json.dumps({"uri": uri}).encode(), "application/json"))
    assert (found, set(said)) == (status, {"detail"})


def test_bad_pictures(placed: Placed) -> None:
    for data, code in images.bad_files().values():
        status, said = answered(event(data))
        assert (status, said["error"]["code"]) == (200, code)


def test_no_room(placed: Placed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A /tmp that is filled to the brim, and half a folder that is taken for a whole one."""
    monkeypatch.setenv("IMAGESIEVE_CACHE", str(tmp_path))
    monkeypatch.setenv("IMAGESIEVE_DOOR_BYTES", "1000")
    status, said = answered(event(b"x"))
    assert status == 503
    assert "1,000" in said["detail"]
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_a_lake_that_is_not_prepared(placed: Placed, tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="--prepare"):
        prepared.opened(str(tmp_path), 1 << 30)


def test_what_the_image_holds(placed: Placed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that is converted at the start of each function."""
    (tmp_path / "baked").mkdir()
    (tmp_path / "baked" / "network").write_bytes(b"n")
    monkeypatch.setenv("IMAGESIEVE_BAKED", str(tmp_path / "baked"))
    monkeypatch.setenv("IMAGESIEVE_CACHE", str(tmp_path / "cache"))
    for _ in range(2):
        door._link_baked()
    assert (tmp_path / "cache" / "network").read_bytes() == b"n"


# --- the policy, simulated ---


def statements() -> list[dict[str, Any]]:
    found = []
    for policy in template("door.yaml")["Resources"]["Role"]["Properties"]["Policies"]:
        for one in policy.get("Fn::If", [policy]):
            if isinstance(one, dict) and "PolicyDocument" in one:
                found += plain(one["PolicyDocument"], VALUES)["Statement"]
    return found


def allows(action: str, resource: str, context: dict[str, str]) -> bool:
    """As IAM decides where nothing denies: https://docs.aws.amazon.com/IAM, "policy evaluation logic"."""
    for one in statements():
        actions, resources = (each if isinstance(each, list) else [each] for each in (one["Action"], one["Resource"]))
        conditions = one.get("Condition", {})
        assert set(conditions) <= {"StringLike"}
        if (
            one["Effect"] == "Allow"
            and any(fnmatch.fnmatchcase(action, each) for each in actions)
            and any(fnmatch.fnmatchcase(resource, each) for each in resources)
            and all(
                fnmatch.fnmatchcase(context.get(name, "\0"), pattern)
                for name, pattern in conditions.get("StringLike", {}).items()
            )
        ):
            return True
    return False


def asked_of_s3(seen: str) -> tuple[str, str, dict[str, str]]:
    """What IAM is asked for a request to S3 in the style of paths."""
    method, path = seen.split(" ", 1)
    place, _, query = path.partition("?")
    bucket, _, key = urllib.parse.unquote(place).lstrip("/").partition("/")
    if key:
        return {"GET": "s3:GetObject", "HEAD": "s3:GetObject"}.get(method, method), f"arn:aws:s3:::{bucket}/{key}", {}
    told = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
    context = {"s3:prefix": told["prefix"]} if "prefix" in told else {}
    return ("s3:ListBucket" if method == "GET" else method), f"arn:aws:s3:::{bucket}", context


def test_it_asks_for_what_its_policy_allows(placed: Placed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that is refused what it needs at its start, or that may do more than it ever does."""
    monkeypatch.setenv("IMAGESIEVE_CACHE", str(tmp_path / "cold"))
    pool.close()
    placed.proxy.seen.clear()
    assert answered(event(images.near_copy(images.picture(7, 320, 240))))[0] == 200
    uri = json.dumps({"uri": f"s3://{BUCKET}/incoming/a.jpg"}).encode()
    assert answered(event(uri, "application/json"))[0] == 200
    requests = {asked_of_s3(seen)[:2]: asked_of_s3(seen) for seen in placed.proxy.seen}
    assert len(requests) > 5
    for action, resource, context in map(asked_of_s3, placed.proxy.seen):
        assert allows(action, resource, context), (action, resource, context)
    used = {action for action, _ in requests}
    granted = {action for one in statements() for action in ([one["Action"]] if isinstance(one["Action"], str)
                                                             else one["Action"])}  # fmt: skip
    assert {action for action in granted if action.startswith("s3:")} == used


@pytest.mark.parametrize(
    ("action", "resource", "context"),
    [
        ("s3:PutObject", f"arn:aws:s3:::{BUCKET}/{PREFIX}/images/a", {}),
        ("s3:DeleteObject", f"arn:aws:s3:::{BUCKET}/{PREFIX}/images/a", {}),
        ("s3:GetObject", f"arn:aws:s3:::{BUCKET}/lakes/photos-of-others/a", {}),
        ("s3:GetObject", f"arn:aws:s3:::{BUCKET}/secret/a.jpg", {}),
        ("s3:ListBucket", f"arn:aws:s3:::{BUCKET}", {}),
        ("s3:ListBucket", f"arn:aws:s3:::{BUCKET}", {"s3:prefix": "secret/"}),
        ("s3:ListAllMyBuckets", "*", {}),
        ("logs:CreateLogGroup", "arn:aws:logs:us-east-1:123456789012:log-group:/aws/lambda/other", {}),
    ],
)
def test_its_policy_allows_no_more(action: str, resource: str, context: dict[str, str]) -> None:
    assert not allows(action, resource, context)


def test_the_url_is_not_open() -> None:
    """A URL without signatures, or a permission for everybody."""
    resources = template("door.yaml")["Resources"]
    assert resources["Url"]["Properties"]["AuthType"] == "AWS_IAM"
    assert not any(one["Type"] == "AWS::Lambda::Permission" for one in resources.values())
    for one in resources["Asking"]["Properties"]["PolicyDocument"]["Statement"]:
        assert one["Resource"] == {"Fn::GetAtt": ["Door", "Arn"]}
        assert one["Condition"]


def test_the_image_is_pinned_and_holds_what_is_imported() -> None:
    """An image whose packages change from build to build, or that begins with another function."""
    text = (ROOT / "emr" / "door" / "Dockerfile").read_text(encoding="utf-8")
    assert re.search(r"pip install [^\n]*--constraint /src/constraints\.txt", text)
    assert '"emr.door.handler.handler"' in text
    for copied in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        assert all((ROOT / name).exists() for name in copied.split())
