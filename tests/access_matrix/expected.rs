//! What an edge should say: the decision of the reference, and a short table of how each is told over the wire. It must not know how
//! edges decide.

use std::net::{IpAddr, Ipv4Addr};

use access::decide::{Reason, Request, decide};
use access::rule::Fact;
use access::world::World;
use mcp::method::Method;
use mcp::revision::Era;
use serde_json::Value;

use super::asks::{ABSENT, Ask};
use super::cast::now_s;
use super::lines::{Said, Transport, Way};
use super::upstream::{PROMPTS, RESOURCES, TEMPLATES, TOOLS};

/// Somebody at a server, as the reference knows both.
#[derive(Clone, Copy)]
pub(super) struct Seat<'a> {
    pub(super) world: &'a World,
    pub(super) principal: &'a str,
    /// The id of the server.
    pub(super) server: &'a str,
}

/// How something is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: i64,
    /// The `data.reason`, if there is one.
    pub(super) reason: &'static str,
    /// The text, where it must not tell what is withheld from what does not exist.
    pub(super) text: Option<String>,
}

impl Refusal {
    fn told(status: u16, code: i64, reason: &'static str) -> Self {
        Self { status, code, reason, text: None }
    }

    fn unknown(code: i64, text: String) -> Self {
        Self { text: Some(text), ..Self::told(200, code, "") }
    }

    /// A method that is not known, or not granted.
    pub(super) fn method(era: Era) -> Self {
        let status = if era == Era::Modern { 404 } else { 200 };
        Self { status, ..Self::unknown(-32601, "method not found".to_owned()) }
    }

    /// Says in which way this is not what came.
    pub(super) fn differs(&self, way: Way, said: &Said) -> Option<String> {
        let error = &said.message["error"];
        let is_on_http = way.transport == Transport::Streamable || said.status != 0;
        let fine = (!is_on_http || said.status == self.status)
            && error["code"] == self.code
            && error["data"]["reason"].as_str().unwrap_or_default() == self.reason
            && self.text.as_ref().is_none_or(|text| error["message"] == **text);
        (!fine).then(|| format!("expected {self:?}, and there came {said:?}"))
    }
}

impl<'a> Seat<'a> {
    fn decide(&self, method: &str, target: Option<&str>, template: Option<&str>) -> Result<(), Reason> {
        let request = Request {
            principal: self.principal.to_owned(),
            server: format!("servers/{}", self.server),
            method: method.to_owned(),
            target: target.map(str::to_owned),
            templates: template.into_iter().map(str::to_owned).collect(),
            address: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            now_s: now_s(),
            arguments: Fact::Absent,
            at_any_time: false,
            from_anywhere: false,
        };
        decide(self.world, &request).refused.map_or(Ok(()), Err)
    }

    /// How they are refused whatever they want.
    pub(super) fn door(&self) -> Option<Refusal> {
        Some(match self.decide("ping", None, None).err()? {
            Reason::UnknownPrincipal | Reason::Revoked | Reason::Expired | Reason::Suspended => {
                Refusal::told(401, -31001, "bearer_invalid")
            }
            Reason::NotYetValid => Refusal::told(403, -31012, "not_yet_valid"),
            Reason::AddressNotAllowed => Refusal::told(403, -31012, "address_not_allowed"),
            Reason::OutsideTimeWindow => Refusal::told(403, -31012, "outside_time_window"),
            Reason::UnknownServer | Reason::ServerNotGranted => Refusal::told(404, -31004, "server_unknown"),
            other => panic!("{} at {}: {other:?} of ping", self.principal, self.server),
        })
    }

    /// Whether they may use something.
    pub(super) fn may(&self, method: &str, target: Option<&str>) -> bool {
        self.decide(method, target, None).is_ok()
    }

