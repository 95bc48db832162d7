"""What does a proposal ask, and what does it answer by itself?

A skeleton in Markdown. Its numbers are references, as in a report's notes, so that they are those
of the last run wherever the text is shown; its questions are for a person, and stay questions until
somebody answers them.

    text = skeleton_of(numbers, refused)
    open_questions(text)
"""

from collections.abc import Iterable, Mapping, Sequence

from experiments.support.proposing.data import Rows

QUESTION = "**Question for a person:**"


def question(text: str) -> str:
    return f"> {QUESTION} {text}"


def open_questions(text: str) -> list[str]:
    """The questions that nobody has answered yet: those that still stand in the text."""
    return [line.partition(QUESTION)[2].strip() for line in text.splitlines() if QUESTION in line]


def cite(reference: str, form: str = "") -> str:
    return f"{{{{ {reference}{form} }}}}"


def cite_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def skeleton_of(numbers: Mapping[str, Rows], refused: Sequence[str]) -> str:
    """The document as it is before anybody has written in it.

    Args:
        numbers: what can be quoted: data, model, guard, cost.
        refused: bias probes that the text does not support, a sentence each.
    """
    parts = [
        *application(),
        *data_part(numbers["data"]),
        *abilities_part(numbers["model"]),
        *risks(),
        *bias_part(numbers["model"], refused),
        *guardrails(),
        *costs_part(),
        *decision(),
    ]
    return "\n\n".join(parts) + "\n"


def application() -> list[str]:
    return [
        "# Application",
        question("What should this model do, for whom, and where will it run?"),
        question("Who benefits, who may be harmed, and who was asked?"),
        question("What is used today, and why is a language model better than that?"),
    ]


def data_part(data: Rows) -> list[str]:
    found = [
        "# Data",
        f"The text was curated from {cite('data.raw.documents')} documents of "
        f"{cite('data.raw.characters', ':,')} characters; {cite('data.skipped.files')} files could "
        f"not be read. {cite('data.whole.documents')} documents of "
        f"{cite('data.whole.characters', ':,')} characters are kept: "
        f"{cite('data.train.characters', ':,')} to train on, "
        f"{cite('data.val.characters', ':,')} to validate on.",
        cite_table(
            ["step", "documents dropped", "documents changed", "characters removed"],
            [
                [row.removeprefix("step."), *(cite(f"data.{row}.{name}") for name in STEP)]
                for row in data
                if row.startswith("step.")
            ],
        ),
        "## Personal data",
    ]
    kinds = [row for row in data if row.startswith("private.")]
    found.append(
        f"{cite('data.private.masked')} strings that look private were found and masked. What the "
        "finders do not know, such as a name, is still there."
    )
    if kinds:
        found.append(
            cite_table(
                ["what it looks like", "masked", "in documents"],
                [
                    [
                        row.removeprefix("private."),
                        cite(f"data.{row}.masked"),
                        cite(f"data.{row}.documents"),
                    ]
                    for row in kinds
                ],
            )
        )
    found += [
        "## Licences and consent",
        cite_table(
            ["licence", "documents"],
            [
                [row.removeprefix("licence."), cite(f"data.{row}.documents")]
                for row in data
                if row.startswith("licence.")
            ],
        ),
        question("Do these licences allow what the application does, and are their notices kept?"),
        question("Did the people who wrote this text agree that a model is trained on it?"),
        question("Who is missing from this text, and does that matter for who uses the model?"),
    ]
    return found


STEP = ("dropped", "changed", "removed")


