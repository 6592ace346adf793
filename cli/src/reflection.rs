//! The descriptors of the API, and proto-JSON through them, so that one generic call serves every kind.

use prost_reflect::{
    DynamicMessage, EnumDescriptor, Kind, MessageDescriptor, MethodDescriptor, ReflectMessage as _,
};
use schema::contract::{is_ours, pool};
use schema::words;
use serde_json::Value;
use serde_yaml_ng::{Mapping, Value as Document};

use crate::error::{Error, Result};

/// Returns the descriptor of a message by its full name.
pub fn message(full_name: &str) -> MessageDescriptor {
    pool().get_message_by_name(full_name).expect("callers name types of the contract")
}

/// Returns the descriptor of the method `package.Service/Method`, if it exists.
pub fn method(path: &str) -> Option<MethodDescriptor> {
    let (service, name) = path.split_once('/')?;
    pool().get_service_by_name(service)?.methods().find(|method| method.name() == name)
}

/// Parses proto-JSON strictly: an unknown field is an error.
pub fn from_json(descriptor: MessageDescriptor, json: Value) -> Result<DynamicMessage> {
    let name = descriptor.name().to_owned();
    DynamicMessage::deserialize(descriptor, json).map_err(|error| Error::usage(format!("{name}: {error}")))
}

/// Parses a request. Its mask may be a list of paths, in their JSON spelling: in the text that proto-JSON has for masks, keys of
/// maps lose their capital letters.
pub fn request_from_json(descriptor: MessageDescriptor, mut json: Value) -> Result<DynamicMessage> {
    let mask = json.get_mut("updateMask").filter(|mask| mask.is_array()).map(Value::take);
    let mut message = from_json(descriptor, json)?;
    let Some(mask) = mask else { return Ok(message) };
    let patched = message.descriptor().fields().find_map(|field| match field.kind() {
        Kind::Message(inner) if is_ours(&inner) => Some(inner),
        _ => None,
    });
    let spelled = |path: &Value| spelled_in_contract(patched.clone(), path.as_str().unwrap_or_default());
    let paths = mask.as_array().into_iter().flatten().map(spelled).collect();
    let mask = prost_types::FieldMask { paths };
    if let Some(field) = message.get_field_by_name_mut("update_mask")
        && let Some(slot) = field.as_message_mut()
    {
        slot.transcode_from(&mask).map_err(|error| Error::failure(error.to_string()))?;
    }
    Ok(message)
}

/// Spells the fields of a path as the contract does; below a map it names a key.
fn spelled_in_contract(mut message: Option<MessageDescriptor>, path: &str) -> String {
    let mut spelled = Vec::new();
    let mut rest = Some(path);
    while let Some(text) = rest {
        let (name, after) = text.split_once('.').map_or((text, None), |(name, after)| (name, Some(after)));
        let field = message.take().and_then(|message| message.get_field_by_json_name(name));
        let Some(field) = field else {
            spelled.push(text.to_owned());
            break;
        };
        spelled.push(field.name().to_owned());
        rest = after;
        if !field.is_map() {
            message = field.kind().as_message().cloned();
        }
    }
    spelled.join(".")
}

/// Writes proto-JSON.
pub fn to_json(message: &DynamicMessage) -> Value {
    serde_json::to_value(message).unwrap_or_default()
}

/// Writes JSON as queries see it: as [`to_plain_json`] does, and with the fields that have their default, which documents leave
/// out: a number that is 0, a flag that is false, a text that is empty.
pub fn to_queried_json(message: &DynamicMessage) -> Value {
    let mut value = to_plain_json(message);
    add_defaults(&message.descriptor(), &mut value);
    value
}

fn add_defaults(descriptor: &MessageDescriptor, value: &mut Value) {
    let Value::Object(members) = value else { return };
    for field in descriptor.fields() {
        let (Kind::Message(inner), false) = (field.kind(), field.is_map()) else { continue };
        match members.get_mut(field.json_name()).filter(|_| is_ours(&inner)) {
            Some(Value::Array(items)) => items.iter_mut().for_each(|item| add_defaults(&inner, item)),
            Some(single) => add_defaults(&inner, single),
            None => {}
        }
    }
    for field in descriptor.fields().filter(|field| !field.is_list() && !field.is_map()) {
        let default = default_of(&field.kind()).filter(|_| !field.supports_presence());
        if let Some(default) = default {
            members.entry(field.json_name()).or_insert(default);
        }
    }
}

/// What a scalar is that nobody has set. An enum that is not specified says nothing.
fn default_of(kind: &Kind) -> Option<Value> {
    match kind {
        Kind::Bool => Some(false.into()),
        Kind::String | Kind::Bytes => Some("".into()),
        Kind::Message(_) | Kind::Enum(_) => None,
        _ => Some(0.into()),
    }
}

/// Writes JSON as documents have it, and with 64-bit integers as the numbers that they are.
pub fn to_plain_json(message: &DynamicMessage) -> Value {
    let mut value = to_json(message);
    words::to_words(&message.descriptor(), &mut value);
    make_plain(&message.descriptor(), &mut value);
    value
}

