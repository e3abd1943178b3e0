"""moto in a process of its own, the account on it, and a proxy before it."""

import os
from collections.abc import Iterator

import pytest

from tests import s3_server
from tests.emr import account as accounts
from tests.emr import proxy as proxies


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--golden", action="store_true", help="write tests/emr/golden anew; look at the difference")


@pytest.fixture(scope="session", autouse=True)
def _one_loader() -> Iterator[None]:
    """botocore's descriptions of the services are read once, not once a client: EC2's alone takes 0.3 s."""
    from botocore import loaders

    shared = loaders.create_loader()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("botocore.session.create_loader", lambda *_: shared)
        yield


@pytest.fixture(scope="session")
def moto_server() -> Iterator[s3_server.S3Server]:
    with s3_server.serve(bucket="started") as server:
        yield server


@pytest.fixture
def account(moto_server: s3_server.S3Server) -> accounts.Account:
    """As new for each test."""
    accounts.reset(moto_server.endpoint)
    return accounts.make(moto_server.endpoint)


@pytest.fixture
def proxy(account: accounts.Account, monkeypatch: pytest.MonkeyPatch) -> Iterator[proxies.Proxy]:
    """Every client of this process goes through it to moto."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    with proxies.serve(account.endpoint) as server:
        for name, value in s3_server.environment(server.endpoint).items():
            monkeypatch.setenv(name, value)
        yield server
