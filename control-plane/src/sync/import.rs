//! Definitions that an upstream sent, as resources of the registry. Pure.
//!
//! One entry that cannot be taken costs only itself. It must not know what is stored already.

use std::collections::BTreeMap;

use mcp::json::{self, JsonError};
use mcp::uri::UriTemplate;
use prost_types::Timestamp;
use trunkline::registry::v1::{Prompt, Resource, Tool};

use crate::domain::{KindRules, definition, names};
use crate::importers::{Lists, PROMPTS, RESOURCES, TEMPLATES, TOOLS};

/// The maximum number of warnings that are kept.
pub(super) const MAX_WARNINGS: usize = 100;
/// The maximum length of a tool's or prompt's name, in characters.
const MAX_NAME: usize = 128;
/// The members that an entry is named by.
const IDENTITIES: [&str; 3] = ["name", "uri", "uriTemplate"];

/// Bytes of the resource names of all entries of an upstream. A virtual server that exposes all of them can be sent to edges,
/// and edges can say that they hold them.
pub(super) const MAX_NAMES_BYTES: usize = 8 << 20;

/// The entries that can be imported, by resource name.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Import {
    pub(super) tools: BTreeMap<String, Tool>,
    pub(super) resources: BTreeMap<String, Resource>,
    pub(super) prompts: BTreeMap<String, Prompt>,
    pub(super) warnings: Vec<String>,
    /// Bytes of names that are left.
    pub(super) names_left: usize,
}

/// An entry of a catalogue: a definition, and whether it is stale.
pub(super) trait CatalogueEntry: KindRules {
    /// The definition.
    fn definition(&mut self) -> &mut String;
    /// The time since when the upstream has not listed it.
    fn stale(&mut self) -> &mut Option<Timestamp>;
    /// Its position in the upstream's list.
    fn position(&mut self) -> &mut i32;
    /// Tells whether people disabled it.
    fn is_disabled(&self) -> bool;
    /// The name of the list that it is in.
    fn list(&self) -> &'static str;
}

macro_rules! catalogue_entry {
    ($($kind:ty: $list:expr),*) => {$(
        impl CatalogueEntry for $kind {
            fn definition(&mut self) -> &mut String {
                &mut self.definition_json
            }
            fn stale(&mut self) -> &mut Option<Timestamp> {
                &mut self.stale_time
            }
            fn position(&mut self) -> &mut i32 {
                &mut self.position
            }
            fn is_disabled(&self) -> bool {
                self.disabled
            }
            fn list(&self) -> &'static str {
                let list: fn(&Self) -> &'static str = $list;
                list(self)
            }
        }
    )*};
}
catalogue_entry!(
    Tool: |_| TOOLS,
    Resource: |resource| if resource.uri_template.is_empty() { RESOURCES } else { TEMPLATES },
    Prompt: |_| PROMPTS
);

/// The beginnings of the warnings about a list.
pub(super) fn warned_of(list: &str) -> &'static str {
    match list {
        TOOLS => "tools[",
        RESOURCES => "resources[",
        TEMPLATES => "resourceTemplates[",
        _ => "prompts[",
    }
}

/// Takes what can be taken. `names_left` are the bytes of names for which there is room.
pub(super) fn import(upstream_id: &str, lists: &Lists, names_left: usize) -> Import {
    let mut import = Import { names_left, ..Import::default() };
    let (warnings, room) = (&mut import.warnings, &mut import.names_left);
    take(upstream_id, "tools", "name", &lists.tools.entries, &mut import.tools, room, warnings);
    take(upstream_id, "resources", "uri", &lists.resources.entries, &mut import.resources, room, warnings);
    take(
        upstream_id,
        "resourceTemplates",
        "uriTemplate",
        &lists.templates.entries,
        &mut import.resources,
        room,
        warnings,
    );
    take(upstream_id, "prompts", "name", &lists.prompts.entries, &mut import.prompts, room, warnings);
    warn_of_templates(&lists.templates.entries, warnings);
    import
}

/// Warns of templates that are imported though nothing can be read by them: edges refuse URIs that are not canonical.
fn warn_of_templates(templates: &[String], warnings: &mut Vec<String>) {
    for (position, raw) in templates.iter().enumerate() {
        let found = definition::read(raw).unwrap_or_default();
        if let Err(problem) = UriTemplate::new(&found.uri_template).check()
            && warnings.len() < MAX_WARNINGS
        {
            warnings.push(format!(
                "resourceTemplates[{position}]: each URI of it {problem}, so none can be read"
            ));
        }
    }
}

