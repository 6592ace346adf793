//! Field masks (AIP-134): which fields of a message an update changes.
//!
//! A path names fields by their names in the contract, joined by dots; below a map it names a key. No mask
//! means the fields that are set, `*` means all that can be written. What is output only cannot be named.
//! Without a mask, a message without content (`mcp: {}`) chooses the member of a oneof, and changes nothing in it.
//! Whose a resource is does not change by silence: only a mask that names `meta.owner`, `meta.team` or `meta.visibility` empties it.

use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage as _, Value,
};
use prost_types::FieldMask;

use super::nearest::near_field;
use super::{KindRules, Violations, meta, reflect};

const WRITABLE_META: [&str; 2] = ["labels", "annotations"];

enum Step {
    Field(FieldDescriptor),
    Key(String),
    /// A message is set where it is not, and stays as it is where it is set.
    Presence(FieldDescriptor),
}

/// `current` with the fields of `patch` that the mask names. Identity and status stay as they are.
pub fn update<K: KindRules>(current: &K, patch: &K, mask: Option<&FieldMask>) -> Result<K, Violations> {
    let from = reflect::dynamic(patch);
    let all = FieldMask { paths: vec!["*".to_owned()] };
    let paths = match mask {
        None => set_paths(&from, K::OUTPUT_ONLY),
        Some(mask) if *mask == all => writable(&from, K::OUTPUT_ONLY),
        Some(mask) => named::<K>(mask, &from)?,
    };
    let mut into = reflect::dynamic(current);
    for path in &paths {
        copy(&mut into, &from, path);
    }
    Ok(reflect::typed(&into))
}

/// Every writable field of the message, `meta` taken apart.
fn writable(from: &DynamicMessage, output_only: &[&str]) -> Vec<Vec<Step>> {
    let mut paths = Vec::new();
    for field in from.descriptor().fields().filter(|field| is_writable(field, output_only)) {
        if field.name() == "meta" {
            paths.extend(meta_paths(&field, from));
        } else {
            paths.push(vec![Step::Field(field)]);
        }
    }
    paths
}

fn is_writable(field: &FieldDescriptor, output_only: &[&str]) -> bool {
    field.name() != "name" && !output_only.contains(&field.name())
}

/// The fields of `meta`, and of those that say whose it is the ones that are set.
fn meta_paths(field: &FieldDescriptor, from: &DynamicMessage) -> Vec<Vec<Step>> {
    let Kind::Message(message) = field.kind() else { return Vec::new() };
    let written = from.get_field(field);
    let is_said = |field: &FieldDescriptor| written.as_message().is_some_and(|meta| meta.has_field(field));
    let plain = WRITABLE_META.iter().filter_map(|name| message.get_field_by_name(name));
    let ownership = meta::OWNERSHIP.iter().filter_map(|name| message.get_field_by_name(name)).filter(is_said);
    plain.chain(ownership).map(|inner| vec![Step::Field(field.clone()), Step::Field(inner)]).collect()
}

fn named<K: KindRules>(mask: &FieldMask, from: &DynamicMessage) -> Result<Vec<Vec<Step>>, Violations> {
    let mut violations = Violations::default();
    let mut paths = Vec::new();
    for (index, path) in mask.paths.iter().enumerate() {
        match resolve(from, path, K::OUTPUT_ONLY) {
            Ok(found) => paths.extend(found),
            Err(error) => violations.add(format!("update_mask.paths[{index}]"), error),
        }
    }
    if violations.is_empty() { Ok(paths) } else { Err(violations) }
}

fn resolve(from: &DynamicMessage, path: &str, output_only: &[&str]) -> Result<Vec<Vec<Step>>, String> {
    if path == "*" {
        return Err("`*` must be the only path".to_owned());
    }
    let mut message = Some(from.descriptor());
    let mut steps = Vec::new();
    let mut rest = Some(path);
    while let Some(text) = rest {
        let Some(descriptor) = message.take() else {
            return Err(format!("`{path}` names a field of a plain value"));
        };
        let (name, after) = text.split_once('.').map_or((text, None), |(name, after)| (name, Some(after)));
        let field = descriptor
            .get_field_by_name(name)
            .ok_or_else(|| format!("names the unknown field `{path}`{}", near_field(&descriptor, name)))?;
        check_writable(&descriptor, &field, steps.is_empty(), output_only)
            .map_err(|()| format!("`{path}` is output only"))?;
        rest = after;
        steps.push(Step::Field(field.clone()));
        if let (true, Some(key)) = (field.is_map(), after) {
            // The rest is a key, dots and all.
            steps.push(Step::Key(key.to_owned()));
            rest = None;
        } else if let (Kind::Message(inner), false) = (field.kind(), field.is_list()) {
            message = Some(inner);
        }
    }
    match steps.as_slice() {
        [Step::Field(only)] if only.name() == "meta" => Ok(meta_paths(only, from)),
        _ => Ok(vec![steps]),
    }
}

