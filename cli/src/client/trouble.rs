//! What went wrong between here and a server, in words that say who called and what to do.

use mcp::client::ClientError;
use mcp::json;

use crate::answers::Answers;
use crate::client::caller::{BearerSource, Caller};
use crate::client::proxy::EdgeProxy;
use crate::client::session::EdgeServer;
use crate::client::signature;
use crate::client::unmet::{self, Unmet};
use crate::context::Secret;
use crate::error::{Error, Exit, Result};

/// What the edge says where an upstream did not answer.
const NO_ANSWER: [i64; 2] = [-31101, -31102];
/// The same, where the upstream may have done what it was asked for: it did not answer in time, or broke off.
const MAY_HAVE_RUN: [i64; 2] = [-31102, -31103];

/// Whether a request may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeating {
    /// It does no harm.
    Harmless,
    /// It may have run, and would run twice.
    Doubtful,
}

impl Repeating {
    /// What to do after a request without a response.
    fn advice(self) -> &'static str {
        match self {
            Self::Harmless => "try again",
            Self::Doubtful => "the tool may have run, so look before you call it again",
        }
    }
}

/// Whether an edge rejected the bearer: edges name neither a realm nor where their metadata is.
pub fn is_rejection(error: &ClientError) -> bool {
    matches!(error, ClientError::Unauthorized { status: 401, wants_bearer: true, .. })
}

/// Whether an edge wants a client certificate, or refuses the one that it was shown.
fn is_about_certificate(why: &str) -> bool {
    why.contains("without a client certificate") || why.contains("it refused the TLS handshake")
}

/// Whether a status is that of a balancer or proxy which reaches nobody.
fn is_of_balancer(status: u16) -> bool {
    matches!(status, 429 | 502..=504)
}

fn unavailable(text: String) -> Error {
    Error::new(Exit::Unavailable, text)
}

impl EdgeServer {
    /// Asks as nobody, whom every edge refuses in its own words. The error says what else is there.
    pub async fn refuses_nobody(&self) -> Result {
        let opened = self.open_as_nobody().await;
        let error = match opened {
            Err(error) if is_rejection(&error) => return Ok(()),
            // Whom a certificate names is somebody, for whom this server does not exist.
            Err(ClientError::Rpc { status: 404, .. }) if self.presents_certificate() => return Ok(()),
            Err(error) => error,
            Ok(session) => {
                session.close().await;
                if self.presents_certificate() {
                    return Ok(());
                }
                return Err(unavailable(format!(
                    "what answers at {} lets anybody in, and is no edge; set the URL of one with `mcpctl config set-context NAME \
                     --edge URL`",
                    self.edge
                )));
            }
        };
        let nobody = Caller { bearer: Secret::default(), source: BearerSource::Nobody };
        Err(self.diagnosed(error, &nobody).await)
    }

    /// Says what went wrong in a session: perhaps a condition of the token does not hold any more, or a rule refuses, of which
    /// `access check` is asked the `question`.
    pub fn told(&self, error: ClientError, caller: &Caller, repeating: Repeating, question: &str) -> Error {
        match Unmet::of(&error) {
            Some(unmet) => self.refused(&unmet, caller, question),
            None => self.explain(error, caller, repeating),
        }
    }

    /// Says why no session was opened: perhaps a condition of the token does not hold, or no edge is there.
    pub async fn diagnosed(&self, error: ClientError, caller: &Caller) -> Error {
        if let Some(unmet) = Unmet::of(&error) {
            return self.refused(&unmet, caller, unmet::AT_ALL);
        }
        let is_asked = match &error {
            ClientError::Rpc { .. } | ClientError::Timeout(_) => false,
            ClientError::Http { status, .. } => !(300..400).contains(status) && !is_of_balancer(*status),
            ClientError::Unauthorized { status, .. } => *status != 401,
            _ => true,
        };
        // What it asks, it asks without a proxy.
        let found = match is_asked && EdgeProxy::before(&self.endpoint.url).is_none() {
            true => Answers::at(&self.edge).await.instead_of_an_edge(),
            false => None,
        };
        match found {
            Some(what) => unavailable(format!(
                "no edge is at {}: {what} (`mcpctl config set-context NAME --edge URL`)",
                self.edge
            )),
            None => self.explain(error, caller, Repeating::Harmless),
        }
    }

    /// Says what went wrong with whose bearer, and what to do.
    pub fn explain(&self, error: ClientError, caller: &Caller, repeating: Repeating) -> Error {
        let (server, edge, advice) = (&self.name, &self.edge, repeating.advice());
        match error {
            ClientError::Unauthorized { status: 401, ref www_authenticate, .. } if !is_rejection(&error) => {
                self.other_login(www_authenticate.as_deref())
            }
            ClientError::Unauthorized { status: 401, .. } => Error::new(
                Exit::Refused,
                format!(
                    "the edge at {edge} rejected {caller}; a new token reaches every edge within a second; {}",
                    self.advice_on_rejected()
                ),
            ),
            ClientError::Unauthorized { .. } => Error::new(
                Exit::Refused,
                format!(
                    "the edge at {edge} does not serve that name (HTTP 403); allow it there with --allowed-host, or set another \
                     URL with `mcpctl config set-context NAME --edge URL`"
                ),
            ),
            ClientError::Unreachable(why) => self.unreachable(&why),
            ClientError::Broken(why) if is_about_certificate(&why) => self.unreachable(&why),
            ClientError::Broken(why) => {
                unavailable(format!("the connection to the edge at {edge} broke: {why}; {advice}"))
            }
            ClientError::Timeout(after) => unavailable(format!(
                "the edge at {edge} did not respond within {after:?}; {advice}, or raise --timeout"
            )),
            ClientError::Http { status: status @ 300..400, excerpt } => self.redirected(status, &excerpt),
            ClientError::Http { status, excerpt } if is_of_balancer(status) => {
                self.not_passed_on(status, &excerpt)
            }
            ClientError::Http { status: 404, .. } | ClientError::Rpc { status: 404, .. } => {
                Error::not_found(format!(
                    "server {server} does not exist or {caller} may not call it; {}",
                    self.advice_on_hidden()
                ))
            }
            ClientError::Rpc { status, .. } if is_of_balancer(status) => {
                unavailable(format!("the edge at {edge} answers: {}", with_advice(&error.to_string())))
            }
            ClientError::Rpc { code, ref data, .. } => of_upstream(code, data.as_deref(), &error, repeating)
                .unwrap_or_else(|| Error::failure(format!("{error}; asked with {caller}"))),
            other => Error::failure(format!("{other}; asked with {caller}")),
        }
    }

