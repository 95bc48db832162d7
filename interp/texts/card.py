"""An audit as a page.

html(audit, "shakespeare")
"""

from typing import Any

import jinja2

from interp.characters import visible
from interp.texts.auditing import TextAudit


def html(audit: TextAudit, name: str) -> str:
    """The data card: one page that needs nothing else, everything from the text escaped."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    unusual = [row for row in audit.symbols if row["unusual"]]
    return environment.from_string(PAGE).render(
        audit=audit,
        name=visible(name),
        policy=POLICY,
        style=STYLE,
        unusual=unusual,
        percent=percent,
        thousands=thousands,
    )


def percent(share: float) -> str:
    return f"{100 * share:.2g} %" if 0 < share < 0.1 else f"{100 * share:.0f} %"


def thousands(number: Any) -> str:
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


# A card has neither script nor picture, and asks no network.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
STYLE = """:root { color-scheme: light dark; }
body { font: 16px/1.55 system-ui, sans-serif; margin: 2rem auto; max-width: 54rem;
  padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0 1rem; font-size: .9rem; }
td, th { padding: .15rem 1.2rem .15rem 0; text-align: left; vertical-align: top; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
code { font: .85rem ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
.note, footer { opacity: .75; font-size: .9rem; }
"""
"""How a card looks."""
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{{ policy }}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Data card: {{ name }}</title>
<style>
{{ style | safe }}</style></head><body>
<h1>Data card: {{ name }}</h1>
<p>What is in this text, before a model is trained on it. Strings that look private are shown by
their line and, at most, first two characters.</p>

<h2>Size</h2>
<p>{{ thousands(audit.size.characters) }} characters ({{ thousands(audit.size.bytes) }} bytes) in
{{ thousands(audit.size.lines) }} lines and {{ thousands(audit.size.words) }} words.
sha256 <code>{{ audit.sha256 }}</code></p>

<h2>Can validation be answered from memory?</h2>
{% set shared = audit.overlap %}
<p>Characters up to {{ thousands(shared.border) }} are trained on, the rest is validated on.
{% if shared.stretches %}
{{ percent(shared.share) }} of the validation text ({{ thousands(shared.characters) }} characters)
lie in passages of {{ shared.at_least }} characters or more that are in the training text word for
word; the longest has {{ thousands(shared.longest) }}.
{% else %}
No passage of {{ shared.at_least }} characters or more is in both.
{% endif %}
Of {{ thousands(shared.lines.count) }} validation lines of at least {{ shared.lines.at_least }}
characters, {{ thousands(shared.lines.also_in_train) }} are also lines of the training text.</p>
{% if shared.shown %}
<div class="scroll"><table><tr><th class="number">first line</th>
<th class="number">characters</th><th class="number">times</th><th>begins</th></tr>
{% for row in shared.shown %}
<tr><td class="number">{{ row.line }}</td><td class="number">{{ row.characters }}</td>
<td class="number">{{ row.times }}</td><td><code>{{ row.text }}</code></td></tr>
{% endfor %}
</table></div>
<p class="note">Of {{ thousands(shared.stretches) }} stretches of the validation text that such
passages cover, the longest.</p>
{% endif %}

<h2>What looks private</h2>
<div class="scroll"><table><tr><th>looks like</th><th class="number">found</th>
<th class="number">different</th><th>the first of them</th></tr>
{% for row in audit.findings %}
<tr><td>{{ row.kind }}</td><td class="number">{{ thousands(row.count) }}</td>
<td class="number">{{ thousands(row.distinct) }}</td><td>
{% for one in row.shown %}
line {{ one.line }}: <code>{{ one.text }}</code>{{ " (" ~ one.what ~ ")" if one.what }}<br>
{% endfor %}
</td></tr>
{% endfor %}
</table></div>
<p class="note">These searches know forms, not people. They take a version number for an IP address,
and overlook every name, story and fact about somebody. Telephone numbers without a country code are
sought as in {{ audit.method.regions | join(", ") or "no country" }}.</p>

<h2>Languages</h2>
<p>{% for code, share in audit.languages.items() %}
<code>{{ code }}</code> {{ percent(share) }}{{ ", " if not loop.last }}
{% endfor %}</p>
<p class="note">By pieces of 1000 characters; <code>und</code> is not known. Program code counts as
whatever it looks like.</p>

<h2>Repeated lines</h2>
<p>{{ thousands(audit.lines.repeated) }} of {{ thousands(audit.lines.nonblank) }} lines that are not
blank ({{ percent(audit.lines.share) }}) repeat an earlier one.</p>
{% if audit.lines.most %}
<div class="scroll"><table><tr><th class="number">times</th><th>line</th></tr>
{% for row in audit.lines.most %}
<tr><td class="number">{{ thousands(row.count) }}</td><td><code>{{ row.line }}</code></td></tr>
{% endfor %}
</table></div>
{% endif %}

<h2>Symbols</h2>
<p>{{ audit.symbols | length }} different characters, of which {{ unusual | length }} deserve a
look.</p>
{% macro symbols(rows) %}
<div class="scroll"><table><tr><th>symbol</th><th>code</th><th>name</th>
<th class="number">count</th><th>why</th></tr>
{% for row in rows %}
<tr><td><code>{{ row.symbol }}</code></td><td><code>{{ row.code }}</code></td>
<td>{{ row.name | lower }}</td><td class="number">{{ thousands(row.count) }}</td>
<td>{{ row.unusual }}</td></tr>
{% endfor %}
</table></div>
{% endmacro %}
{% if unusual %}{{ symbols(unusual) }}{% endif %}
<details><summary>All symbols</summary>{{ symbols(audit.symbols) }}</details>

<h2>What no program can answer</h2>
<p>May this text be used so (licence, terms, consent)? Who wrote it, about whom, and who is missing?
What would a model that repeats it say about people?</p>
<footer>Made with {% for key, value in audit.method.items() %}{{ key }}
{{ value | join(" ") if value is iterable and value is not string else value }}
{{- ", " if not loop.last }} {% endfor %}</footer>
</body></html>
"""
