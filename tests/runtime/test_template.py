"""Chat templates of both kinds, those that refuse, and tokenizers that end what is to be answered."""

from __future__ import annotations

import pytest
import tiny

from metasd.core.errors import UsageError
from metasd.runtime.template import encode, render

PLAIN = (
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}[>]{% endif %}"
)
PARTS = (
    "{% for m in messages %}[{{ m['role'] }}]{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }}"
    "{% endif %}{% endfor %}{% endfor %}{% if add_generation_prompt %}[>]{% endif %}"
)
STRICT_PARTS = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'][0]['text'] + '' }}{% endfor %}[>]"
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role\nnot supported') }}{% endif %}" + PLAIN
)
DROPS_SYSTEM = "{% for m in messages %}{% if m['role'] != 'system' %}{{ m['content'] }}{% endif %}{% endfor %}"
TALK = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": "hi"},
    {"role": "user", "content": "what is 2 + 2?"},
]


@pytest.mark.parametrize("template", [PLAIN, PARTS, STRICT_PARTS])
def test_every_word_reaches_the_model_whatever_form_the_template_wants(template: str) -> None:
    shown = render(tiny.letters(template), TALK, "m")
    assert shown == "[system]be brief[user]hello[assistant]hi[user]what is 2 + 2?[>]"


@pytest.mark.parametrize(
    ("template", "said"),
    [(NO_SYSTEM, "System role not supported"), (DROPS_SYSTEM, "leaves out what the system says"), ("x", "user")],
)
def test_a_template_that_refuses_or_drops_what_is_said_is_told_in_one_line(template: str, said: str) -> None:
    tokenizer = tiny.letters(template)
    with pytest.raises(UsageError, match=said) as caught:
        render(tokenizer, TALK if template != "x" else TALK[1:2], "some-model")
    assert "some-model" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_template_that_refuses_a_real_word_only_is_told_as_well() -> None:
    moody = tiny.letters("{% if 'bomb' in messages[0]['content'] %}{{ raise_exception('no') }}{% endif %}" + PLAIN)
    assert render(moody, [{"role": "user", "content": "hello"}], "m") == "[user]hello[>]"
    with pytest.raises(UsageError, match="refuses them: no"):
        render(moody, [{"role": "user", "content": "bomb"}], "m")


def test_a_raw_prompt_is_not_ended_before_it_is_answered() -> None:
    hello = [{"role": "user", "content": "hello"}]
    ending, usual = tiny.letters(appends_end=True), tiny.letters()
    assert ending("hello").input_ids[-1] == tiny.EOS
    assert encode(ending, hello, "m", raw=True) == encode(usual, hello, "m", raw=True) == usual("hello").input_ids
    own = [{"role": "user", "content": "hello<eos>"}]
    assert encode(usual, own, "m", raw=True)[-1] == tiny.EOS  # the user's own word


def test_several_messages_need_a_template() -> None:
    with pytest.raises(UsageError, match="no chat template"):
        encode(tiny.letters(), TALK, "m", raw=False)
    with pytest.raises(UsageError, match="leave --raw out"):
        encode(tiny.letters(PLAIN), TALK, "m", raw=True)
