"""Did every intervention act at every token that was written?"""

import pandas as pd

from interp.errors import NoEffectError
from interp.receipts import Effect, Receipt


class Acted:
    """In which runs did interventions act, and at how many tokens?"""

    def __init__(self) -> None:
        self.receipt: Receipt | None = None
        self.runs = self.texts = self.tokens_read = 0
        self.seen: dict[tuple[int, str], int] = {}

    def after_run(self, length: int) -> None:
        """See that every intervention acted in the run that has just ended.

        Raises:
            NoEffectError: one did not.
        """
        self.runs += 1
        for number, effect in enumerate(self.receipt or ()):
            for site in effect.sites:
                fired = effect.fired_at(site.hook)
                if fired <= self.seen.get((number, site.hook), 0):
                    raise NoEffectError(
                        f"{effect.intervention} on {effect.key} did not act at {site.hook} when "
                        f"the model read {length} tokens (run {self.runs}): what it then wrote is "
                        "not what it writes with the intervention"
                    )
            self.seen |= {(number, site.hook): effect.fired_at(site.hook) for site in effect.sites}

    def table(self, written: int) -> pd.DataFrame:
        """One row for each intervention."""
        rows = [
            {
                "site": effect.key,
                "intervention": effect.intervention,
                "sites": len(effect.sites),
                "runs": self.runs,
                "positions": self.positions(effect, written),
                "changed": effect.changed,
                "relative_norm": effect.relative_norm,
            }
            for effect in self.receipt or ()
        ]
        columns = ["site", "intervention", "sites", "runs", "positions", "changed", "relative_norm"]
        return pd.DataFrame(rows, columns=columns)

    def positions(self, effect: Effect, written: int) -> int:
        """Tokens of the texts that it acted at: every one that a run was given, or of each text
        the one that its site names; counted from the end that is another one in every run."""
        at = effect.sites[0].pos
        if at is None:
            return self.tokens_read
        return self.texts * (1 if at >= 0 else written)
