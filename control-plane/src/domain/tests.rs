//! What the contract declares of fields, held to what is checked here: limits, defaults, patterns, and who writes them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::string::string_regex;
use proptest::test_runner::TestRunner;
use prost::Message as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, MapKey, MessageDescriptor, Value};
use prost_types::FieldMask;
use schema::contract::{below, pool};
use schema::fields::{self, Entry, Shape, shape};
use schema::{rules, words};
use serde_json::{Value as Json, json};
use trunkline::identity::v1::{Role, Team, Token};
use trunkline::registry::v1::{Credential, Prompt, Resource, Server, Tool, Upstream};

use super::*;

/// Calls a function for each kind, and collects what it returns.
macro_rules! of_every_kind {
    ($function:ident) => {{
        let mut all = Vec::new();
        all.extend($function::<Upstream>());
        all.extend($function::<Server>());
        all.extend($function::<Tool>());
        all.extend($function::<Resource>());
        all.extend($function::<Prompt>());
        all.extend($function::<Token>());
        all.extend($function::<Team>());
        all.extend($function::<Role>());
        all
    }};
}

/// The fields that lead to a field.
type Path = Vec<FieldDescriptor>;

/// The paths to all fields that people write.
fn writable_paths(message: &MessageDescriptor) -> Vec<Path> {
    let mut paths = Vec::new();
    for field in fields::of(message).into_iter().filter(|field| !rules::of(field).output_only) {
        paths.push(vec![field.clone()]);
        let inner = below(&field).map(|inner| writable_paths(&inner)).unwrap_or_default();
        paths.extend(inner.into_iter().map(|path| [vec![field.clone()], path].concat()));
    }
    paths
}

/// A message in which nothing but one field is set.
fn with(path: &[FieldDescriptor], value: Value) -> DynamicMessage {
    let (field, rest) = path.split_first().unwrap();
    let value = match rest {
        [] => value,
        rest if field.is_list() => Value::List(vec![Value::Message(with(rest, value))]),
        rest => Value::Message(with(rest, value)),
    };
    let mut message = DynamicMessage::new(field.parent_message().clone());
    message.set_field(field, value);
    message
}

/// One text, in whatever a field holds texts.
fn texts(field: &FieldDescriptor, text: &str) -> Value {
    let text = Value::String(text.to_owned());
    match (field.is_list(), field.is_map()) {
        (true, _) => Value::List(vec![text]),
        (_, true) => Value::Map(HashMap::from([(MapKey::String("k".into()), text)])),
        _ => text,
    }
}

/// So many items, or pairs.
fn items(field: &FieldDescriptor, count: usize) -> Value {
    let one = || match shape(field) {
        Shape::Message(message) => Value::Message(DynamicMessage::new(message)),
        _ => Value::String("x".into()),
    };
    match field.is_map() {
        true => Value::Map((0..count).map(|n| (MapKey::String(format!("k{n}")), one())).collect()),
        false => Value::List((0..count).map(|_| one()).collect()),
    }
}

fn violations<K: KindRules>(message: &DynamicMessage) -> Vec<Violation> {
    let mut violations = Violations::default();
    reflect::typed::<K>(message).validate(&mut violations);
    violations.into_vec()
}

fn is_refused<K: KindRules>(message: &DynamicMessage, limit: usize) -> bool {
    let (most, between) = (format!("the maximum is {limit}"), format!(" to {limit} are allowed"));
    violations::<K>(message)
        .iter()
        .any(|found| found.description.contains(&most) || found.description.contains(&between))
}

