"""CPU time and peak memory of a command with all its descendants, also those that outlive their parents.

    from tests.bench import process_tree
    measured = process_tree.run([sys.executable, "-m", "jobs.command", "run", ...])

A JVM and Spark's Python daemons are children of children, and some are still there when their parents are not. So the
command runs under a supervisor, this file as a script, which is made a child subreaper (prctl(2), Linux only): orphans
come back to it, it waits for each of them, and the kernel adds up what they all used (RUSAGE_CHILDREN). What the
supervisor itself uses is not counted. A process whose parent ignores SIGCHLD is reaped by nobody, and the kernel does
not add it up: so Spark's Python daemon does, and its workers end when they were idle for a minute. What such a one had
used when it was last seen, at most SAMPLE_S before its end, is added here.
"""

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
SAMPLE_S = 0.1
GRACE_S = 30.0  # for what outlives the command, before it is killed


@dataclass(frozen=True)
class Measured:
    """What a command and all its descendants used.

    cpu_s: user and system time, seconds; user_s, system_s: of the processes that the kernel adds up, and unreaped_s of
    the others, see above. wall_s: until the command itself ended, seconds.
    peak_mb: for each name of a process, the largest resident set of one such process, in 10^6 bytes, looked at every
    SAMPLE_S seconds: what a process reached in its last moment may be missing.
    killed: descendants that were still there GRACE_S after the command ended.
    out, err: the text that the command wrote."""

    cpu_s: float
    user_s: float
    system_s: float
    unreaped_s: float
    wall_s: float
    peak_mb: dict[str, float]
    killed: int
    returncode: int
    out: str
    err: str


def run(
    command: Sequence[str],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout_s: float | None = None,
    grace_s: float = GRACE_S,
) -> Measured:
    """Runs the command to its end. returncode is as in subprocess: -9 where signal 9 ended it.

    Raises OSError where the command cannot be started, and subprocess.TimeoutExpired after all its processes are
    killed where it takes longer than timeout_s."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        result = folder / "result.json"
        supervisor = [sys.executable, "-I", __file__, str(result), str(grace_s), *command]
        with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
            process = subprocess.Popen(supervisor, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
            try:
                process.wait(timeout_s)
            except BaseException:
                process.terminate()
                process.wait()
                raise
        texts = [(folder / stream).read_text(encoding="utf-8", errors="replace") for stream in ("out", "err")]
        if not result.exists():
            raise OSError(f"cannot measure {command[0]}: {texts[1].strip()[-500:]}")
        return Measured(**json.loads(result.read_text(encoding="utf-8")), out=texts[0], err=texts[1])


def descendants(of: int) -> list[int]:
    """The processes below one, zombies included."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208 (many times a second)
        if entry.isdigit():
            try:
                stat = Path("/proc", entry, "stat").read_bytes()
            except OSError:  # it has ended
                continue
            parent = int(stat[stat.rindex(b")") + 2 :].split()[1])  # the name before it may hold anything
            children.setdefault(parent, []).append(int(entry))
    found = []
    left = [of]
    while left:
        below = children.get(left.pop(), [])
        found += below
        left += below
    return found


class Unwatched:
    """Finds the processes that the kernel adds up for nobody: those that end while their parent ignores SIGCHLD."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, float]] = {}  # process -> its parent, seconds used with its reaped children

    def look(self, processes: list[int]) -> float:
        """Seconds used by those that were there the last time, are no more, and were reaped by nobody."""
        now: dict[int, tuple[int, float]] = {}
        for process in processes:
            try:
                stat = Path("/proc", str(process), "stat").read_bytes()
            except OSError:  # it has ended
                continue
            fields = stat[stat.rindex(b")") + 2 :].split()
            now[process] = int(fields[1]), sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
        gone = [self._seen[process] for process in self._seen.keys() - set(processes)]
        self._seen = now
        return sum(used for parent, used in gone if parent in now and _ignores_children(parent))


def _ignores_children(process: int) -> bool:
    try:
        status = Path("/proc", str(process), "status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    ignored = next((line.split()[1] for line in status.splitlines() if line.startswith("SigIgn:")), "0")
    return bool(int(ignored, 16) >> (signal.SIGCHLD - 1) & 1)


def machine() -> dict[str, object]:
    """What the figures were measured on: cores, type of processor and what of it matters here, load before."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    about = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    memory_kb = int(Path("/proc/meminfo").read_text(encoding="utf-8").split()[1])  # MemTotal comes first
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": f"{about.get('model name', 'unknown')}, family {about.get('cpu family')}, model {about.get('model')}",
        "bf16": sorted({"amx_bf16", "avx512_bf16"} & set(about.get("flags", "").split())),
        "memory_gb": round(memory_kb * 1024 / 1e9, 1),
        "load_before": round(os.getloadavg()[0], 2),
    }


