"""Sends the templates to a moto server by the real boto3 client, and uses what comes of them.

moto knows buckets, roles, profiles, policies, keys, topics, queues, EventBridge rules, dashboards, EMR's security
configurations and, given as one text, state machines; of those its answers are looked at. It skips in silence what
it does not know: the public access block, managed policies of roles, policies of buckets, queues and topics,
alarms, budgets, schedules, applications of EMR Serverless, Glue and Athena. Tables, the workgroup and alarms are
sent on their own here, with the properties of the template. Of policies it checks the form."""

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from jobs.tables import TABLES
from tests import s3_server
from tests.unit.test_templates import FOLDER, OUTPUTS, template

Client = Any
VALUES = {"AWS::Region": "us-east-1", "AWS::AccountId": "123456789012", "AWS::Partition": "aws",
          "AWS::StackName": "imagesieve"}  # fmt: skip


class Aws:
    """Clients of one moto server."""

    def __init__(self, server: s3_server.S3Server) -> None:
        import boto3

        self._server = server
        self._session = boto3.session.Session(
            aws_access_key_id="test", aws_secret_access_key="test", region_name=server.env["AWS_REGION"]
        )

    def client(self, service: str) -> Client:
        return self._session.client(service, endpoint_url=self._server.endpoint)

    def create(self, stack: str, file: str, capabilities: tuple[str, ...] = (), **parameters: str) -> dict[str, str]:
        """Creates a stack and returns its outputs."""
        cloudformation = self.client("cloudformation")
        cloudformation.create_stack(
            StackName=stack,
            TemplateBody=(FOLDER / file).read_text(encoding="utf-8"),
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            Capabilities=list(capabilities),
        )
        (described,) = cloudformation.describe_stacks(StackName=stack)["Stacks"]
        assert described["StackStatus"] == "CREATE_COMPLETE", described.get("StackStatusReason")
        return {one["OutputKey"]: one["OutputValue"] for one in described["Outputs"]}


@pytest.fixture(scope="module")
def aws() -> Iterator[Aws]:
    with s3_server.serve("unused") as server:
        yield Aws(server)


@pytest.fixture(scope="module")
def outputs(aws: Aws) -> dict[str, str]:
    """Of the stack, made with its default parameters."""
    return aws.create("imagesieve", "stack.yaml", ("CAPABILITY_IAM",), Subnets="subnet-1,subnet-2")


def test_the_stack_says_what_submit_asks_for(outputs: dict[str, str]) -> None:
    """An output that is empty or of another form than `imagesieve emr submit` reads."""
    assert set(outputs) >= OUTPUTS
    assert outputs["LogUri"] == f"s3://{outputs['Bucket']}/logs/"
    assert outputs["PackagePrefix"] == f"s3://{outputs['Bucket']}/packages"
    assert outputs["Subnets"] == "subnet-1,subnet-2"
    assert outputs["ServerlessRole"].startswith("arn:aws:iam::123456789012:role/")
    assert outputs["LakeBucket"] != outputs["Bucket"]
    assert "/" not in outputs["ServiceRole"] + outputs["InstanceProfile"]


def test_what_the_stack_made_is_there(aws: Aws, outputs: dict[str, str]) -> None:
    """A bucket in clear text, a role without its policies, and a security configuration that EMR cannot use."""
    s3 = aws.client("s3")
    for bucket in (outputs["Bucket"], outputs["LakeBucket"]):
        (rule,) = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
        assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    iam = aws.client("iam")
    assert iam.list_role_policies(RoleName=outputs["ServiceRole"])["PolicyNames"] == ["pass-nodes-role"]
    (nodes,) = iam.get_instance_profile(InstanceProfileName=outputs["InstanceProfile"])["InstanceProfile"]["Roles"]
    assert iam.list_role_policies(RoleName=nodes["RoleName"])["PolicyNames"] == ["emr-scripts"]
    found = aws.client("emr").describe_security_configuration(Name=outputs["SecurityConfiguration"])
    # moto hands it out as Python writes it, and AWS as JSON.
    (key,) = re.findall(r"arn:aws:kms:[^'\"]+", str(found["SecurityConfiguration"]))
    assert key in [one["KeyArn"] for one in aws.client("kms").list_keys()["Keys"]]
    rules = aws.client("events").list_rules()["Rules"]
    assert {json.loads(rule["EventPattern"])["detail-type"][0] for rule in rules} == {
        "EMR Step Status Change", "EMR Cluster State Change"
    }  # fmt: skip


