"""What becomes of a pile when a step of its pipeline is left out?

    for variant in variants_of(pipeline, own=["private+secrets"]):
        text = texts.of(variant)           # what the model is trained on without the step

Every variant is validated on the same documents: those that the whole pipeline puts aside, as it
leaves them. They are taken out of every variant's training text by their ids; their near duplicates
only where the variant itself guards against them, as a split by cluster does. So it shows what each
guard is for.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from gpt.errors import UsageError
from interp.curation import Document, Pipeline, Step
from interp.curation.passages import find_sharing
from interp.curation.pipeline import options_of
from interp.curation.running import BETWEEN
from interp.curation.stages import pairs
from interp.curation.steps.splitting import (
    VAL,
    clusters_known,
    draw_key,
)

WHOLE = "whole pipeline"
DUPLICATES, NOTHING = "duplicates", "nothing"
EXACT, NEAR, SPLIT = "exact_duplicates", "near_duplicates", "split"


@dataclass(frozen=True)
class Variant:
    """A pipeline of which something is left out.

    Args:
        name: what is left out.
        pipeline: what is left.
        left_out: the steps that it lacks, or that are weaker, in the pipeline's order.
        said: what is left out, in words.
    """

    name: str
    pipeline: Pipeline
    left_out: tuple[Step, ...] = ()
    said: str = ""


def variants_of(pipeline: Pipeline, own: Sequence[str] = ()) -> list[Variant]:
    """The whole pipeline; each step left out alone; all that guards against duplicates; everything;
    and one's own, each the names of steps with ``+`` between them.

    Raises:
        UsageError: a step that the pipeline does not have.
    """
    found = [Variant(WHOLE, pipeline, (), "nothing is left out")]
    found += [leave_steps_out(pipeline, [name], name) for name in pipeline.names]
    if guards := [step for step in pipeline.steps if step.name in (EXACT, NEAR, SPLIT)]:
        weak = pipeline.without(*(step.name for step in guards if step.name != SPLIT))
        if SPLIT in pipeline.names:
            weak = weak.with_options(SPLIT, by="document")
        said = "every guard against duplicates at once, for each covers for the others"
        found.append(Variant(DUPLICATES, weak, tuple(guards), said))
    for names in own:
        found.append(leave_steps_out(pipeline, names.split("+"), names))
    found.append(Variant(NOTHING, Pipeline(()), pipeline.steps, "every step: the pile as it is"))
    return list({variant.name: variant for variant in found}.values())


def leave_steps_out(pipeline: Pipeline, names: Sequence[str], called: str) -> Variant:
    left = pipeline.without(*names)
    steps = tuple(step for step in pipeline.steps if step.name in names)
    return Variant(called, left, steps, f"{' and '.join(names)} left out")


@dataclass(frozen=True)
class VariantText:
    """What a variant trains on.

    Args:
        variant: of the pipeline.
        documents: in the order of the text.
    """

    variant: Variant
    documents: tuple[Document, ...]

    @cached_property
    def train(self) -> str:
        return BETWEEN.join(document.text for document in self.documents)


class PileTexts:
    """The training texts that all variants make of one pile, and the validation text.

    A step that takes documents one by one gives each the same whatever stands beside it, so what it
    made of a document once is taken again wherever another variant comes to the same document: all
    variants together cost little more than the whole pipeline.

    Args:
        documents: the pile.
        pipeline: the whole of it.
        seed: of the documents' order in the text.

    Raises:
        UsageError: nothing is left to train or to validate on; a step fails.
    """

    def __init__(self, documents: Sequence[Document], pipeline: Pipeline, seed: int = 0) -> None:
        self.pile, self.pipeline, self.seed = list(documents), pipeline, seed
        self.known: dict[tuple[str, Document], Document] = {}
        kept = self.after(pipeline)
        self.validated = self.in_order(one for one in kept if one.split == VAL)
        self.val = BETWEEN.join(document.text for document in self.validated)
        if not self.validated or len(self.validated) == len(kept):
            raise UsageError(
                f"of {len(self.pile)} documents the pipeline keeps {len(kept)}, and puts "
                f"{len(self.validated)} aside to validate on: give more documents, for a model is "
                "trained on the others"
            )

    def of(self, variant: Variant) -> VariantText:
        """What a variant trains on."""
        kept = self.after(Pipeline(tuple(s for s in variant.pipeline.steps if s.name != SPLIT)))
        aside = self.aside(variant, kept)
        train = self.in_order(one for one in kept if one.id not in aside)
        if not train:
            raise UsageError(f"without {variant.name} no document is left to train on")
        return VariantText(variant, tuple(train))

    def aside(self, variant: Variant, kept: Sequence[Document]) -> set[str]:
        """Ids of the documents that a variant does not train on: those of the validation text, and
        what its split would put beside them."""
        val = {document.id for document in self.validated}
        split = next((step for step in variant.pipeline.steps if step.name == SPLIT), None)
        if split is None:
            return val
        options = {**options_of(split.function), **split.options}
        if options["by"] == "document":
            return val
        here = {document.id for document in kept}
        missing = [document for document in self.validated if document.id not in here]
        if missing:  # dropped here, as another document's duplicate
            kept = [document.about(cluster="") for document in kept]
        together = [*kept, *(document.about(cluster="") for document in missing)]
        clusters = clusters_known(together, options["similar"])
        beside = {clusters[id] for id in val}
        found = val | {document.id for document in kept if clusters[document.id] in beside}
        if options["passage"]:
            beside_them = [*self.validated, *(one for one in kept if one.id not in val)]
            found |= find_sharing(beside_them, val, at_least=options["passage"]).keys()
        return found

    def after(self, pipeline: Pipeline) -> list[Document]:
        """What the steps keep of the pile."""
        documents = self.pile
        for step in pipeline.steps:
            made = self.whole(step, documents) if step.whole_pile else self.each(step, documents)
            documents = [one for one in made if not one.dropped]
        return documents

    def whole(self, step: Step, documents: Sequence[Document]) -> list[Document]:
        return [replace(after, notes=()) for _, after in pairs(step, documents)]

    def each(self, step: Step, documents: Sequence[Document]) -> list[Document]:
        new = [one for one in documents if (step.identity, one) not in self.known]
        for before, after in pairs(step, new):
            self.known[step.identity, before] = replace(after, notes=())
        return [self.known[step.identity, one] for one in documents]

    def in_order(self, documents: Iterable[Document]) -> list[Document]:
        return sorted(documents, key=lambda document: draw_key(document.id, self.seed))
