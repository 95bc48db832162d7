"""What is in this text, and what should one know before a model is trained on it?

    audit = audit_text(corpus.text)
    audit.overlap["share"]            # of the validation text, also in the training text
    html(audit, "shakespeare")        # the data card

Nothing that the audit found leaves it whole: e-mail addresses, telephone numbers and keys are shown
by their line and, at most, their first two characters.
"""

from interp.texts.auditing import TextAudit, audit_text
from interp.texts.card import html
from interp.texts.finding import KINDS, Found, find_private
from interp.texts.overlap import Overlap, shared_passages

__all__ = [
    "KINDS",
    "Found",
    "Overlap",
    "TextAudit",
    "audit_text",
    "find_private",
    "html",
    "shared_passages",
]
