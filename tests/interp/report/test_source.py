import html
import re

import numpy as np
import pandas as pd
import pytest

from interp.errors import UsageError
from interp.report import Page, Section, SourceView
from interp.report.page import linked, rendered
from interp.report.source import Scale, bar_of, highlighted, signed

CODE = '''"""A string
over lines, with <b> and "quotes".
"""

class Block:
    def forward(self, x):
        y = self.attn(x)
        x = x + y
        return x
'''
HOSTILE = "</script><img src=x onerror=alert(1)>\u202e\x00"


def lines_of(code=CODE, file="model.py", **columns):
    rows = [{"file": file, "line": n, "code": c} for n, c in enumerate(code.splitlines(), 1)]
    table = pd.DataFrame(rows)
    for name, by_line in columns.items():
        table[name] = table["line"].map(by_line)
    return table


def tried(line, delta, low, high, operator="cut-skip", layer="all", **more):
    surgery = f"model.py:{line}:{operator}"
    row = {
        "surgery": surgery,
        "file": "model.py",
        "line": line,
        "operator": operator,
        "code": "x = x + y",
        "after": "x = y",
        "reading": "no skip",
        "layer": layer,
        "delta": delta,
        "ci_low": low,
        "ci_high": high,
        "status": "changed",
        "n": 24.0,
    }
    return row | more


def page(*parts):
    return rendered(Page("Title", "Question?", parts))


def panel(text, line):
    found = re.search(
        rf'<article class="line-panel" aria-label="Line {line}".*?</article>', text, re.S
    )
    return html.unescape(re.sub(r"<[^>]+>", " ", found[0])) if found else None


def test_lines_are_shown_as_they_are_and_can_be_linked_to():
    text = page(SourceView("Source", lines_of()))
    shown = re.findall(r'<tr id="L(\d+)".*?<td class="c"><code>(.*?)</code>', text)
    assert [int(number) for number, _ in shown] == list(range(1, 10))
    plain = [html.unescape(re.sub(r"<[^>]+>", "", code)) for _, code in shown]
    assert plain == CODE.splitlines()
    assert "line-panel" not in text.partition("<main")[2].partition("<script>")[0]


def test_a_string_over_several_lines_is_coloured_on_each_of_them():
    markup = highlighted(CODE.splitlines())
    assert all('<span class="py-sd">' in line for line in markup[:3])
    assert all(line.count("<span") == line.count("</span>") for line in markup)
    assert 'class="py-k"' in markup[4]


def test_a_line_opens_on_every_surgery_with_its_interval_and_layers():
    table = pd.DataFrame(
        [
            tried(8, 2.0, 1.5, 2.5),
            tried(8, 0.75, 0.5, 1.0, layer="0"),
            tried(8, 1.25, 1.0, 1.5, layer="1"),
            tried(8, 0.01, -0.5, 0.5, "drop-term", after="x = x"),
        ]
    )
    view = SourceView(
        "Source",
        lines_of(
            surgery={8: "model.py:8:cut-skip"},
            status={8: "changed"},
            delta={8: 2.0},
        ).fillna({"surgery": "", "status": ""}),
        table,
    )
    told = panel(page(view), 8)
    assert "+2.000  nats" in told and "[+1.500 to +2.500]" in told
    assert "- x = x + y" in told and "+ x = y" in told
    assert "+0.750" in told and "+1.250" in told and "[" in told
    assert "drop-term" in told and "no effect shown" in told
    assert panel(page(view), 9) is None


def test_a_line_that_never_ran_opens_and_says_so():
    lines = lines_of(status={7: "dead", 8: "changed"}, delta={8: 1.5})
    page = rendered(
        Page("T", "Q", [SourceView("The source", lines, pd.DataFrame([tried(8, 1.5, 1, 2)]))])
    )
    panels = dict(re.findall(r'aria-label="Line (\d+)"[^>]*>(.*?)</article>', page, re.S))
    assert set(panels) == {"7", "8"}  # a line of which nothing is known opens on nothing
    assert "Nothing was cut here: never ran." in panels["7"]
    assert "Nothing was cut here" not in panels["8"]
    assert '<a href="#L7">7</a>' in page


