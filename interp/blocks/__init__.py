"""How is a model run from one of its blocks on, whoever wrote it?

    blocks = find_blocks(model, tokens)
    run = blocks.run(tokens)                             # what enters each block, and the logits
    x = blocks.call(3, new, run.calls, examples)         # block 3 on another residual stream
    logits = blocks.unembed(x)                           # what the model makes of the last one

Nothing is known of the blocks but that the model calls them one after the other, each with what the
one before returned. They are called as the model calls them: with its masks, its positions, and its
key/value cache where the beginning of a text is spared.
"""

from interp.blocks.calling import BlockRun, Blocks
from interp.blocks.finding import NotInTurnError, find_blocks

__all__ = ["BlockRun", "Blocks", "NotInTurnError", "find_blocks"]
