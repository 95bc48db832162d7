"""How far are many trainings?

A live table while they run; the same table for who looks from another terminal, from the file
``progress.json`` in the run's folder.

    board = Board([("none seed 0", 2000), ("no_residual seed 0", 2000)])
    with board.shown():
        board.told(0, step=10, loss=3.2, speed=20_000)
"""

import json
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from experiments.support.cli import console
from gpt.errors import UsageError
from interp.runs import holder, write_atomically

FILE = "progress.json"
EVERY_S = 2.0
"""Seconds between two savings."""
KEPT = ("names", "steps", "final", "running", "first", "made")


class Board:
    """Where each of some trainings stands.

    Args:
        tasks: a name such as ``none seed 0``, and how many steps it takes.
    """

    def __init__(self, tasks: Sequence[tuple[str, int]]) -> None:
        self.names = [name for name, _ in tasks]
        self.steps = [steps for _, steps in tasks]
        self.final: dict[int, float] = {}
        self.running: dict[int, list[float]] = {}  # step, loss, tokens per second
        self.first: dict[int, float] = {}  # the step at which a training was first heard of here
        self.made = 0.0  # steps by trainings that ended here
        self.started = time.monotonic()  # a clock that nobody moves
        self.saved = -math.inf

    def told(self, number: int, step: int, loss: float, speed: float) -> None:
        self.first.setdefault(number, step)
        self.running[number] = [step, loss, speed]

    def done(self, number: int, loss: float, now: bool = True) -> None:
        """A training has ended with this val loss; ``now`` unless it had before this sitting."""
        self.running.pop(number, None)
        self.final[number] = loss
        if now:
            self.made += self.steps[number] - self.first.pop(number, 0)

    @property
    def seconds_left(self) -> float | None:
        """By the pace of this sitting; None before there is one."""
        under_way = sum(self.running[n][0] - self.first[n] for n in self.running)
        pace = (self.made + under_way) / max(time.monotonic() - self.started, 1e-9)
        if pace == 0:
            return None
        todo = sum(steps for n, steps in enumerate(self.steps) if n not in self.final)
        return (todo - sum(self.running[n][0] for n in self.running)) / pace

    def __rich__(self) -> RenderableType:
        left = len(self.names) - len(self.final) - len(self.running)
        head = (
            f"{len(self.names)} trainings: {len(self.final)} done, {len(self.running)} running, "
            f"{left} left"
        )
        if len(self.final) < len(self.names) and self.seconds_left is not None:
            head += f"; {duration(self.seconds_left)} to go"
        table = Table(box=None, pad_edge=False)
        for column in ("variant", "done", "val loss", "running"):
            table.add_column(column, justify="left" if column == "variant" else "right")
        for variant, numbers in self.variants().items():
            ended = [self.final[n] for n in numbers if n in self.final]
            finite = all(map(math.isfinite, ended))
            spread = f" ± {statistics.stdev(ended):.3f}" if len(ended) > 1 and finite else ""
            running = [
                f"{self.names[n].rpartition(' seed ')[2]}: step {self.running[n][0]:.0f}"
                f"/{self.steps[n]} loss {self.running[n][1]:.3f}"
                for n in numbers
                if n in self.running
            ]
            table.add_row(
                Text(variant),
                f"{len(ended)}/{len(numbers)}",
                f"{sum(ended) / len(ended):.3f}{spread}" if ended else "",
                "\n".join(running[:8]),
            )
        return Group(Text(head, style="bold"), table)

    def variants(self) -> dict[str, list[int]]:
        """The trainings of each variant."""
        found: dict[str, list[int]] = {}
        for number, name in enumerate(self.names):
            found.setdefault(name.rpartition(" seed ")[0], []).append(number)
        return found

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The table, kept up to date; where nobody can see it change, once at the end."""
        with Live(self, console=console, refresh_per_second=2):
            yield
        if not console.is_terminal:  # there rich does not end the line
            console.line()

    def save(self, folder: Path, at_once: bool = False) -> None:
        """Write ``progress.json`` for other terminals, at most every two seconds."""
        now = time.monotonic()
        if not at_once and now - self.saved < EVERY_S:
            return
        self.saved = now
        kept = {name: getattr(self, name) for name in KEPT} | {"seconds": now - self.started}
        write_atomically(folder / FILE, json.dumps(kept).encode())


def board_in(folder: Path) -> Board:
    """The board of a run under way, or of one that has ended.

    Raises:
        UsageError: there is none in the folder.
    """
    try:
        kept = json.loads((folder / FILE).read_bytes())
        board = Board(list(zip(kept["names"], kept["steps"], strict=True)))
        for name in ("final", "running", "first"):  # JSON's keys are text
            setattr(board, name, {int(number): value for number, value in kept[name].items()})
        board.made = float(kept["made"])
        board.started = time.monotonic() - float(kept["seconds"])
        console.render_lines(board)  # what was damaged shows here
    except OSError as error:
        raise UsageError(f"nothing in {folder} tells how far it is: no training has begun") from (
            error
        )
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UsageError(
            f"{folder / FILE} is damaged, and does not tell how far the run is: the run writes it "
            "anew as it goes on"
        ) from error
    return board


def say_how_far(folder: Path) -> Path:
    """The board of a run, and whether anyone is at it."""
    board, at_it = board_in(folder), holder(folder)
    console.print(board)
    console.print(f"{folder}: {f'held by {at_it}' if at_it else 'nobody is at it'}")
    return folder


def duration(seconds: float) -> str:
    """As people say it: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
