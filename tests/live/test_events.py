"""Catches messages that are understood wrongly: another object, an object less, or one where there is none."""

import json
from typing import Any

import pytest

from jobs.live.sources import events, wanted
from jobs.live.sources.events import NotAnEventError, Told

BUCKET = {"name": "photos", "ownerIdentity": {"principalId": "A3"}, "arn": "arn:aws:s3:::photos"}


def record(name: str, key: Any = "a.jpg", **of_object: Any) -> dict[str, Any]:
    """As S3 sends one, by its documentation."""
    return {
        "eventVersion": "2.3", "eventSource": "aws:s3", "awsRegion": "eu-west-1", "eventName": name,
        "eventTime": "2026-05-04T03:02:01.000Z", "userIdentity": {"principalId": "AWS:AIDA"},
        "requestParameters": {"sourceIPAddress": "127.0.0.1"},
        "responseElements": {"x-amz-request-id": "C3", "x-amz-id-2": "Fk"},
        "s3": {"s3SchemaVersion": "1.0", "configurationId": "all", "bucket": BUCKET,
               "object": {"key": key, "sequencer": "0055AED6DCD90281E5", **of_object}},
    }  # fmt: skip


def direct(*records: Any) -> str:
    return json.dumps({"Records": records})


def bridged(kind: str, key: str, **detail: Any) -> str:
    """As EventBridge sends one."""
    return json.dumps({
        "version": "0", "id": "17793124-05d4", "detail-type": kind, "source": "aws.s3", "account": "111122223333",
        "time": "2026-11-12T00:00:00Z", "region": "ca-central-1", "resources": ["arn:aws:s3:::photos"],
        "detail": {"version": "0", "bucket": {"name": "photos"}, "object": {"key": key, "size": 5, "etag": "b1946",
                   "version-id": "IYV3p", "sequencer": "00617F08299329D189"}, "request-id": "N4N7", **detail},
    })  # fmt: skip


def enveloped(message: Any) -> str:
    """As SNS sends one where raw delivery is off."""
    return json.dumps({
        "Type": "Notification", "MessageId": "22b80b92", "TopicArn": "arn:aws:sns:us-west-2:123456789012:t",
        "Subject": "Amazon S3 Notification", "Message": message, "Timestamp": "2026-05-02T00:54:06.655Z",
        "SignatureVersion": "1", "Signature": "EXAMPLE", "SigningCertURL": "https://sns", "UnsubscribeURL": "https://sns",
    })  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "ObjectCreated:Put", "ObjectCreated:Post", "ObjectCreated:Copy", "ObjectCreated:CompleteMultipartUpload",
        "s3:ObjectCreated:Put", "ObjectRemoved:Delete", "ObjectRemoved:DeleteMarkerCreated",
        "LifecycleExpiration:Delete", "LifecycleExpiration:DeleteMarkerCreated",
    ],
)  # fmt: skip
def test_what_changes_bytes(name: str) -> None:
    assert events.read(direct(record(name, size=1, eTag="d4", versionId="09"))) == Told(("s3://photos/a.jpg",))


@pytest.mark.parametrize(
    "name",
    ["ObjectTagging:Put", "ObjectAcl:Put", "ObjectRestore:Completed", "LifecycleTransition", "IntelligentTiering",
     "Replication:OperationFailedReplication", "ReducedRedundancyLostObject", "ObjectAnnotated:New"],
)  # fmt: skip
def test_what_does_not(name: str) -> None:
    """Poison made of what a bucket may well send, too."""
    assert events.read(direct(record(name))) == Told((), 1)


@pytest.mark.parametrize(
    ("key", "uri"),
    [
        ("a+b.jpg", "a b.jpg"),
        ("a%2Bb%20c.jpg", "a+b c.jpg"),
        ("2026/%C3%A4%E2%82%AC.jpg", "2026/ä€.jpg"),
        ("%2541.jpg", "%41.jpg"),  # decoded once
        ("../a/./b//c.jpg", "../a/./b//c.jpg"),  # a key is no path
        ("a%0Ab.jpg", "a\nb.jpg"),
        ("%F0%9F%93%B7.jpg", "📷.jpg"),
    ],
)
def test_keys_are_decoded_once(key: str, uri: str) -> None:
    assert events.read(direct(record("ObjectCreated:Put", key))).uris == (f"s3://photos/{uri}",)


def test_the_key_of_eventbridge_is_as_it_is() -> None:
    for kind in ("Object Created", "Object Deleted"):
        told = events.read(bridged(kind, "a+b %41.jpg", reason="PutObject"))
        assert told == Told(("s3://photos/a+b %41.jpg",))
    assert events.read(bridged("Object Tags Added", "a.jpg")) == Told((), 1)


def test_sns() -> None:
    """An envelope, one with an event of EventBridge, one in another, and a raw delivery, which has none."""
    inner = direct(record("ObjectCreated:Put", "x%2By.jpg"))
    for body in (inner, enveloped(inner), enveloped(enveloped(inner))):
        assert events.read(body) == Told(("s3://photos/x+y.jpg",))
    assert events.read(enveloped(bridged("Object Created", "x+y.jpg"))) == Told(("s3://photos/x+y.jpg",))
    with pytest.raises(NotAnEventError, match="SNS in one of SNS"):
        events.read(enveloped(enveloped(enveloped(inner))))


