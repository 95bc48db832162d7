"""What is shown is what ran: the text of a cut, put into a file, is the number in the table."""

import re
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from interp import surgery
from interp.surgery.source.syntax import parse
from tests.interp.surgery.shown_files import FILES, HEAD
from tests.interp.surgery.written_files import import_cut, import_text

# models without a mask are fine here
pytestmark = pytest.mark.filterwarnings("ignore:The model as it is sees the future")
TOKENS = torch.randint(11, (5, 9), generator=torch.Generator().manual_seed(3))
TARGETS = torch.randint(11, (5, 9), generator=torch.Generator().manual_seed(4))


@torch.no_grad()
def judge(model):
    logits = model.eval()(TOKENS)
    return F.cross_entropy(logits.double().transpose(1, 2), TARGETS, reduction="none").mean(1)


def studied(module, build=None):
    def plain(seed):
        torch.manual_seed(seed)
        return module.M()

    return surgery.study(
        build=build or plain,
        judge=judge,
        files=[module],
        reference=lambda model: model.eval()(TARGETS),
        workers=0,
    )


def by_hand(folder, cut, weights):
    """What the judge says of the model built from the cut's text, with the same weights."""
    torch.manual_seed(0)
    model = import_cut(folder, cut.text).M()
    fits = model.load_state_dict(weights, strict=False)  # a cut model may have fewer weights
    assert not fits.missing_keys
    return float(judge(model).mean())


def train_by_hand(folder, cut):
    """A step of training the model built from the cut's text."""
    model = import_cut(folder, cut.text).M().train()
    logits = model(TOKENS)
    F.cross_entropy(logits[:, :-1].flatten(0, 1), TOKENS[:, 1:].flatten()).backward()


def check(folder, study, table):
    """Every row of a table against its own text; returns how many numbers were compared."""
    cuts = {cut.id: cut for cut in study.surgeries}
    weights = study.model.state_dict()
    compared = 0
    for row in table.to_dict("records"):
        cut = cuts.get(row["id"])
        for name in ("SyntaxError", "IndentationError", "surgery_"):
            assert name not in str(row["detail"]), (row["id"], row["detail"])
        if cut is None or row["operator"] == "mean":
            continue
        if row["status"] == "error":
            with pytest.raises(Exception):  # noqa: B017
                by_hand(folder, cut, weights)
                train_by_hand(folder, cut)
        elif row["status"] in ("changed", "leak", "equivalent"):
            found = by_hand(folder, cut, weights)
            assert found == pytest.approx(row["value"], abs=1e-6), (row["id"], row["after"])
            compared += 1
        elif row["status"] == "nonfinite":
            assert not np.isfinite(by_hand(folder, cut, weights))
    assert compared
    return compared


def whole(text):
    before, _, rest = text.partition("HEAD\n")
    future = "from __future__" in before
    if future:
        return before.strip() + "\n" + HEAD + rest
    imports, _, model = HEAD.partition("class M")
    return imports + before + "class M" + model + rest


@pytest.mark.parametrize("name", FILES)
def test_the_text_of_a_cut_is_what_ran_and_no_line_that_ran_lacks_a_row(tmp_path, name):
    study = studied(import_text(tmp_path, whole(FILES[name])))
    table = study.posthoc()
    assert lines_that_run(study) <= set(table["line"])
    check(tmp_path, study, table)


ENDS = {
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "CR": lambda text: text.replace("\n", "\r").encode(),
    "tabs": lambda text: text.replace("    ", "\t").encode(),
    "a byte order mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "Latin-1": lambda text: ("# coding: latin-1\n" + text).encode("latin-1"),
}


@pytest.mark.parametrize("kind", ENDS)
def test_line_ends_and_encodings_change_nothing(tmp_path, kind):
    text = whole(FILES["operands over several lines"]).replace("the skip", "the ski\xfc")
    study = studied(import_text(tmp_path, ENDS[kind](text)))
    table = study.posthoc(layers=None)
    assert lines_that_run(study) <= set(table["line"])
    check(tmp_path, study, table)
    plain = studied(import_text(tmp_path, text)).posthoc()
    assert without_names(table["after"]) == without_names(plain["after"])
    assert table["value"].dropna().tolist() == plain["value"].dropna().tolist()


def without_names(codes):
    """Edited code without the place that a mean is named by, which a file's name is a part of."""
    return [re.sub('"written_.*?"', "", code) for code in codes.dropna()]


def lines_that_run(study):
    """The first line of every statement of a function that runs when the model is built and
    judged, found by Python's own tracing."""
    syntax = parse(study.sources[0])
    path = str(study.sources[0].path)
    ran = set()

    def trace(frame, event, arg):
        if frame.f_code.co_filename != path or frame.f_code.co_name == "Kept":
            return None
        if event == "line":
            ran.add(frame.f_lineno)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        judge(study.build(0))
    finally:
        sys.settrace(before)
    owner = {}
    for node in sorted(syntax.statements, key=lambda node: node.lineno):
        stop = syntax.header_stop(node)
        last = node.lineno + syntax.data[syntax.start(node) : stop].count(b"\n")
        for line in range(node.lineno, last + 1):
            owner.setdefault(line, node.lineno)
    assert len(ran) > 3
    return {owner[line] for line in ran if line in owner}
