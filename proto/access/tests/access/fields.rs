//! Paths of masks: how they are read, and where they lead.

use access::rule::FieldPath;
use proptest::prelude::*;

#[test]
fn a_path_is_read_or_refused_with_what_to_write() {
    for text in ["email", "customers.*.iban", "**.token", "a.**.b", "*", "**.*", "a b.c-d", "é", "0.1"] {
        assert_eq!(FieldPath::parse(text).map(|path| path.to_string()), Ok(text.to_owned()));
    }
    let deep = vec!["a"; 33].join(".");
    for (text, expected) in [
        ("", "is empty; write the name of a member, such as `email`"),
        (".a", "starts with `.`; write names with one `.` between them"),
        ("a.", "ends with `.`; write names with one `.` between them"),
        (".", "starts with `.`; write names with one `.` between them"),
        ("a..b", "has two `.` with nothing between them; for any depth write `**`"),
        ("**", "names no member; write which after it, such as `**.email`"),
        ("**.**", "names no member; write which after it, such as `**.email`"),
        ("a.**.**.b", "has `**` after `**`; one is enough"),
        ("a.b.**", "ends with `**`; write `a.b`, which takes away all that is in it"),
        ("a.b*", "has `*` within a name; it stands for a whole name"),
        ("***", "has `*` within a name; it stands for a whole name"),
        ("$.a", "starts with `$`; write the names of members alone, such as `email`"),
        ("a[*].b", "has `*` within a name; it stands for a whole name"),
        ("a[0].b", "has brackets; write `*` for every item, such as `customers.*.iban`"),
        ("a.\tb", "must have no control characters"),
        ("a. b", "has spaces around a name"),
        (deep.as_str(), "has 33 names; the maximum is 32"),
    ] {
        let refused = FieldPath::parse(text).map_err(|error| error.to_string());
        assert_eq!(refused, Err(expected.to_owned()), "{text}");
    }
}

/// Whether a path ends after these names; `None` is an item.
fn leads(path: &FieldPath, names: &[Option<&str>]) -> bool {
    let at = names.iter().fold(path.start(), |at, name| path.enter(at, *name));
    assert!(!at.is_nowhere() || !path.ends(at));
    path.ends(at)
}

/// The same in the plainest way.
fn plainly(steps: &[&str], names: &[Option<&str>]) -> bool {
    match (steps, names) {
        ([], []) => true,
        (["**", rest @ ..], _) => (0..=names.len()).any(|skipped| plainly(rest, &names[skipped..])),
        (["*", rest @ ..], [_, names @ ..]) => plainly(rest, names),
        ([step, rest @ ..], [Some(name), names @ ..]) => step == name && plainly(rest, names),
        _ => false,
    }
}

#[test]
fn a_star_is_every_member_or_item_and_two_are_any_number() {
    let leads = |path: &str, names: &[Option<&str>]| leads(&FieldPath::parse(path).unwrap(), names);
    let (a, b, item) = (Some("a"), Some("b"), None);
    assert!(leads("a", &[a]) && !leads("a", &[b]) && !leads("a", &[a, a]) && !leads("a", &[]));
    assert!(leads("a.*.b", &[a, item, b]) && leads("a.*.b", &[a, b, b]) && !leads("a.*.b", &[a, b]));
    assert!(!leads("a.b", &[a, item, b]), "items are named by a star alone");
    assert!(leads("**.b", &[b]) && leads("**.b", &[a, item, a, b]) && !leads("**.b", &[b, a]));
    assert!(leads("a.**.b", &[a, b]) && leads("a.**.b", &[a, item, b]) && !leads("a.**.b", &[b]));
}

proptest! {
    #[test]
    fn a_path_leads_where_it_does_plainly(
        steps in prop::collection::vec(prop::sample::select(vec!["a", "b", "*", "**"]), 1..6),
        names in prop::collection::vec(prop::sample::select(vec![Some("a"), Some("b"), Some("*"), None]), 0..6),
    ) {
        if let Ok(path) = FieldPath::parse(&steps.join(".")) {
            prop_assert_eq!(leads(&path, &names), plainly(&steps, &names));
        }
    }
}