/// For each field with a limit of its length or number: whether it is kept.
fn limits<K: KindRules>() -> Vec<(String, bool)> {
    let mut found = Vec::new();
    for path in writable_paths(&reflect::descriptor::<K>()) {
        let field = path.last().unwrap();
        let rules = rules::of(field);
        let length = rules.max_characters.max(rules.max_bytes) as usize;
        if length > 0 {
            let refused = |length: usize| {
                is_refused::<K>(
                    &with(&path, texts(field, &"a".repeat(length))),
                    rules.max_characters.max(rules.max_bytes) as usize,
                )
            };
            // Of an annotation the key counts, too.
            found.push((field.full_name().to_owned(), refused(length + 1) && !refused(length - 1)));
        }
        if rules.max_items > 0 {
            let most = rules.max_items as usize;
            let refused = |count: usize| is_refused::<K>(&with(&path, items(field, count)), most);
            found.push((field.full_name().to_owned(), refused(most + 1) && !refused(most)));
        }
    }
    found
}

#[test]
fn limits_are_those_that_are_kept() {
    let mut kept: BTreeMap<String, bool> = BTreeMap::new();
    for (field, is_kept) in of_every_kind!(limits) {
        // The alias of a tool has another limit than that of a resource, which is the one that is told.
        *kept.entry(field).or_default() |= is_kept;
    }
    let broken: Vec<_> = kept.iter().filter(|(_, is_kept)| !**is_kept).map(|(field, _)| field).collect();
    assert!(broken.is_empty() && kept.len() > 20, "{broken:?} of {}", kept.len());
}

/// Fields without a limit that is told, where there is one.
fn silent<K: KindRules>() -> Vec<String> {
    let long = "a".repeat(300_000);
    let is_text = |path: &&Path| matches!(shape(path.last().unwrap()), Shape::Text);
    let has_none = |path: &&Path| {
        let rules = rules::of(path.last().unwrap());
        rules.max_characters + rules.max_bytes == 0
    };
    let paths = writable_paths(&reflect::descriptor::<K>());
    let silent = paths.iter().filter(is_text).filter(has_none).filter(|path| {
        let message = with(path, texts(path.last().unwrap(), &long));
        violations::<K>(&message).iter().any(|found| found.description.contains("the maximum is"))
    });
    silent.map(|path| path.last().unwrap().full_name().to_owned()).collect()
}

#[test]
fn limits_are_told() {
    assert_eq!(of_every_kind!(silent), Vec::<String>::new());
}

fn durations<K: KindRules>() -> Vec<(String, Vec<bool>)> {
    let mut found = Vec::new();
    for path in writable_paths(&reflect::descriptor::<K>()) {
        let rules = rules::of(path.last().unwrap());
        if rules.min_duration.is_empty() {
            continue;
        }
        let parse = |text: &str| text.parse::<prost_types::Duration>().unwrap();
        let (least, most) = (parse(&rules.min_duration), parse(&rules.max_duration));
        let name = path[0].name().to_owned();
        let is_refused = |seconds: i64, nanos: i32| {
            let mut duration =
                DynamicMessage::new(pool().get_message_by_name("google.protobuf.Duration").unwrap());
            duration.set_field_by_name("seconds", Value::I64(seconds));
            duration.set_field_by_name("nanos", Value::I32(nanos));
            violations::<K>(&with(&path, Value::Message(duration))).iter().any(|v| v.field == name)
        };
        let asked =
            [(least.seconds - 1, 999_999_999), (least.seconds, 0), (most.seconds, 0), (most.seconds, 1)];
        found.push((name.clone(), asked.map(|(seconds, nanos)| is_refused(seconds, nanos)).to_vec()));
    }
    found
}

#[test]
fn durations_have_the_limits_that_are_told() {
    let kept = vec![true, false, false, true];
    let expected = ["request_timeout", "refresh_interval"].map(|name| (name.to_owned(), kept.clone()));
    assert_eq!(of_every_kind!(durations), expected);
}

