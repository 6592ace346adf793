//! The requests that a client can take, as a set small enough to key pooled sessions with.
//!
//! It must not know sessions. Only what is relayed to clients is kept: sampling, elicitation, roots.

use mcp::json;
use mcp::revision::Revision;

use crate::transport::is_empty_list;

/// A set of client capabilities.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Capabilities(pub u8);

const FORM: u8 = 1;
const URL: u8 = 1 << 1;
const SAMPLING: u8 = 1 << 2;
const SAMPLING_TOOLS: u8 = 1 << 3;
const SAMPLING_CONTEXT: u8 = 1 << 4;
const ROOTS: u8 = 1 << 5;

/// A feature of clients that a server request uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientFeature {
    /// A form to fill in (elicitation).
    Form,
    /// A URL to visit (elicitation).
    Url,
    /// A sampling request to the client's model.
    Sampling,
    /// The client's root folders.
    Roots,
}

impl Capabilities {
    /// Restricts the set to what clients of `revision` have.
    #[must_use]
    pub fn within(self, revision: Revision) -> Self {
        let mut set = self.0;
        if revision < Revision::V2025_06_18 {
            set &= !FORM;
        }
        if revision < Revision::V2025_11_25 {
            set &= !(URL | SAMPLING_TOOLS | SAMPLING_CONTEXT);
        }
        Self(set)
    }

    /// Returns whether a client that declared these takes that request.
    pub fn cover(self, feature: ClientFeature) -> bool {
        let bit = match feature {
            ClientFeature::Form => FORM,
            ClientFeature::Url => URL,
            ClientFeature::Sampling => SAMPLING,
            ClientFeature::Roots => ROOTS,
        };
        self.0 & bit != 0
    }

    /// Reads the `capabilities` of an `initialize`. What is not understood is not relayed. `null`, and the empty list that
    /// PHP writes for an empty object, declare none. In a member, `null` is absent, and `true` an empty object, as that
    /// list is.
    pub fn of_client(raw: &str) -> Result<Self, json::JsonError> {
        if raw == "null" || is_empty_list(raw) {
            return Ok(Self::default());
        }
        let [elicitation, sampling, roots] =
            json::members(raw, ["elicitation", "sampling", "roots"])?.map(object);
        let mut set = 0;
        if let Some(elicitation) = elicitation {
            let [form, url] = json::members(elicitation, ["form", "url"])?.map(object);
            // An empty object means forms, which was all there was before URLs.
            set |= if form.is_some() || url.is_none() { FORM } else { 0 };
            set |= if url.is_some() { URL } else { 0 };
        }
        if let Some(sampling) = sampling {
            let [tools, context] = json::members(sampling, ["tools", "context"])?.map(object);
            set |= SAMPLING;
            set |= if tools.is_some() { SAMPLING_TOOLS } else { 0 };
            set |= if context.is_some() { SAMPLING_CONTEXT } else { 0 };
        }
        set |= if roots.is_some() { ROOTS } else { 0 };
        Ok(Self(set))
    }

    /// Renders the `capabilities` of an `initialize` of `revision` to an upstream.
    pub fn to_upstream(self, revision: Revision) -> String {
        let has = |bit: u8| self.0 & bit != 0;
        let mut parts = Vec::new();
        if has(FORM | URL) && revision >= Revision::V2025_06_18 {
            parts.push(self.elicitation(revision));
        }
        if has(SAMPLING) {
            parts.push(self.sampling(revision));
        }
        if has(ROOTS) {
            parts.push(r#""roots":{}"#.to_owned());
        }
        format!("{{{}}}", parts.join(","))
    }

    fn elicitation(self, revision: Revision) -> String {
        if revision < Revision::V2025_11_25 || self.0 & URL == 0 {
            return r#""elicitation":{}"#.to_owned();
        }
        let form = if self.0 & FORM == 0 { "" } else { r#""form":{},"# };
        format!(r#""elicitation":{{{form}"url":{{}}}}"#)
    }

    fn sampling(self, revision: Revision) -> String {
        let mut parts = Vec::new();
        if revision >= Revision::V2025_11_25 {
            parts.extend((self.0 & SAMPLING_TOOLS != 0).then_some(r#""tools":{}"#));
            parts.extend((self.0 & SAMPLING_CONTEXT != 0).then_some(r#""context":{}"#));
        }
        format!(r#""sampling":{{{}}}"#, parts.join(","))
    }
}

/// The object that a member is, or stands for.
fn object(raw: Option<&str>) -> Option<&str> {
    raw.and_then(|raw| if raw.starts_with('{') { Some(raw) } else { stands_for_empty(raw) })
}

#[cold]
fn stands_for_empty(raw: &str) -> Option<&'static str> {
    (raw == "true" || is_empty_list(raw)).then_some("{}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_declared_comes_back() {
        for (raw, revision, upstream) in [
            ("{}", Revision::V2025_11_25, "{}"),
            (r#"{"elicitation":{}}"#, Revision::V2025_11_25, r#"{"elicitation":{}}"#),
            (r#"{"elicitation":{}}"#, Revision::V2025_03_26, "{}"),
            (r#"{"elicitation":{"url":{}}}"#, Revision::V2025_11_25, r#"{"elicitation":{"url":{}}}"#),
            (
                r#"{"roots":{"listChanged":true},"sampling":{"tools":{}},"elicitation":{"form":{},"url":{}},"x":1}"#,
                Revision::V2025_11_25,
                r#"{"elicitation":{"form":{},"url":{}},"sampling":{"tools":{}},"roots":{}}"#,
            ),
            (r#"{"sampling":{"tools":{}}}"#, Revision::V2025_06_18, r#"{"sampling":{}}"#),
            (r#"{"roots":null,"sampling":null,"elicitation":null}"#, Revision::V2025_11_25, "{}"),
            (r#"{"roots":false,"sampling":"x","elicitation":["x"]}"#, Revision::V2025_11_25, "{}"),
            (
                r#"{"roots":[],"sampling":true,"elicitation":[ ]}"#,
                Revision::V2025_11_25,
                r#"{"elicitation":{},"sampling":{},"roots":{}}"#,
            ),
            (
                r#"{"elicitation":{"form":null,"url":{}},"sampling":{"tools":null,"context":true}}"#,
                Revision::V2025_11_25,
                r#"{"elicitation":{"url":{}},"sampling":{"context":{}}}"#,
            ),
        ] {
            assert_eq!(Capabilities::of_client(raw).unwrap().to_upstream(revision), upstream, "{raw}");
        }
        for nothing in ["{}", "null", "[]", "[ ]"] {
            assert_eq!(Capabilities::of_client(nothing).unwrap(), Capabilities::default(), "{nothing}");
        }
        assert!(Capabilities::of_client(r#"["sampling"]"#).is_err());
    }
}