fn make_plain(descriptor: &MessageDescriptor, value: &mut Value) {
    // Times, durations and the like are texts.
    for (key, value) in value.as_object_mut().into_iter().flatten() {
        let Some(field) = descriptor.get_field_by_json_name(key) else { continue };
        let (kind, values): (Kind, Vec<&mut Value>) = match (field.kind(), value) {
            (Kind::Message(entry), Value::Object(members)) if field.is_map() => {
                (entry.map_entry_value_field().kind(), members.values_mut().collect())
            }
            (kind, Value::Array(values)) => (kind, values.iter_mut().collect()),
            (kind, single) => (kind, vec![single]),
        };
        for value in values {
            match &kind {
                Kind::Message(inner) => make_plain(inner, value),
                Kind::Int64 | Kind::Uint64 | Kind::Sint64 | Kind::Fixed64 | Kind::Sfixed64 => {
                    let number = value.as_str().and_then(|text| text.parse().ok());
                    *value = number.map_or_else(|| value.take(), Value::Number);
                }
                _ => {}
            }
        }
    }
}

/// Builds the document of a resource: `kind` first, then its fields.
pub fn document(kind: &str, message: &DynamicMessage) -> Mapping {
    let mut mapping = Mapping::new();
    mapping.insert("kind".into(), kind.into());
    mapping.extend(fields(message));
    mapping
}

/// Returns the fields of a message in the order of the API, as every output has them: enum values are the short words that
/// files may hold, and maps are in the order of their keys, so that the same is the same text each time.
pub fn fields(message: &DynamicMessage) -> Mapping {
    let Ok(Document::Mapping(mut fields)) = serde_yaml_ng::to_value(message) else { return Mapping::new() };
    make_readable(&message.descriptor(), &mut fields);
    fields
}

/// Gives enum values their short words, and maps their order.
fn make_readable(descriptor: &MessageDescriptor, mapping: &mut Mapping) {
    for (key, value) in mapping.iter_mut() {
        let Some(field) = key.as_str().and_then(|key| descriptor.get_field_by_json_name(key)) else {
            continue;
        };
        let values = match value {
            Document::Sequence(values) => values.as_mut_slice(),
            single => std::slice::from_mut(single),
        };
        match field.kind() {
            Kind::Enum(kind) => {
                for value in values {
                    let word = value.as_str().map(|name| word(&prefix(&kind), name));
                    word.into_iter().for_each(|word| *value = word.into());
                }
            }
            Kind::Message(_) if field.is_map() => {
                values.iter_mut().filter_map(Document::as_mapping_mut).for_each(sort);
            }
            Kind::Message(inner) if is_ours(&inner) => {
                let mappings = values.iter_mut().filter_map(Document::as_mapping_mut);
                mappings.for_each(|mapping| make_readable(&inner, mapping));
            }
            _ => {}
        }
    }
}

fn sort(map: &mut Mapping) {
    let mut entries: Vec<_> = std::mem::take(map).into_iter().collect();
    entries.sort_by(|(one, _), (other, _)| one.as_str().cmp(&other.as_str()));
    map.extend(entries);
}

/// Turns the name of an enum value into a word: `UPSTREAM_STATE_READY` into `ready`.
pub fn word(prefix: &str, name: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_lowercase().replace('_', "-")
}

/// Returns the texts of a list.
pub fn texts(message: &DynamicMessage, field: &str) -> Vec<String> {
    let list = message.get_field_by_name(field);
    let items = list.as_ref().and_then(|list| list.as_list()).unwrap_or_default();
    items.iter().filter_map(|item| item.as_str()).map(str::to_owned).collect()
}

/// Returns the state of a resource as a word, and why it is in that state.
pub fn state(item: &DynamicMessage) -> (String, String) {
    let status = submessage(item, "status");
    let has_own = item.descriptor().get_field_by_name("state").is_some();
    let holder = if has_own { Some(item) } else { status.as_ref() };
    match holder {
        Some(holder) => (enum_word(holder, "state"), text(holder, "reason")),
        None => ("unknown".to_owned(), String::new()),
    }
}

/// Returns the words for the values of an enum, without the unspecified one.
pub fn words(kind: &EnumDescriptor) -> Vec<String> {
    kind.values().filter(|value| value.number() != 0).map(|value| word(&prefix(kind), value.name())).collect()
}

/// Returns the prefix of an enum's values. Every enum has a value `…_UNSPECIFIED`.
fn prefix(kind: &EnumDescriptor) -> String {
    kind.default_value().name().trim_end_matches("UNSPECIFIED").to_owned()
}

/// Returns the message in a field; `None` if it is not set.
pub fn submessage(message: &DynamicMessage, field: &str) -> Option<DynamicMessage> {
    message.get_field_by_name(field).filter(|_| message.has_field_by_name(field))?.as_message().cloned()
}

