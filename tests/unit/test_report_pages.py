"""The pages of the report: hostile names stay text, numbers read well, the same input gives the same bytes."""

import base64
import hashlib
import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from jobs import report_pages as pages
from jobs.report_pages import (
    ISSUES,
    Clusters,
    ClusterView,
    Failure,
    Failures,
    Finding,
    Gallery,
    Member,
    Picture,
    Stage,
    Summary,
    write_report,
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
    "nav", "ul", "li", "i", "b", "main", "div", "p", "h1", "h2", "h3", "dl", "dt", "dd", "section", "ol", "figure",
    "figcaption", "img", "code", "pre", "table", "thead", "tbody", "tfoot", "tr", "th", "td", "footer", "bdi",
}  # fmt: skip
ATTRIBUTES = {
    "lang", "charset", "content", "http-equiv", "name", "rel", "href", "class", "viewbox", "width", "height", "rx",
    "cx", "cy", "r", "aria-hidden", "aria-label", "aria-labelledby", "aria-current", "id", "start", "src", "alt",
    "loading", "decoding", "dir", "scope", "role", "tabindex", "title", "x", "y", "preserveaspectratio",
}  # fmt: skip
LINK = re.compile(r"#main|(index|clusters|[a-z_]+)(-[0-9]+)?\.html|data:image/svg\+xml,[^<>\"]*")


