//! What was read in a place: a text, or texts by key. It is never shown.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

/// The most bytes of a secret.
pub(super) const MAX_BYTES: usize = 64 << 10;

/// What was read in a place.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Document {
    /// A text.
    Text(Zeroizing<String>),
    /// Texts by key; of those that are none: why not.
    Keys(BTreeMap<String, Result<Zeroizing<String>, &'static str>>),
}

impl std::fmt::Debug for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Document(…)")
    }
}

impl Document {
    /// The secret under a key; of a text, which may be a JSON object then, where the key is not empty.
    pub(super) fn secret(&self, key: &str) -> Result<String, String> {
        let secret = match self {
            Self::Text(text) if key.is_empty() => text.as_str().to_owned(),
            Self::Text(text) => member(text, key)?,
            Self::Keys(keys) => match keys.get(key) {
                Some(Ok(text)) => text.as_str().to_owned(),
                Some(Err(why)) => return Err(format!("its key {key:?} {why}")),
                None => return Err(format!("it has no key {key:?}")),
            },
        };
        match secret.len() {
            0 => Err("it is empty".to_owned()),
            1..=MAX_BYTES => Ok(secret),
            _ => Err(format!("it is larger than {MAX_BYTES} bytes")),
        }
    }
}

fn member(text: &str, key: &str) -> Result<String, String> {
    let object: BTreeMap<String, serde_json::Value> = serde_json::from_str(text)
        .map_err(|_| "it is no JSON object, in which a key could be looked for".to_owned())?;
    match object.get(key) {
        Some(serde_json::Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(format!("its key {key:?} is no text")),
        None => Err(format!("it has no key {key:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Document {
        Document::Text(Zeroizing::new(text.to_owned()))
    }

    #[test]
    fn a_secret_is_a_text_that_is_neither_empty_nor_too_large() {
        assert_eq!(text("s3cret").secret("").unwrap(), "s3cret");
        assert_eq!(text("").secret("").unwrap_err(), "it is empty");
        assert_eq!(text(&"x".repeat(MAX_BYTES)).secret("").unwrap().len(), MAX_BYTES);
        assert_eq!(text(&"x".repeat(MAX_BYTES + 1)).secret("").unwrap_err(), "it is larger than 65536 bytes");
        assert_eq!(text(r#"{"a":"s3cret","b":1}"#).secret("a").unwrap(), "s3cret");
        for (document, key) in [(r#"{"a":"s3cret","b":1}"#, "b"), (r#"{"a":"s3cret"}"#, "c"), ("s3cret", "a")]
        {
            let error = text(document).secret(key).unwrap_err();
            assert!(!error.contains("s3cret"), "{error}");
        }
        assert_eq!(format!("{:?}", text("s3cret")), "Document(…)");
    }
}
