"""What does each step of a pipeline do for the loss, and for what is learned by heart?

Each step of curating a pile is left out, and the same model trained on what comes of it, with the
same seeds and steps; so are all guards against duplicates at once, and everything. All are judged
on the same documents, those that the whole pipeline puts aside. What a variant knows of these
beforehand is measured: one that trains on their duplicates is a leak, as a line is that lets a
model see what it is to predict. Planted sentences show what is learned by heart.

    python -m experiments.pipeline                       the pile of every Python: minutes
    python -m experiments.pipeline my_notes --preset laptop --seeds 3
    python -m experiments.pipeline --without private+secrets lengths+quality
    python -m experiments.curate --ablate                the same

How to read it: a bar to the right is loss that the step saves, one to the left loss that it costs;
a hollow one is not known to be more than the noise of seeds. A step that does nothing for the loss
may still be right: masking an address is for the person whose it is.
"""

from pathlib import Path

from experiments.curate import Config, chosen_steps, given_pile
from experiments.support.cli import announce, launch, run_name
from experiments.support.curating.ablating import PipelineAblation, ablate_pipeline
from experiments.support.curating.showing import (
    ablation_effects,
    ablation_limits,
    ablation_parts,
    print_ablation,
)
from experiments.support.record import Experiment, Quoted
from interp.curation import Document
from interp.runs import SavedRun

__all__ = ["EXPERIMENT", "Config", "main"]


def main(config: Config) -> Path:
    pipeline, pile = chosen_steps(config), given_pile(config)
    documents = [each for each in pile.documents if isinstance(each, Document)]
    parts = [config.preset, pile.name, *config.without, *filter(None, [config.steps])]
    how = PipelineAblation(
        config.runs,
        config.name or run_name(*parts),
        preset=config.preset,
        seeds=config.seeds,
        seed=config.seed,
        steps=config.steps,
        without=config.without,
        workers=config.workers,
        ray=config.ray,
        gpus=config.gpus,
    )
    page = ablate_pipeline(documents, pipeline, how, {"name": pile.name, "sha256": pile.sha256})
    print_ablation(SavedRun.at(page.parent))
    announce(page.parent)
    return page


EXPERIMENT = Experiment(
    name="pipeline",
    title="Pipeline, step by step",
    main=main,
    config=Config,
    parts=ablation_parts,
    quoted=Quoted("summary", ("variant",)),
    effects=ablation_effects,
    limits=ablation_limits,
    rank=40,
    shows_attention=False,
    writing="Text of each variant's model",
    original="the model of the whole pipeline",
)

if __name__ == "__main__":
    launch(main, Config)
