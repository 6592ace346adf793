//! No arguments, schema or header make the mirror fail: what it writes it verifies, and what it reads it writes again.

use http::{HeaderMap, HeaderName, HeaderValue};
use mcp::header::{MirroredParam, decode_value, encode_value, mirror, mirrored_params, verify};

fn param(header: &str, path: &[&str]) -> MirroredParam {
    MirroredParam { header: header.to_owned(), path: path.iter().map(|name| (*name).to_owned()).collect() }
}

pub(crate) fn check((text, value): (Vec<u8>, Vec<u8>)) {
    if let Ok(value) = HeaderValue::from_bytes(&value) {
        if let Ok(decoded) = decode_value(&value) {
            assert_eq!(decode_value(&encode_value(&decoded)).as_deref(), Ok(&*decoded));
        }
        if let Ok(text) = std::str::from_utf8(&text) {
            let presented = HeaderMap::from_iter([(HeaderName::from_static("mcp-param-a"), value)]);
            let _answer = verify(&presented, text, &[param("a", &["a"])]);
        }
    }
    let Ok(text) = std::str::from_utf8(&text) else { return };
    let params = [param("A", &["a"]), param("Deep", &["name", "b"])];
    if let Ok(made) = mirror(text, &params) {
        let made: HeaderMap = made.into_iter().collect();
        assert_eq!(verify(&made, text, &params), Ok(()), "{text}");
    }
    for param in mirrored_params(text).into_iter().flatten() {
        assert!(HeaderName::from_bytes(format!("mcp-param-{}", param.header).as_bytes()).is_ok());
        assert!(!param.path.is_empty());
    }
}
