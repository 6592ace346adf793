//! Programs that call a server with a library, as a start. Pure.

use super::hosts::{Host, Wire};

/// A program for a library, with the URL and with the bearer or code that reads it from the variable.
pub(super) fn render(
    host: Host,
    wire: Wire,
    url: &str,
    bearer: Option<&str>,
    variable: &str,
) -> Option<String> {
    let template = match (host, wire) {
        (Host::Fastmcp, _) => FASTMCP.to_owned(),
        (Host::Python, Wire::Http) => PYTHON.to_owned(),
        (Host::Python, Wire::Sse) => {
            PYTHON_SSE.iter().fold(PYTHON.to_owned(), |text, (from, to)| text.replace(from, to))
        }
        (Host::Typescript, Wire::Http) => TYPESCRIPT.to_owned(),
        (Host::Typescript, Wire::Sse) => {
            TYPESCRIPT.replace("StreamableHTTPClientTransport", "SSEClientTransport")
        }
        _ => return None,
    };
    let from_environment = match host {
        Host::Typescript => format!("process.env.{variable}"),
        _ => format!("os.environ[\"{variable}\"]"),
    };
    let token = bearer.map_or(from_environment, |bearer| format!("\"{bearer}\""));
    Some(template.replace("{url}", url).replace("{token}", &token))
}

/// What a program needs, and where its bearer comes from.
pub(super) fn advice(host: Host, token: &str, is_shown: bool, variable: &str) -> String {
    let package = match host {
        Host::Fastmcp => "pip install fastmcp",
        Host::Python => "pip install mcp",
        _ => "npm install @modelcontextprotocol/client",
    };
    let bearer = match is_shown {
        true => format!("It contains the bearer of {token}: keep it secret."),
        false => {
            format!("Provide the bearer with: export {variable}=\"$(mcpctl config get-bearer {token})\"")
        }
    };
    format!("Save this in a file (requires `{package}`). {bearer}")
}

const FASTMCP: &str = r#"import asyncio
import os

from fastmcp import Client


async def main():
    async with Client("{url}", auth={token}) as client:
        for tool in await client.list_tools():
            print(tool.name)


asyncio.run(main())
"#;

const PYTHON: &str = r#"import asyncio
import os

from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client


async def main():
    headers = {"Authorization": "Bearer " + {token}}
    http = create_mcp_http_client(headers=headers)
    async with http, Client(streamable_http_client("{url}", http_client=http)) as client:
        for tool in (await client.list_tools()).tools:
            print(tool.name)


asyncio.run(main())
"#;

/// What differs in [`PYTHON`] over HTTP+SSE.
const PYTHON_SSE: [(&str, &str); 3] = [
    ("mcp.client.streamable_http import streamable_http_client", "mcp.client.sse import sse_client"),
    ("from mcp.shared._httpx_utils import create_mcp_http_client\n", ""),
    (
        "    http = create_mcp_http_client(headers=headers)\n    async with http, Client(streamable_http_client(\"{url}\", http_client=http))",
        "    async with Client(sse_client(\"{url}\", headers=headers))",
    ),
];

const TYPESCRIPT: &str = r#"import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const transport = new StreamableHTTPClientTransport(new URL("{url}"), {
  requestInit: { headers: { Authorization: `Bearer ${{token}}` } },
});
const client = new Client({ name: "example", version: "1.0.0" });
await client.connect(transport);
for (const tool of (await client.listTools()).tools) {
  console.log(tool.name);
}
await client.close();
"#;
