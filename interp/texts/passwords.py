"""Which strings of a line are said to be a password or a key, in whatever words?

    [line[start:stop] for start, stop in told_secrets("the wifi password is violin-Koala-2227")]

A value counts where something calls it a secret: a word before it in one of some languages
(``password is …``, ``Passwort: …``), a name that a value is given to (``DB_PASSWORD=…``), the place
in a command or in an address of the web (``-u user:…``, ``://user:…@host``). It must also look like
one: "the password is required" is no secret, nor is a placeholder.
"""

import re
from collections.abc import Iterator

ABROAD = (
    *("kennwort", "mot de passe", "contraseña", "contrasena", "senha", "wachtwoord", "hasło"),
    *("haslo", "lösenord", "adgangskode", "salasana", "parola", "parole", "şifre", "heslo"),
    *("jelszó", "пароль", "密码", "パスワード"),
)
PASSWORD = "|".join((r"pass(?:words?|wd|phrase|code|wort|ord)|pwd", *ABROAD))
SAID = re.compile(rf"(?<![^\W_])(?:{PASSWORD})(?![^\W_])", re.IGNORECASE)
IS = re.compile(
    r"\s*(?:[:=\uff1a]|->|→|\b(?:is|was|to|lautet|ist|war|est|es|é|è|är|er|jest|on)\b)\s*",
    re.IGNORECASE,
)
AFTER = 64  # characters after the word in which its value must begin
VALUE = r"[\"'`“„«]?(?P<value>(?![=:])[^\s\"'`”“»<>]{6,128})"
STARTS = re.compile(rf"\s*{VALUE}")
SENTENCE_END = re.compile(r"[.!?;]\s")

# A name that a value is given to: in a shell or a file of settings, in JSON, YAML or a program.
ASSIGNED = re.compile(
    rf"(?P<name>(?<![\w-])[A-Za-z][\w-]{{1,60}})[\"']?\s*(?P<sign>:|=)\s*{VALUE}",
)
NAMED = re.compile(
    r"secret|token|api_?key|pass(?:wor[dt]|wd)?|pwd|_key|(?-i:[a-z]Key)", re.IGNORECASE
)
ENVIRONMENT = re.compile(r"[A-Z][A-Z0-9_]*")
ANY_WORD = re.compile(r"(?:SECRET|PASS(?:WORD|WD)?|PWD)$")
COMMAND = re.compile(r"\bcurl\b|\bmysql|\bmariadb|\bsshpass|--(?:pass|token|secret)|://[^\s/:@]*:")
COMMANDS = (
    re.compile(r"\bcurl\b.*?\s(?:-u|--user)[ =]['\"]?[^\s:'\"]+:(?P<value>[^\s'\"]{6,})"),
    re.compile(r"\b(?:mysql\w*|mariadb\w*|sshpass)\b.*?\s-p ?['\"]?(?P<value>[^\s'\"]{6,})"),
    re.compile(r"--(?:password|passwd|pass|token|secret)[= ]['\"]?(?P<value>[^\s'\"]{6,})"),
    re.compile(r"://[^\s/:@]*:(?P<value>[^\s/@]{6,})@"),
)

LONG = 16  # characters from which what is given to a name that says key or token counts
ALGORITHM = (
    r"(?:sha|md|aes|rsa|utf|base|ed|tls|ssl|ipv|x|argon|pbkdf|[bs]crypt)[-_]?\d+(?:[-_]\w+)?"
)
NO_SECRET = re.compile(
    r"(.)\1*"  # one character over and over
    rf"|[(\[{{/~.@].*|.*[()\[\]{{}},].*|.*://.*|\$(?:\{{|\(|[A-Z_]+$).*|%(?:s|\(|[A-Z_]+%).*|{ALGORITHM}"
    r"|[A-Za-z_]\w*(?:(?:\.|::|->)[A-Za-z_]\w*)+"  # an attribute in a program
    r"|(?-i:[A-Z]+(?:_[A-Z0-9]+)+|_\w+)"  # a constant, a name
    r"|.*(?:your|example|placeholder|change.?me|redacted|dummy|xxxx|\*\*\*\*|\.\.\.).*"
    r"|(?:my|the|some|test|user|db|new|old)?[-_]?(?:pass(?:word|wd|phrase)?|secret|token|key)s?\d{0,3}"
    r"|none|null|true|false|undefined|optional|required|string|default",
    re.IGNORECASE,
)


def told_secrets(line: str) -> Iterator[tuple[int, int]]:
    """Where the values stand in a line, in characters."""
    if NAMED.search(line) or SAID.search(line):
        for word in SAID.finditer(line):
            if found := value_after(line, word.end()):
                yield found
        for match in ASSIGNED.finditer(line):
            start, stop = trimmed(match)
            if NAMED.search(match["name"]) and is_given(
                match["name"], match["sign"], line[start:stop]
            ):
                yield start, stop
    if COMMAND.search(line):
        for form in COMMANDS:
            for match in form.finditer(line):
                if not NO_SECRET.fullmatch(match["value"]):
                    yield match.span("value")


def value_after(line: str, at: int) -> tuple[int, int] | None:
    """What a password is said to be, in what follows the word."""
    end = SENTENCE_END.search(line, at)
    last = min(at + AFTER, end.start() if end else len(line))
    for start in [at, *(one.end() for one in IS.finditer(line, at, last))]:
        if match := STARTS.match(line, start):
            first, stop = trimmed(match)
            if looks_secret(line[first:stop]):
                return first, stop
    return None


def trimmed(match: re.Match[str]) -> tuple[int, int]:
    """Where a value stands, without what ends the sentence."""
    return match.start("value"), match.start("value") + len(match["value"].rstrip(".,;:"))


def is_given(name: str, sign: str, value: str) -> bool:
    if len(value) < 6 or not NAMED.search(name) or NO_SECRET.fullmatch(value):
        return False
    if sign == "=" and ENVIRONMENT.fullmatch(name) and ANY_WORD.search(name):
        return True
    return looks_secret(value) and (len(value) >= LONG or bool(SAID.search(name.replace("_", " "))))


def looks_secret(value: str) -> bool:
    """Letters with digits or signs among them, and no placeholder."""
    return (
        len(value) >= 6
        and bool(re.search(r"[^\W\d_]", value))
        and bool(re.search(r"\d|[!$%&*#^~+=]", value))
        and not NO_SECRET.fullmatch(value)
    )