def test_the_policy_fits(aws: Aws, outputs: dict[str, str]) -> None:
    """A managed policy of more than the 6,144 characters that IAM takes."""
    iam = aws.client("iam")
    policy = iam.get_policy(PolicyArn=outputs["SubmitterPolicy"])["Policy"]
    document = iam.get_policy_version(PolicyArn=policy["Arn"], VersionId=policy["DefaultVersionId"])["PolicyVersion"]
    text = json.dumps(document["Document"], separators=(",", ":"))
    assert "Fn::" not in text
    assert "${" not in text
    assert len(text) < 6144


def test_the_dashboard_is_json_that_shows_every_alarm(outputs: dict[str, str], aws: Aws) -> None:
    """A dashboard that CloudWatch refuses, or that looks for a metric under another name."""
    from jobs import metrics

    body = template("stack.yaml")["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    text = re.sub(r"\$\{([\w:]+)\}", lambda found: VALUES[found[1]], body)
    widgets = json.loads(text)["widgets"]
    alarms = {plain(one["Properties"]["AlarmName"]) for one in template("stack.yaml")["Resources"].values()
              if one["Type"] == "AWS::CloudWatch::Alarm"}  # fmt: skip
    assert {alarm.rpartition(":")[2] for alarm in widgets[0]["properties"]["alarms"]} == alarms
    answer = aws.client("cloudwatch").put_dashboard(DashboardName=outputs["DashboardName"], DashboardBody=text)
    assert not answer.get("DashboardValidationMessages")
    counts = {"in": 1, "failed": 0, "recall_at_k": 1, "pair_recall": 1}
    known = {name for name, _, _ in metrics.stage_metrics(counts, 1, 1)} | {"running_seconds"}
    searched = set(
        re.findall(r'MetricName="(\w+)"', "".join(json.dumps(widget) for widget in widgets).replace("\\", ""))
    )
    assert searched <= known
    assert {"images_per_second", "failures", "recall", "estimated_cost_usd"} <= searched


def test_existing_buckets_are_used(aws: Aws) -> None:
    """A bucket that is made although one was named."""
    buckets = {one["Name"] for one in aws.client("s3").list_buckets()["Buckets"]}
    found = aws.create(
        "second", "stack.yaml", ("CAPABILITY_IAM",), Subnets="subnet-1", ArtifactsBucket="mine", LakeBucket="ours",
        ImageBuckets="arn:aws:s3:::photos,arn:aws:s3:::scans",
    )  # fmt: skip
    assert (found["Bucket"], found["LakeBucket"]) == ("mine", "ours")
    assert {one["Name"] for one in aws.client("s3").list_buckets()["Buckets"]} == buckets
    iam = aws.client("iam")
    for policy in iam.list_policies(Scope="Local")["Policies"]:
        document = iam.get_policy_version(PolicyArn=policy["Arn"], VersionId="v1")["PolicyVersion"]["Document"]
        by_sid = {one.get("Sid"): one["Resource"] for one in document["Statement"]}
        if "ReadImages" in by_sid:
            assert by_sid["ReadImages"] == ["arn:aws:s3:::photos/*", "arn:aws:s3:::scans/*"]
            assert by_sid["ListImages"] == ["arn:aws:s3:::photos", "arn:aws:s3:::scans"]
            return
    pytest.fail("no policy reads the images")


def test_alarms(aws: Aws) -> None:
    """An alarm that CloudWatch refuses, and one that looks at a metric which no stage publishes."""
    from jobs import metrics
    from jobs.live import figures

    cloudwatch = aws.client("cloudwatch")
    published = {name for name, _, _ in metrics.stage_metrics({"in": 1, "failed": 0}, 1, 1)} | {"running_seconds"}
    published |= {*figures.COUNTERS, *figures.GAUGES}
    alarms = {}
    for name in ("stack.yaml", "pipeline.yaml", "watch.yaml"):
        for logical, resource in template(name)["Resources"].items():
            if resource["Type"] == "AWS::CloudWatch::Alarm":
                alarms[logical] = plain(resource["Properties"])
    assert set(alarms) == {
        "FailedStages", "FailedShare", "RunsTooLong", "CostsTooMuch", "PipelineFailed", "EventsUnread", "EventsTooOld",
        "BatchesRefused",
    }  # fmt: skip
    for logical, properties in alarms.items():
        cloudwatch.put_metric_alarm(**{"AlarmName": logical, **properties})
        assert properties["AlarmActions"]
        for one in [properties, *[metric["MetricStat"]["Metric"] for metric in properties.get("Metrics", [])
                                  if "MetricStat" in metric]]:  # fmt: skip
            if one.get("Namespace") == "imagesieve":
                assert one["MetricName"] in published
    assert len(cloudwatch.describe_alarms()["MetricAlarms"]) == len(alarms)


def test_the_pipeline(aws: Aws, outputs: dict[str, str]) -> None:
    """Roles, queues and imports of the second stack; its state machine as Step Functions takes it."""
    aws.create("imagesieve-pipeline", "pipeline.yaml", ("CAPABILITY_IAM",), Version="0.1.0")
    properties = template("pipeline.yaml")["Resources"]["Pipeline"]["Properties"]
    definition = re.sub(r"\$\{\w+\}", "1", json.dumps(properties["Definition"]))
    states = aws.client("stepfunctions")
    made = states.create_state_machine(name="pipeline", definition=definition, roleArn=outputs["ServerlessRole"])
    assert json.loads(states.describe_state_machine(stateMachineArn=made["stateMachineArn"])["definition"])


def test_the_watch(aws: Aws, outputs: dict[str, str]) -> None:
    """Queues, roles and the log group of the third stack; its state machine as Step Functions takes it."""
    ec2 = aws.client("ec2")
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    subnets = ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["Subnets"]
    for events in ("s3", "eventbridge"):
        found = aws.create(
            f"watch-{events}", "watch.yaml", ("CAPABILITY_IAM",), Tag="0.1.0", LakePrefix="lakes/photos", Events=events,
            ImagesBucket="photos", Vpc=vpc, Subnets=subnets[0]["SubnetId"],
        )  # fmt: skip
        attributes = aws.client("sqs").get_queue_attributes(QueueUrl=found["Queue"], AttributeNames=["All"])[
            "Attributes"
        ]
        assert json.loads(attributes["RedrivePolicy"])["maxReceiveCount"] == 10
        assert attributes["VisibilityTimeout"] == "300"
    definition = template("watch.yaml")["Resources"]["Weekly"]["Properties"]["Definition"]
    text = re.sub(r"\$\{\w+\}", "1", json.dumps(definition))
    states = aws.client("stepfunctions")
    made = states.create_state_machine(name="weekly", definition=text, roleArn=outputs["ServerlessRole"])
    assert json.loads(states.describe_state_machine(stateMachineArn=made["stateMachineArn"])["definition"])


def test_tables(aws: Aws) -> None:
    """A table that Glue refuses, or that points elsewhere than the lake."""
    glue = aws.client("glue")
    glue.create_database(DatabaseInput={"Name": "imagesieve"})
    values = {"Bucket": "lakes", "Prefix": "photos/2026"}
    for resource in template("tables.yaml")["Resources"].values():
        if resource["Type"] == "AWS::Glue::Table":
            table = plain(resource["Properties"]["TableInput"], values)
            glue.create_table(DatabaseName="imagesieve", TableInput=table)
    found = {one["Name"]: one for one in glue.get_tables(DatabaseName="imagesieve")["TableList"]}
    assert set(found) == set(TABLES)
    for name, table in found.items():
        descriptor = table["StorageDescriptor"]
        assert descriptor["Location"] == f"s3://lakes/photos/2026/{name}"
        assert descriptor["SerdeInfo"]["Parameters"]["path"] == table["Parameters"]["path"] == descriptor["Location"]
        assert [one["Name"] for one in descriptor["Columns"]] == TABLES[name].schema.names


def test_the_workgroup(aws: Aws) -> None:
    """A workgroup without a limit."""
    athena = aws.client("athena")
    given = plain(template("tables.yaml")["Resources"]["Workgroup"]["Properties"])
    configuration = {**given["WorkGroupConfiguration"], "BytesScannedCutoffPerQuery": 10_000_000_000}
    athena.create_work_group(Name="imagesieve", Configuration=configuration)
    found = athena.get_work_group(WorkGroup="imagesieve")["WorkGroup"]["Configuration"]
    assert found["BytesScannedCutoffPerQuery"] == 10_000_000_000
    assert found["EnforceWorkGroupConfiguration"]


def plain(value: Any, values: dict[str, str] | None = None) -> Any:
    """A property without functions: texts with their names filled in, numbers where a parameter stands."""
    value = copy.deepcopy(value)
    if isinstance(value, list):
        return [plain(one, values) for one in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"Ref"}:
        return 1 if value["Ref"].startswith(("Max", "Daily")) else value["Ref"]
    if set(value) == {"Fn::Sub"}:
        text = value["Fn::Sub"]
        text = text[0] if isinstance(text, list) else text
        known = {**VALUES, **(values or {})}
        return re.sub(r"\$\{([\w:]+)\}", lambda found: known.get(found[1], "x"), text)
    if len(value) == 1 and next(iter(value)).startswith("Fn::"):
        return "x"
    return {key: plain(one, values) for key, one in value.items()}
