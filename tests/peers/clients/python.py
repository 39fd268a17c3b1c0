"""Drives the official Python client through everything the fixture server offers and prints what it saw.

    python python.py URL MODE      MODE: default | legacy | auto | REVISION (pinned)
"""

import json
import sys
import warnings
from typing import Any

import anyio
import mcp_types as types
from mcp import Client, MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

WAIT_S_MAX = 10
LOG_LEVEL = "io.modelcontextprotocol/logLevel"

# Sampling and logging are deprecated by the current revision, not gone: they are what is tested here.
warnings.simplefilter("ignore")

seen: dict[str, Any] = {"asked": [], "logs": [], "progress": [], "tools_changed": 0}


async def on_elicitation(_context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
    seen["asked"].append(params.message)
    fields = params.requested_schema["properties"]
    content = {field: "ada@example.com" if field == "email" else "ada" for field in fields}
    return types.ElicitResult(action="accept", content=content)


async def on_sampling(_context: Any, params: types.CreateMessageRequestParams) -> types.CreateMessageResult:
    turn = params.messages[-1].content
    seen["asked"].append((turn[0] if isinstance(turn, list) else turn).text)
    answer = types.TextContent(type="text", text="Paris")
    return types.CreateMessageResult(role="assistant", model="none", content=answer)


async def on_log(params: types.LoggingMessageNotificationParams) -> None:
    seen["logs"].append(f"{params.level}: {params.data}")


async def on_progress(progress: float, total: float | None, _message: str | None) -> None:
    seen["progress"].append([progress, total])


def text(result: types.CallToolResult) -> str:
    return "\n".join(block.text for block in result.content)


async def lists(client: Client) -> None:
    seen["tools"] = [tool.name for tool in (await client.list_tools()).tools]
    seen["resources"] = [resource.uri for resource in (await client.list_resources()).resources]
    templates = (await client.list_resource_templates()).resource_templates
    seen["templates"] = [template.uri_template for template in templates]
    seen["prompts"] = [prompt.name for prompt in (await client.list_prompts()).prompts]


async def calls(client: Client) -> None:
    seen["simple_text"] = text(await client.call_tool("test_simple_text"))
    await client.call_tool("test_tool_with_progress", progress_callback=on_progress)
    seen["tool_error"] = (await client.call_tool("test_error_handling")).is_error
    try:
        await client.call_tool("no_such_tool")
        seen["unknown_tool_code"] = 0
    except MCPError as error:
        seen["unknown_tool_code"] = error.code
    seen["resource_text"] = (await client.read_resource("test://static-text")).contents[0].text
    seen["prompt_text"] = (await client.get_prompt("test_simple_prompt")).messages[0].content.text


async def legacy_only(client: Client) -> None:
    await client.set_logging_level("info")
    await client.call_tool("test_tool_with_logging")
    seen["elicited"] = text(await client.call_tool("test_elicitation", {"message": "Who are you?"}))
    question = {"prompt": "What is the capital of France?"}
    seen["sampled"] = text(await client.call_tool("test_sampling", question))


async def modern_only(client: Client) -> None:
    await client.call_tool("test_logging_tool", meta={LOG_LEVEL: "info"})
    seen["elicited"] = text(await client.call_tool("test_input_required_result_elicitation"))
    seen["sampled"] = text(await client.call_tool("test_input_required_result_sampling"))
    # The client mirrors an annotated argument into a header, base64 because it is not ASCII.
    seen["mirrored"] = text(await client.call_tool("test_x_mcp_header", {"region": "Zürich"}))
    async with client.listen(tools_list_changed=True) as listen:
        honored = listen.honored.model_dump(by_alias=True, exclude_none=True)
        seen["listens_to"] = [key for key, value in honored.items() if value]
        await client.call_tool("test_trigger_tool_change")
        with anyio.fail_after(WAIT_S_MAX):
            await anext(aiter(listen))
        seen["tools_changed"] += 1


async def main(url: str, mode: str) -> None:
    # `default` leaves the argument out altogether: what a newcomer's program does.
    negotiation = {} if mode == "default" else {"mode": mode}
    client = Client(
        url,
        elicitation_callback=on_elicitation,
        sampling_callback=on_sampling,
        logging_callback=on_log,
        client_info=types.Implementation(name="ringhub-test-python", version="1"),
        **negotiation,
    )
    async with client:
        seen["protocol"] = client.protocol_version
        seen["server"] = client.server_info.name if client.server_info else None
        await lists(client)
        await calls(client)
        modern = client.protocol_version in MODERN_PROTOCOL_VERSIONS
        await (modern_only(client) if modern else legacy_only(client))
    seen["closed"] = True
    print(json.dumps(seen))


try:
    anyio.run(main, *sys.argv[1:3])
except BaseException:
    print("seen until then:", json.dumps(seen), file=sys.stderr)
    raise
