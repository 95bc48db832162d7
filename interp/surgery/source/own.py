"""How does a person say what is to be cut?

By the text that goes and the text that comes, by a line and what is to stand there, by a unified
diff, or by a copy of the file that was edited by hand. Whichever it is, the cut is the difference
between the file and what becomes of it: four ways to say one cut give one surgery.

    surgery.edit("gpt/model.py", "x = x + attn_out", "x = attn_out")
    surgery.at_line("gpt/model.py", 189, "x = attn_out")
    surgery.from_diff("gpt/model.py", "my_idea.diff")
    surgery.between("gpt/model.py", "edited_model.py")
    surgery.from_diff(["model.py", "layers.py"], "my_idea.diff")       # one cut of two files
"""

import ast
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from interp.code_text import lines_of, one_line
from interp.errors import SurgeryError
from interp.surgery.source.edits import Surgery
from interp.surgery.source.patches import (
    apply_patch,
    changes_code,
    fit_copy,
    parts_of_diff,
    patch_text,
    texts_by_diff,
    texts_of_folder,
    with_ends_of,
)
from interp.surgery.source.syntax import (
    SCOPE,
    Edit,
    Source,
    count_line_ends,
    parse,
    read_source,
)

OWN = "edit"
"""The operator of a cut that a person made."""
File = Source | str | Path | ModuleType


def edit(file: File, old: str, new: str, *, name: str = "") -> Surgery:
    """Put ``new`` where a file says ``old``.

    Args:
        file: the file that is cut.
        old: code as it stands in the file, of one place only; it may go over several lines.
        new: what stands there instead.
        name: what the cut is called; by default its hash.

    Raises:
        SurgeryError: the file does not say it, or in several places, which are named; what becomes
            of the file has a syntax error, or is the same code.
    """
    source = source_of_file(file)
    old, new = with_ends_of(source, old), with_ends_of(source, new)
    places = places_saying(source.text, old) if old.strip() else []
    if not places:
        near = difflib.get_close_matches(old.strip(), [*map(str.strip, source.text.split("\n"))], 1)
        hint = f"; nearest: {near[0]!r}" if near else ""
        raise SurgeryError(f"{source.file} does not say {old!r}{hint}")
    if len(places) > 1:
        lines = [source.text.count("\n", 0, place) + 1 for place in places]
        raise SurgeryError(
            f"{source.file} says {old!r} in {len(places)} places, on lines "
            f"{', '.join(map(str, lines))}: give more of the code around the one that is meant, or "
            f"its line, as in {source.file}:{lines[0]}: {one_line(new) or 'pass'}"
        )
    start = places[0]
    return to_text(source, source.text[:start] + new + source.text[start + len(old) :], name)


def at_line(file: File, line: int, code: str, *, name: str = "") -> Surgery:
    """Put ``code`` where the statement stands that begins on a line, as deep as it stands; of a
    statement with a body, in the place of its first line.

    Raises:
        SurgeryError: no code begins on that line; and as for ``edit``.
    """
    source = source_of_file(file)
    syntax, lines = parse(source), lines_of(source.text)
    if not 1 <= line <= len(lines):
        raise SurgeryError(f"{source.file} has {len(lines)} lines; there is no line {line}")
    statements = [
        node for node in ast.walk(syntax.tree) if isinstance(node, ast.stmt) and node.lineno == line
    ]
    last = line
    if statements:
        node = statements[0]
        last = node.end_lineno or line
        if getattr(node, "body", None):  # its header alone
            stop = syntax.header_stop(node)
            last = count_line_ends(syntax.data[:stop].rstrip()) + 1
    elif not lines[line - 1].strip() or lines[line - 1].strip().startswith("#"):
        begins = sorted({n.lineno for n in ast.walk(syntax.tree) if isinstance(n, ast.stmt)})
        near = min(begins, key=lambda begin: abs(begin - line), default=None)
        hint = "" if near is None else f"; nearest: line {near}, {lines[near - 1].strip()!r}"
        raise SurgeryError(f"no code stands on line {line} of {source.file}{hint}")
    old = "".join(lines[line - 1 : last])
    indent = old[: len(old) - len(old.lstrip())]
    end = old[len(old.rstrip("\r\n")) :]
    put = with_ends_of(source, code.strip("\n")).replace("\n", "\n" + indent)
    text = "".join([*lines[: line - 1], f"{indent}{put.strip()}{end}", *lines[last:]])
    return to_text(source, text, name)


def from_diff(file: File | Sequence[File], patch: str | Path, *, name: str = "") -> Surgery:
    """Make the changes of a unified diff, all of its hunks together; ``hunks`` parts them.

    Args:
        file: the file that is cut; of a diff of several files, the part of this one is made. Or the
            files that may be: then every part of the diff is of one of them, and all are one cut.
        patch: the diff, or the path of one.

    Raises:
        SurgeryError: no diff, none of this file, of more files than these, or a hunk whose lines
            the file does not have; and as for ``edit``.
    """
    if not isinstance(file, Sequence) or isinstance(file, str):
        source = source_of_file(file)
        return to_text(source, patch_text(source, patch), name)
    parts = parts_of_diff(patch)
    sources = list(map(source_of_file, file))
    if len(parts) > 1 or any(Path(parts[0].path).name == source.file for source in sources):
        return of_files(texts_by_diff(sources, parts), name)
    errors = []
    for source in sources:  # of a copy under another name
        try:
            return to_text(source, apply_patch(source, parts[0]), name)
        except SurgeryError as error:
            errors.append(error)
    raise errors[0]


