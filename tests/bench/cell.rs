//! What is measured: one kind of request against one kind of target. It must not know how load is made.

use crate::load::Job;
use crate::support::wire::{LEGACY, MODERN, modern_meta};

/// Whom the load goes to.
pub(crate) enum Target {
    /// The upstream itself.
    Direct { address: String, pid: u32 },
    /// nginx before the upstream.
    Nginx { address: String, pid: u32 },
    /// nginx serving the bytes of the answer from a file.
    NginxFile { address: String, pid: u32 },
    /// An edge before the upstream.
    Trunkline { address: String, pid: u32, bearer: String },
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Era {
    Legacy,
    Modern,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// `tools/call` with this many bytes each way.
    Call { bytes: usize, sse: bool },
    /// `tools/list` of a server with this many tools.
    List { tools: usize },
}

/// One row of the table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) era: Era,
    pub(crate) work: Work,
    pub(crate) connections: usize,
}

impl Cell {
    pub(crate) fn all() -> Vec<Self> {
        let mut cells = Vec::new();
        for era in [Era::Legacy, Era::Modern] {
            cells.push(Self { era, work: Work::Call { bytes: 200, sse: false }, connections: 1 });
            for sse in [false, true] {
                for bytes in [200, 4 << 10, 64 << 10] {
                    cells.push(Self { era, work: Work::Call { bytes, sse }, connections: 16 });
                }
            }
            for tools in [10, 1_000] {
                cells.push(Self { era, work: Work::List { tools }, connections: 8 });
            }
        }
        cells
    }

    pub(crate) fn label(&self) -> String {
        let era = if self.era == Era::Legacy { "session" } else { "2026-07-28" };
        match self.work {
            Work::Call { bytes, sse } => {
                let size = if bytes < 1024 { format!("{bytes} B") } else { format!("{} KB", bytes >> 10) };
                let kind = if sse { "SSE" } else { "JSON" };
                format!("call {size:>5} {kind:4} {era:10} x{}", self.connections)
            }
            Work::List { tools } => format!("list {tools:>5} tools {era:9} x{}", self.connections),
        }
    }

    /// A file can only be a list.
    pub(crate) fn applies_to(&self, target: &Target) -> bool {
        matches!(self.work, Work::List { .. }) || !matches!(target, Target::NginxFile { .. })
    }

    fn server(&self) -> &'static str {
        if matches!(self.work, Work::List { tools: 1_000 }) { "thousand" } else { "ten" }
    }

    pub(crate) fn job(&self, target: &Target) -> Job {
        let (address, pid, path) = match target {
            Target::Direct { address, pid } | Target::Nginx { address, pid } => {
                (address, *pid, format!("/{}", self.server()))
            }
            Target::NginxFile { address, pid } => {
                let era = if self.era == Era::Legacy { "legacy" } else { "modern" };
                (address, *pid, format!("/files/{}-{era}.json", self.server()))
            }
            Target::Trunkline { address, pid, .. } => {
                (address, *pid, format!("/servers/{}/mcp", self.server()))
            }
        };
        let (head, opens_session) = self.head(target, &path, address);
        Job {
            address: address.clone(),
            pid,
            connections: self.connections,
            hello: opens_session.then(|| hello(&head)),
            head: self.headers(&head),
            body: self.body(),
            expected: self.expected(target),
        }
    }

    fn head(&self, target: &Target, path: &str, address: &str) -> (String, bool) {
        let mut head = format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\naccept: application/json, text/event-stream\r\n"
        );
        if let Target::Trunkline { bearer, .. } = target {
            head += &format!("authorization: Bearer {bearer}\r\n");
        }
        let is_file = matches!(target, Target::NginxFile { .. });
        (head, self.era == Era::Legacy && !is_file)
    }

    fn headers(&self, head: &str) -> String {
        let (method, name) = match self.work {
            Work::Call { sse, .. } => ("tools/call", Some(tool(sse))),
            Work::List { .. } => ("tools/list", None),
        };
        if self.era == Era::Legacy {
            return format!("{head}mcp-protocol-version: {LEGACY}\r\n");
        }
        let name = name.map_or_else(String::new, |name| format!("mcp-name: {name}\r\n"));
        format!("{head}mcp-protocol-version: {MODERN}\r\nmcp-method: {method}\r\n{name}")
    }

    /// The id is spelled with ten digits, which the load counts up in place.
    fn body(&self) -> String {
        let meta = if self.era == Era::Modern { modern_meta() } else { String::new() };
        let comma = if meta.is_empty() { "" } else { "," };
        let (method, params) = match self.work {
            Work::Call { bytes, sse } => (
                "tools/call",
                format!(
                    r#""name":"{}","arguments":{{"text":"{}"}}{comma}{meta}"#,
                    tool(sse),
                    "x".repeat(bytes)
                ),
            ),
            Work::List { .. } => ("tools/list", meta),
        };
        format!(r#"{{"jsonrpc":"2.0","id":1000000000,"method":"{method}","params":{{{params}}}}}"#)
    }

    /// What every answer holds besides its id.
    fn expected(&self, target: &Target) -> Expected {
        let least = match self.work {
            Work::Call { bytes, .. } => bytes,
            Work::List { tools } => tools * 300,
        };
        Expected { least, id: !matches!(target, Target::NginxFile { .. }) }
    }
}

/// What makes an answer right.
#[derive(Clone, Copy)]
pub(crate) struct Expected {
    /// It is at least this long.
    pub(crate) least: usize,
    /// It repeats the id.
    pub(crate) id: bool,
}

fn tool(sse: bool) -> &'static str {
    if sse { "echo_sse" } else { "echo" }
}

fn hello(head: &str) -> Vec<u8> {
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{LEGACY}","capabilities":{{}},"clientInfo":{{"name":"hop","version":"1"}}}}}}"#
    );
    format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}
