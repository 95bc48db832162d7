"""Configs as people write them, and what is asked for where nothing can tell."""

import sys
from types import ModuleType

import pytest

from experiments.support.models.configs import arguments
from experiments.support.models.sizes import sizes_of
from gpt import GPTConfig
from gpt.errors import UsageError
from gpt.train import Preset, TrainConfig

PRESET = Preset(
    GPTConfig(vocab_size=31, block_size=16, n_layer=2, n_head=4, n_embd=32), TrainConfig()
)
HEAD = "from __future__ import annotations\nimport torch\nfrom torch import nn\n"
HEAD += "from dataclasses import dataclass\nfrom types import SimpleNamespace\n"

BUILT = """
class GPT(nn.Module):
    def __init__(self, {parameter}):
        super().__init__()
        self.e = nn.Embedding({vocab}, {width})
"""


@pytest.fixture
def module(tmp_path):
    made = []

    def write(text):
        path = tmp_path / f"configs_{len(made)}.py"
        path.write_text(HEAD + text)
        found = ModuleType(path.stem)
        found.__file__ = str(path)
        sys.modules[path.stem] = found
        made.append(path.stem)
        exec(compile(path.read_text(), str(path), "exec"), vars(found))
        return found

    yield write
    for name in made:
        del sys.modules[name]


def gpt(parameter, vocab, width):
    return BUILT.format(parameter=parameter, vocab=vocab, width=width)


READS = gpt("config", "config.vocab_size", "config.n_embd")
DATACLASSES = "@dataclass\nclass Train:\n    lr: float = 1e-3\n@dataclass\nclass Shape:\n"
DATACLASSES += "    vocab_size: int = 5\n    n_embd: int = 768\n"


@pytest.mark.parametrize(
    "text",
    [
        DATACLASSES + READS,
        DATACLASSES + gpt("params: Shape", "params.vocab_size", "params.n_embd"),
        DATACLASSES + gpt("cfg: Shape | None = None", "cfg.vocab_size", "cfg.n_embd"),
        "class Config:\n    vocab_size = 65\n    n_embd = 768\n" + READS,
        "class Config:\n    def __init__(self):\n"
        "        self.vocab_size = 65\n        self.n_embd = 768\n"
        + READS,
        "config = SimpleNamespace(vocab_size=65, n_embd=768, other=1)\n" + READS,
        READS,
        gpt("cfg", "cfg['vocab_size']", "cfg['emb_dim']"),
        "def main():\n    C = {'vocab_size': 50257, 'emb_dim': 768, 'bias': False}\n"
        + gpt("cfg", "cfg['vocab_size']", "cfg['emb_dim']"),
        gpt("args", "args.vocab_size", "args.dim"),
        gpt("vocab_size, d_model", "vocab_size", "d_model"),
        gpt("ntoken: int, ninp: int = 200", "ntoken", "ninp"),
        READS + "    @staticmethod\n    def get_default_config():\n"
        "        return SimpleNamespace(vocab_size=None, n_embd=None, drop=0.1)\n",
    ],
)  # fmt: skip
def test_a_config_is_made_small(module, text):
    found = module(text)
    built = found.GPT(**arguments(found.GPT, found, PRESET))
    assert built.e.weight.shape == (31, 32)


def test_set_goes_before_all_else(module):
    found = module(DATACLASSES + "    n_kv_head: int = 6\n" + READS)
    sizes = sizes_of(PRESET, {"n_embd": 8, "n_kv_head": 1})
    config = arguments(found.GPT, found, sizes)["config"]
    assert (config.n_embd, config.n_kv_head, config.vocab_size) == (8, 1, 31)


def test_key_value_heads_keep_their_ratio_to_heads(module):
    fields = "    n_head: int = 32\n    n_kv_head: int = 8\n    head_dim: int = 128\n"
    found = module(DATACLASSES + fields + READS)
    config = arguments(found.GPT, found, PRESET)["config"]
    assert (config.n_head, config.n_kv_head, config.head_dim) == (4, 1, 8)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (gpt("rnn_type, ntoken", "ntoken", "4"), "--set rnn_type=VALUE"),
        (gpt("config", "config.vocab_size", "config.twist"), "--set twist=VALUE"),
        (gpt("cfg", "cfg['vocab_size']", "cfg['twist']"), "--set twist=VALUE"),
        (gpt("config", "3", "4"), "--build build.py:make"),
    ],
)
def test_what_nothing_can_tell_is_asked_for_with_an_example(module, text, told):
    found = module(text)
    with pytest.raises(UsageError, match="GPT") as error:
        arguments(found.GPT, found, PRESET)
    assert told in str(error.value)


def test_a_setting_that_nothing_asks_for_is_no_silent_no_op():
    sizes = sizes_of(PRESET, {"n_kv_haed": 2})
    sizes.left["n_kv_head"] = 6
    with pytest.raises(UsageError, match="nearest: n_kv_head"):
        sizes.require_used(set())


def test_token_ids_and_experts_of_modelling_files_fit_the_small_model(module):
    fields = "    pad_token_id: int = 50256\n    bos_token_id: int = 1\n    num_experts: int = 64\n"
    fields += "    num_experts_per_tok: int = 8\n    head_dim: int | None = None\n"
    found = module(DATACLASSES + fields + READS)
    config = arguments(found.GPT, found, PRESET)["config"]
    assert (config.pad_token_id, config.bos_token_id) == (0, 1)
    assert (config.num_experts, config.num_experts_per_tok, config.head_dim) == (8, 2, None)
