//! `mcpctl client-config SERVER --for HOST`: prints the configuration of an MCP host, or a program.
//!
//! Bearers are printed only with `--show-bearer`. Hosts that take only a command run `mcpctl connect`, which reads the bearer
//! from the context file; the others read it from the environment or ask for it.

use std::path::Path;

use serde_json::{Value, json};

use crate::client::caller::saved;
use crate::commands::Invocation;
use crate::context::SavedToken;
use crate::error::Result;
use crate::output;

/// Arguments of `client-config`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the server
    server: String,
    /// Host or library to configure
    #[arg(long = "for", value_enum, value_name = "HOST")]
    host: Host,
    /// Saved token to use [default: the first that was made of those that may call the server]
    #[arg(long, value_name = "NAME")]
    token: Option<String>,
    /// Include the bearer itself instead of a reference to it
    #[arg(long)]
    show_bearer: bool,
    /// For claude and cursor: connect by URL, or through a command that the host runs
    #[arg(long, value_enum, value_name = "HOW")]
    via: Option<Via>,
    /// Transport for connections by URL
    #[arg(long, value_enum, default_value = "http")]
    transport: Transport,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Host {
    /// Claude Desktop and Claude Code.
    Claude,
    /// Cursor.
    Cursor,
    /// Visual Studio Code.
    Vscode,
    /// The FastMCP client (Python).
    Fastmcp,
    /// The MCP SDK for Python.
    Python,
    /// The MCP SDK for TypeScript.
    Typescript,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Via {
    /// Streamable HTTP.
    Http,
    /// `mcpctl connect`.
    Stdio,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Transport {
    /// Streamable HTTP.
    Http,
    /// HTTP+SSE, for hosts and libraries that support nothing newer.
    Sse,
}

const VARIABLE: &str = "TRUNKLINE_TOKEN";

/// Runs `client-config`.
pub fn run(invocation: &Invocation, args: Args) -> Result {
    let context = invocation.context()?;
    let server = args.server.strip_prefix("servers/").unwrap_or(&args.server);
    let (token, kept) = saved(&context, invocation.context_file.path(), server, args.token.as_deref())?;
    let url = context.server_url(server)?;
    let snippet = Snippet {
        server,
        url: &args.transport.address(&url),
        transport: args.transport,
        token,
        bearer: args.show_bearer.then_some(kept),
        config: invocation.context_file.path(),
        named: args.token.is_some(),
    };
    output::print(&snippet.render(args.host, args.via)?)?;
    output::eprint(snippet.advice(args.host, args.via));
    Ok(())
}

impl Transport {
    /// Returns the URL of this transport for a server whose Streamable HTTP is at `url`.
    fn address(self, url: &str) -> String {
        match (self, url.strip_suffix("/mcp")) {
            (Self::Sse, Some(server)) => format!("{server}/sse"),
            _ => url.to_owned(),
        }
    }

    /// Returns the name that hosts use for the transport.
    fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Sse => "sse",
        }
    }
}

struct Snippet<'a> {
    server: &'a str,
    url: &'a str,
    transport: Transport,
    token: &'a str,
    bearer: Option<&'a SavedToken>,
    config: &'a Path,
    named: bool,
}