fn check_writable(
    of: &MessageDescriptor,
    field: &FieldDescriptor,
    first: bool,
    output_only: &[&str],
) -> Result<(), ()> {
    let writable = match of.full_name() {
        "trunkline.common.v1.Meta" => {
            WRITABLE_META.contains(&field.name()) || meta::OWNERSHIP.contains(&field.name())
        }
        "trunkline.registry.v1.Credential" => field.name() != "version",
        _ => !first || is_writable(field, output_only),
    };
    if writable { Ok(()) } else { Err(()) }
}

/// The fields that are set, going down into messages of the contract; lists and maps count as one.
fn set_paths(message: &DynamicMessage, output_only: &[&str]) -> Vec<Vec<Step>> {
    let mut paths = Vec::new();
    for (field, value) in message.fields() {
        if check_writable(&message.descriptor(), &field, true, output_only).is_err() {
            continue;
        }
        match value {
            Value::Message(inner) if inner.descriptor().package_name().starts_with("trunkline") => {
                paths.extend(set_paths_below(&field, inner));
            }
            _ => paths.push(vec![Step::Field(field)]),
        }
    }
    paths
}

fn set_paths_below(field: &FieldDescriptor, message: &DynamicMessage) -> Vec<Vec<Step>> {
    let mut paths = set_paths(message, &[]);
    for path in &mut paths {
        path.insert(0, Step::Field(field.clone()));
    }
    if paths.is_empty() && field.name() != "meta" {
        paths.push(vec![Step::Presence(field.clone())]);
    }
    paths
}

fn copy(into: &mut DynamicMessage, from: &DynamicMessage, path: &[Step]) {
    match path {
        [Step::Field(field)] => {
            if from.has_field(field) {
                into.set_field(field, from.get_field(field).into_owned());
            } else if into.has_field(field) {
                into.clear_field(field);
            }
        }
        [Step::Presence(field)] if !into.has_field(field) => {
            into.set_field(field, from.get_field(field).into_owned());
        }
        [Step::Field(field), Step::Key(key), ..] => copy_key(into, from, field, key),
        [Step::Field(field), rest @ ..] => {
            // Looking at a field of neither must not set it: it might be one of several that exclude each other.
            if !from.has_field(field) && !into.has_field(field) {
                return;
            }
            let below = from.get_field(field);
            if let (Some(below), Some(slot)) =
                (below.as_message(), into.get_field_mut(field).as_message_mut())
            {
                copy(slot, below, rest);
            }
        }
        _ => {}
    }
}

