//! The names under which clients see tools, prompts and resources: one function each, used for listing and
//! for calling. It knows nothing of who selects what.

use aws_lc_rs::digest::{SHA256, digest};
use trunkline::registry::v1::NameStyle;

/// The longest name of a tool or prompt that clients accept.
pub const MAX_NAME: usize = 64;
/// The length of a name's beginning that is kept when the name is shortened.
const HEAD: usize = 12;
/// Hexadecimal digits of the hash that tells changed names apart.
const HASH: usize = 8;

/// The exposed name of a tool or prompt: `{upstream}_{name}`, or `{name}` where names are not prefixed, made
/// to fit `[A-Za-z0-9_-]{1,64}`.
pub fn name(style: NameStyle, upstream_id: &str, own: &str) -> String {
    match style {
        NameStyle::Unprefixed => fit(own),
        NameStyle::Prefixed | NameStyle::Unspecified => fit(&format!("{upstream_id}_{own}")),
    }
}

/// The prefix under which a URI or URI template is exposed, by [`mcp::uri::naming::expose`].
pub fn uri_prefix(style: NameStyle, upstream_id: &str) -> String {
    match style {
        NameStyle::Unprefixed => String::new(),
        NameStyle::Prefixed | NameStyle::Unspecified => format!("{upstream_id}+"),
    }
}

/// Tells whether clients accept it as a name.
pub fn fits(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(accepted)
}

fn accepted(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// Keeps a name that fits. In others, characters that do not fit become `_`, the middle goes where it is too long (the
/// tail tells names apart best), and a hash of the original keeps different names different.
fn fit(wanted: &str) -> String {
    if fits(wanted) {
        return wanted.to_owned();
    }
    let plain: String =
        wanted.chars().map(|c| if u8::try_from(c).is_ok_and(accepted) { c } else { '_' }).collect();
    let hash: String = digest(&SHA256, wanted.as_bytes()).as_ref()[..HASH / 2]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    if plain.len() + 1 + HASH <= MAX_NAME {
        return format!("{plain}_{hash}");
    }
    let tail = plain.len() - (MAX_NAME - HEAD - HASH - 2);
    format!("{}_{hash}_{}", &plain[..HEAD], &plain[tail..])
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_fit_stay() {
        assert_eq!(name(NameStyle::Prefixed, "time", "get_current_time"), "time_get_current_time");
        assert_eq!(name(NameStyle::Unprefixed, "time", "get_current_time"), "get_current_time");
        assert_eq!(uri_prefix(NameStyle::Prefixed, "git"), "git+");
    }

    #[test]
    fn names_that_do_not_fit_are_made_to() {
        assert_eq!(name(NameStyle::Prefixed, "gh", "issues.create"), "gh_issues_create_279da74a");
        let long = format!("{}_the_tail_that_tells_it_apart", "x".repeat(80));
        let exposed = name(NameStyle::Prefixed, "github", &long);
        assert_eq!(exposed.len(), MAX_NAME);
        assert!(
            exposed.starts_with("github_xxxxx_") && exposed.ends_with("_the_tail_that_tells_it_apart"),
            "{exposed}"
        );
    }

    proptest! {
        #[test]
        fn all_fit_and_differ(names in prop::collection::hash_set(".{1,90}|[a-c.]{1,80}", 1..40)) {
            let mut seen = HashMap::new();
            for own in &names {
                let exposed = name(NameStyle::Prefixed, "up", own);
                prop_assert!(fits(&exposed), "{} became {}", own, exposed);
                prop_assert_eq!(seen.insert(exposed, own), None);
            }
        }
    }
}
