"""What it means that a picture was not read: it is broken, or it may be good and something keeps it from being read."""

# Of failures: the bytes are broken, or no image at all.
SPOILT = ("empty", "not_an_image", "truncated", "corrupt")
# The image may be good, and was not read; and what would read it.
UNREAD = {
    "unsupported": "its format is not read here: convert it",
    "too_many_pixels": "raise embed.max_pixels",
    "too_many_bytes": "raise embed.max_bytes",
    "crashed": "raise embed.decode_timeout_s, or try another version of its decoder",
    "timeout": "run again, or raise embed.timeout_s",
    "fetch_failed": "run again, or raise embed.retries",
    "access_denied": "grant the right to read it",
    "not_found": "it was gone when it was to be read: run again",
}
