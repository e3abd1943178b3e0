"""What the pages of the report show, as plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

OTHER_SPLITS = "all other splits"  # the name under which the small ones of very many splits are counted


@dataclass(frozen=True)
class Picture:
    """One image. thumb: 'thumbs/<image_id>-<hash>.jpg' relative to the folder, None for no preview; sizes: pixels."""

    image_id: int
    uri: str
    thumb: str | None = None
    split: str | None = None
    label: str | None = None
    width: int | None = None
    height: int | None = None
    source: str | None = None


@dataclass(frozen=True)
class Vote:
    """What speaks for another label: the classifier's confidence in the given and in the suggested label, and the
    share of the nearest images that have the given one; in [0, 1], None where it is not known."""

    given: float | None
    suggested: float | None
    neighbours: float | None


@dataclass(frozen=True)
class Finding:
    """One row of `issues`. score in [0, 1], low = bad; suggestion is remove, relabel or review; cosine is that of the
    picture and the evidence; detail tells 'exact' and 'near' leaks apart, and how copies differ; vote is about a label;
    mark is a picture of what differs, as Picture.thumb."""

    picture: Picture
    score: float | None
    suggestion: str | None = None
    suggested_label: str | None = None
    evidence: Picture | None = None
    cosine: float | None = None
    detail: str | None = None
    vote: Vote | None = None
    mark: str | None = None


@dataclass(frozen=True)
class Gallery:
    """The findings to show of one kind of issue, in the order to show them (worst first), of `total` in the table."""

    issue: str
    total: int
    findings: Sequence[Finding]


@dataclass(frozen=True)
class Member:
    """One image of a cluster; cosine is that to the keeper; relation says how they differ."""

    picture: Picture
    cosine: float | None
    is_keeper: bool
    relation: str | None = None


@dataclass(frozen=True)
class ClusterView:
    """One cluster of duplicates. kind: exact or near; `members` may be fewer than `size`, the keeper first."""

    cluster_id: int
    kind: str
    size: int
    members: Sequence[Member]


@dataclass(frozen=True)
class Clusters:
    """The clusters to show (largest first) of `total` in the table."""

    total: int
    clusters: Sequence[ClusterView]


@dataclass(frozen=True)
class Failure:
    """One image that could not be read. error: a code of report_texts.ERRORS."""

    picture: Picture
    error: str
    detail: str | None = None
    stage: str | None = None
    attempt: int | None = None


@dataclass(frozen=True)
class Failures:
    """The failures to show of `total`; codes: all failures by code."""

    total: int
    codes: Mapping[str, int]
    failures: Sequence[Failure]


@dataclass(frozen=True)
class Leaks:
    """Images of one split or source that lie in another one too: `exact` with the same pixels, `near` nearly so.

    between: 'split' or 'source'."""

    between: str
    here: str
    there: str
    exact: int
    near: int

    @property
    def images(self) -> int:
        return self.exact + self.near


@dataclass(frozen=True)
class Topic:
    """A group of images of like content. typical: those nearest to its centre. concepts and labels: name -> images,
    the most common first. with_issues: images of it with any issue."""

    topic_id: int
    images: int
    typical: Sequence[Picture] = ()
    concepts: Sequence[tuple[str, int]] = ()
    labels: Sequence[tuple[str, int]] = ()
    with_issues: int = 0


@dataclass(frozen=True)
class Topics:
    """The topics to show (largest first) of `total`; images: those of all topics."""

    total: int
    images: int
    topics: Sequence[Topic]


@dataclass(frozen=True)
class Class:
    """The images of one label, None for those without. splits: split -> images. flagged: labels that may be wrong.
    with_issues: images with any issue. why_left_out: why its labels were not judged, None where they were. noise: the
    share of its labels that is wrong by estimate, and its interval. accuracy: of a linear classifier fitted to the
    labels as they are, with the flagged ones corrected, and without them."""

    label: str | None
    splits: Mapping[str | None, int]
    flagged: int = 0
    with_issues: int = 0
    why_left_out: str | None = None
    noise: tuple[float, float, float] | None = None
    accuracy: tuple[float, float, float] | None = None

    @property
    def images(self) -> int:
        return sum(self.splits.values())


@dataclass(frozen=True)
class LeftOut:
    """Classes whose labels were not judged, for one reason."""

    why: str
    classes: int
    images: int


@dataclass(frozen=True)
class Confusion:
    """Images labelled `label` that look like `other`. share: of the images of `label`, in [0, 1]. example: the
    clearest one of them."""

    label: str
    other: str
    images: int
    share: float
    example: Finding | None = None


@dataclass(frozen=True)
class Classes:
    """The state of the labels. total: distinct labels, null not counted. classes: the largest and the smallest of them
    and, where there are images without a label, that class. biggest, median, smallest: images of a class. splits:
    split -> images of all classes. flagged: labels that may be wrong. confusions: of `confused` pairs of labels those
    with most images. noise: the share of all labels that is wrong by estimate, and its interval. given: labels of all
    images, one where there is none; None: as many as images. set_noise: of those of several an image, the share that
    does not hold."""

    total: int
    classes: Sequence[Class]
    biggest: int
    median: float
    smallest: int
    splits: Mapping[str | None, int]
    flagged: int = 0
    left_out: Sequence[LeftOut] = ()
    confusions: Sequence[Confusion] = ()
    confused: int = 0
    noise: tuple[float, float, float] | None = None
    given: int | None = None
    set_noise: float | None = None

    @property
    def images(self) -> int:
        return sum(self.splits.values())

    @property
    def labels(self) -> int:
        return self.images if self.given is None else self.given


@dataclass(frozen=True)
class Rated:
    """One image and its score by a rating. percentile: the share of the lake that scores lower. uncertainty: standard
    deviation of the score, None where it is not known."""

    picture: Picture
    score: float
    percentile: float
    uncertainty: float | None = None


@dataclass(frozen=True)
class ScoreMap:
    """Where in a picture its score comes from. shares: what each cell adds, row by row, all rows of one length. exact:
    whether they add up to the score less what is the same for all; else told by occlusion. whole: whether the cells
    cover the whole picture; else the largest square in its middle."""

    rated: Rated
    shares: Sequence[Sequence[float]]
    exact: bool
    whole: bool = True


@dataclass(frozen=True)
class Held:
    """A figure of a rating on judgements that its fit has not seen, its 95 % interval, and what chance reaches."""

    name: str
    value: float
    low: float
    high: float
    chance: float


@dataclass(frozen=True)
class Agreement:
    """Spearman's correlation with another rating over a sample of images that have both."""

    other: str
    correlation: float
    images: int