def test_a_cut_of_several_lines_is_told_on_the_first_and_the_others_lead_there():
    again = pd.DataFrame([tried(7, 1.4, 1.3, 1.5, lines=(7, 8)), tried(9, 0.01, -0.2, 0.2)])
    curves = pd.DataFrame(
        {"surgery": surgery, "seed": 0, "step": step, "split": "val", "loss": 3.0 - step / 10}
        for surgery in ("", "model.py:7:cut-skip")
        for step in range(4)
    )
    text = page(SourceView("Source", lines_of(), retrained=again, curves=curves))
    assert "Trained without 7 and 8 +1.400" in " ".join(panel(text, 7).split())
    assert "raises the loss" in panel(text, 7) and "Validation loss" in panel(text, 7)
    there = " ".join(panel(text, 8).split())
    assert "Trained without it and 7 +1.400 nats; line 7 tells more" in there
    assert "raises the loss" not in there and "Validation loss" not in there
    assert '<a href="#L7">line 7</a>' in text
    assert "no effect shown" in panel(text, 9)
    assert "Validation loss" not in panel(text, 9)
    effects = re.findall(r'<tr id="L(\d+)"[^>]*data-effect', text)
    assert effects == ["7", "8"]
    assert text.count('<abbr title="trained without 7 and 8">&amp;</abbr>') == 2


def test_a_hook_point_behind_a_rearrangement_is_tied_to_the_line_that_computes():
    code = "def f(x):\n    z = attend(x)\n    z = z.transpose(1, 2).contiguous()\n    return z\n"
    lines = lines_of(code, sites={3: ("blocks.0.attn.hook_z",), 2: ("hook_y",)})
    lines["sites"] = [one if isinstance(one, tuple) else () for one in lines["sites"]]
    text = page(SourceView("Source", lines))
    assert "It gives another shape to what line 2 made" in " ".join(panel(text, 3).split())
    assert "another shape" not in panel(text, 2)


def test_a_cut_that_a_part_of_the_page_tells_of_links_there_and_is_told_once():
    again = pd.DataFrame([tried(7, 1.4, 1.3, 1.5, reading="It ends high.", section="no skip")])
    view = SourceView("Source", lines_of(), retrained=again)
    assert "It ends high." in page(view)
    whole = rendered(Page("t", "q?", [view, Section("no skip", "It ends high.")]))
    assert whole.count("It ends high.") == 1
    assert '<a href="#no-skip">no skip</a>' in whole


def test_the_cut_of_a_line_alone_comes_before_one_of_several():
    again = pd.DataFrame(
        [tried(7, 1.4, 1.3, 1.5, noise=0.05, lines=(7, 8)), tried(8, 0.3, 0.2, 0.4, noise=0.05)]
    )
    text = page(SourceView("Source", lines_of(), retrained=again))
    row = re.search(r'<tr id="L8".*?</tr>', text, re.S)[0]
    assert "+0.300" in row and "&amp;" not in row
    told = panel(text, 8)
    assert told.index("+0.300") < told.index("+1.400")


def test_hook_points_are_named_once_for_all_blocks():
    boxes = pd.DataFrame(
        {
            "kind": "hook",
            "site": [f"blocks.{block}.attn.hook_z" for block in range(3)],
            "file": "gpt/model.py",
            "line": 7,
            "shape": "batch pos 2 4",
        }
    )
    told = panel(page(SourceView("Source", lines_of(), architecture=boxes)), 7)
    assert told.count("hook_z") == 1
    assert "blocks.*.attn.hook_z" in told and "[batch pos 2 4]" in told


