"""What can go wrong between this machine and AWS."""

from jobs.errors import INTERRUPTED, RunError


class AwsError(RunError):
    """AWS refused or did not answer. The message says what was asked and what to do."""

    exit_code = 9


class Interrupted(RunError):  # noqa: N818
    """Ctrl-C. The message says what was left behind, and its id."""

    exit_code = INTERRUPTED
