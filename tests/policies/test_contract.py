"""What every policy of the registry must do; a new one is tested from the moment it is in the table."""

from __future__ import annotations

import numpy as np
import pytest

from metasd.policies import POLICIES, IndexPolicy, make

# A policy that cannot be made from its name alone, or not well for these short texts without end.
SPECIAL = {"fixed": "fixed:arm=small", "sequential-halving": "sequential-halving:share=0.004"}
# needs a trained model: test_learned.py; return plans, not arms: planner/test_planner.py, test_draft_with_all.py
ELSEWHERE = {"sb3", "planner", "draft-with-all"}
SPECS = {name: SPECIAL.get(name, name) for name in POLICIES if name not in ELSEWHERE}
RULES = {"fixed", "random", "lookup-first"}
LEARNERS = [n for n in SPECS if n not in RULES]
INDEX = [n for n in SPECS if issubclass(POLICIES[n], IndexPolicy)]
EAGER = [n for n in INDEX if n != "goodput"]  # goodput trusts an optimistic prior instead of a forced trial
AGREE = [0.35, 0.85, 0.1]
SHOWS = [0.6, 0.9, 0.5]
every = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())


def test_first_docstring_line_is_a_help_line():
    for name, policy in POLICIES.items():
        assert policy.__doc__, name
        first = policy.__doc__.splitlines()[0]
        assert 20 < len(first) <= 120, name
        assert first.endswith((".", ":", ",")), name


@every
def test_arms_are_valid_and_the_mask_is_respected(bench, spec):
    pool, keys = bench.pool(plain=False), bench.keys(6)
    policy, world = bench.bound(make(spec), pool, keys), bench.World(pool, AGREE, keys, shows=SHOWS)
    seen_none = False
    for _ in range(100):
        context = world.context()
        arms = policy.select(context)
        assert arms.shape == (6,)
        assert ((arms >= 0) & (arms < len(pool))).all()
        some = context.available.any(axis=1)
        seen_none |= bool((~some).any())
        if policy.mask:
            assert context.available[np.arange(6), arms][some].all()
        policy.update(world.play(arms))
        if policy.feedback == "full":
            policy.observe(world.reveal())
    assert seen_none  # rows without any proposal were among them


@every
def test_lane_of_many_plays_as_alone(bench, spec):
    pool, keys = bench.pool(lengths=(2, bench.G)), bench.keys(5)
    spec = spec.replace("arm=small", "arm=small@4")
    if spec == "lookup-first":
        spec += ":drafter=lookup@4"
    together = bench.drive(bench.bound(make(spec), pool, keys), bench.World(pool, AGREE, keys, shows=SHOWS), 120)
    own = keys[3:4]
    alone = bench.drive(bench.bound(make(spec), pool, own), bench.World(pool, AGREE, own, shows=SHOWS), 120)
    np.testing.assert_array_equal(together[:, 3], alone[:, 0])


@every
def test_one_arm(bench, spec):
    pool, keys = bench.pool(1, plain=False), bench.keys(2)
    spec = spec.replace("small", "lookup")
    played = bench.drive(bench.bound(make(spec), pool, keys), bench.World(pool, [0.5], keys, shows=0.7), 60)
    assert (played == 0).all()


@every
def test_plain_alone(bench, spec):
    if spec.startswith(("fixed", "lookup-first")):
        pytest.skip("names a drafter that this pool lacks")
    pool, keys = bench.pool(1), bench.keys(2)
    pool = type(pool)(pool.drafters, [(-1, 0)])
    played = bench.drive(bench.bound(make(spec), pool, keys), bench.World(pool, [0.5], keys), 20)
    assert (played == 0).all()


@every
def test_state_round_trip_continues_the_same_choices(bench, spec):
    pool, keys = bench.pool(), bench.keys(4)
    policy, world = bench.bound(make(spec), pool, keys), bench.World(pool, AGREE, keys, shows=SHOWS)
    bench.drive(policy, world, 70)
    twin_world = bench.World(pool, AGREE, keys, shows=SHOWS)
    twin_world.position[:], twin_world.remaining[:] = world.position, world.remaining
    twin = bench.bound(make(spec), pool, bench.keys(4, seed=9))
    twin.load_state_dict({k: v.copy() for k, v in policy.state_dict().items()})
    np.testing.assert_array_equal(bench.drive(policy, world, 50), bench.drive(twin, twin_world, 50))


