"""The pages of the report: hostile names stay text, numbers read well, the same input gives the same bytes."""

import base64
import hashlib
import re
import shlex
import subprocess
import sys
import zipfile
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from jobs import tables
from jobs.pages import format, rating_views
from jobs.pages import render as pages
from jobs.pages.render import write_report
from jobs.pages.steps import clean_command, next_steps
from jobs.pages.texts import ISSUES, SCORES, THEMES
from jobs.pages.values import (
    Agreement,
    Class,
    Classes,
    Clusters,
    ClusterView,
    Confusion,
    Failure,
    Failures,
    Finding,
    Gallery,
    Held,
    Leaks,
    LeftOut,
    Member,
    Picture,
    Rated,
    Rating,
    ScoreMap,
    Stage,
    Summary,
    Topic,
    Topics,
    Vote,
)

HOSTILE = (
    "<img src=x onerror=alert(1)>.jpg",
    "\"><script>alert(2)</script><a href='javascript:alert(3)'>",
    "' onmouseover='alert(4)' x='",
    "javascript:alert(5)",
    "{{ 7 * 191 }}{% include 'base.html' %}",
    "&lt;b&gt;</style></code></title><b>",
    '`"""\'); DROP TABLE issues; --',
)
TAGS = {
    "html", "head", "meta", "title", "link", "style", "body", "a", "header", "svg", "rect", "g", "circle", "span",
    "nav", "ul", "li", "i", "b", "br", "main", "div", "p", "h1", "h2", "h3", "h4", "del",
    "ins", "dl", "dt", "dd", "section", "ol", "figure",
    "figcaption", "img", "image", "code", "pre", "table", "thead", "tbody", "tfoot", "tr", "th", "td", "footer", "bdi",
}  # fmt: skip
ATTRIBUTES = {
    "lang", "charset", "content", "http-equiv", "name", "rel", "href", "class", "viewbox", "width", "height", "rx",
    "cx", "cy", "r", "aria-hidden", "aria-label", "aria-labelledby", "aria-current", "id", "start", "src", "alt",
    "loading", "decoding", "dir", "scope", "role", "tabindex", "title", "x", "y", "preserveaspectratio",
    "fill-opacity",
}  # fmt: skip
LINK = re.compile(
    r"#main|rating-taste@[12]\.html|thumbs/1\.webp|[a-z_]+(-[0-9]+)?\.html(#t[0-9]+)?|data:image/svg\+xml,[^<>\"]*"
)


