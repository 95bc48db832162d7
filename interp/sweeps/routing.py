"""What does a model offer, as far as that is verified, and which trials can make use of it?"""

import torch

from interp.sweeps.budget import fit_fast_path
from interp.sweeps.by_block.finding import find_block_path
from interp.sweeps.request import FastPath, Request, Routes
from interp.sweeps.speed.components import NotRecognisedError, NotShownError, components_of
from interp.sweeps.speed.entries import entry_of
from interp.sweeps.speed.verifying import verify_components, watched_by


def find_routes(request: Request) -> Routes:
    """Sort the trials by the fastest way there is for each.

    Raises:
        UsageError: too little memory for any of them.
    """
    notes: list[str] = []
    fast_path = by_block = unlike = None
    hooked = watched_by(request.model)
    try:
        fast_path = find_fast_path(request, hooked)
    except NotRecognisedError as error:
        unlike = error
        notes.append(f"this model is not taken apart: {error}")
    rest = set(range(len(request.trials))).difference(fast_path.entries if fast_path else ())
    if rest and not hooked and not is_autocast(request):
        try:
            by_block = find_block_path(request, sorted(rest))
        except NotRecognisedError as error:
            notes.append(f"it runs from its first block on: {error}")
    if isinstance(unlike, NotShownError) and by_block:
        notes = []  # nobody expects it to be taken apart: its blocks are run as they are
    rest.difference_update(by_block.entries if by_block else ())
    return Routes(fast_path, by_block, sorted(rest), notes)


def find_fast_path(request: Request, hooked: str | None) -> FastPath | None:
    """The fast path of the trials that enter the residual stream; None where there are none.

    Args:
        hooked: a module of the model that somebody hooked.

    Raises:
        NotRecognisedError: the model cannot be taken apart.
        UsageError: too little memory.
    """
    if hooked:
        raise NotRecognisedError(f"there are hooks on its {hooked}")
    if is_autocast(request):
        raise NotRecognisedError("autocast chooses the precision of its parts")
    components = components_of(request.model)
    entries = {
        number: entry
        for number, trial in enumerate(request.trials)
        if len(trial.sites) == 1 and (entry := entry_of(trial.site, len(components.layers)))
    }
    if not entries:
        return None
    verify_components(
        request.model, components, request.tokens, list(dict.fromkeys(entries.values()))
    )
    request.give_back()
    return fit_fast_path(request, components, entries)


def is_autocast(request: Request) -> bool:
    """Whether the precision of a model's parts is chosen while they run."""
    return torch.is_autocast_enabled(request.tokens.device.type)
