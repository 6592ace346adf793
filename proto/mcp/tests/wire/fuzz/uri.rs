//! No URI that is taken for canonical leads out of what its template says first, decoded or not, for whoever resolves it.

use mcp::uri::UriTemplate;
use url::Url;

const PREFIX: &str = "http://host/public/";
/// More often than any server decodes.
const DECODED: usize = 4;

pub(crate) fn check((template, text): (&str, &str)) {
    let own = UriTemplate::new(template);
    if let Some(Ok(made)) = own.uri(text) {
        assert_eq!(made.as_str(), text);
        assert!(own.may_produce(text, "") && own.may_produce("", text));
    }
    let uri = format!("{PREFIX}{text}");
    let Some(Ok(made)) = UriTemplate::new("http://host/public/{+path}").uri(&uri) else { return };
    let mut uri = made.as_str().to_owned();
    for _ in 0..DECODED {
        let resolved = Url::parse(&uri).expect("a URL");
        assert!(resolved.as_str().starts_with(PREFIX), "{uri:?} is {resolved}");
        uri = decoded(&uri);
    }
}

/// Decodes percent-encoding once; what is none stays.
fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => bytes.extend([&[byte], &part.as_bytes()[2..]].concat()),
            None => bytes.extend([b"%", part.as_bytes()].concat()),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
