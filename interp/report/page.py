"""What is the frame that holds a report's parts together?

A part is a frozen dataclass with a title, a Jinja template of its own beside ``page.html.j2``, and
the values that this template shows. Style and behaviour of all parts stand in ``templates/*.css``
and ``templates/*.js``; each script is a function that finds its part by a data attribute and does
nothing on a page that has none.

    @dataclass(frozen=True)
    class Remark:
        template: ClassVar[str] = "remark.html.j2"
        title: str
        text: str

        def context(self) -> dict[str, Any]:
            return {"text": self.text}
"""

import base64
import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import jinja2
import numpy as np
from markupsafe import Markup, escape

from interp.characters import visible
from interp.report.first_screen import SENTENCES, FirstScreen
from interp.runs import write_atomically


@runtime_checkable
class Part(Protocol):
    """One part of a page: its heading, and what its template shows below it.

    A part whose ``wide`` is true takes more than the width of the text, one whose ``half`` is true
    half of the paper. What ``places()`` of a part names, such as ``model.py:104``, is a link to
    that id wherever it stands in the page's prose.
    """

    template: ClassVar[str]

    @property
    def title(self) -> str: ...

    def context(self) -> dict[str, Any]:
        """The values that the template shows. Text is escaped; ``Markup`` is shown as it is."""


@dataclass(frozen=True)
class Page:
    """A report.

    Attributes:
        title: its heading.
        question: what the reader came to learn, in one sentence.
        parts: what is shown, in this order.
        provenance: one for each run that is shown: what ``Run.description`` holds, or anything
            shaped like JSON. Its ``command`` is shown as the way to make the run again, with the
            names of its ``figures``.
        summary: the findings, a sentence or two each.
        limitations: what was not tested, what the noise is, what is approximate.
        first: the main figure and a table of the largest findings, on the first screen.
        prose: the author's own words, harmless markup that opens a part, by the part's title; also
            ``Summary``, ``Limitations`` and ``Provenance``.
    """

    title: str
    question: str
    parts: Sequence[Part]
    provenance: Sequence[Mapping[str, Any]] = ()
    summary: Sequence[str] = ()
    limitations: Sequence[str] = ()
    first: FirstScreen = field(default_factory=FirstScreen)
    prose: Mapping[str, Markup] = field(default_factory=dict)


def write_report(path: Path, page: Page) -> Path:
    """Write the page as one HTML file, all or nothing.

    Raises:
        UsageError: a figure is neither SVG nor PNG, or cannot be read; the page cannot be written.
    """
    return write_atomically(path, rendered(page).encode())


