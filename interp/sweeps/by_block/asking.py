"""What do trials change of the clean value of their hook point?"""

from collections.abc import Iterable

from torch import Tensor
from transformer_lens.hook_points import HookPoint

from interp.masks import Masks
from interp.site import names_by_point
from interp.sweeps.request import Request
from interp.sweeps.trials import Change, change_of


class AskedChanges:
    """Trials by the hook point that each is made at.

    Attributes:
        trials: their numbers, by hook point.
        names: of every hook point.
        masks: what attention hides at these hook points; its ``pairs`` are to be hooked too.
    """

    def __init__(self, request: Request, numbers: Iterable[int]) -> None:
        self.request = request
        self.names = names_by_point(request.model)
        self.trials: dict[HookPoint, list[int]] = {}
        for number in numbers:
            point = request.model.hook_dict[request.trials[number].site.hook]
            self.trials.setdefault(point, []).append(number)
        known = (name for point in self.trials for name in self.names[point])
        self.masks = Masks(request.model, known)

    def changes(self, value: Tensor, hook: HookPoint) -> dict[int, Change]:
        """What each trial makes of the clean value of its hook point."""
        masked = self.masks.of(self.names[hook], value)
        trials = self.request.trials
        return {number: change_of(trials[number], value, masked) for number in self.trials[hook]}
