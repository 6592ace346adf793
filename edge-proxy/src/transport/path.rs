//! The paths of a server, by transport. It must not know which servers there are.

use super::streamable::Verb;

/// The endpoint of a server that a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// Streamable HTTP, `…/mcp`.
    Mcp,
    /// The stream of HTTP+SSE, `…/sse`.
    Sse,
    /// The address that a client of HTTP+SSE posts to, `…/sse/{handle}`.
    Messages(Box<str>),
    /// WebSocket, `…/ws`.
    WebSocket,
    /// Tickets for WebSocket, `…/ws/ticket`.
    Ticket,
}

/// Reads the id of the server and the endpoint from a path. One slash at its end changes nothing, as long as it names an
/// endpoint and no handle.
pub fn read(path: &str) -> Option<(&str, Endpoint)> {
    let (server, rest) = path.strip_prefix("/servers/")?.split_once('/')?;
    let endpoint = match rest.strip_suffix('/').unwrap_or(rest) {
        "mcp" => Endpoint::Mcp,
        "sse" => Endpoint::Sse,
        "ws" => Endpoint::WebSocket,
        "ws/ticket" => Endpoint::Ticket,
        _ => match rest.strip_prefix("sse/")? {
            handle if !handle.is_empty() && !handle.contains('/') => Endpoint::Messages(handle.into()),
            _ => return None,
        },
    };
    (!server.is_empty()).then_some((server, endpoint))
}

/// Reads the id of the upstream whose tunnels are opened at a path.
pub fn tunnel(path: &str) -> Option<&str> {
    path.strip_prefix("/tunnels/").filter(|id| !id.is_empty() && !id.contains('/'))
}

/// Returns whether a query contains a bearer, which would end up in access logs.
pub fn holds_a_bearer(query: &str) -> bool {
    query.split('&').any(|pair| {
        let name = pair.split_once('=').map_or(pair, |(name, _)| name);
        ["access_token", "authorization", "bearer", "token"]
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known))
    })
}

impl Endpoint {
    /// Returns whether the endpoint takes a verb.
    pub fn takes(&self, verb: Verb) -> bool {
        match self {
            _ if verb == Verb::Options => true,
            Self::Mcp => true,
            Self::Sse | Self::WebSocket => verb == Verb::Get,
            Self::Messages(_) | Self::Ticket => verb == Verb::Post,
        }
    }

    /// The verbs that it takes, as `Allow` lists them.
    pub fn verbs(&self) -> &'static str {
        match self {
            Self::Mcp => "GET, POST, DELETE",
            Self::Sse | Self::WebSocket => "GET",
            Self::Messages(_) | Self::Ticket => "POST",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_paths_of_a_server_name_one() {
        for (path, endpoint) in [
            ("/servers/dev/mcp", Endpoint::Mcp),
            ("/servers/dev/sse", Endpoint::Sse),
            ("/servers/dev/sse/abc", Endpoint::Messages("abc".into())),
            ("/servers/dev/ws", Endpoint::WebSocket),
            ("/servers/dev/ws/ticket", Endpoint::Ticket),
            ("/servers/dev/mcp/", Endpoint::Mcp),
            ("/servers/dev/sse/", Endpoint::Sse),
            ("/servers/dev/ws/", Endpoint::WebSocket),
            ("/servers/dev/ws/ticket/", Endpoint::Ticket),
        ] {
            assert_eq!(read(path), Some(("dev", endpoint)), "{path}");
        }
        for path in [
            "/",
            "/servers//mcp",
            "/servers/mcp",
            "/servers/a/b/mcp",
            "/servers/a/mcp//",
            "/servers//mcp/",
            "/servers/a/",
            "/x/servers/a/mcp",
            "/servers/a/sse//",
            "/servers/a/sse/b/",
            "/servers/a/sse/b/c",
        ] {
            assert_eq!(read(path), None, "{path}");
        }
    }

    #[test]
    fn a_bearer_in_a_query_is_seen_by_its_name() {
        for (query, held) in [
            ("access_token=x", true),
            ("a=b&Token=x", true),
            ("bearer", true),
            ("a=token", false),
            ("tokens=1", false),
        ] {
            assert_eq!(holds_a_bearer(query), held, "{query}");
        }
    }
}
