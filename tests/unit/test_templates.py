"""Catches templates that CloudFormation would refuse, tables that differ from the code, and a state machine that asks
for other things than `imagesieve emr submit`."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonata
import pytest
import yaml
from pyspark.sql.types import DateType, LongType, StructField, StructType

from emr import glue, plan, serverless
from emr.costs import hardware
from emr.packages import manifest
from jobs import config, pipeline
from jobs.command import parser
from jobs.tables import TABLES

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "emr" / "cloudformation"
TEMPLATES = sorted(FOLDER.glob("*.yaml"))
# What `imagesieve emr submit` looks for.
OUTPUTS = {"Bucket", "LogUri", "ServiceRole", "InstanceProfile", "ServerlessRole", "Subnets", "SecurityConfiguration",
           "PackagePrefix", "DashboardName"}  # fmt: skip
STAGES = list(pipeline.NAMES)


class Loader(yaml.SafeLoader):
    """Reads `!Ref x` as {"Ref": "x"}, and likewise the others."""


def _function(loader: Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt":
        value = value.split(".", 1)
    return {"Ref" if suffix == "Ref" else "Condition" if suffix == "Condition" else f"Fn::{suffix}": value}


Loader.add_multi_constructor("!", _function)


def template(name: str) -> dict[str, Any]:
    """A template as CloudFormation reads it."""
    loaded: dict[str, Any] = yaml.load((FOLDER / name).read_text(encoding="utf-8"), Loader)
    return loaded


def definition() -> dict[str, Any]:
    """The state machine."""
    found: dict[str, Any] = template("pipeline.yaml")["Resources"]["Pipeline"]["Properties"]["Definition"]
    return found


def stages_of(execution: dict[str, Any]) -> list[dict[str, Any]]:
    """What the state machine makes of its input: (name, arguments) of each job run."""
    text = definition()["States"]["Stages"]["Output"]
    found = jsonata.Jsonata(text.removeprefix("{%").removesuffix("%}"))
    found.assign("states", {"input": execution})
    return list(found.evaluate(None)["stages"])


def test_cfn_lint_passes() -> None:
    """A misspelt key, a missing one, a wrong value, an unused parameter."""
    linter = str(Path(sys.executable).with_name("cfn-lint"))
    command = [linter, "--non-zero-exit-code", "informational", "--", *map(str, TEMPLATES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_outputs() -> None:
    """A stack in which `imagesieve emr submit` finds no bucket or role."""
    assert set(template("stack.yaml")["Outputs"]) >= OUTPUTS


def test_what_is_imported_is_exported() -> None:
    """A stack that waits for an export that the other one does not have."""
    outputs = template("stack.yaml")["Outputs"].values()
    exported = {one["Export"]["Name"]["Fn::Sub"].partition("-")[2] for one in outputs if "Export" in one}
    imported = {
        name
        for path in TEMPLATES
        for name in re.findall(r"ImportValue\W+(?:Fn::)?!?Sub\W+\$\{Stack\}-(\w+)", path.read_text(encoding="utf-8"))
    }
    assert imported == exported
    assert imported == {"Bucket", "LakeBucket", "ServerlessRole", "Topic"}


def test_buckets_are_closed() -> None:
    """A bucket that is open, in clear text, deleted with the stack, or that keeps what nobody needs for ever."""
    resources = template("stack.yaml")["Resources"]
    buckets = {name: one for name, one in resources.items() if one["Type"] == "AWS::S3::Bucket"}
    policies = [one["Properties"] for one in resources.values() if one["Type"] == "AWS::S3::BucketPolicy"]
    assert len(buckets) == 2
    for name, bucket in buckets.items():
        properties = bucket["Properties"]
        assert "BucketEncryption" in properties
        assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
        assert bucket["DeletionPolicy"] == bucket["UpdateReplacePolicy"] == "Retain"
        assert any("AbortIncompleteMultipartUpload" in rule for rule in properties["LifecycleConfiguration"]["Rules"])
        (policy,) = [one for one in policies if one["Bucket"] == {"Ref": name}]
        (statement,) = policy["PolicyDocument"]["Statement"]
        assert (statement["Effect"], statement["Action"]) == ("Deny", "s3:*")
        assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_the_queue_takes_events_of_one_bucket_only() -> None:
    """Anybody's bucket, or rule, that can fill the queue."""
    resources = template("watch.yaml")["Resources"]
    for policy, condition, service in (("BucketPolicy", "ByS3", "s3"), ("RulePolicy", "ByEventBridge", "events")):
        assert resources[policy]["Condition"] == condition
        allow, deny = resources[policy]["Properties"]["PolicyDocument"]["Statement"]
        assert allow["Principal"] == {"Service": f"{service}.amazonaws.com"}
        assert set(allow["Condition"]) == {"ArnEquals", "StringEquals"}
        assert deny["Effect"] == "Deny"
    redrive = resources["Queue"]["Properties"]["RedrivePolicy"]
    assert redrive["deadLetterTargetArn"] == {"Fn::GetAtt": ["DeadLetters", "Arn"]}
    assert redrive["maxReceiveCount"] > 1


