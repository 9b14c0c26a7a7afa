"""``metasd.generate``: one answer from Python, decoded as ``metasd run`` decodes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from metasd.core.pieces import Speller, sources
from metasd.core.prompts import DEFAULT_DOMAIN, Message, Prompt, parse_messages
from metasd.policies import PolicyLike
from metasd.runtime import contenders as live
from metasd.runtime.conversation import encode_all, stops_of
from metasd.runtime.costs import AUTO, CostsLike, known
from metasd.runtime.generated import Generated, generated
from metasd.runtime.load import Target, load_target
from metasd.runtime.registry import build_drafters
from metasd.runtime.sampling import Sampling

Stream = Callable[[str, str | None], object]
"""Called with every piece of text and the name of the drafter that guessed it, None for the target's own."""


def generate(
    target: Target | str,
    prompt: str | Sequence[Message],
    *,
    drafters: Sequence[str] = (),
    policy: PolicyLike = "default",
    max_new_tokens: int = 128,
    draft_length: int | None = None,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    stop: str | Sequence[str] = (),
    raw: bool = False,
    prior: Mapping[str, Any] | None = None,
    costs: CostsLike = AUTO,
    stream: Stream | None = None,
) -> Generated:
    """Answer ``prompt`` with ``target``, which ``metasd.load`` loaded or whose name is given.

    Args:
        prompt: a text, or a conversation: ``[{"role": "user", "content": "..."}, ...]``, the user speaking last.
        drafters: SPECs as for ``--drafter``; by default lookup and tables.
        policy: a SPEC as for ``--policy``, a policy class, or a policy object, which is copied.
        max_new_tokens: most tokens of the answer.
        draft_length: tokens a drafter proposes in a round, unless its SPEC says otherwise. None: 3 for drafters that
            are named; those of the default pool have arms of 1, 2, 3, 4, 6 and 8.
        temperature: 0 decodes greedily: the text is ``model.generate(do_sample=False)``'s.
        top_k, top_p, seed: of sampling above temperature 0.
        stop: texts that end the answer and are left out of it.
        raw: no chat template.
        prior: what ``metasd fit`` learned, read from its file.
        costs: what rounds cost, for policies that weigh time: "auto" measures it at the first use on this machine and
            keeps it; "measure" does so anew; "none"; a costs.json, or ``CostModel``.
        stream: told every piece of text as it is decoded.

    The policy starts anew with every call; ``metasd.Chat`` keeps what it learns. Raises UsageError for what cannot
    work: a wrong name, a value out of range, a prompt that does not fit.
    """
    target = load_target(target) if isinstance(target, str) else target
    sampling = Sampling(temperature, top_k, top_p)
    asked = as_prompt(prompt, stop)
    texts = encode_all(target, [asked], raw=raw, max_new_tokens=max_new_tokens)
    build = partial(build_drafters, drafters, target, draft_length=draft_length, sampling=sampling, seed=seed)
    (entrant,) = live.contenders([policy], build, baseline=False, prior=prior)
    how = live.Decoding(
        max_new_tokens, sampling, seed, costs=known(costs, [policy], target, build).costs, stops=stops_of([asked])
    )
    with streaming(entrant, target, asked.stop, stream):
        live.run(target, [entrant], texts, how)
    return generated(entrant, target, texts, how.stops)[0]


def as_prompt(prompt: str | Sequence[Message], stop: str | Sequence[str] = ()) -> Prompt:
    """A Prompt from what ``generate`` takes. Raises UsageError for an empty text or malformed messages."""
    said = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    *before, (_, last) = parse_messages(said, "prompt")
    return Prompt("prompt", DEFAULT_DOMAIN, (last,), tuple(before), (stop,) if isinstance(stop, str) else tuple(stop))


@contextmanager
def streaming(entrant: live.Contender, target: Target, stops: Sequence[str], stream: Stream | None) -> Iterator[None]:
    """Inside it, ``entrant`` tells ``stream`` what it decodes: one answer."""
    if stream is None:
        yield
        return
    speller, pool = Speller(target.decode, stops), entrant.pool

    def told(prompt: int, tokens: list[int], arm: int, accepted: int) -> None:
        for token, source in zip(tokens, sources(pool, arm, len(tokens), accepted), strict=True):
            if piece := speller.take(token):
                stream(piece, None if source < 0 else pool.drafters[source].name)

    entrant.on_tokens = told
    try:
        yield
    finally:
        entrant.on_tokens = None
    if rest := speller.rest():
        stream(rest, None)
