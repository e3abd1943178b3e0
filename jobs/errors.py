"""Why a run stops: each kind of bad run is one clear line and an exit code of its own."""

import sys

INTERRUPTED = 130  # the exit code by which a shell tells of a process that Ctrl-C ended
AGAIN = "interrupted; run the same command again to go on"


class RunError(Exception):
    """A run cannot go on. The message is one line that says what to do; exit_code is the process's."""

    exit_code = 1


class ConfigError(RunError):
    """A setting or an argument is wrong. Nothing was read or written."""

    exit_code = 2


class InputError(RunError):
    """The images or the manifest given cannot be used. Nothing was written."""

    exit_code = 3


class LakeError(RunError):
    """The lake cannot be used: not a lake, made by a newer version, or a stage's input table is missing."""

    exit_code = 4


class MissingTableError(LakeError):
    """A table that a stage cannot do without is not there. The command line adds which stage writes it."""

    def __init__(self, lake: str, table: str) -> None:
        super().__init__(f"{lake} has no table {table}")
        self.table = table


class LakeBusyError(RunError):
    """Another run is writing to the lake, or took it over from this one."""

    exit_code = 5


class TooManyFailuresError(RunError):
    """More images failed than embed.max_failed_share allows. What was done is kept."""

    exit_code = 6


class MachineError(RunError):
    """The machine lacks something: Java, a Spark jar, the same version of imagesieve on the executors."""

    exit_code = 7


class ContractError(RunError):
    """A stage broke a promise of the tables, such as in = out + failed. A bug: please report it."""

    exit_code = 8


def stopped(message: str, code: int) -> int:
    """Tells in one line why a command ends, and returns its exit code."""
    line = " ".join(message.split())
    sys.stderr.write(f"imagesieve: {line}\n")
    return code
