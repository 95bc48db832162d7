"""The characters of a file are those that were written, whatever program wrote it."""

import random

import pytest

from interp.curation.reading.encodings import NoTextError, decode_text

GERMAN = "Über die schönen Gärten führt ein Weg nach Köln. Äpfel und Öl gibt es dort für 5 €.\n"
FRENCH = "«L'été dernier, Noël à l'hôtel» était très agréable; le garçon a apporté un gâteau.\n"
RUSSIAN = "Всё, что нужно знать о погоде здесь: зимой холодно, летом жарко.\n"  # noqa: RUF001
JAPANESE = "これは日本語の文章です。天気がよくて、散歩に行きました。とても楽しかったです。\n"


@pytest.mark.parametrize("text", [GERMAN, FRENCH, RUSSIAN, JAPANESE])
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"]
)
def test_unicode_is_read_with_and_without_a_mark(text, encoding):
    assert decode_text(text.encode(encoding)) == (text, encoding.removesuffix("-sig"))


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (GERMAN, "cp1252"),
        (FRENCH, "cp1252"),
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8_r"),
        (JAPANESE, "cp932"),
        (JAPANESE, "euc_jp"),
    ],
)
def test_older_encodings_are_found_by_what_reads_well(text, encoding):
    assert decode_text(text.encode(encoding))[0] == text


def test_a_file_of_two_encodings_is_read_line_by_line():
    data = GERMAN.encode() * 3 + FRENCH.encode("cp1252") + GERMAN.encode()
    assert decode_text(data) == (GERMAN * 3 + FRENCH + GERMAN, "utf-8 and cp1252")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"PNG\0\0\1\2" * 9, "zero bytes"),
        (b"one\0two\0three\0", "zero bytes"),
        (random.Random(0).randbytes(4000), "zero bytes"),
        (bytes(range(1, 32)) * 9, "control characters"),
        (b"\xff\xfe\x00\xd8a", "begins as UTF-16 and is not"),
    ],
)
def test_what_is_no_text_is_said_to_be_none(data, said):
    with pytest.raises(NoTextError, match=said):
        decode_text(data)
