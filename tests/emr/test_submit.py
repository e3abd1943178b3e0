"""`imagesieve emr submit` over the wire: every fault is one line before anything is started, and then nothing runs."""

import io
import json
import time
import urllib.parse

import pytest
from imagesieve.__main__ import main

from emr import command
from emr.costs.stage_work import STAGES
from emr.errors import AwsError
from emr.plan import TAG, TAG_LAKE, lake_tag
from jobs import lease
from tests.emr.account import BUCKET, IMAGES, INPUT, LAKE, PACKAGE, Account
from tests.emr.proxy import Proxy, Request, Response

SIMULATED = """<SimulatePrincipalPolicyResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/">
<SimulatePrincipalPolicyResult><IsTruncated>false</IsTruncated><EvaluationResults>{}</EvaluationResults>
</SimulatePrincipalPolicyResult></SimulatePrincipalPolicyResponse>"""
DECISION = """<member><EvalActionName>{}</EvalActionName><EvalResourceName>{}</EvalResourceName>
<EvalDecision>{}</EvalDecision></member>"""


def _submit(account: Account, *more: str, lake: str = LAKE, inputs: tuple[str, ...] = (INPUT,)) -> int:
    options = account.serverless if "serverless" in more else account.options
    return main(["emr", "submit", *inputs, "--lake", lake, *options, *more])


def _policies(proxy: Proxy, denied: tuple[tuple[str, str], ...] = ()) -> None:
    """Answers SimulatePrincipalPolicy, which moto does not. denied: (action, part of the resource)."""

    def rule(request: Request) -> Response | None:
        if request.action != "SimulatePrincipalPolicy":
            return None
        form = {key: values[0] for key, values in urllib.parse.parse_qs(request.body.decode()).items()}
        resource = form["ResourceArns.member.1"]
        actions = [value for key, value in form.items() if key.startswith("ActionNames.member")]
        rows = [
            DECISION.format(action, resource, "implicitDeny" if any(a == action and r in resource for a, r in denied)
                            else "allowed")
            for action in actions
        ]  # fmt: skip
        return Response(200, SIMULATED.format("".join(rows)).encode(), {"Content-Type": "text/xml"})

    proxy.rules.append(rule)


def release_known_to_moto(proxy: Proxy) -> None:
    def rule(request: Request) -> None:
        if request.method == "POST" and request.path == "/applications":
            request.body = request.body.replace(b'"releaseLabel": "emr-spark-8.0.0"', b'"releaseLabel": "emr-6.9.0"')

    proxy.rules.append(rule)


def jobs_run_on(proxy: Proxy) -> None:
    """moto's job runs have ended well as soon as they begin."""

    def rule(request: Request) -> None:
        if request.method == "GET" and "/jobruns" in request.path:
            request.path = request.path.partition("?")[0]

    def change(request: Request, response: Response) -> None:
        if request.method == "GET" and "/jobruns" in request.path:
            response.body = response.body.replace(b'"SUCCESS"', b'"RUNNING"')

    def tag(request: Request, response: Response) -> None:
        """moto forgets the tags of a job run."""
        if request.method == "POST" and request.path.endswith("/jobruns"):
            tags[json.loads(response.body)["jobRunId"]] = json.loads(request.body)["tags"]
        run = request.path.rpartition("/")[2]
        if request.method == "GET" and run in tags:
            told = json.loads(response.body)
            told["jobRun"]["tags"] = tags[run]
            response.body = json.dumps(told).encode()

    tags: dict[str, dict[str, str]] = {}
    proxy.rules.append(rule)
    proxy.changes += [change, tag]


