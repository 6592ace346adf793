//! The contract's descriptors, and proto-JSON by them: what lets one generic call serve every kind.

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

/// The message type of this full name.
pub fn message(full_name: &str) -> MessageDescriptor {
    POOL.get_message_by_name(full_name).expect("callers name types of the contract")
}

/// The method `package.Service/Method`, where the contract has it.
pub fn method(path: &str) -> Option<MethodDescriptor> {
    let (service, name) = path.split_once('/')?;
    POOL.get_service_by_name(service)?.methods().find(|method| method.name() == name)
}

/// Reads proto-JSON strictly: an unknown field is an error.
pub fn from_json(descriptor: MessageDescriptor, json: Value) -> Result<DynamicMessage> {
    let name = descriptor.name().to_owned();
    DynamicMessage::deserialize(descriptor, json).map_err(|error| Error::usage(format!("{name}: {error}")))
}

/// Writes proto-JSON.
pub fn to_json(message: &DynamicMessage) -> Value {
    serde_json::to_value(message).unwrap_or_default()
}

/// The resource as people keep it in files: `kind` first, then its fields in the contract's order.
pub fn document(kind: &str, message: &DynamicMessage) -> Mapping {
    let mut mapping = Mapping::new();
    mapping.insert("kind".into(), kind.into());
    if let Ok(Document::Mapping(fields)) = serde_yaml_ng::to_value(message) {
        mapping.extend(fields);
    }
    mapping
}

/// The message that lies in a field of another.
pub fn submessage(message: &DynamicMessage, field: &str) -> Option<DynamicMessage> {
    message.get_field_by_name(field).filter(|_| message.has_field_by_name(field))?.as_message().cloned()
}

/// The messages that lie in a repeated field of another.
pub fn submessages(message: &DynamicMessage, field: &str) -> Vec<DynamicMessage> {
    let Some(value) = message.get_field_by_name(field) else { return Vec::new() };
    value.as_list().unwrap_or_default().iter().filter_map(|item| item.as_message().cloned()).collect()
}

/// A text field of a message; empty where it is absent.
pub fn text(message: &DynamicMessage, field: &str) -> String {
    message.get_field_by_name(field).and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

/// An `int64` field of a message; 0 where it is absent.
pub fn number(message: &DynamicMessage, field: &str) -> i64 {
    message.get_field_by_name(field).and_then(|v| v.as_i64()).unwrap_or_default()
}

/// The name of the value of an enum field.
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
