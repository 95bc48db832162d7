"""What does a neuron ask of the text, when does it fire, and what does it answer?

A neuron of the feed-forward layer has a row of W_in, the question that it puts to the residual
stream, and a column of W_out, what it adds to the stream when it fires. Read through the embedding,
the question is a list of characters; read through the unembedding, so is the answer; and the texts
that fire it most say whether the reading is true.

    python -m experiments.neurons                                   under a minute, no download
    python -m experiments.neurons --preset lecture --text shakespeare --layer 2
    python -m experiments.neurons --layer 0 --neuron 5 --neuron 17
    python -m experiments.neurons --model smollm2 --layer 20        a pretrained model, on any text

How to read it: in the first layer the question is nearly all about the character itself; deeper,
attention has moved other characters into the stream, and the texts tell more than the embedding.
Of a model that --model names, the tokens are shown at which a neuron is farthest from zero, and
what the loss is with the neuron at its mean; many neurons do little, one by one.
"""

from collections.abc import Hashable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from experiments.support.cli import (
    Seed,
    announce,
    console,
    launch,
    refuse_options,
    run_name,
)
from experiments.support.keeping import kept, model_path, require_same
from experiments.support.model_neurons import (
    activations_of,
    choose_neurons,
    effects_of_neurons,
    require_neurons,
    texts_of_neurons,
)
from experiments.support.named.coding import TextTokens
from experiments.support.named.found import Size
from experiments.support.pages.presenting import present
from experiments.support.record import Experiment, Quoted
from experiments.support.trained import NamedOptions, comes_trained, find_subject
from experiments.support.trainings.rungs import plan_rung, threads_for
from gpt import checkpoint
from gpt.errors import UsageError
from gpt.ladder import RUNGS, Bigram, climb
from gpt.ladder.parts import NormedBlock, ResidualBlock
from gpt.text import CharTokenizer, Data, evaluation_blocks, load_corpus, split
from interp.figures import neuron_effects, neuron_view
from interp.report import Figure, Part, Section
from interp.runs import Run, SavedRun
from interp.site import sites
from interp.verdicts import interval_words, verdict_words

CHOSEN = 4  # neurons, where none is named
READ = 5  # characters of a question, and of each side of an answer
TEXTS = 6
BLOCKS = 2000  # of the validation text
OF_A_RUNG = ("preset", "rung")
OF_A_MODEL = (
    "weights",
    "set",
    "tokenizer",
    "context",
    "examples",
    "device",
    "dtype",
    "trust_remote_code",
)
"""Options that have no effect on the other."""


@dataclass(frozen=True)
class Config(NamedOptions):
    """Neurons of a trained rung of the ladder, or of a model that is named."""

    large_model: ClassVar[tuple[int, int]] = (32, 16)

    preset: Literal["demo", "lecture"] = "demo"
    """How long the rung is trained, as in experiments.ladder. It is kept and used again."""
    rung: Literal["residual", "layer norm"] = "layer norm"
    """Which rung."""
    layer: int = 0
    """The block whose neurons are read."""
    neuron: tuple[int, ...] = ()
    """Neurons; by default the four that move the logits most when they fire, or of a named model
    those that are ever the farthest from zero."""
    seed: Seed = 1337
    """Of weights and batches."""


def main(config: Config) -> Path:
    return neurons_of_model(config) if config.model else neurons_of_rung(config)


def neurons_of_model(config: Config) -> Path:
    """What neurons of a named model fire at, and what the loss is without them."""
    refuse_options(config, OF_A_RUNG, "is for a rung of the ladder, not for --model")
    if comes_trained(config.model, config.weights):
        refuse_options(config, ["seed"], "is for a model that is trained here")
    subject = find_subject(config, partial(check_size, config))
    require_neurons(subject, config.layer)
    tokens, reference = subject.examples(config.examples), subject.reference(config.examples)
    fired = activations_of(subject.model, config.layer, tokens)
    neurons = choose_neurons(fired, config.neuron, CHOSEN)
    settings = {
        "subject": subject.config,
        "examples": len(tokens),
        "layer": config.layer,
        "neurons": neurons,
    }
    name = config.name or run_name(subject.label, f"layer{config.layer}", *config.neuron)
    with Run.open(config.runs, "neurons", name, settings, subject.config["text"]) as run:
        texts = texts_of_neurons(subject, config.layer, neurons, fired, tokens)
        effects = effects_of_neurons(subject, config.layer, neurons, tokens, reference, run)
        tops = texts[texts["top"] & (texts["rank"] == 0)].set_index("site")["character"]
        named: dict[str, Any] = {
            "kind": "mean",
            "character": effects["site"].map(tops),
            "seed": config.seed,
        }
        run.save_table(effects.assign(**named))
        run.save_table(texts, "texts")
        page = present(run, draw)
    console.print(*readings(run), sep="\n", soft_wrap=True, markup=False)
    announce(run.folder)
    return page


