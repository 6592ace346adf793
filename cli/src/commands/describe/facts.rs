//! What is known of a resource, in words for people. Pure.

use prost_reflect::DynamicMessage;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::kinds::{Kind, short_name};
use crate::output::sections::Section;
use crate::parse;
use crate::reflection;

/// A resource at a point in time.
pub(super) struct Facts {
    /// Its document, in which enum values are words.
    pub(super) item: Value,
    now: OffsetDateTime,
}

impl Facts {
    pub(super) fn new(kind: &Kind, item: &DynamicMessage, now: OffsetDateTime) -> Self {
        let document = reflection::document(kind.name, item);
        Self { item: serde_json::to_value(document).unwrap_or_default(), now }
    }

    /// The text at a path with dots; empty where there is none.
    pub(super) fn text(&self, path: &str) -> String {
        text(self.at(path))
    }

    /// The value at a path with dots.
    pub(super) fn at(&self, path: &str) -> &Value {
        path.split('.').fold(&self.item, |value, part| &value[part])
    }

    pub(super) fn id(&self) -> String {
        short_name(&self.text("name"))
    }

    /// The first section: what every kind has, and then what `more` adds before labels and dates.
    pub(super) fn head(&self, more: impl FnOnce(&mut Section)) -> Section {
        let mut head = Section::default();
        let status = if self.item["status"].is_object() { "status." } else { "" };
        head.field("Name", self.text("name")).field("Title", self.text("title"));
        head.field("Description", self.text("description"));
        head.field("State", self.text(&format!("{status}state")));
        head.field("Reason", self.text(&format!("{status}reason")));
        more(&mut head);
        head.field("Owner", self.text("meta.owner")).field("Team", self.text("meta.team"));
        head.field("Visibility", self.text("meta.visibility"));
        head.list("Labels", pairs(self.at("meta.labels")));
        head.list("Annotations", pairs(self.at("meta.annotations")));
        head.field("Apply set", self.text("meta.applySet"));
        head.field("Created", self.when("meta.createTime")).field("Changed", self.when("meta.updateTime"));
        head.field("Revision", self.text("meta.revision")).field("Etag", self.text("meta.etag"));
        head
    }

    /// A time as `5m ago (2026-11-30T03:50:41Z)` or `in 5m (…)`; empty where there is none.
    pub(super) fn when(&self, path: &str) -> String {
        self.when_of(self.at(path))
    }

    /// The same of a value.
    pub(super) fn when_of(&self, value: &Value) -> String {
        let Some(then) = value.as_str().and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok()) else {
            return String::new();
        };
        let distance = parse::short_duration(self.now - then);
        let to_the_second = then.replace_nanosecond(0).unwrap_or(then).format(&Rfc3339).unwrap_or_default();
        match then <= self.now {
            true => format!("{distance} ago ({to_the_second})"),
            false => format!("in {distance} ({to_the_second})"),
        }
    }
}

/// A value as text: empty where there is none, and lists in a line.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// A mapping as `KEY=VALUE`.
pub(super) fn pairs(value: &Value) -> Vec<String> {
    let members = value.as_object().into_iter().flatten();
    members.map(|(key, value)| format!("{key}={}", text(value))).collect()
}

/// The members of a list.
pub(super) fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A number; 0 where there is none. 64-bit integers are strings in proto-JSON.
pub(super) fn number(value: &Value) -> i64 {
    value.as_i64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_default()
}
