"""Catches two writers in one lake, and a lake that stays closed after its writer has died."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from jobs import lease
from tests import s3_server
from udfs.stores import objects, s3, uris

ROOT = Path(__file__).parents[2]
# Takes the lake, says so, and keeps it until it is killed or its input ends.
HOLD = """
import sys
from jobs import lease
from udfs.stores import s3, uris
lake, run_id, ttl_s = sys.argv[1:]
if uris.is_s3(lake):
    s3.client()
print("ready", flush=True)
sys.stdin.readline()
try:
    held = lease.acquire(lake, run_id, float(ttl_s))
except lease.LeaseHeld as error:
    print("held", flush=True)
else:
    print("won", held.number, flush=True)
    sys.stdin.readline()
    held.release()
"""


@pytest.fixture(scope="module")
def moto() -> Iterator[s3_server.S3Server]:
    with s3_server.serve() as server:
        yield server


@pytest.fixture(params=["local", "s3"])
def lake(
    request: pytest.FixtureRequest, moto: s3_server.S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """A lake of its own, named so that it would need escaping in a URL."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in moto.env.items():
        monkeypatch.setenv(name, value)
    if request.param == "local":
        return str(tmp_path / "a lake")
    return f"s3://{moto.bucket}/{tmp_path.name} #1"


