"""A lake over the Model Context Protocol: a process of its own, asked by the SDK's client."""

from __future__ import annotations

import base64
import io
import json
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
from deltalake import DeltaTable
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from PIL import Image

from tests.e2e import lakes
from tests.e2e.conftest import Labelled

LOOKS = {"lake", "table", "pictures", "counts", "search", "findings", "picture", "agreement"}

WRONG: list[tuple[str, dict[str, Any]]] = [
    ("search", {"file": "/etc/passwd"}), ("search", {"words": "qqqq"}), ("findings", {"image_id": 10**9}),
    ("table", {"name": "x"}), ("table", {"name": "issues", "limit": 10**6}), ("pictures", {"where": "issue=x"}),
    ("decide", {"image_ids": [1], "decision": "remove"}),
]  # fmt: skip


@dataclass(frozen=True)
class Agent:
    client: Client

    async def ask(self, tool: str, **given: Any) -> Any:
        text = await self.said(tool, **given)
        assert not text.startswith("Error"), text
        return json.loads(text)

    async def said(self, tool: str, **given: Any) -> str:
        found = await self.client.call_tool(tool, given)
        content: Any = found.content[0]
        assert content.type == "text"
        return str(content.text)


@asynccontextmanager
async def agent(lake: Path, cache: Path, *arguments: str) -> AsyncIterator[Agent]:
    started = StdioServerParameters(
        command=sys.executable,
        args=["-m", "imagesieve", "mcp", "--lake", str(lake), *arguments],
        env=lakes.clean_environment(IMAGESIEVE_CACHE=str(cache)),
    )
    async with Client(stdio_client(started)) as client:
        yield Agent(client)


def run(work: Callable[[], Awaitable[None]]) -> None:
    anyio.run(work)


def test_an_agent_looks(labelled: Labelled, tmp_path: Path) -> None:
    """A tool that is missing or writes, an answer that is another than the tables hold, pixels that are no small JPEG,
    a file outside the folder that was named, and a fault that ends the server."""
    lake = tmp_path / "lake"
    shutil.copytree(labelled.lake, lake)
    before = {path: path.stat().st_mtime_ns for path in lake.rglob("*")}
    issues = DeltaTable(str(lake / "issues")).to_pyarrow_table().to_pylist()
    near = {row["image_id"] for row in issues if row["issue"] == "near_duplicate"}

    async def work() -> None:
        async with agent(lake, tmp_path / "cache", "--files", str(labelled.folder)) as one:
            tools = {tool.name: tool for tool in (await one.client.list_tools()).tools}
            assert set(tools) == LOOKS
            for tool in tools.values():
                assert tool.annotations is not None
                assert tool.annotations.read_only_hint
                assert "never instructions" in (tool.description or "")
            facts = await one.ask("lake")
            assert facts["issues"]["near_duplicate"]["images"] == len(near)
            assert facts["tables"]["issues"]["rows"] == len(issues)
            assert not facts["may_decide"]
            wanted = [{"column": "issue", "value": "near_duplicate"}]
            rows = (await one.ask("table", name="issues", columns=["image_id"], conditions=wanted, limit=200))["rows"]
            assert {row["image_id"] for row in rows} == near
            page = await one.ask("pictures", where="issue=near_duplicate", limit=100)
            assert {row["id"] for row in page["pictures"]} == near
            chosen = page["pictures"][0]
            found = await one.ask("findings", image_id=chosen["id"])
            assert "near_duplicate" in [each["issue"] for each in found["findings"]]
            alike = await one.ask("search", like=chosen["id"], limit=5)
            by_file = await one.ask("search", file=chosen["uri"], limit=5)
            assert alike["pictures"][0]["score"] > 0.5
            assert by_file["pictures"][0]["score"] > 0.99
            for size, side in (("small", 320), ("medium", 768)):
                content: Any = (
                    await one.client.call_tool("picture", {"image_id": chosen["id"], "size": size})
                ).content[0]
                picture = Image.open(io.BytesIO(base64.b64decode(content.data)))
                assert (picture.format, content.mime_type) == ("JPEG", "image/jpeg")
                assert max(picture.size) <= side
            assert (await one.ask("agreement"))["decided"] == 0
            for name, given in WRONG:
                told = await one.client.call_tool(name, given)
                text: Any = told.content[0]
                assert told.is_error, name
                assert "Traceback" not in text.text
            assert (await one.ask("counts"))["total"] == facts["images"]

    run(work)
    assert before.items() <= {path: path.stat().st_mtime_ns for path in lake.rglob("*")}.items()


def test_an_agent_decides_where_it_may(labelled: Labelled, tmp_path: Path) -> None:
    """A decision that is recorded as a person's, is not in the table, or cannot be taken back."""
    lake = tmp_path / "lake"
    shutil.copytree(labelled.lake, lake)

    async def work() -> None:
        async with agent(lake, tmp_path / "cache", "--allow-decisions", "--name", "helper-1") as one:
            tools = {tool.name: tool for tool in (await one.client.list_tools()).tools}
            assert set(tools) == LOOKS | {"decide", "undo"}
            hints = tools["decide"].annotations
            assert hints is not None
            assert not hints.read_only_hint
            ids = [row["id"] for row in (await one.ask("pictures", limit=2))["pictures"]]
            done = await one.ask("decide", image_ids=ids, decision="relabel", label="cat", note="looks like one")
            assert (done["count"], done["by"]) == (2, "agent:helper-1")
            assert (await one.ask("findings", image_id=ids[0]))["decided_label"] == "cat"
            assert (await one.ask("undo", batch=done["batch"]))["count"] == 2
            assert "nothing to undo" in await one.said("undo")

    run(work)
    rows = DeltaTable(str(lake / "reviews")).to_pyarrow_table().to_pylist()
    assert {row["by"] for row in rows} == {"agent:helper-1"}
    assert sorted(row["decision"] for row in rows) == ["relabel", "relabel", "undo"]
