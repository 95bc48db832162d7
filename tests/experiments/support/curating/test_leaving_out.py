from dataclasses import replace

import pytest

import interp.errors
from experiments.support.curating.leaks import leaks_of
from experiments.support.curating.leaving_out import (
    DUPLICATES,
    NOTHING,
    WHOLE,
    PileTexts,
    variants_of,
)
from experiments.support.curating.planting import COPIED, COPIES, NEVER, SINGLE, plant_canaries
from gpt.errors import UsageError
from interp.curation import Pipeline, Step, cluster_documents, run_pipeline
from interp.curation.running import BETWEEN
from interp.curation.stages import pairs
from tests.experiments.support.curating.piles import small_pile


@pytest.fixture(scope="module")
def made() -> PileTexts:
    return PileTexts(small_pile(), Pipeline.default())


@pytest.fixture(scope="module")
def texts(made):
    return {variant.name: made.of(variant) for variant in variants_of(made.pipeline)}


@pytest.fixture(scope="module")
def leaks(made, texts):
    return leaks_of(list(texts.values()), made.validated).set_index("variant")


def do_nothing(documents):
    yield from documents


def test_of_the_whole_pipeline_nothing_left_out_is_what_the_pipeline_writes(tmp_path, made, texts):
    curated = run_pipeline(made.pipeline, iter(small_pile()), tmp_path)
    assert texts[WHOLE].train == curated.train
    assert made.val == curated.val


def test_what_variants_share_is_computed_once_and_is_what_each_computes_alone(made, texts):
    for variant in variants_of(made.pipeline):
        documents = small_pile()
        for step in variant.pipeline.steps:
            after = [replace(one, notes=()) for _, one in pairs(step, documents)]
            documents = [one for one in after if not one.dropped]
        alone = {one.id: one.text for one in documents}
        assert all(alone[one.id] == one.text for one in texts[variant.name].documents)


def test_a_step_that_does_nothing_left_out_leaves_the_same_text_to_the_byte():
    pipeline = Pipeline((*Pipeline.default().steps, Step("idle", do_nothing)))
    made = PileTexts(small_pile(), pipeline)
    texts = {variant.name: made.of(variant) for variant in variants_of(pipeline)}
    assert texts["idle"].train == texts[WHOLE].train
    assert texts[NOTHING].train != texts[WHOLE].train


def test_no_variant_trains_on_a_document_that_all_are_validated_on(made, texts):
    val = {document.id for document in made.validated}
    for text in texts.values():
        assert val.isdisjoint(one.id for one in text.documents)


def test_each_guard_against_duplicates_covers_for_the_others_and_without_all_they_leak(leaks):
    assert not leaks.drop([DUPLICATES, NOTHING])["leak"].any()
    assert leaks.loc[[DUPLICATES, NOTHING], "leak"].all()
    assert leaks.loc[DUPLICATES, "share"] > 0.5 > leaks.loc[WHOLE, "share"]


def test_near_duplicates_of_the_validation_text_are_counted_as_a_comparison_of_all_finds_them(
    made, texts, leaks
):
    train = texts[NOTHING].documents
    clusters = cluster_documents([*train, *made.validated])
    near = [
        one
        for one in made.validated
        if any(clusters[one.id] == clusters[other.id] for other in train)
    ]
    assert leaks.loc[NOTHING, "near"] == len(near) > 0
    # and word for word: a copy of the document as the pile has it
    copied = [one for one in made.validated if any(one.text in other.text for other in train)]
    assert leaks.loc[NOTHING, "known"] >= len(copied)


def test_ones_own_variants_are_named_by_their_steps(made):
    own = variants_of(made.pipeline, ["private+secrets"])
    chosen = next(one for one in own if one.name == "private+secrets")
    assert [step.name for step in chosen.left_out] == ["private", "secrets"]
    assert "jane.roe@example.org" in BETWEEN.join(one.text for one in made.after(chosen.pipeline))
    with pytest.raises(interp.errors.UsageError, match="no step 'privat'; nearest: private"):
        variants_of(made.pipeline, ["privat"])


def test_a_pile_of_which_nothing_is_left_is_refused():
    with pytest.raises(UsageError, match="keeps 1, and puts 1 aside to validate on"):
        PileTexts(small_pile()[:1], Pipeline.default())


def test_canaries_are_planted_where_the_table_says_and_nowhere_else():
    pile = small_pile()
    made, planted = plant_canaries(pile, seed=3)
    assert plant_canaries(pile, seed=3) == (made, planted)
    whole = BETWEEN.join(one.text for one in made)
    counts = {COPIED: COPIES, SINGLE: 1, NEVER: 0}
    assert {one.how for one in planted} == {*counts}
    for one in planted:
        assert whole.count(one.canary.text) == counts[one.how] == len(one.sources)
    assert [one.id for one in made[: len(pile)]] == [one.id for one in pile]
    held = {source for one in planted for source in one.sources}
    untouched = [one for one in made if one.source not in held]
    assert untouched == [one for one in pile if one.source not in held]