/// Returns the messages in a repeated field.
pub fn submessages(message: &DynamicMessage, field: &str) -> Vec<DynamicMessage> {
    let Some(value) = message.get_field_by_name(field) else { return Vec::new() };
    value.as_list().unwrap_or_default().iter().filter_map(|item| item.as_message().cloned()).collect()
}

/// Returns a string field; empty if absent.
pub fn text(message: &DynamicMessage, field: &str) -> String {
    message.get_field_by_name(field).and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Returns the value of a label of a resource; empty if it has none.
pub fn label(item: &DynamicMessage, key: &str) -> String {
    to_json(item)["meta"]["labels"][key].as_str().unwrap_or_default().to_owned()
}

/// Returns an integer field; 0 if absent.
pub fn number(message: &DynamicMessage, field: &str) -> i64 {
    let value = message.get_field_by_name(field);
    value.and_then(|v| v.as_i64().or_else(|| v.as_i32().map(i64::from))).unwrap_or_default()
}

/// Tells whether a `bool` field is set.
pub fn flag(message: &DynamicMessage, field: &str) -> bool {
    message.get_field_by_name(field).is_some_and(|value| value.as_bool() == Some(true))
}

/// Returns the value of an enum field as a word.
pub fn enum_word(message: &DynamicMessage, field: &str) -> String {
    let number = message.get_field_by_name(field).and_then(|value| value.as_enum_number());
    let kind = message.descriptor().get_field_by_name(field).and_then(|f| f.kind().as_enum().cloned());
    let name = kind.zip(number).and_then(|(kind, number)| Some((prefix(&kind), kind.get_value(number)?)));
    name.map(|(prefix, value)| word(&prefix, value.name())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_numbers_for_queries() {
        let upstream = serde_json::json!({"name": "upstreams/1", "meta": {"revision": "12", "labels": {"a": "1"}},
            "requestTimeout": "5s", "status": {"toolCount": 2, "state": "UPSTREAM_STATE_READY"}});
        let upstream = from_json(message("trunkline.registry.v1.Upstream"), upstream).unwrap();
        let plain = serde_json::json!({"name": "upstreams/1", "meta": {"revision": 12, "labels": {"a": "1"}},
            "requestTimeout": "5s", "status": {"toolCount": 2, "state": "ready"}});
        assert_eq!(to_plain_json(&upstream), plain);
    }

    #[test]
    fn queries_see_the_fields_that_have_their_default() {
        let server = serde_json::json!({"name": "servers/a", "tools": [{"match": "a/*"}],
            "meta": {"labels": {"a": ""}}, "status": {"state": "SERVER_STATE_EMPTY"}});
        let server = from_json(message("trunkline.registry.v1.Server"), server).unwrap();
        let queried = to_queried_json(&server);
        assert_eq!(
            (&queried["disabled"], &queried["title"], &queried["status"]["toolCount"]),
            (&false.into(), &"".into(), &0.into())
        );
        assert_eq!((&queried["tools"][0]["alias"], &queried["meta"]["revision"]), (&"".into(), &0.into()));
        for absent in ["resources", "nameStyle"] {
            assert_eq!(queried.get(absent), None, "what is no scalar is not there");
        }
        assert_eq!(queried["meta"]["labels"], serde_json::json!({"a": ""}));
        let upstream = message("trunkline.registry.v1.Upstream");
        let queried = to_queried_json(&from_json(upstream, serde_json::json!({})).unwrap());
        for absent in ["http", "tunnel", "credential", "status", "requestTimeout"] {
            assert_eq!(queried.get(absent), None, "{absent}");
        }
    }

    #[test]
    fn maps_are_in_the_order_of_their_keys() {
        let labels: Vec<String> = (10..60).map(|number| format!("label-{number}")).collect();
        let map: serde_json::Map<_, _> = labels.iter().map(|label| (label.clone(), "x".into())).collect();
        let upstream = from_json(
            message("trunkline.registry.v1.Upstream"),
            serde_json::json!({"meta": {"labels": map}}),
        );
        let fields = fields(&upstream.unwrap());
        let shown: Vec<_> =
            fields["meta"]["labels"].as_mapping().unwrap().keys().filter_map(Document::as_str).collect();
        assert_eq!(shown, labels);
    }

    #[test]
    fn enums_are_words_for_people() {
        let upstream = serde_json::json!({"name": "upstreams/a", "mcp": {"eraPolicy": "ERA_POLICY_LEGACY"},
            "status": {"state": "UPSTREAM_STATE_READY"}, "meta": {"labels": {"state": "UPSTREAM_STATE_READY"}}});
        let upstream = from_json(message("trunkline.registry.v1.Upstream"), upstream).unwrap();
        let text = serde_yaml_ng::to_string(&document("Upstream", &upstream)).unwrap();
        assert!(text.contains("  eraPolicy: legacy\n") && text.contains("  state: ready\n"), "{text}");
        assert!(text.contains("    state: UPSTREAM_STATE_READY\n"), "labels stay as they are: {text}");
        let status = upstream.get_field_by_name("status").unwrap();
        assert_eq!(enum_word(status.as_message().unwrap(), "state"), "ready");
    }
}
