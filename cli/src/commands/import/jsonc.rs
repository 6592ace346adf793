//! JSON with comments and commas at the end of lists, as editors write it. Pure; it must not know what the text is about.

/// Makes JSON of a text with `//` and `/* */` comments and commas before a closing bracket. What goes is replaced by
/// spaces, so that places in the text stay the same. What is neither is left for the reader of the JSON to refuse.
pub(in crate::commands) fn to_json(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let mut scan = Scan::default();
    while scan.at < bytes.len() {
        match (bytes[scan.at], bytes.get(scan.at + 1)) {
            (b'"', _) => scan.string(&bytes),
            (b'/', Some(b'/')) => scan.comment(&mut bytes, b"\n"),
            (b'/', Some(b'*')) => scan.comment(&mut bytes, b"*/"),
            (b']' | b'}', _) => scan.close(&mut bytes),
            (byte, _) => scan.take(byte),
        }
    }
    // Only whole characters were replaced.
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// A place in the text.
#[derive(Default)]
struct Scan {
    at: usize,
    /// The last byte that is neither white space nor comment.
    last: u8,
    /// The place of a comma that is the last such byte, after a value.
    comma: Option<usize>,
}

impl Scan {
    fn take(&mut self, byte: u8) {
        if !byte.is_ascii_whitespace() {
            let after_value = !matches!(self.last, 0 | b',' | b'[' | b'{' | b':');
            self.comma = (byte == b',' && after_value).then_some(self.at);
            self.last = byte;
        }
        self.at += 1;
    }

    fn string(&mut self, bytes: &[u8]) {
        self.take(b'"');
        while let Some(byte) = bytes.get(self.at) {
            self.at += if *byte == b'\\' { 2 } else { 1 };
            if *byte == b'"' {
                return;
            }
        }
    }

    fn close(&mut self, bytes: &mut [u8]) {
        if let Some(comma) = self.comma {
            bytes[comma] = b' ';
        }
        self.take(bytes[self.at]);
    }

    /// Blanks a comment up to its end. One that has none is left as it is, and is not JSON.
    fn comment(&mut self, bytes: &mut [u8], end: &[u8]) {
        let body = &bytes[self.at + 2..];
        let length = match body.windows(end.len()).position(|window| window == end) {
            Some(length) if end == b"\n" => 2 + length,
            Some(length) => 2 + length + end.len(),
            None if end == b"\n" => 2 + body.len(),
            None => return self.take(b'/'),
        };
        for byte in &mut bytes[self.at..self.at + length] {
            // Lines stay lines.
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        self.at += length;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn read(text: &str) -> Result<Value, String> {
        serde_json::from_str(&to_json(text)).map_err(|error| error.to_string())
    }

    #[test]
    fn comments_and_commas_at_the_end_go() {
        for (text, value) in [
            ("{\n // a \"b\" /* c\n \"x\": [1, 2, /* , */ ], // ]\n}", json!({"x": [1, 2]})),
            ("/* a\n * b **/ {\"x\": {},} // end", json!({"x": {}})),
            (
                r#"{"url": "http://a//b", "c": "/* \" // */,]",}"#,
                json!({"url": "http://a//b", "c": "/* \" // */,]"}),
            ),
            ("[\"é\" /* 日本 */ ,\r\n]//", json!(["é"])),
            ("[[1,],]", json!([[1]])),
        ] {
            assert_eq!(read(text).unwrap(), value, "{text}");
            assert_eq!(to_json(text).len(), text.len());
        }
    }

    #[test]
    fn what_is_neither_is_refused_where_it_is() {
        for (text, place) in [
            ("[,]", "line 1 column 2"),
            ("[1,,]", "line 1 column 4"),
            ("{\"a\":,}", "line 1 column 6"),
            ("// a\n{\"x\": 1 \"y\": 2}", "line 2 column 9"),
            ("{} /* open", "line 1 column 4"),
            ("{\"x\": / 1}", "line 1 column 7"),
            ("\"open // \\", "line 1 column 10"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.ends_with(place), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn json_stays_as_it_is(value in any::<Vec<(String, Option<String>)>>()) {
            let text = serde_json::to_string(&value).unwrap();
            prop_assert_eq!(to_json(&text), text);
        }

        #[test]
        fn anything_keeps_its_places(text in r#"[a/*"\\\n,\[\]{}: é]*"#) {
            let read = to_json(&text);
            prop_assert_eq!(read.len(), text.len());
            for (before, after) in text.bytes().zip(read.bytes()) {
                prop_assert!(before == after || (after == b' ' && before != b'\n'));
            }
        }
    }
}
