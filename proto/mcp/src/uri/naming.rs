//! The URIs under which those of an upstream are exposed, and back. It must not know who selects what.
//!
//! A prefix is empty, or an id, which has no `/`, and `+`: `docs://a` becomes `up+docs://a`. Clients look for MCP Apps
//! under `ui://` alone, so that scheme stays, and the id comes after it: `ui://widget/1` becomes `ui://up/widget/1`.

use std::borrow::Cow;

/// The scheme of MCP Apps, which clients know by it.
const UI: &str = "ui://";

/// The URI, or URI template, under which the upstream's `own` is exposed.
#[must_use]
pub fn expose(prefix: &str, own: &str) -> String {
    let (at, inserted) = insertion(prefix, own);
    format!("{}{inserted}{}", &own[..at], &own[at..])
}

/// Whether [`expose`] names `own` so.
#[must_use]
pub fn is_exposed(prefix: &str, own: &str, exposed: &str) -> bool {
    let (at, inserted) = insertion(prefix, own);
    let rest = exposed.strip_prefix(&own[..at]).and_then(|rest| rest.strip_prefix(&*inserted));
    rest == Some(&own[at..])
}

/// The upstream's own URI that is exposed as `exposed`, also as it was before `ui://` was kept; `None` when it is not
/// exposed under this prefix.
#[must_use]
pub fn original<'a>(prefix: &str, exposed: &'a str) -> Option<Cow<'a, str>> {
    let Some(id) = prefix.strip_suffix('+') else {
        return exposed.strip_prefix(prefix).map(Cow::Borrowed);
    };
    match exposed.strip_prefix(UI) {
        None => exposed.strip_prefix(prefix).map(Cow::Borrowed),
        Some(rest) => {
            let own = rest.strip_prefix(id)?.strip_prefix('/')?;
            Some(Cow::Owned(format!("{UI}{own}")))
        }
    }
}

/// What is put into `own` to expose it, and where, in bytes.
#[must_use]
pub fn insertion<'a>(prefix: &'a str, own: &str) -> (usize, Cow<'a, str>) {
    match prefix.strip_suffix('+') {
        Some(id) if own.starts_with(UI) => (UI.len(), Cow::Owned(format!("{id}/"))),
        _ => (0, Cow::Borrowed(prefix)),
    }
}

/// The URI under which `own` was exposed before `ui://` was kept, where it differs from [`expose`].
#[must_use]
pub fn former(prefix: &str, own: &str) -> Option<String> {
    (own.starts_with(UI) && !prefix.is_empty()).then(|| format!("{prefix}{own}"))
}

/// The URI, or URI template, that was exposed as `former` before `ui://` was kept, whatever its prefix is; `None` where that
/// is no former name.
#[must_use]
pub fn renewed(former: &str) -> Option<String> {
    let (id, own) = former.split_once('+')?;
    own.strip_prefix(UI).map(|rest| format!("{UI}{id}/{rest}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn uris_are_named_after_their_upstream() {
        for (prefix, own, exposed) in [
            ("", "docs://a", "docs://a"),
            ("", "ui://widget/1", "ui://widget/1"),
            ("up+", "docs://a", "up+docs://a"),
            ("up+", "ui://widget/1", "ui://up/widget/1"),
            ("up+", "ui://{name}/{+path}", "ui://up/{name}/{+path}"),
            ("up+", "ui://", "ui://up/"),
            ("up+", "ui:x", "up+ui:x"),
            ("up+", "up+docs://a", "up+up+docs://a"),
            ("up+", "", "up+"),
        ] {
            assert_eq!(expose(prefix, own), exposed);
            assert_eq!(original(prefix, exposed).as_deref(), Some(own), "{exposed}");
        }
    }

    #[test]
    fn what_is_not_exposed_under_the_prefix_has_no_original() {
        for exposed in
            ["docs://a", "other+docs://a", "ui://widget/1", "ui://upper/1", "ui://up", "upper+docs://a"]
        {
            assert_eq!(original("up+", exposed), None, "{exposed}");
        }
    }

    #[test]
    fn the_former_name_is_read_yet() {
        assert_eq!(former("up+", "ui://widget/1").as_deref(), Some("up+ui://widget/1"));
        assert_eq!(original("up+", "up+ui://widget/1").as_deref(), Some("ui://widget/1"));
        assert_eq!(renewed("up+ui://widget/1").as_deref(), Some("ui://up/widget/1"));
        assert_eq!(renewed("up+docs://a"), None);
        assert_eq!(renewed("ui://up/widget+ui"), None);
        assert_eq!(former("up+", "docs://a"), None);
        assert_eq!(former("", "ui://widget/1"), None);
    }

    proptest! {
        #[test]
        fn there_and_back(id in "[a-z0-9-]{1,8}", other in "[a-z0-9-]{1,8}", own in "(ui://|[a-z]{1,4}:(//)?)?[ -~é]{0,12}") {
            let (prefix, other) = (format!("{id}+"), format!("{other}+"));
            let exposed = expose(&prefix, &own);
            let back = original(&prefix, &exposed);
            prop_assert_eq!(back.as_deref(), Some(&*own));
            prop_assert!(is_exposed(&prefix, &own, &exposed));
            prop_assert!(prefix == other || !is_exposed(&other, &own, &exposed));
            prop_assert!(prefix == other || expose(&other, &own) != exposed, "injective");
            if let Some(former) = former(&prefix, &own) {
                let back = original(&prefix, &former);
                prop_assert_eq!(back.as_deref(), Some(&*own));
                prop_assert_eq!(renewed(&former), Some(exposed));
            }
        }
    }
}
