"""Values of YAML against types: the rule stands at the field, and every fault is told, as where, rule, value.

Pydantic checks: sections are its frozen dataclasses with the settings CLOSED, and values the types below, of which 1 is
no text, and true no number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Strict, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

CLOSED = ConfigDict(extra="forbid")  # a key that is unknown is a fault
Whole = Annotated[int, Strict()]
Number = Annotated[float, Strict()]  # or a whole number
Truth = Annotated[bool, Strict()]
String = Annotated[str, Strict()]
_MUST = {
    "missing": "must be set",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "string_type": "must be a text",
    "date_type": "must be a date such as 2026-11-21",
    "dataclass_type": "must be a section",
    "dict_type": "must be a section",
    "invalid_key": "must be a text",
}


class Fault(NamedTuple):
    """where: the keys that lead to it. must: what the value must be; of an unknown key, which there are."""

    where: tuple[str, ...]
    must: str
    value: Any
    unknown: bool
    missing: bool


def rule(holds: Callable[[Any], bool], must: str) -> AfterValidator:
    """What a value of the right type must be. must: begins with "must"."""

    def check(value: Any) -> Any:
        if value is not None and not holds(value):
            raise PydanticCustomError("rule", "{must}", {"must": must})
        return value

    return AfterValidator(check)


def made(make: Callable[[Any], Any], must: str) -> BeforeValidator:
    """A value that is made of what YAML gives. make: raises ValueError or TypeError for what cannot be used."""

    def check(value: Any) -> Any:
        try:
            return make(value)
        except (ValueError, TypeError) as error:
            raise PydanticCustomError("rule", "{must}", {"must": must}) from error

    return BeforeValidator(check)


def between(low: float, high: float) -> AfterValidator:
    """Both included; no nan."""
    return rule(lambda value: low <= value <= high, f"must be {low:g}..{high:g}")


def above(low: float) -> AfterValidator:
    return rule(lambda value: low < value < float("inf"), f"must be above {low:g}")


def at_least(low: float) -> AfterValidator:
    return rule(lambda value: low <= value < float("inf"), f"must be at least {low:g}")


def one_of(*names: str) -> AfterValidator:
    return rule(lambda value: value in names, "must be one of " + ", ".join(names))


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise TypeError
    return tuple(value)


Texts = Annotated[tuple[str, ...], made(_texts, "must be a list of texts")]
Text = Annotated[String, rule(lambda value: value.strip() != "", "must be a text")]


def checked(kind: Any, given: Any) -> tuple[Any, list[Fault]]:
    """A value of a type, or None and all that is wrong with what was given."""
    try:
        return TypeAdapter(kind).validate_python(given), []
    except ValidationError as error:
        return None, [_fault(kind, one) for one in error.errors(include_url=False)]


def names_of(kind: Any) -> list[str]:
    """The keys of a section."""
    return [field.name for field in fields(kind)]


def _fault(kind: Any, error: Any) -> Fault:
    where = tuple(str(part) for part in error["loc"])
    unknown, missing = error["type"] == "unexpected_keyword_argument", error["type"] == "missing"
    if unknown:
        must = "there are " + ", ".join(names_of(_type_at(kind, where[:-1])))
    elif error["input"] is None:
        must = _MUST["missing"]
    else:
        must = _MUST.get(error["type"], error["msg"])
    return Fault(where, must, None if missing else error["input"], unknown, missing)


def _type_at(kind: Any, where: tuple[str, ...]) -> Any:
    """The type of the section that these keys lead to."""
    for key in where:
        if is_dataclass(kind):
            kind = get_type_hints(kind)[key]
        elif get_origin(kind) in (dict, Mapping):
            kind = get_args(kind)[1]
        kind = next((one for one in get_args(kind) if is_dataclass(one)), kind)
    return kind
