//! Whether a message is sent again that did not get through, and when. It must not know how messages travel.

use std::time::{Duration, Instant};

use mcp::client::Fault;

use crate::bridge::errors::BridgeError;

/// Time to keep trying an unreachable edge before reporting an error.
const UNREACHABLE_TIMEOUT: Duration = Duration::from_secs(60);
pub(super) const FIRST_DELAY: Duration = Duration::from_millis(200);
const MAX_DELAY: Duration = Duration::from_secs(5);

/// Why a message did not get through.
pub(super) enum Failure {
    /// The request did not reach the edge, so sending it again is safe.
    Unreachable(String),
    /// The connection broke, so the request may have reached the edge.
    Interrupted(String),
    /// The edge does not know the session.
    SessionLost,
    /// There is another bearer or another session now, and it was refused for the old one.
    Renewed,
    /// Anything else.
    Final(String),
}

/// What becomes of a message.
pub(super) enum Next {
    /// It is sent again after this time.
    Again(Duration),
    /// It is given up, for this reason.
    Never(BridgeError, String),
}

/// The attempts to send one message.
pub(super) struct Attempts<'m> {
    method: &'m str,
    started: Instant,
    delay: Duration,
}

impl<'m> Attempts<'m> {
    pub(super) fn new(method: &'m str) -> Self {
        Self { method, started: Instant::now(), delay: FIRST_DELAY }
    }

    /// Decides after a failure. Whoever is closing does not wait for an edge.
    pub(super) fn next(&mut self, failure: Failure, edge: &str, is_closing: bool) -> Next {
        match failure {
            Failure::Renewed => Next::Again(Duration::ZERO),
            Failure::Interrupted(why) if is_idempotent(self.method) => self.later(why, edge, is_closing),
            Failure::Unreachable(why) => self.later(why, edge, is_closing),
            Failure::SessionLost => {
                Next::Never(BridgeError::EdgeRefused, "the session is lost; initialize again".to_owned())
            }
            // A subscription never ends by itself: it continues on whichever edge answers next.
            Failure::Interrupted(_) | Failure::Final(_)
                if self.method == "subscriptions/listen" && self.started.elapsed() > self.delay =>
            {
                Next::Again(Duration::ZERO)
            }
            Failure::Interrupted(why) | Failure::Final(why) => Next::Never(BridgeError::EdgeRefused, why),
        }
    }

    fn later(&mut self, why: String, edge: &str, is_closing: bool) -> Next {
        if is_closing || self.started.elapsed() >= UNREACHABLE_TIMEOUT {
            return Next::Never(
                BridgeError::EdgeUnreachable,
                format!("the edge at {edge} is unreachable: {why}"),
            );
        }
        let pause = self.delay;
        self.delay = longer(pause);
        Next::Again(pause)
    }
}

/// The delay after one that was not enough.
pub(super) fn longer(delay: Duration) -> Duration {
    (delay * 2).min(MAX_DELAY)
}

/// Returns whether repeating a request that may have arrived is harmless.
fn is_idempotent(method: &str) -> bool {
    const IDEMPOTENT: [&str; 9] = [
        "ping",
        "server/discover",
        "tools/list",
        "resources/list",
        "resources/templates/list",
        "resources/read",
        "prompts/list",
        "prompts/get",
        "completion/complete",
    ];
    IDEMPOTENT.contains(&method)
}

/// Classifies a transport error: a request that cannot have arrived may always be sent again.
pub(super) fn failure(error: reqwest::Error) -> Failure {
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    match Fault::of(&error) {
        // The edge hears no request of whom it does not trust, and another attempt would be refused as well.
        Some(fault @ Fault::Refused(_)) => Failure::Final(format!("the edge cannot be called: {fault}")),
        _ if error.is_connect() => Failure::Unreachable(cause.to_string()),
        _ => Failure::Interrupted(cause.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(next: Next) -> String {
        match next {
            Next::Again(pause) => format!("again after {pause:?}"),
            Next::Never(_, why) => why,
        }
    }

    #[test]
    fn only_what_does_no_harm_is_sent_again() {
        let lost = || Failure::Interrupted("reset".to_owned());
        let away = || Failure::Unreachable("refused".to_owned());
        let next = |method: &str, failure: Failure, is_closing: bool| {
            told(Attempts::new(method).next(failure, "http://e", is_closing))
        };
        assert_eq!(next("tools/call", lost(), false), "reset");
        assert_eq!(next("tools/list", lost(), false), "again after 200ms");
        assert_eq!(next("tools/call", away(), false), "again after 200ms");
        assert_eq!(next("tools/call", away(), true), "the edge at http://e is unreachable: refused");
        assert_eq!(next("tools/call", Failure::Renewed, true), "again after 0ns");
        assert_eq!(next("tools/call", Failure::SessionLost, false), "the session is lost; initialize again");
        let mut attempts = Attempts::new("ping");
        let pauses: Vec<_> = (0..6).map(|_| told(attempts.next(away(), "http://e", false))).collect();
        assert_eq!(pauses[4..], ["again after 3.2s", "again after 5s"]);
    }
}
