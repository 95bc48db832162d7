import gc
import importlib
import sys

import pytest
import torch

from interp import surgery
from interp.errors import SurgeryError
from interp.surgery.running.loaded import is_same_code

TEXT = """
class Scale:
    gain = 3.0

    def __call__(self, x):
        y = x + 2.0 * self.gain
        return y

def shift(x, by=1.0):
    return x - by
"""


@pytest.fixture
def loaded(tmp_path, monkeypatch):
    """A file that is imported, and what loads its newest text again."""
    path = tmp_path / "loaded_for_surgery.py"
    path.write_text(TEXT)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    module = importlib.import_module("loaded_for_surgery")
    yield path, module
    del sys.modules["loaded_for_surgery"]


def cut_of(path):
    found = surgery.find_all(surgery.read_source(path), "drop-term", qualname="Scale.__call__")
    return next(cut for cut in found if cut.after == "y = x")


def test_a_cut_reaches_a_file_that_was_loaded_again(loaded):
    path, module = loaded
    for _ in range(3):
        with surgery.perform(cut_of(path)):
            assert module.Scale()(1.0) == 1.0
        assert module.Scale()(1.0) == 7.0
        module = importlib.reload(module)


def test_both_the_old_and_the_new_are_cut_while_the_old_is_in_use(loaded):
    path, module = loaded
    old = module.Scale()
    new = importlib.reload(module).Scale()
    with surgery.perform(cut_of(path)):
        assert (old(1.0), new(1.0)) == (1.0, 1.0)
    assert (old(1.0), new(1.0)) == (7.0, 7.0)


@pytest.mark.parametrize(
    "edit",
    [
        ("2.0 * self.gain", "5.0 * self.gain"),
        ("2.0 * self.gain", "2 * self.gain"),
        ("self.gain", "self.loss"),
        ("x - by", "by - x"),
        ("gain = 3.0\n", "gain = 3.0\n\n"),
    ],
    ids=lambda edit: edit[1].strip(),
)
def test_any_edit_on_disk_is_refused_until_the_file_is_loaded_again(loaded, edit):
    path, module = loaded
    path.write_text(TEXT.replace(*edit))
    cut = cut_of(path)
    message = "the file was edited since it was imported; start Python afresh"
    with pytest.raises(SurgeryError, match=message), surgery.perform(cut):
        pass
    del module
    module = importlib.reload(sys.modules["loaded_for_surgery"])
    gc.collect()
    with surgery.perform(cut):
        assert module.Scale()(torch.tensor(1.0)) == 1.0


def test_an_edit_on_disk_with_the_old_text_in_use_is_refused_after_loading_again(loaded):
    path, module = loaded
    old = module.Scale()
    path.write_text(TEXT.replace("2.0 *", "5.0 *"))
    importlib.reload(module)
    with pytest.raises(SurgeryError, match="edited"), surgery.perform(cut_of(path)):
        pass
    assert old(1.0) == 7.0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("x in {0, 8}", "x in {8, 0}", True),  # equal sets that are printed in another order
        ("x in {0, 8}", "x in {0, 16}", False),
        ("x in {0, 8}", "x in {0.0, 8}", False),
        ("x in {1, 8}", "x in {True, 8}", False),
        ("x in (1, (2, -0.0))", "x in (1, (2, -0.0))", True),
        ("f(x, (0.0, 1))", "f(x, (-0.0, 1))", False),
        ("f(x, (0, 1))", "f(x, (0, True))", False),
    ],
)
def test_code_is_the_same_whatever_order_its_sets_are_in(one, other, same):
    first, second = (compile(text, "file", "eval") for text in (one, other))
    assert is_same_code(first, second) is same
