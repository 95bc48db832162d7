"""How much memory and time does a pile take that is larger than memory?

    python -m benchmarks.curation [--megabytes 200] [--workers 2]
    python -m benchmarks.curation --megabytes 2000        the pile of two gigabytes

Documents are made on the fly and never stand in memory together: sentences of random words, of
which one in twenty is a copy, one in twenty nearly one, one in ten holds somebody's address. The
whole default pipeline runs on them. Peak memory is that of the process that runs it and of all its
workers together, looked at several times a second: what they share counts once (Linux's
proportional set size). What is left is counted against what was planted, and the benchmark stops
where it differs.
"""

import argparse
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pyarrow.parquet as pq

from experiments.support.trainings.executors import Processes
from interp.curation import Document, Pipeline, make_document, run_pipeline

SENTENCES = 40  # of a document, some 4 KB
MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2, help="1 works in this process alone")
    arguments = parser.parse_args()
    wanted = arguments.megabytes * 1_000_000
    began = held()
    print(f"memory before anything is read: {began / MIB:,.0f} MiB")
    with tempfile.TemporaryDirectory() as folder, highest() as peak:
        elsewhere = Processes(arguments.workers) if arguments.workers > 1 else None
        planted: dict[str, int] = {}
        started = time.perf_counter()
        curated = run_pipeline(
            Pipeline.default().with_options("language", keep=[]),  # the words are of none
            documents(wanted, planted),
            Path(folder) / "text",
            elsewhere=elsewhere,
        )
        seconds = time.perf_counter() - started
        kept = pq.read_metadata(curated.folder / "documents.parquet").num_rows
    print(f"{wanted / 1e6:,.0f} MB, {planted['documents']:,} documents, {kept:,} kept")
    print(f"{seconds:,.0f} s, {wanted / 1e6 / seconds:.2f} MB/s, {arguments.workers} workers")
    more = max(peak) - began
    print(f"peak memory: {max(peak) / MIB:,.0f} MiB, {more / MIB:,.0f} more than before")
    if kept != planted["originals"]:
        raise SystemExit(f"{planted['originals']:,} documents are no copy, but {kept:,} were kept")


def documents(size: int, planted: dict[str, int]) -> Iterator[Document]:
    """Documents of so many characters in all, and in ``planted`` how many there are."""
    rng = random.Random(0)
    words = ["".join(rng.choices("etaoinshrdlucmfw", k=rng.randint(3, 9))) for _ in range(20_000)]
    words += ["the", "of", "and", "to", "in", "is", "that", "was", "it", "for"] * 800
    last, made, number = "", 0, 0
    planted |= {"documents": 0, "originals": 0}
    while made < size:
        drawn = rng.random()
        if not last or drawn > 0.1:
            lines = [" ".join(rng.choices(words, k=14)) + "." for _ in range(SENTENCES)]
            if drawn > 0.9:
                lines.append(f"Write to {rng.choice(words)}{number}@mail.example.org about it.")
            last = "\n".join(lines)
            planted["originals"] += 1
        text = last if not 0.05 < drawn <= 0.1 else last + f"\nLine {number} is new."
        yield make_document(f"{number:08}.txt", text)
        made, number = made + len(text), number + 1
    planted["documents"] = number


@contextmanager
def highest() -> Iterator[list[int]]:
    """What this process and its workers hold, in bytes, several times a second."""
    seen, over = [held()], threading.Event()

    def look() -> None:
        while not over.wait(0.3):
            seen.append(held())

    watching = threading.Thread(target=look, daemon=True)
    watching.start()
    try:
        yield seen
    finally:
        over.set()
        watching.join()


def held() -> int:
    """What this process and its workers hold now, in bytes; what they share counts once."""
    total, mine = 0, psutil.Process()
    for process in (mine, *mine.children(recursive=True)):
        try:
            total += process.memory_full_info().pss
        except psutil.Error:  # it has just ended
            continue
    return total


if __name__ == "__main__":
    main()
