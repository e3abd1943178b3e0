"""The words of the report: how it speaks of each kind of issue, each error and each score."""

from collections.abc import Mapping
from dataclasses import dataclass

COPIES = "Copies and leaks"
LABELS = "Labels"
OUTLIERS = "Outliers"
QUALITY = "Quality"
PEOPLE = "People and text"
THEMES = (COPIES, LABELS, OUTLIERS, QUALITY, PEOPLE)  # in the order of the pages


@dataclass(frozen=True)
class IssueText:
    """How the report speaks of one kind of issue. `evidence` is the caption of the other image."""

    title: str
    theme: str  # one of THEMES
    tone: str  # bad, warn or info: the class of its colour
    what: str
    how: str
    do: str
    evidence: str = "Compare with"
    ranked: bool = True  # False: all scores are alike, so none of them is the worst


ISSUES: Mapping[str, IssueText] = {
    "leak": IssueText(
        "Leaks between splits",
        COPIES,
        "bad",
        "The same picture, or nearly the same, is in more than one split.",
        "Duplicate clusters whose members belong to different splits.",
        "Remove it from one of the splits before you trust a test result.",
        "Also in",
    ),
    "source_overlap": IssueText(
        "Overlapping sources",
        COPIES,
        "info",
        "The same picture, or nearly the same, came from more than one source.",
        "Duplicate clusters whose members belong to different sources.",
        "Fine if the sources may share pictures; otherwise decide which of them keeps it.",
        "Also in",
    ),
    "exact_duplicate": IssueText(
        "Exact duplicates",
        COPIES,
        "warn",
        "Pixel for pixel the same as the image that is kept.",
        "Equal hashes of the decoded pixels, whatever the file's name or metadata.",
        "Remove it. Where the labels of the two differ, first decide which is right.",
        "Kept",
        ranked=False,
    ),
    "near_duplicate": IssueText(
        "Near duplicates",
        COPIES,
        "warn",
        "The same picture after an edit: resized, cropped, mirrored or saved again.",
        "Their embeddings are alike, and of one picture laid over the other the detail agrees.",
        "Look at a few, then remove them: what they show is kept.",
        "Kept",
    ),
    "look_alike": IssueText(
        "Look-alikes",
        COPIES,
        "info",
        "Nearly the same picture, but what it shows differs: another text, part or colour.",
        "Their embeddings are alike; of one picture laid over the other some detail, or the colours, do not agree.",
        "Keep both, unless you want one of each template or thing.",
    ),
    "wrong_label": IssueText(
        "Wrong labels",
        LABELS,
        "bad",
        "The image looks like those of another label.",
        "A classifier that never saw this image doubts the label; its nearest neighbours have their say too. Of "
        "several labels those are named that probably do not hold, or are missing.",
        "Compare the two pictures: take the suggested label, keep the given one, or leave the image out.",
        "Looks like",
    ),
    "label_conflict": IssueText(
        "Conflicting labels",
        LABELS,
        "bad",
        "The same picture has two labels.",
        "Its duplicates, exact or near, do not all have its label.",
        "Decide which label is right; a picture that can have both teaches a model nothing.",
        "Labelled otherwise",
    ),
    "outlier": IssueText(
        "Outliers",
        OUTLIERS,
        "warn",
        "Unlike every other image here.",
        "Even its nearest neighbours are far away in the space of embeddings, and it varies as no other does: "
        "further than the least typical of the lake's own images would.",
        "Check whether it belongs in this data at all.",
        "Nearest image",
    ),
    "class_outlier": IssueText(
        "Class outliers",
        OUTLIERS,
        "warn",
        "Unlike the other images of its label, and like no other label either.",
        "Its embedding lies far from what is usual for the label.",
        "Check whether the label is right, or the image shows something rare of it.",
        "Nearest of its label",
    ),
    "corrupted": IssueText(
        "Unreadable files",
        QUALITY,
        "bad",
        "The file could not be read: it is broken, or it is good and was not read.",
        "Every file is fetched and decoded once; what fails is kept with its error.",
        "Fetch again or remove what is broken; keep what was only not read: its issue, unread, says what would help.",
    ),
    "damaged": IssueText(
        "Damaged files",
        QUALITY,
        "info",
        "The file is not quite whole, though all of its pixels are there.",
        "The decoder met something that no picture needs: no end marker, padding, a broken chunk.",
        "Save it again: other programs may refuse it.",
        ranked=False,
    ),
    "unread": IssueText(
        "Not read",
        QUALITY,
        "info",
        "The file may be good: its format is not read here, or it is beyond a limit, out of reach or out of time.",
        "Every file is fetched and decoded once; what fails is kept with its error.",
        "The column detail of the issue says what would read it: a setting, a right, another format.",
    ),
    "low_quality": IssueText(
        "Low quality",
        QUALITY,
        "warn",
        "The picture as a whole is technically poor.",
        "The mean of its technical scores is low, though none of them alone is below its limit.",
        "Find a better copy, or leave it out where your model needs clear pictures.",
    ),
    "dark": IssueText(
        "Too dark",
        QUALITY,
        "info",
        "Nearly all of the image is black or almost black.",
        "Even its bright pixels (99th percentile) have a low brightness.",
        "Check whether anything can be recognised; if not, remove it.",
    ),
    "bright": IssueText(
        "Too bright",
        QUALITY,
        "info",
        "Nearly all of the image is white or overexposed.",
        "Much of it is clipped by too much light, or even its dark pixels (5th percentile) are bright.",
        "Check whether anything can be recognised; if not, remove it.",
    ),
    "low_contrast": IssueText(
        "Low contrast",
        QUALITY,
        "info",
        "All of the image has nearly the same brightness: it looks faded or foggy.",
        "Its dark and its bright pixels (1st and 99th percentile of brightness) lie close together.",
        "Keep it if fog or haze is meant, otherwise stretch its contrast or find another copy.",
    ),
    "blurry": IssueText(
        "Blurry",
        QUALITY,
        "info",
        "The image has no sharp edges.",
        "One more slight blur takes little from its corners: they were soft before.",
        "Keep it if the blur is meant, otherwise find a sharper copy.",
    ),
    "noisy": IssueText(
        "Noisy",
        QUALITY,
        "info",
        "Grain covers the picture.",
        "Brightness varies from pixel to pixel even where the picture is calmest.",
        "Keep it if your model will see such pictures, otherwise find a cleaner copy.",
    ),
    "blocky": IssueText(
        "Blocky",
        QUALITY,
        "info",
        "The squares of a strong JPEG compression can be seen.",
        "Brightness jumps at the edges of JPEG's blocks, or the file says that it was saved at a very low quality.",
        "Look for the original: this one was saved at a low quality, or many times.",
    ),
    "low_information": IssueText(
        "Little information",
        QUALITY,
        "info",
        "One colour or a plain pattern: there is almost nothing in it.",
        "The entropy of its brightness is low.",
        "Often a placeholder or a failed download: remove it.",
    ),
    "flat": IssueText(
        "Flat",
        QUALITY,
        "info",
        "Flat areas fill the picture, as in a placeholder, a drawing or a blank page.",
        "Hardly any part of the picture varies at all.",
        "Remove placeholders; keep drawings and logos if they belong here.",
    ),
    "odd_size": IssueText(
        "Odd size",
        QUALITY,
        "info",
        "Much smaller or larger than the images around it.",
        "Its side, the square root of its area, is far from the median of all.",
        "Small ones are often thumbnails: look for the original.",
    ),
    "odd_aspect_ratio": IssueText(
        "Odd shape",
        QUALITY,
        "info",
        "Very wide or very tall.",
        "The ratio of its short side to its long side is low.",
        "Check that a resize or crop to your model's input leaves the subject in.",
    ),
    "grayscale": IssueText(
        "Grayscale",
        QUALITY,
        "info",
        "It has no colour.",
        "Its colour channels are the same, or nearly, while most images here are in colour.",
        "Fine if your model expects it; otherwise keep an eye on the balance between classes.",
        ranked=False,
    ),
    "needs_release": IssueText(
        "People to be asked",
        PEOPLE,
        "info",
        "A face is large enough for the person to be recognised.",
        "The widest face is at least 20 pixels wide in the original, or as many as the limit says.",
        "See whether the person has agreed, if you want to publish or sell the picture. Some are dolls or animals.",
    ),
    "mostly_text": IssueText(
        "Mostly text",
        PEOPLE,
        "info",
        "Text covers much of the picture: a page, a screenshot, a slide or a meme.",
        "Regions in which a reader reads something cover more of it than the limit allows.",
        "Leave it out where your model is to see photographs.",
    ),
}

