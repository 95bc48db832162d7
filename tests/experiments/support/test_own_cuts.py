"""Cuts of one's own as typed: what is typed is what is cut, or a sentence says why not."""

import importlib.util
import sys
from dataclasses import asdict, replace

import pandas as pd
import pytest

import gpt.model
from experiments import course
from experiments.course import Config, effects, main
from experiments.support.own_cuts import own_cuts, say_before_training
from experiments.support.trainings.finished import are_made, identity_of_tables, note_made
from experiments.support.trainings.line_trainings import untrained_study
from gpt import GPTConfig
from gpt.errors import UsageError
from gpt.text import CharTokenizer, load_corpus, split
from gpt.train import PRESETS, Preset, TrainConfig
from interp import surgery
from interp.runs import Run, SavedRun

SOURCE = surgery.read_source(gpt.model)
LINE = SOURCE.text[: SOURCE.text.index("x = x + attn_out")].count("\n") + 1
TINY = Preset(
    GPTConfig(block_size=16, n_layer=1, n_head=2, n_embd=16),
    TrainConfig(steps=20, batch_size=4, warmup_steps=5, eval_interval=20, eval_blocks=4),
)


@pytest.fixture
def forms(tmp_path):
    """The same cut in each of the four forms."""
    copy, patch = tmp_path / "edited model.py", tmp_path / "my_idea.diff"
    copy.write_text(SOURCE.text.replace("x = x + attn_out", "x = attn_out"))
    patch.write_text(surgery.between(SOURCE, copy).diff)
    return {
        f"model.py:{LINE}: x = attn_out": f"line_{LINE}",
        "x = x + attn_out => x = attn_out": f"line_{LINE}",
        str(patch): "my_idea",
        str(copy): "edited_model",
    }


def test_the_four_forms_are_one_cut(forms):
    cuts = {form: own_cuts([form], [SOURCE]) for form in forms}
    assert {form: name for form, found in cuts.items() for name in found} == forms
    assert len({cut.identity for found in cuts.values() for cut in found.values()}) == 1


@pytest.mark.parametrize("name", ["no_residual", "x"])
def test_a_name_can_stand_before_any_form(forms, name):
    for form in forms:
        (found,) = own_cuts([f"{name}={form}"], [SOURCE])
        assert found == name


def test_what_the_file_says_is_an_edit_and_no_name(tmp_path):
    path = tmp_path / "tight.py"
    path.write_text("def f(x):\n    x=x+1\n    return x\n")
    ((name, cut),) = own_cuts(["x=x+1 => x=x+2"], [surgery.read_source(path)]).items()
    assert (name, cut.after) == ("line_2", "x=x+2")


@pytest.fixture
def two_files(tmp_path):
    """Two files, and a folder and a diff in which both are edited."""
    texts = {"layers.py": "def double(x):\n    return 2 * x\n", "model.py": "WIDTH = 3\n"}
    edited = {"layers.py": "def double(x):\n    return 3 * x\n", "model.py": "WIDTH = 4\n"}
    for folder, files in {"plain": texts, "my edit": edited}.items():
        (tmp_path / folder).mkdir()
        for name, text in files.items():
            (tmp_path / folder / name).write_text(text)
    sources = [surgery.read_source(tmp_path / "plain" / name) for name in texts]
    parts = [surgery.between(source, tmp_path / "my edit" / source.file) for source in sources]
    (tmp_path / "both.diff").write_text("".join(part.diff for part in parts))
    return sources, tmp_path


def test_a_diff_and_a_folder_of_two_files_are_one_cut_of_both(two_files):
    sources, folder = two_files
    ((name, patched),) = own_cuts([str(folder / "both.diff")], sources).items()
    ((copied, cut),) = own_cuts([f"{folder / 'my edit'}"], sources).items()
    assert (name, copied) == ("both", "my_edit")
    assert [part.after for part in cut.parts] == ["return 3 * x", "WIDTH = 4"]
    assert patched.identity == cut.identity
    with pytest.raises(UsageError, match=r"also of .*model.py, which is none of .*, layers.py"):
        own_cuts([str(folder / "both.diff")], sources[:1])


WRONG = {
    "hello": "write 'model.py:189",
    "x = x + atn_out => x = attn_out": "nearest: 'x = x + attn_out'",
    "mine=x = x + atn_out => x = attn_out": "does not say 'x = x + atn_out'",
    "other.py:3: pass": "no file that can be cut",
    "model.py:9999: pass": "there is no line 9999",
    "none.diff": "cannot be read",
    "none.py": "there is no file 'none.py'",
    "single_head=x = x + attn_out => x = attn_out": "give this one another name",
}


@pytest.mark.parametrize("asked", WRONG)
def test_what_cannot_be_cut_is_a_sentence(asked):
    with pytest.raises(UsageError) as caught:
        own_cuts([asked], [SOURCE], taken=["single_head"])
    assert WRONG[asked] in str(caught.value)


@pytest.fixture(scope="module")
def study():
    corpus = load_corpus("python-docs")
    tokenizer = CharTokenizer.from_text(corpus.text)
    size = GPTConfig(block_size=16, vocab_size=tokenizer.vocab_size, n_layer=1, n_head=2, n_embd=16)
    return untrained_study(Preset(size, TINY.train), split(corpus, tokenizer, 16))


SAID = {
    "x = attn_out": "it runs, and changes what the model computes",
    "x = attn_out + x": "it is the same function as before",
    "x = x + attn_out.mean(1, keepdim=True)": "it lets the model see the tokens",
}


