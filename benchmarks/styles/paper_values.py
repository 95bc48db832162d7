"""What stands in ``papers``: made-up values, each of the form it has where it is
used."""

import base64
import string
from collections.abc import Mapping

import phonenumbers

from interp.curation.planted_words import ALPHANUMERIC, HEXADECIMAL, Maker, Random, pick, symbols

EMAIL, KEY, IP, STREET, PHONE = (
    *("e-mail address", "key or secret", "IP address", "street address"),
    "telephone number",
)
PEOPLE = (
    *("Marta Kowalczyk", "Søren Lund", "Priya Raman", "Luca Bianchi", "Chloé Martin"),
    *("Jürgen Weiß", "Ana Souza", "Tom O'Neill", "Yuki Sato", "Bram de Vries", "Elif Demir"),
)
PLACES = ("orchardsoft", "bluefin-labs", "kirschner", "northgate", "puffin", "tallinn-data")
TOPS = ("com", "io", "fr", "pl", "com.br", "co.jp", "app", "museum", "nl", "uk")
DIGITS = string.digits
URL_SAFE = ALPHANUMERIC + "-_"


def digits(count: int, random: Random) -> str:
    return symbols("123456789", 1, random) + symbols(DIGITS, count - 1, random)


def person(random: Random) -> str:
    return pick(PEOPLE, random)


def plain_name(random: Random) -> str:
    """First and last name in letters without accents."""
    name = person(random).lower().replace("'", "").replace(" de ", " de")
    return name.translate(str.maketrans("øéüßłç", "oeuslc"))


def email(random: Random) -> str:
    first, last = plain_name(random).split(" ")
    place = f"{pick(PLACES, random)}.{pick(TOPS, random)}"
    sub = pick(("", "", "eu.", "staff."), random)
    local = pick(
        (
            *(f"{first}.{last}", first, f"{last}{first[0]}", f"{first}-{last}"),
            *(f"{first}_{last[0]}", f"{first}+orders", f"{first[0]}.{last}"),
            f"{last}.{first}{digits(2, random)}",
        ),
        random,
    )
    return f"{local}@{sub}{place}"


def apostrophe_email(random: Random) -> str:
    return f"t.o'neill@{pick(PLACES, random)}.ie"


REGIONS = ("US", "GB", "DE", "FR", "ES", "IT", "NL", "PL", "JP", "BR")


def telephone(region: str, form: int) -> Maker:
    """A number as its country writes it, valid there: 1 is the international form, 2 its own."""

    def make(random: Random) -> str:
        kind = (
            phonenumbers.PhoneNumberType.FIXED_LINE
            if random.random() < 0.5
            else phonenumbers.PhoneNumberType.MOBILE
        )
        example = phonenumbers.example_number_for_type(region, kind)
        assert example is not None
        while True:
            written = str(example.national_number)
            drawn = written[:-4] + symbols(DIGITS, 4, random)
            number = phonenumbers.parse(drawn, region)
            number.italian_leading_zero = example.italian_leading_zero
            if phonenumbers.is_valid_number(number):
                return phonenumbers.format_number(number, form)

    return make


def any_telephone(form: int, regions: tuple[str, ...] = REGIONS) -> Maker:
    return lambda random: telephone(pick(regions, random), form)(random)


def ipv4(random: Random) -> str:
    first = pick(("10", "23", "45", "78", "89", "104", "141", "159", "178", "188", "212"), random)
    return ".".join([first, *(str(int(random.integers(0, 256))) for _ in range(3))])


def ipv6(random: Random) -> str:
    group = [symbols(HEXADECIMAL, 4, random) for _ in range(6)]
    return pick(
        (
            f"2a01:4f8:{group[0]}:{group[1]}::1",
            f"2607:f8b0:{group[0]}:{group[1]}::{group[2]}",
            "fe80::" + ":".join(group[:4]),
            "2400:cb00:" + ":".join(group),
        ),
        random,
    )


def street(language: str) -> Maker:
    def make(random: Random) -> str:
        house = str(int(random.integers(1, 180)))
        return pick(STREETS[language], random).replace("#", house)

    return make


