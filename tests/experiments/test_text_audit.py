"""A text's data card."""

import hashlib
import json
import subprocess
import sys

import pytest

import experiments.support.pages.cards
from experiments import text_audit
from experiments.support.cli import Options, launch
from experiments.support.pages.cards import audit_corpus
from gpt.text import load_corpus
from interp.texts import TextAudit

pytestmark = pytest.mark.usefixtures("small")


def test_the_command_leaves_a_card_as_page_and_json(text, tmp_path, capsys):
    launch(text_audit.main, text_audit.Config, [str(text), "--runs", str(tmp_path)])
    folder = tmp_path / "text_audit" / "docs.txt"
    card = json.loads((folder / "data_card.json").read_text(encoding="utf-8"))
    assert card.pop("name") == "docs.txt"
    assert TextAudit(**card).sha256 == hashlib.sha256(text.read_bytes()).hexdigest()
    assert "docs.txt" in (folder / "data_card.html").read_text(encoding="utf-8")
    said = capsys.readouterr().out
    assert f"{card['size']['characters']} characters" in said
    assert str(folder / "data_card.html") in said


def test_what_should_be_known_of_a_text_is_said_before_anything_is_done(tmp_path, capsys):
    text = tmp_path / "short.txt"
    text.write_bytes(b"\xef\xbb\xbf" + b"to be or not to be\r\n" * 50)

    def main(config: Options) -> None:
        said = capsys.readouterr().out
        assert "note    short.txt: 1 byte order mark left out" in said
        assert "note    short.txt has 950 characters: so short a text" in said

    launch(main, Options, ["--text", str(text)])
    launch(text_audit.main, text_audit.Config, [str(text), "--runs", str(tmp_path)])
    assert "short.txt has 950 characters" in capsys.readouterr().out


def test_without_the_libraries_the_command_says_what_to_install(tmp_path):
    """And no other command needs them."""
    hidden = "import sys; sys.modules['phonenumbers'] = None; "
    audit = [sys.executable, "-c", hidden + "import experiments.text_audit"]
    done = subprocess.run(audit, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == ("error: this needs phonenumbers: pip install 'nanogpt-interp[texts]'\n")
    others = hidden + "import interp, experiments.course, experiments.report, experiments.lines"
    assert subprocess.run([sys.executable, "-c", others]).returncode == 0


def test_a_text_is_audited_once(text, tmp_path, monkeypatch):
    corpus = load_corpus(str(text))
    first = audit_corpus(corpus, tmp_path)
    monkeypatch.setattr(experiments.support.pages.cards, "audit_text", None)
    assert audit_corpus(corpus, tmp_path) == first
    with pytest.raises(TypeError, match="not callable"):
        audit_corpus(corpus, tmp_path, at_least=51)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["no_such_file"], "the text 'no_such_file' cannot be read"),
        (["python-docs", "--at-least", "0"], "--at-least is 0"),
        (["python-docs", "--regions", "UK"], "'UK' is no region"),
    ],
)
def test_bad_input_is_answered_with_one_sentence(refused, arguments, sentence):
    assert sentence in refused(text_audit.main, text_audit.Config, *arguments)


def test_a_damaged_audit_is_made_again(text, tmp_path):
    corpus = load_corpus(str(text))
    first = audit_corpus(corpus, tmp_path)
    (path,) = (tmp_path / "texts").iterdir()
    whole = path.read_bytes()
    places = range(0, len(whole), max(1, len(whole) // 12))
    damaged = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in places]
    for content in (*damaged, whole[:-20], b"", b"[]", b'{"sha256": 1}'):
        path.write_bytes(content)
        assert audit_corpus(corpus, tmp_path) == first
        assert path.read_bytes() == whole
