"""Which parts of a model talk to which, and which few connections are enough for a task?

An edge is what one part writes to the residual stream, as one other part reads it. Two texts of
equal length differ in what matters; each edge alone is given its value from the corrupted text
while the model reads the clean one. Edges that matter make a circuit: all others say what they say
on the corrupted text, and the answer must stay. What is found on half of the pairs is judged on the
others.

    python -m experiments.circuits                         induction, in about a minute, no download
    python -m experiments.circuits --task brackets         which bracket closes
    python -m experiments.circuits --task capitals         SmolLM2, "The capital of France is"
    python -m experiments.circuits --task ioi              SmolLM2, who is given something
    python -m experiments.circuits --pairs pairs.csv       columns clean, corrupted, answer, wrong
    python -m experiments.circuits --model smollm2 --clean "The capital of France is" \\
        --corrupted "The capital of Germany is" --answer " Paris" --wrong " Berlin"

exports/ in the run's folder holds the edges for other tools: GraphML, a spreadsheet, and EAP-IG's
JSON where that can hold the model.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import interp.errors
from experiments import patching
from experiments.patching import asks_for_induction, induction, pairs_given
from experiments.support.circuits.asking import (
    brackets,
    from_templates,
    in_halves,
    require_difference,
)
from experiments.support.circuits.exporting import FOLDER, save_exports
from experiments.support.circuits.finding import save_circuits
from experiments.support.circuits.guaranteeing import save_effects, save_guarantees
from experiments.support.circuits.lasting import save_lasting
from experiments.support.circuits.several_models import save_models
from experiments.support.circuits.showing import draw_figures, show_sections
from experiments.support.circuits.studying import CircuitOptions, CircuitStudy
from experiments.support.circuits.telling import tell_findings, tell_limits
from experiments.support.circuits.templates import TEMPLATES
from experiments.support.cli import (
    Between,
    Seeds,
    announce,
    console,
    launch,
    refuse_options,
    run_name,
)
from experiments.support.pages.presenting import present
from experiments.support.pairs import PairTask
from experiments.support.record import Experiment, Quoted
from experiments.support.trained import workers_of
from experiments.support.trainings.brackets import BracketRecipe, bracket_batch
from experiments.support.trainings.induction import repeated_strings
from experiments.support.trainings.small import BatchOf, SmallRecipe
from gpt.errors import UsageError
from interp.circuits import SummedRun, take_apart
from interp.circuits.finding import Method
from interp.runs import Run

METHODS: tuple[Method, ...] = get_args(Method)
OF_LARGE: tuple[Method, ...] = ("EAP", "EAP-IG inputs", "random")
EXACT = 3000
"""Edges of a model all of which are measured exactly; of a larger one some are."""
OF_MANY_EDGES = f"is for models of more than {EXACT:,} edges: here all are measured"
OF_PATCHING = ("head_parts",)
OF_TRAINED_HERE = ("seeds", "retrain")
OF_PAIRS = ("clean", "corrupted", "answer", "wrong", "pairs")


@dataclass(frozen=True)
class Config(patching.Config):
    """Edges and circuits, corrupted into clean."""

    task: Literal["induction", "brackets", "capitals", "ioi"] | None = None
    """What is asked where no pairs are given: by default induction. capitals and ioi (who is given
    something) are asked of SmolLM2 or another --model of text."""
    faithfulness: Annotated[float, Between(0.01, 1)] = 0.8
    """How much of the difference between the two texts a circuit must keep."""
    replaced_by: Literal["corrupted", "mean", "resample"] = "corrupted"
    """What is said in place of what is left out of a circuit: the corrupted text's value, their
    mean, or that of another corrupted text."""
    methods: tuple[Method, ...] = ()
    """By what edges are ranked; by default by all methods, and of a large model by EAP, EAP-IG
    inputs and random."""
    steps: Annotated[int, Between(1, 100_000)] = 5
    """Of EAP-IG: gradients on the way from one text to the other."""
    verify: Annotated[int, Between(1, 10**7)] = 64
    """Of a large model, how many edges of the largest scores of each method are measured exactly,
    and as many random ones."""
    seeds: Seeds = 1
    """Of induction and brackets: as many models, trained from as many seeds, to see whether the
    circuit is the same."""
    retrain: Annotated[int, Between(0, 1000)] = 0
    """Of induction and brackets: as many of the strongest edges are also cut before training, three
    times each, to see what their absence costs a model that never had them."""


def main(config: Config) -> Path:
    refuse_options(config, OF_PATCHING, "is for experiments.patching")
    if config.model or config.task in TEMPLATES or config.pairs or config.clean:
        refuse_options(config, OF_TRAINED_HERE, "is for models that are trained here, of one task")
    else:
        refuse_options(config, ["verify"], OF_MANY_EDGES)
    if config.methods and not any("IG" in method for method in config.methods):
        refuse_options(config, ["steps"], "is for --methods of EAP-IG")
    workers, task = workers_of(config), task_of(config)
    require_difference(task, config.replaced_by)
    apart = take_task_apart(task)
    graph, d_model = apart.graph, apart.blocks.last.shape[-1]
    is_whole = len(graph.edges) <= EXACT
    methods = methods_of(config, len(graph.edges))
    asked = CircuitOptions(
        level=config.faithfulness,
        replaced_by=config.replaced_by,
        methods=methods,
        steps=config.steps,
        verify=config.verify,
        seed=config.seed,
        elsewhere=workers,
    )
    settings = {name: each for name, each in task.config.items() if name != "components"}
    settings |= {name: each for name, each in vars(asked).items() if name != "elsewhere"}
    settings |= {"seeds": config.seeds, "retrain": config.retrain}
    others = {
        config.seed + number: partial(task_of, replace(config, seed=config.seed + number))
        for number in range(1, config.seeds)
    }
    label = run_name(task.label, f"{config.seeds}-seeds") if others else task.label
    with Run.open(config.runs, "circuits", config.name or label, settings) as run:
        study = CircuitStudy(run, task, *in_halves(task), graph, is_whole, asked)
        save_circuits(study)
        save_guarantees(study)
        if others:
            save_models(study, others)
        retrained = None
        if config.retrain:
            retrained = partial(save_lasting, study, config.retrain, *small_task(config))
        effects = save_effects(study, retrained)
        why_not = save_exports(study, effects, d_model)
        page = present(run, draw_figures)
    console.print(*tell_findings(run), sep="\n", soft_wrap=True, markup=False)
    print("edges for other tools:", run.folder / FOLDER, why_not)
    announce(run.folder)
    return page


def small_task(config: Config) -> tuple[BatchOf, SmallRecipe]:
    """What the built-in task's model is trained on."""
    if config.task == "brackets":
        brackets_recipe = BracketRecipe()
        return partial(bracket_batch, brackets_recipe), brackets_recipe
    recipe = patching.InductionRecipe()
    return partial(repeated_strings, recipe), recipe


