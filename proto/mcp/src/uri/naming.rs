//! The names under which URIs of an upstream are exposed, and back. It must not know who selects what.
//!
//! A prefix is empty, or an id, which has no `/`, and `+`.

use std::borrow::Cow;

/// The URI under which the upstream's `own` is exposed.
#[must_use]
pub fn expose(prefix: &str, own: &str) -> String {
    let (at, inserted) = insertion(prefix, own);
    format!("{}{inserted}{}", &own[..at], &own[at..])
}

/// The upstream's own URI that is exposed as `exposed`; `None` when it is not exposed under this prefix.
#[must_use]
pub fn original<'a>(prefix: &str, exposed: &'a str) -> Option<Cow<'a, str>> {
    exposed.strip_prefix(prefix).map(Cow::Borrowed)
}

/// What is put into `own` to expose it, and where, in bytes.
#[must_use]
pub fn insertion<'a>(prefix: &'a str, _own: &str) -> (usize, Cow<'a, str>) {
    (0, Cow::Borrowed(prefix))
}
