"""How is a surgery found again when lines have moved?

By the function it cuts, the operator, and what is cut: never by a line number.

    source = read_source("gpt/model.py")
    find(source, "bypass-call", qualname="Block.forward", target="ln1")
    combine(find_all(source, "cut-skip", qualname="Block.forward"))
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from interp.errors import SurgeryError, nearest
from interp.surgery.operators import Proposal, propose
from interp.surgery.source.edits import Surgery
from interp.surgery.source.syntax import Source, parse


@lru_cache(maxsize=32)
def enumerate_surgeries(source: Source) -> tuple[Surgery, ...]:
    """Every surgery that the operators propose for a source, in the order of the file.

    Their ids are unique: where one operator cuts a line in several ways, the target is added.
    """
    return surgeries_of(source, propose(parse(source)))


def surgeries_of(source: Source, proposals: Sequence[Proposal]) -> tuple[Surgery, ...]:
    """Proposals as surgeries whose ids are unique."""
    syntax = parse(source)
    surgeries = [
        Surgery(
            source=source,
            qualname=syntax.qualname[proposal.node],
            operator=proposal.operator,
            target=proposal.target,
            reading=proposal.reading,
            edits=proposal.edits,
        )
        for proposal in proposals
    ]
    return tuple(told_apart(surgeries))


def told_apart(surgeries: Sequence[Surgery]) -> list[Surgery]:
    """The surgeries, with a detail where two would otherwise have one id."""
    count = Counter(surgery.id for surgery in surgeries)
    detailed = [
        replace(s, detail=" ".join(s.target.split())) if count[s.id] > 1 else s for s in surgeries
    ]
    count = Counter(surgery.id for surgery in detailed)
    seen: Counter[str] = Counter()
    unique = []
    for surgery in detailed:
        if count[surgery.id] > 1:
            seen[surgery.id] += 1
            surgery = replace(surgery, detail=f"{surgery.detail}#{seen[surgery.id]}")
        unique.append(surgery)
    return unique


def find_all(
    source: Source,
    operator: str | None = None,
    *,
    qualname: str | None = None,
    target: str | None = None,
    code: str | None = None,
) -> list[Surgery]:
    """The surgeries that answer a description, in the order of the file.

    Args:
        source: the file.
        operator: the kind of cut, as in ``cut-skip``.
        qualname: the function it is in, as in ``Block.forward``.
        target: what is cut: its code (``self.ln1``) or the end of its dotted name (``ln1``).
        code: a part of the statement as it is in the file, as in ``x = x + attn_out``.

    Raises:
        SurgeryError: none answers; names the nearest.
    """
    found = [
        surgery
        for surgery in enumerate_surgeries(source)
        if operator in (None, surgery.operator)
        and qualname in (None, surgery.qualname)
        and (target is None or target in (surgery.target, surgery.target.rpartition(".")[2]))
        and (code is None or code in surgery.before)
    ]
    if not found:
        wanted = [operator or "", qualname or "", target or "", code or ""]
        known = {
            " ".join(
                part
                for part, asked in zip(
                    (s.operator, s.qualname, s.target.rpartition(".")[2], s.before),
                    wanted,
                    strict=True,
                )
                if asked
            )
            for s in enumerate_surgeries(source)
        }
        asked = " ".join(part for part in wanted if part)
        raise SurgeryError(
            f"no surgery of {source.file} is described by {asked!r}; nearest: "
            f"{nearest(asked, known)}"
        )
    return found


def find(
    source: Source,
    operator: str | None = None,
    *,
    qualname: str | None = None,
    target: str | None = None,
    code: str | None = None,
) -> Surgery:
    """The one surgery that answers a description, see ``find_all``.

    Raises:
        SurgeryError: none answers, or several; names them.
    """
    found = find_all(source, operator, qualname=qualname, target=target, code=code)
    if len(found) > 1:
        shown = ", ".join(surgery.id for surgery in found[:5])
        raise SurgeryError(
            f"{len(found)} surgeries of {source.file} answer the description: {shown}; say more "
            "(qualname, target, code), or take them together with combine(find_all(...))"
        )
    return found[0]
