"""A small curated text of known words, and a small model that was trained on it."""

from pathlib import Path
from typing import Any

import torch

from experiments.support.trained import TrainedSubject
from gpt import GPT, GPTConfig
from gpt.text import CharTokenizer, load_corpus, split
from interp.curation import Curated, Pipeline, make_document, run_pipeline
from interp.curation.documents import MARKDOWN, TEXT

SENTENCE = "he says that she reads what he writes, and she writes what he reads; "


def curate_pages(folder: Path) -> Curated:
    """Documents of two kinds, in which he and she stand often, and it twice."""
    pages = [
        make_document(
            f"pages/{number}.{'md' if number % 2 else 'txt'}",
            f"Page {number} of many: {SENTENCE * (3 + number % 5)}(page {number}, é)\n",
            MARKDOWN if number % 2 else TEXT,
        )
        for number in range(40)
    ]
    letter = "Write to jane.roe@example.org or ring the bell twice. " * 4
    pages.append(make_document("letter.txt", f"{letter} it was it.\n"))
    wanted = ("normalise", "exact_duplicates", "private", "licences", "split")
    pipeline = Pipeline.default()
    pipeline = pipeline.without(*(name for name in pipeline.names if name not in wanted))
    return run_pipeline(pipeline.with_options("split", by="document"), pages, folder)


def read_subject(curated: Curated, seed: int = 0) -> TrainedSubject:
    """An untrained model on a curated text."""
    corpus = load_corpus(str(curated.folder))
    tokenizer = CharTokenizer.from_text(corpus.text)
    sizes: dict[str, Any] = {"block_size": 48, "n_layer": 2, "n_head": 2, "n_embd": 16}
    torch.manual_seed(seed)
    model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, **sizes), seed=seed).eval()
    data = split(corpus, tokenizer, 48)
    config = {"device": "cpu"}
    return TrainedSubject(
        inner=model,
        tokenizer=tokenizer,
        data=data,
        context=48,
        config=config,
        label="small",
    )
