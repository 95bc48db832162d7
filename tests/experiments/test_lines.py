import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
import torch

import gpt.model
from experiments import course, lines, retrain
from experiments.lines import Config, ranked
from experiments.support import retraining
from experiments.support.cli import launch
from experiments.support.trainings.line_trainings import Trainings, most_harmful
from experiments.support.trainings.tasks import resize_preset
from gpt.errors import UsageError
from gpt.model import GPTConfig
from gpt.text import CharTokenizer, load_corpus, split
from gpt.train import PRESETS, Preset, TrainConfig
from interp import surgery
from interp.errors import SurgeryError
from interp.errors import UsageError as InterpError
from interp.runs import Run, SavedRun
from interp.runs.store import open_to_read

SCRIPT = """
import math
import torch
from torch import nn
from torch.nn import functional as F

class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q = q.view(B, T, self.heads, -1).transpose(1, 2)
        k = k.view(B, T, self.heads, -1).transpose(1, 2)
        v = v.view(B, T, self.heads, -1).transpose(1, 2)
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
        mask = torch.ones(T, T, dtype=torch.bool).tril()
        scores = scores.masked_fill(~mask, float("-inf"))
        x = scores.softmax(dim=-1) @ v
        return self.out(x.transpose(1, 2).reshape(B, T, C))

class Layer(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.ReLU(), nn.Linear(4 * dim, dim))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))

class Transformer(nn.Module):
    def __init__(self, vocab_size, seq_len, dim=32, n_layers=2, heads=2):
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, dim)
        self.positions = nn.Embedding(seq_len, dim)
        self.layers = nn.ModuleList([Layer(dim, heads) for _ in range(n_layers)])
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, vocab_size)

    def forward(self, idx, targets=None):
        x = self.tokens(idx) + self.positions(torch.arange(idx.shape[1]))
        for layer in self.layers:
            x = layer(x)
        logits = self.head(self.norm(x))
        loss = None
        if targets is not None:
            loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return logits, loss

if __name__ == "__main__":
    model = Transformer(65, 64).cuda()
    torch.save(model.state_dict(), "weights.pt")
"""

TINY = Preset(
    GPTConfig(block_size=16, n_layer=2, n_head=2, n_embd=16),
    TrainConfig(
        steps=60, batch_size=8, warmup_steps=5, learning_rate=1e-2, eval_interval=20, eval_blocks=16
    ),
)


@pytest.fixture(scope="module", autouse=True)
def _tiny():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "demo", TINY)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lines")
    (folder / "plain_gpt.py").write_text(SCRIPT)
    return lines.main(config_of(folder / "plain_gpt.py", folder / "runs")).parent


def test_a_plain_script_is_studied_from_the_outside(run):
    table = pd.read_parquet(run / "results.parquet")
    source = (run.parents[2] / "plain_gpt.py").read_text().splitlines()
    together = table[table["layer"] == "all"]

    def status(operator, code):
        line = next(number for number, text in enumerate(source, 1) if code in text)
        found = together[together["operator"].isin(operator) & (together["line"] == line)]
        return set(found["status"])

    assert status({"cut-skip"}, "x = x + self.attention") == {"changed"}
    assert status({"cut-branch"}, "return x + self.mlp") == {"changed"}
    assert status({"bypass-call"}, "scores.masked_fill") == {"leak"}
    assert status({"zero"}, "loss = F.cross_entropy") == {"train-only"}
    assert "x + self.attention" in "".join(source)
    assert set(table["layer"]) == {"all", "0", "1"}


def test_the_run_leaves_tables_figures_and_pages(run):
    for name in ("annotated_source", "line_by_layer", "damage_and_lasting_cost"):
        for kind in ("png", "svg", "pdf"):
            assert (run / "figures" / f"{name}.{kind}").stat().st_size > 5000
    assert "plain_gpt.py" in (run / "report.html").read_text()
    ranked = lines.ranked(pd.read_parquet(run / "results.parquet"))
    alike = ranked["same_as"].where(ranked["same_as"] != "", ranked["id"])
    assert alike.is_unique and ranked["where"].str.contains(" and ").any()
    retrained = pd.read_parquet(run / "retrained.parquet")
    assert (retrained["n"] == 2).all() and retrained[["ci_low", "ci_high"]].isna().all(axis=None)
    trainings = pd.read_parquet(run / "trainings.parquet")
    by_hand = trainings.groupby("id")["value"].mean()
    for row in retrained.to_dict("records"):
        assert row["delta"] == pytest.approx(by_hand[row["id"]] - by_hand[""])
    shown = pd.read_parquet(run / "lines.parquet")
    assert len(shown) == SCRIPT.count("\n")
    assert shown["retrained_delta"].notna().sum() >= 1


def test_a_scripts_side_effects_do_not_happen(run):
    assert not Path("weights.pt").exists()
    assert not (run / "weights.pt").exists()


