"""Parity: whether every drafter leaves the text of plain decoding as it is, in three dtypes.

A wide pass adds up in another order than a narrow one, so where two tokens are nearly equally likely their order can
change; ``margin`` says how near (top-1 minus top-2 logit, by one pass over the text so far in the same dtype).
"""

from __future__ import annotations

from typing import Any

from metasd.runtime import contenders as live
from metasd.runtime.conversation import EncodedPrompt
from metasd.runtime.engine.cache import CachedModel
from metasd.runtime.load import Target

from .plan import DTYPES, Setting
from .setting import builder, finite, generate, open_target, peak_memory, texts_of
from .worker import Report


def measure(setting: Setting, report: Report) -> None:
    """Rows by dtype and contender, and the peak memory by dtype."""
    rows = report.found["rows"] = []
    memory = report.found["memory"] = {}
    for dtype in DTYPES:
        if not report.time_left():
            return
        with peak_memory(setting.device, memory.setdefault(dtype, {})):
            target = open_target(setting, dtype)
            texts = texts_of(target, setting.texts, setting.tokens)
            for name, answers, plain in _answers(setting, target, texts, report):
                rows.append({"dtype": dtype, "contender": name, **same_text(target, texts, answers, plain)})
            del target


def _answers(setting: Setting, target: Target, texts: list[EncodedPrompt], report: Report) -> Any:
    """(contender, its answers, plain decoding's) of fixed arms, the default policy, the planner and ``generate``."""
    build = builder(target, setting.draft_length, skip=True)
    plain, *others = live.contenders(["default", "planner"], build, baseline=True, prior=None)
    how = live.Decoding(max_new_tokens=setting.tokens)
    for entrant in (plain, *others):
        if not report.time_left():
            return
        report.say(f"{target.dtype}, {entrant.spec}")
        live.run(target, [entrant], texts, how)
        if entrant is not plain:
            yield entrant.spec, entrant.session.texts, plain.session.texts
    report.say(f"{target.dtype}, transformers generate")
    answers = [generate(target, tokens, setting.tokens) for _, _, tokens in texts]
    yield "transformers generate", answers, plain.session.texts


def same_text(
    target: Target, texts: list[EncodedPrompt], answers: list[list[int]], plain: list[list[int]]
) -> dict[str, Any]:
    """How many ``answers`` are ``plain``'s, and where and at which margin each of the others parts from it."""
    parted = []
    for (name, _, prompt), mine, its in zip(texts, answers, plain, strict=True):
        if mine != its:
            at = parts_at(mine, its)
            margin = margin_after(target, [*prompt, *its[:at]])
            parted.append({"text": name, "position": at, "margin": finite(margin)})
    return {
        "same_text": len(texts) - len(parted),
        "texts": len(texts),
        "tokens": sum(map(len, plain)),
        "parted": parted,
    }


def parts_at(mine: list[int], its: list[int]) -> int:
    """The first position at which two texts differ, or where the shorter ends."""
    pairs = enumerate(zip(mine, its, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(mine), len(its)))


def margin_after(target: Target, tokens: list[int]) -> float:
    """Top-1 minus top-2 logit of what follows ``tokens``."""
    logits = CachedModel(target.model).forward(tokens, 1)[0].float()
    first, second = logits.topk(2).values.tolist()
    return float(first - second)
