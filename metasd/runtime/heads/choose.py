"""Opening a head for a target; where a configuration does not say how it counts layers, both readings are tried.

The trial is one pass of the target over a short text and one of the head for each reading: how often the head's first
token is the one the target would say. A wrong reading drafts worse and changes no text, so nobody would notice.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from metasd.core import poolfolder
from metasd.core.cache_rule import COMMITTED
from metasd.core.pool import DrafterInfo
from metasd.runtime.engine.cache import CachedModel
from metasd.runtime.engine.features import wanted
from metasd.runtime.heads.attach import Layers, build, candidates
from metasd.runtime.heads.drafter import HeadDrafter
from metasd.runtime.heads.files import read
from metasd.runtime.heads.module import Head
from metasd.runtime.load import Target
from metasd.runtime.sampling import Sampling

TRIAL = """Here is a short program and what it does. def total(values): return sum(v * v for v in values). It takes a \
list of numbers, squares each of them and adds the squares. With 1, 2 and 3 it gives 14, because 1 + 4 + 9 = 14. \
Question: a train leaves at nine and drives for three hours at eighty kilometres an hour. How far does it get? Answer: \
distance is speed times time, so it gets 3 * 80 = 240 kilometres. Once there was a gardener who planted a tree in a \
dry \
valley. Every morning she carried water from the river, and in the third year the first apples were ripe. The report \
says that the meeting was moved from Monday to Thursday, that the budget was agreed, and that two people will visit \
the new office next week. In short: the plan is settled, the money is there, and the work can begin."""
WEAK, CLEAR = 0.3, 2.0
"""Agreement below which a head is hardly this target's; standard errors from which one reading is the better."""


def open_head(
    target: Target,
    path: str,
    *,
    name: str | None = None,
    layers: str | None = None,
    ids: str | None = None,
    revision: str | None = None,
    sampling: Sampling | None = None,
    seed: int = 0,
) -> HeadDrafter:
    """See the module docstring; arguments as in the SPEC. Raises UsageError for a head that cannot be run here."""
    checkpoint = read(path, revision)
    head = build(checkpoint, target.model)
    total = int(target.model.config.get_text_config().num_hidden_layers)
    possible = candidates(head.config, total, layers, ids)
    chosen, notes = possible[0], list[str]()
    label = name or checkpoint.name
    if len(possible) > 1:
        chosen, said = _tried(target, head, possible)
        notes = [f"head {label} does not say how it counts layers: {said}"]
    settings = {"path": checkpoint.name, "revision": checkpoint.revision, "format": head.config.format}
    settings |= {"layers": "+".join(map(str, chosen.indices)), "said": chosen.source} | poolfolder.made_for(path)
    info = DrafterInfo(
        label, "head", free=False, deterministic=False, settings=settings, needs=chosen.indices, cache_rule=COMMITTED
    )
    return HeadDrafter(info, head, sampling=sampling, seed=seed, notes=notes)


@torch.inference_mode()
def _tried(target: Target, head: Head, possible: Sequence[Layers]) -> tuple[Layers, str]:
    """The reading that agrees more often, and a line about it; where they are as good, ids as outputs of layers."""
    text = target.encode(TRIAL, raw=True)[: target.max_length]
    features = wanted([p.indices for p in possible])
    assert features is not None
    said = CachedModel(target.model, features).forward(text, len(text)).argmax(-1)[1:]
    hits = [agreement(head, features.rows(p.indices, 0, len(text) - 1), text) == said for p in possible]
    shares = [float(h.double().mean()) for h in hits]
    apart = int((hits[0] != hits[1]).sum())
    margin = abs(int(hits[0].sum()) - int(hits[1].sum()))
    clear = margin > CLEAR * apart**0.5
    best = max(range(len(possible)), key=lambda i: (shares[i], i))
    told = " against ".join(
        f"{'+'.join(map(str, possible[i].indices))} ({possible[i].source}) {shares[i]:.1%}" for i in (best, 1 - best)
    )
    line = f"on {len(said)} tokens its layers {told}; the first are used"
    if not clear:
        line += ", though the difference may be chance: say ids=hf or ids=outputs"
    return possible[best], line + (f"; below {WEAK:.0%} it is hardly for this target" if shares[best] < WEAK else "")


def agreement(head: Head, states: torch.Tensor, text: Sequence[int]) -> torch.Tensor:
    """[n - 1] the head's first token behind each of the tokens 1.. of ``text`` [n], read with true ``states``."""
    tokens = torch.tensor(list(text[1:]), device=head.device)
    positions = torch.arange(len(tokens), device=head.device)
    logits, _ = head(tokens, head.fuse(states), positions, head.cache())
    return head.tokens(logits.argmax(-1))
