"""What does each of many interventions do, each alone, and exactly?

    table = sweep(model, tokens, {site: Zero() for site in heads}, loss)
    print(plan(model, tokens, {site: Zero() for site in heads}, loss).explain())

Every row of the table is what ``intervene(model, {site: intervention})`` gives, to float precision.
What is saved is work whose result is known: what comes before an intervention is as in the clean
run; so is every position before the first that changed; logits that the metric does not read are
never computed; and interventions run side by side, as rows of one batch. Models that show their
parts under the field's names are taken apart, after they were seen to use them so; of any other
model that calls its blocks in turn the blocks themselves are run, from the one that changes on; the
rest gets one forward pass per intervention. ``plan(...).explain()`` says which, and why.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn

from interp.errors import NoEffectError, UsageError
from interp.hooking import evaluating
from interp.memory import keeping_within
from interp.metrics import Metric, metric_name
from interp.padding import check_metric, check_padding
from interp.runs.workers import Elsewhere
from interp.site import Model
from interp.sweeps.answering import Effects, answer_request
from interp.sweeps.budget import parse_memory
from interp.sweeps.plans import Plan, make_plan
from interp.sweeps.request import Request
from interp.sweeps.resuming.answers import RowStore
from interp.sweeps.routing import find_routes
from interp.sweeps.speed.scoring import UnforeseenReadError
from interp.sweeps.spreading import effects_in_parts
from interp.sweeps.trials import Interventions, trials_of
from interp.threads import quickest_threads
from interp.verdicts import intervals_over_texts

PARTS = 16  # of a sweep that workers share


def sweep(
    model: Model,
    tokens: Int[Tensor, "..."],
    interventions: Interventions,
    metric: Metric,
    *,
    metric_tokens: Int[Tensor, "..."] | None = None,
    memory: str | int | None = None,
    screen: Literal["bfloat16"] | None = None,
    verify: int = 16,
    progress: bool = True,
    run: RowStore | None = None,
    elsewhere: Elsewhere | None = None,
    parts: int = PARTS,
) -> pd.DataFrame:
    """Every intervention alone, in one table.

    Args:
        model: any ``HookedRootModule``, or TransformerLens' bridge.
        tokens: what the model is run on, [batch pos].
        interventions: by site or its text, or pairs of the two. An entry's glob is one question:
            everything that it matches is intervened on together.
        metric: of the logits; one number per example.
        metric_tokens: the tokens that the metric is given; by default the model's.
        memory: what the sweep may hold at a time, beside the model and the plain loop's own needs,
            such as "512MiB". By default 2 GiB; on a GPU a quarter of what is free.
        screen: compute everything in this precision, on a copy of the model; errors are a few
            percent of the largest effects and more of the small ones. The metric itself is made in
            single precision.
        verify: with ``screen``, how many of the largest effects to compute again exactly.
        progress: show a bar, and say where a model gets less than the full treatment.
        run: where answers are kept as they come, such as an ``interp.runs.Run``. Started again
            after an interruption the sweep takes them from there, as far as model, texts, metric
            and interventions are the same, and ends with the same table.
        elsewhere: workers that answer parts of the sweep: processes, or a cluster.
        parts: how many, at most.

    Returns:
        One row per entry: the site's columns; ``intervention`` and ``metric``; ``baseline`` and
        ``value``, means over examples in the metric's units; their difference ``delta`` with its
        bootstrap interval over examples, ``p_adjusted`` for a delta of zero (sign flips, Holm over
        all rows); ``changed``, the numbers that the intervention changed (0: the value was already
        so); ``skipped``, where nothing of that can reach what the metric reads, as where two texts
        begin alike (the value is the baseline, nothing was computed); ``precision``: exact, or the
        screen's; ``n`` examples. Fewer than three have no interval.

    Raises:
        HookNameError, SiteError, InterventionError: an entry that cannot be.
        NoEffectError: no entry changed anything, or one never fired.
        NonFiniteError: an intervention or the metric made a NaN or an infinity.
        UsageError: tokens that are not whole numbers [batch pos]; texts padded on the left, and a
            model that takes padding for text; texts in padding, and a metric that would count it,
            such as ``loss``; one that gives a text other logits when it is run
            again; too little memory; a metric that does not give one number per example; with
            ``run``, a metric or an intervention that cannot be known again.
    """
    if screen not in (None, "bfloat16") or verify < 1:
        raise UsageError("screen must be None or 'bfloat16', and verify at least 1")

    def computed(model: Model, questions: Interventions) -> Effects:
        return effects_of(
            model,
            tokens,
            questions,
            metric,
            metric_tokens=metric_tokens,
            memory=memory,
            progress=progress,
            run=run,
            elsewhere=elsewhere,
            parts=parts,
        )

    name = metric_name(metric)
    if screen is None:
        return effects_table(computed(model, interventions), name, ["exact"])
    if not isinstance(model, nn.Module):
        raise UsageError("only a torch module can be screened in another precision")
    entries = interventions.items() if isinstance(interventions, Mapping) else interventions
    questions = list(entries)
    rough = computed(copy.deepcopy(model).to(torch.bfloat16), questions)
    deltas = rough.values - rough.baseline
    chosen = np.argsort(-np.abs(deltas.mean(axis=1)), kind="stable")[:verify]
    exact = computed(model, [questions[i] for i in chosen])
    values = exact.baseline + deltas
    values[chosen] = exact.values
    precision = np.full(len(questions), screen, dtype=object)
    precision[chosen] = "exact"
    merged = replace(rough, values=values, baseline=exact.baseline)
    return effects_table(merged, name, precision)


def plan(
    model: Model,
    tokens: Int[Tensor, "..."],
    interventions: Interventions,
    metric: Metric,
    *,
    metric_tokens: Int[Tensor, "..."] | None = None,
    memory: str | int | None = None,
) -> Plan:
    """How ``sweep`` would compute it; ``explain()`` says so for people.

    Runs the clean texts, since what an intervention changes decides what it costs.

    Raises ``sweep``'s errors, those that come before it runs the first intervention.
    """
    check_padding(model, tokens)
    check_metric(model, tokens, metric)
    with evaluating(model):
        request = make_request(model, tokens, interventions, metric, metric_tokens, memory)
        routes = find_routes(request)
        try:
            return make_plan(request, routes)
        except UnforeseenReadError:  # a metric that reads where its logits tell it to
            return make_plan(request, routes, list(range(request.length)))


def effects_of(
    model: Model,
    tokens: Int[Tensor, "..."],
    interventions: Interventions,
    metric: Metric,
    *,
    metric_tokens: Int[Tensor, "..."] | None = None,
    memory: str | int | None = None,
    progress: bool = True,
    allow_no_effect: bool = False,
    run: RowStore | None = None,
    elsewhere: Elsewhere | None = None,
    parts: int = PARTS,
) -> Effects:
    """What ``sweep`` computes, example by example.

    Args:
        allow_no_effect: let a sweep pass in which nothing changed anything.
        run, elsewhere, parts: as for ``sweep``.

    Raises what ``sweep`` raises.
    """
    check_padding(model, tokens)
    check_metric(model, tokens, metric)
    bars = Progress(console=Console(stderr=True), transient=True, disable=not progress)
    with evaluating(model), quickest_threads(model) as ask, bars as bar:
        given = interventions.items() if isinstance(interventions, Mapping) else interventions
        questions = list(given)
        request = make_request(model, tokens, questions, metric, metric_tokens, memory)
        if elsewhere is not None:
            task = bar.add_task("sweep", total=len(request.trials))
            effects = effects_in_parts(
                *(request, questions, effects_of, elsewhere, parts, run),
                lambda trials: bar.advance(task, trials),
            )
            return checked(effects, allow_no_effect)
        routes = find_routes(request)
        for note in routes.notes if progress else ():
            bar.console.print(note)
        task = bar.add_task("sweep", total=len(request.trials))

        def advance(trials: int) -> None:
            bar.advance(task, trials)
            ask()

        try:
            effects = answer_request(request, routes, run, advance)
        except UnforeseenReadError:  # a metric that reads where its logits tell it to
            every = list(range(request.length))
            bar.reset(task)
            effects = answer_request(request, routes, run, advance, every)
    return checked(effects, allow_no_effect)


def checked(effects: Effects, allow_no_effect: bool) -> Effects:
    """The effects. Raises ``NoEffectError`` where nothing changed and that is no answer."""
    if not allow_no_effect and not any(effects.changed):
        raise NoEffectError(
            f"none of {len(effects.trials)} interventions changed anything: the values were "
            "already so"
        )
    return effects


def effects_table(
    effects: Effects, metric: str, precision: Sequence[str] | np.ndarray
) -> pd.DataFrame:
    """One row per trial, as ``sweep`` returns them."""
    deltas = effects.values - effects.baseline
    table = pd.DataFrame([trial.site.columns() | {"site": trial.key} for trial in effects.trials])
    table["intervention"] = [str(trial.intervention) for trial in effects.trials]
    table["metric"] = metric
    table["baseline"] = effects.baseline.mean()
    table["value"] = effects.values.mean(axis=1)
    table["delta"] = deltas.mean(axis=1)
    table = table.assign(**intervals_over_texts(deltas))
    table["changed"] = effects.changed
    table["skipped"] = effects.skipped
    table["precision"] = precision[0] if len(precision) == 1 else precision
    table["n"] = deltas.shape[1]
    return table


def make_request(
    model: Model,
    tokens: Int[Tensor, "..."],
    interventions: Interventions,
    metric: Metric,
    metric_tokens: Int[Tensor, "..."] | None,
    memory: str | int | None,
) -> Request:
    """What is asked, looked up in the model.

    Raises:
        HookNameError, UsageError: it cannot be asked.
    """
    if tokens.ndim != 2 or not tokens.numel() or tokens.is_floating_point():
        kind = str(tokens.dtype).removeprefix("torch.")
        raise UsageError(
            f"tokens are {kind} {list(tokens.shape)}; they must be whole numbers, [batch pos], and "
            "at least one (one text is tokens[None])"
        )
    trials = trials_of(model, interventions)
    if metric_tokens is not None and metric_tokens.shape != tokens.shape:
        raise UsageError(
            f"the model is given {list(tokens.shape)} tokens, the metric "
            f"{list(metric_tokens.shape)}: they must be pairs, position for position"
        )
    pair = tokens if metric_tokens is None else metric_tokens
    budget = parse_memory(memory, tokens.device)
    return Request(model, tokens, pair, trials, metric, budget, keeping_within(budget))
