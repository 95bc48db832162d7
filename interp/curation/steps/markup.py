"""The text of a page without what is round it."""

import re
from collections.abc import Iterable, Iterator

import trafilatura
from markdown_it import MarkdownIt
from markdown_it.token import Token

from interp.curation.documents import HTML, MARKDOWN, Document, Tally

PARSER = MarkdownIt("commonmark").enable("table")


def strip_markup(
    documents: Iterable[Document],
    *,
    tables: bool = True,
    comments: bool = False,
    longest_page: int = 10_000_000,
) -> Iterator[Document]:
    """Take the text out of HTML, without menus, headers and footers, and out of Markdown, without
    its signs and the addresses of its links.

    HTML by trafilatura (Barbaresi 2021, ACL demo 15); a page in which it finds no text is dropped.

    Args:
        tables: keep the text of HTML tables.
        comments: keep what readers wrote below an HTML page.
        longest_page: characters of HTML; to read a page takes some thirty times its size in memory,
            and a longer one is dropped.
    """
    for document in documents:
        if document.kind == HTML and len(document.text) > longest_page:
            yield document.drop(
                f"is a web page of {len(document.text)} characters, more than {longest_page}"
            )
        elif document.kind == HTML:
            text = trafilatura.extract(
                document.text, include_tables=tables, include_comments=comments
            )
            if not text:
                yield document.drop("a web page without text of its own")
                continue
            yield document.with_text(text, Tally("page of HTML", text != document.text))
        elif document.kind == MARKDOWN:
            text = text_of_markdown(document.text)
            yield document.with_text(text, Tally("page of Markdown", text != document.text))
        else:
            yield document


def text_of_markdown(markdown: str) -> str:
    """What a reader of the rendered page would read, a blank line between paragraphs."""
    parts: list[str] = []
    for token in PARSER.parse(markdown):
        if token.type == "inline":
            parts.append(text_of_inline(token))
        elif token.type in ("fence", "code_block"):
            parts.append(token.content.rstrip("\n"))
    return "\n\n".join(part for part in parts if part.strip()) + "\n" if parts else ""


def text_of_inline(token: Token) -> str:
    words = []
    for child in token.children or []:
        if child.type in ("text", "code_inline"):
            words.append(child.content)
        elif child.type in ("softbreak", "hardbreak"):
            words.append("\n")
        elif child.type == "image":
            words.append(child.content)
    return re.sub(r"[^\S\n]+\n", "\n", "".join(words)).strip()
