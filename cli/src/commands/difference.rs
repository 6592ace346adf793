//! How two states of a resource differ: a unified diff of the files that they would be. No secret is in it; one that is
//! another is said to be.

use prost_reflect::DynamicMessage;
use serde_yaml_ng::{Mapping, Value as Document};

use crate::error::Result;
use crate::kinds::Kind;
use crate::manifest;
use crate::output::{self, Format};
use crate::reflection;

/// Renders the difference; empty if there is none.
pub fn difference(
    kind: &Kind,
    name: &str,
    before: Option<&DynamicMessage>,
    after: Option<&DynamicMessage>,
) -> Result<String> {
    let [mut old, mut new] = [before, after].map(|state| state.map(|state| manifest::desired(kind, state)));
    if let (Some(old), Some(new)) = (&mut old, &mut new)
        && version(before) != version(after)
    {
        mark_secret(old, "(as stored)");
        mark_secret(new, "(changed)");
    }
    let text = |document: Option<Mapping>| match document {
        Some(document) => output::documents(vec![document], true, &Format::Yaml),
        None => Ok(String::new()),
    };
    let (old, new) = (text(old)?, text(new)?);
    if old == new {
        return Ok(String::new());
    }
    let heads = [("current", &old), ("desired", &new)].map(|(head, text)| match text.is_empty() {
        true => "/dev/null".to_owned(),
        false => format!("{head}/{name}"),
    });
    let diff = similar::TextDiff::from_lines(&old, &new);
    Ok(diff.unified_diff().context_radius(3).header(&heads[0], &heads[1]).to_string())
}

/// What changes with the secret of a resource.
fn version(state: Option<&DynamicMessage>) -> String {
    let json = state.map(reflection::to_json).unwrap_or_default();
    json["credential"]["version"].as_str().unwrap_or_default().to_owned()
}

fn mark_secret(document: &mut Mapping, mark: &str) {
    if let Some(Document::Mapping(credential)) = document.get_mut("credential") {
        credential.insert("secret".into(), mark.into());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_secret_is_not_shown_and_its_change_is() {
        let kind = Kind::from_word("upstream");
        let upstream = |version: &str, revision: i64| {
            let json = json!({"name": "upstreams/a", "http": {"url": "u"}, "meta": {"revision": revision},
                "credential": {"bearer": {}, "version": version}});
            reflection::from_json(reflection::message(kind.message), json).unwrap()
        };
        let (old, same, new) = (upstream("1", 1), upstream("1", 2), upstream("2", 3));
        let shown = |after| difference(kind, "upstreams/a", Some(&old), Some(after)).unwrap();
        assert_eq!(shown(&same), "");
        assert_eq!(
            shown(&new),
            "--- current/upstreams/a\n+++ desired/upstreams/a\n@@ -4,4 +4,4 @@\n   url: u\n credential:\n   bearer: {}\n\
             -  secret: (as stored)\n+  secret: (changed)\n"
        );
    }
}
