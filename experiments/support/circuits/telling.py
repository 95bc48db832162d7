"""What was found, in plain sentences, from a run's tables alone?"""

from typing import Any

import numpy as np
import pandas as pd

from experiments.support.circuits.asking import BOTH, FIND
from experiments.support.circuits.ranking import ALL, DRAWN, RANDOM
from interp.characters import mark_spaces
from interp.circuits.graph import ARROW
from interp.runs import SavedRun
from interp.verdicts import (
    FEWEST,
    Verdict,
    costliest,
    interval_words,
    power_words,
    verdict_of,
    verdict_words,
)

NAMED = 12  # edges, before the rest is a count


def tell_findings(run: SavedRun) -> list[str]:
    """One plain sentence on each main finding, the strongest edge first."""
    said = [strongest_edge(run), smallest_circuit(run), other_rankings(run)]
    if run.holds("minimal"):
        said.append(choices_of_parts(run))
    if run.holds("models"):
        said.append(over_models(run))
    if run.holds("minimality"):
        said += [what_it_needs(run), what_it_misses(run)]
    if run.holds("lasting"):
        said.append(tell_lasting(run))
    said.append(what_source_says(run))
    return [*said, edges_that_matter(run), *how_methods_do(run), the_pairs(run)]


def tell_limits(run: SavedRun) -> list[str]:
    """What the numbers leave open."""
    said = [
        "An edge is measured with all others as they are: edges that back each other up all look "
        "idle.",
        "A circuit is the smallest that was found, by leaving out edges one after another; a "
        "smaller one may exist.",
    ]
    if are_too_few(run):
        said.append("There are too few pairs to find with some and judge by others.")
    if not is_whole(run):
        said.append(
            "Edges were ranked by estimates, and measured exactly where these are largest and at "
            "random: an edge whose effect the estimates miss is missing from the circuit too."
        )
    return said


def is_whole(run: SavedRun) -> bool:
    """Whether all edges were measured exactly."""
    return bool((run.table()["why"] == ALL).all())


def are_too_few(run: SavedRun) -> bool:
    """Whether pairs are for both, to find with and to judge by."""
    return bool((run.table("pairs")["use"] == BOTH).all())


def edges_in(run: SavedRun, meaning: str = "open") -> pd.DataFrame:
    """The effects of edges in one meaning, those that hurt the answer most first."""
    effects = run.table()
    sign = np.sign(gap_of(run))
    rows = effects[effects["meaning"] == meaning]
    return rows.sort_values("delta", key=lambda delta: -sign * delta, kind="stable")


def gap_of(run: SavedRun) -> float:
    """The metric after the corrupted texts less after the clean ones, of the pairs found with."""
    pairs = run.table("pairs")
    pairs = pairs[pairs["use"].isin([FIND, BOTH])]
    return float((pairs["corrupted_value"] - pairs["clean_value"]).mean())


def edge_words(edge: str) -> str:
    return edge.replace(ARROW, " → ")


def strongest_edge(run: SavedRun) -> str:
    """The edge between two heads that carries most, or out of a head where none between them
    carries a tenth of all; and that of all edges."""
    effects = edges_in(run)
    top = effects.iloc[0].to_dict()
    from_heads, to_heads = effects["from_head"].notna(), effects["head"].notna()
    tenth = effects["delta"] / gap_of(run) >= 0.1
    best, place = top, "of all edges"
    for where, rows in (
        ("between heads", effects[from_heads & to_heads & tenth]),
        ("out of a head", effects[from_heads]),
    ):
        shown = [row for row in rows.to_dict("records") if verdict_of(row).is_effect]
        if shown:
            best, place = shown[0], where
            break
    doubt = "" if verdict_of(best).is_effect else f" ({verdict_words(best)})"
    among = "" if is_whole(run) else ", of the edges measured"
    same = f"; of all edges it is {edge_words(top['edge'])}, {top['delta']:+.2f} nats"
    return (
        f"{edge_words(best['edge'])} carries most {place}{among}{doubt}: with what it hands on "
        f"taken from the corrupted texts, the metric changes by {effect_words(run, best)}"
        + (f"{same} ({interval_words(top)})." if top["edge"] != best["edge"] else ".")
    )


def effect_words(run: SavedRun, row: dict[Any, Any]) -> str:
    """An edge's effect in both meanings, with the interval of the open one."""
    direct = run.table().query("meaning == 'direct'").set_index("edge")["delta"][row["edge"]]
    return (
        f"{row['delta']:+.2f} nats of the {gap_of(run):+.2f} between both texts "
        f"({interval_words(row)}, {row['n']} pair{'s' * (row['n'] > 1)}), and by {direct:+.2f} "
        "where the reader answers to the logits alone (direct)"
    )


def chosen(run: SavedRun) -> str:
    """The ranking that led to the smallest circuit that keeps enough; of equal ones to the most
    faithful."""
    found = run.table("found")
    found = found[found["found_on"] >= run.description["config"]["level"]]
    order = found.sort_values(["edges", "found_on"], ascending=[True, False], kind="stable")
    return str(order["ranking"].iloc[0])