def test_lines_of_several_files_have_ids_of_their_own():
    both = pd.concat([lines_of("a = 1\n", "one.py"), lines_of("b = 2\n", "two <b>.py")])
    text = page(SourceView("Source", both))
    assert re.findall(r'<tr id="([^"]+)" class="line', text) == ["one.py-L1", "two--b-.py-L1"]


def test_several_files_are_listed_and_places_lead_to_the_right_one():
    names = ["one/model.py", "two/model.py", "three.py"]
    view = SourceView("Source", pd.concat([lines_of("a = 1\n", name) for name in names]))
    text = page(view)
    (listed,) = re.findall(r'<nav class="files".*?</nav>', text, flags=re.DOTALL)
    targets = re.findall(r'href="#([^"]+)">([^<]+)<', listed)
    assert [name for _, name in targets] == names
    assert all(f'id="{target}"' in text for target, _ in targets)
    assert view.places() == {
        "one/model.py:1": "one-model.py-L1",
        "two/model.py:1": "two-model.py-L1",
        "three.py:1": "three.py-L1",
    }
    shown = str(linked("cut two/model.py:1 or model.py:1 or x/three.py:1", view.places()))
    assert '<a href="#two-model.py-L1">two/model.py:1</a> or model.py:1 or' in shown
    assert '<a href="#three.py-L1">x/three.py:1</a>' in shown


def test_whatever_tables_hold_is_shown_as_text():
    table = pd.DataFrame(
        [
            tried(
                *(8, 2.0, 1.5, 2.5, HOSTILE),
                reading=HOSTILE,
                after=HOSTILE,
                code=HOSTILE,
                detail=HOSTILE,
                same_as=HOSTILE,
                hook=HOSTILE,
                qualname=HOSTILE,
            )
        ]
    )
    lines = lines_of(f'x = "{HOSTILE}"\n' * 8)
    text = page(SourceView(HOSTILE, lines, table, table.assign(noise=0.1)))
    assert text.count("<script") == 1
    assert "<img" not in text
    assert not re.search("[\x00\u202e]", text)
    assert HOSTILE[:9] in panel(text, 8)


def test_losses_that_are_no_numbers_leave_gaps():
    again = pd.DataFrame([tried(8, np.nan, np.nan, np.nan, status="nonfinite", noise=np.nan)])
    curves = pd.DataFrame(
        {"surgery": "model.py:8:cut-skip", "seed": seed, "step": step, "split": "val", "loss": loss}
        for seed in (0, 1)
        for step, loss in enumerate([3.0, np.nan if seed else 2.5, 2.0, 1.5])
    )
    text = page(SourceView("Source", lines_of(), retrained=again, curves=curves))
    (path,) = re.findall(r'class="curve cut" d="([^"]+)"', text)
    assert path.count("M") == 2 and path.count("L") == 1
    assert not re.search(r"\bnan\b", text.partition("<main")[2].partition("<script>")[0])
    assert "the loss is no number" in panel(text, 8)


def test_bars_and_their_intervals_are_drawn_from_end_to_end_on_one_scale():
    rows = [
        tried(7, 4.8, 3.0, 6.6),
        tried(8, 0.5, -0.6, 1.6),
        tried(9, -1.0, -1.5, -0.5),
        tried(7, -2.0, -9.0, 5.0, status="leak"),
    ]
    scale = Scale.of(rows)
    bars = [bar_of(row, scale) for row in rows]
    assert [bar.kind for bar in bars] == ["harm", "harm", "gain", "leak"]
    whole = scale.high - scale.low
    for row, bar in zip(rows, bars, strict=True):
        sign = -1 if row["delta"] < 0 else 1
        ends = sorted(sign * row[name] for name in ("ci_low", "ci_high"))
        drawn = [value / 100 * whole + scale.low for value in (bar.low, bar.high)]
        assert drawn == pytest.approx(ends, abs=0.01)
        assert 0 <= bar.low <= bar.high <= 100 and bar.start + bar.width <= 100
        assert bar.width == pytest.approx(100 * abs(row["delta"]) / whole, abs=0.11)
    assert bar_of(tried(7, np.nan, 0.5, 1.5), scale) is None
    assert bar_of(tried(7, 0.0, 0.0, 0.0), Scale.of([])) is None
    assert [signed(v) for v in (0.0, 1.23456, -0.5, np.nan)] == ["0", "+1.235", "\u22120.500", ""]


