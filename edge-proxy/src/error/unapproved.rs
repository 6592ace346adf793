//! Calls that rules hold back until somebody approves them, as their callers are told of them. It must not know who is asked, nor how a
//! client is sent what it is told.

use std::fmt;

use http::StatusCode;
use mcp::error as codes;
use mcp::json;

use super::Failure;
use super::words::refused_by_rule;

/// What a client is told to do that is not asked.
const AGAIN: &str = ", then make the same call again";

/// Why a call that a rule holds back is not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unapproved {
    /// What the rule says of why; may be empty.
    pub told: Box<str>,
    /// What became of the approval.
    pub why: Unmade,
    /// Whether the client is told by a URL to visit first, as 2025-11-25 has it.
    pub by_url: bool,
}

/// What became of the approval of a call that is not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unmade {
    /// Nobody has decided.
    Pending(PendingApproval),
    /// Somebody denied it, and said this.
    Denied(PendingApproval, Box<str>),
    /// No control plane took the request for it.
    Unasked,
    /// The control plane cannot read the call as this edge does.
    Unreadable,
    /// Too many wait already.
    TooMany,
    /// This edge asks for too many at a time.
    Busy,
}

/// An approval that somebody is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingApproval {
    /// `approvals/{id}`.
    pub name: Box<str>,
    /// When it ends, as RFC 3339 writes it.
    pub expires: Box<str>,
    /// A page that says what is waited for. Empty: there is none.
    pub url: Box<str>,
}

impl From<Unapproved> for Failure {
    fn from(unapproved: Unapproved) -> Self {
        Self::Unapproved(Box::new(unapproved))
    }
}

impl PendingApproval {
    /// The id alone.
    pub fn id(&self) -> &str {
        self.name.strip_prefix("approvals/").unwrap_or(&self.name)
    }
}

