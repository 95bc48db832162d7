"""How often are the finders of private strings right, in ways of writing that they were made for
and in such as they were not?

    python -m benchmarks.finders [--seed 0] [--each 8]

Every document is planted: what is private in it is known to the character. Four sorts of documents
were looked at while the finders were made or mended; the last, ``held out``, was written
afterwards and scored, and nothing was mended for it. What is found is right where it is of the kind
planted and neither a character longer nor shorter; to mask a little more or less counts as wrong.
"""

import argparse
from collections.abc import Sequence

import pandas as pd

from benchmarks.styles.chats import CHATS
from benchmarks.styles.held_out import write_held_out
from benchmarks.styles.logs import LOGS
from benchmarks.styles.paper_values import REGIONS
from benchmarks.styles.papers import write_contacts, write_papers
from interp.curation.planted import PlantedDocument, plant_documents
from interp.curation.planted_words import PROSE
from interp.curation.scoring import score_finders

SHOWN = ["what", "planted", "found", "right", "precision", "recall"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--each", type=int, default=8, help="documents of each form")
    arguments = parser.parse_args()
    rows = []
    for name, planted in seen_and_held_out(arguments.seed, arguments.each).items():
        table = score_finders(planted)
        rows.append(table_row(name, table))
        print(f"\n{name}\n{table[SHOWN].round(3).to_string(index=False)}")
    print("\nprecision / recall, as docs/data.md has them", *rows, sep="\n")
    contacts = write_contacts(arguments.seed, arguments.each)
    for name, regions in (("as by default", ("US", "GB")), ("with their regions", REGIONS)):
        table = score_finders(contacts, regions)
        row = table.loc[table["what"] == "telephone number", SHOWN].round(3)
        print(
            f"\nnumbers as ten countries write them at home, {name}\n{row.to_string(index=False)}"
        )


def seen_and_held_out(seed: int, each: int) -> dict[str, Sequence[PlantedDocument]]:
    """The documents by sort; the last was not seen while finders were mended."""
    styles = {"prose": PROSE, "logs": LOGS, "chats": CHATS}
    sorts: dict[str, Sequence[PlantedDocument]] = {
        name: plant_documents(seed, size=each, style=style) for name, style in styles.items()
    }
    return {**sorts, "papers": write_papers(seed, each), "held out": write_held_out(seed, each)}


def table_row(name: str, table: pd.DataFrame) -> str:
    """Precision and recall of each kind, as a row of the guide's table."""
    scores = (f"{row.precision:.2f} / {row.recall:.2f}" for row in table.itertuples())
    return f"| {' | '.join([name, *scores])} |"


if __name__ == "__main__":
    pd.set_option("display.width", 120)
    main()