def check_size(config: Config, size: Size, _: TextTokens) -> None:
    if size.layers is not None and not 0 <= config.layer < size.layers:
        raise UsageError(f"--layer is {config.layer}; this model has 0 to {size.layers - 1}")


def neurons_of_rung(config: Config) -> Path:
    """What neurons of a rung ask for, fire at and answer."""
    refuse_options(config, OF_A_MODEL, "is for a model that --model names")
    corpus = load_corpus(config.text)
    tokenizer = CharTokenizer.from_text(corpus.text)
    size, recipe = plan_rung(config.rung, config.preset, tokenizer.vocab_size)
    data = split(corpus, tokenizer, size.block_size)
    check_neurons(config, size.n_layer, 4 * size.n_embd)
    settings: dict[str, Any] = {
        "rung": config.rung,
        "size": asdict(size),
        "recipe": asdict(recipe),
        "text": {"name": corpus.name, "sha256": corpus.sha256},
        "seed": config.seed,
        "layer": config.layer,
        "neurons": config.neuron,
    }
    parts = [config.preset, corpus.name, config.rung.replace(" ", "_"), f"layer{config.layer}"]
    name = config.name or run_name(*parts, *config.neuron)
    with Run.open(config.runs, "neurons", name, settings, {"text_sha256": corpus.sha256}) as run:
        model = trained_rung(config, data, tokenizer)
        tokens, _ = evaluation_blocks(data.val, size.block_size, BLOCKS)
        characters, texts = read_neurons(model, config.layer, config.neuron, tokens, tokenizer)
        run.save_table(characters)
        run.save_table(texts, "texts")
        page = present(run, draw)
    console.print(*readings(run), sep="\n", soft_wrap=True, markup=False)
    announce(run.folder)
    return page


def draw(run: Run) -> None:
    """The figure, from the saved tables alone."""
    view = neuron_effects if is_of_model(run) else neuron_view
    run.save_figure(view(run.table(), run.table("texts")), "neurons")


def is_of_model(run: SavedRun) -> bool:
    return "subject" in run.description["config"]


def check_neurons(config: Config, layers: int, neurons: int) -> None:
    if not 0 <= config.layer < layers:
        raise UsageError(f"--layer is {config.layer}; this rung has 0 to {layers - 1}")
    if wrong := [number for number in config.neuron if not 0 <= number < neurons]:
        raise UsageError(f"--neuron is {wrong[0]}; a layer has 0 to {neurons - 1}")


def trained_rung(config: Config, data: Data, tokenizer: CharTokenizer) -> Bigram:
    """The rung after its training: read, if it was trained before."""
    rung = RUNGS[config.rung]
    size, recipe = plan_rung(config.rung, config.preset, tokenizer.vocab_size)
    identity = checkpoint.Identity.of(rung(size), text=data.sha256, seed=config.seed)
    about = {"rung": config.rung, "recipe": asdict(recipe), **asdict(identity)}
    path = model_path(config.runs, "rung", about | {"size": asdict(size)})

    def load(path: Path) -> checkpoint.Checkpoint:
        found = checkpoint.load(path, lambda _: rung(size))
        require_same(path, found.identity, identity)
        return found

    if loaded := kept(path, load):
        assert isinstance(loaded.model, rung)
        return loaded.model
    with console.status("training the rung"), threads_for(size):
        model, _ = climb(
            rung,
            data,
            vocab_size=tokenizer.vocab_size,
            size=size,
            recipe=recipe,
            seed=config.seed,
        )
    checkpoint.save(path, model, identity, tokenizer)
    return model


def read_neurons(
    model: Bigram,
    layer: int,
    wanted: tuple[int, ...],
    tokens: Int[Tensor, "batch pos"],
    tokenizer: CharTokenizer,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The neurons' characters, and the texts that fire them most."""
    hook = f"blocks.{layer}.mlp.hook_post"
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter=hook)
        questions, answers = through_embeddings(model, layer)
    fired = cache[hook]  # [batch pos d_mlp]
    best, where = fired.max(dim=1)  # of each text
    moved = best.max(dim=0).values * (answers.amax(dim=1) - answers.amin(dim=1))
    neurons = wanted or tuple(moved.topk(CHOSEN).indices.tolist())
    (whole,) = sites(model, hook)
    characters, texts = [], []
    for neuron in neurons:
        columns = replace(whole, neuron=neuron).columns() | {"n": fired[..., neuron].numel()}
        columns["fires"] = (fired[..., neuron] > 0).double().mean().item()
        for kind, scores, largest in (
            ("asks", questions[neuron], True),
            ("promotes", answers[neuron], True),
            ("suppresses", answers[neuron], False),
        ):
            top = scores.topk(READ, largest=largest)
            for value, token in zip(top.values.tolist(), top.indices.tolist(), strict=True):
                character = tokenizer.characters[token]
                characters.append({**columns, "kind": kind, "character": character, "value": value})
        for rank, row in enumerate(best[:, neuron].topk(TEXTS).indices.tolist()):
            text = tokenizer.decode(tokens[row])
            for pos, character in enumerate(text):
                texts.append(
                    {
                        "site": columns["site"],
                        "rank": rank,
                        "pos": pos,
                        "character": character,
                        "activation": fired[row, pos, neuron].item(),
                        "top": pos == int(where[row, neuron]),
                    }
                )
    return pd.DataFrame(characters), pd.DataFrame(texts)


