# ruff: noqa: E501, the documents are as wide as they are
"""Documents that no finder was mended for, nor may be: today's honest score.

Written when the finders had been mended for ``papers``, scored once, and left alone. Whoever mends
a finder for one of these moves it to ``papers`` and writes another here.
"""

import base64
import string

from benchmarks.styles import paper_values as values
from benchmarks.styles.forms import Places, write_forms
from benchmarks.styles.paper_values import DIGITS, EMAIL, IP, KEY, PHONE, STREET, digits
from interp.curation.planted import PlantedDocument
from interp.curation.planted_words import ALPHANUMERIC, HEXADECIMAL, Random, pick, symbols

PEOPLE = ("Ingrid Solheim", "Mehmet Kaya", "Aino Virtanen", "Petr Novák", "Grace Okafor")
STREETS = {
    "sv": ("Storgatan #", "Drottninggatan # B", "Kungsholms strand #", "Östra Hamngatan #"),
    "tr": ("Bağdat Caddesi No: #", "Gül Sokak #", "Atatürk Bulvarı #/4"),  # noqa: RUF001
    "fi": ("Mannerheimintie #", "Kauppakatu # A 3", "Puistotie #"),
    "cs": ("Vinohradská #", "Na Příkopě #", "nám. Míru #"),
    "us": ("# N 3rd St", "# County Road 12", "# Oak Ridge Cir", "PO Box #", "# Fifth Ave, Apt 4B"),
    "gb": ("Flat 2, # Kings Mews", "# The Green", "Rose Cottage, # Church Hill", "# Deansgate"),
    "in": ("#, MG Road", "Plot #, Sector 12", "# Nehru Nagar"),
}


def street(country: str):
    def make(random: Random) -> str:
        return pick(STREETS[country], random).replace("#", str(int(random.integers(1, 140))))

    return make


def email(random: Random) -> str:
    name = pick(("i.solheim", "mkaya", "AINO", "petr_novak77", "grace.okafor-b", "x9"), random)
    host = pick(("fjord.no", "bulut.com.tr", "jarvi.fi", "cs.uni-brno.cz", "naija.dev"), random)
    return f"{name}@{host}"


def other_key(random: Random) -> str:
    upper = string.ascii_uppercase + DIGITS
    return pick(
        (
            "tskey-auth-" + symbols(ALPHANUMERIC, 17, random) + "-" + symbols(upper, 20, random),
            "sl." + symbols(ALPHANUMERIC + "-_", 130, random),
            "phc_" + symbols(ALPHANUMERIC, 43, random),
            "EZAK" + symbols(ALPHANUMERIC, 54, random),
            "nfp_" + symbols(ALPHANUMERIC, 36, random),
            "sntryu_" + symbols(HEXADECIMAL, 64, random),
            "LTAI" + symbols(ALPHANUMERIC, 20, random),
            symbols(HEXADECIMAL, 32, random) + "-us" + digits(1, random),
            "AC" + symbols(HEXADECIMAL, 32, random),
            base64.b64encode(random.bytes(32)).decode(),
        ),
        random,
    )


def passphrase(random: Random) -> str:
    words = ("otter", "Lagom", "kavrulmus", "talvi", "Pivo", "harmattan", "fjell")
    return pick(
        (
            f"{pick(words, random)}.{pick(words, random)}.{digits(3, random)}",
            f"{pick(words, random).upper()}{digits(4, random)}!",
            f"{pick(words, random)}{pick(words, random).title()}",
            symbols(ALPHANUMERIC + "@?/+", 12, random),
        ),
        random,
    )


PLACES: Places = {
    "mail": (EMAIL, email),
    "phone": (PHONE, values.any_telephone(1, ("SE", "TR", "FI", "CZ", "NG", "IN", "AU", "ZA"))),
    "phone_us": (PHONE, values.telephone("US", 2)),
    "phone_gb": (PHONE, values.telephone("GB", 2)),
    "phone_dots": (PHONE, lambda r: f"{pick(('503', '919', '602'), r)}.{digits(3, r)}.{digits(4, r)}"),
    "ip": (IP, values.ipv4),
    "ip6": (IP, values.ipv6),
    "key": (KEY, other_key),
    "service": (KEY, values.service_key),
    "pass": (KEY, passphrase),
    **{f"street_{country}": (STREET, street(country)) for country in STREETS},
    "person": ("", lambda r: pick(PEOPLE, r)),
    **{name: ("", maker) for name, maker in values.HARMLESS_VALUES.items()},
    "iban": ("", lambda r: f"DE{digits(2, r)} " + " ".join(digits(4, r) for _ in range(4)) + " 00"),
    "issn": ("", lambda r: f"{digits(4, r)}-{digits(4, r)}"),
    "oid": ("", lambda r: f"1.3.6.1.4.1.{digits(4, r)}"),
    "net": ("", lambda r: f"{pick(('TLS', 'IMAP', 'HTTP'), r)} 1.{digits(1, r)}"),
    "part": ("", lambda r: f"MX-{digits(3, r)}-{digits(4, r)}-{symbols(string.ascii_uppercase, 2, r)}"),
    "bigint": ("", lambda r: digits(19, r)),
    "slug": ("", lambda r: f"how-to-bake-bread-in-{digits(4, r)}-{symbols(HEXADECIMAL, 12, r)}"),
    "css": ("", lambda r: f"_{symbols(ALPHANUMERIC, 5, r)}__{symbols(string.ascii_lowercase, 8, r)}"),
    "emoji": ("", lambda r: pick((":tada:", "@channel", "@here"), r)),
}  # fmt: skip


