use std::collections::HashSet;

use mcp::quirk::{Quirk, Quirks};
use proptest::prelude::*;

#[test]
fn each_has_a_name_of_its_own_and_says_what_it_is() {
    let names: HashSet<&str> = Quirk::ALL.iter().map(|quirk| quirk.as_str()).collect();
    assert_eq!(names.len(), Quirk::ALL.len());
    for quirk in Quirk::ALL {
        let (name, text, cure) = (quirk.as_str(), quirk.text(), quirk.cure());
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{name}");
        assert!(
            ![text, cure].iter().any(|text| text.is_empty() || text.ends_with('.') || text.contains('|')),
            "{name}"
        );
        assert_eq!(Quirk::named(name), Some(*quirk));
    }
    assert_eq!(Quirk::named("odd"), None);
}

proptest! {
    #[test]
    fn a_set_holds_what_was_noted(
        noted in prop::collection::vec(prop::sample::select(Quirk::ALL), 0..9),
        others in prop::collection::vec(prop::sample::select(Quirk::ALL), 0..9),
    ) {
        let mut set = Quirks::default();
        for (at, quirk) in noted.iter().enumerate() {
            prop_assert_eq!(set.note(*quirk), !noted[..at].contains(quirk), "true the first time");
        }
        let names = |set: Quirks| set.iter().map(Quirk::as_str).collect::<HashSet<_>>();
        prop_assert_eq!(names(set), noted.iter().map(|quirk| quirk.as_str()).collect::<HashSet<_>>());
        prop_assert_eq!(set, Quirks::from_bits(set.bits()));
        prop_assert_eq!(set.is_empty(), noted.is_empty());
        let mut both = set;
        both.merge(others.iter().copied().collect());
        for quirk in Quirk::ALL {
            prop_assert_eq!(both.contains(*quirk), noted.contains(quirk) || others.contains(quirk));
        }
    }
}
