"""Texts that copy from their prompts now and then, with the real lookup drafter and a made-up model drafter."""

from __future__ import annotations

import numpy as np

from metasd.core.pool import DrafterInfo
from metasd.core.signals import F
from metasd.drafters.lookup import LookupDrafter
from metasd.traces.trace import Trace

G = 20
MODEL = DrafterInfo("small", "model", free=False, deterministic=True)


def text(rng, traps):
    """(prompt, answer): spans of the prompt between fresh tokens; a trap copies three tokens, then goes elsewhere."""
    prompt = rng.integers(0, 400, 120).tolist()
    answer = []
    while len(answer) < 160:
        start = int(rng.integers(0, 80))
        span = 3 if rng.random() < traps else int(rng.integers(8, 30))
        answer += prompt[start : start + span] + rng.integers(400, 800, int(rng.integers(3, 10))).tolist()
    return prompt, answer[:160]


def columns(prompt, answer):
    """Signals, proposed, accepted and first proposed token of lookup at every start of ``answer``."""
    drafter = LookupDrafter(draft_length=G, min_match=3, max_match=7, occurrence="earliest")
    drafter.begin(prompt)
    rows = []
    for t, token in enumerate(answer):
        look = drafter.look()
        draft = drafter.draft(G).tokens if look.available else []
        agreed = next((i for i, (a, b) in enumerate(zip(draft, answer[t:], strict=False)) if a != b), None)
        agreed = min(len(draft), len(answer) - t) if agreed is None else agreed
        rows.append((look.signals, len(draft), agreed, draft[0] if draft else 0))
        drafter.extend([token])
    return drafter.info, rows


def copy_trace(seed, traps, model_rate=0.6):
    """One text for each entry of ``traps``, the chance that a copied span is a trap."""
    rng = np.random.default_rng(seed)
    made = [text(rng, t) for t in traps]
    looked = [columns(*m) for m in made]
    rows = [r for _, part in looked for r in part]
    lengths = [len(a) for _, a in made]
    N = sum(lengths)
    left = np.concatenate([np.arange(n, 0, -1) for n in lengths])
    signals = np.full((N, 2, F), np.nan, np.float16)
    signals[:, 0] = [r[0] for r in rows]
    model = np.minimum(rng.geometric(1 - model_rate, N) - 1, np.minimum(left, G))
    draft = np.zeros((N, 2, G), np.int64)
    draft[:, 0, 0] = [r[3] for r in rows]
    return Trace(
        drafters=(looked[0][0], MODEL),
        draft_lengths=np.array([G, G]),
        ids=[f"t{i}" for i in range(len(made))],
        domains=["copy"] * len(made),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        ended=np.ones(len(made), bool),
        prompt_lengths=np.array([len(p) for p, _ in made]),
        tokens=np.concatenate([a for _, a in made]),
        proposed=np.stack([[r[1] for r in rows], np.full(N, G)], axis=1).astype(np.uint8),
        accepted=np.stack([[r[2] for r in rows], model], axis=1).astype(np.uint8),
        draft_tokens=draft,
        signals=signals,
        prompt_tokens=np.concatenate([p for p, _ in made]),
    )
