//! What is measured: one kind of request against one kind of target. It must not know how load is made.

use crate::line::Transport;
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
    Trunkline { address: String, pid: u32, bearer: String, limited: String },
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

/// How the upstream is spoken to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upstream {
    /// Over Streamable HTTP, in the client's own era.
    Same,
    /// Over Streamable HTTP, in the other era: it has no other.
    Across,
    /// Over HTTP+SSE, which has sessions.
    Sse,
    /// Over WebSocket, with a session.
    WebSocket,
}

/// What else is looked at with each call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Under {
    Nothing,
    /// The token has conditions: an address range, a weekly window and a rate.
    Conditions,
    /// The server has a rule about who calls and how, and none about arguments.
    PlainRule,
    /// The server has a rule about an argument.
    ArgumentRule,
}

/// One row of the table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) era: Era,
    pub(crate) work: Work,
    pub(crate) connections: usize,
    pub(crate) client: Transport,
    pub(crate) upstream: Upstream,
    pub(crate) under: Under,
}

impl Cell {
    /// A client of Streamable HTTP, and an upstream of the same and of its era.
    pub(crate) fn plain(era: Era, work: Work, connections: usize) -> Self {
        Self {
            era,
            work,
            connections,
            client: Transport::Http,
            upstream: Upstream::Same,
            under: Under::Nothing,
        }
    }

    /// The cells whose label holds this text, and what they are compared with.
    pub(crate) fn labelled(text: &str) -> Vec<Self> {
        let all = Self::all();
        let wanted = |cell: &Self| format!("{} {}", cell.label(), cell.road()).contains(text);
        let compared = |cell: &Self| all.iter().any(|c| wanted(c) && c.compared_with() == Some(*cell));
        all.iter().copied().filter(|cell| wanted(cell) || compared(cell)).collect()
    }

    fn all() -> Vec<Self> {
        let mut cells = Vec::new();
        for era in [Era::Legacy, Era::Modern] {
            cells.push(Self::plain(era, Work::Call { bytes: 200, sse: false }, 1));
            for sse in [false, true] {
                for bytes in [200, 4 << 10, 64 << 10] {
                    let plain = Self::plain(era, Work::Call { bytes, sse }, 16);
                    cells.push(plain);
                    // Right after what they are compared with.
                    cells.extend(plain.other_roads());
                }
            }
            for tools in [10, 1_000] {
                cells.push(Self::plain(era, Work::List { tools }, 8));
            }
        }
        cells
    }

    /// The same call over other transports and to the other era; of long ones and streams, what may make a difference.
    fn other_roads(self) -> Vec<Self> {
        let Work::Call { bytes: bytes @ ..=4096, sse } = self.work else { return Vec::new() };
        let (json, small, legacy) = (!sse, bytes == 200, self.era == Era::Legacy);
        let roads = [
            (json || small, Transport::Http, Upstream::Across),
            (json && legacy, Transport::Sse, Upstream::Same),
            (json, Transport::WebSocket, Upstream::Same),
            (json && small, Transport::Http, Upstream::Sse),
            (json && small, Transport::Http, Upstream::WebSocket),
        ];
        let taken = roads.into_iter().filter(|(taken, ..)| *taken);
        let under =
            [Under::Conditions, Under::PlainRule, Under::ArgumentRule].map(|under| Self { under, ..self });
        let under = under.into_iter().filter(|_| json && small);
        taken.map(|(_, client, upstream)| Self { client, upstream, ..self }).chain(under).collect()
    }