fn take<N: CatalogueEntry>(
    upstream_id: &str,
    list: &str,
    member: &'static str,
    sent: &[String],
    taken: &mut BTreeMap<String, N>,
    room: &mut usize,
    warnings: &mut Vec<String>,
) {
    for (position, raw) in sent.iter().enumerate() {
        let entry =
            read::<N>(upstream_id, member, raw).and_then(|entry| match taken.contains_key(entry.name()) {
                true => Err(format!("repeats {}", names::id(entry.name()))),
                false if entry.name().len() > *room => {
                    Err(format!("is left out: the names before it take {MAX_NAMES_BYTES} bytes, the maximum"))
                }
                false => Ok(entry),
            });
        match entry {
            Ok(mut entry) => {
                *entry.position() = i32::try_from(position).unwrap_or(i32::MAX);
                *room -= entry.name().len();
                taken.insert(entry.name().to_owned(), entry);
            }
            Err(reason) if warnings.len() < MAX_WARNINGS => {
                warnings.push(format!("{list}[{position}]: {reason}"))
            }
            Err(_) => {}
        }
    }
}

fn read<N: CatalogueEntry>(upstream_id: &str, member: &'static str, raw: &str) -> Result<N, String> {
    let found = definition::read(raw).map_err(|error| error.to_string())?;
    if let Some((key, name)) = variant(raw).map_err(|error| error.to_string())? {
        return Err(format!("has a member {key:?}, which differs from {name:?} in case only"));
    }
    let own = match member {
        "uri" => found.uri,
        "uriTemplate" => found.uri_template,
        _ => found.name,
    };
    if own.is_empty() {
        return Err(format!("has no `{member}`"));
    }
    let length = own.chars().count();
    if member == "name" && length > MAX_NAME {
        return Err(format!("has a name of {length} characters; the maximum is {MAX_NAME}"));
    }
    let name = names::entry(N::KIND, upstream_id, &own);
    names::parse(N::KIND, &name).map_err(|error| error.to_string())?;
    let mut entry = N::default();
    entry.set_name(name);
    raw.clone_into(entry.definition());
    entry.set_defaults();
    Ok(entry)
}

