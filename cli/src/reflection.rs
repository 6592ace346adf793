//! The descriptors of the API, and proto-JSON through them, so that one generic call serves every kind.

use std::sync::LazyLock;

use prost_reflect::{
    DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, ReflectMessage as _,
};
use serde_json::Value;
use serde_yaml_ng::{Mapping, Value as Document};

use crate::error::{Error, Result};

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(trunkline::DESCRIPTORS)
        .expect("the descriptors are compiled in, and were just built")
});

/// Returns the descriptor of a message by its full name.
pub fn message(full_name: &str) -> MessageDescriptor {
    POOL.get_message_by_name(full_name).expect("callers name types of the contract")
}

/// Returns the descriptor of the method `package.Service/Method`, if it exists.
pub fn method(path: &str) -> Option<MethodDescriptor> {
    let (service, name) = path.split_once('/')?;
    POOL.get_service_by_name(service)?.methods().find(|method| method.name() == name)
}

/// Parses proto-JSON strictly: an unknown field is an error.
pub fn from_json(descriptor: MessageDescriptor, json: Value) -> Result<DynamicMessage> {
    let name = descriptor.name().to_owned();
    DynamicMessage::deserialize(descriptor, json).map_err(|error| Error::usage(format!("{name}: {error}")))
}

/// Writes proto-JSON.
pub fn to_json(message: &DynamicMessage) -> Value {
    serde_json::to_value(message).unwrap_or_default()
}

/// Builds the document of a resource: `kind` first, then the fields in the order of the API.
pub fn document(kind: &str, message: &DynamicMessage) -> Mapping {
    let mut mapping = Mapping::new();
    mapping.insert("kind".into(), kind.into());
    if let Ok(Document::Mapping(fields)) = serde_yaml_ng::to_value(message) {
        mapping.extend(fields);
    }
    mapping
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

/// Returns an `int64` field; 0 if absent.
pub fn number(message: &DynamicMessage, field: &str) -> i64 {
    message.get_field_by_name(field).and_then(|v| v.as_i64()).unwrap_or_default()
}

/// Returns the name of an enum field's value.
pub fn enum_name(message: &DynamicMessage, field: &str) -> String {
    to_json(message)
        .get(
            message
                .descriptor()
                .get_field_by_name(field)
                .map_or(field.to_owned(), |f| f.json_name().to_owned()),
        )
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}