STREETS: Mapping[str, tuple[str, ...]] = {
    "en": (
        *("# Camden High Street", "#B Queen Anne Terrace", "# Elmwood Drive", "# W Fulton St"),
        *("# Pine Hollow Road", "# Bishopsgate Court", "# Harbor View Lane", "# Sunset Blvd"),
        *("# St. John's Avenue", "# Mulberry Way", "# Larch Crescent", "# Park Place"),
    ),
    "de": (
        *("Kastanienallee #", "Prenzlauer Allee #", "Am Markt #", "Karl-Marx-Straße #"),
        *("Rosenthaler Str. #", "Bergstr. #a", "Mühlenweg #", "Alexanderplatz #"),
    ),
    "fr": (
        *("# rue des Martyrs", "#, boulevard Voltaire", "# avenue de la République"),
        *("# bis rue Oberkampf", "# quai de Jemmapes", "# place d'Italie", "# chemin du Moulin"),
    ),
    "es": ("Calle Mayor #", "C/ Serrano, #", "Avenida de América #", "Plaza de España #"),
    "it": ("Via Roma #", "Via Giuseppe Verdi, #", "Corso Buenos Aires #", "Piazza Garibaldi #"),
    "nl": ("Keizersgracht #", "Kerkstraat #", "Prins Hendrikkade #-II", "Vondelplein #"),
    "pl": ("ul. Marszałkowska #", "ul. Długa #/3", "al. Jerozolimskie #"),
    "pt": ("Rua Augusta, #", "Avenida Paulista #", "Rua do Ouvidor, nº #"),
}

