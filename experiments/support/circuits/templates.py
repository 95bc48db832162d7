"""Which pairs of texts do templates make that differ in one thing alone, position for position?

    made = capital_pairs(seed=0)                   # "The capital of France is", … " Paris"
    chosen = choose_aligned(made, tokenizer, 24)
    chosen.pairs, chosen.told                      # those that align, and what became of the others

What a template makes depends on nobody's tokens; which of it aligns does.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from experiments.support.named.coding import TextTokens, token_after
from experiments.support.pairs import Pair
from gpt.errors import UsageError

CAPITALS = {
    "France": "Paris",
    "Germany": "Berlin",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Russia": "Moscow",
    "China": "Beijing",
    "Japan": "Tokyo",
    "Egypt": "Cairo",
    "Greece": "Athens",
    "Poland": "Warsaw",
    "Austria": "Vienna",
    "Ireland": "Dublin",
    "Iraq": "Baghdad",
    "Iran": "Tehran",
    "Cuba": "Havana",
    "Turkey": "Ankara",
    "England": "London",
    "Portugal": "Lisbon",
    "Belgium": "Brussels",
    "Ukraine": "Kiev",
    "Hungary": "Budapest",
    "Sweden": "Stockholm",
    "Norway": "Oslo",
    "Kenya": "Nairobi",
    "Canada": "Ottawa",
    "Peru": "Lima",
    "Syria": "Damascus",
    "Afghanistan": "Kabul",
    "Lebanon": "Beirut",
    "Denmark": "Copenhagen",
    "Chile": "Santiago",
    "Thailand": "Bangkok",
    "Scotland": "Edinburgh",
    "Finland": "Helsinki",
    "Australia": "Canberra",
    "India": "Delhi",
    "Tunisia": "Tunis",
    "Bulgaria": "Sofia",
    "Switzerland": "Bern",
    "Wales": "Cardiff",
    "Jamaica": "Kingston",
    "Israel": "Jerusalem",
    "Romania": "Bucharest",
    "Qatar": "Doha",
    "Pakistan": "Islamabad",
    "Vietnam": "Hanoi",
    "Nigeria": "Abuja",
    "Croatia": "Zagreb",
}
OF_CAPITALS = "The capital of {} is"
OTHERS = 4
"""Countries beside each: the first pair of which both align is taken."""
NAMES = (
    *("Mary", "John", "Tom", "James", "Dan", "Martin", "Amy", "Sarah", "David", "Anna", "Paul"),
    *("Mark", "Peter", "Laura", "Jack", "Kate", "Robert", "Susan", "Alice", "Michael", "Emma"),
)
PLACES = ("store", "park", "office", "station", "school", "market", "house", "garden")
THINGS = ("drink", "book", "ball", "letter", "ring", "bag", "key", "gift")
OF_NAMES = (
    "When {0} and {1} went to the {place}, {2} gave a {thing} to",
    "After {0} and {1} came to the {place}, {2} gave the {thing} to",
    "While {0} and {1} were at the {place}, {2} handed a {thing} to",
    "Then, {0} and {1} went to the {place}, and {2} gave a {thing} to",
)
FEWEST = 2
"""Pairs that align, without which there is nothing to compare."""


@dataclass(frozen=True)
class AlignedPairs:
    """Pairs of as many tokens each, and what became of all that were made.

    Args:
        made: how many pairs the templates made.
        uneven: whose two texts are of different numbers of tokens.
        several: with an answer that is several tokens, or the same token twice.
        again: whose clean text has a pair already.
        apart: that are of another number of tokens than most.
    """

    pairs: Sequence[Pair]
    made: int
    uneven: int
    several: int
    again: int
    apart: int

    @property
    def told(self) -> str:
        """What was taken, in a sentence."""
        reasons = (
            (self.several, "an answer that is no single token"),
            (self.uneven, "two texts of different length"),
            (self.apart, "another length than most"),
            (self.again, "a clean text that has a pair already"),
        )
        out = [f"{count} with {reason}" for count, reason in reasons if count]
        left = f"left out are {', '.join(out)}" if out else "all of them align"
        return (
            f"The templates make {self.made} pairs; {left}, in this model's tokens; "
            f"{len(self.pairs)} are taken."
        )


def capital_pairs(seed: int) -> list[Pair]:
    """Each country beside some others, in an order that the seed decides."""
    countries = list(CAPITALS)
    random.Random(seed).shuffle(countries)
    made = []
    for step in range(1, OTHERS + 1):
        for country, other in zip(countries, countries[step:] + countries[:step], strict=True):
            texts = OF_CAPITALS.format(country), OF_CAPITALS.format(other)
            made.append(Pair(*texts, f" {CAPITALS[country]}", f" {CAPITALS[other]}"))
    return made


def name_pairs(seed: int, count: int = 120) -> list[Pair]:
    """Two people, one of whom gives the other something; in the corrupted text it is the other who
    gives, and so the first who is given (indirect objects: Wang et al. 2022)."""
    drawn, made = random.Random(seed), []
    for number in range(count):
        one, other = drawn.sample(NAMES, 2)
        first, second = drawn.sample([one, other], 2)
        filled = {"place": drawn.choice(PLACES), "thing": drawn.choice(THINGS)}
        template = OF_NAMES[number % len(OF_NAMES)]
        clean, corrupted = (
            template.format(first, second, giver, **filled) for giver in (other, one)
        )
        made.append(Pair(clean, corrupted, f" {one}", f" {other}"))
    return made


TEMPLATES: dict[str, Callable[[int], list[Pair]]] = {"capitals": capital_pairs, "ioi": name_pairs}


def choose_aligned(made: Sequence[Pair], tokenizer: TextTokens, count: int) -> AlignedPairs:
    """Up to ``count`` pairs, each of another clean text, whose texts are all of as many tokens and
    whose answers are one each.

    Raises:
        UsageError: fewer than two pairs align.
    """
    lengths, reasons = dict[Pair, int](), Counter[str]()
    for pair in made:
        answers = [
            token_after(tokenizer, text, answer)
            for text, answer in ((pair.clean, pair.answer), (pair.corrupted, pair.wrong))
        ]
        clean, corrupted = (len(tokenizer.encode(text)) for text in (pair.clean, pair.corrupted))
        if any(pair.clean == other.clean for other in lengths):
            reasons["again"] += 1
        elif None in answers or answers[0] == answers[1]:
            reasons["several"] += 1
        elif clean != corrupted:
            reasons["uneven"] += 1
        else:
            lengths[pair] = clean
    most = Counter(lengths.values()).most_common(1)[0][0] if lengths else 0
    taken = [pair for pair, length in lengths.items() if length == most]
    if len(taken) < FEWEST:
        raise UsageError(
            f"of {len(made)} pairs that the templates make {len(taken)} align in this model's "
            f"tokens: {reasons['several']} have an answer that is no single token, "
            f"{reasons['uneven']} two texts of different length; give pairs of your own by --pairs"
        )
    return AlignedPairs(
        taken[:count],
        made=len(made),
        uneven=reasons["uneven"],
        several=reasons["several"],
        again=reasons["again"],
        apart=len(lengths) - len(taken),
    )
