"""Nouns: which of ImageNet's classes a person means by a word, from WordNet's nouns and what each is a kind of.

nouns.txt.xz is WordNet 3.1's nouns without their definitions, licence in docs/licences.md. Its first line has the
meaning of each of the 1,000 classes in their order, the second what each meaning is a kind of (numbers joined by
commas, - for none), and each further one a word, a tab, and its meanings, the most common first."""

from __future__ import annotations

import lzma
import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

FILE = "nouns.txt.xz"
MOST_WORDS = 4  # of one term, as "great white shark" has three
SENSES = (1.0, 0.5, 0.25)  # what the first meanings of a word count
# A class that is no kind of what is asked for counts by the narrowest kind of which both are: by the share of the
# classes that are of it, on a logarithmic scale (Resnik, IJCAI 1995), from here on and so much: a deer is none of the
# classes, and among hoofed animals antelopes are near.
NEAR, NEAR_COUNTS = 0.5, 0.3
SHORTEST = 3  # letters of a term: "a" and "in" are nouns too
_ENDINGS = (("ies", "y"), ("ves", "f"), ("sses", "ss"), ("shes", "sh"), ("ches", "ch"), ("xes", "x"), ("men", "man"),
            ("es", "e"), ("es", ""), ("s", ""))  # fmt: skip


@dataclass(frozen=True)
class Nouns:
    """classes: the meaning of each class. parents: of each meaning. words: their meanings."""

    classes: NDArray[np.int64]
    parents: list[tuple[int, ...]]
    words: dict[str, list[int]]

    def terms(self, text: str) -> list[str]:
        """The words that are known among those of a text, the longest first where several could be."""
        tokens = "".join(c if c.isalnum() or c in "'-" else " " for c in text.lower()).split()
        found, at = [], 0
        while at < len(tokens):
            for length in range(min(MOST_WORDS, len(tokens) - at), 0, -1):
                term = self._known(" ".join(tokens[at : at + length]))
                if term:
                    found.append(term)
                    at += length
                    break
            else:
                at += 1
        return found

    def weights(self, term: str) -> NDArray[np.float32]:
        """How much each class is what a term means: (classes,) float32, 0..1. term: of terms()."""
        found = np.zeros(len(self.classes), np.float32)
        for word in {term, self._singular(term) or term}:  # "shoes" is a word of its own too: a position
            for meaning, counts in zip(self.words[word], SENSES, strict=False):
                # A volcano is a crater first, and a mountain as a class: what is a class is meant.
                sure = 1.0 if meaning in self.classes else counts
                np.maximum(found, sure * self._near(meaning), out=found)
        return found

    def _near(self, meaning: int) -> NDArray[np.float32]:
        above = self._above(meaning)
        found = np.zeros(len(self.classes), np.float32)
        for number, chain in enumerate(self._chains):
            if meaning in chain:
                found[number] = 1.0
                continue
            fewest = min((self._below[one] for one in above & chain), default=len(self.classes))
            near = 1 - math.log(fewest) / math.log(len(self.classes))
            found[number] = NEAR_COUNTS * max(0.0, near - NEAR) / (1 - NEAR)
        return found

    @cached_property
    def _chains(self) -> list[set[int]]:
        """All that each class is a kind of, itself too."""
        return [self._above(int(meaning)) for meaning in self.classes]

    @cached_property
    def _below(self) -> Counter[int]:
        """How many classes are a kind of each meaning."""
        return Counter(one for chain in self._chains for one in chain)

    def _above(self, meaning: int) -> set[int]:
        """A meaning and all that it is a kind of."""
        found: set[int] = set()
        waiting = [meaning]
        while waiting:
            one = waiting.pop()
            if one not in found:
                found.add(one)
                waiting += self.parents[one]
        return found

    def _known(self, words: str) -> str:
        """The words as they are known, in the singular if need be; "" where they are not."""
        if len(words) < SHORTEST:
            return ""
        return words if words in self.words else self._singular(words)

    def _singular(self, words: str) -> str:
        for ending, singular in _ENDINGS:
            if words.endswith(ending) and (found := words.removesuffix(ending) + singular) in self.words:
                return found
        return ""


@lru_cache(1)
def nouns() -> Nouns:
    """Those of the file, read once: 0.3 s."""
    text = lzma.decompress(resources.files(__package__).joinpath(FILE).read_bytes()).decode("utf-8")
    head, kinds, *lines = text.splitlines()
    parents = [() if one == "-" else tuple(map(int, one.split(","))) for one in kinds.partition("\t")[2].split(" ")]
    words = {word: list(map(int, numbers.split(" "))) for word, _, numbers in (line.partition("\t") for line in lines)}
    return Nouns(np.array(head.partition("\t")[2].split(" "), np.int64), parents, words)