def test_the_weekly_run_is_that_of_the_pipeline() -> None:
    """An import without an export, and an input that the state machine of pipeline.yaml does not read."""
    text = (FOLDER / "watch.yaml").read_text(encoding="utf-8")
    exports = {
        one["Export"]["Name"]["Fn::Sub"].partition("-")[2]
        for one in template("pipeline.yaml")["Outputs"].values()
        if "Export" in one
    }
    assert set(re.findall(r"\$\{Pipeline\}-(\w+)", text)) == exports == {"Pipeline", "PipelineName"}
    resources = template("watch.yaml")["Resources"]
    told = resources["WeeklyRun"]["Properties"]["Target"]["Input"]["Fn::Sub"][0]
    given = json.loads(re.sub(r"\$\{\w+\}", "x", told))
    assert [stage["name"] for stage in stages_of(given)] == STAGES
    machine = resources["Weekly"]["Properties"]
    assert set(re.findall(r"\$\{(\w+)\}", json.dumps(machine["Definition"]))) == set(machine["DefinitionSubstitutions"])
    states = machine["Definition"]["States"]
    # Whatever happens, the service is started again: every state but those at the end leads to Start.
    after = {name: state.get("Next", state.get("Default")) for name, state in states.items()}
    assert [after[name] for name in ("Stop", "Wait", "Look", "Stands", "Run", "Start")] == [
        "Wait", "Look", "Stands", "Wait", "Start", "Ended",
    ]  # fmt: skip
    for name in ("Look", "Run"):
        (caught,) = states[name]["Catch"]
        assert (caught["ErrorEquals"], caught["Assign"], caught["Next"]) == (["States.ALL"], {"failed": True}, "Start")
    assert states["Start"]["Arguments"]["DesiredCount"] == resources["Service"]["Properties"]["DesiredCount"] == 1


def test_the_container_is_called_as_the_command_line_takes_it() -> None:
    """An option that `imagesieve watch` does not know, and a check at a port where nobody answers."""
    from jobs.live import command

    (container,) = template("watch.yaml")["Resources"]["Task"]["Properties"]["ContainerDefinitions"]
    dockerfile = (ROOT / "emr/container/Dockerfile").read_text(encoding="utf-8")
    (entry,) = re.findall(r"^ENTRYPOINT (.*)$", dockerfile, re.MULTILINE)
    texts = [one if isinstance(one, str) else one["Fn::Sub"] for one in container["Command"]]
    texts = [text if isinstance(text, str) else text[0] for text in texts]
    filled = [text.replace("${Every}", "60s").replace("${AtLeast}", "1000") for text in texts]
    program, name, *options = json.loads(entry)
    given = command.parser().parse_args([*options, *(re.sub(r"\$\{\w+\}", "x", text) for text in filled)])
    assert (program, name, given.health, given.lake, given.queue) == ("imagesieve", "watch", 8080, "s3://x/x", "x")
    assert config.load((), given.overrides).metrics.namespace == "imagesieve"
    check = container["HealthCheck"]["Command"]
    assert "127.0.0.1:8080/live" in check[-1]
    assert check[-1] in dockerfile
    assert container["User"] in dockerfile
    assert container["ReadonlyRootFilesystem"]


def test_tables_are_those_of_the_code() -> None:
    """A table or a column that was added to the code but not to Glue: run `python -m emr.glue` again."""
    assert (FOLDER / "tables.yaml").read_text(encoding="utf-8") == glue.text()


def test_glue_knows_every_table_and_column() -> None:
    """A generator that leaves one out, or gives it a type that Athena does not know."""
    found = {}
    for resource in glue.template()["Resources"].values():
        if resource["Type"] == "AWS::Glue::Table":
            table = resource["Properties"]["TableInput"]
            found[table["Name"]] = {one["Name"]: one["Type"] for one in table["StorageDescriptor"]["Columns"]}
            assert table["Parameters"]["table_type"] == "DELTA"
            assert table["Parameters"]["spark.sql.sources.provider"] == "delta"
    assert {name: set(columns) for name, columns in found.items()} == {
        name: set(table.schema.names) for name, table in TABLES.items()
    }
    assert found["embeddings"]["vector"] == "array<float>"
    assert found["topic_summaries"]["concepts"] == "array<struct<name:string,images:bigint>>"
    assert found["features"]["thumbnail"] == "binary"
    assert found["images"]["modified_at"] == "timestamp"
    assert glue.glue_type(StructType([StructField("a", LongType())])) == "struct<a:bigint>"
    with pytest.raises(ValueError, match="date"):
        glue.glue_type(DateType())