impl Snippet<'_> {
    fn render(&self, host: Host, via: Option<Via>) -> Result<String> {
        let json = match (host, via.unwrap_or(default_via(host))) {
            (Host::Claude | Host::Cursor, Via::Stdio) => self.servers("mcpServers", self.command()),
            (Host::Claude, Via::Http) => {
                let (kind, headers) = (self.transport.as_str(), self.header("${TRUNKLINE_TOKEN}"));
                let entry = json!({ "type": kind, "url": self.url, "headers": headers });
                self.servers("mcpServers", entry)
            }
            (Host::Cursor, Via::Http) => {
                let entry = json!({ "url": self.url, "headers": self.header("${env:TRUNKLINE_TOKEN}") });
                self.servers("mcpServers", entry)
            }
            (Host::Vscode, _) => self.vscode(),
            (Host::Fastmcp, _) => return Ok(self.program(FASTMCP)),
            (Host::Python, _) if self.transport == Transport::Sse => return Ok(self.program(PYTHON_SSE)),
            (Host::Python, _) => return Ok(self.program(PYTHON)),
            (Host::Typescript, _) if self.transport == Transport::Sse => {
                return Ok(self
                    .program(TYPESCRIPT)
                    .replace("StreamableHTTPClientTransport", "SSEClientTransport"));
            }
            (Host::Typescript, _) => return Ok(self.program(TYPESCRIPT)),
        };
        output::json(&json)
    }

    fn servers(&self, key: &str, entry: Value) -> Value {
        json!({ key: { self.server: entry } })
    }

    fn header(&self, reference: &str) -> Value {
        let bearer = self.bearer.map_or(reference, |saved| saved.bearer.expose());
        json!({ "Authorization": format!("Bearer {bearer}") })
    }

    fn command(&self) -> Value {
        let program = std::env::current_exe().unwrap_or_else(|_| "mcpctl".into());
        let mut args = vec!["connect", self.server];
        if self.named {
            args.extend(["--token", self.token]);
        }
        let config = std::path::absolute(self.config).unwrap_or_else(|_| self.config.to_owned());
        json!({ "command": program, "args": args, "env": { "MCPCTL_CONFIG": config } })
    }

    fn vscode(&self) -> Value {
        let id = format!("trunkline-{}", self.server);
        let (kind, headers) = (self.transport.as_str(), self.header(&format!("${{input:{id}}}")));
        let entry = json!({ "type": kind, "url": self.url, "headers": headers });
        let mut config = self.servers("servers", entry);
        if self.bearer.is_none() {
            let description = format!("Bearer of the Trunkline token {}", self.token);
            let input =
                json!({ "type": "promptString", "id": id, "description": description, "password": true });
            config["inputs"] = json!([input]);
        }
        config
    }

    /// Fills a template with the URL and with the bearer, or with code that reads it from the environment.
    fn program(&self, template: &str) -> String {
        let is_typescript = template == TYPESCRIPT;
        let from_environment = match is_typescript {
            true => format!("process.env.{VARIABLE}"),
            false => format!("os.environ[\"{VARIABLE}\"]"),
        };
        let token = self.bearer.map_or(from_environment, |saved| format!("\"{}\"", saved.bearer.expose()));
        template.replace("{url}", self.url).replace("{token}", &token)
    }

    fn advice(&self, host: Host, via: Option<Via>) -> String {
        let place = match (host, via.unwrap_or(default_via(host))) {
            (Host::Claude, Via::Stdio) => {
                "claude_desktop_config.json (Claude Desktop) or .mcp.json (Claude Code)"
            }
            (Host::Claude, Via::Http) => ".mcp.json of a project (Claude Code)",
            (Host::Cursor, _) => "~/.cursor/mcp.json or .cursor/mcp.json of a project",
            (Host::Vscode, _) => ".vscode/mcp.json or the user's mcp.json (MCP: Open User Configuration)",
            (Host::Fastmcp, _) => "a file (requires `pip install fastmcp`)",
            (Host::Python, _) => "a file (requires `pip install mcp`)",
            (Host::Typescript, _) => "a file (requires `npm install @modelcontextprotocol/client`)",
        };
        if via.unwrap_or(default_via(host)) == Via::Stdio {
            return format!("Save this in {place}. The bearer stays in {}.", self.config.display());
        }
        if self.bearer.is_some() {
            return format!(
                "Save this in {place}. It contains the bearer of {}: keep it secret.",
                self.token
            );
        }
        let get = format!("mcpctl config get-bearer {}", self.token);
        match host {
            Host::Vscode => {
                format!("Save this in {place}. VS Code asks for the bearer once; print it with `{get}`.")
            }
            _ => format!("Save this in {place}. Provide the bearer with: export {VARIABLE}=\"$({get})\""),
        }
    }
}