@contextmanager
def _processes(lake: str, count: int, ttl_s: float) -> Iterator[list["subprocess.Popen[str]"]]:
    command = [sys.executable, "-c", HOLD, lake]
    started = [
        subprocess.Popen(
            [*command, f"run{number}", str(ttl_s)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for number in range(count)
    ]
    try:
        assert [_said(process) for process in started] == ["ready"] * count
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def _begin(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def _said(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _numbers(lake: str) -> list[str]:
    return objects.list_small(uris.join(lake, "_leases"))


def _says(lake: str, number: int) -> dict[str, object]:
    text = objects.read_small(uris.join(lake, "_leases", f"{number:06}.json"))
    return dict(json.loads(text))


def _elsewhere(monkeypatch: pytest.MonkeyPatch, host: str = "elsewhere") -> None:
    monkeypatch.setattr("socket.gethostname", lambda: host)


def _set_clock(monkeypatch: pytest.MonkeyPatch, now: float) -> None:
    """What time it is for `lease` in this process; holders in others keep their own."""
    monkeypatch.setattr(lease, "time", SimpleNamespace(time=lambda: now, monotonic=time.monotonic))


def _wait_for(what: Callable[[], object], seconds: float = 20.0) -> None:
    ends = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.02)


def test_one_at_a_time(lake: str) -> None:
    with lease.acquire(lake, "first") as held:
        held.check()
        with pytest.raises(lease.LeaseHeld) as caught:
            lease.acquire(lake, "second")
        text = str(caught.value)
        assert text.startswith(f"lake {lake} is being written by run first (host {held.holder.host}, pid {os.getpid()}")
        assert text.endswith(" s unless renewed")
        assert 170 <= int(text.rpartition(" ends in ")[2].partition(" ")[0]) <= 180
        said = _says(lake, 1)
        assert (said["run_id"], said["released"], said["pid"]) == ("first", False, os.getpid())
    assert _says(lake, 1)["released"] is True
    with pytest.raises(lease.LeaseLost, match="released"):
        held.check()
    held.release()
    with lease.acquire(lake, "second") as again:
        assert again.number == 2
        held.release()  # says nothing about the lease of another
        again.check()


def test_who_has_it(lake: str) -> None:
    """Catches a lake that is told to be free while it is written, or taken after its run has ended."""
    assert lease.current(lake) is None
    with lease.acquire(lake, "first"):
        holder = lease.current(lake)
        assert holder is not None
        assert holder.run_id == "first"
    assert lease.current(lake) is None


def test_of_many_processes_one_wins(lake: str) -> None:
    with _processes(lake, 5, ttl_s=60) as started:
        for process in started:
            _begin(process)
        said = [_said(process) for process in started]
        assert sorted(said) == ["held"] * 4 + ["won 1"]


def test_a_killed_holder_is_replaced_at_once(lake: str) -> None:
    with _processes(lake, 1, ttl_s=600) as (process,):
        _begin(process)
        assert _said(process) == "won 1"
        with pytest.raises(lease.LeaseHeld, match="run0"):
            lease.acquire(lake, "next")
        process.send_signal(signal.SIGKILL)
        # Not yet waited for: it is a zombie, which still has its pid.
        _wait_for(lambda: lease._process_started(process.pid) == "")
        with lease.acquire(lake, "next") as held:
            assert held.number == 2


def test_a_dead_holders_pid_in_use_again(lake: str) -> None:
    held = lease.acquire(lake, "first", ttl_s=600)
    held._ended.set()
    objects.put(uris.join(lake, "_leases", "000001.json"), lease._to_json(replace(held.holder, process_started="1")))
    with lease.acquire(lake, "second") as second:
        assert second.number == 2


def test_a_holder_elsewhere_is_waited_for(lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with _processes(lake, 1, ttl_s=60) as (process,):
        _begin(process)
        assert _said(process) == "won 1"
        process.kill()
        process.wait()
    _elsewhere(monkeypatch)
    expires_at = _says(lake, 1)["expires_at"]
    assert isinstance(expires_at, float)
    # Half a ttl longer than the lease says, for clocks that differ.
    _set_clock(monkeypatch, expires_at + 28)
    with pytest.raises(lease.LeaseHeld, match=r"run0 .*ends in 2 s"):
        lease.acquire(lake, "next")
    _set_clock(monkeypatch, expires_at + 30.1)
    lease.acquire(lake, "next").release()


def test_another_boot_or_container_is_not_taken_for_dead(lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with _processes(lake, 1, ttl_s=60) as (process,):
        _begin(process)
        assert _said(process) == "won 1"
    for boot in ("other", ""):
        monkeypatch.setattr(lease, "_boot", lambda boot=boot: boot)
        with pytest.raises(lease.LeaseHeld):
            lease.acquire(lake, "next")


def test_renewal_keeps_others_out(lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with lease.acquire(lake, "first", ttl_s=1.6) as held:
        began = held.holder.expires_at
        _wait_for(lambda: held.holder.expires_at > began + 0.3)
        held.check()
        with monkeypatch.context() as patched:
            _elsewhere(patched)
            _set_clock(patched, began + 0.9)  # without the renewal it would have ended
            with pytest.raises(lease.LeaseHeld):
                lease.acquire(lake, "second")


def test_a_holder_that_could_not_renew_stops(lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    held = lease.acquire(lake, "first", ttl_s=0.4)

    def refuse(*_args: object) -> None:
        raise s3.StoreError("no answer")

    with monkeypatch.context() as patched:
        patched.setattr(objects, "put", refuse)
        held.check()
        _wait_for(lambda: not held._thread.is_alive())
    for _ in range(2):
        with pytest.raises(lease.LeaseLost, match="not be renewed in time"):
            held.check()
    held.release()
    assert _says(lake, 1)["released"] is False
    _elsewhere(monkeypatch)
    time.sleep(0.2)
    lease.acquire(lake, "second").release()


def test_a_passing_failure_to_renew_does_no_harm(lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put = objects.put
    failures: list[str] = []

    def sometimes(uri: str, data: bytes) -> None:
        if not failures:
            failures.append(uri)
            raise s3.StoreError("no answer")
        put(uri, data)

    monkeypatch.setattr(objects, "put", sometimes)
    with lease.acquire(lake, "first", ttl_s=1.2) as held:
        began = held.holder.expires_at
        _wait_for(lambda: failures and held.holder.expires_at > began)
        held.check()


def test_a_holder_that_slept_finds_its_lake_taken(lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with _processes(lake, 1, ttl_s=60) as (process,):
        _begin(process)
        assert _said(process) == "won 1"
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(lease.LeaseHeld):  # stopped is not dead
            lease.acquire(lake, "next")
        with monkeypatch.context() as patched:
            _set_clock(patched, time.time() + 100)
            held = lease.acquire(lake, "next", ttl_s=600)
        with held:
            assert held.number == 2
            process.send_signal(signal.SIGCONT)
            _begin(process)
            process.wait(20)
            assert _says(lake, 1)["released"] is False  # it released nothing
            held.check()
            with pytest.raises(lease.LeaseHeld, match="next"):
                lease.acquire(lake, "third")


def test_a_higher_number_ends_a_lease(lake: str) -> None:
    held = lease.acquire(lake, "first", ttl_s=1.6)
    other = lease._to_json(replace(held.holder, token="other", run_id="second", expires_at=time.time() + 60))
    assert objects.put_if_absent(uris.join(lake, "_leases", "000002.json"), other)
    _wait_for(lambda: not held._thread.is_alive())
    with pytest.raises(lease.LeaseLost, match="another run has taken it over"):
        held.check()
    held.release()
    assert _says(lake, 1)["released"] is False


def test_a_late_answer_does_not_take_an_old_number(lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1, 4):
        lease.acquire(lake, f"run{number}").release()
    objects.delete(uris.join(lake, "_leases", "000002.json"))
    current, asked = lease._current, []

    def stale(lake: str) -> tuple[int, lease.Holder | None]:
        asked.append(lake)
        return (1, None) if len(asked) == 1 else current(lake)

    monkeypatch.setattr(lease, "_current", stale)
    with pytest.raises(lease.LeaseHeld, match="run3"):
        lease.acquire(lake, "late")
    assert _numbers(lake) == ["000001.json", "000003.json"]


def test_a_lost_answer_to_the_write(lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    create = objects.put_if_absent

    def answer_lost(uri: str, data: bytes) -> bool:
        create(uri, data)
        return create(uri, data)

    monkeypatch.setattr(objects, "put_if_absent", answer_lost)
    with lease.acquire(lake, "first") as held:
        assert held.number == 1


def test_old_leases_are_cleared_away(lake: str) -> None:
    for number in range(1, 5):
        lease.acquire(lake, f"run{number}").release()
    with lease.acquire(lake, "last", ttl_s=1.6):
        _wait_for(lambda: _numbers(lake) == ["000004.json", "000005.json"])


def test_an_error_in_the_block_releases(lake: str) -> None:
    with pytest.raises(KeyError), lease.acquire(lake, "first"):
        raise KeyError
    lease.acquire(lake, "second").release()


def test_a_lease_that_is_none(lake: str) -> None:
    objects.put(uris.join(lake, "_leases", "000001.json"), b"{}")
    with pytest.raises(s3.StoreError, match=r"000001\.json is not a lease: delete it"):
        lease.acquire(lake, "first")
    objects.delete(uris.join(lake, "_leases", "000001.json"))
    objects.put(uris.join(lake, "_leases", "notes.txt"), b"")
    lease.acquire(lake, "first").release()
    with pytest.raises(ValueError, match="ttl_s"):
        lease.acquire(lake, "second", ttl_s=0)


def test_a_lake_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(s3.StoreError):
        lease.acquire(str(tmp_path / "file" / "lake"), "first")