/// What a message has where nothing is given, as the contract says it.
fn declared_defaults(message: &MessageDescriptor) -> Json {
    let mut json = json!({});
    for entry in fields::entries(message) {
        match entry {
            Entry::Field(field) if !rules::of(&field).default_value.is_empty() => {
                json[field.json_name()] = rules::of(&field).default_value.into();
            }
            Entry::Field(_) => {}
            Entry::Choice(choice) => {
                let name = rules::of_choice(&choice).default_field;
                let chosen = choice.fields().find(|field| field.name() == name);
                if let Some(inner) = chosen.and_then(|field| below(&field)) {
                    json[name] = declared_defaults(&inner);
                }
            }
        }
    }
    json
}

fn defaults<K: KindRules>() -> Vec<(Json, Json)> {
    let mut message = K::default();
    message.set_defaults();
    let mut filled = serde_json::to_value(reflect::dynamic(&message)).unwrap();
    words::to_words(&reflect::descriptor::<K>(), &mut filled);
    vec![(filled, declared_defaults(&reflect::descriptor::<K>()))]
}

#[test]
fn defaults_are_those_that_are_filled_in() {
    for (filled, declared) in of_every_kind!(defaults) {
        assert_eq!(filled, declared);
    }
}

fn output_only<K: KindRules>() -> Vec<String> {
    let declared = fields::of(&reflect::descriptor::<K>());
    let declared =
        declared.iter().filter(|field| rules::of(field).output_only).map(|field| field.name().to_owned());
    let known: BTreeSet<String> = K::OUTPUT_ONLY.iter().map(ToString::to_string).collect();
    assert_eq!(declared.collect::<BTreeSet<_>>(), known, "{}", K::MESSAGE);
    let inner = [("meta", "trunkline.common.v1.Meta"), ("credential", "trunkline.registry.v1.Credential")];
    let mut broken = Vec::new();
    for (field, message) in inner {
        let Some(_) = reflect::descriptor::<K>().get_field_by_name(field) else { continue };
        for inner in fields::of(&pool().get_message_by_name(message).unwrap()) {
            let path = format!("{field}.{}", inner.name());
            let mask = FieldMask { paths: vec![path.clone()] };
            let is_refused = mask::update(&K::default(), &K::default(), Some(&mask)).is_err();
            if is_refused != rules::of(&inner).output_only {
                broken.push(path);
            }
        }
    }
    broken
}

#[test]
fn what_is_output_only_cannot_be_written() {
    assert_eq!(of_every_kind!(output_only), Vec::<String>::new());
}

#[test]
fn secrets_are_what_is_never_read_back() {
    let credential = pool().get_message_by_name("trunkline.registry.v1.Credential").unwrap();
    let mut seen = 0;
    for form in fields::of(&credential) {
        let Some(message) = below(&form) else { continue };
        // A reference is no secret, and is read back.
        for field in fields::of(&message).into_iter().filter(|field| below(field).is_none()) {
            let given = with(&[form.clone(), field.clone()], texts(&field, "x"));
            let mut stored = Credential::decode(given.encode_to_vec().as_slice()).unwrap();
            credential::redact(&mut stored);
            let shown =
                DynamicMessage::decode(credential.clone(), stored.encode_to_vec().as_slice()).unwrap();
            let is_kept = shown == given;
            assert_eq!(rules::of(&field).secret, !is_kept, "{}", field.full_name());
            seen += 1;
        }
    }
    assert_eq!(seen, 6);
}

/// Fields that must be given, and can be left out.
fn required<K: KindRules>() -> Vec<String> {
    let mut broken = Vec::new();
    for path in writable_paths(&reflect::descriptor::<K>()) {
        let (field, around) = path.split_last().unwrap();
        if !rules::of(field).required || field.name() == "name" {
            continue;
        }
        let message = match around.split_last() {
            None => DynamicMessage::new(reflect::descriptor::<K>()),
            Some((last, _)) => {
                let empty = Value::Message(DynamicMessage::new(below(last).unwrap()));
                with(around, if last.is_list() { Value::List(vec![empty]) } else { empty })
            }
        };
        let is_named = |found: &Violation| found.field.rsplit('.').next() == Some(field.name());
        if !violations::<K>(&message).iter().any(is_named) {
            broken.push(field.full_name().to_owned());
        }
    }
    broken
}

