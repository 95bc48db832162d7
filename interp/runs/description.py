"""How was a run made, and is it the same one again?

``run.json`` holds the run's config, the command, the versions, the commit and the hashes of what it
read; and, where it was resumed with others, which.
"""

import importlib.metadata
import json
import platform
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from interp.errors import UsageError
from interp.runs.files import write_atomically
from interp.runs.identity import identity_of

FORMAT = 2
"""Of a run's tables. It rises when a table comes to mean something else, or lacks a column."""
KEYS: dict[str, Any] = {
    "format": int,
    "experiment": str,
    "name": str,
    "config": dict,
    "started": str,
    "command": str,
    "commit": str | None,
    "python": str,
    "platform": str,
    "packages": dict,
    "provenance": dict,
    "resumed": list,
}
"""What ``run.json`` holds, and as what; beside them its own checksum."""


def describe_run(folder: Path, begun: dict[str, Any], made_now: dict[str, Any]) -> dict[str, Any]:
    """Write ``run.json``, or find the run there to be the same one and note what has changed."""
    path = folder / "run.json"
    now = datetime.now(UTC).isoformat(timespec="seconds")
    if not path.exists():
        description = {"format": FORMAT} | begun | {"started": now} | made_now | {"resumed": []}
    else:
        description = read_description(path)
        if differing := differences(description["config"], begun["config"]):
            raise UsageError(
                f"{folder} was begun with {'; '.join(differing)}: "
                f"go on with its own config, or choose another --name"
            )
        latest = {key: description[key] for key in made_now}
        for change in description["resumed"]:
            latest |= {key: change[key] for key in made_now if key in change}
        changed = {key: value for key, value in made_now.items() if latest[key] != value}
        if not changed:
            return description
        description["resumed"].append({"at": now} | changed)
    description = seal(description)
    write_atomically(path, json.dumps(description, indent=2, ensure_ascii=False).encode())
    return description


def read_description(path: Path) -> dict[str, Any]:
    """What ``run.json`` holds. Raises ``UsageError`` where it is not what a run wrote."""
    try:
        description = json.loads(path.read_bytes())
        require_format_of_tables(path, description)
        require_keys(description)
    except UsageError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(
            f"{path} does not describe a run of this version ({error}): restore it, or start its "
            f"command again under another --name, which takes over what was trained"
        ) from error
    return description


def require_format_of_tables(path: Path, description: Any) -> None:
    """Raises ``UsageError`` where a run is of a version whose tables this one does not read."""
    made = description.get("format") if isinstance(description, dict) else None
    if isinstance(made, int) and made != FORMAT:
        raise UsageError(
            f"{path.parent} is a run of {'an older' if made < FORMAT else 'a newer'} version (its "
            f"format is {made}, and this version reads {FORMAT}): start its command again under "
            f"another --name, which takes over what was trained: {description.get('command', '')}"
        )


def require_keys(description: Any) -> None:
    """Raises ``ValueError`` where a description lacks something, has something else there, or is
    not the one that its checksum is of."""
    if not isinstance(description, dict):
        raise ValueError("it is no JSON object")
    for key, kind in KEYS.items():
        if key not in description or not isinstance(description[key], kind):
            raise ValueError(f"{key!r} is {'not what it was' if key in description else 'missing'}")
    for change in description["resumed"]:
        if not isinstance(change, dict) or "at" not in change:
            raise ValueError("'resumed' is not what it was")
    if description.get("sha256") != seal(description)["sha256"]:
        raise ValueError("it was changed since the run wrote it")


def seal(description: dict[str, Any]) -> dict[str, Any]:
    """A description with the checksum of its other parts."""
    rest = {key: value for key, value in description.items() if key != "sha256"}
    return rest | {"sha256": identity_of(**rest)}


def differences(theirs: Any, ours: Any, field: str = "") -> list[str]:
    """Where two configs part, one phrase for each field: ``steps 200, not 300``."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        absent: Any = "nothing"
        return [
            phrase
            for key in theirs | ours
            for phrase in differences(
                theirs.get(key, absent), ours.get(key, absent), f"{field}.{key}".lstrip(".")
            )
        ]
    # NaN is not itself, but as text it is
    return [] if json.dumps(theirs) == json.dumps(ours) else [f"{field} {theirs}, not {ours}"]


def environment() -> dict[str, Any]:
    """With what this process computes: the command, the code's commit, the versions."""
    return {
        "command": command_of_process(),
        "commit": commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages(),
    }


def command_of_process() -> str:
    """The command that started this process, as one would type it."""
    program, *arguments = sys.orig_argv or [sys.executable]
    return shlex.join([Path(program).name, *arguments])


def commit() -> str | None:
    """The git commit of this code, marked where files were changed since; None outside a checkout.

    Asked of this very file, so that a package installed beneath someone's own repository does not
    report theirs.
    """

    def git(*arguments: str) -> str:
        here = Path(__file__)
        done = ["git", "-C", str(here.parent), *arguments]
        return subprocess.run(done, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + (" with uncommitted changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def packages() -> dict[str, str]:
    """The versions of this project and of what it requires."""
    project = "nanogpt-interp"
    try:
        required = importlib.metadata.requires(project) or []
    except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return {}
    names = [re.split(r"[^\w.-]", line)[0] for line in required if "extra ==" not in line]
    return {name: importlib.metadata.version(name) for name in [project, *names]}
