"""The list of experiments, and the one command."""

import importlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from experiments import __main__ as command
from experiments.support.listing import questions, record_of
from gpt.errors import UsageError


def told(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["nanogpt-interp", *arguments])
    command.main()
    return capsys.readouterr().out


def test_the_list_is_shown_without_importing_torch():
    code = (
        "import sys; from experiments.__main__ import listing; "
        "from experiments.support.listing import questions; print(listing(questions())); "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "  heads        What does each attention head do for the loss" in done.stdout


def test_the_command_lists_says_its_version_and_names_the_nearest(monkeypatch, capsys):
    listed = told(monkeypatch, capsys)
    assert listed == told(monkeypatch, capsys, "--help") == told(monkeypatch, capsys, "list")
    assert max(map(len, listed.splitlines())) <= 80
    assert told(monkeypatch, capsys, "--version").startswith("nanogpt-interp ")
    with pytest.raises(SystemExit, match="no experiment is called 'haeds'; nearest: heads"):
        told(monkeypatch, capsys, "haeds")
    with pytest.raises(SystemExit):
        told(monkeypatch, capsys, "heads", "--help")
    assert "usage: " in capsys.readouterr().out


def test_every_experiment_has_a_record_that_names_it():
    tools = {"report", "check", "text_audit"}
    for name in set(questions()) - tools:
        record = importlib.import_module(f"experiments.{name}").EXPERIMENT
        assert record.name == name
        assert record.effects or record.readings, name


def test_a_run_of_an_unknown_experiment_is_one_sentence():
    run = SimpleNamespace(folder="runs/haeds/x", description={"experiment": "haeds"})
    with pytest.raises(UsageError, match="of an experiment 'haeds' that has no page; nearest: hea"):
        record_of(run)


def test_a_students_file_called_as_a_package_of_ours_does_not_hide_it(tmp_path):
    (tmp_path / "gpt.py").write_text("raise SystemExit('the student trains')\n")
    (tmp_path / "interp").mkdir()
    (tmp_path / "interp" / "__init__.py").write_text("raise SystemExit('another package')\n")
    root = Path(command.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "experiments.heads", "--help"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(root), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "usage: python -m experiments.heads" in done.stdout
