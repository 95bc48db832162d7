# ruff: noqa: E501, the documents are as wide as they are
"""Documents of forms that people have lying about, in eight languages.

E-mail threads, tickets, settings, logs, exports, posts and commits, with numbers of ten countries,
keys of services and much that only looks private. They were written before the finders were tried
on them; ``docs/data.md`` tells that first score. Then the finders were mended for them.
"""

from benchmarks.styles import paper_values as values
from benchmarks.styles.forms import Places, write_forms
from benchmarks.styles.paper_values import EMAIL, IP, KEY, PHONE, STREET
from interp.curation.planted import PlantedDocument

PLACES: Places = {
    "mail": (EMAIL, values.email),
    "mail_o": (EMAIL, values.apostrophe_email),
    "phone": (PHONE, values.any_telephone(1)),
    "phone_us": (PHONE, values.any_telephone(2, ("US",))),
    "phone_gb": (PHONE, values.any_telephone(2, ("GB",))),
    "ip": (IP, values.ipv4),
    "ip6": (IP, values.ipv6),
    "key": (KEY, values.service_key),
    "password": (KEY, values.password),
    **{f"phone_{r.lower()}": (PHONE, values.telephone(r, 2)) for r in values.REGIONS[2:]},
    **{f"street_{language}": (STREET, values.street(language)) for language in values.STREETS},
    **{name: ("", maker) for name, maker in values.HARMLESS_VALUES.items()},
    "person": ("", values.person),
}
"""By the name of a place in a form: the kind of what stands there, empty where it only looks so."""


def write_papers(seed: int = 0, each: int = 8) -> list[PlantedDocument]:
    """Each form some times over, with other values each time."""
    return write_forms(FORMS, PLACES, seed, each)


def write_contacts(seed: int = 0, each: int = 8) -> list[PlantedDocument]:
    """Lists of numbers as ten countries write them at home."""
    return write_forms(CONTACTS, PLACES, seed, each)