/// Finds a member that clients who ignore case would take for the name or the URI: what they use would not be what
/// was permitted.
fn variant(definition: &str) -> Result<Option<(String, &'static str)>, JsonError> {
    let mut found = None;
    json::each_member(definition, |key, _| {
        let key = json::string(key).unwrap_or_default();
        found = found.take().or_else(|| Some((key.to_string(), json::variant_of(&key, &IDENTITIES)?)));
        Ok(())
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::importers::FetchedList;

    fn list(entries: Vec<String>) -> FetchedList {
        FetchedList { asked: true, entries, trouble: None }
    }

    #[test]
    fn an_invalid_entry_is_named_and_the_rest_is_imported() {
        let long = format!(r#"{{"name":"{}"}}"#, "n".repeat(129));
        let lists = Lists {
            tools: list(
                ["{}", r#"{"name":"a","x":1.10}"#, "7", r#"{"name":"a"}"#, &long, r#"{"name":""}"#]
                    .map(str::to_owned)
                    .to_vec(),
            ),
            templates: list(vec![r#"{"uriTemplate":"file:///{p}","name":"t"}"#.to_owned()]),
            ..Lists::default()
        };
        let import = import("up", &lists, MAX_NAMES_BYTES);
        assert_eq!(import.tools.keys().collect::<Vec<_>>(), ["upstreams/up/tools/a"]);
        assert_eq!(import.tools["upstreams/up/tools/a"].definition_json, r#"{"name":"a","x":1.10}"#);
        let template = import.resources.values().next().unwrap();
        assert_eq!(template.uri_template, "file:///{p}");
        let positions: Vec<_> = import.warnings.iter().map(|text| text.split(':').next().unwrap()).collect();
        assert_eq!(positions, ["tools[0]", "tools[2]", "tools[3]", "tools[4]", "tools[5]"]);
        assert_eq!(import.warnings[2], "tools[3]: repeats a");
    }

    #[test]
    fn half_of_a_character_costs_a_text_and_no_entry() {
        let halves = |texts: [&str; 2]| list(texts.map(str::to_owned).to_vec());
        let lists = Lists {
            tools: halves([r#"{"name":"cut","description":"x\ud83d"}"#, r#"{"name":"x\ud83d"}"#]),
            resources: halves([r#"{"uri":"a:b","name":"n\ud83d"}"#, r#"{"uri":"a:\ud83d","name":"n"}"#]),
            ..Lists::default()
        };
        let import = import("up", &lists, MAX_NAMES_BYTES);
        let tool = &import.tools["upstreams/up/tools/cut"];
        assert_eq!(
            (tool.description.as_str(), tool.definition_json.as_str()),
            ("x\u{fffd}", &*lists.tools.entries[0])
        );
        assert_eq!(
            import.resources.values().map(|found| found.title.as_str()).collect::<Vec<_>>(),
            ["n\u{fffd}"]
        );
        let problem = "is not a valid JSON object: a string contains half of a surrogate pair";
        assert_eq!(import.warnings, ["tools[1]", "resources[1]"].map(|place| format!("{place}: {problem}")));
    }

    #[test]
    fn a_template_without_canonical_uris_is_imported_with_a_warning() {
        let templates = ["memo://{id}/a b", "memo://{id}", r"file:///C:\a b\{name}", "x:{v}/../y"];
        let templates =
            templates.map(|text| serde_json::json!({"uriTemplate": text, "name": "t"}).to_string());
        let import =
            import("up", &Lists { templates: list(templates.to_vec()), ..Lists::default() }, MAX_NAMES_BYTES);
        assert_eq!(import.resources.len(), 4);
        assert_eq!(
            import.warnings,
            [
                "resourceTemplates[0]: each URI of it has ' ', which must be percent-encoded, so none can be read",
                "resourceTemplates[3]: each URI of it has a dot segment, so none can be read"
            ]
        );
    }

    #[test]
    fn the_names_of_an_upstream_are_bounded_together() {
        let resource =
            |at: usize| serde_json::json!({"uri": format!("x:{at:0>1900}"), "name": "n"}).to_string();
        let lists = Lists { resources: list((0..6_000).map(resource).collect()), ..Lists::default() };
        let import = import("up", &lists, MAX_NAMES_BYTES);
        let bytes: usize = import.resources.keys().map(String::len).sum();
        assert!((MAX_NAMES_BYTES - 2_048..=MAX_NAMES_BYTES).contains(&bytes), "{bytes}");
        let taken = import.resources.len();
        assert_eq!(
            import.warnings[0],
            format!("resources[{taken}]: is left out: the names before it take 8388608 bytes, the maximum")
        );
    }

    #[test]
    fn warnings_are_bounded() {
        let lists = Lists { tools: list(vec!["{}".to_owned(); 500]), ..Lists::default() };
        assert_eq!(import("up", &lists, MAX_NAMES_BYTES).warnings.len(), MAX_WARNINGS);
    }

    #[test]
    fn an_entry_whose_name_is_read_in_two_ways_is_refused() {
        let lists = Lists {
            tools: list(
                [
                    r#"{"name":"thief_x","Name":"victim_search"}"#,
                    r#"{"name":"thief_y","na\u004de":"victim_search"}"#,
                    r#"{"name":"fine","Title":"x","names":1,"\ud800":2}"#,
                ]
                .map(str::to_owned)
                .to_vec(),
            ),
            resources: list(vec![r#"{"uri":"a:b","name":"r","URI":"c:d"}"#.to_owned()]),
            templates: list(vec![r#"{"uriTemplate":"a:{b}","name":"r","uritemplate":"c:{d}"}"#.to_owned()]),
            prompts: list(vec![r#"{"NAME":"p"}"#.to_owned()]),
            ..Lists::default()
        };
        let import = import("up", &lists, MAX_NAMES_BYTES);
        assert_eq!(import.tools.keys().collect::<Vec<_>>(), ["upstreams/up/tools/fine"]);
        assert!(import.resources.is_empty() && import.prompts.is_empty());
        let refused = |at: &str, key: &str, name: &str| {
            format!("{at}[0]: has a member \"{key}\", which differs from \"{name}\" in case only")
        };
        assert_eq!(
            import.warnings[..1].iter().chain(&import.warnings[2..]).collect::<Vec<_>>(),
            [
                &refused("tools", "Name", "name"),
                &refused("resources", "URI", "uri"),
                &refused("resourceTemplates", "uritemplate", "uriTemplate"),
                &refused("prompts", "NAME", "name"),
            ]
        );
        assert_eq!(
            import.warnings[1],
            "tools[1]: has a member \"naMe\", which differs from \"name\" in case only"
        );
    }
}
