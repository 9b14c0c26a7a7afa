"""A conversation with a target: every answer is decoded with what the policy learned from those before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from metasd.core.errors import UsageError
from metasd.core.prompts import DEFAULT_DOMAIN, Message
from metasd.policies import PolicyLike
from metasd.runtime import contenders as live
from metasd.runtime.contenders import Build
from metasd.runtime.costs import AUTO, CostsLike, known
from metasd.runtime.generate import Stream, streaming
from metasd.runtime.generated import Generated, generated
from metasd.runtime.load import Target, check_fits, load_target
from metasd.runtime.registry import build_drafters
from metasd.runtime.sampling import Sampling


class Chat:
    """See the module docstring; the arguments are those of ``metasd.generate``.

    Attributes:
        messages: what was said so far, without the system text; only questions that were answered.
        system: said before everything else, None for nothing. It may be changed at any time.

    An interrupt or an error inside an answer leaves the conversation as it was before the question; the policy and
    drafters start anew then. Raises UsageError where the target has no chat template.
    """

    def __init__(
        self,
        target: Target | str,
        *,
        system: str | None = None,
        drafters: Sequence[str] = (),
        policy: PolicyLike = "default",
        max_new_tokens: int = 512,
        draft_length: int | None = None,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
        stop: str | Sequence[str] = (),
        prior: Mapping[str, Any] | None = None,
        costs: CostsLike = AUTO,
    ) -> None:
        target = load_target(target) if isinstance(target, str) else target
        sampling = Sampling(temperature, top_k, top_p)
        build = partial(build_drafters, drafters, target, draft_length=draft_length, sampling=sampling, seed=seed)
        how = live.Decoding(max_new_tokens, sampling, seed, costs=known(costs, [policy], target, build).costs)
        self._set_up(target, build, how, policy, prior, (stop,) if isinstance(stop, str) else tuple(stop), system)

    @classmethod
    def of(
        cls, target: Target, build: Build, how: live.Decoding, policy: PolicyLike, prior: Mapping[str, Any] | None
    ) -> Chat:
        """A conversation with what the command line has opened already."""
        chat = cls.__new__(cls)
        chat._set_up(target, build, how, policy, prior, (), None)
        return chat

    def _set_up(
        self,
        target: Target,
        build: Build,
        how: live.Decoding,
        policy: PolicyLike,
        prior: Mapping[str, Any] | None,
        stop: tuple[str, ...],
        system: str | None,
    ) -> None:
        if not target.tokenizer.chat_template:
            raise UsageError(f"{target.name} has no chat template to hold a conversation in; use metasd run --raw")
        self._target, self._build, self._how, self._policy, self._prior = target, build, how, policy, prior
        self._stop, self.system = stop, system
        self.messages: list[Message] = []
        self._asked = 0
        self._entrant = self._fresh()

    def say(self, text: str, stream: Stream | None = None) -> Generated:
        """The answer to ``text``. Raises UsageError when the conversation no longer fits the model's context."""
        if not text.strip():
            raise UsageError("there is nothing to answer; say something")
        asked: Message = {"role": "user", "content": text}
        before = [{"role": "system", "content": self.system}] if self.system else []
        tokens = self._target.encode([*before, *self.messages, asked])
        self._asked += 1
        name = f"turn-{self._asked}"
        check_fits(self._target, name, len(tokens), self._how.max_new_tokens)
        texts = [(name, DEFAULT_DOMAIN, tokens)]
        how = replace(self._how, stops={name: self._stop})
        try:
            with streaming(self._entrant, self._target, self._stop, stream):
                self._entrant.open(self._target, texts, how)
                self._entrant.decode_one()
        except BaseException:
            self._entrant = self._fresh()  # whatever was half done is dropped
            raise
        answer = generated(self._entrant, self._target, texts, how.stops)[0]
        self.messages += [asked, {"role": "assistant", "content": answer.text}]
        return answer

    def clear(self) -> None:
        """Forget what was said; the system text and what the policy learned stay."""
        self.messages = []

    @property
    def pool(self) -> Any:
        """The arms that are played."""
        return self._entrant.pool

    def _fresh(self) -> live.Contender:
        (entrant,) = live.contenders([self._policy], self._build, baseline=False, prior=self._prior)
        entrant.policy.bind(entrant.pool, 1)
        return entrant