@dataclass(frozen=True)
class Rating:
    """A rating NAME@REVISION. kind: of judgements, or foreign or network. images: that have a score; mean, low, high:
    of the scores. counts: in equal bins over `scale`. judgements: None where others have fitted it. no_maps: why there
    are no maps, None where there are or nothing was asked."""

    key: str
    kind: str
    units: str
    images: int
    mean: float
    low: float
    high: float
    scale: tuple[float, float]
    counts: Sequence[int]
    best: Sequence[Rated] = ()
    worst: Sequence[Rated] = ()
    unsure: Sequence[Rated] = ()
    maps: Sequence[ScoreMap] = ()
    no_maps: str | None = None
    agreement: Sequence[Agreement] = ()
    figures: Sequence[Held] = ()
    judgements: int | None = None
    licence: str | None = None
    source: str | None = None

    @property
    def is_probability(self) -> bool:
        return self.scale == (0.0, 1.0) and self.kind == "picked"


@dataclass(frozen=True)
class Stage:
    """One row of `runs`. counts: 'in', 'out', 'failed' and whatever else the stage counted. notes: what it has to say
    to a person, a line each."""

    job: str
    seconds: float
    counts: Mapping[str, int]
    status: str
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Summary:
    """What the first page says. Counts are of images. created_at needs a time zone.

    issues: kind -> images; a kind that is absent was not looked for, 0 means none was found.
    splits: split -> images, complete (OTHER_SPLITS). leaks: by pair of splits or sources, the most images first.
    histograms: score -> counts in equal bins over [0, 1]. thresholds: score -> where an issue begins.
    removable, relabel, review: distinct images by suggestion. with_issues: distinct images with any issue.
    """

    lake: str
    created_at: datetime
    version: str
    images: int
    embedded: int
    failed: int
    model: str | None = None
    issues: Mapping[str, int] = field(default_factory=dict)
    with_issues: int | None = None
    removable: int = 0
    removable_bytes: int | None = None
    relabel: int = 0
    review: int = 0
    leaks: Sequence[Leaks] = ()
    splits: Mapping[str | None, int] = field(default_factory=dict)
    histograms: Mapping[str, Sequence[int]] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    stages: Sequence[Stage] = ()
