"""Models of stable-baselines3 and sb3-contrib: trained from the environment's id, saved, loaded, played live."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("transformers")
sb3 = pytest.importorskip("stable_baselines3", reason="stable-baselines3 is not installed")
contrib = pytest.importorskip("sb3_contrib", reason="sb3-contrib is not installed")

import tiny
import torch

import metasd
from metasd.core.errors import UsageError
from metasd.runtime.load import as_target
from metasd.sim.replay.run import replay
from metasd.traces import open_trace

TRACE = "synthetic:kind=two-language,prompts=6,length=40,arms=2,draft_length=3,seed=1"
OBSERVE = ("available", "last", "history")
SMALL = {"seed": 0, "device": "cpu", "policy_kwargs": {"net_arch": [8]}}
TRAINED = {
    "ppo": (sb3.PPO, {"n_steps": 64, "batch_size": 32, "n_epochs": 2}),
    "dqn": (sb3.DQN, {"learning_starts": 50, "buffer_size": 500, "batch_size": 16}),
    "maskable-ppo": (contrib.MaskablePPO, {"n_steps": 64, "batch_size": 32, "n_epochs": 2}),
}


def weights(model) -> list[np.ndarray]:
    return [p.detach().numpy().copy() for p in model.policy.parameters()]


@pytest.fixture(scope="module", params=TRAINED)
def spec(request, tmp_path_factory) -> str:
    cls, settings = TRAINED[request.param]
    env = gym.make("MetaSD-v0", trace=TRACE, observe=OBSERVE)
    model = cls("MlpPolicy", env, **settings, **SMALL)
    before = weights(model)
    model.learn(256)
    assert model.num_timesteps >= 256
    assert any((a != b).any() for a, b in zip(before, weights(model), strict=True))
    path = tmp_path_factory.mktemp("model") / "model.zip"
    model.save(path)
    return f"sb3:path={path},algorithm={request.param},observe={'+'.join(OBSERVE)}"


def test_it_replays_to_the_end(spec: str) -> None:
    totals = replay(open_trace(TRACE), spec).ledger.totals()
    assert totals.emitted == 6 * 40


def test_it_plays_live(spec: str) -> None:
    model = tiny.llama(3, 2, torch.float32, vocab_size=tiny.LETTERS, max_position_embeddings=400)
    target = as_target(model, tiny.letters(), "tiny")
    asked = {"drafters": ["lookup", "table"], "max_new_tokens": 24, "draft_length": 3, "raw": True}
    out = metasd.generate(target, "hello 0 hello 0", policy=spec, **asked)
    assert out.tokens == metasd.generate(target, "hello 0 hello 0", policy="fixed:arm=plain", **asked).tokens
    assert sum(r.emitted for r in out.rounds) == len(out.tokens) == 24


def test_the_masks_that_a_learner_is_given_are_the_environments() -> None:
    """MaskablePPO asks ``action_masks`` through the wrappers of ``gym.make``; with a drafter absent it must say no."""
    whole = open_trace(TRACE)
    absent = np.arange(2) > 0
    trace = replace(whole, proposed=whole.proposed * absent, accepted=whole.accepted * absent)
    env = gym.make("MetaSD-v0", trace=metasd.traces.register_trace("test-masks", trace), observe=OBSERVE)
    model = contrib.MaskablePPO("MlpPolicy", env, **TRAINED["maskable-ppo"][1], **SMALL)
    played: list[int] = []
    model.learn(128, callback=lambda now, _: played.extend(now["actions"].tolist()) or True)
    assert len(played) >= 128
    assert 0 not in played


def test_without_the_package_it_says_which(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from metasd.policies import learned

    for module in ("stable_baselines3", "sb3_contrib"):
        monkeypatch.setitem(sys.modules, module, None)
    path, algorithm = Path(re.search("path=([^,]+)", spec)[1]), re.search("algorithm=([^,]+)", spec)[1]
    package = "sb3-contrib" if algorithm == "maskable-ppo" else "stable-baselines3"
    with pytest.raises(UsageError, match=f"needs {package} "):
        learned.load(str(path), algorithm)
