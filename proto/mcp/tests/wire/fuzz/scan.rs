//! The scanner takes the texts that are JSON to others, and no other.

use mcp::json::{JsonError, each_element};
use serde_json::value::RawValue;

/// Nested less deeply than this, a text is refused for its depth by neither.
const SHALLOW: usize = 100;

pub(crate) fn check(source: &[u8]) {
    let Ok(text) = std::str::from_utf8(source) else { return };
    let array = format!("[{text}]");
    let mut elements = Vec::new();
    let scanned = each_element::<JsonError>(&array, |element| {
        elements.push(element);
        Ok(())
    });
    let others = serde_json::from_str::<Vec<&RawValue>>(&array);
    if text.bytes().filter(|byte| b"[{".contains(byte)).count() < SHALLOW {
        assert_eq!(scanned.is_ok(), others.is_ok(), "{array:?}");
    }
    if let (Ok(()), Ok(others)) = (scanned, others) {
        assert_eq!(elements, others.iter().map(|other| other.get()).collect::<Vec<_>>());
    }
}