def circuit_of(run: SavedRun, ranking: str) -> list[str]:
    """The edges of the circuit that a ranking led to."""
    kept = run.table("kept")
    return list(kept.loc[kept["ranking"] == ranking, "edge"])


def smallest_circuit(run: SavedRun) -> str:
    """The smallest circuit found, how faithful it is, and on which pairs."""
    ranking = chosen(run)
    row = run.table("found").set_index("ranking").loc[ranking]
    edges = circuit_of(run, ranking)
    level = run.description["config"]["level"]
    named = ", ".join(map(edge_words, edges[:NAMED]))
    more = f" and {len(edges) - NAMED:,} more" if len(edges) > NAMED else ""
    interval = f"{row['ci_low']:.2f} to {row['ci_high']:.2f}"
    judged = f"{row['faithfulness']:.2f} (95 % interval {interval}) on {row['n']:.0f} others"
    if not np.isfinite(row["ci_low"]):
        judged = f"{row['faithfulness']:.2f} on {row['n']:.0f} others"
    if are_too_few(run):
        judged = "there are too few pairs to judge it on others"
    needed = (
        f"no edge of it can be left out without falling below {level:g}"
        if row["tried"]
        else "that is too many to try which of them can be missed"
    )
    return (
        f"The smallest circuit found that keeps {level:g} of the metric has {len(edges):,} of "
        f"{row['of']:,.0f} edges: {named}{more}. It keeps {row['found_on']:.2f} on the pairs it "
        f"was found on, and {judged}; {needed}."
    )


def other_rankings(run: SavedRun) -> str:
    """Whether other rankings lead to the same circuit."""
    ranking = chosen(run)
    own, said = {*circuit_of(run, ranking)}, []
    for row in run.table("found").to_dict("records"):
        if row["ranking"] != ranking:
            theirs = {*circuit_of(run, row["ranking"])}
            same = "the same" if theirs == own else f"{len(own & theirs):,} of them the same"
            said.append(f"to one of {row['edges']:,} from {named_order(row['ranking'])} ({same})")
    begun = f"The search came to it from {named_order(ranking)}"
    return f"{begun}; {', '.join(said)}." if said else f"{begun}."


def named_order(ranking: str) -> str:
    if ranking == RANDOM:
        return "random order"
    if ranking == "ACDC":
        return "ACDC's removals"
    return "exact effects" if ranking == "exact" else f"the scores of {ranking}"


def choices_of_parts(run: SavedRun) -> str:
    """What all choices of heads and MLPs say."""
    minimal, shares = run.table("minimal"), run.table("shapley")
    level = run.description["config"]["level"]
    first = minimal.iloc[0]
    top = shares.nlargest(1, "value", keep="first").iloc[0].to_dict()
    unique = (
        "no other one will do without having it inside"
        if len(minimal) == 1
        else f"{len(minimal)} different ones will do and can miss no part, so that the circuit is "
        "not unique"
    )
    return (
        f"Of all {2 ** len(shares):,} choices of heads and MLPs the smallest within "
        f"{1 - level:.2g} of the model has {first['size']} of {len(shares)} parts, "
        f"{' + '.join(first['parts'])} ({first['faithfulness']:.2f}); {unique}. The largest share "
        f"(Shapley) is that of {top['part']}, {top['value']:+.2f} nats ({interval_words(top)})."
    )


def over_models(run: SavedRun) -> str:
    """Whether models of other seeds have such a circuit, by every ranking."""
    models = run.table("models")
    count = models["seed"].nunique()
    sizes = models.groupby("ranking", sort=False)["edges"]
    spread = ", ".join(
        f"{few:,} from {named_order(str(ranking))}"
        if few == many
        else f"{few:,} to {many:,} from {named_order(str(ranking))}"
        for ranking, few, many in zip(sizes.groups, sizes.min(), sizes.max(), strict=True)
    )
    said = f"In {count} models trained from {count} seeds the circuits have these edges: {spread}."
    if "has_edge" not in models:
        return said
    shares = []
    for ranking, rows in models.groupby("ranking", sort=False):
        missed = [str(seed) for seed in rows.loc[~rows["has_edge"], "seed"]]
        where = f" (not in seed {', '.join(missed)})" if missed else ""
        shares.append(
            f"{rows['has_edge'].sum()} of {count} from {named_order(str(ranking))}{where}"
        )
    return (
        f"{said} The edge from the previous-token head to the key of an induction head is in "
        f"{'; '.join(shares)}."
    )


