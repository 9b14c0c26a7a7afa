"""What ``metasd run`` checks before it loads or decodes anything: numbers, names, the trace, costs and prior."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from metasd.core import shown
from metasd.core.errors import TraceError, UsageError

if TYPE_CHECKING:
    from metasd.core.costs import CostModel
    from metasd.core.pool import Pool
    from metasd.core.prompts import Prompt
    from metasd.traces import Trace


def checked(
    spec: str,
    options: dict[str, Any],
    prompts: Sequence[Prompt],
    *,
    trace: str | None,
    costs: CostModel | str,
    prior: Mapping[str, Any] | None,
    lanes: int = 1,
) -> tuple[Trace | None, int | None]:
    """The trace to check a run against and the draft length its arms are cut to; (None, None) without ``trace``.

    With a trace, ``options`` is changed: draft length and budget are the trace's unless they were given, and drafters
    are made as recorded, so that proposals and signals agree. Raises UsageError for the first thing that cannot work.
    """
    from metasd.cli.models import check_numbers
    from metasd.runtime.registry import preview

    check_numbers(**{k: options[k] for k in ("draft_length", "max_new_tokens", "temperature", "top_k", "top_p")})
    recorded = None if trace is None else _recorded(trace, options, prompts)
    cut = None
    if recorded is not None:
        cut = options["draft_length"] if given("draft_length") else recorded.depth
        recorded.check_draft_length(cut)
        options["draft_length"] = recorded.depth
    pool = preview(options["drafters"], options["target"], draft_length=options["draft_length"])
    pool = pool if cut is None else pool.cut(cut)
    if options.get("sharding") is not None:
        options["sharding"].check_drafters(pool.drafters)
        if lanes > 1:
            raise UsageError(f"--lanes {lanes} with --tensor-parallel: a spread target decodes one text; use --lanes 1")
    if recorded is not None and pool.names != recorded.pool(cut).names:
        raise UsageError(
            f"the run's arms {pool.names} are not the trace's {recorded.pool(cut).names}; name its drafters"
        )
    _policy(spec, pool, prior, lanes)
    if not isinstance(costs, str):
        try:
            costs.columns(pool)
        except TraceError as error:
            raise UsageError(f"--costs is of another pool: {error}") from None
    return recorded, cut


def given(name: str) -> bool:
    """Whether the option was written on the command line."""
    source = click.get_current_context().get_parameter_source(name)
    return source not in (None, click.core.ParameterSource.DEFAULT)


def _policy(spec: str, pool: Pool, prior: Mapping[str, Any] | None, lanes: int) -> None:
    """Raises UsageError for an unknown policy, and for one that cannot choose among the arms of ``pool`` on lanes."""
    from metasd.policies import make
    from metasd.runtime.contenders import PLAIN_SPEC

    policy = make(spec)
    if policy.plans and lanes > 1:
        raise UsageError(f"--policy {spec} plans for one text at a time, not for --lanes {lanes}; use --lanes 1")
    if prior is not None:
        policy.set_prior(prior)
    if pool.drafters and spec != PLAIN_SPEC:
        policy.bind(pool, 1)
        if prior is not None:
            click.echo(shown.line(f"prior: of {policy.settings().get('prior', 'this policy')}"), err=True)


def _recorded(source: str, options: dict[str, Any], prompts: Sequence[Prompt]) -> Trace:
    """The trace. Raises UsageError where run and replay are not the same, round by round, or lack what they compare."""
    from metasd.sim.replay.drafts import budgets
    from metasd.traces import open_trace, take_prompts

    if options["temperature"] > 0:
        raise UsageError(f"--trace with --temperature {options['temperature']}: sampled runs agree in law only; use 0")
    trace = open_trace(source)
    if trace.sampled:
        raise UsageError(f"trace {source} was sampled: a run agrees with it in law only; record one at temperature 0")
    at = {name: i for i, name in enumerate(trace.ids)}
    names = [name for p in prompts for name in p.text_ids]
    missing = [name for name in names if name not in at]
    if missing and (len(missing) == len(names) or not options["skip_too_long"]):  # what fits is checked when it is read
        raise UsageError(f"prompt {missing[0]!r} is not in trace {source}; record the prompts that are run")
    same = take_prompts(trace, [at[name] for name in names if name in at])
    budget = trace.manifest.get("config", {}).get("max_new_tokens")
    if budget is not None and not given("max_new_tokens"):
        options["max_new_tokens"] = int(budget)
    budgets(same, options["max_new_tokens"])
    return trace
