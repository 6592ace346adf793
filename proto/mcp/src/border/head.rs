//! What the headers of a client's request plainly mean, though not as the specification spells it. It must not know messages,
//! nor which sessions there are.

use super::body::{Media, label};
use crate::header::JSON;
use crate::revision::{Era, Revision};

/// The one value of a header whose elements are all equal, as proxies and `Headers.append` join lines that occur several
/// times (RFC 9110 §5.3); else the header as it is.
#[cold]
#[must_use]
pub fn sole(header: &[u8]) -> &[u8] {
    let mut elements =
        header.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty());
    match elements.next() {
        Some(first) if elements.all(|element| element == first) => first,
        _ => header,
    }
}

/// Whether `Content-Type` names JSON: MCP's name of it, or one of the others. A page of another origin sends none of these
/// without a preflight.
#[must_use]
pub fn is_json(content_type: &[u8]) -> bool {
    let end = memchr::memchr(b';', content_type).unwrap_or(content_type.len());
    content_type[..end].trim_ascii().eq_ignore_ascii_case(JSON.as_bytes()) || is_plainly_json(content_type)
}

#[cold]
fn is_plainly_json(content_type: &[u8]) -> bool {
    let content_type = sole(content_type);
    // Different labels contradict each other.
    !content_type.contains(&b',') && label(Some(content_type)) == Some(Media::Json)
}

/// Whether a request of a legacy session may have this `MCP-Protocol-Version`: a revision of that era, or the client's own
/// newest one, known here or not. The session has what was negotiated in every case.
#[must_use]
pub fn is_version_of_session(version: &[u8]) -> bool {
    let known = |version| std::str::from_utf8(version).ok().and_then(Revision::parse);
    known(version).is_some_and(|revision| revision.era() == Era::Legacy) || is_plainly_version(version)
}

#[cold]
fn is_plainly_version(version: &[u8]) -> bool {
    let Ok(version) = std::str::from_utf8(sole(version)) else { return false };
    Revision::parse(version).is_some() || Era::of(version) == Some(Era::Modern)
}

/// Whether `MCP-Protocol-Version` alone says that a request is modern: clients of sessions send their newest revision, too,
/// and modern ones have no sessions and no `initialize`.
#[must_use]
pub fn is_version_of_modern_request(version: &[u8], in_session: bool, is_initialize: bool) -> bool {
    // Revisions are dates, and dates of this form sort as text. Those of legacy clients end here.
    version >= Revision::V2026_07_28.as_str().as_bytes()
        && !in_session
        && !is_initialize
        && std::str::from_utf8(sole(version)).is_ok_and(|version| Era::of(version) == Some(Era::Modern))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_elements_are_one_value_and_different_ones_are_left() {
        for (header, value) in [
            ("a", "a"),
            ("a, a", "a"),
            ("a,a ,\ta", "a"),
            ("a,", "a"),
            ("a, b", "a, b"),
            ("a, A", "a, A"),
            ("", ""),
            (",", ","),
        ] {
            assert_eq!(sole(header.as_bytes()), value.as_bytes(), "{header:?}");
        }
    }

    #[test]
    fn json_is_told_by_all_its_names_and_by_nothing_else() {
        for (content_type, json) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/json;", true),
            ("application/json, application/json", true),
            ("application/json; charset=utf-8, application/json; charset=utf-8", true),
            ("text/json", true),
            ("application/json-rpc", true),
            ("application/vnd.api+json; v=1", true),
            ("application/json, text/plain", false),
            ("text/plain, application/json", false),
            ("text/plain; application/json", false),
            ("text/plain", false),
            ("text/plain+json", false),
            ("application/jsonp", false),
            ("application/x-www-form-urlencoded", false),
            ("text/event-stream", false),
            ("", false),
        ] {
            assert_eq!(is_json(content_type.as_bytes()), json, "{content_type:?}");
        }
    }

    #[test]
    fn a_version_alone_is_modern_only_where_it_can_be() {
        for (version, in_session, modern) in [
            ("2026-07-28", true, true),
            ("2027-01-01", true, true),
            ("2026-07-28, 2026-07-28", true, true),
            ("2025-11-25", true, false),
            ("2025-06-18,2025-06-18", true, false),
            ("1999-01-01", false, false),
            ("2026-07-28, 2025-06-18", false, false),
            ("DRAFT-2026-v1", false, false),
            ("undefined", false, false),
            ("null", false, false),
            ("latest", false, false),
            ("2026/07/28", false, false),
            ("2026-07-28T00:00", false, false),
            ("20260728", false, false),
            ("9", false, false),
            ("", false, false),
            ("é", false, false),
        ] {
            let version_bytes = version.as_bytes();
            assert_eq!(is_version_of_session(version_bytes), in_session, "{version:?}");
            assert_eq!(is_version_of_modern_request(version_bytes, false, false), modern, "{version:?}");
            assert!(!is_version_of_modern_request(version_bytes, true, false), "{version:?}");
            assert!(!is_version_of_modern_request(version_bytes, false, true), "{version:?}");
        }
    }
}
