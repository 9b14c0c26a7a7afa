"""The process of one contender: an order as JSON on standard input, what came of it as JSON in the file it is given."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Any

from metasd.bench.jobs import Job
from metasd.core import jsontext
from metasd.core.errors import MetaSDError


def work(order: dict[str, Any]) -> dict[str, Any]:
    """Set the scene (an order without a job), or run the job.

    ``settings``, ``scene`` and ``job`` are the keys of an order. What a user can mend is an ``error`` of the answer.
    """
    settings, said = order["settings"], order["job"]
    from metasd.bench import ours, scene, theirs

    scene.set_threads(settings["threads"])
    try:
        if said is None:
            return scene.set_scene(settings)
        job = Job(**said)
        made = (ours if job.ours else theirs).decode(settings, order["scene"], job)
    except MetaSDError as error:
        return {"error": str(error)}
    except Exception as error:  # a contender that fails leaves the others alone
        traceback.print_exc()
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        return {"error": f"{type(error).__name__}: {first}".removesuffix(": ")}
    return made | {"peak_bytes": peak_bytes()}


def peak_bytes() -> int | None:
    """Most memory that this process has held; None where the system does not tell."""
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    """``python -m metasd.bench.worker FILE``."""
    made = work(jsontext.loads(sys.stdin.buffer.read()))
    Path(sys.argv[1]).write_text(jsontext.dumps(made, compact=True), encoding="utf-8")


if __name__ == "__main__":
    main()
