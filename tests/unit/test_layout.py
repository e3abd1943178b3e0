"""Catches a label or a split read from the wrong part of a path. Spark's regular expressions are in test_catalog."""

import re

import pytest

from jobs.errors import ConfigError
from jobs.inputs.layout import layout_pattern
from jobs.live.plan import Places

PLAIN = "{split}/{label}/*"


def columns(layout: str, path: str) -> dict[str, str] | None:
    """The columns that a layout reads from a path, or None where the path does not fit."""
    pattern, names = layout_pattern(layout)
    found = re.search(pattern, path)
    return None if found is None else dict(zip(names, found.groups(), strict=True))


@pytest.mark.parametrize(
    ("layout", "path", "expected"),
    [
        (PLAIN, "train/cat/1.jpg", {"split": "train", "label": "cat"}),
        (PLAIN, "train/1.jpg", None),
        (PLAIN, "train/cat/deep/1.jpg", None),
        (PLAIN, "/cat/1.jpg", None),
        ("{label}/{split}/*", "cat/train/1.jpg", {"label": "cat", "split": "train"}),
        ("{split}/{label}/**", "train/cat/a/b/1.jpg", {"split": "train", "label": "cat"}),
        ("**/{label}/*", "a/b/cat/1.jpg", {"label": "cat"}),
        ("**/{label}/*", "cat/1.jpg", {"label": "cat"}),  # as shells and git read it
        ("{split}/**/{label}/*", "train/cat/1.jpg", {"split": "train", "label": "cat"}),
        ("**/{label}/*", "1.jpg", None),
        ("x**/{label}/*", "x/1.jpg", None),
        ("images/*/{label}_*.jpg", "images/7/cat_1.jpg", {"label": "cat"}),
        ("{source}-{split}/*", "web-train/1.jpg", {"source": "web", "split": "train"}),
        ("{label}/*.jpg", "cat/1.png", None),
        ("{label}/*.jpg", "cat/1xjpg", None),  # the dot is a dot
        ("{label}.(1)+[a]$/*", "cat.(1)+[a]$/1.jpg", {"label": "cat"}),
        ("{label} of x/*", "cat of x/1.jpg", {"label": "cat"}),
        (PLAIN, "train/black cat/1.jpg", {"split": "train", "label": "black cat"}),
        (PLAIN, 'train/"o\'cat"/1.jpg', {"split": "train", "label": '"o\'cat"'}),
        (PLAIN, "train/ねこ🐈/1.jpg", {"split": "train", "label": "ねこ🐈"}),
        (PLAIN, "train/a\nb/1\n2.jpg", {"split": "train", "label": "a\nb"}),
        ("**/{label}/*", "a\nb/c\nd/cat/1\n.jpg", {"label": "cat"}),
        (PLAIN, r"train/a\b$1/1.jpg", {"split": "train", "label": r"a\b$1"}),
        ("ねこ/{label}/*", "ねこ/a/1.jpg", {"label": "a"}),
    ],
)
def test_columns(layout: str, path: str, expected: dict[str, str] | None) -> None:
    """A name that is cut at a newline, a space or a quote; text of the layout taken as an expression."""
    assert columns(layout, path) == expected


@pytest.mark.parametrize("layout", ["{class}/*", "{label}/{label}/*", "{}/*", "{Label}/*", "{ label }/*"])
def test_unknown_or_repeated_names_are_refused(layout: str) -> None:
    """A misspelt name that is dropped in silence: all labels would be null."""
    with pytest.raises(ConfigError, match=re.escape(repr(layout))):
        layout_pattern(layout)


@pytest.mark.parametrize("layout", ["*/*", "", "label/*", "{label/*"])
def test_a_layout_without_a_name_is_refused(layout: str) -> None:
    """A layout that reads nothing."""
    with pytest.raises(ConfigError, match="at least one of"):
        layout_pattern(layout)


@pytest.mark.parametrize(
    ("layout", "owner", "uri", "expected"),
    [
        (None, "users/{owner}/**", "s3://b/in/users/u1/x/1.jpg", "u1"),
        (None, "users/{owner}/**", "s3://b/in/others/1.jpg", None),
        ("{owner}/**", None, "s3://b/in/users/1.jpg", "users"),
        ("{owner}/**", "users/u{owner}_*", "s3://b/in/users/u7_1.jpg", "7"),
        ("{label}/*", None, "s3://b/in/users/1.jpg", None),
    ],
)
def test_owners_of_what_arrives(layout: str | None, owner: str | None, uri: str, expected: str | None) -> None:
    """A picture that a watch brings under another owner than a run would."""
    found = Places(("s3://b/in",), layout, owner).of(uri)
    assert found is not None
    assert found["owner"] == expected