def test_the_test_event() -> None:
    test = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2026-10-19T17:39:29.193Z", "Bucket": "photos",
            "RequestId": "3B", "HostId": "u1"}  # fmt: skip
    assert events.read(json.dumps(test)) == Told((), 1)
    assert events.read(enveloped(json.dumps(test))) == Told((), 1)


def test_several_records() -> None:
    """An object twice, and one event of something else among them."""
    created, removed = "ObjectCreated:Put", "ObjectRemoved:Delete"
    body = direct(
        record(created, "b.jpg"), record("ObjectTagging:Put"), record(created, "a.jpg"), record(removed, "b.jpg")
    )
    assert events.read(body) == Told(("s3://photos/b.jpg", "s3://photos/a.jpg"), 1)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("", "not JSON"),
        ("hello", "not JSON"),
        ("[" * 100_000, "not JSON"),  # deeper than any parser goes
        ('{"a":' * 100_000, "not JSON"),
        ("9" * 5000, "not JSON"),  # a number that Python does not read
        ("[]", "the message is no object"),
        ("null", "the message is no object"),
        ("{}", "no event of S3"),
        (json.dumps({"Records": []}), "no list of events"),
        (json.dumps({"Records": {}}), "no list of events"),
        (json.dumps({"Records": ["x"]}), "a record is no object"),
        (json.dumps({"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put"}]}), "s3 is no object"),
        (json.dumps({"Records": [{"eventSource": "aws:ses", "eventName": "ObjectCreated:Put"}]}), "no event of S3"),
        (json.dumps({"Records": [{"eventSource": "aws:s3", "eventName": 7}]}), "no event of S3"),
        (direct(record("ObjectCreated:Put", "")), "no key"),
        (direct(record("ObjectCreated:Put", None)), "no key"),
        (direct(record("ObjectCreated:Put", ["a"])), "no key"),
        (direct(record("ObjectCreated:Put", "a%00.jpg")), "no key"),
        (direct(record("ObjectCreated:Put", "%ff.jpg")), "not UTF-8"),
        (direct(record("ObjectCreated:Put", "\ud800.jpg")), "not UTF-8"),
        (direct(record("ObjectCreated:Put", "a" * 1025)), "1025 bytes"),
        (bridged("Object Created", "\ud800.jpg"), "not UTF-8"),
        (json.dumps({"detail-type": "Object Created", "source": "mine", "detail": {}}), "not of aws.s3"),
        (json.dumps({"detail-type": "Object Created", "source": "aws.s3"}), "detail is no object"),
        (json.dumps({"detail-type": ["Object Created"], "source": "aws.s3"}), "not of aws.s3"),
        (json.dumps({"Type": "SubscriptionConfirmation", "Token": "secret", "Message": "x"}), "seen to by a person"),
        (enveloped(7), "no text"),
        (enveloped("x"), "not JSON"),
        ("x" * (events.MAX_BYTES + 1), "more than"),
    ],
)
def test_poison(body: str, why: str) -> None:
    """A message that ends the watch, or one whose reason is more than a short line that gives nothing away."""
    with pytest.raises(NotAnEventError, match=why) as caught:
        events.read(body)
    reason = str(caught.value)
    assert len(reason) <= 250
    assert reason.isascii() or "…" in reason
    assert "\n" not in reason
    assert "secret" not in reason


@pytest.mark.parametrize("bucket", ["", None, "a/b", "a b", "..\n", "x" * 300])
def test_a_bucket_is_a_name(bucket: Any) -> None:
    """A slash in it would make another object's URI of it."""
    event = record("ObjectCreated:Put")
    event["s3"]["bucket"] = {"name": bucket}
    with pytest.raises(NotAnEventError, match="no name of a bucket"):
        events.read(direct(event))


def test_what_is_wanted() -> None:
    """What a listing of the inputs would not take, and what it would."""
    what = wanted.Wanted(
        ("s3://photos/2026/", "s3://more/"), frozenset({"jpg"}), frozenset({"tar"}), ("s3://photos/2026/lake/",)
    )
    for taken in ("photos/2026/a.jpg", "photos/2026/a/B.JPG", "more/x.jpg", "more/../x.jpg", "more//x.jpg"):
        assert what.why_not(f"s3://{taken}") == "", taken
    for elsewhere in ("photos/2025/a.jpg", "photos/2026x/a.jpg", "other/a.jpg", "photos/2026/lake/a.jpg"):
        assert what.why_not(f"s3://{elsewhere}") == wanted.ELSEWHERE, elsewhere
    for no_image in ("a.txt", "jpg", ".a.jpg", ".b/a.jpg", "a.jpg/", "a.jpg.part", "r/thumbs/1-0123456789ab.webp", ""):
        assert what.why_not(f"s3://more/{no_image}") == wanted.NO_IMAGE, no_image
    assert what.why_not("s3://more/a.tar") == wanted.SHARD
