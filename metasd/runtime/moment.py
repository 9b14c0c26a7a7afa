"""The moment that chat templates print as today's date (Llama 3.1's ``strftime_now``), so that it can be kept.

A recording that goes on tomorrow must ask the same prompts as today: it renders them at the moment it was begun.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any

from metasd.core.errors import UsageError

_kept: ContextVar[datetime | None] = ContextVar("moment", default=None)


class _Clock(datetime):
    """What templates see of the clock."""

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return now() if tz is None else now().astimezone(tz)


def now() -> datetime:
    """The kept moment inside ``at``, the clock's elsewhere; local time."""
    return _kept.get() or datetime.now()


@contextmanager
def at(moment: str | None) -> Iterator[None]:
    """Inside, templates print ``moment`` (ISO 8601), or the present one of None, however long it takes.

    transformers has no setting for it, so its template module is handed another clock; where it has none to replace,
    templates print what they will. Raises UsageError for a text that is no date.
    """
    from transformers.utils import chat_template_utils

    try:
        kept = now() if moment is None else datetime.fromisoformat(moment)
    except ValueError:
        raise UsageError(f"the recording's moment {moment!r} is no date; record anew to another --out") from None
    token, clock = _kept.set(kept), getattr(chat_template_utils, "datetime", None)
    if clock is not None:
        chat_template_utils.datetime = _Clock
    try:
        yield
    finally:
        _kept.reset(token)
        if clock is not None:
            chat_template_utils.datetime = clock
