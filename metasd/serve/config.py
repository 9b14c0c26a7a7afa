"""What a server is told: pool, policy, files. From a dict or a TOML file; everything wrong is one line at start."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from metasd.core import jsontext, shown, specs
from metasd.core.errors import UsageError
from metasd.core.limits import LONGEST_DRAFT
from metasd.core.pool import PLAIN, Pool
from metasd.drafters import TEXT_DRAFTERS, TextDrafterBase
from metasd.policies import Policy, make
from metasd.serve.records import PROMPTS


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of ``additional_config["metasd"]``, or of the file that its only key ``file`` names.

    pool: drafter SPECs. policy: a policy SPEC. prior: a file of ``metasd fit``. reset: ``prompt`` or ``never``, as the
    policy has it by default. state: where what was learned is kept, every ``state_every`` seconds and at the end.
    fresh: start anew where ``state`` cannot be used. stats: a JSON file of the counters, every ``log_every`` seconds.
    goodput: cut drafts to the length at which most tokens a second come out (``metasd.serve.pace``).
    records: folder of a trace of what is served; record_prompts: ``keep``, ``hash`` or ``none`` of their prompts.
    """

    pool: tuple[str, ...] = ("lookup", "table")
    policy: str = "default"
    prior: str | None = None
    reset: str | None = None
    seed: int = 0
    state: str | None = None
    state_every: float = 60.0
    fresh: bool = False
    stats: str | None = None
    log_every: float = 10.0
    goodput: bool = True
    records: str | None = None
    record_prompts: str = "none"

    @classmethod
    def read(cls, given: Any) -> Config:
        """Raises UsageError for what is no mapping, an unknown key, a value of another kind, an unreadable file."""
        if not isinstance(given, Mapping):
            raise UsageError(f"metasd settings are {given!r}; give a mapping of keys to values")
        if set(given) == {"file"}:
            return cls.read(_toml(Path(str(given["file"]))))
        known = {f.name: f for f in fields(cls)}
        settings: dict[str, Any] = {}
        for key, value in given.items():
            if key not in known:
                raise UsageError(f"metasd settings have no key {key!r}; the keys are file, or {', '.join(known)}")
            settings[key] = _checked(key, value)
        return cls(**settings)

    def make_policy(self) -> Policy:
        """The policy, with its prior. Raises UsageError."""
        policy = make(self.policy)
        if self.prior is not None:
            try:
                policy.set_prior(jsontext.loads(Path(self.prior).read_bytes()))
            except (OSError, ValueError) as error:
                if isinstance(error, UsageError):
                    raise
                raise UsageError(f"prior {self.prior}: {shown.reason(error)}; give a file of metasd fit") from error
        return policy

    def make_pool(self, most: int, several: bool = False) -> tuple[list[TextDrafterBase], Pool]:
        """The drafters, one arm each of at most ``most`` tokens, and plain decoding. Raises UsageError.

        several: arms of 1, 2, 4, ... tokens too, for a policy that weighs them against time.
        """
        drafters = [_drafter(spec, most) for spec in self.pool if spec != PLAIN]
        arms = [(d, g) for d, drafter in enumerate(drafters) for g in _lengths(drafter.draft_length, several)]
        return drafters, Pool([d.info for d in drafters], [*arms, (-1, 0)])


def _drafter(spec: str, most: int) -> TextDrafterBase:
    name, settings = specs.parse(spec)
    if name not in TEXT_DRAFTERS:
        raise UsageError(f"drafter {name!r} cannot run under vLLM's hook; choose one of {', '.join(TEXT_DRAFTERS)}")
    settings.setdefault("draft_length", str(most))
    made: TextDrafterBase = specs.build(TEXT_DRAFTERS[name], name, settings, "drafter")
    if made.draft_length > most:
        problem = f"drafter {spec!r} drafts {made.draft_length} tokens and the engine checks {most}"
        raise UsageError(f"{problem}; raise num_speculative_tokens or lower draft_length")
    return made


def _lengths(longest: int, several: bool) -> list[int]:
    return [*(2**i for i in range((longest - 1).bit_length())), longest] if several else [longest]


def check_length(most: int) -> int:
    """``num_speculative_tokens``. Raises UsageError for one that no trace can keep."""
    if not 1 <= most <= LONGEST_DRAFT:
        raise UsageError(f"num_speculative_tokens {most} is outside 1..{LONGEST_DRAFT}; give another")
    return most


def _checked(key: str, value: Any) -> Any:
    kinds: dict[str, tuple[type, ...]] = {
        "seed": (int,),
        "fresh": (bool,),
        "goodput": (bool,),
        "state_every": (int, float),
        "log_every": (int, float),
    }
    if key == "pool":
        if not isinstance(value, list | tuple) or not value or not all(isinstance(v, str) for v in value):
            raise UsageError(f"metasd.pool is {value!r}; give a list of drafters such as ['lookup', 'table']")
        return tuple(value)
    wanted: Any = kinds.get(key, (str,))
    if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
        raise UsageError(f"metasd.{key} is {value!r}; give {' or '.join(k.__name__ for k in wanted)}")
    if key == "record_prompts" and value not in PROMPTS:
        raise UsageError(f"metasd.record_prompts is {value!r}; give {', '.join(PROMPTS)}")
    if key.endswith("_every") and value <= 0:
        raise UsageError(f"metasd.{key} is {value!r}; give seconds above 0")
    return value


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"metasd.file {path}: {shown.reason(error)}; give a TOML file") from error
