//! No batch is taken apart into more than it holds: the parts lie apart, in order, and are the elements of the array.

use mcp::message::{MAX_BATCH, split_batch};
use serde_json::value::RawValue;

pub(crate) fn check(source: &[u8]) {
    let Ok(parts) = split_batch(source) else { return };
    assert!((1..=MAX_BATCH).contains(&parts.len()));
    assert!(parts.is_sorted_by(|before, after| before.end <= after.start));
    let elements: Vec<&RawValue> = serde_json::from_slice(source).expect("an array");
    assert_eq!(elements.len(), parts.len());
    for (element, part) in elements.iter().zip(parts) {
        assert_eq!(element.get().as_bytes(), &source[part]);
    }
}
