"""Which causal language models of the installed transformers can be studied, line by line?

Each is built small from its modelling file, asked, trained for a step, and two of its lines are cut
on it. Prints a table; each in a process of its own.

    python benchmarks/transformers_models.py                 all, about 10 s each
    python benchmarks/transformers_models.py llama gpt2 --cuts 0
"""

import argparse
import importlib
import logging
import multiprocessing
import queue
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from experiments.support.subjects import choose_class
from experiments.support.trainings.line_trainings import judges
from gpt import GPTConfig
from gpt.errors import UsageError
from gpt.text import CharTokenizer, load_corpus, split
from gpt.train import Preset, TrainConfig
from interp import surgery
from interp.errors import UsageError as StudyError

SMALL = Preset(
    GPTConfig(vocab_size=128, block_size=32, n_layer=2, n_head=4, n_embd=64),
    TrainConfig(steps=1, batch_size=4),
)


def classes() -> dict[str, str]:
    """Each causal language model as FILE:Class, by its class's name."""
    auto = importlib.import_module("transformers.models.auto.modeling_auto")
    home = importlib.import_module("transformers")
    found = {}
    for name in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values():
        module = getattr(home, name).__module__ if hasattr(home, name) else ""
        file = importlib.import_module(module).__file__ if module else ""
        found[name] = f"{file}:{name}"
    return found


def study_one(model: str, cuts: int) -> dict[str, Any]:
    """What became of one model."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    corpus = load_corpus("python-docs")
    tokenizer = CharTokenizer.from_text(corpus.text)
    data = split(corpus, tokenizer, SMALL.model.block_size)
    began = time.perf_counter()
    became: list[str] = []
    try:
        with tempfile.TemporaryDirectory() as runs:
            subject = choose_class(model, data, SMALL, 0, Path(runs))
        lines = 0
        if cuts:
            judge, reference = judges(data, SMALL.model.block_size, texts=4)
            study = surgery.study(
                build=subject.build,
                judge=judge,
                files=subject.modules,
                model=subject.build(0).eval(),
                reference=reference,
                workers=0,
            )
            ids = [cut.id for cut in study.surgeries]
            lines = len({cut.line for cut in study.surgeries})
            table = study.posthoc(ids[len(ids) // 2 :][:cuts])
            became = [f"cut: {row['status']} {row['detail']}" for _, row in table.iterrows()]
        said, works = "; ".join([*map(str.strip, became), *subject.notes]), True
    except (UsageError, StudyError) as error:
        said, works, lines = str(error), False, 0
    except Exception as error:  # ours to mend
        said, works, lines = f"NOT REFUSED: {type(error).__name__}: {error}", False, 0
    return {
        "works": works,
        "lines": lines,
        "seconds": time.perf_counter() - began,
        "said": said.replace(model, model.rpartition(":")[2]),
    }


def run_apart(model: str, cuts: int, limit_s: float) -> dict[str, Any]:
    """The same in a process of its own, which may die or take too long."""
    context = multiprocessing.get_context("fork")
    answers: Any = context.Queue()
    process = context.Process(target=lambda: answers.put(study_one(model, cuts)))
    process.start()
    try:
        row: dict[str, Any] = answers.get(timeout=limit_s)
    except queue.Empty:
        row = {"works": False, "lines": 0, "seconds": limit_s, "said": "no answer in time"}
    process.kill()
    process.join()
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of class names; all by default")
    parser.add_argument("--cuts", type=int, default=2, help="lines to cut of each")
    parser.add_argument("--limit-s", type=float, default=120.0, help="seconds for each")
    asked = parser.parse_args()
    known = classes()
    chosen = [
        n for n in known if not asked.names or any(a.lower() in n.lower() for a in asked.names)
    ]
    works = 0
    for name in chosen:
        row = run_apart(known[name], asked.cuts, asked.limit_s)
        works += row["works"]
        word = "works" if row["works"] else "refused"
        print(
            f"{name} | {word} | {row['lines']} | {row['seconds']:.1f} s | {row['said']}", flush=True
        )
    print(f"{works} of {len(chosen)} work")


if __name__ == "__main__":
    main()
