"""Which rule of near-duplicates holds: that of the settings, of the model's card, or one for an unknown model."""

from __future__ import annotations

from jobs.config import Config
from udfs.networks import models
from udfs.vectors.near_rule import NearRule

# For a model of which nothing is known. No cosine is certain: a network may give nearly 1 to everything, and then only
# the pixels tell. From the same cosine on, what stands out from its surroundings needs less of them.
UNCALIBRATED = NearRule(threshold=0.95, margin=0.0, certain=2.0, evidence=0.40)


def near_rule(config: Config) -> NearRule:
    """The rule of an edge: the settings, where they are null what was calibrated for the model, else UNCALIBRATED.

    Raises ModelError for an unknown model."""
    model, settings = models.find(config.embed.model, config.models), config.clusters

    def number(name: str) -> float:
        given: tuple[float | None, ...] = (getattr(settings, name), getattr(model, f"near_duplicate_{name}"))
        return next((value for value in given if value is not None), getattr(UNCALIBRATED, name))

    return NearRule(number("threshold"), number("margin"), number("certain"), number("evidence"))


def uncalibrated_line(config: Config) -> str | None:
    """What a person must know of the rule where it was calibrated neither for the model nor by the settings."""
    model, settings = models.find(config.embed.model, config.models), config.clusters
    given = (settings.threshold, settings.margin, settings.certain, settings.evidence)
    if model.near_duplicate_threshold is not None or None not in given:
        return None
    return (
        f"{model.key} has no near-duplicate numbers: pairs with a cosine of {near_rule(config).threshold:g} or more "
        "count if they stand out or match in their pixels; give numbers in its card, or set clusters.*"
    )
