"""The kinds of failure a user can cause, each with the exit code the command line gives it."""

from __future__ import annotations


class MetaSDError(Exception):
    """A failure with a one-line message that names the value and the mend."""

    exit_code = 2


class UsageError(MetaSDError, ValueError):
    """Wrong usage or bad input: an unknown name, a malformed line, an impossible setting."""


class FileError(MetaSDError):
    """A file that cannot be written; the message names it, the cause and the mend."""


class TooLongError(UsageError):
    """A text that a model cannot read: prompt and budget together are longer than its context, or cross a switch."""


class SessionClosedError(UsageError):
    """A session that was interrupted where it could not be put back; its texts hold what was committed before."""


class RankError(MetaSDError):
    """Another process of the same job has failed or is lost; the message says which and why."""


class TraceError(MetaSDError):
    """A trace that is damaged, foreign or of an unknown schema; the message names the shard or file."""

    exit_code = 3
