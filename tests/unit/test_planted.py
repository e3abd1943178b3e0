"""The score of planted edits, by hand."""

from tests.bench.edits import EDITS
from tests.bench.planted import ORIGINAL, score


def test_score() -> None:
    """An edit that counts though its original is elsewhere, and a false pair that is counted twice or not at all."""
    members = [
        ("a", ORIGINAL, 1), ("a", "mirror", 1), ("a", "crop_80", 1), ("b", "mirror", 1),  # 6 pairs, 3 false
        ("b", ORIGINAL, 2), ("b", "crop_80", 2),
        ("a", "rotation_5", 3), ("a", "half_size", 3),  # without their original
    ]  # fmt: skip
    found = score(members, 2)
    assert found["edit_recall"] == round(3 / (2 * len(EDITS)), 5)
    by_kind = found["edit_recall_by_kind"]
    assert {kind: share for kind, share in by_kind.items() if share} == {"mirror": 0.5, "crop_80": 1.0}
    assert (found["false_pairs"], found["false_pair_share"]) == (3, round(3 / 8, 6))


def test_score_of_nothing() -> None:
    """A division by zero where nothing was found."""
    found = score([], 3)
    assert (found["edit_recall"], found["false_pair_share"]) == (0.0, 0.0)
