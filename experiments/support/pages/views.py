"""What of a model does a page show that no table of effects holds?

Its source with the hook points of each line, and every head's attention on a stretch of text: saved
while the model is at hand, so that a page can be made later from tables alone.
"""

import hashlib
import inspect
import linecache
from fnmatch import fnmatchcase
from pathlib import Path

import pandas as pd
from torch import Tensor

import gpt.model
from experiments.support.trained import TrainedSubject
from gpt.protocol import LanguageModel
from gpt.text import CharTokenizer
from interp.architecture import architecture
from interp.computing import computing_lines
from interp.heads import PATTERNS, attention_patterns
from interp.runs import Run
from interp.site import Model, source_lines
from interp.surgery import Source, read_source

SHOWN = 64  # characters of the text


def save_views(run: Run, model: LanguageModel, tokenizer: CharTokenizer, tokens: Tensor) -> None:
    """Save the tables ``source``, ``architecture`` and ``patterns`` (of the first tokens)."""
    run.save_table(source_table(model), "source")
    run.save_table(architecture(model), "architecture")
    shown = tokens[: min(SHOWN, model.config.block_size)].to(next(model.parameters()).device)
    run.save_table(attention_patterns(model, shown, tokenizer.names(shown)), "patterns")


def save_subject_views(run: Run, subject: TrainedSubject) -> None:
    """Save of a subject what ``save_views`` saves of our model. Of another's there are the patterns
    alone, where its hook points have them; its source is what ``experiments.lines`` shows."""
    if isinstance(subject.model, LanguageModel) and isinstance(subject.tokenizer, CharTokenizer):
        save_views(run, subject.model, subject.tokenizer, subject.data.val)
    elif any(fnmatchcase(name, PATTERNS) for name in subject.model.hook_dict):
        shown = subject.examples(1)[0][:SHOWN]
        names = subject.tokenizer.names(shown)
        run.save_table(attention_patterns(subject.model, shown, names), "patterns")


def with_computing(table: pd.DataFrame, model: Model) -> pd.DataFrame:
    """A table of sites with a column ``computing``, for figures to name: where the line of a site's
    hook point only gives a value another shape, the lines that made the value, with their code."""
    found, asked = {}, {*table["hook"]}
    for name, line in source_lines(model).items():
        if name not in asked:
            continue
        text = "".join(linecache.getlines(line.path))
        codes, file = text.splitlines(), Path(line.file).name
        makers = computing_lines(text, line.line)
        found[name] = tuple(f"{file}:{number} {codes[number - 1].strip()}" for number in makers)
    named = [found.get(hook, ()) for hook in table["hook"]]
    return table.assign(computing=pd.Series(named, index=table.index, dtype=object))


def source_sha256() -> str:
    """The hash of the source of our own model, as it is now."""
    return hash_source(read_source(gpt.model))


def hash_source(source: Source) -> str:
    return hashlib.sha256(source.text.encode()).hexdigest()


def source_table(model: LanguageModel) -> pd.DataFrame:
    """The model's source, one row per line, with the hook points whose value it computes."""
    # of an edited model linecache alone knows the source, under a name that tells the edit
    path = inspect.unwrap(type(model).forward).__code__.co_filename
    text = "".join(linecache.getlines(path))
    computed: dict[int, list[str]] = {}
    for name, line in source_lines(model).items():
        if line.path == path or Path(line.path) == Path(path).resolve():
            computed.setdefault(line.line, []).append(name)
    return pd.DataFrame(
        {
            "file": Path(path).name.partition(".py:")[0].removesuffix(".py") + ".py",
            "line": number,
            "code": code,
            "sites": tuple(computed.get(number, ())),
        }
        for number, code in enumerate(text.splitlines(), 1)
    )