def through_embeddings(
    model: Bigram, layer: int
) -> tuple[Float[Tensor, "d_mlp vocab"], Float[Tensor, "d_mlp vocab"]]:
    """Each neuron's question to every character's embedding, and its answer to every logit.

    The question is W_in's row on the token embedding; the answer is W_out's column through the
    unembedding. A norm's learned scale and its centring belong to the direction; its division by
    the size of the stream, which differs from text to text, is left out.
    """
    block = cast(ResidualBlock | NormedBlock, model.blocks[layer])
    embeddings, outputs = model.W_E, block.mlp.W_out
    if isinstance(block, NormedBlock):
        embeddings = (embeddings - embeddings.mean(dim=-1, keepdim=True)) * block.ln2.weight
        outputs = (outputs - outputs.mean(dim=-1, keepdim=True)) * model.ln_final.weight
    return (embeddings @ block.mlp.W_in).T, outputs @ model.W_U


def parts(run: SavedRun) -> list[Part]:
    """What the page shows, from saved tables and figures alone."""
    if is_of_model(run):
        effects = run.table()
        shown = ["site", "baseline", "value", "delta", "ci_low", "ci_high", "p_adjusted", "n"]
        caption = (
            "The tokens around those at which a neuron is farthest from zero, dark where it is; "
            "the number is its activation there. Above, the change in loss with it at its mean."
        )
        return [
            Section(
                "What fires them, and what the loss says without them",
                text="\n\n".join(readings(run)),
                figures=[Figure.saved(caption, run.figure("neurons"))],
                table=effects[[*shown, "file", "line", "code"]],
            )
        ]
    characters = run.table()
    caption = (
        "Left: the characters whose embedding a neuron asks for. Middle: the texts that fire it "
        "most, dark where it is active, with its highest activation. Right: the logits that it "
        "raises and lowers."
    )
    section = Section(
        "Questions and answers",
        text="\n\n".join(readings(run)),
        figures=[Figure.saved(caption, run.figure("neurons"))],
        table=characters[["site", "fires", "n", "kind", "character", "value"]].assign(
            character=characters["character"].map(repr)
        ),
    )
    return [section]


def readings(run: SavedRun) -> list[str]:
    """One plain sentence on each neuron."""
    characters, texts = run.table(), run.table("texts")
    if is_of_model(run):
        return [neuron_reading(row, texts) for row in characters.to_dict("records")]
    said = []
    for site, rows in characters.groupby("site", sort=False):
        by_kind = {
            str(kind): " ".join(map(repr, part["character"].head(3)))
            for kind, part in rows.groupby("kind")
        }
        at = texts[(texts["site"] == site) & texts["top"]]["character"]
        said.append(
            f"{site} is active on {rows['fires'].iloc[0]:.1%} of characters. It asks for "
            f"{by_kind['asks']}, fires most at {' '.join(map(repr, dict.fromkeys(at)))}, and then "
            f"promotes {by_kind['promotes']} and suppresses {by_kind['suppresses']}."
        )
    return said


def neuron_reading(row: dict[Hashable, Any], texts: pd.DataFrame) -> str:
    """A sentence on a neuron of a named model."""
    tops = texts[(texts["site"] == row["site"]) & texts["top"]]
    at = ", ".join(map(repr, dict.fromkeys(tops["character"])))
    reached = tops["activation"].iloc[0]
    return (
        f"{row['site']} is farthest from zero at {at}, where it reaches {reached:+.2f}; at its "
        f"mean the loss changes by {row['delta']:+.4f} nats ({interval_words(row)}): "
        f"{verdict_words(row)}."
    )


EXPERIMENT = Experiment(
    name="neurons",
    title="Neurons",
    main=main,
    config=Config,
    parts=parts,
    quoted=Quoted("results", ("site", "kind", "character")),
    readings=readings,
    rank=8,
)

if __name__ == "__main__":
    launch(main, Config)
