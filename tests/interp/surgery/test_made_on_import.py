"""What a decorator of the studied file puts around a function is cut as every other line is."""

import pytest

from interp.surgery.cutting.kept import run_on_import
from interp.surgery.source.syntax import parse
from tests.interp.surgery.test_shown_is_run import check, lines_that_run, studied, whole
from tests.interp.surgery.written_files import import_text

DECORATED = """
import functools

def scaled(by):
    def wrap(f):
        @functools.wraps(f)
        def inner(*args, **kwargs):
            y = f(*args, **kwargs)
            y = y * by
            if by > 9:
                y = y * 0.0
            return y
        return inner
    return wrap

def pushed(f):
    def inner(self, x, *, __by=0.25):
        x = x + __by
        return f(self, x)
    return inner

def adder(by):
    def add(x):
        return x + by
    return add

def known(f):
    KNOWN.append(f.__name__)
    return f

KNOWN = []
add = adder(2.0)

def never():
    return None

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = nn.Linear(8, 8)
    @pushed
    @scaled(
        by=0.5
    )
    def forward(self, x):
        y = F.relu(self.l(x))
        return x + y

HEAD
        self.blocks = nn.ModuleList([Block(), Block()])
    @property
    @scaled(3.0)
    def gain(self):
        return torch.full((1, 9, 8), 1.5)
    @staticmethod
    @known
    @scaled(0.25)
    def half(x):
        return x * 2.0
    def forward(self, idx):
        x = self.e(idx)
        for block in self.blocks:
            x = block(x)
        x = x + self.half(x) * self.gain
        return self.h(add(x))
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return studied(import_text(tmp_path_factory.mktemp("decorated"), whole(DECORATED)))


@pytest.fixture(scope="module")
def table(study):
    return study.posthoc(layers="each")


def test_a_wrapper_is_cut_and_the_text_of_the_cut_is_what_ran(tmp_path, study, table):
    assert lines_that_run(study) <= set(table["line"])
    everywhere = table[table["layer"] == "all"]
    check(tmp_path, study, everywhere)
    inner = everywhere[everywhere["qualname"].str.endswith((".inner", ".add"))]
    assert (inner["status"] == "changed").sum() >= 8
    assert inner[inner["status"] == "dead"]["code"].tolist() == ["y = y * 0.0"]


def test_in_one_layer_a_wrapper_is_cut_in_that_one_alone(table):
    cuts = table[(table["code"] == "x = x + __by") & (table["operator"] == "drop-term")]
    cuts = cuts[cuts["target"] == "__by"].set_index("layer")
    assert set(cuts.index) == {"all", "0", "1"}
    assert cuts["delta"].nunique() == 3 and (cuts["delta"] != 0).all()


def test_what_only_ran_when_the_file_was_imported_is_not_said_to_be_dead(study, table):
    codes = dict(zip(table["code"], table["status"], strict=True))
    for code in ("return wrap", "return add", "KNOWN.append(f.__name__)", "return f"):
        assert codes[code] == "imported"
    assert codes["return None"] == "dead"
    assert run_on_import(parse(study.sources[0])) == {"scaled", "pushed", "adder", "known"}


def test_after_a_cut_a_wrapper_is_as_it_was(study):
    module_code = {
        name: function.__code__
        for name, function in (("add", add_of(study)), ("inner", forward_of(study)))
    }
    cuts = [cut for cut in study.surgeries if cut.qualname.endswith((".inner", ".add"))]
    study.posthoc(cuts[:4])
    assert add_of(study).__code__ is module_code["add"]
    assert forward_of(study).__code__ is module_code["inner"]


def add_of(study):
    return study.spaces[0]["add"]


def forward_of(study):
    return study.spaces[0]["Block"].forward


FILLED = """
def slope(i):
    s = torch.tensor(2.0) ** (-i - 1)
    s = s * 3.0
    return s

SLOPES = []
for i in range(2):
    SLOPES.append(slope(i))
BY = {}
BY["a"] = slope(3)
GAIN = 2.0
GAIN *= slope(0)

HEAD
    def forward(self, idx):
        x = self.e(idx)
        x = x + F.relu(self.l(x)) * SLOPES[1] * GAIN + slope(1) * BY["a"]
        return self.h(x)
"""


def test_tables_that_are_filled_after_they_are_bound_are_made_anew(tmp_path):
    study = studied(import_text(tmp_path, whole(FILLED)))
    check(tmp_path, study, study.posthoc())
    assert len(study.spaces[0]["SLOPES"]) == 2