def tell_lasting(run: SavedRun) -> str:
    """How many edges are missed by the trained model, and how many by one that never had them."""
    table = run.table("lasting")
    missed = int((table["verdict"] == Verdict.RAISES).sum())
    lasting = int((table["retrained_verdict"] == Verdict.RAISES).sum())
    worst, seeds = costliest(table).to_dict(), run.table("trainings")["seed"].nunique()
    return (
        f"Cut in the trained model, {missed} of the {len(table)} strongest edges raise the loss of "
        f"the answer; cut before training, {lasting} do ({seeds} trainings each). "
        f"{edge_words(worst['edge'])} costs the trained model {worst['delta']:+.2f} nats "
        f"({interval_words(worst)}), and one that never had it {worst['retrained_delta']:+.2f} "
        f"({interval_words(worst, 'retrained_')}: {verdict_words(worst, 'retrained_')})."
    )


def what_it_needs(run: SavedRun) -> str:
    """Of which edges of the circuit is it shown that they are needed?"""
    table = run.table("minimality")
    needed = table[table["verdict"] == "needed"]
    least = table.sort_values("delta", key=abs, kind="stable").iloc[0].to_dict()
    shown = (
        f"{len(needed)} of the circuit's {len(table)} edges are shown to be needed"
        if least["n"] >= FEWEST
        else f"too few to show which of the circuit's {len(table)} edges are needed"
    )
    return (
        f"Judged on {pairs_in_words(least['n'])}"
        f"{'' if are_too_few(run) else ' that were kept apart'}, {shown}; least is lost without "
        f"{edge_words(least['edge'])}, {least['delta']:+.2f} nats ({interval_words(least)})."
    )


def what_it_misses(run: SavedRun) -> str:
    """Where circuit and model differ, with the same cut from both."""
    table = run.table("completeness")
    differing = int((table["verdict"] == "differ").sum())
    worst = table.iloc[0]
    shown = (
        f"{differing} of {len(table)} cuts are shown to leave them different"
        if worst["n"] >= FEWEST
        else f"{pairs_in_words(worst['n'])} cannot show which of {len(table)} cuts leave them "
        "different"
    )
    return (
        f"With the same cut from circuit and model, {shown}; most without {worst['without']}: the "
        f"circuit has {worst['circuit']:+.2f} nats left, the model {worst['model']:+.2f}."
    )


def pairs_in_words(count: int) -> str:
    return f"{count} pair" if count == 1 else f"{count} pairs"


def what_source_says(run: SavedRun) -> str:
    """Whether edits of the source give what hooks give."""
    table = run.table("twins")
    made = table[table["agrees"].notna()]
    said = []
    if len(made):
        worst = made["difference"].max()
        agreeing = int(made["agrees"].sum())
        said.append(
            f"Of the {len(table)} strongest edges {agreeing} are patched by an edit of the source "
            f"to the same effect, text by text: the largest difference is {worst:.1g} nats, with "
            f"logits up to {made['scale'].max():.3g}"
        )
    if len(made) < len(table):
        reason = table.loc[table["agrees"].isna(), "detail"].iloc[0]
        said.append(f"{len(table) - len(made)} have no such edit: {reason}")
    return f"{'; '.join(said)}."


def edges_that_matter(run: SavedRun) -> str:
    """How many edges have an effect, of how many that were measured."""
    effects = edges_in(run)
    shown = sum(verdict_of(row).is_effect for row in effects.to_dict("records"))
    skipped = int(effects["skipped"].sum())
    proved = f"; {skipped} are proved to have none" if skipped else ""
    few = "".join(f" {words}" for words in power_words(effects))
    of = int(run.table("found")["of"].iloc[0])
    if len(effects) == of:
        return f"{shown} of all {of:,} edges are shown to have an effect{proved}.{few}"
    drawn = int((effects["why"] == DRAWN).sum())
    return (
        f"Of {of:,} edges {len(effects)} are measured exactly: those of the largest estimates, "
        f"those of the circuits found, and {drawn} random ones; {shown} are shown to have an "
        f"effect{proved}.{few}"
    )


def how_methods_do(run: SavedRun) -> list[str]:
    """How well each method that estimates agrees with exact effects."""
    return [
        f"{row['method']} against exact effects of {row['edges']} edges ({row['of']}): correlation "
        f"{row['correlation']:.2f}, slope {row['slope']:.2f}, the sign differs at "
        f"{row['wrong_signs']} of {row['with_effect']}, and {row['overlap']:.0%} of the "
        f"{row['top']} largest are found."
        for row in run.table("audits").to_dict("records")
    ]


def the_pairs(run: SavedRun) -> str:
    """What was asked, and how the model answers."""
    pairs = run.table("pairs")
    first = pairs.iloc[0]
    told = str(run.description["config"].get("chosen", ""))
    return (
        f"The metric is the logit of the answer less that of the wrong one: "
        f"{pairs['clean_value'].mean():+.2f} nats after the clean texts such as "
        f"{mark_spaces(first['clean'])!r} ({mark_spaces(first['answer'])!r}), "
        f"{pairs['corrupted_value'].mean():+.2f} after the corrupted ones, "
        f"{mark_spaces(first['corrupted'])!r} ({mark_spaces(first['wrong'])!r}); {len(pairs)} "
        f"pair{'s' * (len(pairs) > 1)}. {told}"
    ).strip()
