"""What was found, in plain sentences, from a run's tables alone?"""

import numpy as np
import pandas as pd

from experiments.support.circuits.asking import BOTH, FIND
from interp.characters import mark_spaces
from interp.circuits.graph import ARROW
from interp.runs import SavedRun
from interp.verdicts import interval_words, verdict_of, verdict_words

NAMED = 12  # edges, before the rest is a count


def tell_findings(run: SavedRun) -> list[str]:
    """One plain sentence on each main finding, the strongest edge first."""
    said = [strongest_edge(run), smallest_circuit(run), other_rankings(run)]
    if run.holds("minimal"):
        said.append(choices_of_parts(run))
    return [*said, edges_that_matter(run), the_pairs(run)]


def edges_of(run: SavedRun, meaning: str = "open") -> pd.DataFrame:
    """The effects of edges in one meaning, those that hurt the answer most first."""
    table = run.table()
    rows = table[table["meaning"] == meaning]
    return rows.sort_values("delta", key=lambda delta: -direction(run) * delta, kind="stable")


def direction(run: SavedRun) -> float:
    """The sign of what the metric loses from the clean texts to the corrupted ones."""
    return float(np.sign(gap(run)))


def gap(run: SavedRun) -> float:
    """The metric after the corrupted texts less after the clean ones, of the pairs found with."""
    pairs = run.table("pairs")
    pairs = pairs[pairs["use"].isin([FIND, BOTH])]
    return float((pairs["corrupted_value"] - pairs["clean_value"]).mean())


def edge_words(edge: str) -> str:
    return edge.replace(ARROW, " → ")


def strongest_edge(run: SavedRun) -> str:
    """The edge between two heads that carries most; where none is shown to, of all."""
    effects = edges_of(run)
    between = effects[effects["from_head"].notna() & effects["head"].notna()]
    shown = [verdict_of(row).is_effect for row in between.to_dict("records")]
    what, rows = ("between heads", between[shown]) if any(shown) else ("of all edges", effects)
    top = rows.iloc[0].to_dict()
    direct = run.table().query("meaning == 'direct'").set_index("edge")["delta"][top["edge"]]
    doubt = "" if verdict_of(top).is_effect else f"; {verdict_words(top)}"
    return (
        f"{edge_words(top['edge'])} carries most {what}: with what it hands on taken from the "
        f"corrupted texts, the metric changes by {top['delta']:+.2f} nats of the "
        f"{gap(run):+.2f} between the two texts ({interval_words(top)}, "
        f"{top['n']} pair{'s' * (top['n'] > 1)}{doubt}); by {direct:+.2f} where the reader answers "
        "to the logits alone (direct)."
    )


def chosen(run: SavedRun) -> str:
    """The ranking that led to the smallest circuit; of equal ones to the most faithful."""
    found = run.table("found")
    order = found.sort_values(["edges", "found_on"], ascending=[True, False], kind="stable")
    return str(order["ranking"].iloc[0])


def circuit_of(run: SavedRun, ranking: str) -> list[str]:
    kept = run.table("kept")
    return list(kept.loc[kept["ranking"] == ranking, "edge"])


def smallest_circuit(run: SavedRun) -> str:
    ranking = chosen(run)
    row = run.table("found").set_index("ranking").loc[ranking]
    edges = circuit_of(run, ranking)
    level = run.description["config"]["faithfulness"]
    named = ", ".join(map(edge_words, edges[:NAMED]))
    more = f" and {len(edges) - NAMED} more" if len(edges) > NAMED else ""
    judged = (
        f"{row['faithfulness']:.2f} (95 % interval {row['ci_low']:.2f} to {row['ci_high']:.2f}) on "
        f"{row['n']:.0f} others"
    )
    if (run.table("pairs")["use"] == BOTH).all():
        judged = "there are too few pairs to judge it on others"
    return (
        f"The smallest circuit found that keeps {level:g} of the metric has "
        f"{len(edges)} of {row['of']:,.0f} edges: {named}{more}. It keeps {row['found_on']:.2f} on "
        f"the pairs it was found on, and {judged}; no edge of it can be left out without falling "
        f"below {level:g}."
    )


def other_rankings(run: SavedRun) -> str:
    """Whether other rankings lead to the same circuit."""
    ranking = chosen(run)
    own, said = {*circuit_of(run, ranking)}, []
    for row in run.table("found").to_dict("records"):
        if row["ranking"] != ranking:
            theirs = {*circuit_of(run, row["ranking"])}
            same = "the same" if theirs == own else f"{len(own & theirs)} of them the same"
            said.append(f"{row['ranking']} to one of {row['edges']}, {same}")
    return f"It comes from the ranking by {ranking} values; {'; '.join(said)}."


def choices_of_parts(run: SavedRun) -> str:
    """What all choices of heads and MLPs say."""
    minimal, shares = run.table("minimal"), run.table("shapley")
    level = run.description["config"]["faithfulness"]
    first = minimal.iloc[0]
    top = shares.nlargest(1, "value", keep="first").iloc[0].to_dict()
    unique = (
        "it is the only one from which nothing can be left out"
        if len(minimal) == 1
        else f"{len(minimal)} different ones keep it and can miss no part: the circuit is not "
        "unique"
    )
    return (
        f"Of all {2 ** len(shares):,} choices of heads and MLPs the smallest that are within "
        f"{1 - level:.2g} of the model have {first['size']} of {len(shares)} parts, such as "
        f"{' + '.join(first['parts'])} ({first['faithfulness']:.2f}); {unique}."
    ) + (f" The largest share (Shapley) is that of {top['part']}, {top['value']:+.2f} nats.")


def edges_that_matter(run: SavedRun) -> str:
    effects = edges_of(run)
    shown = sum(verdict_of(row).is_effect for row in effects.to_dict("records"))
    skipped = int(effects["skipped"].sum())
    proved = f"; {skipped} are proved to have none" if skipped else ""
    return f"{shown} of {len(effects):,} edges measured are shown to have an effect{proved}."


def the_pairs(run: SavedRun) -> str:
    pairs = run.table("pairs")
    first = pairs.iloc[0]
    told = str(run.description["config"].get("chosen", ""))
    return (
        f"The metric is the logit of the answer less that of the wrong one: "
        f"{pairs['clean_value'].mean():+.2f} nats after the clean texts such as "
        f"{mark_spaces(first['clean'])!r} ({mark_spaces(first['answer'])!r}), "
        f"{pairs['corrupted_value'].mean():+.2f} after the corrupted ones, "
        f"{mark_spaces(first['corrupted'])!r} ({mark_spaces(first['wrong'])!r}); {len(pairs)} "
        f"pairs. {told}"
    ).strip()


def tell_limits(run: SavedRun) -> list[str]:
    """What the numbers leave open."""
    said = [
        "An edge is measured with all others as they are: edges that back each other up all look "
        "idle.",
        "The circuit is the smallest that was found, by leaving out edges one after another; a "
        "smaller one may exist.",
    ]
    if (run.table("pairs")["use"] == BOTH).all():
        said.append("There are too few pairs to find with some and judge by others.")
    return said