@pytest.mark.parametrize("answers", [None, "s3://b/health/answers.json"])
@pytest.mark.parametrize("inputs", ["s3://b/im ages", ["s3://b/one", "s3://b/two"]])
def test_the_state_machine_runs_every_stage_in_order(inputs: str | list[str], answers: str | None) -> None:
    """A stage that is left out or called with arguments that the command line refuses, and a check of no answers."""
    given = {"inputs": inputs, "lake": "s3://b/lakes/a b"} | ({"answers": answers} if answers else {})
    found = [(stage["name"], list(stage["arguments"])) for stage in stages_of(given)]
    assert [name for name, _ in found] == STAGES + (["health"] if answers else [])
    for name, arguments in found:
        if name == "health":
            assert arguments == ["emr", "health", "--check=s3://b/lakes/a b", f"--answers={answers}"]
            continue
        parsed = parser().parse_args([one.replace("${UsdPerHour}", "1.5") for one in arguments])
        assert parsed.command == name
        assert parsed.lake == "s3://b/lakes/a b"
        assert config.load((), parsed.overrides).metrics == config.Metrics("imagesieve", 1.5)
        if name == "catalog":
            assert parsed.inputs == ([inputs] if isinstance(inputs, str) else inputs)


def test_the_state_machine_runs_one_stage_at_a_time_and_tells_of_failures() -> None:
    """Stages that run before their tables are there, no second try, and a failure that nobody hears of."""
    run = definition()["States"]["Run"]
    assert run["MaxConcurrency"] == 1
    stage = run["ItemProcessor"]["States"]["Stage"]
    assert stage["Resource"].endswith(":emr-serverless:startJobRun.sync")
    (retry,) = stage["Retry"]
    assert retry["IntervalSeconds"] > 1.5 * config.load().lease.ttl_s  # the lease of a dead driver
    assert retry["BackoffRate"] > 1
    (caught,) = run["Catch"]
    assert definition()["States"][caught["Next"]]["Resource"].endswith(":sns:publish")


def test_the_job_run_is_the_one_of_submit() -> None:
    """Settings that were changed for `imagesieve emr submit` but not here."""
    loaded = hardware.load()
    files = {name: manifest.File("0" * 64, 1) for name in ("imagesieve.zip", "entry.py")}
    archives = manifest.Environment("4.0", "environment-cpu-spark4.0.tar.gz", "models-cpu.tar.gz",
                                    "graphframes-spark4.0.jar")  # fmt: skip
    files |= dict.fromkeys((archives.file, archives.models, archives.graphframes), manifest.File("0" * 64, 1))
    package = manifest.Package("${Package}", "0.1.0", "3.11", files, {"cpu": archives})
    wanted = plan.Plan(
        kind=loaded.kinds["serverless"], hardware=loaded, job=plan.Job(("s3://b/i",), "s3://b/l", ("catalog",)),
        places=plan.Places(log_uri="${LogUri}", serverless_role="${Role}"), package=package, region="${Region}",
        token="t", task_units=8, disk_gb=20, usd_per_hour=0.0,
    )  # fmt: skip
    asked = serverless.job_run(wanted, "${Application}")
    here = definition()["States"]["Run"]["ItemProcessor"]["States"]["Stage"]["Arguments"]
    properties = here["ConfigurationOverrides"]["ApplicationConfiguration"][0]["Properties"]
    expected = asked["configurationOverrides"]["applicationConfiguration"][0]["properties"]
    expected |= {
        "spark.emr-serverless.executor.disk": "${ExecutorDisk}",
        "spark.dynamicAllocation.maxExecutors": "${MaxExecutors}",
    }
    assert properties == expected
    assert here["JobDriver"]["SparkSubmit"]["EntryPoint"] == asked["jobDriver"]["sparkSubmit"]["entryPoint"]
    application = template("pipeline.yaml")["Resources"]["Application"]["Properties"]
    assert application["ReleaseLabel"] == loaded.kinds["serverless"].release


def test_every_placeholder_of_the_state_machine_is_filled() -> None:
    """A ${name} that reaches AWS as it is, and a value that nobody uses."""
    properties = template("pipeline.yaml")["Resources"]["Pipeline"]["Properties"]
    used = set(re.findall(r"\$\{(\w+)\}", json.dumps(properties["Definition"])))
    assert used == set(properties["DefinitionSubstitutions"])


def test_the_nightly_run_reads_what_make_writes() -> None:
    """A schedule that looks for the sample where `imagesieve emr health --make` does not put it."""
    from emr import health

    target = template("pipeline.yaml")["Resources"]["Health"]["Properties"]["Target"]
    told = json.loads(target["Input"]["Fn::Sub"][0])
    assert told["inputs"] == f"s3://${{Bucket}}/health/{health.IMAGES}"
    assert told["answers"] == f"s3://${{Bucket}}/health/{health.ANSWERS}"
    assert "<aws.scheduler.execution-id>" in told["lake"]  # a lake of its own each night
