"""Live decoding from Python: one answer, streamed, in a conversation, interrupted; and repetitions side by side."""

from __future__ import annotations

import pytest
import tiny
import torch

import metasd
from metasd.core.errors import UsageError
from metasd.runtime import repeats
from metasd.runtime.load import Target, as_target

TEMPLATE = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}[>]"
BUDGET = 16


@pytest.fixture(scope="module")
def target() -> Target:
    model = tiny.llama(3, 2, torch.float32, vocab_size=tiny.LETTERS, max_position_embeddings=400)
    return as_target(model, tiny.letters(TEMPLATE), "tiny-letters")


def plain(target: Target, text: str) -> list[int]:
    ids = torch.tensor([target.tokenizer(text, add_special_tokens=False).input_ids])
    out = target.model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=BUDGET)
    return out[0, ids.shape[1] :].tolist()


def test_an_answer_is_generates_own_and_its_parts_add_up(target: Target) -> None:
    pieces: list[tuple[str, str | None]] = []
    out = metasd.generate(
        target,
        "hello 0",
        drafters=["lookup", "table"],
        policy="random",
        max_new_tokens=BUDGET,
        stream=lambda text, drafter: pieces.append((text, drafter)),
    )
    assert out.tokens == plain(target, "[user]hello 0[>]")
    assert out.text == target.decode(out.tokens) == "".join(text for text, _ in pieces)
    assert sum(r.emitted for r in out.rounds) == len(out.tokens)
    assert {"lookup@3", "table@3"} <= {r.arm for r in out.rounds} <= {"lookup@3", "table@3", "plain"}
    guessed = sum(drafter is not None for _, drafter in pieces)
    assert guessed == sum(r.accepted for r in out.rounds) > 0
    assert out.prompt_tokens == len("[user]hello 0[>]")
    assert out.seconds == pytest.approx(sum(r.seconds for r in out.rounds))
    first = out.prefill_seconds + out.begin_seconds + out.rounds[0].seconds
    assert out.first_token_seconds == pytest.approx(first, rel=0.05)
    assert min(out.prefill_seconds, out.begin_seconds, out.tokens_per_second) > 0


def test_a_conversation_a_stop_and_a_wrong_word(target: Target) -> None:
    talk = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hello"}]
    whole = metasd.generate(target, talk, max_new_tokens=BUDGET)
    assert whole.tokens == plain(target, "[system]be kind[user]hello[>]")
    stop = whole.text[6:8]
    pieces: list[str] = []
    cut = metasd.generate(target, talk, max_new_tokens=BUDGET, stop=stop, stream=lambda text, _: pieces.append(text))
    assert cut.text == "".join(pieces) == whole.text[: whole.text.index(stop)]
    for wrong in (dict(prompt=" "), dict(prompt=talk[:1]), dict(policy="best"), dict(drafters=["x"]), dict(top_p=2)):
        with pytest.raises(UsageError):
            metasd.generate(target, **({"prompt": "hello"} | wrong))


def test_there_is_always_plain_decoding(target: Target) -> None:
    for settings in ({"drafters": ["plain"]}, {"policy": "fixed:arm=plain"}):
        out = metasd.generate(target, "hello", max_new_tokens=BUDGET, **settings)
        assert out.tokens == plain(target, "[user]hello[>]")
        assert {r.arm for r in out.rounds} == {"plain"}


def test_a_conversation_goes_on_with_what_was_said(target: Target) -> None:
    chat = metasd.Chat(target, drafters=["lookup"], policy="random", max_new_tokens=BUDGET)
    one = chat.say("hello")
    two = chat.say("and?")
    assert two.tokens == plain(target, f"[user]hello[assistant]{one.text}[user]and?[>]")
    chat.clear()
    chat.system = "be kind"
    assert chat.say("hello").tokens == plain(target, "[system]be kind[user]hello[>]")


def test_an_interrupted_answer_leaves_the_conversation_as_it_was(target: Target) -> None:
    chat = metasd.Chat(target, policy="metasd-ucb", max_new_tokens=BUDGET)
    one = chat.say("hello")

    def interrupt(text: str, drafter: str | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        chat.say("wait", interrupt)
    assert len(chat.messages) == 2
    assert chat.say("and?").tokens == plain(target, f"[user]hello[assistant]{one.text}[user]and?[>]")
    with pytest.raises(UsageError, match="context"):
        chat.say("x" * 400)
    assert len(chat.messages) == 4


def test_a_model_without_a_template_holds_no_conversation(target: Target) -> None:
    with pytest.raises(UsageError, match="no chat template"):
        metasd.Chat(as_target(target.model, tiny.letters(), "bare"))


def row(speedup: float, low: float, high: float, n: int = 3) -> dict[str, object]:
    return {"policy": "default", "speedup": speedup, "speedup_low": low, "speedup_high": high, "repeats": n}


def test_the_closing_sentence_says_what_the_spread_allows() -> None:
    assert repeats.sentence(row(1.24, 1.1, 1.3)) == "default: 1.24 x plain decoding, 1.10 to 1.30 in 3 repetitions"
    assert "no difference" in repeats.sentence(row(1.1, 0.9, 1.2))
    assert "slower" in repeats.sentence(row(0.8, 0.7, 0.9))
    assert "measured once" in repeats.sentence(row(1.2, 1.2, 1.2, 1))
    assert repeats.sentence(row(None, None, None)) is None


def test_repetitions_are_the_same_rounds_and_medians_of_their_time(target: Target) -> None:
    from metasd.runtime import contenders as live
    from metasd.runtime.registry import build_drafters

    texts = [("p", "d", target.encode("hello")), ("q", "d", target.encode("abab"))]
    order: list[str] = []

    def make(repetition: int):
        made = live.contenders(["random"], lambda: build_drafters(["lookup"], target), baseline=True, prior=None)
        for entrant in made:
            entrant.on_tokens = lambda *_, spec=entrant.spec: order.append(spec)
        return made

    runs = repeats.run(target, make, texts, live.Decoding(6), repeats=3)
    began = [spec for i, spec in enumerate(order) if i == 0 or order[i - 1] != spec]
    assert began[:9] == [*(names := began[:3]), *names[1:], names[0], *names[1:], names[0]][:9]
    for entrants in runs:
        for entrant, first in zip(entrants, runs[0], strict=True):
            assert entrant.session.texts == first.session.texts
            assert repeats._played(entrant) == repeats._played(first)
    each = [live.rows(entrants, texts) for entrants in runs]
    whole = repeats.total(repeats.merged(each), "random")
    ups = sorted(repeats.total(rows, "random")["speedup"] for rows in each)
    assert (whole["speedup_low"], whole["speedup"], whole["speedup_high"]) == tuple(ups)
    assert whole["repeats"] == 3


def test_equal_rounds_in_unequal_time_are_remarked(target: Target) -> None:
    from metasd.runtime import contenders as live
    from metasd.runtime.registry import build_drafters

    texts = [("p", "d", target.encode("hello"))]
    specs = ["fixed:arm=lookup", "fixed:arm=lookup@3"]  # one arm under two names
    entrants = live.contenders(specs, lambda: build_drafters(["lookup"], target), baseline=False, prior=None)
    live.run(target, entrants, texts, live.Decoding(8))
    for entrant, seconds in zip(entrants, (1.0, 1.3), strict=True):
        for name, values in entrant.ledger.times.items():
            values[:] = seconds if name == "verify_seconds" else 0
    (said,) = repeats.remarks([entrants])
    assert "30%" in said
    entrants[1].ledger.times["verify_seconds"][:] = 1.05
    assert repeats.remarks([entrants]) == []
