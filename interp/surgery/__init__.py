"""What does this line of the model's code do for the loss?

Source edits of a model file: find the cuts that apply, make one, run it, retrain it.

    from interp import surgery

    source = surgery.read_source("gpt/model.py")
    cut = surgery.find(source, "bypass-call", qualname="Block.forward", target="ln1")
    variant = surgery.edited_module(source, cut)
    model = variant.GPT(variant.GPTConfig(vocab_size=65))
    own = surgery.edit(source, "x = x + attn_out", "x = attn_out")     # a cut of one's own
"""

from interp.errors import SurgeryError
from interp.status import Status
from interp.surgery.by_line import lines
from interp.surgery.cutting.modules import edited_module
from interp.surgery.cutting.performing import perform
from interp.surgery.judging.rows import headlines, one_per_function, over_seeds
from interp.surgery.operators.finding import enumerate_surgeries, find, find_all
from interp.surgery.source.edits import Surgery, at_layers, combine
from interp.surgery.source.own import at_line, between, edit, from_diff, hunks
from interp.surgery.source.syntax import Edit, Source, read_source
from interp.surgery.studying.studies import Study, study

__all__ = [
    "Edit",
    "Source",
    "Status",
    "Study",
    "Surgery",
    "SurgeryError",
    "at_layers",
    "at_line",
    "between",
    "combine",
    "edit",
    "edited_module",
    "enumerate_surgeries",
    "find",
    "find_all",
    "from_diff",
    "headlines",
    "hunks",
    "lines",
    "one_per_function",
    "over_seeds",
    "perform",
    "read_source",
    "study",
]
