"""What does a model know by heart?

    measure_exposure(model, [Canary("The number of the box is ", "4821")])   # bits, by exact rank
    measure_extraction(model, train, val)         # passages of the text, continued word for word
    prompt_for_private(model, private_passages(train, val))    # addresses that stood in it
    match_writing(write(model, prompts).table(), train)   # the longest copies in what it writes

All take any model of tokens with a tokenizer, and give one row for each thing asked. What stood in
the training text is always measured beside something like it that did not: to guess a date is no
memory of it.
"""

from interp.memorising.canaries import Canary
from interp.memorising.exposure import measure_exposure
from interp.memorising.matching import match_writing, measure_extraction
from interp.memorising.passages import Passage, ask_passages, share_exact
from interp.memorising.prompting import PrivatePassage, private_passages, prompt_for_private

__all__ = [
    "Canary",
    "Passage",
    "PrivatePassage",
    "ask_passages",
    "match_writing",
    "measure_exposure",
    "measure_extraction",
    "private_passages",
    "prompt_for_private",
    "share_exact",
]
