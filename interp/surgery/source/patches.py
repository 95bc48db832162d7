"""What do a diff, or a folder of copies edited by hand, make of files?

apply_patch(source, part_of(source, parts_of_diff("my_idea.diff")))     # the file's text after it
"""

import ast
import os
from collections.abc import Sequence
from pathlib import Path

from unidiff import Hunk, PatchedFile, PatchSet, UnidiffParseError

from interp.code_text import lines_of
from interp.errors import SurgeryError
from interp.surgery.source.files import decode_python
from interp.surgery.source.syntax import Source, parse, read_source


def parts_of_diff(patch: str | Path) -> list[PatchedFile]:
    """What a unified diff, or the file of one, changes in each file."""
    text = str(patch)
    if isinstance(patch, Path) or "\n" not in text:
        text = read_python_text(Path(patch), "the path of a unified diff")
    try:
        parts = [part for part in PatchSet(text.replace("\r\n", "\n")) if len(part)]
    except UnidiffParseError as error:
        raise SurgeryError(f"this is no unified diff, as git diff or diff -u makes: {error}") from (
            None
        )
    if not parts:
        raise SurgeryError("this is no unified diff, as git diff or diff -u makes: it has no hunk")
    return parts


def patch_text(source: Source, patch: str | Path) -> str:
    """What a file says once the changes of a unified diff are made, of one of several files those
    of this one."""
    return apply_patch(source, part_of(source, parts_of_diff(patch)))


def apply_patch(source: Source, part: PatchedFile) -> str:
    """What a file says after a part of a diff."""
    lines = [line.rstrip("\r\n") for line in lines_of(source.text)]
    shift = 0
    for hunk in part:
        at = place_of_hunk(source, lines, hunk, shift)
        old, new = sides(hunk)
        lines[at : at + len(old)] = new
        shift = at - (hunk.source_start - 1) + len(new) - len(old)
    ends = source.text.endswith(("\n", "\r")) or not source.text
    return with_ends_of(source, "\n".join(lines) + "\n" * ends)


def fit_copy(source: Source, text: str) -> str:
    """What a copy says, with the line ends of the file."""
    return with_ends_of(source, text.removeprefix("\ufeff"))


def texts_by_diff(sources: Sequence[Source], parts: Sequence[PatchedFile]) -> dict[Source, str]:
    """What each file says after a diff, of those that it changes.

    Raises:
        SurgeryError: a part of it is of none of the files.
    """
    by_file: dict[Source, PatchedFile] = {}
    for part in parts:
        path = Path(part.path)
        depth = {s: len(common_end(path, s.path)) for s in sources if s.path.name == path.name}
        own = [source for source in depth if depth[source] == max(depth.values())]
        if len(own) != 1 or own[0] in by_file:
            files = ", ".join(source.file for source in sources)
            why = "which is none of" if not own else "which may be more than one of"
            raise SurgeryError(
                f"the diff is also of {part.path}, {why} the files that can be cut, {files}: leave "
                "it out of the diff, or write more of its path"
            )
        by_file[own[0]] = part
    return {source: apply_patch(source, by_file[source]) for source in sources if source in by_file}


def texts_of_folder(sources: Sequence[Source], folder: Path) -> dict[Source, str]:
    """What the copies of files in a folder say, of those that it has.

    Raises:
        SurgeryError: it has none, or another file of the same folder is not what it was.
    """
    root = Path(os.path.commonpath([source.path.parent for source in sources]))
    known = ", ".join(source.file for source in sources)
    for base in (root, *root.parents):
        copies = {source: folder / source.path.relative_to(base) for source in sources}
        copies = {source: copy for source, copy in copies.items() if copy.is_file()}
        if copies:
            break
    else:
        raise SurgeryError(
            f"the folder {folder} has none of the files that can be cut, {known}: give a copy of "
            "theirs, edited by hand"
        )
    for copy in sorted(folder.rglob("*.py")):
        original = base / copy.relative_to(folder)
        is_known = any(source.path == original for source in sources)
        if not is_known and original.is_file() and original.read_bytes() != copy.read_bytes():
            raise SurgeryError(
                f"{copy} is edited too, and is none of the files that can be cut, {known}: take it "
                "out of the folder"
            )
    return {source: fit_copy(source, read_source(copy).text) for source, copy in copies.items()}


def changes_code(source: Source, text: str) -> bool:
    """Whether another text of a file is other code, or none."""
    try:
        edited = ast.parse(text)
    except (SyntaxError, ValueError):
        return True
    return ast.dump(edited) != ast.dump(parse(source).tree)


def part_of(source: Source, parts: list[PatchedFile]) -> PatchedFile:
    """The part of a diff that is about a file."""
    own = [part for part in parts if Path(part.path).name == source.file]
    if len(parts) == 1 and not own:
        own = parts  # of a copy under another name
    if len(own) > 1:
        depth = [len(common_end(Path(part.path), source.path)) for part in own]
        own = [part for part, deep in zip(own, depth, strict=True) if deep == max(depth)]
    if len(own) != 1:
        names = ", ".join(part.path for part in parts)
        raise SurgeryError(f"the diff is of {names}, not of {source.file}")
    return own[0]


def common_end(one: Path, other: Path) -> list[str]:
    """The folders and the name that two paths end with alike."""
    pairs = zip(reversed(one.parts), reversed(other.parts), strict=False)
    alike = []
    for a, b in pairs:
        if a != b:
            break
        alike.append(a)
    return alike


def sides(hunk: Hunk) -> tuple[list[str], list[str]]:
    """The lines of a hunk before and after."""
    old = [line.value.rstrip("\r\n") for line in hunk if line.is_context or line.is_removed]
    new = [line.value.rstrip("\r\n") for line in hunk if line.is_context or line.is_added]
    return old, new


def place_of_hunk(source: Source, lines: list[str], hunk: Hunk, shift: int) -> int:
    """Where the lines of a hunk stand: where it says, or in the one other place that has them."""
    old, _ = sides(hunk)
    at = max(hunk.source_start - 1 + shift, 0) + (hunk.source_length == 0)
    if lines[at : at + len(old)] == old:
        return at
    fits = [i for i in range(len(lines) - len(old) + 1) if old and lines[i : i + len(old)] == old]
    if len(fits) != 1:
        what = "in several places" if fits else "nowhere"
        first = next((line.strip() for line in old if line.strip()), "")
        raise SurgeryError(
            f"the diff's hunk at line {hunk.source_start} does not fit {source.file}: its lines, "
            f"from {first!r}, stand {what} in it; make the diff against the file as it is"
        )
    return fits[0]


def with_ends_of(source: Source, text: str) -> str:
    """A text with the line ends of a file."""
    text = text.replace("\r\n", "\n")
    return text.replace("\n", "\r\n") if "\r\n" in source.text else text


def read_python_text(path: Path, what: str) -> str:
    try:
        return decode_python(path)
    except (OSError, SyntaxError, UnicodeDecodeError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise SurgeryError(f"{str(path)!r} cannot be read ({why}); give {what}") from None
