use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue};
use mcp::border::cookies::{MAX_COOKIES, MAX_COOKIES_BYTES, cookies};

fn sent(set: &[&str], own: Option<&'static str>) -> Option<String> {
    let mut answer = HeaderMap::new();
    for value in set {
        answer.append(SET_COOKIE, HeaderValue::from_str(value).unwrap());
    }
    let own = own.map(HeaderValue::from_static);
    let value = cookies(&answer, own.as_ref())?;
    assert!(value.is_sensitive());
    Some(value.to_str().unwrap().to_owned())
}

#[test]
fn a_session_sends_what_its_opening_set() {
    for (set, own, expected) in [
        (&[][..], None, None),
        (&[], Some("a=b"), None),
        (&["AWSALB=x/y+z=; Path=/; HttpOnly"], None, Some("AWSALB=x/y+z=")),
        (&["a=1", "b=\"2\"; Secure"], None, Some("a=1; b=\"2\"")),
        (&["a=1", "a=2"], None, Some("a=2")),
        (&["a=1; Max-Age=0", "b=2; max-age=60"], Some("own=1"), Some("own=1; b=2")),
        (&["=1", "no pair", "; Path=/", ""], None, None),
    ] {
        assert_eq!(sent(set, own).as_deref(), expected, "{set:?}");
    }
}

#[test]
fn cookies_of_a_session_are_bounded() {
    let many: Vec<String> = (0..20).map(|n| format!("c{n}=v")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(sent(&many, None).unwrap().split("; ").count(), MAX_COOKIES);
    let large = format!("l={}", "x".repeat(MAX_COOKIES_BYTES));
    assert_eq!(sent(&[&large, "a=1"], None).as_deref(), Some("a=1"));
}
