"""Where do texts come from, and which characters are their bytes?

The embedded text, the course's, and files of UTF-8.
"""

import codecs
import hashlib
import os
from pathlib import Path
from pydoc_data.topics import topics

import pooch

from gpt.errors import UsageError

SHAKESPEARE_URL = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
)
SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
BYTE_ORDER_MARK = "\ufeff"
OTHER_ENCODINGS = {  # by how a file begins; UTF-32 before UTF-16, whose marks begin alike
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def decode(data: bytes, source: str) -> str:
    """The characters of a UTF-8 file. Raises ``UsageError`` saying what else it seems to be."""
    advice = "save it as UTF-8 in the program that wrote it, and give that file"
    for mark, encoding in OTHER_ENCODINGS.items():
        if data.startswith(mark):
            raise UsageError(f"the text {source!r} is not UTF-8 but {encoding}: {advice}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"the text {source!r} is not UTF-8: byte {data[error.start]:#04x} at offset "
            f"{error.start} begins no character (in Windows' own encoding, cp1252, it would be "
            f"{data[error.start : error.start + 1].decode('cp1252', 'replace')!r}): {advice}"
        ) from None
    if "\0" in text:
        raise UsageError(
            f"the text {source!r} is no text or not UTF-8: it holds a zero at offset "
            f"{data.index(0)}, as UTF-16 and programs do: {advice}"
        )
    return text


def python_docs() -> bytes:
    """Python's language reference, topic by topic.

    Some topics are also a section of a longer one; they are left out, so that the end of the
    text, on which models are validated, does not repeat what they were trained on.
    """
    titled = {topic.split("\n", 2)[-1].strip(): topic for _, topic in sorted(topics.items())}
    kept = [
        topic for body, topic in titled.items() if not any(body in t for t in titled if t != body)
    ]
    return "\n".join(kept).encode()


def shakespeare() -> bytes:
    """Tiny shakespeare, from ``GPT_TEXT_DIR`` if that is set, else downloaded and kept."""
    folder = os.environ.get("GPT_TEXT_DIR")
    if not folder:
        cache = Path(pooch.os_cache("nanogpt-interp"))
        return download(SHAKESPEARE_URL, SHAKESPEARE_SHA256, cache / "tinyshakespeare.txt")
    for name in ("tinyshakespeare.txt", "input.txt"):
        path = Path(folder, name)
        if path.is_file():
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() != SHAKESPEARE_SHA256:
                raise UsageError(
                    f"checksum mismatch: {str(path)!r} is not tiny shakespeare, whose sha256 is "
                    f"{SHAKESPEARE_SHA256}; give another text as --text FILE"
                )
            return data
    raise UsageError(
        f"GPT_TEXT_DIR is {folder!r}, which holds neither tinyshakespeare.txt nor input.txt"
    )


def download(url: str, sha256: str, path: Path) -> bytes:
    """What ``url`` serves, kept at ``path`` and fetched only if that is missing or damaged."""
    try:
        pooch.retrieve(url, f"sha256:{sha256}", fname=path.name, path=path.parent)
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{url} could not be downloaded to {str(path)!r} ({type(error).__name__}): give a "
            f"local copy as --text FILE, or its folder as GPT_TEXT_DIR"
        ) from error
    except ValueError as error:  # pooch's word for what it downloaded and threw away
        raise UsageError(
            f"checksum mismatch: what {url} serves has not the sha256 {sha256}: give a local "
            f"copy as --text FILE, or its folder as GPT_TEXT_DIR"
        ) from error