@pytest.mark.parametrize("new", SAID)
def test_what_is_known_is_said_before_anything_trains(study, capsys, tmp_path, new):
    say_before_training(lambda: study, own_cuts([f"x = x + attn_out => {new}"], [SOURCE]), tmp_path)
    assert SAID[new] in capsys.readouterr().out


def never(*_, **__):
    raise AssertionError("the cuts are examined again")


TEST = "is_watched(self.hook_attn_scores, self.hook_pattern)"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("scores = scores / math.sqrt(self.d_head)", "scores = scores"),
        ("z = self.attend(q, k, v)", "z = v"),
    ],
)
def test_a_cut_in_a_branch_that_is_not_taken_is_the_edit_by_hand_that_takes_it(
    study, capsys, tmp_path, old, new
):
    model = study.build(0)
    for weight in model.parameters():  # as in a trained model, heads look at some tokens more
        weight.data *= 10 if weight.ndim == 2 else 1
    study = replace(study, model=model)
    asked = own_cuts([f"{old} => {new}"], [SOURCE])
    with Run.open(tmp_path, "course", "a", {}) as run:
        examined = say_before_training(lambda: study, asked, run.folder)
        examined.keep(run)
    (cut,) = examined.cuts.values()
    said = capsys.readouterr().out
    assert say_before_training(never, asked, run.folder) == examined  # from what the run keeps
    assert capsys.readouterr().out == said
    with pytest.raises(AssertionError, match="examined"):  # of another text, nothing is kept
        say_before_training(never, asked, run.folder, text="another")
    assert "it runs, and changes" and "branch that its line is in is taken" in said
    texts = {
        "taken": SOURCE.text.replace(TEST, "True"),
        "cut": SOURCE.text.replace(TEST, "True").replace(old, new),
    }
    losses = {}
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text)
        spec = importlib.util.spec_from_file_location(f"{name}_by_hand", tmp_path / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        model = module.GPT(module.GPTConfig(**asdict(study.model.config)))
        model.load_state_dict(study.model.state_dict())
        losses[name] = study.judge(model).numpy()
    assert cut.identity == surgery.between(SOURCE, tmp_path / "cut.py").identity
    (row,) = study.posthoc([cut]).to_dict("records")
    assert abs(row["delta"]) > 1e-4
    assert row["delta"] == pytest.approx((losses["cut"] - losses["taken"]).mean(), abs=1e-6)
    assert row["baseline"] == pytest.approx(losses["taken"].mean(), abs=1e-6)


@pytest.mark.parametrize("new", ["x = attn_out[:, :1, :3]", "x = attn_out / 0.0 * 0"])
def test_a_cut_that_cannot_be_trained_ends_with_a_sentence(study, tmp_path, new):
    asked = own_cuts([f"x = x + attn_out => {new}"], [SOURCE])
    with pytest.raises(UsageError, match="nothing was trained"):
        say_before_training(lambda: study, asked, tmp_path)


def test_the_course_trains_a_cut_of_ones_own_and_forms_share_trainings(
    forms, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(PRESETS, "demo", TINY)
    results = []
    for form in (*forms,)[1::2]:
        page = main(Config(runs=tmp_path / "runs", seeds=1, cut=(form,)))
        table = pd.read_parquet(page.parent / "results.parquet")
        name = forms[form]
        assert set(table["variant"]) == {"none", name}
        assert table.loc[table["variant"] == name, "before"].iloc[0] == ["x = x + attn_out"]
        assert (page.parent / "figures" / f"curve_{name}.svg").is_file()
        assert "Cut from the trained model, the loss changes by" in page.read_text()
        ranked = effects(SavedRun.at(page.parent)).set_index("way")
        after, before = ranked.loc["in the trained model"], ranked.loc["before training"]
        assert after["delta"] == pd.read_parquet(page.parent / "damage.parquet")["delta"].item()
        assert after["line"] == before["line"] == f"model.py:{LINE}"
        assert after["code"] == before["code"] and after["name"] == before["name"] == name
        results.append(table[table["variant"] == name]["loss"].to_list())
    assert results[0] == results[1]
    out = capsys.readouterr().out
    assert out.count("0 left") == 1  # the second had nothing to train
    folder = page.parent
    first = {path.name: path.read_bytes() for path in folder.glob("*.parquet")}
    options = Config(runs=tmp_path / "runs", seeds=1, cut=(form,))
    with monkeypatch.context() as patched:  # finished, it computes nothing again
        for name in ("untrained_study", "trained_study", "save_samples", "save_views"):
            patched.setattr(course, name, never)
        main(options)
    assert capsys.readouterr().out == out[out.rindex("cut ") :]  # and says the same
    (folder / "damage.parquet").unlink()
    main(options)
    assert {path.name: path.read_bytes() for path in folder.glob("*.parquet")} == first


def test_tables_are_made_again_of_what_they_are_to_be_made_of(tmp_path):
    """Made of a, of b, and asked for a: those of b are not taken for them."""
    made = []
    with Run.open(tmp_path, "course", "a", {}) as run:
        for of in "aabbaa":
            made_of = identity_of_tables(of=of)
            if not are_made(run, made_of):
                made.append(of)
                run.save_table(pd.DataFrame({"of": [of]}))
                note_made(run, made_of)
            assert run.table()["of"].item() == of
    assert made == ["a", "b", "a"]


def test_what_can_be_cut_is_listed_by_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(PRESETS, "demo", TINY)
    main(Config(runs=tmp_path, list_cuts=True))
    out = capsys.readouterr().out
    assert f"model.py:{LINE}:cut-skip" in out
    assert not list(tmp_path.iterdir())