@every
@pytest.mark.parametrize("reset", ["prompt", "never"])
def test_a_new_text_forgets_or_keeps(bench, spec, reset):
    pool, keys = bench.pool(), bench.keys(3)
    policy = bench.bound(make(spec), pool, keys, reset=reset)
    new = policy.state_dict()
    bench.drive(policy, bench.World(pool, AGREE, keys), 60)
    used = policy.state_dict()
    policy.begin(np.array([1]), keys[1:2])
    after = policy.state_dict()
    learned = [k for k in new if not k.startswith("noise.")]
    for name in learned:
        np.testing.assert_array_equal(after[name][[0, 2]], used[name][[0, 2]], err_msg=name)
    if reset == "never" and learned:
        kept = [n for n in learned if np.array_equal(after[n][1], used[n][1], equal_nan=True)]
        for name in set(learned) - set(kept):  # what speaks of the present text only begins anew
            np.testing.assert_array_equal(after[name][1], new[name][1], err_msg=name)
        assert any(not np.array_equal(used[n][1], new[n][1]) for n in kept)
    if reset == "prompt":
        first = bench.drive(policy, bench.World(pool, AGREE, keys), 40)[:, 1]
        fresh = bench.drive(bench.bound(make(spec), pool, keys), bench.World(pool, AGREE, keys), 40)[:, 1]
        np.testing.assert_array_equal(first, fresh)


@every
def test_rounds_without_a_draft_teach_a_masked_policy_nothing(bench, spec):
    pool, keys = bench.pool(plain=False), bench.keys(2)
    policy, world = bench.bound(make(spec), pool, keys), bench.World(pool, AGREE, keys, shows=0.0)
    bench.drive(policy, world, 30)
    if hasattr(policy, "n") and policy.mask:
        assert (policy.n == 0).all()


@pytest.mark.parametrize("name", LEARNERS)
def test_unmasked_policies_do_not_stay_with_an_arm_that_has_nothing(bench, name):
    """Arm 0 never has a proposal; unmasked, the round must count against it."""
    pool, keys = bench.pool(plain=False), bench.keys(8)
    glue = "," if ":" in SPECS[name] else ":"
    policy = bench.bound(make(f"{SPECS[name]}{glue}mask=false"), pool, keys)
    played = bench.drive(policy, bench.World(pool, [0.9, 0.9, 0.1], keys, shows=[0.0, 1.0, 1.0]), 200)
    assert (played[120:] == 0).mean() < 0.5


@pytest.mark.parametrize("name", LEARNERS)
def test_finds_a_clear_best_arm(bench, name):
    """16 lanes of 300 rounds; in the last 100 the best of 4 arms is played nine times in ten.

    Keyed noise makes the outcome fixed. A policy that learned nothing plays it a quarter of the time: under the uniform
    policy the share of 16 * 100 plays has a standard deviation of 0.011. EXP3.S cannot play any arm more than
    1 - gamma + gamma / K = 0.71 of the time.
    """
    pool, keys = bench.pool(), bench.keys(16)
    policy = bench.bound(make(SPECS[name]), pool, keys)
    played = bench.drive(policy, bench.World(pool, [0.2, 0.95, 0.1], keys), 300)
    assert (played[200:] == 1).mean() > (0.6 if name == "exp3s" else 0.9)


@pytest.mark.parametrize("name", EAGER)
def test_every_available_arm_is_tried_first(bench, name):
    pool, keys = bench.pool(), bench.keys(4)
    played = bench.drive(bench.bound(make(SPECS[name]), pool, keys), bench.World(pool, AGREE, keys), 4)
    assert (np.sort(played, axis=0) == np.arange(4)[:, None]).all()


@pytest.mark.parametrize("name", [n for n in EAGER if n not in ("ucb2", "epsilon-greedy")])  # blocks; chance
def test_an_arm_that_appears_late_is_tried_at_once(bench, name):
    pool, keys = bench.pool(), bench.keys(2)
    glue = "," if ":" in SPECS[name] else ":"
    policy = bench.bound(make(f"{SPECS[name]}{glue}mask=true"), pool, keys)
    world = bench.World(pool, AGREE, keys, shows=[0.0, 1.0, 1.0])
    bench.drive(policy, world, 25)
    world.shows = np.ones(3)
    assert (policy.select(world.context()) == 0).all()
