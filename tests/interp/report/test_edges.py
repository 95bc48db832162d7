"""The page draws the edges of its table: as many arcs as rows, each as opaque as its row says."""

from html.parser import HTMLParser

import pandas as pd
import pytest

import gpt.model
import interp as ip
from gpt.model import GPT, GPTConfig
from interp.architecture import architecture
from interp.circuits import edge_effects
from interp.edge_looks import edge_sentence
from interp.errors import UsageError
from interp.report import EdgesView, MapView, Page, SourceView
from interp.report.markdown import write_markdown
from interp.report.page import rendered
from interp.surgery import read_source
from interp.verdicts import verdict_of
from tests.interp.circuits.by_hand import gap, random_pair
from tests.interp.circuits.edge_tables import real_table
from tests.interp.line_hooks.families import built

HOSTILE = '</script></a><script>alert(1)</script>"><img src=x onerror=alert(1)>\x1b[31m\u202e'


class Elements(HTMLParser):
    """Every element with its attributes and the text directly within it."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        element = {"tag": tag, "text": "", **dict(attrs)}
        self.found.append(element)
        self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.found.append({"tag": tag, "text": "", **dict(attrs)})

    def handle_endtag(self, tag):
        while self.open and self.open.pop()["tag"] != tag:
            pass

    def handle_data(self, data):
        for element in self.open:
            element["text"] += data

    def of(self, tag, **attrs):
        return [
            one
            for one in self.found
            if one["tag"] == tag and all(one.get(name) == value for name, value in attrs.items())
        ]


@pytest.fixture(scope="module")
def table():
    return real_table()


@pytest.fixture(scope="module")
def lines():
    codes = read_source(gpt.model).text.splitlines()
    return pd.DataFrame({"file": "model.py", "line": range(1, len(codes) + 1), "code": codes})


@pytest.fixture(scope="module")
def boxes():
    return architecture(GPT(GPTConfig(n_layer=2, n_head=2, n_embd=8, block_size=8)))


def shown(*parts):
    return Elements(rendered(Page("Title", "Question?", parts)))


def links_with_arcs(page):
    return [one for one in page.of("a") if str(one.get("class", "")).startswith("arc ")]


def rows_of(page):
    return [one for one in page.of("tr") if "data-edge" in one]


def test_there_is_an_arc_and_a_row_for_every_edge_and_both_say_what_the_table_says(table, lines):
    page = shown(EdgesView("Edges", table, lines))
    arcs = {one["data-edge"]: one for one in links_with_arcs(page)}
    rows = {one["data-edge"]: one for one in rows_of(page)}
    assert len(arcs) == len(rows) == len(table)
    top = table["delta"].abs().max()
    found = table.set_index(["edge", "meaning"]).sort_index()
    seen = set()
    for number, arc in arcs.items():
        edge, rest = arc["aria-label"].split(" (", 1)
        meaning = rest.split(")")[0]
        seen.add((edge, meaning))
        row = found.loc[(edge, meaning)].to_dict()
        opacity = 0.12 + 0.88 * abs(row["delta"]) / top
        assert float(arc["stroke-opacity"]) == pytest.approx(opacity, abs=1e-3)
        assert ("rises" in arc["class"].split()) == (row["delta"] > 0)
        assert ("null" in arc["class"].split()) == (not verdict_of(row).is_effect)
        where = f"model.py:{row['line']} to model.py:{row['reader_line']}"
        said = f"{edge} ({meaning}), {where}: {edge_sentence(row, 'nats')}"
        assert arc["aria-label"] == said and said in arc["text"]  # its title
        assert rows[number]["text"].startswith(edge)
        assert arc["href"] == f"#{rows[number]['id']}"
        assert ("hidden" in arc) == ("hidden" in rows[number])
    assert seen == set(found.index)
    values = [one for one in page.of("td") if "data-value" in one]
    assert sorted(float(one["data-value"]) for one in values) == sorted(table["delta"])


def test_what_is_drawn_at_first_are_the_strongest_of_the_first_meaning(table, lines):
    page = shown(EdgesView("Edges", table, lines))
    first = table[table["meaning"] == "open"]
    strongest = first.loc[first["delta"].abs().nlargest(30).index, "edge"]
    drawn = [one for one in links_with_arcs(page) if "hidden" not in one]
    assert [one["aria-label"].split(" (")[0] for one in drawn] == list(strongest)
    bundles = [one["data-bundle"] for one in drawn]
    for count in (one for one in page.of("text") if "data-count" in one):
        number = bundles.count(count["data-count"])
        assert count["text"] == f"\N{MULTIPLICATION SIGN}{number}" and ("hidden" in count) == (
            number < 2
        )


def test_lines_stand_in_their_order_below_what_they_are_in_and_lead_to_the_source(table, lines):
    page = shown(EdgesView("Edges", table, lines), SourceView("Source", lines))
    strip = [one for one in page.of("div") if str(one.get("class")).startswith("edges-line ")]
    texts = [one["text"] for one in strip]
    assert texts[0] == "model.py"
    numbers = [int("".join(filter(str.isdigit, text[:4]))) for text in texts[1:]]
    assert numbers == sorted(numbers)
    ends = set(table["line"]) | set(table["reader_line"])
    assert ends < set(numbers)
    heads = [one["text"] for one in strip if one["class"].endswith("of-head")]
    assert any("class CausalSelfAttention" in text for text in heads)
    assert all("class " in text or "def " in text for text in heads)
    ids = {one.get("id") for one in page.found}
    targets = {one["href"][1:] for one in page.of("a") if one.get("href", "").startswith("#")}
    assert targets <= ids
    mlp = next(text for text in texts if "self.mlp(mlp_in)" in text)
    assert "writes and reads" in mlp


def test_of_many_edges_the_strongest_are_on_the_page_and_it_says_how_many_are_not(table, lines):
    page = shown(EdgesView("Edges", table, lines, at_most=7))
    assert len(rows_of(page)) == len(links_with_arcs(page)) == 14
    left = f"{len(table) - 14} edges of smaller effects are not on this page"
    assert any(left in one["text"] for one in page.of("p"))


def test_other_peoples_source_is_drawn_and_an_end_that_has_no_line_is_said():
    clean, corrupted = random_pair(batch=3, vocab=31)
    view = ip.hook_lines(built("llama"), clean)
    table = edge_effects(view, clean, corrupted, gap, progress=False)
    page = shown(EdgesView("Edges", table))
    known = table["line"].notna() & table["reader_line"].notna()
    assert len(rows_of(page)) == len(table)
    assert len(links_with_arcs(page)) == known.sum() > 0
    apart = (~known).sum()
    told = f"Of {apart} edges the line of one end is not known"
    assert any(told in one["text"] for one in page.of("p")) == (apart > 0)
    assert any("self_attn" in one["text"] for one in page.of("code"))


def test_a_line_of_the_source_tells_of_the_strongest_edges_from_and_to_it(table, lines):
    page = shown(SourceView("Source", lines, edges=table))
    writer = table["line"] == table.loc[table["writer"] == "a0.h0", "line"].iloc[0]
    panel = next(
        one
        for one in page.of("article")
        if one["aria-label"] == f"Line {table[writer]['line'].iloc[0]}"
    )
    assert "Edges from this line" in panel["text"]
    largest = table[writer].loc[table[writer]["delta"].abs().idxmax()].to_dict()
    assert (
        f"{largest['edge']} ({largest['meaning']}): {edge_sentence(largest, 'nats')}"
        in panel["text"]
    )
    assert f"and {writer.sum() - 6} of smaller effects" in panel["text"]


def test_arcs_of_the_map_join_the_boxes_that_lines_call(table, lines, boxes):
    page = shown(MapView("Map", boxes, lines, edges=table))
    arcs = links_with_arcs(page)
    first = table[table["meaning"] == "open"]
    strongest = first.loc[first["delta"].abs().nlargest(30).index]
    assert len(arcs) == len(strongest) == 30
    top = first["delta"].abs().max()
    titles = {
        one["id"]: one["data-box-title"] for one in page.of("article") if "data-box-title" in one
    }
    read = {
        "q": "attn.query",
        "k": "attn.key",
        "v": "attn.value",
        "mlp": "mlp",
        "logits": "lm_head",
    }
    for arc, row in zip(arcs, strongest.to_dict("records"), strict=True):
        assert arc["aria-label"].startswith(f"{row['edge']} (open)")
        opacity = 0.12 + 0.88 * abs(row["delta"]) / top
        assert float(arc["stroke-opacity"]) == pytest.approx(opacity, abs=1e-3)
        assert titles[arc["href"][1:]] == read[row["kind"]]


def test_edges_whose_line_no_box_calls_are_counted_and_without_edges_the_map_is_as_it_was(
    table, lines, boxes
):
    elsewhere = table.assign(line=1)
    page = shown(MapView("Map", boxes, lines, edges=elsewhere))
    assert links_with_arcs(page) == []
    plain = rendered(Page("T", "Q?", [MapView("Map", boxes, lines)]))
    assert (
        "data-arcs" not in plain.split("<script>")[0]
        and "with-edges" not in plain.split("</style>")[1]
    )


def test_whatever_a_table_holds_is_shown_as_text(table, lines, boxes):
    texts = ("edge", "code", "reader_code", "metric", "direction", "file", "reader_file")
    hostile = table.assign(**dict.fromkeys(texts, HOSTILE))
    hostile = hostile.assign(meaning=HOSTILE)
    parts = [EdgesView("Edges", hostile, lines), MapView("Map", boxes, edges=hostile)]
    text = rendered(Page("Title", "Question?", [*parts, SourceView("S", lines, edges=hostile)]))
    page = Elements(text)
    assert len(page.of("script")) == 1 and page.of("img") == []
    assert "\x1b" not in text and "\u202e" not in text
    assert len(links_with_arcs(page)) == len(table)


def test_in_markdown_the_edges_that_are_drawn_first_are_a_table_and_all_are_a_file(
    tmp_path, table, lines
):
    page = Page("Title", "Question?", [EdgesView("Edges", table, lines)])
    text = write_markdown(tmp_path / "page.md", page).read_text()
    first = table[table["meaning"] == "open"]
    largest = first.loc[first["delta"].abs().nlargest(30).index, "edge"]
    rows = [line for line in text.splitlines() if "| open |" in line]
    assert len(rows) == 30
    for edge, row in zip(largest, rows, strict=True):
        assert edge in row.replace("\\", "")
    (saved,) = tmp_path.rglob("*.csv")
    assert len(pd.read_csv(saved)) == len(table)


def test_what_cannot_be_drawn_is_refused_in_a_sentence(table):
    with pytest.raises(UsageError, match="no column reader_line"):
        EdgesView("Edges", table.drop(columns="reader_line")).context()
    with pytest.raises(UsageError, match="no edges"):
        EdgesView("Edges", table[:0]).context()