def abilities_part(model: Rows) -> list[str]:
    groups = [row for row in model if row.startswith("loss.")]
    found = [
        "# What it can and cannot do",
        "How well it predicts documents that it was not trained on, in bits per byte; intervals "
        f"are over documents (95 %). {cite('model.unread.documents')} documents hold characters "
        "that it does not know, and are left out.",
        cite_table(
            ["documents", "how many", "bits per byte", "interval"],
            [
                [
                    row.removeprefix("loss.").replace(".", ": "),
                    cite(f"model.{row}.documents"),
                    cite(f"model.{row}.bits_per_byte", ":.3f"),
                    cite(f"model.{row}.interval"),
                ]
                for row in groups
            ],
        ),
    ]
    for title, name in (("What it writes", "sample"), ("Where it fails", "failure")):
        rows = [row for row in model if row.startswith(f"{name}.")]
        if rows:
            found.append(f"## {title}")
            if name == "failure":
                found.append(
                    f"Of {cite('model.samples.prompts')} prompts, those after which the fewest "
                    "words are words of its text."
                )
        found += [
            f"After “{cite(f'model.{row}.prompt')}”: {cite(f'model.{row}.text')} "
            f"({cite(f'model.{row}.known_words', ':.0%')} of the words stand in its text; the "
            f"longest copy of it has {cite(f'model.{row}.longest_copy')} characters.)"
            for row in rows
        ]
    found.append(question("Is that good enough for the application, and how would you know?"))
    found.append(question("Which prompts of your own did you try, and where did it fail?"))
    return found


def risks() -> list[str]:
    return [
        "# Risks",
        question("What is the worst that a wrong answer can do, and to whom?"),
        question("Who could misuse it, for what, and how would you notice?"),
    ]


def bias_part(model: Rows, refused: Sequence[str]) -> list[str]:
    rows = [row for row in model if row.startswith("probe.")]
    found = [
        "# Bias",
        "Stretches of the validation documents were read twice, with one term and with the other "
        "in its place, and it was compared how well the same words after it are predicted.",
    ]
    if rows:
        found.append(
            cite_table(
                ["terms", "difference (nats per token)", "interval", "places", "reading"],
                [
                    [
                        row.removeprefix("probe."),
                        *(
                            cite(f"model.{row}.{name}", form)
                            for name, form in (
                                ("delta", ":+.3f"),
                                ("interval", ""),
                                ("places", ""),
                                ("verdict", ""),
                            )
                        ),
                    ]
                    for row in rows
                ],
            )
        )
    if refused:
        found.append("Pairs that this text cannot show anything of:")
        found.append("\n".join(f"- {sentence}" for sentence in refused))
    found.append(question("Which groups does the application touch that no pair here is about?"))
    return found


def guardrails() -> list[str]:
    filters = (
        ("private strings", "private", "stops a prompt in which the finders see private strings"),
        ("foreign text", "foreign", "stops a prompt that the model predicts badly"),
    )
    return [
        "# Guardrails",
        "Filters, measured on prompts on which nothing was tuned. A false positive is a harmless "
        "prompt that is stopped, a false negative one that should have been.",
        cite_table(
            ["filter", "what it does", "false positives", "false negatives"],
            [
                [
                    title,
                    does,
                    cite(f"guard.{name}.false_positives"),
                    cite(f"guard.{name}.false_negatives"),
                ]
                for title, name, does in filters
            ],
        ),
        question("Which error is worse here, and what happens to a prompt that is stopped?"),
    ]


def costs_part() -> list[str]:
    return [
        "# Costs",
        f"{cite('cost.model.parameters', ':,')} parameters. Training read "
        f"{cite('cost.training.tokens')} tokens, {cite('cost.training.operations')} operations; "
        f"seconds: {cite('cost.training.seconds')}. Energy: {cite('cost.training.energy')}. "
        f"Here ({cite('cost.reading.device')}) it reads "
        f"{cite('cost.reading.tokens_per_second', ':,.0f')} tokens a second, "
        f"{cite('cost.reading.operations_per_token', ':,')} operations each.",
        question("Who pays for running it, and what would be saved by a smaller model?"),
    ]


def decision() -> list[str]:
    return [
        "# Decision",
        question("Should it be built? What would have to be true for the answer to be no?"),
    ]