FORMS = {
    "thread": """From: <<person>> <<<mail>>>
To: <<mail>>; <<mail_o>>
Date: <<date>> 09:14 +0200
Message-Id: <<<uuid>>>
Subject: Re: Re: delivery <<order>>

Hi both,

the driver could not find <<street_en>>, so he rang <<phone>> twice. Could you forward this to
<<mail>>? The book (<<isbn>>) went to the old place.

Best,
<<person>>
--
northgate ltd | <<street_en>> | T <<phone_gb>> | M: <<phone>> | <<mail>>

> On <<date>>, <<mail>> wrote:
>> is it still version <<version>>? I'm at <<phone_us>> until six.
""",
    "dotenv": """# local settings, do not commit
NODE_ENV=production
APP_VERSION=<<version>>
DATABASE_URL=postgres://app:<<password>>@<<ip>>:5432/shop
REDIS_HOST=<<ip>>
SECRET_KEY=<<key>>
STRIPE_KEY=<<key>>
HF_TOKEN="<<key>>"
ADMIN_EMAIL=<<mail>>
ADMIN_PASSWORD=<<password>>
SUPPORT_PHONE="<<phone>>"
BUILD_SHA=<<sha1>>
ASSET=<<bundle>>
API_KEY=<<placeholder>>
UPLOAD_LIMIT=<<bytes>>
""",
    "access log": """<<ip>> - - [12/Mar/2021:06:25:14 +0000] "GET /static/<<bundle>> HTTP/1.1" 200 <<bytes>>
<<ip>> - <<mail>> [12/Mar/2021:06:25:19 +0000] "POST /login?v=<<version>> HTTP/2" 302 0 "-" "curl/7.68.0"
<<ip6>> - - [12/Mar/2021:06:26:02 +0000] "GET /orders/<<uuid>> HTTP/1.1" 404 153
<<ip>> - - [12/Mar/2021:06:27:41 +0000] "GET /reset?token=<<key>> HTTP/1.1" 200 512
""",
    "syslog": """<<date>> 03:11:09 gate sshd[2214]: Failed password for invalid user admin from <<ip>> port 51324 ssh2
<<date>> 03:11:12 gate sshd[2214]: Received disconnect from <<ip>>: 11: Bye Bye [preauth]
<<date>> 03:12:40 gate dhcpd: DHCPACK on <<ip>> to <<mac>> via eth0
<<date>> 03:14:00 gate kernel: [<<epoch>>.201] nft drop IN=eth0 SRC=<<ip>> DST=<<ip6>> LEN=60
<<date>> 03:15:22 gate postfix/smtp[991]: to=<<<mail>>>, relay=mx[<<ip>>]:25, status=bounced
""",
    "commits": """commit <<sha1>>
Author: <<person>> <<<mail>>>
Date:   Tue Nov 3 21:40:11 2020 +0100

    Fix crash in <<symbol>> (#4821)

    Reverts <<short>>. The token <<key>> in the fixture was real and has been
    rotated. Bumps left-pad to <<package>>, see <<remote>>.

    Co-authored-by: <<person>> <<<mail>>>
    Signed-off-by: <<person>> <<<mail>>>
""",
    "forum": """**<<person>>** wrote on <<date>>:
can't get my router to work, <<ip>> answers but <<ip6>> does not?? firmware <<version>>, mac <<mac>>

> have you tried the default password <<password>>

lol yes. anyway if someone's near <<street_en>> and can lend me one, text me <<phone_us>> or
<<mail>> :)  (ps. it's not on Wall Street, and <<song>> is a fine film)
""",
    "csv": """id;name;email;phone;street;city;last_ip;created
1001;<<person>>;<<mail>>;<<phone>>;<<street_de>>;Berlin;<<ip>>;<<date>>
1002;<<person>>;<<mail>>;<<phone>>;<<street_fr>>;Lyon;<<ip>>;<<date>>
1003;<<person>>;<<mail>>;<<phone_us>>;<<street_en>>;Tulsa;<<ip>>;<<date>>
""",
    "yaml": """service:
  name: puffin-gateway
  image: registry.local/puffin@sha256:<<sha256>>
  version: <<version>>
  owners: [<<mail>>, "<<mail>>"]
  upstream: {host: <<ip>>, port: 8443}
  auth:
    user: svc
    password: "<<password>>"
    token: <<key>>
  tls_fingerprint: <<sha256>>
  pager: '<<phone>>'
""",
    "ticket": """Ticket <<order>> · opened <<date>> · <<uuid>>
Customer: <<person>>, <<street_en>>. Callback: <<phone_gb>> (evenings), otherwise <<mail>>.
She was charged <<amount>> twice. Her connection came from <<ip>>. See doi <<doi>> for the method,
sensor at <<coordinates>>, started <<epoch>>. Staff login for the shared screen is <<password>>.
""",
    "readme": """Install with `pip install puffin==<<version>>` or clone <<remote>>.

    export PUFFIN_TOKEN=<<placeholder>>
    curl -H "Authorization: Bearer <<key>>" https://api.puffin.test/v1/items/<<uuid>>

    <script src="/<<bundle>>" integrity="<<integrity>>"></script>
    ssh-ed25519 <<public_key>> deploy

Bugs to <<mail>>. Checked with sha256 <<sha256>>. Cite as doi:<<doi>>, ISBN <<isbn>>.
""",
    "Brief": """Sehr geehrte Frau <<person>>,

Ihr Paket <<order>> ging am <<date>> an die Adresse <<street_de>>, 10115 Berlin. Bei Fragen
erreichen Sie uns unter <<phone>> oder <<mail>>. Das Passwort für das Portal lautet <<password>>.
Ihr Anschluss meldete sich zuletzt von <<ip>>; die Rechnung über <<amount>> Euro liegt bei.

Mit freundlichen Grüßen
<<person>> · <<street_de>> · Tel. <<phone>>
""",
    "lettre": """Bonjour <<person>>,

merci d'écrire à <<mail>> ou d'appeler le <<phone>>. Nous sommes au <<street_fr>>, 75011 Paris.
Le mot de passe du wifi est <<password>>. Commande <<order>> du <<date>>, ISBN <<isbn>>.

Cordialement, <<person>>, <<street_fr>>, tél. <<phone>>
""",
    "carta": """Hola <<person>>:

mi correo nuevo es <<mail>> y vivo en <<street_es>>, Madrid. Llámame al <<phone>> después de las
ocho. La contraseña del servidor <<ip>> es <<password>>. Pedido <<order>>, <<date>>.
""",
    "lettera": """Gentile <<person>>, il pacco <<order>> è arrivato in <<street_it>> il <<date>>. Scriva a
<<mail>> o chiami il <<phone>>. La sede resta in <<street_it>>, Milano. Versione <<version>>.
""",
    "bericht": """Hoi <<person>>, we zijn verhuisd naar <<street_nl>> in Amsterdam. Bel me op <<phone>> of mail
<<mail>>. Wachtwoord van de printer (<<ip>>): <<password>>. Factuur <<order>> van <<date>>.
""",
    "list": """Cześć <<person>>, nowy adres biura: <<street_pl>>, Warszawa. Telefon <<phone>>, poczta <<mail>>.
Hasło: <<password>>. Serwer <<ip>>, wersja <<version>>, zamówienie <<order>> z <<date>>.
""",
    "recado": """Olá <<person>>, o escritório fica na <<street_pt>>, São Paulo. Ligue para <<phone>> ou escreva
para <<mail>>. A senha é <<password>> e o servidor é <<ip>>. Pedido <<order>>, <<date>>.
""",
    "json": """{"event": "signup", "id": "<<uuid>>", "ts": <<epoch>>, "user": {"email": "<<mail>>",
 "phone": "<<phone>>", "ip": "<<ip>>", "address": {"line1": "<<street_en>>", "zip": "94110"}},
 "api_key": "<<key>>", "client_version": "<<version>>", "etag": "<<sha1>>"}
""",
    "shell": """$ git clone <<remote>> && cd site && git checkout <<sha1>>
$ ssh deploy@<<ip>> 'docker pull puffin@sha256:<<sha256>>'
$ mysql -u root -p<<password>> -h <<ip>> shop
$ curl -u ci:<<password>> https://ci.puffin.test/job/<<uuid>>
$ npm install <<package>>   # md5 <<short>>
$ export OPENAI_API_KEY=<<key>>; gh secret set DEPLOY -b <<key>>
""",
}  # fmt: skip
"""Documents with ``<<places>>``."""

CONTACTS = {
    "cartes": """Contacts par pays. Berlin: Tel. <<phone_de>>. Paris : tél. <<phone_fr>>. Madrid: tel.
<<phone_es>>. Milano: tel. <<phone_it>>. Utrecht: tel. <<phone_nl>>. Kraków: tel. <<phone_pl>>.
Osaka: tel. <<phone_jp>>. Recife: tel. <<phone_br>>. Tulsa: tel. <<phone_us>>. Leeds: tel. <<phone_gb>>.
Orders <<order>> and <<order>>, <<date>>, <<isbn>>, <<amount>>, <<epoch>>.
""",
}
"""Numbers as ten countries write them at home: found where their regions are asked for."""
