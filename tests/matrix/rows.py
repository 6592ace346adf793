"""The rows of the matrix: what a client does, and what it must see (rows.mjs has the same). They know no transport and no gateway.

Each takes a connected client, what it hears, and the way it came.
"""

import uuid

import anyio
import mcp_types as types
from mcp import MCPError

BIG = 1_000_000  # Some SDKs take no event beyond 1 MiB.
WATCHED = "memo://watched"


async def text(client, tool: str, **arguments) -> str:
    result = await client.call_tool(tool, arguments)
    return result.content[0].text


def expect(found, wanted):
    assert found == wanted, f"{str(found)[:200]!r} instead of {str(wanted)[:200]!r}"


async def plain_call(client, _heard, _way):
    expect(await text(client, "echo", text="žluťoučký kůň"), "žluťoučký kůň")


async def progress(client, heard, _way):
    steps = []

    async def on_progress(done, total, message):
        steps.append((done, total, message))
        heard.news.set()

    result = await client.call_tool("progress", {}, progress_callback=on_progress)
    expect(result.content[0].text, "done")
    await heard.until(lambda: len(steps) == 3)
    expect(steps, [(1, 3, "step 1"), (2, 3, "step 2"), (3, 3, "step 3")])


async def logging(client, heard, way):
    if not way.is_modern:
        await client.set_logging_level("info")
    expect(await text(client, "log"), "logged")
    await heard.until(lambda: heard.logs == ["watch out"])


async def elicitation(client, _heard, _way):
    expect(await text(client, "elicit"), "accept Ada")


async def sampling(client, _heard, _way):
    expect(await text(client, "sample"), "Paris")


async def roots(client, _heard, _way):
    expect(await text(client, "roots"), "file:///home")


async def cancel(client, _heard, _way):
    key = str(uuid.uuid4())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.call_tool, "slow", {"key": key})
        await until_fate(client, key, "running")
        tasks.cancel_scope.cancel()
    await until_fate(client, key, "cancelled")


async def until_fate(client, key: str, wanted: str):
    with anyio.fail_after(5):
        while await text(client, "fate", key=key) != wanted:
            await anyio.sleep(0.05)


async def list_changed(client, heard, way):
    if way.is_modern:
        async with client.listen(tools_list_changed=True) as news:
            grown = await text(client, "grow")
            with anyio.fail_after(5):
                async for _event in news:
                    if grown in await names(client):
                        return
    with anyio.fail_after(5):
        # In the legacy era nothing says when a stream is heard, so there are changes until one is.
        grown = await text(client, "grow")
        while "notifications/tools/list_changed" not in heard.methods:
            await anyio.sleep(0.2)
            grown = await text(client, "grow")
        while grown not in await names(client):
            await anyio.sleep(0.05)


async def names(client) -> list[str]:
    return [tool.name for tool in (await client.list_tools()).tools]


async def resource_updated(client, heard, way):
    if way.is_modern:
        async with client.listen(resource_subscriptions=[WATCHED]) as news:
            await text(client, "touch")
            with anyio.fail_after(5):
                async for event in news:
                    return expect(event.uri, WATCHED)
    await client.subscribe_resource(WATCHED)
    with anyio.fail_after(5):
        # In the legacy era nothing says when it is heard, so it is touched until it is.
        while "notifications/resources/updated" not in heard.methods:
            await text(client, "touch")
            await anyio.sleep(0.2)
    await client.unsubscribe_resource(WATCHED)


async def completion(client, _heard, _way):
    ref = types.PromptReference(name="travel")
    found = await client.complete(ref, {"name": "city", "value": "li"})
    expect(found.completion.values, ["lima", "lisbon"])


async def big_result(client, _heard, _way):
    expect(await text(client, "big"), "x" * BIG)


async def error(client, _heard, _way):
    result = await client.call_tool("fail", {})
    expect((result.is_error, result.content[0].text), (True, "it went wrong"))
    try:
        await client.call_tool("refuse", {})
    except MCPError as refusal:
        expect((refusal.code, refusal.message, refusal.error.data), (-31999, "refused", {"why": "matrix"}))
    else:
        raise AssertionError("the upstream's error did not arrive")


# The order of the table's rows.
ROWS = {
    "plain call": plain_call,
    "progress": progress,
    "logging": logging,
    "elicitation": elicitation,
    "sampling": sampling,
    "roots": roots,
    "cancel": cancel,
    "list_changed": list_changed,
    "resource updated": resource_updated,
    "completion": completion,
    "big result": big_result,
    "error": error,
}
