"""Strings that look private are found where they are, and ordinary text is left alone."""

from itertools import pairwise

import pytest

from gpt.text import load_corpus
from interp.errors import UsageError
from interp.texts import find_private

# No key of anybody's: the forms are right, the rest is made up. In parts, so that a scanner of
# this repository does not take them for keys.
AWS = "AKIA" + "QX7RLMNB4PWZ2TYV"
HEX = "9f86d081884c7d659a2feaa0" + "c55ad015a3bf4f1b"
TOKEN = "kvAt6814zOFlurt" + "QCEIqlFujlt5Yh2V6"
GROUPS = "xf6g50n9-uj92zccq" + "-47hv3mgz"
GITHUB = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
LETTERS = "oGWnbKjTmgMkBYyplzNMgEmtPQxmTSFvPu"
JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIyNTUxMzYwMzkifQ." + f"{TOKEN}{TOKEN[:11]}"
PRIVATE_KEY = f"-----BEGIN PRIVATE KEY-----\n{TOKEN}{TOKEN}\nabc=\n-----END PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("kind", "text", "string"),
    [
        ("e-mail address", "Write to jane.doe+news@example.org.", "jane.doe+news@example.org"),
        ("e-mail address", "müller@bücher.example", "müller@bücher.example"),
        ("telephone number", "Call +49 30 901820 tonight", "+49 30 901820"),
        ("telephone number", "or (212) 736-5000, any time", "(212) 736-5000"),
        ("IP address", "from 203.0.113.77 at noon", "203.0.113.77"),
        ("IP address", "or 2001:db8::8a2e:370:7334, too", "2001:db8::8a2e:370:7334"),
        ("street address", "She lives at 221 Upper Baker Street, London", "221 Upper Baker Street"),
        ("street address", "Er wohnt in der Lindenstraße 12a.", "Lindenstraße 12a"),
        ("key or secret", f"the key {AWS} is", AWS),
        ("key or secret", f"url = {GITHUB}", GITHUB),
        ("key or secret", "password = 'swordfish'", "swordfish"),
        ("key or secret", "-----BEGIN RSA PRIVATE KEY-----", "BEGIN RSA PRIVATE KEY"),
        ("key or secret", f"sig {HEX}, signed", HEX),
        ("key or secret", f"export API_TOKEN={TOKEN}", TOKEN),
        ("key or secret", f"Authorization: Bearer {TOKEN[:22]} was sent", TOKEN[:22]),
        ("key or secret", f"use the key {GROUPS} now", GROUPS),
        ("key or secret", f"the password's hash: {HEX}", HEX),
        ("key or secret", f"https://example.org/a?size=2&api_key={TOKEN}", TOKEN),
        ("telephone number", "phone = 2127365000, ask", "2127365000"),
        ("IP address", "ip='93.186.135.91', port=80", "93.186.135.91"),
        ("IP address", "a -> 93.186.135.91", "93.186.135.91"),
        ("IP address", "the gateway is fe80::1 here", "fe80::1"),
        ("e-mail address", "mail t.o'neill@puffin.ie, or", "t.o'neill@puffin.ie"),
        ("key or secret", "postgres://app:vio!in_22@10.0.0.7/db", "vio!in_22"),
        ("key or secret", "DB_PASSWORD=Klw5&7%fCaetMA", "Klw5&7%fCaetMA"),
        ("key or secret", "Das Passwort für das Portal lautet zwiebel_78.", "zwiebel_78"),
        ("key or secret", "le mot de passe du wifi est Tundra!23.", "Tundra!23"),
        ("key or secret", "Hasło: granite$89", "granite$89"),
        ("key or secret", "curl -u ci:Raclette-67 https://ci.test", "Raclette-67"),
        ("key or secret", f"HF_TOKEN=hf_{LETTERS}", f"hf_{LETTERS}"),
        ("key or secret", f"the token hvs.{TOKEN} is out", f"hvs.{TOKEN}"),
        ("key or secret", f"Bearer {JWT} sent", JWT),
        ("key or secret", PRIVATE_KEY, PRIVATE_KEY),
        ("street address", "an die Prenzlauer Allee 12, Berlin", "Prenzlauer Allee 12"),
        ("street address", "Am Markt 5, 10115 Berlin", "Am Markt 5"),
        ("street address", "au 12 bis rue de la République", "12 bis rue de la République"),
        ("street address", "vivo en la Calle Mayor, 61.", "Calle Mayor, 61"),
        ("street address", "in Via Giuseppe Verdi, 15 a Milano", "Via Giuseppe Verdi, 15"),
        ("street address", "naar Keizersgracht 401 in", "Keizersgracht 401"),
        ("street address", "biuro: ul. Długa 119/3, Warszawa", "ul. Długa 119/3"),
        ("street address", "na Rua do Ouvidor, nº 76", "Rua do Ouvidor, nº 76"),
        ("street address", "at 173 Mulberry Way", "173 Mulberry Way"),
        ("street address", "at 68-30 Harrow Street, Forest Hills", "30 Harrow Street"),
    ],
)  # fmt: skip
def test_each_kind_is_found_to_the_character(kind, text, string):
    text = f"An ordinary line.\n{text}\nAnother one."
    found = [one for one in find_private(text) if one.kind == kind]
    assert [text[one.start : one.stop] for one in found] == [string]


