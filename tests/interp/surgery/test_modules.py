import inspect
import linecache
import traceback

import pytest
import torch

from gpt import model as model_file
from interp import surgery
from interp.errors import SurgeryError

SOURCE = surgery.read_source(model_file)
TOKENS = torch.randint(0, 65, (2, 24), generator=torch.Generator().manual_seed(0))
NO_SKIP = surgery.combine(surgery.find_all(SOURCE, "cut-skip", qualname="Block.forward"))
NO_POSITION = surgery.find(SOURCE, "drop-term", qualname="GPT.embed", target="pos_emb")
NO_NORM = surgery.combine(
    [
        surgery.find(SOURCE, "bypass-call", qualname="Block.forward", target=norm)
        for norm in ("ln1", "ln2")
    ]
)
ONE_HEAD = surgery.find(SOURCE, "pin-attribute", target="n_head")


def built(cut, seed=3):
    """A model of edited source, with the weights of the uncut one wherever shapes agree."""
    module = surgery.edited_module(SOURCE, cut)
    config = module.GPTConfig(n_layer=2, n_head=2, n_embd=32, block_size=24)
    torch.manual_seed(seed)
    model = module.GPT(config, seed=seed)
    for parameter in model.parameters():  # far from the initial ones, so that every part matters
        parameter.data += 0.1 * torch.randn(parameter.shape)
    return model


def zero(activation, hook):
    return torch.zeros_like(activation)


def test_no_position_embedding_by_hook_is_no_position_embedding_by_source():
    model = built(None)
    hooked = model.run_with_hooks(TOKENS, fwd_hooks=[("hook_pos_embed", zero)])
    assert not torch.allclose(hooked, model(TOKENS), atol=1e-2)
    torch.testing.assert_close(hooked, built(NO_POSITION)(TOKENS), atol=1e-6, rtol=0)


def test_no_skip_by_hook_is_no_skip_by_source():
    model = built(None)

    def keep(activation, hook):
        kept[hook.name] = activation

    def without_skip(activation, hook):
        return kept[hook.name.replace("resid_mid", "attn_out").replace("resid_post", "mlp_out")]

    kept: dict = {}
    fwd_hooks = [(f"blocks.{layer}.hook_{out}_out", keep) for layer in (0, 1) for out in OUTS]
    fwd_hooks += [
        (f"blocks.{layer}.hook_resid_{end}", without_skip)
        for layer in (0, 1)
        for end in ("mid", "post")
    ]
    hooked = model.run_with_hooks(TOKENS, fwd_hooks=fwd_hooks)
    assert not torch.allclose(hooked, model(TOKENS), atol=1e-2)
    torch.testing.assert_close(hooked, built(NO_SKIP)(TOKENS), atol=1e-6, rtol=0)


OUTS = ("attn", "mlp")


@pytest.mark.parametrize("cut", [None, NO_SKIP, NO_NORM, NO_POSITION, ONE_HEAD], ids=str)
def test_a_model_of_edited_source_trains(cut):
    model = built(cut)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(8):
        loss = model(TOKENS, return_type="loss")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_without_a_cut_the_module_is_the_file():
    model = model_file.GPT(model_file.GPTConfig(n_layer=2, n_head=2, n_embd=32, block_size=24), 3)
    uncut = built(None)
    uncut.load_state_dict(model.state_dict())
    assert torch.equal(uncut(TOKENS), model(TOKENS))


def test_one_head_has_one_head():
    _, cache = built(ONE_HEAD).run_with_cache(TOKENS)
    assert cache["blocks.0.attn.hook_pattern"].shape == (2, 1, 24, 24)


@pytest.mark.parametrize("cut", [NO_SKIP, NO_POSITION], ids=str)
def test_linecache_knows_the_edited_text(cut):
    model = built(cut)
    filename = inspect.unwrap(type(model).forward).__code__.co_filename
    assert "".join(linecache.getlines(filename)) == cut.text
    linecache.checkcache()
    assert "".join(linecache.getlines(filename)) == cut.text


def test_the_uncut_modules_text_is_the_files():
    filename = inspect.unwrap(type(built(None)).forward).__code__.co_filename
    assert "".join(linecache.getlines(filename)) == SOURCE.text


def test_inspect_shows_the_mutant():
    source = inspect.getsource(type(built(NO_SKIP).blocks[0]))
    assert "x = attn_out\n" in source
    assert "x = x + attn_out" not in source


def test_a_traceback_shows_the_mutant_on_the_line_of_the_file():
    cut = surgery.find(SOURCE, "bypass-call", qualname="GPT.embed", target="wte")
    with pytest.raises(Exception) as caught:
        built(cut)(TOKENS)
    shown = "".join(traceback.format_exception(caught.value))
    assert "tok_emb = tokens\n" not in SOURCE.text
    frames = [f for f in traceback.extract_tb(caught.value.__traceback__) if cut.file in f.filename]
    for frame in frames:
        assert frame.line == cut.text.splitlines()[frame.lineno - 1].strip()
    assert f"model.py:{cut.line}:bypass-call" in shown


def test_two_mutants_do_not_see_each_other():
    one, two = built(NO_POSITION), built(ONE_HEAD)
    assert type(one) is not type(two)
    assert type(one).__module__ != type(two).__module__
    assert not torch.allclose(one(TOKENS), two(TOKENS), atol=1e-3)


def test_a_module_cannot_be_cut_in_some_layers_only():
    with pytest.raises(SurgeryError, match="in some layers only"):
        surgery.edited_module(SOURCE, surgery.at_layers(NO_SKIP, [1]))


def test_source_that_fails_on_import_says_why(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("import nothing_of_this_name\n")
    with pytest.raises(SurgeryError, match=r"broken.py cannot be imported: ModuleNotFoundError"):
        surgery.edited_module(surgery.read_source(path))


def test_a_script_without_package_is_a_module_too(tmp_path):
    path = tmp_path / "script.py"
    path.write_text("def f(a, b):\n    return a + b\n\nif __name__ == '__main__':\n    1 / 0\n")
    source = surgery.read_source(path)
    cut = surgery.find(source, "drop-term", target="b")
    assert surgery.edited_module(source, cut).f(2, 5) == 2
