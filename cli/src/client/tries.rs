//! Who was tried at a server, and why each was not let in, for the error where nobody is. Pure.

use crate::client::caller::Caller;
use crate::error::{Error, Exit};

/// Why a caller is not let in whom the server is hidden from.
pub(super) const HIDDEN: &str = "it does not exist, or may not be called by them";
/// Why a caller is not let in whose credential the edge rejects.
pub(super) const REJECTED: &str = "it is not valid any more";

/// Those who were tried, in order.
#[derive(Debug, Default)]
pub(super) struct Tries(Vec<(String, String)>);

impl Tries {
    /// Notes why somebody was not let in.
    pub(super) fn note(&mut self, caller: &Caller, why: impl Into<String>) {
        self.0.push((caller.brief(), why.into()));
    }

    /// The last of them, and why they were not let in.
    pub(super) fn last(&self) -> String {
        self.0.last().map(|(who, why)| format!("{who}: {why}")).unwrap_or_default()
    }

    /// The error where nobody was let in: of several a line each. `first`: the error of the first whom a condition refused.
    pub(super) fn summed_up(&self, server: &str, first: Error) -> Error {
        if self.0.len() < 2 {
            return first;
        }
        let lines = self.0.iter().map(|(who, why)| format!("\n  {who}: {why}"));
        let advice = first.to_string();
        let advice = advice.rsplit_once("; ").map_or("", |(_, advice)| advice);
        Error::new(
            Exit::Refused,
            format!("nobody who was tried may call server {server}:{}\n{advice}", lines.collect::<String>()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::caller::BearerSource;
    use crate::context::Secret;

    #[test]
    fn every_try_is_a_line_with_its_own_reason() {
        let caller = |source| Caller { bearer: Secret::default(), source };
        let saved = |name: &str| caller(BearerSource::Saved { name: name.to_owned(), file: "FILE".into() });
        let first = || {
            Error::new(
                Exit::Refused,
                "the edge refused token agent: no; run `mcpctl access check` to see why",
            )
        };
        let mut tries = Tries::default();
        tries.note(&saved("agent"), "this token may not be used from this address (address_not_allowed)");
        assert_eq!(tries.summed_up("files", first()).to_string(), first().to_string());
        tries.note(&saved("bobs"), HIDDEN);
        tries.note(&caller(BearerSource::SignedIn("users/bob@example.org".to_owned())), HIDDEN);
        let error = tries.summed_up("files", first());
        assert_eq!(
            (error.exit, error.to_string().as_str()),
            (
                Exit::Refused,
                "nobody who was tried may call server files:\n  token agent: this token may not be used from this address \
                 (address_not_allowed)\n  token bobs: it does not exist, or may not be called by them\n  users/bob@example.org: it does \
                 not exist, or may not be called by them\nrun `mcpctl access check` to see why"
            )
        );
    }
}