@pytest.mark.parametrize(
    "text",
    [
        "if a@b: return 3.11 + 0.5",
        "version 1.2.3, or 300.1.2.3, at 10:30",
        "the key to the door is under the mat, and the password is a secret",
        "PyUnicode_FromStringAndSize and object.__init_subclass__",
        "In 1616 the road was long. I saw 12 drivers.",
        "http://example.org/a/page?x=1",
        # What words beside it explain.
        f"It broke with commit {HEX}.",
        f"https://example.org/repo/blob/{HEX}/LICENSE.md",
        f"SHA256 ({HEX}{HEX[:24]}) = image.iso",
        f"pip install --hash=sha256:{HEX}{HEX[:24]}",
        f'<img src="data:image/png;base64,{TOKEN}{TOKEN}">',
        f"https://docs.example.com/document/d/{TOKEN}/preview",
        "open /usr/share/windmill/Quarry/v7/solaris for reading",
        "version 15.3.7.4, and from release 10.0.9.9 to 10.0.10.2",
        "libfoo>=1.2.1.0, libbar ~= 4.3.2.1 and libbaz > 1.2.3.4",
        "see clause 4.2.1.7 and Table 5.1.6.8",
        "2.7.8.3 Scope of the grant",
        "netmask 255.255.255.0, bound to 127.0.0.1 or 0.0.0.0",
        "read_bytes=18626220032, used=4809781248",
        "Version 0.5.6 - 2016-11-22",
        "programs of 32768-65535 bytes, 1365519115.0 seconds, clause 252.227-7013",
        "git clone git@github.com:puffin/site.git",
        "https://user:password@localhost/ and PASSWORD=changeme and TOKEN=${TOKEN}",
        "password = get_password(user2) or self.password2.value",
        "the password is hashed by sha256, and its token: STATE_2",
        f"BUILD_SHA={HEX}, tls_fingerprint: {HEX}{HEX[:24]}",
        f"ssh-ed25519 AAAAC3NzaC1lZDI1{TOKEN}{TOKEN} deploy",
        f"-----BEGIN CERTIFICATE-----\n{TOKEN}{TOKEN}\n-----END CERTIFICATE-----",
        "Chapter 2 The Long Way, and 12 monkeys close in",
        "Copyright 1991-2013, Thomas G. Lane, and since 2019 Wall Street",
    ],
)
def test_ordinary_text_is_left_alone(text):
    assert find_private(text) == []


def test_the_language_reference_holds_no_address_and_no_key():
    kinds = {one.kind for one in find_private(load_corpus("python-docs").text)}
    assert kinds <= {"telephone number"}  # it writes an IP address as one number of ten digits


def test_what_overlaps_is_found_once():
    text = f"https://user:{GITHUB}@example.org and again {GITHUB}"
    found = find_private(text)
    assert all(one.stop <= other.start for one, other in pairwise(found))
    assert found[-1].stop == len(text)


def test_national_numbers_are_found_in_the_regions_asked_for():
    text = "Ruf an: 030 901820."
    assert find_private(text, regions=["DE"])
    assert find_private(text, regions=[]) == []


def test_a_region_that_is_none_is_refused():
    with pytest.raises(UsageError, match="'UK' is no region; nearest: "):
        find_private("text", regions=["UK"])
