"""What came of a text that was decoded: its tokens, its rounds and the seconds of its parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from metasd.core.pool import Pool
from metasd.core.records import Rounds
from metasd.runtime.contenders import Contender
from metasd.runtime.conversation import EncodedPrompt
from metasd.runtime.load import Target
from metasd.runtime.stops import Stops, shown


@dataclass(frozen=True, slots=True)
class Round:
    """One draft and its check: the arm played, tokens drafted, accepted of them, emitted, and wall seconds."""

    arm: str
    drafted: int
    accepted: int
    emitted: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Generated:
    """One answer.

    Attributes:
        text: the answer, without end-of-text marks and without a stop string.
        token_ids: its tokens, those included.
        rounds: every round, in order; their ``emitted`` sum to the tokens.
        seconds: of all rounds. None of the three below is in it.
        prompt_tokens: tokens of the prompt, its chat template included.
        prefill_seconds: the target's reading of the prompt.
        begin_seconds: the drafters' reading of it (indexing, for those that copy).
        first_token_seconds: from the prompt to the first tokens: both readings and the first round.
    """

    id: str
    domain: str
    text: str
    token_ids: list[int]
    rounds: list[Round]
    seconds: float | None
    prompt_tokens: int
    prefill_seconds: float
    begin_seconds: float
    first_token_seconds: float | None

    @property
    def tokens(self) -> list[int]:
        """``token_ids``."""
        return self.token_ids

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens over the seconds of the rounds."""
        return len(self.token_ids) / self.seconds if self.seconds else None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def generated(
    entrant: Contender, target: Target, texts: Sequence[EncodedPrompt], stops: Stops | None = None
) -> list[Generated]:
    """What ``entrant`` made of each of the ``texts`` that it decoded to the end."""
    by_text: list[list[Round]] = [[] for _ in texts]
    for rounds in entrant.rounds:
        by_text[int(rounds.prompt[0])].append(_round(rounds, entrant.pool))
    made = []
    starts = entrant.session.starts
    for (name, domain, prompt), tokens, rounds_, start in zip(
        texts, entrant.session.texts, by_text, starts, strict=False
    ):
        timed = [r.seconds for r in rounds_ if r.seconds is not None]
        made.append(
            Generated(
                id=name,
                domain=domain,
                text=shown(target, tokens, (stops or {}).get(name, ())),
                token_ids=list(tokens),
                rounds=rounds_,
                seconds=sum(timed) if len(timed) == len(rounds_) else None,
                prompt_tokens=len(prompt),
                prefill_seconds=start.prefill_seconds,
                begin_seconds=start.begin_seconds,
                first_token_seconds=start.first_token_seconds,
            )
        )
    return made


def _round(rounds: Rounds, pool: Pool) -> Round:
    """The one row of a live round."""
    seconds = None if rounds.seconds is None else float(rounds.seconds[0])
    drafted, accepted, emitted = (int(column[0]) for column in (rounds.drafted, rounds.accepted, rounds.emitted))
    return Round(pool.arms[int(rounds.arm[0])].name, drafted, accepted, emitted, seconds)