def between(file: File | Sequence[File], edited: str | Path, *, name: str = "") -> Surgery:
    """Make of a file what a copy says that was edited by hand; ``hunks`` parts the changes.

    Args:
        file: the file that is cut, or those that may be: of these, the one that the copy is most
            like.
        edited: the copy. A folder is a copy of that of the files: what differs in it is one cut.

    Raises:
        SurgeryError: the copy is no Python text; a folder in which no file differs, or one that is
            not among those that may be cut; and as for ``edit``.
    """
    one = not isinstance(file, Sequence) or isinstance(file, str)
    sources = list(map(source_of_file, [file] if one else file))  # type: ignore[arg-type]
    if Path(edited).is_dir():
        return of_files(texts_of_folder(sources, Path(edited)), name)
    other = read_source(edited)
    lines = {*other.text.splitlines()}
    source = max(sources, key=lambda source: len(lines & {*source.text.splitlines()}))
    return to_text(source, fit_copy(source, other.text), name)


def of_files(texts: Mapping[Source, str], name: str) -> Surgery:
    """The surgery that makes of each of some files another text."""
    changed = [source for source in texts if changes_code(source, texts[source])] or [*texts][:1]
    first, *beside = [to_text(source, texts[source]) for source in changed]
    called = name or replace(first, beside=tuple(beside)).identity[:8]
    parts = [replace(part, detail=called) for part in (first, *beside)]
    return replace(parts[0], beside=tuple(parts[1:]))


def to_text(source: Source, text: str, name: str = "") -> Surgery:
    """The surgery that makes of a file another text, line by line.

    Raises:
        SurgeryError: the text has a syntax error; it is the same code as the file's.
    """
    try:
        compile(text, str(source.path), "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        number = getattr(error, "lineno", None) or 1
        shown = text.split("\n")[min(number, text.count("\n") + 1) - 1].strip()
        raise SurgeryError(
            f"with this edit line {number} of {source.file}, {shown!r}, is no Python: "
            f"{getattr(error, 'msg', error)}"
        ) from None
    if not changes_code(source, text):
        what = "nothing" if text == source.text else "no code, only comments, blanks or layout"
        raise SurgeryError(f"this edit of {source.file} changes {what}: there is nothing to cut")
    edits = edits_between(source, text)
    made = Surgery(source, scope_of(source, edits), OWN, edits[0].before, "edited by hand", edits)
    return replace(made, detail=name or made.identity[:8])


def hunks(surgery: Surgery) -> list[Surgery]:
    """Each change of a surgery as a surgery of its own, where it can be made alone.

    Raises:
        SurgeryError: one of them alone gives a syntax error.
    """
    found = []
    for part in surgery.parts:
        text = part.source.text.encode()
        for one in part.edits:
            alone = text[: one.start] + one.replacement.encode() + text[one.stop :]
            found.append(to_text(part.source, alone.decode()))
    return found


def edits_between(source: Source, text: str) -> tuple[Edit, ...]:
    """The lines of a file that give way to others, as edits in the order of the file."""
    before, after = lines_of(source.text), lines_of(text)
    starts = [0]
    for line in before:
        starts.append(starts[-1] + len(line.encode()))
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    return tuple(
        Edit(
            start=starts[i1],
            stop=starts[i2],
            replacement="".join(after[j1:j2]),
            line=i1 + 1 if i2 > i1 else max(i1, 1),
            before=statements_on_one_line(before[i1:i2]),
            after=statements_on_one_line(after[j1:j2]),
        )
        for kind, i1, i2, j1, j2 in matcher.get_opcodes()
        if kind != "equal"
    )


def statements_on_one_line(lines: list[str]) -> str:
    """Lines of code on one; no line is an ellipsis of nothing."""
    said = [line.strip() for line in lines]
    return "; ".join(line for line in said if line and not line.startswith("#")) or "(nothing)"


def scope_of(source: Source, edits: tuple[Edit, ...]) -> str:
    """The functions and classes in which edits are made; empty at the level of the module."""
    syntax = parse(source)
    scopes = [node for node in ast.walk(syntax.tree) if isinstance(node, SCOPE)]
    found: dict[str, None] = {}
    for one in edits:
        around = [
            node for node in scopes if node.lineno <= one.line <= (node.end_lineno or node.lineno)
        ]
        found[syntax.qualname[around[-1]] if around else ""] = None
    return "+".join(name for name in found if name)


def source_of_file(file: File) -> Source:
    return file if isinstance(file, Source) else read_source(file)


def places_saying(text: str, part: str) -> list[int]:
    """Where a text says something, without overlaps."""
    found, at = [], text.find(part)
    while at >= 0:
        found.append(at)
        at = text.find(part, at + len(part))
    return found