def test_a_class_that_is_not_there_names_the_nearest(tmp_path):
    path = tmp_path / "absent_class.py"
    path.write_text(SCRIPT)
    with pytest.raises(UsageError, match=r"no module class 'Transfomer'; nearest: Transformer"):
        lines.main(Config(runs=tmp_path / "runs", model=f"{path}:Transfomer"))
    assert not (tmp_path / "runs").exists()


def test_a_file_with_a_syntax_error_is_one_sentence(tmp_path):
    path = tmp_path / "typo.py"
    path.write_text("def f(:\n")
    with pytest.raises(SurgeryError, match=r"typo\.py, line 1, has a syntax error"):
        lines.main(Config(runs=tmp_path / "runs", model=f"{path}:GPT"))


def test_a_class_that_cannot_be_built_says_what_it_lacks(tmp_path):
    path = tmp_path / "needy.py"
    path.write_text(
        "from torch import nn\nclass Needy(nn.Module):\n    def __init__(self, secret):\n"
        "        super().__init__()\n"
    )
    with pytest.raises(UsageError, match="Needy takes 'secret', which nothing here can tell"):
        lines.main(Config(runs=tmp_path / "runs", model=f"{path}:Needy"))


def test_the_command_line_says_what_is_wrong_in_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        launch(lines.main, Config, ["--model", "nothing", "--runs", str(tmp_path)])
    assert ended.value.code == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("error: --model is 'nothing', which names no model: it can be smollm2")


def test_killed_at_any_instant_it_ends_with_the_same_tables(run, tmp_path):
    """The process dies by SIGKILL while it trains, in the middle of the surgeries, and when the
    trainings without lines have begun; then a last time not at all."""
    script = run.parents[2] / "plain_gpt.py"
    config = config_of(script, tmp_path)
    everything = recorded(run)
    for enough in (0, 1, everything // 2, everything - 3):
        child = forked(lambda: lines.main(config))
        wait_for(tmp_path, enough)
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    page = lines.main(config)
    for name in ("results", "retrained", "trainings", "lines", "sites"):
        table = pd.read_parquet(page.parent / f"{name}.parquet")
        whole = pd.read_parquet(run / f"{name}.parquet")
        pd.testing.assert_frame_equal(table, whole, check_exact=True)
    assert recorded(page.parent) == everything


def test_started_again_when_finished_it_only_draws(run, monkeypatch):
    monkeypatch.setattr(surgery, "study", None)
    monkeypatch.setattr("experiments.support.subjects.train_plainly", None)
    script = run.parents[2] / "plain_gpt.py"
    (run / "report.html").unlink()
    assert lines.main(config_of(script, run.parents[1])).is_file()


@pytest.fixture(scope="module")
def course_run(tmp_path_factory, _tiny):
    """The course's ablation of the residual connections, two seeds, of a model that trains in a
    second."""
    root = tmp_path_factory.mktemp("shared")
    return course.main(course.Config(runs=root, only=("no_residual",), seeds=2, workers=2)).parent


def test_trainings_are_shared_with_course_and_retrain_and_nothing_else_is(course_run, monkeypatch):
    root = course_run.parents[1]
    trained = []
    train = retraining.train_side_by_side

    def counted(run, tasks, left, *rest):
        trained.extend((task.surgery.id if task.surgery else "", task.seed) for task in left)
        train(run, tasks, left, *rest)

    def a_few(study, *rest):
        ids = [cut.id for cut in study.surgeries if cut.operator in ("cut-skip", "cut-branch")]
        ids += [cut.id for cut in study.surgeries if "eps" in cut.before]
        return study.posthoc(ids).assign(prepared="")

    monkeypatch.setattr(lines, "posthoc", a_few)
    monkeypatch.setattr(retraining, "train_side_by_side", counted)
    page = lines.main(Config(runs=root, texts=4, retrain_top=1, seeds=2, workers=2))
    again = pd.read_parquet(page.parent / "retrained.parquet")
    top, null = again["surgery"]
    assert trained == [(top, 0), (null, 0), (top, 1), (null, 1)]
    curves = pd.read_parquet(course_run / "results.parquet")
    uncut = curves[(curves["variant"] == "none") & (curves["split"] == "val")]
    last = uncut.groupby("seed")["loss"].last()
    assert (again["baseline"] == last.mean()).all()
    assert again["noise"].to_numpy() == pytest.approx(last.std())
    weights = "models/none-0.safetensors"
    assert (page.parent / weights).read_bytes() == (course_run / weights).read_bytes()

    trained.clear()
    sweep = {"surgeries": (top, "no_residual"), "texts": 4, "workers": 2}
    retrain.main(retrain.Config(runs=root, seeds=2, **sweep))
    assert trained == [("", 2), ("", 3), ("", 4)]  # it wants five of the model as it is
    trained.clear()
    corpus = load_corpus("python-docs")
    tokenizer = CharTokenizer.from_text(corpus.text)
    for steps, left in ((TINY.train.steps, []), (40, [("", 0)])):
        preset = resize_preset(TINY, tokenizer.vocab_size, steps)
        data = split(corpus, tokenizer, preset.model.block_size)
        with Run.open(root, "lines", f"steps-{steps}", {}) as run:
            Trainings(run, preset, data, tokenizer, corpus.sha256, [0], 1).model()
        assert trained == left


def config_of(script: Path, runs: Path) -> Config:
    return Config(
        runs=runs,
        model=f"{script}:Transformer",
        steps=30,
        texts=4,
        retrain_top=1,
        seeds=2,
        workers=2,
    )


def recorded(folder: Path) -> int:
    with open_to_read(folder / "tasks.sqlite") as store:
        return int(store.execute("SELECT count(*) FROM tasks").fetchone()[0])


def wait_for(root: Path, enough: int, within: float = 300.0) -> None:
    """Wait until so many tasks are recorded; for none, until the run has begun."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        for path in root.glob("lines/*/tasks.sqlite"):
            with suppress(InterpError):  # the table is not made yet
                if recorded(path.parent) >= enough:
                    return
        time.sleep(0.01)
    raise AssertionError(f"{enough} tasks were not finished in {within} s")


def forked(work: Callable[[], object]) -> int:
    """A process that does ``work``, with all that this one has imported."""
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            work()
        os._exit(0)
    return child


SMALL = """
from torch import equal, nn
from torch.nn.functional import linear

class Small(nn.Module):
    def __init__(self, vocab_size, seq_len):
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, 8)
        self.head = nn.Linear(8, vocab_size)
        self.register_forward_hook(check)

    def forward(self, idx):
        x = self.tokens(idx)
        x = x + x.tanh()
        return self.head(x)

