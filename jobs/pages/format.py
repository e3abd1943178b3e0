"""Values as text for people: numbers, sizes, times, and names that are not trusted."""

import math
import unicodedata

from markupsafe import Markup

INVISIBLE = frozenset(
    {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
)  # Unicode: control, format (bidi), surrogates, private, lines
SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def written_out(text: str) -> str:
    """The text with every character that cannot be seen, or that reorders others, as an escape such as \\u202e."""
    return text if text.isprintable() else "".join(_escape(char) or char for char in text)


def marked(text: str) -> Markup:
    """Like written_out, as HTML: each escape in its own span, so it differs from a name that spells it out."""
    parts = (
        Markup('<span class="esc">{}</span>').format(escape) if (escape := _escape(char)) else Markup.escape(char)
        for char in text
    )
    return Markup.escape(text) if text.isprintable() else Markup("").join(parts)


def _escape(char: str) -> str | None:
    if unicodedata.category(char) not in INVISIBLE:
        return None
    code = ord(char)
    wide = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return SHORT.get(char, wide)


def number(value: int) -> str:
    """1234567 as 1,234,567."""
    return f"{value:,}"


def count(value: int, singular: str, plural: str | None = None) -> str:
    """'1 image', '1,234 images'."""
    return f"{value:,} {singular if value == 1 else plural or singular + 's'}"


def share(part: int, whole: int, digits: int = 1) -> str:
    """A percentage that says neither 0 % nor 100 % unless it is. digits: after the point."""
    if whole <= 0:
        return "–"
    percent, least = 100 * part / whole, 10.0**-digits
    if 0 < percent < least:
        return f"<{least:.{digits}f} %"
    if 100 - least < percent < 100:
        return f">{100 - least:.{digits}f} %"
    return f"{percent:.{digits}f} %" if percent % 1 else f"{percent:.0f} %"


def portion(value: float) -> str:
    """As share, of a part of one."""
    return share(round(1_000_000 * value), 1_000_000)


def points(value: float) -> str:
    """By how many hundredths one share is more than another: +1.2, −0.3, 0."""
    rounded = round(100 * value, 1)
    return f"{'+' if rounded > 0 else '−'}{abs(rounded):.1f}" if rounded else "0"


def ratio(value: float | None, digits: int = 3) -> str:
    """A score or a cosine; a dash where there is none."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def size(value: int) -> str:
    """Bytes in decimal units: 1.2 GB."""
    amount = float(value)
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if amount < 999.95:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:,.1f} PB"


def duration(seconds: float) -> str:
    """0.4 s, 75 s as 1 min 15 s, 2 h 5 min."""
    if not math.isfinite(seconds):
        return "–"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"


def shown(visible: int, total: int, one: str, which: str = "") -> str:
    """How many of how many: 'All 12 images', 'The 60 worst of 1,234 images'."""
    if visible >= total:
        return count(total, one) if total < 2 else f"All {count(total, one)}"
    if which == "first":
        return f"The first {visible:,} of {count(total, one)}"
    return f"{visible:,} of {count(total, one)}" if not which else f"The {visible:,} {which} of {count(total, one)}"


def value(of: float | None) -> str:
    """A number of any size, to two digits after the point: 0.25, 1,234, 0.0031; a dash where there is none."""
    if of is None or not math.isfinite(of):
        return "–"
    if 0 < abs(of) < 0.01:
        return f"{of:.2g}"
    return f"{of:,.0f}" if abs(of) >= 1000 else f"{of:.2f}"
