"""A target's answers to the prompts of each domain, kept in the pool's folder: a killed run goes on with them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from metasd.core import files, jsontext, poolfolder, progress
from metasd.core.prompts import Prompt
from metasd.distill.answers import Answer, Said, batch_answers
from metasd.runtime.load import Target
from metasd.runtime.sampling import Sampling

Asked = tuple[list[int], tuple[str, ...]]
"""A prompt's tokens and its stop strings."""
FOLDER = "answers"


class Asking:
    """How a domain's prompts are answered: in waves that each spread over the whole list, until there is enough.

    Args:
        wanted: answer tokens of a domain that are enough. batch: answers decoded at once.
        sampling, seed: how tokens are chosen; greedily where None.
    """

    def __init__(
        self,
        target: Target,
        folder: Path,
        wanted: int,
        max_new_tokens: int,
        batch: int,
        sampling: Sampling | None = None,
        seed: int = 0,
    ) -> None:
        self.target, self.folder, self.sampling, self.seed = target, folder, sampling, seed
        self.wanted, self.longest, self.batch = wanted, max_new_tokens, batch

    def all(
        self, domains: Mapping[str, Sequence[Prompt]], encoded: Mapping[str, list[int]]
    ) -> tuple[dict[str, list[Answer]], list[poolfolder.Row]]:
        """Answers by domain, and the manifest's row of each. Raises FileError."""
        shares = {domain: min(self.wanted, len(ps) * self.longest) for domain, ps in domains.items()}
        answers, rows = dict[str, list[Answer]](), list[poolfolder.Row]()
        with progress.bar(sum(shares.values()), "distill (tokens)") as advance:
            for domain, members in domains.items():
                meter = _Meter(advance, shares[domain])
                file = self.folder / FOLDER / f"{poolfolder.file_name(domain)}.json"
                answers[domain] = self._domain(file, [(encoded[p.id], p.stop) for p in members], meter)
                meter.finish()
                about: poolfolder.Row = {"domain": domain, "file": f"{FOLDER}/{file.name}"}
                about["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
                rows.append(about | counts(answers[domain]))
        return answers, rows

    def _domain(self, file: Path, asked: list[Asked], said: Said) -> list[Answer]:
        done, answers = _kept(file)
        said(_tokens(answers))
        waves = -(-len(asked) // self.batch)
        for wave in range(done, waves):
            if _tokens(answers) >= self.wanted:
                break
            for together in _one_side(self.target, asked[wave::waves]):
                prompts, ends = zip(*together, strict=True)
                how = (self.longest, said, ends, self.sampling, self.seed)
                answers += list(batch_answers(self.target, list(prompts), *how))
            files.write_text(file, jsontext.dumps({"waves": wave + 1, "answers": [asdict(a) for a in answers]}) + "\n")
        return answers


def _kept(file: Path) -> tuple[int, list[Answer]]:
    """Waves that an earlier run has answered, and their answers; none where the file is missing or damaged."""
    try:
        found = jsontext.loads(file.read_bytes())
        return int(found["waves"]), [Answer(**answer) for answer in found["answers"]]
    except (OSError, ValueError, KeyError, TypeError):
        return 0, []


def _tokens(answers: Sequence[Answer]) -> int:
    return sum(len(a.tokens) for a in answers)


def counts(answers: Sequence[Answer]) -> dict[str, int]:
    """How many answers, their tokens, and how they stopped."""
    stops = {stop: sum(a.stop == stop for a in answers) for stop in ("ended", "limit", "looped")}
    return {"answers": len(answers), "tokens": _tokens(answers), **stops}


class _Meter:
    """Tells the progress bar of one domain's tokens, never more than the domain's share of it."""

    def __init__(self, advance: Said, share: int) -> None:
        self._advance, self._left = advance, share

    def __call__(self, tokens: int) -> None:
        step = min(tokens, self._left)
        self._left -= step
        self._advance(step)

    def finish(self) -> None:
        self._advance(self._left)


def _one_side(target: Target, asked: list[Asked]) -> list[list[Asked]]:
    """Prompts that may be read together: on one side of the target's rotary switch, which goes by the longest."""
    if target.switch is None:
        return [asked]
    sides = [a for a in asked if len(a[0]) <= target.switch], [a for a in asked if len(a[0]) > target.switch]
    return [side for side in sides if side]
