import difflib

import pytest

from gpt import model as model_file
from interp import surgery
from interp.errors import SurgeryError

SOURCE = surgery.read_source(model_file)
SURGERIES = surgery.enumerate_surgeries(SOURCE)


def plain(tmp_path, text):
    path = tmp_path / "plain.py"
    path.write_bytes(text.encode())
    return surgery.read_source(path)


def test_everything_outside_an_edit_is_byte_identical():
    before = SOURCE.text.encode()
    for cut in SURGERIES:
        after = cut.text.encode()
        first, last = cut.edits[0].start, cut.edits[-1].stop
        assert after[:first] == before[:first]
        assert after.endswith(before[last:])
        assert after != before or all(
            before[e.start : e.stop].decode() == e.replacement for e in cut.edits
        )


def test_an_edit_moves_no_line():
    before = SOURCE.text.splitlines()
    for cut in SURGERIES:
        after = cut.text.splitlines()
        assert len(after) == len(before)
        touched = {n for n, (a, b) in enumerate(zip(before, after, strict=True), 1) if a != b}
        edited = "".join(SOURCE.text.encode()[e.start : e.stop].decode() for e in cut.edits)
        assert touched <= set(range(cut.line, max(cut.lines) + edited.count("\n") + 4))


def test_every_edited_text_is_still_python():
    for cut in SURGERIES:
        compile(cut.text, cut.id, "exec")


def test_ids_are_unique_and_name_file_line_and_operator():
    ids = [cut.id for cut in SURGERIES]
    assert len(set(ids)) == len(ids)
    for cut in SURGERIES:
        assert cut.id.startswith(f"model.py:{cut.line}:{cut.operator}")


def test_a_diff_turns_the_source_into_the_edited_text():
    cut = surgery.find(SOURCE, "drop-term", qualname="GPT.embed", target="pos_emb")
    removed = [line[1:] for line in cut.diff.splitlines() if line[0] == "-" and line[1] != "-"]
    added = [line[1:] for line in cut.diff.splitlines() if line[0] == "+" and line[1] != "+"]
    assert [line.strip() for line in removed] == ["x = tok_emb + pos_emb"]
    assert [line.strip() for line in added] == ["x = tok_emb"]
    changes = difflib.ndiff(SOURCE.text.splitlines(), cut.text.splitlines())
    assert sum(line[0] in "+-" for line in changes) == 2


def test_two_cuts_made_together_show_both_lines():
    cut = surgery.combine(surgery.find_all(SOURCE, "cut-skip", qualname="Block.forward"))
    one, two = cut.lines
    assert cut.id == f"model.py:{one}+{two}:cut-skip"
    assert cut.label == (
        f"model.py:{one}  x = x + attn_out → x = attn_out\n"
        f"model.py:{two}  x = x + mlp_out → x = mlp_out"
    )


def test_cuts_of_one_line_made_together_show_the_line_with_both(tmp_path):
    source = plain(tmp_path, "def f(a, b, c):\n    return g(a) * g(b) * c\n")
    cut = surgery.combine(surgery.find_all(source, "bypass-call", target="g"))
    assert cut.label == "plain.py:2  return g(a) * g(b) * c → return a * b * c"


def test_cuts_that_overlap_cannot_be_made_together():
    terms = surgery.find_all(SOURCE, "drop-term", qualname="GPT.embed")
    with pytest.raises(SurgeryError, match="cut the same code on line"):
        surgery.combine(terms)


def test_an_identity_is_of_source_edits_and_layers(tmp_path):
    text = "def f(a, b):\n    return a + b\n"
    one, two = surgery.enumerate_surgeries(plain(tmp_path, text))
    assert one.identity != two.identity
    assert one.identity == surgery.enumerate_surgeries(plain(tmp_path, text))[0].identity
    assert one.identity != surgery.at_layers(one, [2]).identity
    longer = surgery.enumerate_surgeries(plain(tmp_path, text + "\n"))[0]
    assert one.identity != longer.identity


@pytest.mark.parametrize(
    ("code", "operator", "after"),
    [
        ("return norm(\n        a,\n        1e-5,\n    )", "bypass-call", "return (a\n\n\n)"),
        ("return (\n        a\n        + b\n    )", "drop-term", "return (\n        (a\n)\n    )"),
        ("return (a + b).norm(2) * b", "bypass-call", "return (a + b) * b"),
        ("return norm(a + b) * b", "bypass-call", "return (a + b) * b"),
        ("return 'ünï' if norm(a) else norm(b)", "bypass-call", "return 'ünï' if a else norm(b)"),
        ("return b - a", "drop-term", "return b"),
    ],
)
def test_an_edit_keeps_brackets_lines_and_characters(tmp_path, code, operator, after):
    head = "from m import norm\r\ndef f(a, b):\r\n    "
    source = plain(tmp_path, head + code + "\r\n")
    cut = next(s for s in surgery.enumerate_surgeries(source) if s.operator == operator)
    assert cut.text == head + after + "\r\n"


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(SurgeryError, match="is not a file: surgery needs the path"):
        surgery.read_source(tmp_path / "none.py")


def test_a_syntax_error_is_named_with_its_line(tmp_path):
    with pytest.raises(SurgeryError, match=r"plain.py, line 2, has a syntax error"):
        plain(tmp_path, "x = 1\ndef f(:\n")


def test_a_file_that_is_not_text_is_one_sentence(tmp_path):
    path = tmp_path / "binary.py"
    path.write_bytes(b"x = '\xff\xfe'\n")
    with pytest.raises(SurgeryError, match="is not Python text"):
        surgery.read_source(path)


def test_a_compiled_module_has_no_source():
    import _struct

    with pytest.raises(SurgeryError, match="the source of module _struct is not available"):
        surgery.read_source(_struct)
