import pytest

from interp import surgery
from interp.code_text import lines_of, one_line
from interp.surgery.source.syntax import parse, read_source, tell_apart

ODD = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_where_pythons_end(end):
    text = f"x = 1{end}{end}y = '{ODD}'{end}z = 2"
    assert "".join(lines_of(text)) == text
    assert [line.rstrip("\r\n") for line in lines_of(text)] == [
        "x = 1",
        "",
        f"y = '{ODD}'",
        "z = 2",
    ]
    assert lines_of("") == []


def test_code_on_one_line_keeps_what_only_looks_like_a_comment():
    assert one_line("f(\n    'a  # b',  # why\n    c, # and\n)") == "f('a  # b', c)"
    assert one_line("x = (\n    a\n    .b(1)  # one\n    .c()\n)") == "x = (a.b(1).c())"
    assert one_line("y = a \\\n    + b") == "y = a + b"
    assert one_line("if x:  # so\n    # then\n    ") == "if x:"


@pytest.mark.parametrize(
    ("header", "shown"),
    [
        ("with a(b[1:2]), c({1: 2}) as d: # e:", "if True:"),
        ("with (\n        a,\n        b as c,\n    ):", "if (True):"),
        ("with f(lambda: 1)[0:\n        1] as 三: ", "if (True):"),
    ],
)
def test_a_block_runs_without_its_context(tmp_path, header, shown):
    path = tmp_path / "block.py"
    path.write_text(f"def f(x, a, b):\n    {header}\n        x = 1\n    return x\n")
    source = surgery.read_source(path)
    cut = surgery.find(source, "drop-context")
    assert cut.after == shown
    assert len(lines_of(cut.text)) == len(lines_of(source.text))
    names = {}
    exec(compile(cut.text, "block", "exec"), names)
    assert names["f"](0, None, None) == 1


def test_the_header_of_a_statement_ends_before_its_body(tmp_path):
    path = tmp_path / "headers.py"
    path.write_text(
        "def f(x):\n    match x:\n        case 1: pass\n"
        "    if x:\n        @g\n        def h(): pass\n"
    )
    syntax = parse(surgery.read_source(path))
    shown = [syntax.shown(node) for node in syntax.statements if hasattr(node, "lineno")]
    assert shown[0] == "match x:"
    assert "if x:" in shown


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path):
    for folder in ("a/x", "b/x", "c"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "layers.py").write_text("y = 1\n")
    (tmp_path / "model.py").write_text("y = 1\n")
    paths = ["a/x/layers.py", "b/x/layers.py", "c/layers.py", "model.py"]
    sources = [read_source(tmp_path / path) for path in paths]
    assert [source.file for source in tell_apart(sources)] == paths
    assert tell_apart(sources) == sources  # it is the same source, by whatever name
