"""Where environments keep what a policy must not reach: an environment object holds a number, this module the rest.

A policy in the same process can walk every attribute of the environment, context, rounds and info it is given; none
of them refers to a trace, a session or an oracle. (It can of course import this module, or read the trace from disk;
what is guarded against is a leak by accident or by rummaging, not an operating system's job.)
"""

from __future__ import annotations

import itertools
import weakref
from typing import Any

from gymnasium.error import ClosedEnvironmentError

_kept: dict[int, Any] = {}
_numbers = itertools.count(1)


def keep(owner: object, thing: Any) -> int:
    """Keep ``thing`` while ``owner`` lives; returns the handle to ``fetch`` it with."""
    handle = next(_numbers)
    _kept[handle] = thing
    weakref.finalize(owner, drop, handle)
    return handle


def fetch(handle: int) -> Any:
    """What ``keep`` was given. Raises ClosedEnvironmentError once its owner is gone or ``drop`` was called."""
    try:
        return _kept[handle]
    except KeyError:
        raise ClosedEnvironmentError("this environment was closed; make another with gym.make") from None


def drop(handle: int) -> None:
    """Forget it; harmless when it is gone already."""
    _kept.pop(handle, None)