class Page(HTMLParser):
    """Collects the tags, the attributes and the text of a page, and its words with one space between tags."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.skip = False
        self.pieces: list[str] = []
        self.feed(path.read_text("utf-8"))
        self.words = " ".join(" ".join(self.pieces).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self.skip = tag == "style"

    def handle_data(self, data: str) -> None:
        if not self.skip:
            self.text += data
            self.pieces.append(data)


def picture(image_id: int, name: str = "a.jpg", **values: object) -> Picture:
    plain = Picture(image_id, f"s3://lake/{name}", f"thumbs/{image_id}.webp", "train", "cat", 640, 480)
    return replace(plain, **values)  # type: ignore[arg-type]


def summary(**values: object) -> Summary:
    plain = Summary("s3://lake/sieve", datetime(2026, 1, 2, 3, 4, tzinfo=UTC), "0.1.0", 0, 0, 0)
    return replace(plain, **values)  # type: ignore[arg-type]


def full(name: str) -> tuple[Summary, list[Gallery], Clusters, Failures, Topics, Classes, list[Rating]]:
    """A report with a value in every field, each text of it being `name`."""
    image = picture(1, name, split=name, label=name, source=name)
    other = picture(2, name, split=name, label=name + "2", source=name, thumb=None)
    finding = Finding(image, 0.25, name, name, other, 0.98765, name, Vote(0.1, 0.9, 0.2))
    whole = summary(
        lake=name, version=name, model=name, images=1234567, embedded=1234566, failed=1, with_issues=12, removable=3,
        removable_bytes=1_500_000, relabel=1, review=2, issues=dict.fromkeys(ISSUES, 3),
        leaks=[Leaks("split", name, name + "2", 2, 1), Leaks("source", name, name + "2", 0, 1)],
        splits={name: 1234560, None: 7}, histograms={"dark_score": [1, 0, 10, 1000]}, thresholds={"dark_score": 0.3},
        stages=[Stage(name, 61.0, {"in": 5, "out": 4, name: 1}, name, [name])],
    )  # fmt: skip
    galleries = [Gallery(issue, 3, [finding]) for issue in ISSUES if issue not in ("corrupted", "unread")]
    clusters = Clusters(9, [ClusterView(1, name, 5, [Member(image, 1.0, True), Member(other, 0.9, False)])])
    failures = Failures(2, {name: 1, "timeout": 1}, [Failure(image, name, name, name, 2)])
    topics = Topics(3, 90, [Topic(7, 60, [image, other], [(name, 50)], [(name, 40)], 5), Topic(8, 30)])
    classes = Classes(
        2, [Class(name, {name: 1000, None: 7}, 4, 9, name), Class(None, {name: 5})], 1007, 1007.0, 3,
        {name: 1005, None: 7}, 4, [LeftOut(name, 1, 3)],
        [Confusion(name, name + "2", 4, 0.25, finding), Confusion(name, name, 1, 0.1)], 3,
    )  # fmt: skip
    rated = Rated(image, 0.75, 0.9, 0.1)
    ratings = [
        Rating(
            "taste@1", "picked", name, 1200, 0.4, 0.1, 0.9, (0.0, 1.0), [3, 0, 9], [rated], [Rated(other, 0.1, 0.2)],
            [rated], [ScoreMap(rated, [[0.1, -0.3], [0.2, 0.4]], exact=True)], None, [Agreement("taste@2", -0.25, 500)],
            [Held(name, 0.9, 0.8, 0.95, 0.5)], 50, name, name,
        ),
        Rating("taste@2", "network", name, 7, 5.0, 1.0, 9.0, (1.0, 9.0), [7], no_maps=name,
               agreement=[Agreement("taste@1", -0.25, 500)]),
    ]  # fmt: skip
    return whole, galleries, clusters, failures, topics, classes, ratings


def read(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_adds_no_tag_attribute_or_link(tmp_path: Path, name: str) -> None:
    write_report(tmp_path, *full(name))
    for path in tmp_path.iterdir():
        page = Page(path)
        assert page.tags <= TAGS, path.name
        assert {key for key, _ in page.attributes} <= ATTRIBUTES, path.name
        assert name in page.text, path.name
        for key, value in page.attributes:
            if key == "src":
                assert pages.THUMB.fullmatch(value)
            if key == "href":
                assert LINK.fullmatch(value)
        assert "1337" not in page.text  # 7 * 191: a template in a name is not run


def test_hostile_text_leaves_the_structure_alone(tmp_path: Path) -> None:
    """Tags and attribute names are the same for a hostile name as for a harmless one."""
    harmless, hostile = tmp_path / "a", tmp_path / "b"
    write_report(harmless, *full("cat"))
    write_report(hostile, *full(HOSTILE[0]))
    for path in harmless.iterdir():
        one, two = Page(path), Page(hostile / path.name)
        assert [key for key, _ in one.attributes] == [key for key, _ in two.attributes], path.name


def test_what_cannot_be_seen_is_written_out(tmp_path: Path) -> None:
    write_report(tmp_path, *full("a\u202eb\nc\td\x00e\u200bf\ud800g\u2028h\U000e0041\x7f\x9b"))
    for path in tmp_path.iterdir():
        text = path.read_text("utf-8")
        assert not set("\u202e\t\x00\u200b\ud800\u2028\U000e0041\x7f\x9b") & set(text), path.name
        seen = r"a\u202eb\nc\td\x00e\u200bf\ud800g\u2028h\U000e0041\x7f\x9b"
        assert seen in Page(path).text, path.name


def test_an_escape_differs_from_a_name_that_spells_it_out() -> None:
    assert format.marked("\n") != format.marked(r"\n")
    assert format.marked("<\n>") == '&lt;<span class="esc">\\n</span>&gt;'
    assert format.marked("Übung 猫 ‑ é") == "Übung 猫 ‑ é"


def test_policy_allows_our_style_and_nothing_else(tmp_path: Path) -> None:
    text = write_report(tmp_path, *full("cat")).read_text("utf-8")
    style = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert len(style) == 1
    digest = base64.b64encode(hashlib.sha256(style[0].encode()).digest()).decode()
    policy = next(value for key, value in Page(tmp_path / "index.html").attributes if value.startswith("default-src"))
    assert policy == f"default-src 'none'; img-src 'self' file: data:; style-src 'sha256-{digest}'; base-uri 'none'"


def test_every_link_leads_to_a_page(tmp_path: Path) -> None:
    write_report(tmp_path, *full("cat"), per_page=1)
    for path in tmp_path.iterdir():
        links = {value for key, value in Page(path).attributes if key == "href" and ".html" in value}
        assert links
        for link in links:
            name, _, anchor = link.partition("#")
            assert (tmp_path / name).is_file()
            assert not anchor or ("id", anchor) in Page(tmp_path / name).attributes


def test_empty_lake(tmp_path: Path) -> None:
    index = Page(write_report(tmp_path, summary(), []))
    assert "The lake has no images yet." in index.text
    assert "Not looked for:" in index.text
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]


def test_nothing_found(tmp_path: Path) -> None:
    galleries = [Gallery("dark", 0, [])]
    whole = summary(images=10, embedded=10, issues={"dark": 0, "corrupted": 0})
    index = Page(write_report(tmp_path, whole, galleries, Clusters(0, []), Failures(0, {}, [])))
    assert "Nothing: no issue asks for a decision." in index.text
    assert "None found: Unreadable files · Too dark" in index.text
    assert "None was found." in Page(tmp_path / "dark.html").text
    assert "Every file could be read." in Page(tmp_path / "corrupted.html").text
    assert "No image has a copy." in Page(tmp_path / "clusters.html").text


def test_texts_are_there_for_all_issues_and_scores() -> None:
    assert set(ISSUES) == set(tables.ISSUES)
    assert set(SCORES) == {*tables.SCORES, *tables.OUTLIER_SCORES}
    assert {text.theme for text in ISSUES.values()} == set(THEMES)
    assert [text.theme for text in ISSUES.values()] == sorted(
        (text.theme for text in ISSUES.values()), key=THEMES.index
    ), "kinds of one theme stand together"
    assert len({text.title for text in ISSUES.values()}) == len(ISSUES)
    assert set(pages.TABLE_NAMES) == set(tables.TABLES) - {"centres", "cells"}


def test_without_labels_the_first_page_says_how_to_give_them(tmp_path: Path) -> None:
    whole = summary(images=5, splits={None: 5})
    assert "The images have neither splits nor labels." in Page(write_report(tmp_path, whole, [])).text
    split = replace(whole, splits={"train": 5})
    index = Page(write_report(tmp_path, split, []))
    assert "The images have neither" not in index.text
    assert "classes.html" not in [value for _, value in index.attributes]


def classes(*of: Class, **values: object) -> Classes:
    sizes = sorted(c.images for c in of if c.label is not None)
    splits: dict[str | None, int] = {}
    for one in of:
        for split, n in one.splits.items():
            splits[split] = splits.get(split, 0) + n
    plain = Classes(len(sizes), of, sizes[-1], sizes[len(sizes) // 2], sizes[0], splits, sum(c.flagged for c in of))
    return replace(plain, **values)  # type: ignore[arg-type]


def test_classes_are_counted_by_split(tmp_path: Path) -> None:
    state = classes(
        Class("cat", {"train": 300, "test": 40}, 17, 20),
        Class("dog", {"train": 1200}),
        Class("newt", {"train": 3}, why_left_out="fewer than 5 images"),
        Class(None, {"train": 9}),
        left_out=[LeftOut("fewer than 5 images", 1, 3)],
        confusions=[Confusion("cat", "dog", 11, 0.0321)],
        confused=4,
    )
    whole = summary(images=1552, splits={"train": 1512, "test": 40})
    index = Page(write_report(tmp_path, whole, [], classes=state))
    assert "cat → dog 11 images" in index.words
    text = Page(tmp_path / "classes.html").words
    assert "3 labels on 1,552 images" in text
    assert "400.0 : 1" in text
    assert "The 1 most frequent of 4 pairs" in text
    assert "cat dog 11 3.2 %" in text
    assert "fewer than 5 images 1 3" in text
    rows = [
        text.index(name) for name in ("dog 1,200 0 1,200", "cat 300 40 340 17 5 % 20 5.9 %", "newt 3 0 3", "no label")
    ]
    assert rows == sorted(rows)


def test_how_many_labels_are_wrong_and_what_they_cost(tmp_path: Path) -> None:
    cat = Class("cat", {None: 300}, 17, noise=(0.0612, 0.05, 0.08), accuracy=(0.9, 0.912, 0.897))
    dog = Class("dog", {None: 200}, noise=(0.004, 0.0, 0.0151), accuracy=(0.5, 0.5, 0.5))
    new = Class("newt", {None: 3}, why_left_out="fewer than 5 images")
    write_report(tmp_path, summary(images=503), [], classes=classes(cat, dog, new, noise=(0.05, 0.03, 0.07)))
    text = Page(tmp_path / "classes.html").words
    assert "Wrong by estimate 5 % between 3 % and 7 %" in text
    assert "cat 300 17 5.7 % 6.1 % 5 % to 8 % 90 % +1.2 −0.3" in text
    assert "dog 200 0 0 % none shown, at most 1.5 % 50 % 0 0" in text
    assert "newt 3 0 0 %" in text
    write_report(tmp_path, summary(images=503), [], classes=classes(dog, new, noise=(0.004, 0.0, 0.02)))
    text = Page(tmp_path / "classes.html").words
    assert "Wrong by estimate none that can be shown at most 2 %" in text
    assert "if corrected" not in text  # nothing is flagged


def test_one_split_has_one_column_of_images(tmp_path: Path) -> None:
    write_report(tmp_path, summary(images=8), [], classes=classes(Class("cat", {None: 5}), Class("dog", {None: 3})))
    assert "Label Images Size cat 5 dog 3 All images 8" in Page(tmp_path / "classes.html").words


def test_a_wrong_label_stands_beside_the_suggested_one(tmp_path: Path) -> None:
    finding = Finding(
        picture(1, label="cat"), 0.02, "relabel", "dog", picture(2, label="dog"), 0.9123, vote=Vote(0.02, 0.95, None)
    )
    write_report(tmp_path, summary(images=10, issues={"wrong_label": 1}), [Gallery("wrong_label", 1, [finding])])
    page = Page(tmp_path / "wrong_label.html")
    text = page.words
    assert "given label cat → suggested label dog" in text
    assert "Labelled cat" in text
    assert "Labelled dog" in text
    assert "cosine 0.9123" in text
    assert "classifier: given 0.02 suggested 0.95" in text
    assert "neighbours" not in text[text.index("classifier: given") :]
    assert [value for key, value in page.attributes if key == "src"] == ["thumbs/1.webp", "thumbs/2.webp"]


def test_leaks_tell_splits_and_kinds_apart(tmp_path: Path) -> None:
    finding = Finding(picture(1, split="test"), 0.0, "review", None, picture(2, split="train"), 1.0, "exact")
    pairs = [Leaks("split", "test", "train", 40, 61), Leaks("split", "train", "test", 44, 0)]
    whole = summary(images=2000, issues={"leak": 145}, splits={"train": 1900, "test": 100}, leaks=pairs)
    index = Page(write_report(tmp_path, whole, [Gallery("leak", 145, [finding])]))
    assert "101 of test also in train; 44 of train also in test" in index.text
    text = Page(tmp_path / "leak.html").words
    assert "train test train 44 2.3 % 44 exact, 0 near test 101 101 % 40 exact, 61 near" in text
    assert "In test" in text
    assert "Also in train" in text
    assert "exact cosine 1.0000" in text


def test_a_matrix_of_leaks_keeps_the_worst_names() -> None:
    pairs = [Leaks("source", f"s{i:02}", f"s{i + 1:02}", i, 1) for i in range(40)]
    matrix = pages.leak_matrix([*pairs, Leaks("split", "a", "b", 1, 1)], "source")
    assert matrix is not None
    assert list(matrix.names) == [f"s{i:02}" for i in range(32, 40)]
    assert matrix.hidden + sum(cell.images for cell in matrix.cells.values()) == sum(pair.images for pair in pairs)
    assert pages.leak_matrix(pairs, "split") is None


def test_topics_show_names_images_and_shares(tmp_path: Path) -> None:
    found = Topics(
        3,
        1000,
        [
            Topic(4, 600, [picture(1), picture(2)], [("tabby", 500), ("lynx", 3)], [("cat", 600)], 60),
            Topic(9, 300, [], [], [("dog", 300)]),
            Topic(2, 100),
        ],
    )
    index = Page(write_report(tmp_path, summary(images=1000), [], topics=found))
    assert "WHERE concept = 'tabby'" in index.text
    assert [value for _, value in index.attributes if value.startswith("topics.html#")] == [
        "topics.html#t4", "topics.html#t9", "topics.html#t2",
    ]  # fmt: skip
    page = Page(tmp_path / "topics.html")
    text = page.words
    assert "All 3 topics · 1,000 images" in text
    assert "cat · tabby 600 images 60 % 10 % with an issue" in text
    assert "dog 300 images" in text
    assert "Topic 2 100 images" in text
    assert "<1 %" in text
    assert {value for key, value in page.attributes if key == "id"} >= {"t4", "t9", "t2"}
    assert "There were too few images" in Page(_topics(tmp_path, Topics(0, 0, []))).text


def _topics(folder: Path, found: Topics) -> Path:
    return write_report(folder, summary(), [], topics=found).with_name("topics.html")


def test_only_kinds_that_were_found_have_a_card(tmp_path: Path) -> None:
    write_report(tmp_path, summary(images=100, issues={"dark": 0, "flat": 3, "wrong_label": 2}), [])
    text = Page(tmp_path / "index.html").words
    assert "Labels no preview Wrong labels 2" in text
    assert "Quality no preview Flat 3" in text
    assert "None found: Too dark" in text
    assert "Outliers 0" not in text


def test_notes_of_the_stages_stand_on_the_first_page(tmp_path: Path) -> None:
    stages = [Stage("labels", 1.0, {"in": 1, "out": 1, "failed": 0}, "done", ["all images have one label", "a < b"])]
    text = Page(write_report(tmp_path, summary(stages=stages), [])).words
    assert "all images have one label a < b" in text


def test_a_note_of_outliers_stands_beside_them(tmp_path: Path) -> None:
    """How many are foreign told far from the outliers, or beside other issues."""
    stages = [Stage("issues", 1.0, {}, "done", ["outliers: 2 % are < foreign", "class outliers: in 3 labels"])]
    galleries = [Gallery(issue, 1, [Finding(picture(1), 0.1)]) for issue in ("outlier", "class_outlier", "dark")]
    write_report(tmp_path, summary(stages=stages), galleries)
    told = {name: Page(tmp_path / f"{name}.html").words for name in ("outlier", "class_outlier", "dark")}
    assert {name for name, words in told.items() if "2 % are < foreign" in words} == {"outlier"}
    assert {name for name, words in told.items() if "in 3 labels" in words} == {"class_outlier"}


def test_every_page_says_how_many_of_how_many(tmp_path: Path) -> None:
    findings = [Finding(picture(i), i / 10) for i in range(5)]
    write_report(tmp_path, summary(images=2000), [Gallery("dark", 1234, findings)], per_page=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "dark-2.html", "dark-3.html", "dark.html", "index.html",
    ]  # fmt: skip
    for name, ids in (("dark.html", "01"), ("dark-2.html", "23"), ("dark-3.html", "4")):
        page = Page(tmp_path / name)
        assert "The 5 worst of 1,234 images" in page.text
        assert "of 3" in page.text
        assert [value for key, value in page.attributes if key == "src"] == [f"thumbs/{i}.webp" for i in ids]


def test_many_pages_have_a_short_pager(tmp_path: Path) -> None:
    findings = [Finding(picture(i), 0.0) for i in range(40)]
    write_report(tmp_path, summary(images=40), [Gallery("dark", 40, findings)], per_page=1)
    hrefs = [value for key, value in Page(tmp_path / "dark-20.html").attributes if key == "href"]
    pager = [href for href in hrefs if re.fullmatch(r"dark-\d+\.html", href)]
    numbers = (19, 18, 19, 20, 21, 22, 40, 21)
    assert pager == [f"dark-{n}.html" for n in numbers]
    assert len(list(tmp_path.iterdir())) == 41


def test_same_input_same_bytes_and_stale_pages_go(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    two.mkdir()
    (two / "dark-7.html").write_text("of an earlier report")
    (two / "topics-2.html").write_text("of an earlier report")
    (two / "notes.html").write_text("not ours")
    write_report(one, *full("cat"))
    write_report(two, *full("cat"))
    second = read(two)
    assert second.pop("notes.html") == b"not ours"
    assert read(one) == second


def test_order_of_the_mappings_does_not_matter(tmp_path: Path) -> None:
    cats, dogs, rest = (
        Class("a", {"test": 1, "train": 2}),
        Class("b", {"train": 1, "test": 2}),
        Class(None, {"train": 3}),
    )
    one = summary(images=9, splits={"train": 6, "test": 3}, histograms={"dark_score": [1], "blur_score": [2]})
    two = replace(one, splits=dict(reversed(list(one.splits.items()))))
    two = replace(two, histograms=dict(reversed(list(one.histograms.items()))))
    write_report(tmp_path / "1", one, [], classes=classes(cats, dogs, rest))
    write_report(tmp_path / "2", two, [], classes=classes(rest, dogs, cats))
    assert read(tmp_path / "1") == read(tmp_path / "2")


def test_steps_are_singular_and_plural() -> None:
    one = summary(
        images=10, removable=1, relabel=1, review=1, failed=1, issues={"leak": 1, "wrong_label": 1, "label_conflict": 1}
    )
    assert [step.title for step in next_steps(one, None, {})] == [
        "1 image leaks between splits",
        "1 label may be wrong",
        "1 image has a copy with another label",
        "1 image could be removed, 10 % of all",
        "1 file could not be read",
        "1 image deserves a look",
        "Make the clean set",
    ]
    issues = {"leak": 2000, "wrong_label": 2, "label_conflict": 2}
    many = replace(one, images=10**6, removable=4321, relabel=2, review=2, failed=2, issues=issues)
    assert [step.title for step in next_steps(many, None, {})] == [
        "2,000 images leak between splits",
        "2 labels may be wrong",
        "2 images have a copy with another label",
        "4,321 images could be removed, 0.4 % of all",
        "2 files could not be read",
        "2 images deserve a look",
        "Make the clean set",
    ]
    assert next_steps(summary(images=10), None, {}) == []


def test_steps_lead_to_the_pages_of_what_was_found() -> None:
    found = {"leak": 1, "wrong_label": 3, "near_duplicate": 9, "flat": 5, "outlier": 7, "class_outlier": 8}
    whole = summary(images=100, issues=found, removable=9, review=20)
    linked = {issue: f"{issue}.html" for issue in found}
    hrefs = [step.href for step in next_steps(whole, None, linked)]
    assert hrefs == ["leak.html", "wrong_label.html", "near_duplicate.html", "class_outlier.html", None]


def test_the_command_for_the_clean_set_can_be_pasted(tmp_path: Path) -> None:
    lake = "/data/it's $(reboot)/lake"
    words = shlex.split(clean_command(lake))
    assert words == ["imagesieve", "clean", "--lake", lake, "--out", "clean.csv"]
    assert clean_command(lake) in Page(write_report(tmp_path, summary(lake=lake, images=1, failed=1), [])).text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (format.number(1234567890), "1,234,567,890"),
        (format.count(1, "image"), "1 image"),
        (format.count(0, "image"), "0 images"),
        (format.count(2, "entry", "entries"), "2 entries"),
        (format.share(1, 10**9), "<0.1 %"),
        (format.share(10**9 - 1, 10**9), ">99.9 %"),
        (format.share(1, 8), "12.5 %"),
        (format.share(5, 5), "100 %"),
        (format.share(0, 5), "0 %"),
        (format.share(0, 0), "–"),
        (format.share(1, 3, 0), "33 %"),
        (format.share(1, 300, 0), "<1 %"),
        (format.share(299, 300, 0), ">99 %"),
        (format.size(999), "999 bytes"),
        (format.size(1_250_000_000), "1.2 GB"),
        (format.size(999_960), "1.0 MB"),
        (format.duration(0.44), "0.4 s"),
        (format.duration(59.97), "1 min 0 s"),
        (format.duration(7500), "2 h 5 min"),
        (format.ratio(None), "–"),
        (format.ratio(float("nan")), "–"),
        (format.ratio(0.98765, 4), "0.9877"),
        (format.shown(60, 1234, "image", "worst"), "The 60 worst of 1,234 images"),
        (format.shown(12, 3120, "image", "first"), "The first 12 of 3,120 images"),
        (format.shown(3, 3, "image", "worst"), "All 3 images"),
        (format.shown(1, 1, "image", "worst"), "1 image"),
    ],
)
def test_numbers_read_well(text: str, expected: str) -> None:
    assert text == expected


def test_bars_show_few_beside_many() -> None:
    drawn = pages.bars([1, 0, 0, 10**9], threshold=0.3)
    assert drawn[0].height > 2
    assert drawn[1].height == 0
    assert drawn[3].height == 72
    assert [bar.low for bar in drawn] == [True, False, False, False]
    assert drawn[0].title == "0.00 to 0.25: 1 image"
    assert pages.bars([], None) == []
    assert pages.bars([0, 0], None)[0].height == 0


def test_the_name_of_the_lake_is_quoted_in_the_snippets(tmp_path: Path) -> None:
    text = Page(write_report(tmp_path, summary(lake='/data/it\'s "a" lake/'), [])).text
    assert "delta_scan('/data/it''s \"a\" lake/issues')" in text
    assert "lake = '/data/it\\'s \"a\" lake'" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"galleries": [Gallery("../../etc/passwd", 1, [])]}, "is not a kind of issue"),
        ({"galleries": [Gallery("corrupted", 1, [])]}, "made from the failures"),
        ({"galleries": [Gallery("dark", 1, []), Gallery("dark", 1, [])]}, "one gallery for each"),
        ({"summary": summary(issues={"ugly": 1})}, "is not a kind of issue"),
        ({"summary": summary(created_at=datetime(2026, 1, 1))}, "time zone"),
        ({"per_page": 0}, "per_page must be at least 1"),
        ({"galleries": [Gallery("dark", 1, [Finding(picture(1, thumb="s3://lake/a.jpg"), 0.1)])]}, "thumb must be"),
        ({"galleries": [Gallery("dark", 1, [Finding(picture(1, thumb="thumbs/../1.webp"), 0.1)])]}, "thumb must be"),
        ({"topics": Topics(1, 1, [Topic(1, 1, [picture(1, thumb="//host/1.webp")])])}, "thumb must be"),
        ({"galleries": [Gallery("dark", 1, [Finding(picture(1, thumb="thumbs/1.webp\n"), 0.1)])]}, "thumb must be"),
    ],
)
def test_a_wrong_call_writes_nothing(tmp_path: Path, change: dict[str, object], message: str) -> None:
    values: dict[str, object] = {"summary": summary(), "galleries": [], **change}
    with pytest.raises(ValueError, match=re.escape(message)):
        write_report(tmp_path, **values)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_templates_are_found_in_a_zip(tmp_path: Path) -> None:
    """The package goes to a cluster as a zip on sys.path: templates must load from inside it."""
    root = Path(pages.__file__).parents[2]
    archive = tmp_path / "suite.zip"
    with zipfile.ZipFile(archive, "w") as bundle:
        modules = (
            root / "udfs" / "__init__.py",
            root / "jobs" / "__init__.py",
            *(root / "jobs" / "pages").glob("*.py"),
        )
        for path in (*modules, *(root / "jobs" / "pages" / "templates").iterdir()):
            bundle.write(path, path.relative_to(root))
    program = (
        f"import sys; sys.path.insert(0, {str(archive)!r})\n"
        "from datetime import UTC, datetime; from pathlib import Path\n"
        "from jobs.pages import render as r\n"
        "from jobs.pages.values import Summary\n"
        "assert 'suite.zip' in r.__file__, r.__file__\n"
        "s = Summary('/lake', datetime(2026, 1, 2, tzinfo=UTC), '0.1.0', 0, 0, 0)\n"
        f"print(r.write_report(Path({str(tmp_path / 'out')!r}), s, []))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "imagesieve" in (tmp_path / "out" / "index.html").read_text("utf-8")


def test_a_rating_has_a_page_and_its_map_tells_what_raises_from_what_lowers(tmp_path: Path) -> None:
    """A map whose cells lie elsewhere, or are coloured against zero and not against their mean; a stale page."""
    (tmp_path / "rating-gone@1.html").write_text("old")
    (tmp_path / "rating-notes.html").write_text("mine")
    index = write_report(tmp_path, *full("cat"))
    assert "rating-taste@1.html" in index.read_text("utf-8")
    assert not (tmp_path / "rating-gone@1.html").exists()
    assert (tmp_path / "rating-notes.html").exists()
    text = (tmp_path / "rating-taste@1.html").read_text("utf-8")
    cells = re.findall(
        r'<rect class="(raises|lowers)" x="(.*?)" y="(.*?)" width="(.*?)" height="(.*?)" fill-o.*?="(.*?)"', text
    )
    # Of 0.1, -0.3, 0.2 and 0.4 the mean is 0.1: the first adds nothing, the second is the strongest.
    assert [kind for kind, *_ in cells] == ["lowers", "lowers", "raises", "raises"]
    assert [tuple(map(float, place)) for _, *place, _ in cells] == [
        (0, 0, 320, 240), (320, 0, 320, 240), (0, 240, 320, 240), (320, 240, 320, 240),
    ]  # fmt: skip
    strength = [float(cell[-1]) for cell in cells]
    assert strength[0] == 0
    assert strength[1] == max(strength)
    assert strength[3] == pytest.approx(0.75 * strength[1], 0.01)
    assert "Spearman" in text
    assert "-0.25" in text
    words = Page(tmp_path / "rating-taste@1.html").words
    assert "score 0.75 ± 0.10" in words
    assert "Best" in words
    assert "Least sure" in words
    other = Page(tmp_path / "rating-taste@2.html").words
    assert "network of its own" in other
    assert "Worst" not in other
    assert "-0.25" in Page(tmp_path / "ratings.html").words


def test_a_map_of_the_middle_of_a_picture_lies_there() -> None:
    """A map of a network that sees the largest square alone, drawn over all of the picture."""
    rated = Rated(picture(1, width=640, height=480), 0.5, 0.5)
    rating = Rating("taste@1", "rating", "", 1, 0, 0, 0, (0, 1), [], maps=[ScoreMap(rated, [[1.0, 2.0]], True, False)])
    (drawn,) = rating_views.drawn_maps(rating)
    assert [(cell.x, cell.y, cell.width, cell.height) for cell in drawn.cells] == [
        (80, 0, 240, 480),
        (320, 0, 240, 480),
    ]


def test_a_rating_that_is_no_name_gets_no_page(tmp_path: Path) -> None:
    """A key that leaves the folder."""
    bad = replace(full("cat")[-1][0], key="../taste@1")
    with pytest.raises(ValueError, match="NAME@REVISION"):
        write_report(tmp_path, *full("cat")[:-1], [bad])
