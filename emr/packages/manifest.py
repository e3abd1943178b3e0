"""The manifest of a package: its files with their digests, and which of them make up each environment."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jobs.errors import InputError
from udfs.stores import objects, uris
from udfs.stores.s3 import StoreError

NAME = "manifest.json"


@dataclass(frozen=True)
class File:
    """sha256: 64 lower-case hexadecimal digits. bytes: its size."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Environment:
    """What the nodes of one kind get, as names of files. spark: the version, such as 4.0."""

    spark: str
    file: str  # the Python packages
    models: str  # the model's files
    graphframes: str  # the jar


@dataclass(frozen=True)
class Package:
    """One version of imagesieve, ready for nodes. uri: its folder, without a / at the end."""

    uri: str
    version: str
    python: str  # of the nodes, such as 3.11
    files: Mapping[str, File]  # by name, the manifest itself left out
    environments: Mapping[str, Environment]  # by kind: cpu, gpu

    def at(self, name: str) -> str:
        """The URI of a file of the package."""
        return f"{self.uri}/{name}"

    def environment(self, kind: str) -> Environment:
        """Raises InputError where the package has none of that kind."""
        if kind not in self.environments:
            raise InputError(f"{self.uri} has no {kind} environment: make it with imagesieve emr package --kind {kind}")
        return self.environments[kind]


def read(uri: str) -> Package:
    """The package in a local folder or below an s3:// prefix. Raises InputError where there is none, where it cannot be
    read, or where its manifest is none."""
    found = read_if_there(uri)
    if found is None:
        raise InputError(f"{uri} holds no package ({NAME} is missing): make one with imagesieve emr package")
    return found


def read_if_there(uri: str) -> Package | None:
    """As `read`; None where there is no manifest."""
    try:
        uri = uris.canonical(uri).rstrip("/")
        data = objects.read_small(uris.join(uri, NAME))
    except FileNotFoundError:
        return None
    except (StoreError, ValueError) as error:
        raise InputError(str(error)) from error
    except OSError as error:
        raise InputError(f"{uri}: {error.strerror or error}") from error
    try:
        return _parse(uri, json.loads(data))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{uri}/{NAME} is no manifest of a package: run imagesieve emr package again") from error


def _parse(uri: str, told: Mapping[str, Any]) -> Package:
    files = {str(name): File(str(one["sha256"]), int(one["bytes"])) for name, one in told["files"].items()}
    environments = {str(kind): Environment(**one) for kind, one in told["environments"].items()}
    named = {name for one in environments.values() for name in (one.file, one.models, one.graphframes)}
    if any("/" in name for name in files) or not named <= set(files):
        raise ValueError("names")
    return Package(uri, str(told["version"]), str(told["python"]), files, environments)


def text(package: Package) -> str:
    """The manifest as JSON, keys in order."""
    told = dataclasses.asdict(package)
    del told["uri"]
    return json.dumps(told, indent=2, sort_keys=True) + "\n"


def write(package: Package) -> None:
    """Puts the manifest in place, last of all: it says that the files are there. Raises StoreError."""
    objects.put(uris.join(package.uri, NAME), text(package).encode())