    fn unreachable(&self, why: &str) -> Error {
        let edge = &self.edge;
        let (through, advice) = match EdgeProxy::before(&self.endpoint.url) {
            Some(proxy) => {
                (format!(" through {proxy}"), "check the proxy, or except the edge from it with NO_PROXY")
            }
            None if why.contains("not trusted here") => (String::new(), self.advice.trust.as_str()),
            None if is_about_certificate(why) => (String::new(), self.advice.certificate.as_str()),
            None => (String::new(), "check that it is running"),
        };
        unavailable(format!("the edge at {edge} is unreachable{through}: {why}; {advice}"))
    }

    /// Names the URL of the edge that a redirect leads to.
    fn redirected(&self, status: u16, excerpt: &str) -> Error {
        let edge = &self.edge;
        let named = excerpt.strip_prefix("redirects to ").and_then(|rest| rest.split_once(", which is not"));
        let Some((url, _)) = named else {
            return unavailable(format!(
                "the edge at {edge} answers HTTP {status} and {excerpt}; set its own URL with `mcpctl config set-context NAME --edge URL`"
            ));
        };
        let url = url.strip_suffix(&format!("/servers/{}/mcp", self.name)).unwrap_or(url);
        unavailable(format!(
            "{edge} redirects to {url} (HTTP {status}), which is not followed; set that with `mcpctl config set-context NAME \
             --edge {url}`"
        ))
    }

    /// Says that what is before the edges passes nothing on.
    fn not_passed_on(&self, status: u16, excerpt: &str) -> Error {
        let edge = &self.edge;
        let who = match EdgeProxy::before(&self.endpoint.url) {
            Some(proxy) => format!("{proxy} or what is behind it"),
            None => "what is before the edges".to_owned(),
        };
        let advice = if status == 429 { "try again later" } else { "check that edges are running" };
        let said = if excerpt.is_empty() { String::new() } else { format!(": {excerpt}") };
        unavailable(format!("HTTP {status} from {who} at {edge}, and not from an edge; {advice}{said}"))
    }

    /// Says that somebody else wants to know who asks.
    fn other_login(&self, challenge: Option<&str>) -> Error {
        let asked = challenge.map(|challenge| format!(" ({challenge})")).unwrap_or_default();
        unavailable(format!(
            "HTTP 401{asked} from what is before the edges at {}, and not from an edge; it wants a login of its own, so set a \
             URL that needs none with `mcpctl config set-context NAME --edge URL`",
            self.edge
        ))
    }
}

/// Says to try again later, unless it is said already when.
fn with_advice(said: &str) -> String {
    if said.contains("try again") { said.to_owned() } else { format!("{said}; try again later") }
}

/// The error of an edge that an upstream is to blame for; `None` for another one.
fn of_upstream(code: i64, data: Option<&str>, error: &ClientError, repeating: Repeating) -> Option<Error> {
    let [upstream] = json::members(data?, ["upstream"]).ok()?;
    let upstream = signature::readable(upstream?)?;
    let exit = if NO_ANSWER.contains(&code) { Exit::Unavailable } else { Exit::Failure };
    let advice = match repeating {
        Repeating::Doubtful if MAY_HAVE_RUN.contains(&code) => format!("; {}", repeating.advice()),
        _ => String::new(),
    };
    Some(Error::new(exit, format!("{error}{advice}; see `mcpctl describe upstream {upstream}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream_fault(code: i64, repeating: Repeating) -> (Exit, String) {
        let error = ClientError::Rpc { code, message: "upstream odd: no".into(), data: None, status: 200 };
        let told = of_upstream(code, Some(r#"{"reason":"x","upstream":"odd"}"#), &error, repeating).unwrap();
        (told.exit, told.to_string())
    }

    #[test]
    fn when_to_try_again_is_said_once() {
        assert_eq!(with_advice("it is busy"), "it is busy; try again later");
        assert_eq!(with_advice("no; try again in 63 s"), "no; try again in 63 s");
    }

    #[test]
    fn an_upstream_that_does_not_answer_is_named() {
        let text = |code: i64, advice: &str| {
            format!("error {code}: upstream odd: no{advice}; see `mcpctl describe upstream odd`")
        };
        let doubt = "; the tool may have run, so look before you call it again";
        for (code, repeating, exit, advice) in [
            (-31101, Repeating::Doubtful, Exit::Unavailable, ""),
            (-31102, Repeating::Harmless, Exit::Unavailable, ""),
            (-31102, Repeating::Doubtful, Exit::Unavailable, doubt),
            (-31103, Repeating::Doubtful, Exit::Failure, doubt),
            (-31104, Repeating::Doubtful, Exit::Failure, ""),
        ] {
            assert_eq!(upstream_fault(code, repeating), (exit, text(code, advice)));
        }
    }
}
