"""Reads every policy in the templates: no wildcard in an action, "*" as a resource only where AWS offers no other."""

import re
from collections.abc import Iterator
from typing import Any

import botocore.session
import pytest
from botocore import xform_name

from tests.unit.test_templates import ROOT, TEMPLATES, template

# Actions that cannot be bound to a resource, and what binds them instead. By the Service Authorization Reference.
ONLY_STAR = {
    "cloudwatch:PutMetricData": "has no resources; the namespace is a condition",
    "elasticmapreduce:RunJobFlow": "the cluster is not there yet; the tag is a condition",
    "elasticmapreduce:ListClusters": "lists; has no resources",
    "elasticmapreduce:DescribeReleaseLabel": "describes a release; has no resources",
    "elasticmapreduce:DescribeSecurityConfiguration": "security configurations are no resources of IAM",
    "ecr:GetAuthorizationToken": "of the whole registry; has no resources",
    "ec2:DescribeInstanceTypes": "EC2 binds no Describe call",
    "ec2:DescribeInstanceTypeOfferings": "EC2 binds no Describe call",
    "ec2:DescribeSpotPriceHistory": "EC2 binds no Describe call",
    "ec2:DescribeSubnets": "EC2 binds no Describe call",
}
# Of them those that need a condition in its place.
BOUND = {"cloudwatch:PutMetricData": "cloudwatch:namespace", "elasticmapreduce:RunJobFlow": "aws:RequestTag/imagesieve"}
# AWS's own policies, which no test here can read.
MANAGED = {"AmazonEMRServicePolicy_v2": "AWS keeps it up to date with EMR; it is bound to what carries a tag"}
# Types whose `Resource: "*"` means the resource that the policy is attached to.
OF_ITSELF = ("AWS::KMS::Key",)

Statement = tuple[str, str, str, dict[str, Any]]  # file, logical name, type, statement


def statements() -> Iterator[Statement]:
    """All statements of all policies: of roles, of who may take them, of buckets, queues, topics and keys."""
    for path in TEMPLATES:
        for name, resource in template(path.name)["Resources"].items():
            for document in documents(resource["Properties"]):
                for statement in document["Statement"]:
                    yield path.name, name, resource["Type"], statement


def documents(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping with a Statement, however deep."""
    if isinstance(value, dict):
        if "Statement" in value:
            yield value
        for inner in value.values():
            yield from documents(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from documents(inner)


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def allowed() -> list[Statement]:
    return [one for one in statements() if one[3]["Effect"] == "Allow"]


def shown(one: Statement) -> str:
    return f"{one[0]}:{one[1]}:{one[3].get('Sid', '')}"


@pytest.mark.parametrize("one", allowed(), ids=shown)
def test_a_statement_gives_no_more_than_it_says(one: Statement) -> None:
    """An action or a resource of a wildcard, and a statement that allows all but some."""
    _, _, kind, statement = one
    assert not {"NotAction", "NotResource", "NotPrincipal"} & set(statement)
    for action in listed(statement["Action"]):
        assert "*" not in action
        assert "?" not in action
        for resource in listed(statement.get("Resource", [])):
            if resource != "*" or kind in OF_ITSELF:
                continue
            assert action in ONLY_STAR, f"{action} on * (is there a resource for it?)"
            if action in BOUND:
                assert any(BOUND[action] in condition for condition in statement["Condition"].values())


@pytest.mark.parametrize("one", allowed(), ids=shown)
def test_a_resource_names_its_service_and_account(one: Statement) -> None:
    """arn:aws:s3:::* and its like: a wildcard stands only behind a name."""
    for resource in listed(one[3].get("Resource", [])):
        text = resource.get("Fn::Sub") if isinstance(resource, dict) else None
        text = text[0] if isinstance(text, list) else text
        if text is None or text.startswith("${"):
            continue
        service, region, account, name = text.split(":", 5)[2:]
        assert "*" not in service + region + account
        assert not name.startswith("*")


@pytest.mark.parametrize("one", allowed(), ids=shown)
def test_nobody_else_is_let_in(one: Statement) -> None:
    """A role or a queue that anybody can use, and one that a service of another account can ("confused deputy")."""
    _, _, _, statement = one
    principal = statement.get("Principal")
    if principal is None:
        return
    assert principal != "*"
    assert principal.get("AWS") != "*"
    if "Service" in principal and principal["Service"] != "ec2.amazonaws.com":  # an instance profile has no source
        conditions = {key for condition in statement["Condition"].values() for key in condition}
        assert "aws:SourceAccount" in conditions


def test_roles_are_passed_to_named_services_only() -> None:
    """A role that the one who submits can give to a service of his choice."""
    passing = [one[3] for one in allowed() if "iam:PassRole" in listed(one[3]["Action"])]
    assert len(passing) == 3
    for statement in passing:
        assert listed(statement["Action"]) == ["iam:PassRole"]
        assert "*" not in str(statement["Resource"])
        assert "iam:PassedToService" in statement["Condition"]["StringEquals"]


def test_the_list_of_stars_is_used() -> None:
    """A reason that has outlived its action."""
    used = {action for one in allowed() if "*" in listed(one[3].get("Resource")) and one[2] not in OF_ITSELF
            for action in listed(one[3]["Action"])}  # fmt: skip
    assert used == set(ONLY_STAR)


def test_managed_policies_are_known() -> None:
    """A policy of AWS's own with more rights than are needed."""
    found = set()
    for path in TEMPLATES:
        for resource in template(path.name)["Resources"].values():
            for policy in resource["Properties"].get("ManagedPolicyArns", []):
                if "Fn::Sub" in policy:
                    found.add(policy["Fn::Sub"].rpartition("/")[2])
                else:
                    assert set(policy) <= {"Ref", "Fn::If"}
    assert found == set(MANAGED)


def test_runs_on_both_kinds_of_machine_may_do_the_same() -> None:
    """A lake that EMR on EC2 can write and EMR Serverless cannot, or one role with more than it needs."""
    resources = template("stack.yaml")["Resources"]
    (first, images), *others = [
        resources[role]["Properties"]["ManagedPolicyArns"] for role in ("NodesRole", "ServerlessRole")
    ]
    assert first == {"Ref": "RunPolicy"}
    assert images == {"Fn::If": ["ReadsImages", {"Ref": "ImagesPolicy"}, {"Ref": "AWS::NoValue"}]}
    assert others == [[first, images]]


def test_who_submits_may_call_what_submit_calls() -> None:
    """A call that was added to the code: whoever has just the policy would be refused."""
    services = {"emr": "elasticmapreduce", "emr-serverless": "emr-serverless", "ec2": "ec2", "iam": "iam",
                "service-quotas": "servicequotas", "cloudformation": "cloudformation"}  # fmt: skip
    session = botocore.session.get_session()
    actions = {
        xform_name(operation): f"{prefix}:{operation}"
        for service, prefix in services.items()
        for operation in session.get_service_model(service).operation_names
    }
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "emr").glob("*.py"))
    called = set(re.findall(r"\.([a-z_]+)\(", text)) | set(re.findall(r"""get_paginator\("([a-z_]+)"\)""", text))
    needed = {actions[name] for name in called & set(actions)}
    assert "elasticmapreduce:RunJobFlow" in needed
    policy = template("stack.yaml")["Resources"]["SubmitterPolicy"]["Properties"]["PolicyDocument"]
    given = {action for statement in policy["Statement"] for action in listed(statement["Action"])}
    assert needed <= given
