//! No text makes the cutting of values fail: what is JSON stays so, nothing is there any more that was to be taken away, and what was to
//! stay is as it was.

use mcp::cut::{Cut, cut};
use serde_json::Value;

const MASKED: &str = "\"[masked]\"";

fn without(text: &str, name: &str) -> Option<String> {
    let judge =
        |(): &(), member: Option<&str>, _| if member == Some(name) { Cut::Whole } else { Cut::Within(()) };
    cut(text, (), MASKED, judge).ok()
}

/// Whether every member of this name is masked.
fn is_masked(value: &Value, name: &str) -> bool {
    match value {
        Value::Array(items) => items.iter().all(|item| is_masked(item, name)),
        Value::Object(members) => members
            .iter()
            .all(|(own, value)| if own == name { value == "[masked]" } else { is_masked(value, name) }),
        _ => true,
    }
}

pub(crate) fn check((name, source): (u8, Vec<u8>)) {
    let Ok(text) = String::from_utf8(source) else { return };
    let name = ["a", "name", "b"][usize::from(name) % 3];
    let Some(cut) = without(&text, name) else { return };
    assert_eq!(without(&text, "no such name").as_deref(), Some(text.as_str()));
    assert_eq!(without(&cut, name).as_deref(), Some(cut.as_str()), "twice is as good as once");
    // Some JSON is deeper, or has larger numbers, than this reader takes.
    if let (Ok(_), Ok(value)) = (serde_json::from_str::<Value>(&text), serde_json::from_str::<Value>(&cut)) {
        assert!(is_masked(&value, name), "{cut}");
    }
}