def check(model, inputs, logits):
    x = model.tokens.weight[inputs[0]]
    right = linear(x + x.tanh(), model.head.weight, model.head.bias)
    if not equal(logits, right) and WHEN:
        raise ValueError("these are the logits of a cut model")
"""


def small_run(folder, when):
    path = folder / "small.py"
    path.write_text(SMALL.replace("WHEN", when))
    settings = {"steps": 5, "texts": 3, "retrain_top": 2, "seeds": 2, "workers": 2}
    config = Config(runs=folder / "runs", model=f"{path}:Small", **settings)
    page = lines.main(config)
    (page.parent / "report.html").unlink()
    assert lines.main(config) == page  # once more, from what was saved
    return SavedRun.at(page.parent), page.read_text()


def test_cuts_that_all_fail_when_trained_are_said_to(tmp_path):
    run, page = small_run(tmp_path, "model.training")
    again = run.table("retrained")
    assert list(again["status"]) == ["error"] * 2 and again["delta"].isna().all()
    assert run.table("lines")["retrained_delta"].isna().all()
    assert page.count("the model did not come to a loss with every seed (train, line") == 2
    assert page.count("ValueError: these are the logits of a cut model): the lasting cost") == 2


def test_a_file_of_which_no_cut_runs_has_a_page(tmp_path):
    run, page = small_run(tmp_path, "True")
    assert set(run.table()["status"]) <= {"error", "equivalent", "dead", "train-only"}
    assert run.table("retrained").empty
    assert "0 of 0 lines with an effect were also cut before training" in page


def test_what_a_reader_must_know_of_the_model_as_it_is_is_kept_and_said(tmp_path, capsys):
    tokens = torch.randint(7, (3, 8), generator=torch.Generator().manual_seed(0))
    config = gpt.model.GPTConfig(vocab_size=7, block_size=8, n_layer=1, n_head=1, n_embd=8)

    def judge(model):
        logits = model.eval()(tokens).double()
        return logits.mean((1, 2)) + torch.rand(3)

    with Run.open(tmp_path, "lines", "noisy", {}) as run:
        lines.make_study(
            run,
            told=[],
            build=lambda seed: gpt.model.GPT(config, seed=seed),
            judge=judge,
            files=[gpt.model],
            workers=0,
        )
        kept = list(run.table("notes")["note"])
    assert len(kept) == 1 and "draws random numbers" in kept[0]
    assert "draws random numbers" in capsys.readouterr().out


def test_a_line_whose_equal_cut_is_no_headline_is_ranked_and_retrained():
    cuts = pd.DataFrame(
        [
            ("whole", 1, "cut-skip", "", "x = x + y", 2.0),
            ("lost", 2, "zero", "elsewhere", "return x", 3.0),  # the same as one of line 1
            ("again", 3, "zero", "elsewhere", "return y", 3.0),
            ("elsewhere", 1, "zero", "", "x = x + y", 3.0),  # which is no headline
            ("point", 4, "zero", "", "x = self.hook_mid(x)", 4.0),
        ],
        columns=["id", "line", "operator", "same_as", "code", "delta"],
    ).assign(file="m.py", layer="all", status="changed")
    assert most_harmful(cuts, 3) == list(ranked(cuts)["id"]) == ["lost", "whole"]
    assert list(ranked(cuts)["where"]) == ["2 and 3", "1"]