def _refused(account: Account, capsys: pytest.CaptureFixture[str], *told: str) -> list[str]:
    """The lines of a submit that started nothing. told: a part of each fault's line."""
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert lines[-1] == "imagesieve: nothing was started"
    faults = lines[:-1]
    assert all(line.startswith("imagesieve: ") for line in faults)
    for part in told:
        assert sum(part in line for line in faults) == 1, (part, faults)
    assert len(faults) == len(told), faults
    assert captured.out == ""
    assert not account.alive()
    assert not account.jobs()
    return faults


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_a_cluster(kind: str, account: Account, proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a request that the server does not take, a plan that does not say what it costs, and a missing tag."""
    assert _submit(account, "--cluster", kind, "--yes") == 0
    text = capsys.readouterr().out
    (alive,) = account.alive()
    assert f"{alive['Id']} was started" in text
    assert f"images     {IMAGES} by a listing, 1 KB each" in text
    for word in ("on spot", "USD an hour", "neighbours", "note: ", *account.zones[:0]):
        assert word in text
    told = account.client("emr").describe_cluster(ClusterId=alive["Id"])["Cluster"]
    assert {tag["Key"]: tag["Value"] for tag in told["Tags"]}[TAG_LAKE] == lake_tag(LAKE)
    steps = account.client("emr").list_steps(ClusterId=alive["Id"])["Steps"]
    assert sorted(step["Name"] for step in steps) == sorted(STAGES)
    assert all("--set=metrics.namespace=imagesieve" in step["Config"]["Args"] for step in steps)


def test_serverless(account: Account, proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a second application where there is one, and a run that is started twice."""
    release_known_to_moto(proxy)
    jobs_run_on(proxy)
    assert _submit(account, "--cluster", "serverless", "--yes") == 0
    assert _submit(account, "--cluster", "serverless", "--yes", lake=f"{LAKE}2") == 0
    assert len(account.client("emr-serverless").list_applications()["applications"]) == 1
    assert len(account.jobs()) == 2
    assert "note: application" not in capsys.readouterr().err
    assert _submit(account, "--cluster", "serverless", "--yes", "--units", "50", lake=f"{LAKE}3") == 0
    assert "gives all its runs 8 vCPUs at most, the plan reckons with 204" in capsys.readouterr().err
    assert _submit(account, "--cluster", "serverless", "--yes") == 5
    assert "works on lake s3://lake/lakes/one" in capsys.readouterr().err
    assert len(account.jobs()) == 3


@pytest.mark.slow
def test_dry_run_starts_nothing(account: Account, proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a dry run that is none, and a request that cannot be read."""
    assert _submit(account, "--dry-run") == 0
    text = capsys.readouterr().out
    shown = json.loads(text[text.index("\n{") :])
    assert shown["Name"].startswith(f"{TAG}-cpu-")
    assert not account.alive()
    assert "RunJobFlow" not in proxy.seen


def test_nobody_to_ask(
    account: Account, proxy: Proxy, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a cluster that is started from a script which never said --yes."""
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert _submit(account) == 2
    assert "--yes" in capsys.readouterr().err
    assert not account.alive()


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "clusters"), [("y\n", 1), ("\n", 0), ("no\n", 0), ("", 0)])
def test_the_question(
    answer: str, clusters: int, account: Account, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a cluster that is started where the person did not say yes."""
    terminal = io.StringIO(answer)
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", terminal)
    assert _submit(account) == 0
    assert len(account.alive()) == clusters


def test_no_credentials(
    account: Account, proxy: Proxy, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a traceback, or ten lines of the same fault."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    assert _submit(account, "--yes") == AwsError.exit_code
    _refused(account, capsys, "no AWS credentials: set AWS_PROFILE")


@pytest.mark.slow
def test_wrong_credentials(account: Account, proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    proxy.refuse("GetCallerIdentity", 403, "ExpiredToken")
    assert _submit(account, "--yes") == AwsError.exit_code
    _refused(account, capsys, "the AWS credentials are wrong or have expired (ExpiredToken)")


@pytest.mark.slow
def test_no_region(
    account: Account, proxy: Proxy, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    assert _submit(account, "--yes") == 2
    _refused(account, capsys, "no AWS region: give --region")


def test_no_such_bucket(account: Account, proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a cluster that finds out half an hour later; and a lake in a bucket that is not there."""
    assert _submit(account, "--yes", "--images", "10", inputs=("s3://not-there/a/",)) == 3
    _refused(account, capsys, "input: bucket not-there does not exist")


def test_a_bucket_in_another_region(account: Account, proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches traffic between regions, which costs more than the run."""
    there = account.client("s3", "eu-west-1")
    there.create_bucket(Bucket="far", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    there.put_object(Bucket="far", Key="a/1.jpg", Body=b"x")
    assert _submit(account, "--yes", inputs=("s3://far/a/",)) == 2
    _refused(account, capsys, "input: bucket far is in eu-west-1, the cluster would be in us-east-1")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "headers", "told"),
    [
        (403, {}, "input: bucket lake: access denied"),
        (301, {"x-amz-bucket-region": "eu-west-3"}, "input: bucket lake is in eu-west-3"),
    ],
)
def test_what_head_bucket_answers(
    status: int, headers: dict[str, str], told: str, account: Account, proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches that a refusal, a redirection and an absence are told as one."""

    def rule(request: Request) -> Response | None:
        there = request.method == "HEAD" and request.path.rstrip("/") == f"/{BUCKET}"
        return Response(status, b"", headers) if there else None

    proxy.rules.append(rule)
    assert _submit(account, "--yes") in (2, 3)
    _refused(account, capsys, told)


def test_a_role_that_may_not_read(account: Account, proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a run whose every image fails with access denied; and a role that may not be passed."""
    _policies(proxy, (("s3:GetObject", "lake/photos"), ("iam:PassRole", "service"), ("s3:PutObject", "lakes/one")))
    assert _submit(account, "--yes") == AwsError.exit_code
    _refused(
        account,
        capsys,
        "role imagesieve-nodes may not s3:GetObject on arn:aws:s3:::lake/photos/",
        "role imagesieve-nodes may not s3:PutObject on arn:aws:s3:::lake/lakes/one/",
        "you may not iam:PassRole on arn:aws:iam::123456789012:role/imagesieve-service",
    )


@pytest.mark.slow
def test_a_person_who_may_not_ask_about_himself(
    account: Account, proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a role that goes unchecked because the policies of the person could not be asked."""

    def rule(request: Request) -> Response | None:
        if request.action == "SimulatePrincipalPolicy" and b"user%2Fmoto" in request.body:
            return Response(403, b"<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>")
        return None

    proxy.rules.append(rule)
    _policies(proxy, (("s3:GetObject", "lake/photos"),))
    assert _submit(account, "--yes") == AwsError.exit_code
    _refused(account, capsys, "role imagesieve-nodes may not s3:GetObject")


@pytest.mark.slow
def test_roles_that_may(account: Account, proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a check of policies that finds fault with all."""
    _policies(proxy)
    assert _submit(account, "--yes") == 0
    assert "SimulatePrincipalPolicy) could not be asked" not in capsys.readouterr().out


@pytest.mark.slow
def test_no_such_role(account: Account, proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    assert _submit(account, "--yes", "--service-role", "none", "--instance-profile", "nobody") == 2
    _refused(account, capsys, "role none does not exist", "instance profile nobody does not exist")


def test_no_spot_capacity(account: Account, proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a fleet that waits for what is not there: a type without a spot price has no capacity."""
    body = b"<DescribeSpotPriceHistoryResponse><spotPriceHistorySet/></DescribeSpotPriceHistoryResponse>"

    def rule(request: Request) -> Response | None:
        return Response(200, body, {"Content-Type": "text/xml"}) if "SpotPriceHistory" in request.action else None

    proxy.rules.append(rule)
    assert _submit(account, "--yes") == AwsError.exit_code
    (line,) = _refused(account, capsys, "no spot price for any of c7a.4xlarge, m7a.4xlarge, m7i.4xlarge, c7i.4xlarge")
    assert ", ".join(account.zones) in line


def test_an_unknown_instance_type(account: Account, proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    assert _submit(account, "--yes", "--task-types", "c7a.4xlarge,c99.metal") == 2
    _refused(account, capsys, "instance type c99.metal does not exist in us-east-1")


@pytest.mark.slow
def test_types_that_do_not_do(account: Account, proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a GPU fleet without a GPU, and nodes on which no executor starts."""
    assert _submit(account, "--yes", "--cluster", "gpu", "--task-types", "m7i.xlarge") == 2
    _refused(account, capsys, "m7i.xlarge has no GPU")
    assert _submit(account, "--yes", "--task-types", "t3.small") == 2
    _refused(account, capsys, "fits into t3.small")


def test_a_type_of_another_architecture(account: Account, proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches Graviton nodes whose Python cannot load a single package of the environment."""
    assert _submit(account, "--yes", "--task-types", "m7g.4xlarge") == 2
    _refused(account, capsys, "instance type m7g.4xlarge is not x86_64, which the package is built for")


@pytest.mark.slow
def test_a_type_that_only_ec2_knows(account: Account, proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches weights that come from nowhere: c7a.8xlarge is in no file here, and holds 8 executors."""
    assert _submit(account, "--dry-run", "--task-types", "c7a.8xlarge") == 0
    assert "c7a.8xlarge   8 executors" in capsys.readouterr().out


@pytest.mark.slow
def test_a_quota_too_small(account: Account, proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches fleets that EC2 will not fill: many accounts have a quota of 0 for GPUs on spot."""

    def rule(request: Request) -> Response | None:
        if request.action != "GetServiceQuota":
            return None
        value = 0.0 if b"L-3819A6DF" in request.body or b"L-DB2E81BA" in request.body else 64.0
        body = json.dumps({"Quota": {"Value": value}}).encode()
        return Response(200, body, {"Content-Type": "application/x-amz-json-1.1"})

    proxy.rules.append(rule)
    assert _submit(account, "--yes", "--cluster", "gpu", "--units", "3") == AwsError.exit_code
    _refused(account, capsys, "the quota of G and VT instances on spot (L-3819A6DF) is 0 vCPUs, the plan takes 12")
    assert _submit(account, "--yes", "--cluster", "cpu") == 0


def test_a_lake_in_use(account: Account, proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a second writer: its cluster would start, wait for nobody, and fail."""
    with lease.acquire(LAKE, "20261121T101010Z-other"):
        assert _submit(account, "--yes") == 5
        _refused(account, capsys, "is being written by run 20261121T101010Z-other")
    assert _submit(account, "--yes") == 0


def test_submitted_twice(account: Account, proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches two clusters for one lake: the first has not yet taken its lease while it starts."""
    assert _submit(account, "--yes") == 0
    (first,) = account.alive()
    assert _submit(account, "--yes") == 5
    assert f"cluster {first['Id']} works on lake {LAKE}" in capsys.readouterr().err
    assert [one["Id"] for one in account.alive()] == [first["Id"]]


@pytest.mark.slow
def test_stages_again_on_a_living_cluster(account: Account, proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a failed stage that can only be repeated on another cluster."""
    assert _submit(account, "--yes", "--cluster", "gpu") == 0
    identity = account.alive()[0]["Id"]
    # moto's steps never end; one that waits for nothing on another lake stands for an idle cluster.
    other = f"{LAKE}-other"
    more = ["--cluster-id", identity, "--stages", "neighbours,embed", "--yes"]
    capsys.readouterr()
    assert _submit(account, *more, lake=other, inputs=()) == 0
    assert "hours and cost are not estimated" in capsys.readouterr().out
    steps = account.client("emr").list_steps(ClusterId=identity)["Steps"]
    assert sorted(step["Name"] for step in steps) == sorted([*STAGES, "embed", "neighbours"])
    added = [step for step in steps if f"--lake={other}" in step["Config"]["Args"]]
    hourly = [[a for a in step["Config"]["Args"] if "usd_per_hour" in a] for step in (*added, steps[0])]
    assert hourly[0] == hourly[1] == hourly[2] != []
    assert sorted("resource.gpu" in str(step) for step in added) == [False, True]
    assert len(account.alive()) == 1
    assert _submit(account, "--cluster-id", "j-NONE", "--yes", lake=other) == 2


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["environment-cpu-spark4.0.tar.gz", "manifest.json"])
def test_a_package_that_is_not_whole(
    missing: str, account: Account, proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches nodes that fail in their bootstrap: a file is missing, cut short, or nothing was uploaded."""
    key = f"{PACKAGE.removeprefix(f's3://{BUCKET}/')}/{missing}"
    account.client("s3").delete_object(Bucket=BUCKET, Key=key)
    assert _submit(account, "--yes") == 3
    _refused(account, capsys, missing)


@pytest.mark.slow
def test_a_package_cut_short(account: Account, proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    key = f"{PACKAGE.removeprefix(f's3://{BUCKET}/')}/imagesieve.zip"
    account.client("s3").put_object(Bucket=BUCKET, Key=key, Body=b"half")
    assert _submit(account, "--yes") == 3
    _refused(account, capsys, "imagesieve.zip has 4 bytes, the manifest says 25")


def test_all_faults_at_once(account: Account, proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches checks that stop at the first fault, and hostile names that reach the terminal."""
    faults = ["--set", "neighbours.k=5000", "--stages", "embed,catalog,nonsense", "--service-role", "none"]
    faults += ["--task-types", "c99.metal,c7a.4xlarge", "--security-configuration", "gone"]
    assert _submit(account, "--yes", *faults, inputs=(INPUT, "s3://lake/\x1b[2Jno\u202ene/")) in (2, 3)
    lines = _refused(
        account,
        capsys,
        "neighbours.k must be",
        "unknown stage 'nonsense'",
        "role none does not exist",
        "c99.metal does not exist",
        "security configuration gone does not exist",
        "nothing below this prefix",
    )
    assert not any("\x1b" in line or "\u202e" in line for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lake", "inputs", "told"),
    [("/tmp/lake", (INPUT,), "--lake must be an s3:// URI"), (LAKE, ("photos",), "INPUT must be an s3:// URI")],
)
def test_files_of_this_machine(
    lake: str, inputs: tuple[str, ...], told: str, account: Account, proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _submit(account, "--yes", lake=lake, inputs=inputs) == 2
    _refused(account, capsys, told)


@pytest.mark.slow
def test_no_image_below(account: Account, proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    account.client("s3").put_object(Bucket=BUCKET, Key="texts/a.txt", Body=b"x")
    assert _submit(account, "--yes", inputs=(f"s3://{BUCKET}/texts/",)) == 3
    _refused(account, capsys, "1 objects, none of them an image")


@pytest.mark.slow
def test_an_unknown_number_of_images(account: Account, proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches an estimate out of thin air: what a tar holds is not known before it is read."""
    account.client("s3").put_object(Bucket=BUCKET, Key="photos/more.tar", Body=b"x")
    assert _submit(account, "--yes") == 2
    _refused(account, capsys, "give --images N and --bytes-per-image B")
    assert _submit(account, "--dry-run", "--images", "1e6", "--bytes-per-image", "2e5") == 0
    assert "images     1,000,000, as given, 200 KB each" in capsys.readouterr().out


@pytest.mark.slow
def test_images_by_the_inventory(account: Account, proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a listing of a billion objects where a report of them is at hand."""
    s3 = account.client("s3")
    rows = "".join(f'"{BUCKET}","photos/{number}.jpg","2000"\n' for number in range(30)) + f'"{BUCKET}","a.txt","9"\n'
    s3.put_object(Bucket=BUCKET, Key="inventory/one.csv", Body=rows.encode())
    files = [{"key": "inventory/one.csv", "size": len(rows)}, {"key": "inventory/two.csv", "size": 9 * len(rows)}]
    told = {"sourceBucket": BUCKET, "destinationBucket": f"arn:aws:s3:::{BUCKET}", "fileFormat": "CSV",
            "fileSchema": "Bucket, Key, Size", "files": files}  # fmt: skip
    s3.put_object(Bucket=BUCKET, Key="inventory/manifest.json", Body=json.dumps(told).encode())
    assert _submit(account, "--dry-run", inputs=(f"s3://{BUCKET}/inventory/manifest.json",)) == 0
    text = capsys.readouterr().out
    assert "images     about 300, by one file of the S3 Inventory's 2, 2 KB each" in text


@pytest.mark.slow
def test_a_stack_gives_the_places(account: Account, proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches outputs of the stack that are read under other names, and a stack that is not there."""
    assert main(["emr", "submit", INPUT, "--lake", LAKE, "--yes"]) == 2
    _refused(account, capsys, "stack imagesieve does not exist in us-east-1")
    values = {
        "Bucket": BUCKET,
        "LogUri": f"s3://{BUCKET}/stack-logs/",
        "ServiceRole": "imagesieve-service",
        "InstanceProfile": "imagesieve-nodes",
        "ServerlessRole": "arn:aws:iam::123456789012:role/imagesieve-serverless",
        "Subnets": account.options[-1],
        "PackagePrefix": f"s3://{BUCKET}/packages",
        "DashboardName": "imagesieve",
    }
    template = {
        "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}},
        "Outputs": {name: {"Value": value} for name, value in values.items()},
    }
    account.client("cloudformation").create_stack(StackName="imagesieve", TemplateBody=json.dumps(template))
    assert main(["emr", "submit", INPUT, "--lake", LAKE, "--yes"]) == 0
    (alive,) = account.alive()
    told = account.client("emr").describe_cluster(ClusterId=alive["Id"])["Cluster"]
    assert told["LogUri"].endswith("/stack-logs/")


@pytest.mark.slow
def test_a_throttled_request_is_sent_again(account: Account, proxy: Proxy) -> None:
    """Catches a submit that gives up at the first sign of a busy service, or starts two clusters."""
    proxy.refuse("RunJobFlow", 400, "ThrottlingException", times=1)
    assert _submit(account, "--yes") == 0
    assert proxy.seen.count("RunJobFlow") == 2
    assert len(account.alive()) == 1


@pytest.mark.slow
def test_a_lost_answer(account: Account, proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a cluster that runs unknown to anybody, and one that is asked for again because its answer was lost."""
    proxy.lost.add("RunJobFlow")
    assert _submit(account, "--yes") == 0
    assert proxy.seen.count("RunJobFlow") == 1
    (alive,) = account.alive()
    assert f"{alive['Id']} was started" in capsys.readouterr().out


@pytest.mark.slow
def test_a_refused_start(account: Account, proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    proxy.refuse("RunJobFlow", 400, "ValidationException", "the subnet is full")
    assert _submit(account, "--yes") == AwsError.exit_code
    assert "the subnet is full" in capsys.readouterr().err
    assert not account.alive()


@pytest.mark.slow
def test_asks_no_more_than_needed(account: Account, proxy: Proxy) -> None:
    """Catches checks that grow with the number of images, or that take minutes."""
    began = time.monotonic()
    assert command.main(["submit", INPUT, "--lake", LAKE, *account.options, "--dry-run"]) == 0
    assert len(proxy.seen) < 60
    assert time.monotonic() - began < 30
