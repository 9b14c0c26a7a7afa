"""A deprecation that our own calls cause fails a test run; other people's do not."""

from __future__ import annotations

import inspect
import warnings
from types import ModuleType

import pytest

torch = pytest.importorskip("torch")


def _module(name: str, code: str) -> ModuleType:
    made = ModuleType(name)
    exec(code, made.__dict__)
    return made


THEIRS = _module(
    "other.package",
    """
import warnings
def old(): warnings.warn("old() goes away", FutureWarning, stacklevel=2)
def inside(): old()
""",
)


class _Renamed(torch.nn.Module):
    """As a model that renames an argument does it: the warning is about the caller of ``forward``."""

    def forward(self, ids, **_):
        exec(_WARNS, {"warnings": warnings, "__name__": "other.package"})
        return ids


_WARNS = 'warnings.warn("`past_key_values` is deprecated", FutureWarning, stacklevel=3)'


def test_a_deprecated_call_of_ours_raises():
    with pytest.raises(FutureWarning, match="goes away"):
        THEIRS.old()


def test_a_deprecated_argument_through_torch_raises():
    with pytest.raises(FutureWarning, match="past_key_values"):
        _Renamed()(torch.zeros(1))


def test_a_deprecated_call_inside_another_package_only_warns():
    with pytest.warns(FutureWarning, match="goes away"):
        THEIRS.inside()


def test_a_pass_uses_the_name_that_the_model_gives_its_cache():
    pytest.importorskip("transformers")
    from tiny import llama

    from metasd.runtime.engine.forward import Forward

    made = llama()
    newest = "cache" in inspect.signature(type(made).forward).parameters
    assert Forward(made)._cache_name == ("cache" if newest else "past_key_values")
