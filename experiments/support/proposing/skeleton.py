"""What does a proposal say before anybody has written in it, and what does it ask?

    document.write_text(skeleton())
    open_questions(document.read_text())

The skeleton is Markdown as notes of a report are: its headings place it beside the tables, and its
numbers are references, so that they are those of the last run. Questions that no program can answer
stand in it as quotations; who answers one writes in its place.
"""

QUESTION = "**Open question.**"

APPLICATION, DATA, ABILITIES = "Application", "Data", "What it can and cannot do"
WRITING, HEART, FAILURES = "What it writes", "What it knows by heart", "Where it fails"
RISKS, PROBES, GUARDS, COSTS = "Risks", "Bias probes", "Guardrails", "Costs"
DECISION = "Decision"


def question(text: str) -> str:
    return f"> {QUESTION} {text}\n"


def said(name: str) -> str:
    """A reference to a number with its interval."""
    return f"{{{{ proposal.{name}.said }}}}"


def open_questions(document: str) -> list[str]:
    """The questions that still stand in a document."""
    return [
        line.partition(QUESTION)[2].strip() for line in document.splitlines() if QUESTION in line
    ]


def skeleton() -> str:
    """The document, once: from then on it is its author's."""
    return "\n".join(
        [
            *application_part(),
            *data_part(),
            *abilities_part(),
            *risks_part(),
            *guards_part(),
            *costs_part(),
            f"# {DECISION}\n",
            question("Should it be built? What would have to be true for the answer to be no?"),
            question("Who looks at it again, when, and who can switch it off?"),
        ]
    )


def application_part() -> list[str]:
    return [
        f"# {APPLICATION}\n",
        question("What should this model do, for whom, and where will it run?"),
        question("Who benefits, who may be harmed, and who of them was asked?"),
        question("What is used today, and why would a language model be better than that?"),
    ]


def data_part() -> list[str]:
    return [
        f"# {DATA}\n",
        f"{said('data.documents read')} documents of {said('data.characters read')} characters "
        f"were read; {said('data.files skipped')} files could not be. "
        f"{said('data.documents kept')} documents are kept, {said('data.share kept')} of the "
        f"characters: {said('data.train characters')} characters to train on, and "
        f"{said('data.val characters')} in {said('data.val documents')} documents to validate on, "
        "which have no near duplicate among the others where the pipeline's split sees to it.\n",
        f"Left out as duplicates: {said('data.exact duplicates')} exact ones and "
        f"{said('data.near duplicates')} near ones. {said('data.strings masked')} strings that "
        "look private were masked: forms were found, not people, and names and stories stay. "
        f"{said('data.documents without a licence')} of the documents name no licence.\n",
        question("Did the people who wrote this text, and those it is about, consent to this use?"),
        question("Do the licences allow what the application does, and are their notices kept?"),
        question("Who is missing from this text, and does that matter to who uses the model?"),
    ]


def abilities_part() -> list[str]:
    return [
        f"# {ABILITIES}\n",
        f"On documents that it was not trained on it loses {said('loss.all')} nats per token, "
        f"{said('bits.all')} bits per byte (95 % intervals over documents). A model that only "
        f"counted the training text would lose {said('loss.unigram')} nats with single tokens, "
        f"{said('loss.bigram')} with pairs and {said('loss.trigram')} with triples: what it does "
        "not do better than these, it has not learned.\n",
        question("Is that good enough for the application, and by which measure of its own?"),
        f"# {WRITING}\n",
        question("What do those who know the subject say of these texts?"),
        f"# {HEART}\n",
        f"Asked by what stands before it, it continues {said('heart.train')} of the passages of "
        f"the training text word for word, and {said('heart.val')} of those of the validation "
        "text, which only a model that has read it elsewhere does more than guess.\n",
        question("Which of these passages would it be wrong to give back, and to whom?"),
        f"# {FAILURES}\n",
        question("Which prompts of your own did you try, and where did it fail?"),
    ]


def risks_part() -> list[str]:
    return [
        f"# {RISKS}\n",
        question("What is the worst that a wrong answer can do, and to whom?"),
        question("Who could misuse it, for what, and how would that be noticed?"),
        f"# {PROBES}\n",
        f"{said('probe.pairs')} pairs of terms were tried. {said('probe.pairs refused')} of them "
        f"cannot be measured on this text; {said('probe.pairs that differ')} show a difference. A "
        "difference that is not shown may be there all the same.\n",
        question("Which people does the application touch that no pair here is about?"),
    ]


def guards_part() -> list[str]:
    rows = "\n".join(
        f"| {name} | {said(f'guard.{name}, false positives')} "
        f"| {said(f'guard.{name}, false negatives')} | {said(f'written.{name}')} |"
        for name in ("private", "repetition", "symbols")
    )
    return [
        f"# {GUARDS}\n",
        "A false positive is a harmless text that is stopped, a false negative one that should "
        "have been and is not (95 % intervals).\n",
        "| guardrail | false positives | false negatives | stops of what the model wrote |\n"
        f"|---|---|---|---|\n{rows}\n",
        question("Which error is worse here, and what does somebody see whose text is stopped?"),
    ]


def costs_part() -> list[str]:
    return [
        f"# {COSTS}\n",
        f"It has {said('cost.parameters')} parameters; a token costs {said('cost.a token')} "
        f"operations. Training: {said('cost.training')} operations on "
        f"{said('cost.tokens of training')} tokens, seconds on this machine: "
        f"{said('cost.time of training')}. Energy in Wh, an estimate from an assumed power: "
        f"{said('cost.energy of training')}.\n",
        question("Who pays for training and running it, and would a smaller model do?"),
    ]
