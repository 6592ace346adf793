//! The writable part of `meta`: labels and annotations, and their limits; whose the resource is, and who else may see it.

use std::collections::BTreeMap;

use trunkline::common::v1::{Meta, Visibility};

use super::{Violations, names, reflect};
use crate::rights::Ownership;

const MAX_PAIRS: usize = 64;
const MAX_LABEL_CHARACTERS: usize = 128;
const MAX_ANNOTATION_BYTES: usize = 4 << 10;
/// The fields that say whose a resource is. Who says nothing of them leaves them as they are.
pub const OWNERSHIP: [&str; 3] = ["owner", "team", "visibility"];

/// Takes off what is output only.
pub fn writable(meta: Meta) -> Meta {
    let Meta { labels, annotations, owner, team, visibility, .. } = meta;
    Meta { labels, annotations, owner, team, visibility, ..Meta::default() }
}

/// Whose a resource is. What does not say who else may see it is private, or the team's where it belongs to a team and to no
/// person.
pub fn ownership(meta: Option<&Meta>) -> Ownership {
    let Some(Meta { owner, team, visibility, .. }) = meta else { return Ownership::default() };
    let visibility = match Visibility::try_from(*visibility) {
        Ok(Visibility::Unspecified) if owner.is_empty() && !team.is_empty() => Visibility::Team,
        Ok(Visibility::Unspecified) | Err(_) => Visibility::Private,
        Ok(said) => said,
    };
    Ownership { owner: owner.clone(), team: team.clone(), visibility }
}

/// Checks whose a resource is said to be. Whether there is such an owner, and such a team, is another matter.
fn validate_ownership(meta: &Meta, violations: &mut Violations) {
    let Meta { owner, team, .. } = meta;
    let id = owner.strip_prefix("users/").or_else(|| owner.strip_prefix("serviceAccounts/"));
    // That there is such a principal, whose names are narrower, is checked besides.
    let is_id = |id: &str| !id.is_empty() && !id.contains(['/', ' ']);
    violations.require(
        owner.is_empty() || id.is_some_and(is_id),
        "meta.owner",
        "must be `users/{user}` or `serviceAccounts/{service_account}`",
    );
    let id = team.strip_prefix("teams/");
    violations.require(
        team.is_empty() || id.is_some_and(|id| names::check_id(id).is_ok()),
        "meta.team",
        "must be `teams/{team}`",
    );
    match Visibility::try_from(meta.visibility) {
        Ok(Visibility::Team) if team.is_empty() => {
            violations.add("meta.visibility", "is VISIBILITY_TEAM, but `team` names none");
        }
        Ok(_) => {}
        Err(_) => {
            let known = reflect::choices("trunkline.common.v1.Visibility");
            violations.add("meta.visibility", format!("must be {known}, not {}", meta.visibility));
        }
    }
}

/// Checks that what has no owner of its own says none.
pub fn validate_unowned(meta: Option<&Meta>, violations: &mut Violations) {
    let Some(Meta { owner, team, visibility, .. }) = meta else { return };
    let said = [!owner.is_empty(), !team.is_empty(), *visibility != 0];
    for (field, _) in OWNERSHIP.iter().zip(said).filter(|(_, is_said)| *is_said) {
        let text = "does not apply: entries have that of their upstream, teams are their members', roles everybody's";
        violations.add(format!("meta.{field}"), text);
    }
}

/// Checks labels and annotations.
pub fn validate(meta: Option<&Meta>, violations: &mut Violations) {
    let Some(meta) = meta else { return };
    validate_ownership(meta, violations);
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

    fn meta(owner: &str, team: &str, visibility: Visibility) -> Meta {
        let (owner, team) = (owner.to_owned(), team.to_owned());
        Meta { owner, team, visibility: visibility.into(), ..Meta::default() }
    }

    #[test]
    fn what_says_nothing_is_private_or_the_teams() {
        let unsaid = Visibility::Unspecified;
        assert_eq!(ownership(None).visibility, Visibility::Private);
        for (meta, expected) in [
            (Meta::default(), Visibility::Private),
            (meta("users/a", "", unsaid), Visibility::Private),
            (meta("users/a", "teams/t", unsaid), Visibility::Private),
            (meta("", "teams/t", unsaid), Visibility::Team),
            (meta("", "teams/t", Visibility::Private), Visibility::Private),
            (meta("users/a", "teams/t", Visibility::Public), Visibility::Public),
            (Meta { visibility: 9, ..Meta::default() }, Visibility::Private),
        ] {
            assert_eq!(ownership(Some(&meta)).visibility, expected, "{meta:?}");
        }
    }

    #[test]
    fn owners_teams_and_visibilities_are_checked() {
        let wrong = |meta: &Meta| -> Vec<String> {
            let mut violations = Violations::default();
            validate(Some(meta), &mut violations);
            violations.into_vec().into_iter().map(|found| found.field).collect()
        };
        for good in ["", "users/ann@example.org", "serviceAccounts/ci"] {
            assert_eq!(wrong(&meta(good, "", Visibility::Public)), [""; 0], "{good}");
        }
        for bad in ["ann", "users/", "users/a/b", "users/a b", "tokens/ci", "system/administrator"] {
            assert_eq!(wrong(&meta(bad, "", Visibility::Private)), ["meta.owner"], "{bad}");
        }
        for bad in ["core", "teams/", "teams/A", "teams/a/b"] {
            assert_eq!(wrong(&meta("", bad, Visibility::Team)), ["meta.team"], "{bad}");
        }
        assert_eq!(wrong(&meta("users/a", "", Visibility::Team)), ["meta.visibility"]);
        assert_eq!(wrong(&Meta { visibility: 9, ..Meta::default() }), ["meta.visibility"]);
    }

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