def methods_of(config: Config, edges: int) -> tuple[Method, ...]:
    """By what the edges of a model of so many are ranked.

    Raises:
        UsageError: methods that are not for such a model; an option that has no effect on them.
    """
    is_whole = edges <= EXACT
    methods = tuple(dict.fromkeys(config.methods)) or (METHODS if is_whole else OF_LARGE)
    if is_whole:
        refuse_options(config, ["verify"], OF_MANY_EDGES)
    elif "exact" in methods or methods == ("random",):
        raise UsageError(
            f"--methods {' '.join(methods)} is for models of up to {EXACT:,} edges, and this one "
            f"has {edges:,}: take EAP, whose --verify largest scores are measured exactly"
        )
    return methods


def take_task_apart(task: PairTask) -> SummedRun:
    """Raises ``UsageError`` where the model's parts cannot be told apart."""
    try:
        return take_apart(task.model, task.clean[:1])
    except interp.errors.UsageError as error:
        model: Any = task.model
        dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
        if dtype == "float32":
            raise
        raise UsageError(
            f"{error}; in {dtype} parts are hard to tell: try --dtype float32"
        ) from error


def task_of(config: Config) -> PairTask:
    """The pairs and the model that are asked for.

    Raises:
        UsageError: a task and pairs; an option that has no effect on these.
    """
    if config.task is not None:
        refuse_options(
            config, OF_PAIRS, f"is not for --task {config.task}, which has its own pairs"
        )
    if config.task in TEMPLATES:
        refuse_options(config, ("length", "corrupt"), f"has no effect on --task {config.task}")
        return from_templates(config.task, config)
    if config.task == "brackets":
        refuse_options(
            config, (*patching.OF_A_SUBJECT, "corrupt"), "has no effect on --task brackets"
        )
        return brackets(config)
    return induction(config) if asks_for_induction(config) else pairs_given(config)


EXPERIMENT = Experiment(
    name="circuits",
    title="Edges and circuits",
    main=main,
    config=Config,
    parts=show_sections,
    quoted=Quoted("results", ("meaning", "edge")),
    readings=tell_findings,
    limits=tell_limits,
    rank=8,
)

if __name__ == "__main__":
    launch(main, Config)