/// Returns the default for a host. Claude Desktop takes only commands in its file; a command works in Claude Code as well.
fn default_via(host: Host) -> Via {
    if host == Host::Claude { Via::Stdio } else { Via::Http }
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
    async with create_mcp_http_client(headers=headers) as http:
        async with Client(streamable_http_client("{url}", http_client=http)) as client:
            for tool in (await client.list_tools()).tools:
                print(tool.name)


asyncio.run(main())
"#;

const PYTHON_SSE: &str = r#"import asyncio
import os

from mcp.client.client import Client
from mcp.client.sse import sse_client


async def main():
    headers = {"Authorization": "Bearer " + {token}}
    async with Client(sse_client("{url}", headers=headers)) as client:
        for tool in (await client.list_tools()).tools:
            print(tool.name)


asyncio.run(main())
"#;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Secret;

    fn check(host: Host, via: Option<Via>, shown: bool) -> String {
        check_over(Transport::Http, host, via, shown)
    }

    fn check_over(transport: Transport, host: Host, via: Option<Via>, shown: bool) -> String {
        let saved = SavedToken { bearer: Secret::new("s3cret"), ..SavedToken::default() };
        let snippet = Snippet {
            server: "dev",
            url: &transport.address("http://127.0.0.1:4444/servers/dev/mcp"),
            transport,
            token: "laptop",
            bearer: shown.then_some(&saved),
            config: Path::new("/data/mcpctl.yaml"),
            named: true,
        };
        format!("{}\n{}", snippet.render(host, via).unwrap(), snippet.advice(host, via))
    }

    #[test]
    fn every_host_gets_its_own_form() {
        insta::assert_snapshot!("cursor", check(Host::Cursor, None, false));
        insta::assert_snapshot!("vscode", check(Host::Vscode, None, false));
        insta::assert_snapshot!("claude-http", check(Host::Claude, Some(Via::Http), false));
        insta::assert_snapshot!("fastmcp", check(Host::Fastmcp, None, false));
        insta::assert_snapshot!("python", check(Host::Python, None, true));
        insta::assert_snapshot!("typescript", check(Host::Typescript, None, false));
    }

    #[test]
    fn another_transport_has_its_own_address_and_name() {
        for (host, part) in [
            (Host::Claude, r#""type": "sse""#),
            (Host::Vscode, r#""type": "sse""#),
            (Host::Cursor, r#""url": "http://127.0.0.1:4444/servers/dev/sse""#),
            (Host::Fastmcp, "/servers/dev/sse"),
            (Host::Python, r#"sse_client("http://127.0.0.1:4444/servers/dev/sse""#),
            (Host::Typescript, r#"new SSEClientTransport(new URL("http://127.0.0.1:4444/servers/dev/sse"))"#),
        ] {
            let text = check_over(Transport::Sse, host, Some(Via::Http), false);
            assert!(text.contains(part.trim_end_matches("))")) && !text.contains("/mcp\""), "{text}");
        }
    }

    #[test]
    fn the_bearer_is_only_there_when_asked_for() {
        for host in [Host::Claude, Host::Cursor, Host::Vscode, Host::Fastmcp, Host::Python, Host::Typescript]
        {
            assert!(!check(host, None, false).contains("s3cret"));
            assert!(check(host, Some(Via::Http), true).contains("s3cret"), "{host:?}");
        }
        let claude: Value =
            serde_json::from_str(check(Host::Claude, None, false).rsplit_once('\n').unwrap().0).unwrap();
        let entry = &claude["mcpServers"]["dev"];
        assert_eq!(entry["args"], json!(["connect", "dev", "--token", "laptop"]));
        assert_eq!(entry["env"]["MCPCTL_CONFIG"], "/data/mcpctl.yaml");
    }
}
