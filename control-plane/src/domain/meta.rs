//! The writable part of `meta`: labels and annotations, and their limits.

use std::collections::BTreeMap;

use trunkline::common::v1::Meta;

use super::Violations;

const MAX_PAIRS: usize = 64;
const MAX_LABEL_CHARACTERS: usize = 128;
const MAX_ANNOTATION_BYTES: usize = 4 << 10;

/// Takes off what is output only.
pub fn writable(meta: Meta) -> Meta {
    Meta { labels: meta.labels, annotations: meta.annotations, ..Meta::default() }
}

/// Checks labels and annotations.
pub fn validate(meta: Option<&Meta>, violations: &mut Violations) {
    let Some(meta) = meta else { return };
    validate_labels("meta.labels", &meta.labels, violations);
    let annotations = &meta.annotations;
    violations.require(
        annotations.len() <= MAX_PAIRS,
        "meta.annotations",
        format!("has {} pairs; the maximum is {MAX_PAIRS}", annotations.len()),
    );
    for (key, value) in annotations {
        let field = format!("meta.annotations[{key:?}]");
        violations.require(!key.is_empty(), field.clone(), "has an empty key");
        violations.at_most_bytes(&field, &format!("{key}{value}"), MAX_ANNOTATION_BYTES);
    }
}

/// Checks labels, wherever they are.
pub fn validate_labels(field: &str, labels: &BTreeMap<String, String>, violations: &mut Violations) {
    violations.require(
        labels.len() <= MAX_PAIRS,
        field,
        format!("has {} pairs; the maximum is {MAX_PAIRS}", labels.len()),
    );
    for (key, value) in labels {
        let field = format!("{field}[{key:?}]");
        violations.require(
            is_key(key),
            field.clone(),
            "has a key that cannot be one: a key has lower-case letters, digits, `.`, `_`, `-` and `/`, begins and ends with a \
             letter or a digit, and has at most 63 characters",
        );
        violations.at_most(&field, value, MAX_LABEL_CHARACTERS);
    }
}

fn is_key(key: &str) -> bool {
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    match key.as_bytes() {
        [only] => plain(only),
        [first, middle @ .., last] => {
            plain(first)
                && plain(last)
                && middle.len() <= 61
                && middle.iter().all(|byte| plain(byte) || b"._/-".contains(byte))
        }
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_checked() {
        for good in ["a", "0", "team", "example.com/owner", "a-b_c".replace('_', ".").as_str()] {
            assert!(is_key(good), "{good}");
        }
        for bad in ["", "-", "a-", "A", "a b", &"a".repeat(64)] {
            assert!(!is_key(bad), "{bad}");
        }
    }
}
