"""How is a model run from one of its blocks on, whoever wrote it?

    blocks, run = trace_blocks(model, tokens)             # run: what enters each block, and logits
    calls = blocks.calls(tokens)                         # how the model calls them on these tokens
    x = blocks.call(3, new, calls, examples)             # block 3 on another residual stream
    logits = blocks.unembed(x)                           # what the model makes of the last one

Nothing is known of the blocks but that the model calls them one after the other, each with what the
one before returned. They are called as the model calls them: with its masks, its positions, and its
key/value cache where the beginning of a text is spared.
"""

from interp.blocks.calling import BlockRun, ModelBlocks, NotInTurnError
from interp.blocks.finding import BlockTracer, trace_blocks

__all__ = ["BlockRun", "BlockTracer", "ModelBlocks", "NotInTurnError", "trace_blocks"]
