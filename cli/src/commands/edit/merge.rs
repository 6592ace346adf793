//! Brings together what two people made of the same document. Pure.

use serde_yaml_ng::{Mapping, Value};

/// What comes of it.
#[derive(Debug, PartialEq)]
pub(super) struct Merged {
    pub(super) document: Mapping,
    /// The fields that both changed, and not in the same way.
    pub(super) both: Vec<String>,
}

/// Merges two documents that were made from `base`. What both changed is as in `mine`.
pub(super) fn merge(base: &Mapping, mine: &Mapping, theirs: &Mapping) -> Merged {
    let mut both = Vec::new();
    let document = merge_below("", base, mine, theirs, &mut both);
    Merged { document, both }
}

fn merge_below(
    path: &str,
    base: &Mapping,
    mine: &Mapping,
    theirs: &Mapping,
    both: &mut Vec<String>,
) -> Mapping {
    let added = mine.keys().filter(|key| !theirs.contains_key(*key));
    let mut merged = Mapping::new();
    for key in theirs.keys().chain(added) {
        let path = format!("{path}{}", key.as_str().unwrap_or_default());
        let three = [base, mine, theirs].map(|document| document.get(key));
        merged.extend(merge_value(&path, three, both).map(|value| (key.clone(), value)));
    }
    merged
}

fn merge_value(path: &str, three: [Option<&Value>; 3], both: &mut Vec<String>) -> Option<Value> {
    match three {
        [base, mine, theirs] if base == mine => theirs.cloned(),
        [base, mine, theirs] if base == theirs || mine == theirs => mine.cloned(),
        [base, Some(Value::Mapping(mine)), Some(Value::Mapping(theirs))] => {
            let nothing = Mapping::new();
            let base = base.and_then(Value::as_mapping).unwrap_or(&nothing);
            Some(merge_below(&format!("{path}."), base, mine, theirs, both).into())
        }
        [_, mine, _] => {
            both.push(path.to_owned());
            mine.cloned()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn document(text: &str) -> Mapping {
        serde_yaml_ng::from_str(text).unwrap()
    }

    #[test]
    fn both_changes_are_kept_and_those_of_the_same_field_are_named() {
        let base = "{a: 1, b: 1, c: 1, gone: 1, meta: {labels: {x: 1, y: 1}}, list: [1]}";
        let mine = "{a: 2, b: 1, c: 2, meta: {labels: {x: 2, y: 1}}, list: [1, 2], mine: 1}";
        let theirs =
            "{a: 1, b: 3, c: 3, gone: 1, meta: {labels: {x: 1, y: 1, z: 1}}, list: [1, 3], theirs: 1}";
        let merged = merge(&document(base), &document(mine), &document(theirs));
        let expected =
            "{a: 2, b: 3, c: 2, meta: {labels: {x: 2, y: 1, z: 1}}, list: [1, 2], theirs: 1, mine: 1}";
        assert_eq!(merged, Merged { document: document(expected), both: vec!["c".into(), "list".into()] });
    }

    #[test]
    fn what_one_removed_and_the_other_changed_is_named() {
        let [base, gone, other] = ["{a: 1}", "{}", "{a: 2}"].map(document);
        let both = vec!["a".to_owned()];
        assert_eq!(merge(&base, &gone, &other), Merged { document: document("{}"), both: both.clone() });
        assert_eq!(merge(&base, &other, &gone), Merged { document: other, both });
    }

    fn documents() -> impl Strategy<Value = Mapping> {
        let leaf = prop_oneof![Just(Value::from(1)), Just(Value::from(2))];
        let key = || "[abc]".prop_map(Value::from);
        let value = leaf.prop_recursive(2, 8, 3, move |inner| {
            prop::collection::vec((key(), inner), 0..3)
                .prop_map(|members| Value::Mapping(members.into_iter().collect()))
        });
        prop::collection::vec((key(), value), 0..3).prop_map(|members| members.into_iter().collect())
    }

    proptest! {
        #[test]
        fn who_changed_nothing_takes_what_the_other_did(base in documents(), one in documents()) {
            for merged in [merge(&base, &base, &one), merge(&base, &one, &base), merge(&base, &one, &one)] {
                prop_assert_eq!(merged, Merged { document: one.clone(), both: Vec::new() });
            }
        }
    }
}