KNOWN_SERVICES: Mapping[str, Maker] = {
    "aws": lambda r: "AKIA" + symbols(string.ascii_uppercase + "234567", 16, r),
    "github": lambda r: "ghs_" + symbols(ALPHANUMERIC, 36, r),
    "slack": lambda r: f"xoxp-{digits(12, r)}-{digits(12, r)}-{symbols(HEXADECIMAL, 32, r)}",
    "stripe": lambda r: "rk_live_" + symbols(ALPHANUMERIC, 24, r),
    "sendgrid": lambda r: f"SG.{symbols(URL_SAFE, 22, r)}.{symbols(URL_SAFE, 43, r)}",
    "pypi": lambda r: "pypi-AgEIcHlwaS5vcmc" + symbols(URL_SAFE, 80, r),
    "jwt": lambda r: ".".join(
        base64.urlsafe_b64encode(part).decode().rstrip("=")
        for part in (
            b'{"alg":"HS256","typ":"JWT"}',
            b'{"sub":"%d"}' % r.integers(10**9),
            r.bytes(32),
        )
    ),
    "telegram": lambda r: f"{digits(10, r)}:AA{symbols(URL_SAFE, 33, r)}",
}
OTHER_SERVICES: Mapping[str, Maker] = {
    "huggingface": lambda r: "hf_" + symbols(string.ascii_letters, 34, r),
    "anthropic": lambda r: "sk-ant-api03-" + symbols(URL_SAFE, 93, r) + "AA",
    "google": lambda r: "AIzaSy" + symbols(URL_SAFE, 33, r),
    "google_oauth": lambda r: "ya29.a0" + symbols(URL_SAFE, 60, r),
    "google_client": lambda r: "GOCSPX-" + symbols(URL_SAFE, 28, r),
    "digitalocean": lambda r: "dop_v1_" + symbols(HEXADECIMAL, 64, r),
    "shopify": lambda r: "shpat_" + symbols(HEXADECIMAL, 32, r),
    "databricks": lambda r: "dapi" + symbols(HEXADECIMAL, 32, r),
    "vault": lambda r: "hvs." + symbols(URL_SAFE, 90, r),
    "postman": lambda r: f"PMAK-{symbols(HEXADECIMAL, 24, r)}-{symbols(HEXADECIMAL, 34, r)}",
    "grafana": lambda r: f"glsa_{symbols(ALPHANUMERIC, 32, r)}_{symbols(HEXADECIMAL, 8, r)}",
    "linear": lambda r: "lin_api_" + symbols(ALPHANUMERIC, 40, r),
    "newrelic": lambda r: "NRAK-" + symbols(string.ascii_uppercase + DIGITS, 27, r),
    "doppler": lambda r: "dp.pt." + symbols(ALPHANUMERIC, 43, r),
    "age": lambda r: "AGE-SECRET-KEY-1" + symbols("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58, r),
}


def service_key(random: Random) -> str:
    services = KNOWN_SERVICES if random.random() < 0.4 else OTHER_SERVICES
    return services[pick(tuple(services), random)](random)


def password(random: Random) -> str:
    words = ("sunflower", "Raclette", "violin", "Tundra", "blueMoon", "zwiebel", "Koala", "granite")
    return pick(
        (
            pick(words, random) + pick("!$#-_", random) + digits(2, random),
            symbols(ALPHANUMERIC + "!$%&*", 14, random),
            f"{pick(words, random)}-{pick(words, random)}-{digits(4, random)}",
        ),
        random,
    )


def isbn(random: Random) -> str:
    groups = pick(("978", "979"), random), *(digits(count, random) for count in (1, 5, 3, 1))
    return "-".join(groups)


def date(random: Random) -> str:
    day, month, year = (int(random.integers(a, b)) for a, b in ((1, 29), (1, 13), (1994, 2026)))
    forms = (
        "{y}-{m:02}-{d:02} {d:02}.{m:02}.{y} {d:02}/{m:02}/{y} {y}{m:02}{d:02} {y}/{m:02}/{d:02}"
    )
    return pick(forms.split(), random).format(y=year, m=month, d=day)


def version(random: Random) -> str:
    numbers = [str(int(random.integers(0, top))) for top in (30, 40, 9000, 300)]
    return pick((".".join(numbers), ".".join(numbers[:3]), ".".join(numbers[:3]) + "rc1"), random)


HARMLESS_VALUES: Mapping[str, Maker] = {
    "version": version,
    "sha1": lambda r: symbols(HEXADECIMAL, 40, r),
    "sha256": lambda r: symbols(HEXADECIMAL, 64, r),
    "short": lambda r: symbols(HEXADECIMAL, 8, r),
    "uuid": lambda r: "-".join(symbols(HEXADECIMAL, n, r) for n in (8, 4, 4, 4, 12)),
    "isbn": isbn,
    "date": date,
    "epoch": lambda r: "17" + digits(8, r),
    "order": lambda r: f"{digits(3, r)}-{digits(7, r)}-{digits(7, r)}",
    "mac": lambda r: ":".join(symbols(HEXADECIMAL, 2, r) for _ in range(6)),
    "remote": lambda r: f"git@github.com:{pick(PLACES, r)}/site.git",
    "package": lambda r: f"{pick(PLACES, r)}@{digits(1, r)}.{digits(2, r)}.0",
    "bundle": lambda r: f"main.{symbols(HEXADECIMAL, 20, r)}.chunk.js",
    "integrity": lambda r: "sha384-" + base64.b64encode(r.bytes(48)).decode(),
    "public_key": lambda r: "AAAAC3NzaC1lZDI1NTE5AAAAI" + symbols(ALPHANUMERIC, 43, r),
    "doi": lambda r: f"10.{digits(4, r)}/j.{pick(PLACES, r)}.{digits(6, r)}",
    "coordinates": lambda r: f"5{digits(1, r)}.{digits(6, r)}, 1{digits(1, r)}.{digits(6, r)}",
    "amount": lambda r: f"{digits(1, r)}.{digits(3, r)}.{digits(3, r)},{digits(2, r)}",
    "bytes": lambda r: digits(10, r),
    "song": lambda r: pick(("42nd Street", "Abbey Road", "Wall Street", "12 Monkeys"), r),
    "placeholder": lambda r: pick(
        ("YOUR_API_KEY_HERE", "<your-token>", "changeme", "xxxxxxxxxxxx", "********", "${SECRET}"),
        r,
    ),
    "symbol": lambda r: pick(
        ("getAccessTokenFromHeader2", "TestHandlerReturns404WhenMissing", "X509_V_ERR_OUT_OF_MEM"),
        r,
    ),
}
"""What only looks private, by what it is."""
