"""Values of YAML against types: the rule stands at the field, and every fault is told, as where, rule, value.

Pydantic checks: sections are its frozen dataclasses with the settings CLOSED, and values the types below, of which 1 is
no text, and true no number."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, AllowInfNan, BeforeValidator, ConfigDict, Strict, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

CLOSED = ConfigDict(extra="forbid")  # a key that is unknown is a fault
Whole = Annotated[int, Strict()]
Number = Annotated[float, Strict(), AllowInfNan(False)]  # or a whole number
Truth = Annotated[bool, Strict()]
String = Annotated[str, Strict()]
Day = Annotated[datetime.date, Strict()]
_MUST = {
    "missing": "must be set",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a number",
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
    unknown: bool = False
    missing: bool = False

    def told(self, *, of_settings: bool = False) -> str:
        """As a person reads it. of_settings: whether the first key is a section of settings."""
        path = ".".join(self.where)
        if self.unknown:
            if of_settings and len(self.where) == 1:
                return f"unknown section {path!r} ({self.must})"
            return f"unknown key {path} ({self.must})"
        if self.missing:
            return f"{path} is missing"
        of = " of settings" if of_settings and len(self.where) == 1 else ""
        return f"{path} {self.must}{of}, got {self.value!r}"


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


def _named(value: Any) -> Any:
    """Sections by name, each with its own name in it."""
    if not isinstance(value, Mapping):
        return value
    return {key: {**one, "name": key} if isinstance(one, Mapping) else one for key, one in value.items()}


NAMED = BeforeValidator(_named)
Texts = Annotated[tuple[str, ...], made(_texts, "must be a list of texts")]
Text = Annotated[String, rule(lambda value: value.strip() != "", "must be a text")]


def at(given: Any, *keys: str) -> Any:
    """What lies under these keys in sections that were not checked yet; None where it is not there."""
    for key in keys:
        given = given.get(key) if isinstance(given, Mapping) else None
    return given


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
        if get_origin(kind) is UnionType:
            kind = next((one for one in get_args(kind) if is_dataclass(one)), kind)
    return kind
