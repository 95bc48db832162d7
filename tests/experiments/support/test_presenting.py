"""Figures and page are made again where something they are made of has changed, and only there."""

import pandas as pd
import pytest
from matplotlib.figure import Figure

import experiments.heads
from experiments.support.pages import presenting
from experiments.support.pages.presenting import PRESENTED, present
from interp.runs import Run

TABLE = pd.DataFrame({"site": ["hook_embed"], "delta": [0.25]})


@pytest.fixture
def made(monkeypatch) -> list[str]:
    """What was made, in this order."""
    made: list[str] = []

    def write_page(run):
        made.append("page")
        (run.folder / "report.html").write_text(str(run.table()))

    monkeypatch.setattr(presenting, "write_page", write_page)
    return made


@pytest.fixture
def presented(tmp_path, made):
    """A function that presents a run, and says what was made for it."""

    def draw(run, *given):
        made.append("figures")
        figure = Figure(figsize=(1, 1))
        figure.text(0, 0, f"{run.table()['delta'][0]} {given}")
        run.save_figure(figure, "effects")

    def again(table=TABLE, *given, config=1):
        made.clear()
        with Run.open(tmp_path, "heads", "a", {"config": config}) as run:
            run.save_table(table)
            present(run, draw, *given)
        return list(made)

    return again


def test_a_run_that_is_as_it_was_keeps_its_figures_and_its_page(presented):
    assert presented() == ["figures", "page"]
    assert presented() == []
    assert presented() == []


def test_what_has_changed_is_made_again(presented, tmp_path, monkeypatch):
    folder = tmp_path / "heads" / "a"
    presented()
    assert presented(TABLE.assign(delta=0.5)) == ["figures", "page"]
    assert presented(TABLE.assign(delta=0.5), True) == ["figures", "page"]
    assert presented(TABLE.assign(delta=0.5), True) == []
    (folder / "figures" / "effects.svg").write_text("spoilt")
    assert presented(TABLE.assign(delta=0.5), True) == ["figures"]  # drawn again, it is the same
    (folder / "figures" / "effects.pdf").unlink()
    assert presented(TABLE.assign(delta=0.5), True) == ["figures"]
    (folder / "report.html").write_text("spoilt")
    assert presented(TABLE.assign(delta=0.5), True) == ["page"]
    (folder / PRESENTED).write_text("spoilt")
    assert presented(TABLE.assign(delta=0.5), True) == ["figures", "page"]
    monkeypatch.setattr(presenting, "hash_code", lambda: "another version")
    assert presented(TABLE.assign(delta=0.5), True) == ["figures", "page"]


def test_what_was_kept_is_what_would_be_made(small, runs, text):
    """Byte for byte, of an experiment with four kinds of figures."""
    asked = experiments.heads.Config(runs=runs, text=str(text), examples=4, name="kept")
    folder = experiments.heads.main(asked).parent
    experiments.heads.main(asked)
    kept = presenting.hashes_of(folder.rglob("*.*g")), (folder / "report.html").read_bytes()
    written = (folder / "report.html").stat().st_mtime_ns
    (folder / PRESENTED).unlink()
    experiments.heads.main(asked)
    assert (folder / "report.html").stat().st_mtime_ns > written
    assert kept == (
        presenting.hashes_of(folder.rglob("*.*g")),
        (folder / "report.html").read_bytes(),
    )