def rendered(page: Page) -> str:
    """The page as HTML."""
    places: dict[str, str] = {}
    for part in page.parts:
        places |= getattr(part, "places", dict)()
    environment = templates(places)
    titles = [part.title for part in page.parts]
    anchors = anchors_of(titles, taken=RESERVED)
    environment.globals["anchors"] = dict(zip(titles, anchors, strict=True))
    parts = [
        Shown(
            part.title,
            anchor,
            page.prose.get(part.title, Markup("")),
            Markup(environment.get_template(part.template).render(part.context(), anchor=anchor)),
            getattr(part, "wide", False),
            getattr(part, "half", False),
        )
        for part, anchor in zip(page.parts, anchors, strict=True)
    ]
    script = joined("js")
    return environment.get_template("page.html.j2").render(
        title=page.title,
        question=page.question,
        summary=page.summary[:SENTENCES],
        more=page.summary[SENTENCES:],
        first=page.first.context(),
        prose=page.prose,
        parts=parts,
        limitations=page.limitations,
        runs=[made_by(description) for description in page.provenance],
        style=Markup(joined("css")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


class Shown(NamedTuple):
    """A part as it stands in the page."""

    title: str
    anchor: str
    prose: Markup
    content: Markup
    wide: bool
    half: bool


class MadeBy(NamedTuple):
    """Where a run comes from."""

    name: str
    command: str
    brief: str
    figures: str
    facts: list[tuple[str, str]]


RESERVED = ("page", "report", "summary", "contents", "limitations", "provenance")


def anchors_of(titles: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """Each title as an id: letters, digits and hyphens, none twice."""
    used = set(taken)
    anchors = []
    for title in titles:
        plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
        stem = re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or "part"
        if re.fullmatch(r"l\d+", stem):  # lines of source are called so
            stem = f"part-{stem}"
        anchor, number = stem, 2
        while anchor in used:
            anchor, number = f"{stem}-{number}", number + 1
        used.add(anchor)
        anchors.append(anchor)
    return anchors


def made_by(description: Mapping[str, Any]) -> MadeBy:
    names = [str(description[key]) for key in ("experiment", "name") if key in description]
    known = dict(facts(description))
    command, figures = known.pop("command", ""), known.pop("figures", "")
    shown = [*known.items()]
    return MadeBy(" ".join(names), command, brief(shown), figures, shown)


def brief(facts: Iterable[tuple[str, str]]) -> str:
    """The facts that tell one run from another, on one line: commit, text, versions."""
    known = {name.removeprefix("provenance."): value for name, value in facts}
    commit, *rest = known.get("commit", "").split(" ", 1)
    told = {
        "commit": " ".join([commit[:12], *rest]),
        "text": known.get("text_sha256", "")[:12],
        "Python": known.get("python", ""),
        "torch": known.get("packages.torch", ""),
    }
    return ", ".join(f"{name} {value}" for name, value in told.items() if value)


def facts(provenance: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, str]]:
    """Nested provenance as dotted names with values."""
    for name, value in provenance.items():
        dotted = f"{within}.{name}" if within else str(name)
        if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            value = {str(number): item for number, item in enumerate(value, start=1)}
        if isinstance(value, Mapping):
            yield from facts(value, dotted)
        elif isinstance(value, list | tuple):
            yield dotted, ", ".join(map(str, value)) or "none"
        else:
            yield dotted, "none" if value is None else str(value)


def joined(kind: str) -> str:
    """All style sheets or scripts as one, that of the page first."""
    folder = resources.files("interp.report") / "templates"
    files = sorted(
        (file for file in folder.iterdir() if file.name.endswith(f".{kind}")),
        key=lambda file: (file.name != f"page.{kind}", file.name),
    )
    return "\n" + "\n".join(file.read_text(encoding="utf-8").strip() for file in files) + "\n"


def as_json(value: Any) -> Markup:
    """Data for a script, to stand in ``<script type="application/json">``.

    All text is ``visible``; numbers that are not finite are null; nothing in it can end the
    element or begin another, for ``<``, ``>``, ``&`` and all that is not ASCII are escaped.
    """
    text = json.dumps(harmless(value), allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def harmless(value: Any) -> Any:
    """Plain lists, dicts, numbers and text without anything that acts or hides."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        return visible(str(value))
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, Mapping):
        return {visible(str(name)): harmless(item) for name, item in value.items()}
    if isinstance(value, Sequence | np.ndarray):
        return [harmless(item) for item in value]
    return value


PLACE = re.compile(r"[\w./-]*[\w-]+\.\w+:\d+\b")


def linked(text: Any, places: Mapping[str, str]) -> Markup:
    """Text in which each place that the page holds is a link to it."""
    if isinstance(text, Markup):
        return text
    shown, last = Markup(""), 0
    plain = visible(str(text))
    for found in PLACE.finditer(plain):
        anchor = places.get(found[0]) or places.get(found[0].rpartition("/")[2])
        if anchor:
            link = Markup('<a href="#{}">{}</a>').format(anchor, found[0])
            shown += escape(plain[last : found.start()]) + link
            last = found.end()
    return shown + escape(plain[last:])


def templates(places: Mapping[str, str]) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("interp.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=as_text,
    )
    environment.filters["as_json"] = as_json
    environment.filters["linked"] = partial(linked, places=places)
    return environment


def as_text(value: Any) -> Any:
    """What a template prints: markup as it is, all else with nothing that acts or hides."""
    return value if isinstance(value, Markup) else visible(str(value))