fn copy_key(into: &mut DynamicMessage, from: &DynamicMessage, field: &FieldDescriptor, key: &str) {
    let key = MapKey::String(key.to_owned());
    let value = from.get_field(field).as_map().and_then(|map| map.get(&key).cloned());
    if let Some(map) = into.get_field_mut(field).as_map_mut() {
        match value {
            Some(value) => drop(map.insert(key, value)),
            None => drop(map.remove(&key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use trunkline::common::v1::Meta;
    use trunkline::registry::v1::credential::Kind as Form;
    use trunkline::registry::v1::upstream::{Kind as UpstreamKind, Reach};
    use trunkline::registry::v1::{
        BasicCredential, BearerCredential, Credential, EraPolicy, HttpReach, McpUpstream, TunnelReach,
        Upstream, UpstreamStatus,
    };

    fn mask(paths: &[&str]) -> FieldMask {
        FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() }
    }

    fn upstreams() -> impl Strategy<Value = Upstream> {
        let credential = prop_oneof![
            Just(None),
            "[a-z]{0,3}".prop_map(|token| Some(Form::Bearer(BearerCredential { token, token_from: None }))),
            "[a-z]{0,3}".prop_map(|username| Some(Form::Basic(BasicCredential {
                username,
                ..BasicCredential::default()
            }))),
        ];
        let labels = prop::collection::btree_map("[ab]", "[xy]", 0..3);
        ("[a-z]{0,3}", "[a-z]{0,3}", any::<bool>(), credential, labels, prop::option::of("[a-z]{1,3}"))
            .prop_map(|(title, description, disabled, form, labels, url)| Upstream {
                title,
                description,
                disabled,
                credential: form.map(|kind| Credential { kind: Some(kind), version: String::new() }),
                meta: (!labels.is_empty()).then(|| Meta { labels, ..Meta::default() }),
                reach: url.map(|url| Reach::Http(HttpReach { url })),
                ..Upstream::default()
            })
    }

    const PATHS: [&str; 7] =
        ["title", "description", "disabled", "credential", "meta.labels.a", "meta.labels.b", "http.url"];

    /// `meta` without content and no `meta` are the same.
    fn plain(mut upstream: Upstream) -> Upstream {
        upstream.meta = upstream.meta.filter(|meta| *meta != Meta::default());
        if upstream.reach == Some(Reach::Http(HttpReach::default())) {
            upstream.reach = None;
        }
        upstream
    }

    proptest! {
        #[test]
        fn star_replaces(current in upstreams(), patch in upstreams()) {
            prop_assert_eq!(plain(update(&current, &patch, Some(&mask(&["*"]))).unwrap()), patch);
        }

        #[test]
        fn empty_mask_changes_nothing(current in upstreams(), patch in upstreams()) {
            prop_assert_eq!(update(&current, &patch, Some(&mask(&[]))).unwrap(), current);
        }

        #[test]
        fn paths_are_independent_and_idempotent(current in upstreams(), patch in upstreams(), a in 0..PATHS.len(), b in 0..PATHS.len()) {
            let (a, b) = (PATHS[a], PATHS[b]);
            let both = update(&current, &patch, Some(&mask(&[a, b]))).unwrap();
            let other_way = update(&current, &patch, Some(&mask(&[b, a]))).unwrap();
            let one = update(&current, &patch, Some(&mask(&[a]))).unwrap();
            let then = update(&one, &patch, Some(&mask(&[b]))).unwrap();
            prop_assert_eq!(plain(both.clone()), plain(other_way));
            prop_assert_eq!(plain(both.clone()), plain(then));
            prop_assert_eq!(plain(update(&both, &patch, Some(&mask(&[a, b]))).unwrap()), plain(both));
        }

        #[test]
        fn no_mask_changes_what_is_set(current in upstreams()) {
            prop_assert_eq!(update(&current, &Upstream::default(), None).unwrap(), current.clone());
            prop_assert_eq!(update(&Upstream::default(), &current, None).unwrap(), current);
        }
    }

    #[test]
    fn identity_and_status_stay() {
        let current = Upstream {
            name: "upstreams/a".to_owned(),
            meta: Some(Meta { uid: "u".to_owned(), ..Meta::default() }),
            status: Some(UpstreamStatus { reason: "down".to_owned(), ..UpstreamStatus::default() }),
            ..Upstream::default()
        };
        let patch = Upstream { name: "upstreams/b".to_owned(), title: "t".to_owned(), ..Upstream::default() };
        let updated = update(&current, &patch, Some(&mask(&["*"]))).unwrap();
        assert_eq!(updated, Upstream { title: "t".to_owned(), ..current });
    }

    #[test]
    fn whose_it_is_does_not_change_by_silence() {
        let owned = Upstream {
            meta: Some(Meta { owner: "users/ann".to_owned(), team: "teams/a".to_owned(), ..Meta::default() }),
            ..Upstream::default()
        };
        let silent = Upstream { meta: Some(Meta::default()), ..Upstream::default() };
        for broad in [None, Some(mask(&["*"])), Some(mask(&["meta"]))] {
            assert_eq!(update(&owned, &silent, broad.as_ref()).unwrap(), owned, "{broad:?}");
        }
        let to_team = update(&owned, &silent, Some(&mask(&["meta.owner"]))).unwrap();
        let meta = Meta { team: "teams/a".to_owned(), ..Meta::default() };
        assert_eq!(to_team.meta, Some(meta));
        let moved = Upstream {
            meta: Some(Meta { team: "teams/b".to_owned(), ..Meta::default() }),
            ..Upstream::default()
        };
        let moved = update(&owned, &moved, Some(&mask(&["*"]))).unwrap().meta.unwrap_or_default();
        assert_eq!((moved.owner.as_str(), moved.team.as_str()), ("users/ann", "teams/b"));
    }

    #[test]
    fn a_message_without_content_chooses_a_oneof_and_changes_nothing_in_it() {
        let mcp = |policy: EraPolicy| Some(UpstreamKind::Mcp(McpUpstream { era_policy: policy.into() }));
        let http = |url: &str| Some(Reach::Http(HttpReach { url: url.to_owned() }));
        let bearer = Form::Bearer(BearerCredential { token: "t".to_owned(), token_from: None });
        let current = Upstream {
            reach: http("http://a.example"),
            kind: mcp(EraPolicy::Legacy),
            credential: Some(Credential { kind: Some(bearer), version: String::new() }),
            ..Upstream::default()
        };
        let empty = Upstream {
            reach: http(""),
            kind: mcp(EraPolicy::Unspecified),
            credential: Some(Credential::default()),
            ..Upstream::default()
        };
        assert_eq!(update(&current, &empty, None).unwrap(), current);
        let tunnel = || Some(Reach::Tunnel(TunnelReach {}));
        let dials_in = update(&current, &Upstream { reach: tunnel(), ..Upstream::default() }, None).unwrap();
        assert_eq!(dials_in, Upstream { reach: tunnel(), ..current.clone() });
        let named = update(&current, &empty, Some(&mask(&["mcp"]))).unwrap();
        assert_eq!(named, Upstream { kind: empty.kind, ..current });
    }

    #[test]
    fn wrong_paths_are_all_named() {
        let paths =
            ["titel", "name", "status", "status.state", "meta.uid", "credential.version", "title.x", "*"];
        let error = update(&Upstream::default(), &Upstream::default(), Some(&mask(&paths))).unwrap_err();
        assert_eq!(error.into_vec().len(), paths.len());
    }
}