class Page(HTMLParser):
    """Collects the tags, the attributes and the text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.skip = False
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self.skip = tag == "style"

    def handle_data(self, data: str) -> None:
        if not self.skip:
            self.text += data


def picture(image_id: int, name: str = "a.jpg", **values: object) -> Picture:
    plain = Picture(image_id, f"s3://lake/{name}", f"thumbs/{image_id}.webp", "train", "cat", 640, 480)
    return replace(plain, **values)  # type: ignore[arg-type]


def summary(**values: object) -> Summary:
    plain = Summary("s3://lake/sieve", datetime(2026, 1, 2, 3, 4, tzinfo=UTC), "0.1.0", 0, 0, 0)
    return replace(plain, **values)  # type: ignore[arg-type]


def full(name: str) -> tuple[Summary, list[Gallery], Clusters, Failures]:
    """A report with a value in every field, each text of it being `name`."""
    image = picture(1, name, split=name, label=name)
    other = picture(2, name, split=name, label=name + "2", thumb=None)
    finding = Finding(image, 0.25, name, name, other, 0.98765, name)
    whole = summary(
        lake=name, version=name, model=name, images=1234567, embedded=1234566, failed=1, with_issues=12, removable=3,
        removable_bytes=1_500_000, relabel=1, review=2, issues=dict.fromkeys(ISSUES, 3), leaks={(name, name): 3},
        splits={name: 1234560, None: 7}, labels={name: {name: 1000, None: 7}, None: {name: 5}}, labels_total=2,
        label_issues={name: 4}, histograms={"dark_score": [1, 0, 10, 1000]}, thresholds={"dark_score": 0.3},
        stages=[Stage(name, 61.0, {"in": 5, "out": 4, name: 1}, name)],
    )  # fmt: skip
    galleries = [Gallery(issue, 3, [finding]) for issue in ISSUES if issue != "corrupted"]
    clusters = Clusters(9, [ClusterView(1, name, 5, [Member(image, 1.0, True), Member(other, 0.9, False)])])
    return whole, galleries, clusters, Failures(2, {name: 1, "timeout": 1}, [Failure(image, name, name, name, 2)])


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
    assert pages.marked("\n") != pages.marked(r"\n")
    assert pages.marked("<\n>") == '&lt;<span class="esc">\\n</span>&gt;'
    assert pages.marked("Übung 猫 ‑ é") == "Übung 猫 ‑ é"


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
        links = {value for key, value in Page(path).attributes if key == "href" and value.endswith(".html")}
        assert links
        assert all((tmp_path / link).is_file() for link in links)


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


def test_labels_are_counted_without_null(tmp_path: Path) -> None:
    labels = {"cat": {None: 2}, None: {None: 3}}
    whole = summary(images=5, splits={None: 5}, labels=labels, labels_total=1)
    assert "1 label, counted in images." in Page(write_report(tmp_path, whole, [])).text
    bare = replace(whole, labels={None: {None: 5}}, labels_total=0)
    assert "The images have neither splits nor labels." in Page(write_report(tmp_path, bare, [])).text


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
    (two / "notes.html").write_text("not ours")
    write_report(one, *full("cat"))
    write_report(two, *full("cat"))
    second = read(two)
    assert second.pop("notes.html") == b"not ours"
    assert read(one) == second


def test_order_of_the_mappings_does_not_matter(tmp_path: Path) -> None:
    counts: dict[str | None, dict[str | None, int]] = {
        "a": {"test": 1, "train": 2},
        "b": {"test": 2, "train": 1},
        None: {"train": 3},
    }
    one = summary(images=9, splits={"train": 6, "test": 3}, labels=counts, histograms={"a": [1], "b": [2]})
    two = replace(one, splits=dict(reversed(list(one.splits.items()))), labels=dict(reversed(list(one.labels.items()))))
    two = replace(two, histograms=dict(reversed(list(one.histograms.items()))))
    first, second = write_report(tmp_path / "1", one, []), write_report(tmp_path / "2", two, [])
    assert first.read_bytes() == second.read_bytes()


def test_labels_beyond_the_largest_are_one_row() -> None:
    labels = {f"label {i:03}": {"train": 100 + i, None: 1} for i in range(80)}
    whole = summary(splits={"train": 100 * 80 + 79 * 40, None: 80}, labels=labels, labels_total=80)
    rows = pages.label_rows(whole, ["train", None])
    assert len(rows) == pages.TOP_LABELS + 1
    assert rows[0].name == "label 079"
    assert rows[-1].is_rest
    assert rows[-1].counts == [sum(100 + i for i in range(30)), 30]


def test_steps_are_singular_and_plural() -> None:
    one = summary(images=10, removable=1, relabel=1, review=1, failed=1, issues={"leak": 1})
    assert [step.title for step in pages.next_steps(one, {})] == [
        "1 image leaks between splits",
        "1 image could be removed, 10 % of all",
        "1 label may be wrong",
        "1 file could not be read",
        "1 image deserves a look",
    ]
    many = replace(one, images=10**6, removable=4321, relabel=2, review=2, failed=2, issues={"leak": 2000})
    assert [step.title for step in pages.next_steps(many, {})] == [
        "2,000 images leak between splits",
        "4,321 images could be removed, 0.4 % of all",
        "2 labels may be wrong",
        "2 files could not be read",
        "2 images deserve a look",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (pages.number(1234567890), "1,234,567,890"),
        (pages.count(1, "image"), "1 image"),
        (pages.count(0, "image"), "0 images"),
        (pages.count(2, "entry", "entries"), "2 entries"),
        (pages.share(1, 10**9), "<0.1 %"),
        (pages.share(10**9 - 1, 10**9), ">99.9 %"),
        (pages.share(1, 8), "12.5 %"),
        (pages.share(5, 5), "100 %"),
        (pages.share(0, 5), "0 %"),
        (pages.share(0, 0), "–"),
        (pages.size(999), "999 bytes"),
        (pages.size(1_250_000_000), "1.2 GB"),
        (pages.size(999_960), "1.0 MB"),
        (pages.duration(0.44), "0.4 s"),
        (pages.duration(59.97), "1 min 0 s"),
        (pages.duration(7500), "2 h 5 min"),
        (pages.ratio(None), "–"),
        (pages.ratio(float("nan")), "–"),
        (pages.ratio(0.98765, 4), "0.9877"),
        (pages.shown(60, 1234, "image", "worst"), "The 60 worst of 1,234 images"),
        (pages.shown(12, 3120, "image", "first"), "The first 12 of 3,120 images"),
        (pages.shown(3, 3, "image", "worst"), "All 3 images"),
        (pages.shown(1, 1, "image", "worst"), "1 image"),
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
    root = Path(pages.__file__).parent
    archive = tmp_path / "suite.zip"
    with zipfile.ZipFile(archive, "w") as bundle:
        marker = root.parent / "udfs" / "__init__.py"
        for path in (marker, root / "__init__.py", root / "report_pages.py", *sorted((root / "templates").iterdir())):
            bundle.write(path, path.relative_to(root.parent))
    program = (
        f"import sys; sys.path.insert(0, {str(archive)!r})\n"
        "from datetime import UTC, datetime; from pathlib import Path; from jobs import report_pages as r\n"
        "assert 'suite.zip' in r.__file__, r.__file__\n"
        "s = r.Summary('/lake', datetime(2026, 1, 2, tzinfo=UTC), '0.1.0', 0, 0, 0)\n"
        f"print(r.write_report(Path({str(tmp_path / 'out')!r}), s, []))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "imagesieve" in (tmp_path / "out" / "index.html").read_text("utf-8")
