"""What is there to say of a surgery before it is made, and of lines that have none?"""

from typing import Any

from interp.status import Status
from interp.surgery.cutting.kept import run_on_import
from interp.surgery.running.loaded import made_on_import, scripted_names
from interp.surgery.running.observing import why_without_cut
from interp.surgery.source.edits import Surgery, at_layers
from interp.surgery.source.syntax import SCOPE, parse
from interp.surgery.studying.uncut import Uncut

WHEN_IMPORTED = "not cut: it may have run when the file was imported, and that is not done again"


def layers_of(uncut: Uncut, surgery: Surgery) -> list[int]:
    """The layers in which what a surgery cuts ran when the model was judged."""
    layers: set[int] = set()
    for part in surgery.parts:
        noted = uncut.observations[part.source]
        for node in parse(part.source).statements:
            if node.lineno in part.lines:
                layers |= noted.layers(node, "judge")
    return sorted(layers)


def describe_cut(uncut: Uncut, surgery: Surgery) -> dict[str, Any]:
    layers = surgery.layers
    return {
        "id": surgery.id,
        "surgery": at_layers(surgery, None).id,
        "file": surgery.file,
        "qualname": surgery.qualname,
        "line": surgery.line,
        "lines": surgery.lines,
        "operator": surgery.operator,
        "target": surgery.target,
        "code": surgery.before,
        "after": surgery.after,
        "reading": surgery.reading,
        "phases": tuple(sorted(uncut.phases(surgery))),
        "layer": ",".join(map(str, layers)) if layers is not None else "all",
    }


def lines_without_cut(uncut: Uncut) -> list[dict[str, Any]]:
    """A row for every statement that never ran, and for every one that ran and is not cut."""
    rows = []
    for source in uncut.sources:
        syntax = parse(source)
        noted, scripted = uncut.observations[source], scripted_names(source, uncut.model)
        imported, made = run_on_import(syntax), {name for name, _ in made_on_import(source)}
        parts = [part for cut in uncut.surgeries for part in cut.parts if part.source == source]
        edits = [edit for part in parts for edit in part.edits]
        cut = {syntax.statement_at(edit.start) for edit in edits}
        for node in syntax.statements:
            status, detail = why_without_cut(node, ran=bool(noted.phases(node)))
            if status == Status.DEAD and syntax.qualname[node].partition(".")[0] in scripted:
                status = Status.SCRIPTED
                detail = "not cut: TorchScript runs this line, and no cut of Python reaches it"
            scope = syntax.qualname[syntax.parent[node]]
            unseen = status == Status.DEAD or (isinstance(node, SCOPE) and not noted.phases(node))
            if unseen and scope.partition(".")[0] in imported and scope not in made:
                status, detail = Status.IMPORTED, WHEN_IMPORTED
            if node not in cut and status:
                name = f"{source.file}:{node.lineno}:{'dead' if status == 'dead' else 'none'}"
                rows.append(
                    {
                        "id": name,
                        "surgery": name,
                        "file": source.file,
                        "qualname": syntax.qualname[node],
                        "line": node.lineno,
                        "lines": (node.lineno,),
                        "operator": "",
                        "code": syntax.shown(node),
                        "phases": tuple(sorted(noted.phases(node))),
                        "layer": "all",
                        "status": status,
                        "detail": detail,
                    }
                )
    return rows