def test_two_seeds_are_points_without_a_verdict_in_list_panel_and_chart():
    again = pd.DataFrame([tried(8, 1.3105, np.nan, np.nan, n=2)])
    trainings = pd.DataFrame(
        {"surgery": surgery, "seed": seed, "delta": delta}
        for surgery, deltas in (("model.py:8:cut-skip", (1.310, 1.311)), ("", (-0.01, 0.01)))
        for seed, delta in enumerate(deltas)
    )
    text = page(SourceView("Source", lines_of(), retrained=again, trainings=trainings))
    row = re.search(r'<tr id="L8".*?</tr>', text, re.S)[0]
    assert 'class="d r unknown">+1.310' in row or 'class="d r unknown">+1.311' in row
    assert "data-effect" in row and len(re.findall("1V9", row)) == 2
    told = " ".join(panel(text, 8).split())
    assert "not known (+1.310, +1.311; no interval from fewer than three)" in told
    assert text.count('class="seed"') == 2 and 'class="reach' not in text
    said = html.unescape(re.sub(r"\s+", " ", text))
    assert "Seeds alone move the loss of the model as it is by 0.014 nats" in said


def test_the_verdict_is_the_same_in_the_list_and_in_the_panel_once_many_were_tested():
    """An interval beside zero that correction does not spare, and one across zero."""
    table = pd.DataFrame(
        [
            tried(7, 0.045, -0.023, 0.114, p_adjusted=0.11),
            tried(8, 0.3, 0.1, 0.5, p_adjusted=0.2),
            tried(9, 0.4, 0.3, 0.5, p_adjusted=0.001),
        ]
    )
    columns = ("surgery", "status", "delta", "ci_low", "ci_high", "p_adjusted")
    known = table.set_index("line")[list(columns)].to_dict()
    lines = lines_of(**known).fillna({"surgery": "", "status": ""})
    text = page(SourceView("Source", lines, table, retrained=table))
    for line, null in ((7, True), (8, True), (9, False)):
        row = re.search(rf'<tr id="L{line}".*?</tr>', text, re.S)[0]
        assert row.count('class="d null"') == row.count('class="d r null"') == int(null)
        assert ("data-effect" in row) is not null
        verdicts = re.findall(r"no effect shown|raises the loss", panel(text, line))
        assert set(verdicts) == {"no effect shown" if null else "raises the loss"}
    assert "p is 0.2 once corrected for all that was tested" in panel(text, 8)


def test_lines_without_code_are_one_sentence():
    with pytest.raises(UsageError, match="the lines have no column code"):
        page(SourceView("Source", lines_of().drop(columns="code")))


def test_places_named_in_prose_are_links_where_the_page_shows_them():
    parts = [SourceView("Source", lines_of())]
    summary = ["model.py:8 and gpt/model.py:7, not model.py:99 <b>", HOSTILE]
    text = rendered(Page("Title", "Question?", parts, summary=summary))
    listed = re.findall(r"<p>(.*?)</p>", text.partition('class="summary broad"')[2])[0]
    assert listed == (
        '<a href="#L8">model.py:8</a> and <a href="#L7">gpt/model.py:7</a>, '
        "not model.py:99 &lt;b&gt;"
    )
    alone = rendered(Page("Title", "Question?", [], summary=summary))
    shown = alone.partition('class="summary broad"')[2].partition("</section>")[0]
    assert HOSTILE[:3] and "model.py:8" in shown and "<a href" not in shown
