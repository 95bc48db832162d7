"""How is somebody's model asked for the logits of every position?

Most take ``[batch, pos]`` tokens and return logits. Others give all logits only beside targets, in
another shape or place, with positions first, or need a state handed in. Found by trying; where
nothing works, ``--judge FILE:function`` says it.

    asked = ways_of_asking(build(0), tokens, vocab_size=65)[0]
    logits = asked(model, tokens)
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from experiments.support.models.blaming import blame, silence
from gpt.errors import UsageError
from gpt.text import Data
from gpt.train import Preset
from interp.surgery.judging import logits_in
from interp.surgery.judging.training import TARGETS

Ask = Callable[[nn.Module, Tensor], Tensor]
ZERO = {"start_pos", "input_pos", "pos", "offset", "past_length", "start"}
STATES = {"hidden", "state", "h", "hx", "h0", "hidden_state", "states"}
NONE = {"mask", "attention_mask", "attn_mask", "src_mask", "kv_cache", "cache", "past_key_values"}


@dataclass(frozen=True)
class Way:
    """One way to call a model.

    Attributes:
        targets: the parameter that takes targets; empty gives none.
        positions_first: whether it takes and gives ``[pos, batch]``.
        flat: whether its logits are ``[batch * pos, vocab]``.
        place: where the logits are in what it returns; -1 where they are all, or named.
        extra: what else it must be given, by name.
    """

    targets: str = ""
    positions_first: bool = False
    flat: bool = False
    place: int = -1
    extra: tuple[str, ...] = ()

    @property
    def is_plain(self) -> bool:
        return self == Way()

    def __call__(
        self, model: nn.Module, tokens: Int[Tensor, "batch pos"]
    ) -> Float[Tensor, "batch pos vocab"]:
        given = tokens.t().contiguous() if self.positions_first else tokens
        extra = {name: extra_for(model, name, tokens.shape[0]) for name in self.extra}
        if self.targets:
            extra[self.targets] = given.roll(-1, 0 if self.positions_first else 1).contiguous()
        found = candidates(model(given, **extra))
        logits = found[self.place if self.place >= 0 else 0]
        if self.flat:
            logits = logits.unflatten(0, given.shape)
        return logits.transpose(0, 1) if self.positions_first else logits

    @property
    def words(self) -> str:
        """What is told of it; empty where it is plain."""
        said = []
        if self.targets:
            said.append(f"with {self.targets}, beside which it gives the logits of every position")
        if self.positions_first:
            said.append("with [pos, batch]")
        if self.extra:
            said.append(f"with {' and '.join(self.extra)} made for it")
        return f"the model is called {', '.join(said)}" if said else ""


class Asked(nn.Module):
    """A model that is asked in another way than with tokens alone."""

    def __init__(self, model: nn.Module, ask: Ask) -> None:
        super().__init__()
        self.model = model
        self.ask = ask

    def forward(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos vocab"]:
        return self.ask(self.model, tokens)


def candidates(output: Any) -> list[Tensor]:
    """The float tensors in what a model returns that may be logits, those called so first."""
    if isinstance(output, Tensor):
        items: list[Any] = [output]
    elif getattr(output, "logits", None) is not None:
        items = [output.logits]
    elif isinstance(output, Mapping):
        items = [output["logits"]] if "logits" in output else list(output.values())
    else:
        items = list(output) if isinstance(output, tuple | list) else []
    return [
        x for x in items if isinstance(x, Tensor) and x.is_floating_point() and x.ndim in (2, 3)
    ]


def extra_for(model: nn.Module, name: str, batch: int) -> Any:
    """What a parameter other than tokens and targets is given."""
    if name in ZERO:
        return 0
    if name in NONE:
        return None
    made: Any = model
    return made.init_hidden(batch)


def find_way(model: nn.Module, tokens: Int[Tensor, "batch pos"], vocab_size: int) -> Way:
    """How a model must be asked, in the order of simplicity.

    Args:
        model: as built.
        tokens: to try with, of two texts or more; as many positions as texts tell nothing.
        vocab_size: the least width of logits.

    Raises:
        UsageError: no way gives logits of every position; what the plain call gave.
    """
    parameters = inspect.signature(model.forward).parameters
    needed = [
        name
        for name, parameter in list(parameters.items())[1:]
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    targets = [name for name in TARGETS if name in parameters]
    extra = tuple(name for name in needed if name not in targets)
    unknown = [
        name
        for name in extra
        if name not in {*ZERO, *NONE} and not (name in STATES and hasattr(model, "init_hidden"))
    ]
    if unknown:
        raise UsageError(
            f"its forward takes {', '.join(unknown)} beside tokens, which nothing here can tell: "
            "say how it is called, with --judge judge.py:ask and def ask(model, tokens): return "
            "logits of shape [batch, pos, vocab]"
        )
    ways = [] if {*needed} & {*targets} else [Way(extra=extra)]
    ways += [Way(targets=name, extra=extra) for name in targets]
    ways += [Way(way.targets, positions_first=True, extra=extra) for way in ways]
    first: BaseException | None = None
    shapes: list[list[int]] = []
    for way in ways:
        try:
            found = shaped(way, model, tokens, vocab_size, shapes)
        except UsageError:
            raise
        except Exception as error:
            first = first or error
            continue
        if found is not None:
            return found
    if first is not None and not shapes:
        raise first
    gives = " and ".join(map(str, shapes[:1])) or "no float tensor"
    raise UsageError(
        f"it gives {gives} for tokens of shape {list(tokens.shape)}; a study needs logits "
        f"[batch, pos, vocab] of every position, with vocab at least {vocab_size}: say how it is "
        "asked, with --judge judge.py:ask and def ask(model, tokens): return logits"
    )


@torch.no_grad()
def shaped(
    way: Way, model: nn.Module, tokens: Tensor, vocab_size: int, shapes: list[list[int]]
) -> Way | None:
    """The way with the place and shape of the logits in what it gives; None where there are none,
    or where the model reads along the other axis."""
    given = tokens.t().contiguous() if way.positions_first else tokens
    extra = {name: extra_for(model, name, tokens.shape[0]) for name in way.extra}
    if way.targets:
        extra[way.targets] = given.roll(-1, 0 if way.positions_first else 1).contiguous()
    found = candidates(model(given, **extra))
    shapes += [list(tensor.shape) for tensor in found]
    fitting = [
        (place, tensor)
        for place, tensor in enumerate(found)
        if tensor.shape[-1] >= vocab_size and tensor.shape[:-1] in (given.shape, (given.numel(),))
    ]
    fitting.sort(key=lambda pair: pair[1].shape[-1] - vocab_size)
    if not fitting:
        return None
    place, logits = fitting[0]
    made = Way(
        way.targets, way.positions_first, logits.ndim == 2, place if place else -1, way.extra
    )
    if looks_across(made, model, tokens):
        return None
    refuse_probabilities(logits, vocab_size)
    return made


def looks_across(way: Way, model: nn.Module, tokens: Tensor) -> bool:
    """Whether the logits of one text depend on another text: the axes are the other way round."""
    was_training = model.training
    model.eval()
    others = tokens.clone()
    others[0] = others[0].roll(1) if len(others[0].unique()) > 1 else (others[0] + 1) % 2
    before, after = way(model, tokens), way(model, others)
    model.train(was_training)
    return bool(((after - before)[1:].abs() > 1e-4 * (before.std() + 1e-12)).any())


def refuse_probabilities(logits: Tensor, vocab_size: int) -> None:
    """Raise ``UsageError`` where a model gives probabilities: their cross-entropy is no loss."""
    sums = logits.double().sum(-1)
    if bool((logits >= 0).all()) and bool(((sums - 1).abs() < 1e-3).all()):
        raise UsageError(
            "it gives probabilities and not logits (each position sums to 1): leave its last "
            "softmax out, or say how it is asked, with --judge judge.py:ask and def ask(model, "
            "tokens): return logits, such as model(tokens).log()"
        )


def require_logits(
    named: str, build: Callable[[int], nn.Module], data: Data, preset: Preset
) -> None:
    """Build a model and run it once, before anything is begun.

    Raises:
        UsageError: it raises, or gives no logits for every position.
    """
    size = preset.model
    tokens = data.train[None, : size.block_size]
    with (
        blame(f"{named} cannot be built and run on tokens of shape {tuple(tokens.shape)}"),
        silence(),
        torch.no_grad(),
    ):
        shape = tuple(logits_in(build(0).eval()(tokens)).shape)
    if shape[:2] != (1, size.block_size) or len(shape) != 3 or shape[2] < size.vocab_size:
        raise UsageError(
            f"{named} gives {list(shape)} for tokens of shape {list(tokens.shape)}; a study needs "
            f"logits [batch, pos, vocab] of every position, with vocab at least {size.vocab_size}"
        )
