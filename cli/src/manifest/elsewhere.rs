//! Secrets that the control plane reads elsewhere: what files have in the place of an option's `vault:secret/data/github#token`. It must
//! not know what is kept there.

/// The stores, and how a file refers to each.
const MAPPINGS: [(&str, &str); 4] = [
    ("env", "{env: {name: NAME}}"),
    ("file", "{file: {path: PATH}}"),
    ("vault", "{vault: {mount: MOUNT, path: PATH, key: KEY}}"),
    ("kubernetes", "{kubernetes: {name: NAME, key: KEY}}"),
];

/// The mapping that stands for a text which is written as options take references. It has no part of the text, which may be a secret.
pub(super) fn mapping_for(text: &str) -> Option<&'static str> {
    let (store, place) = text.split_once(':')?;
    if place.trim().is_empty() { None } else { mapping_of(store) }
}

/// The mapping of a store.
pub(super) fn mapping_of(store: &str) -> Option<&'static str> {
    MAPPINGS.iter().find(|(name, _)| *name == store).map(|(_, mapping)| *mapping)
}

/// The field beside that of a secret, with a mapping in it: `tokenFrom: {…}`. The last part of a path is `*` in a map of secrets.
pub(super) fn written(path: &[String], mapping: &str) -> String {
    match path {
        [.., map, any] if any == "*" => format!("{map}From: [{{name: NAME, valueFrom: {mapping}}}]"),
        [.., field] => format!("{field}From: {mapping}"),
        [] => mapping.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_options_take_is_a_reference() {
        for (text, expected) in [
            (
                "vault:secret/data/trunkline/github#token",
                Some("{vault: {mount: MOUNT, path: PATH, key: KEY}}"),
            ),
            ("env:TRUNKLINE_SECRET_A", Some("{env: {name: NAME}}")),
            ("file:github/token", Some("{file: {path: PATH}}")),
            ("kubernetes:trunkline-secret-a/b", Some("{kubernetes: {name: NAME, key: KEY}}")),
            ("env:", None),
            ("env: ", None),
            ("environment:a", None),
            ("hvs.CAESI", None),
            ("user:vault", None),
        ] {
            assert_eq!(mapping_for(text), expected, "{text}");
        }
    }
}