impl Unapproved {
    /// The word by which it is recorded, and the `data.reason` of the error.
    pub fn reason(&self) -> &'static str {
        match self.why {
            Unmade::Pending(_) | Unmade::Unasked => "approval_needed",
            Unmade::Denied(..) => "approval_denied",
            Unmade::TooMany | Unmade::Busy => "too_many_approvals",
            Unmade::Unreadable => "policy_error",
        }
    }

    /// The same to a client that is asked, and goes on with this call by itself.
    pub fn question(&self) -> String {
        let told = self.to_string();
        let told = told.strip_suffix(AGAIN).unwrap_or(&told);
        format!("{told}; accept this once it is approved")
    }

    pub(super) fn code(&self) -> i64 {
        if self.by_url { codes::URL_ELICITATION_REQUIRED } else { -31012 }
    }

    pub(super) fn status(&self) -> StatusCode {
        match self.why {
            _ if self.by_url => StatusCode::OK,
            Unmade::TooMany | Unmade::Busy => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::FORBIDDEN,
        }
    }

    /// The `data` of the error, as raw JSON.
    pub(super) fn data(&self) -> String {
        let mut data = format!(r#"{{"reason":"{}""#, self.reason());
        let mut add = |name: &str, text: &str| {
            if !text.is_empty() {
                data.push_str(&format!(r#","{name}":{}"#, json::quote(text)));
            }
        };
        if let Unmade::Pending(approval) | Unmade::Denied(approval, _) = &self.why {
            add("approval", &approval.name);
            add("expires", &approval.expires);
        }
        match &self.why {
            Unmade::Pending(approval) => add("url", &approval.url),
            Unmade::Denied(_, comment) => add("comment", comment),
            Unmade::Unasked | Unmade::Unreadable | Unmade::TooMany | Unmade::Busy => {}
        }
        if let (true, Unmade::Pending(approval)) = (self.by_url, &self.why) {
            let [id, url, message] = [approval.id(), &approval.url, &self.to_string()].map(json::quote);
            data.push_str(&format!(
                r#","elicitations":[{{"mode":"url","elicitationId":{id},"url":{url},"message":{message}}}]"#
            ));
        }
        data + "}"
    }
}

impl fmt::Display for Unapproved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colon = |text: &str| if text.is_empty() { "" } else { ": " };
        if let Unmade::Denied(approval, comment) = &self.why {
            let PendingApproval { expires, .. } = approval;
            let (by, colon) = ("somebody who may approve this call has denied it", colon(comment));
            return write!(f, "{by}{colon}{comment}; it may be asked for again after {expires}");
        }
        if self.why == Unmade::Unreadable {
            return f.write_str(&refused_by_rule(&self.told, true));
        }
        let held = "a rule of this server holds this call back until somebody approves it";
        write!(f, "{held}{}{}; ", colon(&self.told), self.told)?;
        match &self.why {
            Unmade::Pending(approval) => write!(
                f,
                "have somebody else who may approve it (an administrator, or an owner of its team) run `mcpctl approvals approve {}` \
                 before {}{AGAIN}",
                approval.id(),
                approval.expires
            ),
            Unmade::TooMany => f.write_str(
                "too many calls wait for that already; have those decided first, or wait until they have expired",
            ),
            Unmade::Busy => f.write_str("this edge asks for too many approvals at a time; try again later"),
            Unmade::Unasked | Unmade::Unreadable | Unmade::Denied(..) => {
                f.write_str("no control plane took the request for it; try again later")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn approval(url: &str) -> PendingApproval {
        PendingApproval {
            name: "approvals/a-1".into(),
            expires: "2026-12-01T00:00:00Z".into(),
            url: url.into(),
        }
    }

    fn unapproved(told: &str, why: Unmade) -> Unapproved {
        Unapproved { told: told.into(), why, by_url: false }
    }

    const HELD: &str = "a rule of this server holds this call back until somebody approves it";
    const NEXT: &str = "have somebody else who may approve it (an administrator, or an owner of its team) run \
                        `mcpctl approvals approve a-1` before 2026-12-01T00:00:00Z, then make the same call again";

    #[test]
    fn each_says_what_to_do() {
        for (why, told, expected) in [
            (Unmade::Pending(approval("")), "it \"deletes\"", format!("{HELD}: it \"deletes\"; {NEXT}")),
            (Unmade::Pending(approval("https://x/")), "", format!("{HELD}; {NEXT}")),
            (
                Unmade::Denied(approval(""), "not now".into()),
                "it deletes",
                "somebody who may approve this call has denied it: not now; it may be asked for again after \
                 2026-12-01T00:00:00Z"
                    .to_owned(),
            ),
            (
                Unmade::Denied(approval(""), "".into()),
                "",
                "somebody who may approve this call has denied it; it may be asked for again after 2026-12-01T00:00:00Z"
                    .to_owned(),
            ),
            (
                Unmade::Unasked,
                "",
                format!("{HELD}; no control plane took the request for it; try again later"),
            ),
            (
                Unmade::Unreadable,
                "it deletes",
                "a rule of this server cannot decide about this, and so does not allow it: it deletes".to_owned(),
            ),
            (
                Unmade::Busy,
                "",
                format!("{HELD}; this edge asks for too many approvals at a time; try again later"),
            ),
            (
                Unmade::TooMany,
                "",
                format!(
                    "{HELD}; too many calls wait for that already; have those decided first, or wait until they have expired"
                ),
            ),
        ] {
            assert_eq!(unapproved(told, why).to_string(), expected);
        }
    }

    #[test]
    fn data_is_for_programs() {
        let approved = r#""approval":"approvals/a-1","expires":"2026-12-01T00:00:00Z""#;
        for (why, expected) in [
            (Unmade::Pending(approval("")), format!(r#"{{"reason":"approval_needed",{approved}}}"#)),
            (
                Unmade::Pending(approval("https://x/\"")),
                format!(r#"{{"reason":"approval_needed",{approved},"url":"https://x/\""}}"#),
            ),
            (
                Unmade::Denied(approval("https://x/"), "no\n".into()),
                format!(r#"{{"reason":"approval_denied",{approved},"comment":"no\n"}}"#),
            ),
            (Unmade::Unasked, r#"{"reason":"approval_needed"}"#.to_owned()),
            (Unmade::Unreadable, r#"{"reason":"policy_error"}"#.to_owned()),
            (Unmade::TooMany, r#"{"reason":"too_many_approvals"}"#.to_owned()),
            (Unmade::Busy, r#"{"reason":"too_many_approvals"}"#.to_owned()),
        ] {
            assert_eq!(unapproved("", why).data(), expected);
        }
        let by_url = Unapproved { by_url: true, ..unapproved("", Unmade::Pending(approval("https://x/"))) };
        let elicitation = format!(
            r#"{{"mode":"url","elicitationId":"a-1","url":"https://x/","message":"{HELD}; {NEXT}"}}"#
        );
        let expected = format!(
            r#"{{"reason":"approval_needed",{approved},"url":"https://x/","elicitations":[{elicitation}]}}"#
        );
        assert_eq!((by_url.code(), by_url.data()), (-32042, expected));
    }
}
