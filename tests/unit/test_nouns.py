"""Catches a word that means other classes than WordNet says, and one that is not known in the plural."""

import numpy as np
import pytest

from udfs.networks import concepts, models
from udfs.networks.nouns import nouns

NAMES = concepts.class_names(models.find(models.DEFAULT))


def meant(term: str) -> set[str]:
    """The classes that are a kind of a term."""
    return {NAMES[place] for place in np.flatnonzero(nouns().weights(term) > 0.99)}


def test_each_class_means_itself() -> None:
    """Meanings that stand in another order than the classes."""
    assert len(nouns().classes) == len(NAMES)
    for name in ("tench", "goldfish", "tabby", "airliner", "volcano", "stinkhorn", "web site"):
        assert name in meant(nouns().terms(name)[0])


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("Dogs!", ["dog"]),
        ("a great white shark, at sea", ["great white shark", "sea"]),
        ("butterflies and WOLVES", ["butterfly", "wolf"]),
        ("xyzzy 12 in a", []),
        ("", []),
        ("<script>alert</script>", ["script", "alert", "script"]),
    ],
)
def test_terms(text: str, terms: list[str]) -> None:
    assert nouns().terms(text) == terms


def test_kinds_and_what_is_near() -> None:
    """A kind that is missing, a plural that is another word, and what is near counted as much as what is meant."""
    assert len(meant("dog")) > 100
    assert {"sandal", "Loafer", "running shoe"} <= meant("shoes")
    assert "sorrel" in meant("horse")
    deer = nouns().weights("deer")
    assert 0 < deer[NAMES.index("impala")] < 0.3
    assert deer[NAMES.index("teapot")] == 0