def process_name(arguments: list[str]) -> str:
    """What to call a process: the module or the script that a Python runs, else the program.

    arguments: its command line."""
    program = Path(arguments[0]).name
    if not program.startswith("python"):
        return program
    for at, argument in enumerate(arguments[1:], 1):
        if argument == "-m" and at + 1 < len(arguments):
            return arguments[at + 1]
        if argument == "-c" and at + 1 < len(arguments):
            return "multiprocessing" if "multiprocessing" in arguments[at + 1] else f"{program} -c"
        if not argument.startswith("-"):
            return Path(argument).name
    return program


def _peaks(processes: list[int], peaks: dict[str, float]) -> None:
    """Raises the peaks to what the processes have reached."""
    for process in processes:
        try:
            status = Path("/proc", str(process), "status").read_text(encoding="utf-8", errors="replace")
            arguments = Path("/proc", str(process), "cmdline").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        reached = next((line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")), None)
        if reached is None or not arguments:  # a zombie has no memory any more
            continue
        name = process_name(arguments.split("\0"))
        peaks[name] = max(peaks.get(name, 0.0), round(int(reached) * 1024 / 1e6, 1))


def _kill(processes: list[int]) -> None:
    for process in processes:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue


def supervise(command: Sequence[str], grace_s: float) -> dict[str, object]:
    """Runs the command and waits for it and for all its descendants. Returns the fields of Measured but out and err.

    For a process of its own, without other children. Raises OSError where the command cannot be started."""
    own = os.getpid()
    libc = ctypes.CDLL(None, use_errno=True)
    # Where who measures is killed, so is what is measured.
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) or libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    started = time.monotonic()
    main = os.posix_spawnp(command[0], list(command), os.environ, setsigdef=[signal.SIGPIPE, signal.SIGXFSZ])
    ended: float | None = None
    returncode = killed = 0
    peaks: dict[str, float] = {}
    unwatched, lost_s = Unwatched(), 0.0
    try:
        while True:
            try:
                process, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            now = time.monotonic()
            if process == main:
                ended, returncode = now, os.waitstatus_to_exitcode(status)
            if process:
                continue
            there = descendants(own)
            _peaks(there, peaks)
            lost_s += unwatched.look(there)
            if ended is not None and now > ended + grace_s:
                killed += len(there)
                _kill(there)
            time.sleep(SAMPLE_S)
    except BaseException:
        while there := descendants(own):  # again: one may have forked meanwhile, and its orphans come here
            _kill(there)
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    continue
            time.sleep(0.01)
        raise
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "cpu_s": used.ru_utime + used.ru_stime + lost_s,
        "user_s": used.ru_utime,
        "system_s": used.ru_stime,
        "unreaped_s": lost_s,
        "wall_s": (ended or started) - started,
        "peak_mb": peaks,
        "killed": killed,
        "returncode": returncode,
    }


def _stop(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def main(argv: list[str]) -> int:
    """argv: the file for the result, the seconds of grace, the command."""
    signal.signal(signal.SIGTERM, _stop)
    try:
        measured = supervise(argv[2:], float(argv[1]))
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    Path(argv[0]).write_text(json.dumps(measured), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