def write_held_out(seed: int = 0, each: int = 8) -> list[PlantedDocument]:
    """Each form some times over, with other values each time."""
    return write_forms(FORMS, PLACES, seed, each)


FORMS = {
    "vcard": """BEGIN:VCARD
FN:<<person>>
EMAIL;TYPE=work:<<mail>>
TEL;TYPE=cell:<<phone>>
TEL;TYPE=home:<<phone_us>>
ADR;TYPE=home:;;<<street_us>>;Portland;OR;97201;USA
UID:<<uuid>>
REV:<<date>>T10:00:00Z
END:VCARD
""",
    "ssh config": """Host shop
  HostName <<ip>>
  User deploy
  # old box was <<ip6>>, firmware <<version>>
  IdentityFile ~/.ssh/id_ed25519
machine api.fjord.no login ingrid password <<pass>>
""",
    "terraform": """provider "cloud" {
  access_key = "<<key>>"
  secret_key = "<<service>>"
  region     = "eu-north-1"
}
output "lb" { value = "<<ip>>" }  # module version <<version>>, sha <<short>>
resource "user" "ops" { email = "<<mail>>"  initial_password = "<<pass>>" }
""",
    "python": """import os
API_TOKEN = "<<key>>"
DB = dict(host="<<ip>>", user="app", password="<<pass>>")
TOKEN = os.environ.get("TOKEN", "<<placeholder>>")
ETAG = "<<sha1>>"
OID = "<<oid>>"
SNOWFLAKE = <<bigint>>
__author__ = "<<person>> <<<mail>>>"
""",
    "sql": """INSERT INTO users VALUES (<<bytes>>, '<<person>>', '<<mail>>', '<<phone>>', '<<ip>>', '<<date>>');
INSERT INTO orders VALUES ('<<order>>', '<<uuid>>', <<amount>>, '<<street_gb>>', '<<part>>');
""",
    "slack": """[09:12] <<person>>: <<emoji>> staging is down, <<ip>> doesn't answer
[09:13] <<person>>: pw changed, it's <<pass>> now
[09:14] <<person>>: ah. and who has the new token? <<key>>
[09:15] <<person>>: delete that!! anyway call me <<phone_us>>, or <<phone_dots>> after 5
[09:16] <<person>>: see <<slug>>, commit <<sha1>>, also <<net>>
""",
    "brev": """Hej <<person>>,

vi har flyttat till <<street_sv>> i Stockholm. Ring mig på <<phone>> eller skriv till <<mail>>.
Lösenordet till nätverket är <<pass>>. Beställning <<order>>, <<date>>, version <<version>>.
""",
    "mektup": """Merhaba <<person>>, yeni adresimiz <<street_tr>>, İstanbul. Telefon: <<phone>>, e-posta <<mail>>.
Şifre: <<pass>>. Sunucu <<ip>>. Fatura <<order>>, <<date>>.
""",
    "kirje": """Hei <<person>>, osoite on <<street_fi>>, Helsinki. Soita <<phone>> tai kirjoita <<mail>>.
Salasana on <<pass>>. Palvelin <<ip>>, tilaus <<order>>, ISSN <<issn>>.
""",
    "dopis": """Dobrý den, sídlíme na adrese <<street_cs>>, Praha. Volejte <<phone>>, pište na <<mail>>.
Heslo je <<pass>>, server <<ip>>, objednávka <<order>> ze dne <<date>>.
""",
    "resume": """<<person>>
<<street_in>>, Bengaluru 560001 | <<phone>> | <<mail>>
2014-2019 Engineer, TLS 1.3 and RFC 8446; ISBN <<isbn>>; ISSN <<issn>>; doi:<<doi>>
Awards: 42nd Street Prize, 2nd Place 2016. Patent MX-<<issn>>.
""",
    "xml": """<customer id="<<bytes>>" ref="<<uuid>>">
  <email><<mail>></email><phone><<phone_gb>></phone>
  <address line1="<<street_gb>>" city="Leeds"/>
  <session ip="<<ip>>" token="<<service>>" css="<<css>>"/>
  <bank iban="<<iban>>" oid="<<oid>>"/>
</customer>
""",
    "k8s": """apiVersion: v1
kind: Secret
metadata: {name: puffin, uid: <<uuid>>, resourceVersion: "<<bytes>>"}
stringData:
  adminPassword: <<pass>>
  apiKey: <<key>>
  image: puffin@sha256:<<sha256>>
  endpoint: https://<<ip>>:6443
""",
}  # fmt: skip
"""Documents with ``<<places>>``."""
