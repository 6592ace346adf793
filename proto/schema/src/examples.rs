//! An example of every kind: a file that `apply` takes, with all of them in one folder.

/// The kinds, and their examples.
pub const EXAMPLES: [(&str, &str); 8] = [
    ("Upstream", include_str!("../examples/upstream.yaml")),
    ("Server", include_str!("../examples/server.yaml")),
    ("Tool", include_str!("../examples/tool.yaml")),
    ("Resource", include_str!("../examples/resource.yaml")),
    ("Prompt", include_str!("../examples/prompt.yaml")),
    ("Token", include_str!("../examples/token.yaml")),
    ("Team", include_str!("../examples/team.yaml")),
    ("Role", include_str!("../examples/role.yaml")),
];

/// Returns the example of a kind.
pub fn of(kind: &str) -> Option<&'static str> {
    EXAMPLES.iter().find(|(name, _)| *name == kind).map(|(_, text)| *text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::kinds;

    #[test]
    fn every_kind_has_one() {
        let names: Vec<_> = kinds().iter().map(|kind| kind.name().to_owned()).collect();
        assert_eq!(EXAMPLES.map(|(name, _)| name.to_owned()).to_vec(), names);
        for (name, text) in EXAMPLES {
            assert!(text.contains(&format!("kind: {name}\n")), "{name}");
        }
    }
}
