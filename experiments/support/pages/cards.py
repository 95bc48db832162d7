"""What is known of a text, as a card: ``data_card.json``, and ``data_card.html`` to read?

A text is audited once and the audit kept in ``runs/texts`` under everything that decides it.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from gpt.text import Corpus
from interp.runs import identity_of, write_atomically
from interp.runs.files import remove_unfinished
from interp.texts import TextAudit, audit_text, html
from interp.texts.auditing import method
from interp.texts.finding import REGIONS

CARD = "data_card"


def audit_corpus(
    corpus: Corpus, runs: Path, at_least: int = 50, regions: Sequence[str] = REGIONS
) -> TextAudit:
    """The audit of a text, parted as by ``gpt.text.split``; read, if it was made before."""
    share = 0.9 if corpus.parted_at is None else corpus.border / len(corpus.text)
    decided = method(share, at_least, regions)
    identity = identity_of(text=corpus.sha256, method=decided)
    path = runs / "texts" / f"{identity[:16]}.json"
    remove_unfinished(path.parent)
    with suppress(OSError, ValueError, KeyError, TypeError):  # missing or damaged: audited again
        kept = json.loads(path.read_bytes())
        if kept["sha256"] == identity_of(identity=identity, audit=kept["audit"]):
            return TextAudit(**kept["audit"])
    audit = audit_text(
        corpus.text,
        train_share=share,
        border=corpus.border,
        at_least=at_least,
        regions=regions,
    )
    made = json.loads(json.dumps(asdict(audit)))
    kept = {"sha256": identity_of(identity=identity, audit=made), "audit": made}
    write_atomically(path, json.dumps(kept, ensure_ascii=False).encode())
    return audit


def save_card(folder: Path, corpus: Corpus, audit: TextAudit) -> Path:
    """Write the card into a run's folder, and return the page's path."""
    card = {"name": corpus.name, **asdict(audit)}
    text = json.dumps(card, indent=2, ensure_ascii=False)
    write_atomically(folder / f"{CARD}.json", text.encode())
    return write_atomically(folder / f"{CARD}.html", html(audit, corpus.name).encode())
