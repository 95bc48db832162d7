"""What a cut model answers is what the same cut answers by hand, kept and asked once."""

import torch

from gpt import model as model_file
from interp import surgery
from interp.runs import Run
from interp.status import Status
from interp.surgery.studying.asking import ask_all
from tests.interp.surgery.small_gpt import TOKENS, build, judge, train


@torch.no_grad()
def total(model):
    return [float(model(TOKENS[:2]).sum())]


def test_a_cut_is_asked_and_the_answer_kept(tmp_path):
    model = build(0)
    train(model, 0)
    with Run.open(tmp_path, "lines", "some", {}, {}) as run:
        study = surgery.study(
            build=build, judge=judge, files=[model_file], model=model, train=train, store=run
        )
        skip = surgery.find(study.sources[0], "cut-skip", code="attn_out")
        built = surgery.find(study.sources[0], "pin-attribute", target="n_head")
        cuts = [None, skip, built]
        rows = ask_all(study, cuts, total, {"what": "sum"})
        assert [row["status"] for row in rows] == [Status.CHANGED] * 3
        whole, skipped, single = (row["answer"] for row in rows)
        assert whole == total(model)
        with surgery.perform(skip, model):
            assert skipped == total(model)
        edited = surgery.edited_module(study.sources[0], built)
        other = edited.GPT(edited.GPTConfig(**model.config.__dict__)).eval()
        other.load_state_dict(model.state_dict())
        assert abs(single[0] - total(other)[0]) < 1e-3
        assert len({whole[0], skipped[0], single[0]}) == 3

        def fails(model):
            raise AssertionError("it was asked again")

        assert ask_all(study, cuts, fails, {"what": "sum"}) == rows
        failed = ask_all(study, cuts[:2], fails, {"what": "another"})
        assert all(row["status"] == Status.ERROR for row in failed)
        assert "asked" in failed[0]["detail"]