ERRORS: Mapping[str, str] = {
    "not_found": "There is no file at this address any more.",
    "access_denied": "The store refused to hand it out: check the rights of the role.",
    "timeout": "It took too long. The next run tries it again.",
    "fetch_failed": "The store or the network failed. The next run tries it again.",
    "empty": "The file has no bytes.",
    "too_many_bytes": "The file is larger than the limit in the configuration.",
    "too_many_pixels": "The image has more pixels than the limit in the configuration.",
    "not_an_image": "The bytes are not those of an image.",
    "unsupported": "An image format or a variant that is not supported.",
    "truncated": "The file ends before the image does.",
    "corrupt": "The image data is damaged.",
    "crashed": "The decoder crashed or hung on this file.",
    "no_vector": "The imported vectors hold none for it, or none that is usable.",
}

RELATIONS: Mapping[str, str] = {  # as on docs/copies.md
    "same_pixels": "same pixels",
    "recompressed": "saved again",
    "resized": "resized",
    "brightness": "other light",
    "cropped": "cropped",
    "mirrored": "mirrored",
    "turned": "turned",
    "framed": "framed",
    "overlay": "written over or covered",
    "grey": "without colours",
    "recoloured": "other colours",
    "other_detail": "other detail",
    "unlike": "unlike",
}

SCORES: Mapping[str, str] = {
    "quality_score": "Overall quality",
    "brisque_score": "Undistorted (BRISQUE)",
    "dark_score": "Not too dark",
    "bright_score": "Not too bright",
    "contrast_score": "Contrast",
    "blur_score": "Sharpness",
    "noise_score": "Free of noise",
    "blockiness_score": "Free of JPEG blocks",
    "information_score": "Information",
    "flat_score": "Not flat",
    "size_score": "Usual size",
    "aspect_ratio_score": "Shape",
    "colour_score": "Colour",
    "outlier_score": "Like other images",
    "class_outlier_score": "Like its class",
}

FIGURES: Mapping[str, str] = {  # of ratings, as on docs/ratings.md
    "spearman": "Spearman’s correlation",
    "kendall": "Kendall’s correlation",
    "auc": "AUC",
    "average_precision": "Average precision",
    "pairs_right": "Pairs in the right order",
}
