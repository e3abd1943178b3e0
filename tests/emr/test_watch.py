"""`imagesieve emr status`, `logs` and `cancel` over the wire; what the server does not answer is told as not known."""

import datetime
import gzip
import json

import pytest
from imagesieve.__main__ import main

from emr import watch
from emr.errors import AwsError
from emr.watch import Step
from jobs import pipeline
from jobs.cleaning import prices
from tests.emr.account import BUCKET, INPUT, LAKE, Account
from tests.emr.proxy import Proxy, Request, Response
from tests.emr.test_submit import jobs_run_on, release_known_to_moto

JSON = {"Content-Type": "application/x-amz-json-1.1"}


@pytest.fixture
def cluster(account: Account, proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> str:
    """The id of one that was submitted."""
    assert main(["emr", "submit", INPUT, "--lake", LAKE, *account.options, "--yes"]) == 0
    capsys.readouterr()
    return str(account.alive()[0]["Id"])


@pytest.fixture
def job(account: Account, proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> str:
    release_known_to_moto(proxy)
    jobs_run_on(proxy)
    command = ["emr", "submit", INPUT, "--lake", LAKE, *account.serverless, "--cluster", "serverless", "--yes"]
    assert main(command) == 0
    return capsys.readouterr().out.partition(" was started")[0].splitlines()[-1]


def _answer(proxy: Proxy, action: str, body: dict[str, object]) -> None:
    told = Response(200, json.dumps(body).encode(), JSON)
    proxy.rules.insert(0, lambda request: told if request.action == action else None)


def test_status_where_the_server_errs(cluster: str, proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a status that ends at the first HTTP 500: moto answers so to list_instance_fleets."""
    assert main(["emr", "status", cluster]) == 0
    text = capsys.readouterr().out
    assert "note: the fleets could not be asked: the server answered with an error of its own (500)" in text
    assert "note: the cost is what the plan said of an hour, times the hours: no instances are known" in text
    assert f"0 of {len(pipeline.NAMES)} stages done" in text
    assert text.index("catalog ") < text.index("embed ") < text.index("report ")
    assert "ListInstanceFleets" in proxy.seen


def test_cost_so_far(cluster: str, proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches instances counted at the wrong price, the ended ones as alive, and those without a price in silence."""
    now = datetime.datetime.now(datetime.UTC)
    hours = [
        ((now - datetime.timedelta(hours=start)).timestamp(), end) for start, end in ((3, None), (2, 1), (2, None))
    ]
    rows = []
    for (start, end), name, market in zip(
        hours, ("m7i.xlarge", "c7a.4xlarge", "c99.metal"), ("ON_DEMAND", "SPOT", "SPOT"), strict=True
    ):
        ended = {"EndDateTime": start + 3600} if end else {}
        rows.append({"InstanceType": name, "Market": market,
                     "Status": {"State": "RUNNING", "Timeline": {"CreationDateTime": start, **ended}}})  # fmt: skip
    fleet = {"InstanceFleetType": "TASK", "ProvisionedOnDemandCapacity": 0, "ProvisionedSpotCapacity": 8}
    _answer(proxy, "ListInstances", {"Instances": rows})
    _answer(proxy, "ListInstanceFleets", {"InstanceFleets": [fleet]})
    assert main(["emr", "status", cluster]) == 0
    known = prices.load()
    first, task = known.instances["m7i.xlarge"], known.instances["c7a.4xlarge"]
    usd = 3 * (first.usd_per_hour + first.emr_usd_per_hour)
    usd += task.usd_per_hour * (1 - known.assumptions.spot_discount) + task.emr_usd_per_hour
    text = capsys.readouterr().out
    assert f"cost so far: {usd:,.2f} USD" in text
    assert "the cost of c99.metal is not counted" in text
    assert "nodes: 2 instances (task 8 units)" in text


@pytest.mark.slow
def test_status_of_all(cluster: str, account: Account, proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches other people's clusters in the list, and ended ones where they were not asked for."""
    other = {"Name": "imagesieve, but not", "Instances": {"KeepJobFlowAliveWhenNoSteps": True}}
    emr = account.client("emr")
    emr.run_job_flow(**other | {"Name": "somebody else's"})
    assert main(["emr", "status"]) == 0
    text = capsys.readouterr().out
    assert cluster in text
    assert "somebody" not in text
    emr.terminate_job_flows(JobFlowIds=[cluster])
    assert main(["emr", "status"]) == 0
    assert "nothing of imagesieve runs in us-east-1" in capsys.readouterr().out
    assert main(["emr", "status", "--all"]) == 0
    assert f"{cluster}  imagesieve-cpu-" in capsys.readouterr().out


@pytest.mark.slow
def test_status_of_a_job_run(job: str, proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a job run that is not found again, and a cost that is made up while AWS does not tell it."""
    assert main(["emr", "status"]) == 0
    text = capsys.readouterr().out
    assert f"{job}  imagesieve-serverless-" in text
    assert "cost so far: not known" in text

    def change(request: Request, response: Response) -> None:
        if request.method == "GET" and "/jobruns/" in request.path:
            told = json.loads(response.body)
            told["jobRun"]["billedResourceUtilization"] = {"vCPUHour": 100.0, "memoryGBHour": 400.0, "storageGBHour": 0}
            response.body = json.dumps(told).encode()

    proxy.changes.append(change)
    assert main(["emr", "status", job]) == 0
    known = prices.load().serverless
    usd = 100 * known.usd_per_vcpu_hour + 400 * known.usd_per_gb_hour
    assert f"cost so far: {usd:,.2f} USD" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("identity", ["j-NONE", "nonsense", "../x", "a/b/c", "j-\x1b[2J"])
def test_no_such_id(identity: str, account: Account, proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a traceback for a slip of the finger, and control characters that come back."""
    for command in (["status", identity], ["logs", identity], ["cancel", identity, "--yes"]):
        assert main(["emr", *command]) in (2, AwsError.exit_code)
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("imagesieve: ")
        assert "\x1b" not in line


def _put_log(account: Account, key: str, text: bytes) -> None:
    account.client("s3").put_object(Bucket=BUCKET, Key=key, Body=gzip.compress(text))


def test_logs_of_a_stage(cluster: str, account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches another stage's log, and a log that takes over the terminal."""
    steps = {step["Name"]: step["Id"] for step in account.client("emr").list_steps(ClusterId=cluster)["Steps"]}
    _put_log(
        account,
        f"logs/{cluster}/steps/{steps['embed']}/stdout.gz",
        b"  done\x1b]0;owned\x07 100 %\r\n\xff\xe2\x80\xae\n",
    )
    _put_log(account, f"logs/{cluster}/steps/{steps['catalog']}/stderr.gz", b"running\n")
    assert main(["emr", "logs", cluster, "--stage", "embed"]) == 0
    assert capsys.readouterr().out == "== stdout\n  done?]0;owned? 100 %\n\ufffd?\n"
    assert main(["emr", "logs", cluster, "--stream", "stderr"]) == 0  # the one that runs
    assert capsys.readouterr().out == "running\n"
    assert main(["emr", "logs", cluster, "--stage", "nonsense"]) == 2
    assert "has no stage nonsense: there are catalog, embed" in capsys.readouterr().err


@pytest.mark.slow
def test_no_log_yet(cluster: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["emr", "logs", cluster]) == 0
    assert "EMR writes them about every 5 minutes" in capsys.readouterr().err


@pytest.mark.slow
def test_half_a_log(cluster: str, account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a traceback where a log is read while it is written."""
    step = next(s["Id"] for s in account.client("emr").list_steps(ClusterId=cluster)["Steps"] if s["Name"] == "embed")
    half = gzip.compress(b"".join(b"%d\n" % number for number in range(1000)))[:-500]
    account.client("s3").put_object(Bucket=BUCKET, Key=f"logs/{cluster}/steps/{step}/stdout.gz", Body=half)
    assert main(["emr", "logs", cluster, "--stage", "embed"]) == AwsError.exit_code
    assert "not whole gzip" in capsys.readouterr().err


@pytest.mark.slow
def test_follow(cluster: str, account: Account, proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches lines that are shown twice, and a follower that does not end with its stage."""
    step = next(s["Id"] for s in account.client("emr").list_steps(ClusterId=cluster)["Steps"] if s["Name"] == "catalog")
    key = f"logs/{cluster}/steps/{step}/stdout.gz"
    _put_log(account, key, b"one\n")
    looks = [0]

    def change(request: Request, response: Response) -> None:
        if request.action != "ListSteps":
            return
        looks[0] += 1
        if looks[0] == 2:
            _put_log(account, key, b"one\ntwo\n")
        if looks[0] == 3:
            response.body = response.body.replace(b'"RUNNING"', b'"COMPLETED"')

    proxy.changes.append(change)
    options = ["--stage", "catalog", "--stream", "stdout", "--follow", "--every", "0.1"]
    assert main(["emr", "logs", cluster, *options]) == 0
    assert capsys.readouterr().out == "one\ntwo\n"
    assert looks[0] == 3


@pytest.mark.slow
def test_logs_of_a_job_run(job: str, account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    application, _, run = job.partition("/")
    _put_log(account, f"logs/applications/{application}/jobs/{run}/SPARK_DRIVER/stdout.gz", b"5 images\n")
    assert main(["emr", "logs", job, "--stream", "stdout"]) == 0
    assert capsys.readouterr().out == "5 images\n"


def test_cancel_where_the_server_errs(
    cluster: str, account: Account, proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a cluster that lives on because its steps could not be cancelled: moto answers 500 to cancel_steps."""
    assert main(["emr", "cancel", cluster, "--keep-cluster", "--yes"]) == AwsError.exit_code
    assert account.alive()
    assert main(["emr", "cancel", cluster, "--yes"]) == 0
    text = capsys.readouterr().out
    assert "note: the stages could not be cancelled one by one: the server answered with an error of its own" in text
    assert f"{cluster} is being ended" in text
    assert "CancelSteps" in proxy.seen
    assert not account.alive()


@pytest.mark.slow
def test_cancel_the_stages_alone(cluster: str, account: Account, proxy: Proxy) -> None:
    """Catches a cluster that is ended where only its stages should be, and stages that are forgotten."""
    asked: list[bytes] = []

    def rule(request: Request) -> Response | None:
        if request.action != "CancelSteps":
            return None
        asked.append(request.body)
        return Response(200, b'{"CancelStepsInfoList": []}', JSON)

    proxy.rules.append(rule)
    assert main(["emr", "cancel", cluster, "--keep-cluster", "--yes"]) == 0
    assert len(json.loads(asked[0])["StepIds"]) == len(pipeline.NAMES)
    assert account.alive()


@pytest.mark.slow
def test_cancel_asks(cluster: str, account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["emr", "cancel", cluster]) == 2
    assert "--yes" in capsys.readouterr().err
    assert account.alive()


@pytest.mark.slow
def test_cancel_a_job_run(job: str, proxy: Proxy) -> None:
    deleted: list[str] = []
    proxy.rules.append(lambda request: deleted.append(request.path) if request.method == "DELETE" else None)
    assert main(["emr", "cancel", job, "--yes"]) == 0
    assert [path.rpartition("/")[2] for path in deleted] == [job.partition("/")[2]]


@pytest.mark.parametrize(
    ("states", "stage", "chosen"),
    [
        (("COMPLETED", "RUNNING", "PENDING"), None, "s1"),
        (("COMPLETED", "FAILED", "CANCELLED"), None, "s1"),
        (("COMPLETED", "COMPLETED", "PENDING"), None, "s1"),
        (("PENDING", "PENDING", "PENDING"), None, "s2"),
        (("FAILED", "COMPLETED", "RUNNING"), "stage0", "s0"),
        ((), None, None),
    ],
)
def test_which_stage(states: tuple[str, ...], stage: str | None, chosen: str | None) -> None:
    """Catches the log of a stage that says nothing of what went wrong."""
    steps = [Step(f"s{number}", f"stage{number}", state, None, None) for number, state in enumerate(states)]
    found = watch._chosen(steps, stage)
    assert (found.id if found else None) == chosen
