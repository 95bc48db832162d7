from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from io import BytesIO

import pytest
import torch
from matplotlib.backends import _backend_pdf_ps
from matplotlib.backends._backend_pdf_ps import SubsetResults
from matplotlib.font_manager import FontPath
from tokenizers import Tokenizer, models
from transformer_lens.model_bridge import TransformerBridge
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

# The models of the tests are so small that a second thread costs more than it brings.
torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def fonts_are_cut_once() -> Iterator[None]:
    """A font is cut down to the same glyphs once: of all that saving a figure takes, this takes
    longest, and many tests draw the same figures again."""
    known: dict[Hashable, SubsetResults] = {}
    cut, written = _backend_pdf_ps.get_glyphs_subset, _backend_pdf_ps.font_as_file

    def cut_once(font: FontPath, glyphs: Iterable[int]) -> AbstractContextManager[SubsetResults]:
        key = font, font.face_index, frozenset(glyphs)
        if key not in known:
            with cut(font, glyphs) as made:
                content = written(made.font).getvalue()
            known[key] = SubsetResults(content, made.glyph_index_map)
        return nullcontext(known[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_backend_pdf_ps, "get_glyphs_subset", cut_once)
        patch.setattr(_backend_pdf_ps, "font_as_file", BytesIO)
        yield


@pytest.fixture
def bridge_over() -> Callable[[GPT2LMHeadModel], TransformerBridge]:
    """TransformerLens' bridge over a Hugging Face GPT-2, whose tokens are numbers."""

    def wrap(gpt2: GPT2LMHeadModel) -> TransformerBridge:
        numbers = {str(i): i for i in range(gpt2.config.vocab_size)}
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer(models.WordLevel(numbers, unk_token="0")),
            **dict.fromkeys(("unk_token", "bos_token", "eos_token", "pad_token"), "0"),
            name_or_path="none",  # without a tokenizer that prepends, the bridge asks a hub for one
            add_bos_token=True,
        )
        return TransformerBridge.boot_transformers("gpt2", hf_model=gpt2, tokenizer=tokenizer)

    return wrap