    /// Those of a list that they may use.
    pub(super) fn usable(&self, method: &str, names: &[&'static str]) -> Vec<&'static str> {
        names.iter().copied().filter(|name| self.may(method, Some(name))).collect()
    }

    /// How a request is refused, if it is.
    pub(super) fn refusal(&self, era: Era, ask: &Ask) -> Option<Refusal> {
        if let Some(door) = self.door() {
            return Some(door);
        }
        if !Method::parse(ask.method).is_some_and(|method| method.is_in_era(era)) {
            return Some(Refusal::method(era));
        }
        match self.decide(ask.method, ask.target, ask.template) {
            Ok(()) if ask.method.starts_with("tasks/") => Some(self.no_task(era, ask)),
            Ok(()) => None,
            Err(Reason::MethodNotGranted) => Some(Refusal::method(era)),
            Err(Reason::UnknownTarget | Reason::TargetNotGranted) => unknown(era, ask),
            Err(other) => panic!("{} at {}: {other:?} of {}", self.principal, self.server, ask.method),
        }
    }

    /// A task is somebody else's, and none is listed; without a tool there are none.
    fn no_task(&self, era: Era, ask: &Ask) -> Refusal {
        let has_tools = !self.usable("tools/call", &TOOLS).is_empty();
        if !has_tools || ask.method == "tasks/list" {
            return Refusal::method(era);
        }
        Refusal::unknown(-32602, "unknown task".to_owned())
    }

    /// What is wrong with an answer to a request that is allowed.
    pub(super) fn misanswered(&self, ask: &Ask, said: &Said) -> Option<String> {
        let result = &said.message["result"];
        let names = |member: &str, key: &str| -> Vec<String> {
            let list = result[member].as_array().into_iter().flatten();
            list.map(|entry| entry[key].as_str().unwrap_or_default().to_owned()).collect()
        };
        let (shown, usable) = match ask.method {
            "tools/list" => (names("tools", "name"), self.usable("tools/call", &TOOLS)),
            "prompts/list" => (names("prompts", "name"), self.usable("prompts/get", &PROMPTS)),
            "resources/list" => (names("resources", "uri"), self.usable("resources/read", &RESOURCES)),
            "resources/templates/list" => {
                (names("resourceTemplates", "uriTemplate"), self.usable("resources/read", &TEMPLATES))
            }
            "subscriptions/listen" => {
                let watched = &said.message["params"]["notifications"]["resourceSubscriptions"];
                let watched = watched.as_array().into_iter().flatten();
                let mut watched: Vec<_> =
                    watched.map(|uri| uri.as_str().unwrap_or_default().to_owned()).collect();
                watched.sort_unstable();
                (watched, self.usable("resources/read", &RESOURCES))
            }
            _ => (Vec::new(), Vec::new()),
        };
        let is_answer = if ask.method == "subscriptions/listen" {
            said.message["error"].is_null() && said.message["params"].is_object()
        } else {
            result.is_object()
        };
        let is_it = match ask.method {
            "tools/call" => result["content"][0]["text"] == "called",
            "resources/read" => result["contents"][0]["uri"].as_str() == ask.target,
            "initialize" | "server/discover" => self.declared(&result["capabilities"]),
            _ => true,
        };
        let fine = is_answer && is_it && shown == usable && matches!(said.status, 0 | 200);
        (!fine).then(|| format!("expected an answer that shows {usable:?}, and there came {said:?}"))
    }

    /// Whether capabilities are those of what they may use.
    fn declared(&self, capabilities: &Value) -> bool {
        [
            ("tools", !self.usable("tools/call", &TOOLS).is_empty()),
            ("resources", !self.usable("resources/read", &RESOURCES).is_empty()),
            ("prompts", !self.usable("prompts/get", &PROMPTS).is_empty()),
        ]
        .iter()
        .all(|(member, has)| capabilities[*member].is_object() == *has)
    }
}

/// What is withheld is told in the words of what does not exist.
fn unknown(era: Era, ask: &Ask) -> Option<Refusal> {
    let target = ask.target.unwrap_or(ABSENT);
    Some(match ask.method {
        "tools/call" => Refusal::unknown(-32602, format!("unknown tool: {target}")),
        "prompts/get" => Refusal::unknown(-32602, format!("unknown prompt: {target}")),
        "completion/complete" if ask.params["ref"]["type"] == "ref/prompt" => {
            Refusal::unknown(-32602, format!("unknown prompt: {target}"))
        }
        "completion/complete" => Refusal::unknown(-32602, format!("unknown resource template: {target}")),
        // Nothing was subscribed to, so there is nothing to end.
        "resources/unsubscribe" => return None,
        _ => {
            let code = if era == Era::Modern { -32602 } else { -32002 };
            Refusal::unknown(code, "resource not found".to_owned())
        }
    })
}