    /// What this is compared with, where it is not what it would be.
    pub(crate) fn compared_with(&self) -> Option<Self> {
        let plain =
            Self { client: Transport::Http, upstream: Upstream::Same, under: Under::Nothing, ..*self };
        (plain != *self).then_some(plain)
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

    /// In which way this is not what it is compared with.
    pub(crate) fn road(&self) -> &'static str {
        match self.under {
            Under::Nothing => {}
            Under::Conditions => return "token with conditions",
            Under::PlainRule => return "server with a rule",
            Under::ArgumentRule => return "server with a rule on arguments",
        }
        match (self.client, self.upstream, self.era) {
            (Transport::Sse, ..) => "client over HTTP+SSE",
            (Transport::WebSocket, ..) => "client over WebSocket",
            (_, Upstream::Across, Era::Legacy) => "upstream knows 2026-07-28 only",
            (_, Upstream::Across, Era::Modern) => "upstream knows sessions only",
            (_, Upstream::Sse, _) => "upstream over HTTP+SSE",
            (_, Upstream::WebSocket, _) => "upstream over WebSocket",
            (_, Upstream::Same, _) => "",
        }
    }

    /// A file can only be a list, and only an edge takes other roads.
    pub(crate) fn applies_to(&self, target: &Target) -> bool {
        match target {
            Target::Trunkline { .. } => true,
            Target::NginxFile { .. } => matches!(self.work, Work::List { .. }),
            Target::Direct { .. } | Target::Nginx { .. } => self.compared_with().is_none(),
        }
    }

    fn server(&self) -> &'static str {
        match self.under {
            Under::PlainRule => return "ruled",
            Under::ArgumentRule => return "ruled-args",
            Under::Nothing | Under::Conditions => {}
        }
        match (self.upstream, self.era, self.work) {
            (_, _, Work::List { tools: 1_000 }) => "thousand",
            (Upstream::Same, ..) => "ten",
            (Upstream::Across, Era::Legacy, _) => "modern",
            (Upstream::Across, Era::Modern, _) => "legacy",
            (Upstream::Sse, ..) => "events",
            (Upstream::WebSocket, ..) => "frames",
        }
    }

    pub(crate) fn job(&self, target: &Target) -> Job {
        let (address, pid, path) = match target {
            Target::Direct { address, pid } | Target::Nginx { address, pid } => {
                (address, *pid, if self.server() == "thousand" { "/1000" } else { "/10" }.to_owned())
            }
            Target::NginxFile { address, pid } => {
                let era = if self.era == Era::Legacy { "legacy" } else { "modern" };
                (address, *pid, format!("/files/{}-{era}.json", self.server()))
            }
            Target::Trunkline { address, pid, .. } => {
                let door = match self.client {
                    Transport::Http => "mcp",
                    Transport::Sse => "sse",
                    Transport::WebSocket => "ws",
                };
                (address, *pid, format!("/servers/{}/{door}", self.server()))
            }
        };
        let is_file = matches!(target, Target::NginxFile { .. });
        Job {
            address: address.clone(),
            pid,
            transport: self.client,
            path,
            connections: self.connections,
            hello: (self.era == Era::Legacy && !is_file).then(hello),
            head: self.headers(target, address),
            body: self.body(),
            expected: self.expected(target),
        }
    }

    fn headers(&self, target: &Target, address: &str) -> String {
        let mut head = format!(
            "host: {address}\r\ncontent-type: application/json\r\naccept: application/json, text/event-stream\r\n"
        );
        if let Target::Trunkline { bearer, limited, .. } = target {
            let bearer = if self.under == Under::Conditions { limited } else { bearer };
            head += &format!("authorization: Bearer {bearer}\r\n");
        }
        // What says so in headers is Streamable HTTP.
        if self.client != Transport::Http {
            return head;
        }
        if self.era == Era::Legacy {
            return format!("{head}mcp-protocol-version: {LEGACY}\r\n");
        }
        let (method, name) = match self.work {
            Work::Call { sse, .. } => ("tools/call", Some(tool(sse))),
            Work::List { .. } => ("tools/list", None),
        };
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

fn hello() -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{LEGACY}","capabilities":{{}},"clientInfo":{{"name":"hop","version":"1"}}}}}}"#
    )
}
