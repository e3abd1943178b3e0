"""Starts what costs money exactly once: a lost answer, or Ctrl-C, leaves nothing running that nobody knows of."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from emr.clients import Clients, asking, is_aws_error, printable, reason
from emr.errors import AwsError, Interrupted
from udfs.stores.s3 import aws_code

_THROTTLED = ("ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded")
_READY = ("CREATED", "STARTED", "STOPPED", "STARTING")
LOOKS = 3  # for something whose answer was lost; a few seconds apart


class _Call:
    """A request in a thread of its own: Ctrl-C interrupts the waiting, not the request."""

    def __init__(self, ask: Callable[[], str]) -> None:
        self.value = ""
        self.error: Exception | None = None
        self._ended = threading.Event()

        def work() -> None:
            try:
                self.value = ask()
            except Exception as error:
                self.error = error
            finally:
                self._ended.set()

        threading.Thread(target=work, name="request", daemon=True).start()

    def wait(self) -> None:
        self._ended.wait()


def start(
    what: str,
    ask: Callable[[], str],
    look: Callable[[], str],
    stop: Callable[[str], None],
    told: Callable[[str], None],
) -> str:
    """The id of what was started. what: its kind and name. ask: sends the request, once, and gives the id. look: the id
    of what bears this name, "" for none. stop: ends it. told: says the id to the person.

    Raises Interrupted after Ctrl-C, when it has ended what was started, or could not; AwsError where nothing was."""
    call: _Call | None = None
    try:
        call = _Call(ask)
        call.wait()
        identity = call.value or _found_again(what, call.error, look)
        told(identity)
        return identity
    except KeyboardInterrupt:
        raise Interrupted(_undone(what, call, look, stop)) from None


def _found_again(what: str, error: Exception | None, look: Callable[[], str]) -> str:
    """The id, where the request had done its work all the same. Raises AwsError."""
    if error is None or not is_aws_error(error):
        raise error or AwsError(f"{what}: an empty answer")
    status = aws_code(error)[1]
    if 400 <= status < 500:
        raise AwsError(f"{what}: {reason(error)}") from error
    identity = _look(look)
    if not identity:
        raise AwsError(f"{what}: {reason(error)}; nothing of this name was started") from error
    return identity


def _undone(what: str, call: _Call | None, look: Callable[[], str], stop: Callable[[str], None]) -> str:
    """Ends what the request has started, and says so."""
    if call is None:
        return "interrupted: nothing was started"
    sys.stderr.write("interrupted: waiting for the answer, to leave nothing running; Ctrl-C again does not wait\n")
    sys.stderr.flush()
    identity = ""
    try:
        call.wait()
        identity = call.value
        if not identity and call.error is not None and not 400 <= aws_code(call.error)[1] < 500:
            identity = _look(look)
        if not identity:
            return "interrupted: nothing was started"
        stop(identity)
    except (KeyboardInterrupt, AwsError) as error:
        why = f" ({error})" if isinstance(error, AwsError) else ""
        if identity:
            return f"interrupted: {identity} runs and could not be ended{why}: imagesieve emr cancel {identity}"
        return f"interrupted{why}: {what} may be running: look with imagesieve emr status"
    return f"interrupted: {identity} had been started and was ended again"


def _look(look: Callable[[], str]) -> str:
    for number in range(LOOKS):
        if number:
            time.sleep(2)
        if identity := look():
            return identity
    return ""


def cluster(clients: Clients, request: Mapping[str, Any], told: Callable[[str], None]) -> str:
    """Runs a cluster. `run_job_flow` knows no token: it is sent once, and looked for by its unique name."""
    name = str(request["Name"])

    def ask() -> str:
        # Throttled requests alone were certainly not begun.
        return str(_throttled(lambda: clients.get("emr", attempts=1).run_job_flow(**request))["JobFlowId"])

    def look() -> str:
        with asking(f"cluster {name}"):
            pages = (
                clients.get("emr")
                .get_paginator("list_clusters")
                .paginate(ClusterStates=["STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING"])
            )
            found = [one["Id"] for page in pages for one in page.get("Clusters", ()) if one.get("Name") == name]
        return str(found[0]) if found else ""

    return start(f"cluster {name}", ask, look, lambda identity: terminate(clients, identity), told)


def terminate(clients: Clients, identity: str) -> None:
    """Raises AwsError."""
    with asking(f"terminating {identity}"):
        clients.get("emr").terminate_job_flows(JobFlowIds=[identity])


def steps(clients: Clients, cluster_id: str, added: list[dict[str, Any]], told: Callable[[str], None]) -> str:
    """Adds steps to a cluster and gives their ids, separated by spaces."""

    # A name that no other step has, for the time that an answer may be lost.
    def ask() -> str:
        client = clients.get("emr", attempts=1)
        return " ".join(_throttled(lambda: client.add_job_flow_steps(JobFlowId=cluster_id, Steps=added))["StepIds"])

    def look() -> str:
        wanted = [step["HadoopJarStep"]["Args"] for step in added]
        with asking(f"the steps of {cluster_id}"):
            answer = clients.get("emr").list_steps(ClusterId=cluster_id, StepStates=["PENDING", "RUNNING"])
        return " ".join(step["Id"] for step in answer["Steps"] if step["Config"]["Args"] in wanted)

    def stop(identities: str) -> None:
        with asking(f"cancelling steps of {cluster_id}"):
            clients.get("emr").cancel_steps(ClusterId=cluster_id, StepIds=identities.split())

    return start(f"steps on {cluster_id}", ask, look, stop, told)


def job_run(
    clients: Clients,
    application: Mapping[str, Any],
    request: Callable[[str], Mapping[str, Any]],
    told: Callable[[str], None],
) -> str:
    """Starts a job run on the application of that name, which is made where it is missing. Gives application/run.

    request: the job run's, by the application's id. Both carry a token, so they may be sent again."""
    client = clients.get("emr-serverless")
    name = str(application["name"])
    used: list[str] = []

    def ask() -> str:
        used.append(_application(client, name) or str(client.create_application(**application)["applicationId"]))
        _warn_of_limits(_ready(client, used[0]), application)
        answer = client.start_job_run(**request(used[0]))
        return f"{used[0]}/{answer['jobRunId']}"

    def look() -> str:
        if not used:
            return ""
        with asking(f"application {used[0]}"):
            wanted = request(used[0])["name"]
            answer = client.list_job_runs(applicationId=used[0], maxResults=50)
        return next((f"{used[0]}/{run['id']}" for run in answer["jobRuns"] if run.get("name") == wanted), "")

    def stop(identity: str) -> None:
        cancel_job(clients, identity)

    return start(f"a job run on application {name}", ask, look, stop, told)


def cancel_job(clients: Clients, identity: str) -> None:
    """identity: application/run. Raises AwsError."""
    application, _, run = identity.partition("/")
    with asking(f"cancelling {identity}"):
        clients.get("emr-serverless").cancel_job_run(applicationId=application, jobRunId=run)


def _application(client: Any, name: str) -> str:
    pages = client.get_paginator("list_applications").paginate(
        states=["CREATING", "CREATED", "STARTING", "STARTED", "STOPPING", "STOPPED"]
    )
    return next((str(one["id"]) for page in pages for one in page["applications"] if one.get("name") == name), "")


def _ready(client: Any, application: str, seconds: float = 120.0) -> Mapping[str, Any]:
    """What is told of it when it takes job runs; one that was just made does not at once. Raises AwsError."""
    ends = time.monotonic() + seconds
    while True:
        told: Mapping[str, Any] = client.get_application(applicationId=application)["application"]
        state = told["state"]
        if state in _READY:
            return told
        if time.monotonic() > ends:
            raise AwsError(
                f"application {application} is {printable(state)} for {seconds:.0f} s: run the command again"
            )
        time.sleep(2)


def _warn_of_limits(there: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Says so where an application that was there before lets a run have fewer vCPUs than the plan asks for."""
    most, wanted = (_vcpus(one.get("maximumCapacity", {}).get("cpu", "")) for one in (there, asked))
    if most is not None and wanted is not None and most < wanted:
        sys.stderr.write(
            f"note: application {printable(there['applicationId'])} gives all its runs {most} vCPUs at most, the plan "
            f"reckons with {wanted}: raise its maximum capacity, or it takes longer\n"
        )


def _vcpus(text: str) -> int | None:
    """Of "40vCPU" or "40 vCPU"."""
    number = text.lower().removesuffix("vcpu").strip()
    return int(number) if number.isdecimal() else None


def _throttled(ask: Callable[[], Any], attempts: int = 4) -> Any:
    """Sends a request again that was refused for there were too many."""
    for number in range(attempts):
        try:
            return ask()
        except Exception as error:
            if aws_code(error)[0] not in _THROTTLED or number == attempts - 1:
                raise
            time.sleep(2**number)
    raise AwsError("throttled")