#[test]
fn what_is_required_is_asked_for() {
    assert_eq!(of_every_kind!(required), Vec::<String>::new());
    let of = |upstream: Upstream| violations::<Upstream>(&reflect::dynamic(&upstream));
    assert!(of(Upstream::default()).iter().any(|found| found.field == "http"));
    let without_form = Upstream { credential: Some(Credential::default()), ..Upstream::default() };
    assert!(of(without_form).iter().any(|found| found.field == "credential"));
}

/// Texts that match the pattern of a field, and are refused all the same.
fn patterns<K: KindRules>() -> Vec<String> {
    let mut runner = TestRunner::deterministic();
    let mut broken = Vec::new();
    for path in writable_paths(&reflect::descriptor::<K>()) {
        let field = path.last().unwrap();
        let rules = rules::of(field);
        // A name has a check of its own, and not every text of these forms is a URL, a user name or a permission.
        if matches!(field.name(), "name" | "url" | "username" | "permissions") {
            continue;
        }
        for (pattern, is_key) in [(&rules.pattern, false), (&rules.key_pattern, true)]
            .into_iter()
            .filter(|(pattern, _)| !pattern.is_empty())
        {
            let strategy = string_regex(pattern).unwrap();
            for _ in 0..64 {
                let text = strategy.new_tree(&mut runner).unwrap().current();
                let value = match is_key {
                    true => {
                        Value::Map(HashMap::from([(MapKey::String(text.clone()), Value::String("x".into()))]))
                    }
                    false => texts(field, &text),
                };
                let is_named = |found: &Violation| found.field.contains(field.name());
                if violations::<K>(&with(&path, value)).iter().any(is_named) {
                    broken.push(format!("{}: {text:?}", field.full_name()));
                }
            }
        }
    }
    broken
}

#[test]
fn what_matches_a_pattern_is_taken() {
    assert_eq!(of_every_kind!(patterns), Vec::<String>::new());
}

fn names_of<K: KindRules>() -> Vec<(Kind, String)> {
    let field = reflect::descriptor::<K>().get_field_by_name("name").unwrap();
    let mut runner = TestRunner::deterministic();
    let strategy = string_regex(&rules::of(&field).pattern).unwrap();
    (0..64).map(|_| (K::KIND, strategy.new_tree(&mut runner).unwrap().current())).collect()
}

#[test]
fn full_names_that_match_the_pattern_are_names() {
    let full = |(kind, name): &(Kind, String)| {
        let start = format!("{}/", if kind.in_catalogue() { "upstreams" } else { kind.collection() });
        name.starts_with(&start)
            && !name.contains('%')
            && (!kind.in_catalogue() || name.matches('/').count() == 3)
    };
    let names: Vec<_> = of_every_kind!(names_of).into_iter().filter(full).collect();
    assert!(names.len() > 60, "{}", names.len());
    for (kind, name) in names {
        assert!(names::parse(kind, &name).is_ok(), "{name}");
    }
}

#[test]
fn fields_name_resources_of_the_kind_that_is_told() {
    let field = |message: &str, name: &str| {
        let message = pool().get_message_by_name(message).unwrap();
        rules::of(&message.get_field_by_name(name).unwrap()).refers_to
    };
    let member = trunkline::registry::v1::Member { r#match: "time/*".to_owned(), ..Default::default() };
    let server = Server { tools: vec![member], ..Server::default() };
    let scope =
        trunkline::identity::v1::Scope { servers: vec!["servers/dev".to_owned()], ..Default::default() };
    let token = Token { scope: Some(scope), ..Token::default() };
    for (told, references) in [
        (field("trunkline.registry.v1.Member", "match"), server.references()),
        (field("trunkline.identity.v1.Scope", "servers"), token.references()),
    ] {
        assert_eq!(names::kind_of(&references[0].target).unwrap().as_str(), told);
    }
}
