//! Which resources a URI lies below: a server may say that one of several parts of a resource has changed.
//!
//! It must not know who may read what.

/// The URI itself, and everything that it lies below at a `/`, `?` or `#`, with the mark and without: the nearest first.
pub fn ancestors(uri: &str) -> impl Iterator<Item = &str> {
    let marks = uri.rmatch_indices(['/', '?', '#']);
    let above = marks.flat_map(|(at, _)| [&uri[..=at], &uri[..at]]);
    std::iter::once(uri).chain(above.filter(move |above| above.len() < uri.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_part_lies_below_what_it_is_a_part_of() {
        let below = |uri: &str, above: &str| ancestors(uri).any(|known| known == above);
        for (uri, above) in [
            ("file:///a/b", "file:///a/b"),
            ("file:///a/b", "file:///a"),
            ("file:///a/b", "file:///a/"),
            ("file:///a/b/c", "file:///a"),
            ("file:///a/", "file:///a"),
            ("db://t?row=1", "db://t"),
            ("db://t?row=1", "db://t?"),
            ("doc:x#part", "doc:x"),
        ] {
            assert!(below(uri, above), "{uri} {above}");
        }
        for (uri, above) in [
            ("file:///ab", "file:///a"),
            ("file:///a", "file:///a/"),
            ("file:///a", "file:///a/b"),
            ("doc:x.y", "doc:x"),
            ("a:b", ""),
        ] {
            assert!(!below(uri, above), "{uri} {above}");
        }
    }

    proptest! {
        #[test]
        fn every_ancestor_is_a_prefix_and_they_get_shorter(uri in "[a-z/?#:é]{0,12}") {
            let all: Vec<&str> = ancestors(&uri).collect();
            prop_assert!(all.iter().all(|above| uri.starts_with(above)));
            prop_assert!(all.is_sorted_by(|nearer, further| nearer.len() >= further.len()));
        }
    }
}
