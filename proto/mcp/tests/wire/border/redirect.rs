use mcp::quirk::Quirk::{DowngradingRedirect, Redirects};
use mcp::redirect::{NotFollowed, follow};
use mcp::secrets::Secrets;
use proptest::prelude::*;
use url::Url;

fn to(base: &str, location: &str) -> Result<(String, &'static str), NotFollowed> {
    let followed = follow(&Url::parse(base).unwrap(), 307, Some(location.as_bytes()))?;
    Ok((followed.url.to_string(), followed.quirk.as_str()))
}

#[test]
fn within_the_origin_it_is_followed() {
    for (base, location, url, quirk) in [
        ("http://h/mcp", "/mcp/", "http://h/mcp/", Redirects),
        ("http://h:80/mcp", "http://h/mcp/", "http://h/mcp/", Redirects),
        ("http://h:8000/mcp?k=v", "http://h:8000/mcp/?k=v", "http://h:8000/mcp/?k=v", Redirects),
        ("http://h/mcp?k=v", "/mcp/", "http://h/mcp/", Redirects),
        ("http://h/a/mcp", "mcp/", "http://h/a/mcp/", Redirects),
        ("http://h/a/mcp", "../b", "http://h/b", Redirects),
        ("http://h/mcp", "?a=b", "http://h/mcp?a=b", Redirects),
        ("http://h/mcp", "/mcp/#top", "http://h/mcp/", Redirects),
        ("http://h/mcp", " /mcp/ ", "http://h/mcp/", Redirects),
        ("http://h/mcp", "//h/mcp/", "http://h/mcp/", Redirects),
        ("http://u:p@h/mcp", "http://h/mcp/", "http://u:p@h/mcp/", Redirects),
        ("http://h/mcp", "http://other:pw@h/mcp/", "http://h/mcp/", Redirects),
        ("ws://h/mcp", "/mcp/", "ws://h/mcp/", Redirects),
        ("ws://h/mcp", "http://h/mcp/", "ws://h/mcp/", Redirects),
        ("ws://h:8000/mcp", "ws://h:8000/mcp/?k=v", "ws://h:8000/mcp/?k=v", Redirects),
        ("wss://h/mcp", "https://h:443/mcp/", "wss://h/mcp/", Redirects),
        ("http://h/mcp", "ws://h/mcp/", "http://h/mcp/", Redirects),
        ("wss://h/mcp", "ws://h/mcp/", "wss://h/mcp/", DowngradingRedirect),
        ("wss://h/mcp", "http://h/mcp/", "wss://h/mcp/", DowngradingRedirect),
        ("https://h/mcp", "http://h/mcp/", "https://h/mcp/", DowngradingRedirect),
        ("https://h/mcp", "http://h:80/mcp/?a=b", "https://h/mcp/?a=b", DowngradingRedirect),
        ("https://h:8443/mcp", "http://h/mcp/", "https://h:8443/mcp/", DowngradingRedirect),
    ] {
        assert_eq!(to(base, location), Ok((url.to_owned(), quirk.as_str())), "{base} {location}");
    }
}

#[test]
fn elsewhere_it_is_named() {
    for (base, location, named) in [
        ("http://h/mcp", "http://other:8000/mcp?token=x", "http://other:8000/mcp"),
        ("http://h/mcp", "https://h/mcp", "https://h/mcp"),
        ("http://h/mcp", "http://h:8080/mcp", "http://h:8080/mcp"),
        ("https://h/mcp", "http://h:8080/mcp", "http://h:8080/mcp"),
        ("https://h/mcp", "http://u:secret@other/mcp", "http://other/mcp"),
        ("https://h/mcp", "//other", "https://other/"),
        ("http://h/mcp", "ftp://h/mcp", "ftp://h/mcp"),
        ("ws://h/mcp", "wss://h/mcp", "https://h/mcp"),
        ("ws://h/mcp", "http://h:81/mcp", "http://h:81/mcp"),
        ("wss://h/mcp", "ws://h:81/mcp", "http://h:81/mcp"),
        ("http://h/mcp", "javascript:alert(1)", "javascript:alert(1)"),
        ("http://h/mcp", "\\\\other\\mcp", "http://other/mcp"),
    ] {
        assert_eq!(to(base, location), Err(NotFollowed::OtherOrigin(named.into())), "{base} {location}");
    }
    let error = to("http://h/mcp", "http://other/mcp").unwrap_err().quoted(&Secrets::default());
    assert_eq!(error, "redirects to http://other/mcp, which is not followed: register that URL");
}

#[test]
fn what_leads_nowhere_is_not_followed() {
    let base = Url::parse("http://h/mcp").unwrap();
    assert_eq!(follow(&base, 307, None), Err(NotFollowed::NoLocation));
    assert_eq!(
        follow(&base, 307, Some(b"http://[")),
        Err(NotFollowed::Malformed(b"http://[".to_vec().into()))
    );
    assert_eq!(follow(&base, 307, Some(b"\xff")), Err(NotFollowed::Malformed(b"\xff".to_vec().into())));
    for location in ["", "/mcp", "http://h:80/mcp", "#x"] {
        assert_eq!(to("http://h/mcp", location), Err(NotFollowed::Loop), "{location:?}");
    }
    for status in [300, 301, 302, 303, 304, 305, 307, 308, 200] {
        let followed = follow(&base, status, Some(b"/mcp/")).is_ok();
        assert_eq!(followed, [301, 302, 307, 308].contains(&status), "{status}");
    }
}

#[test]
fn what_may_not_run_twice_is_not_led_to_its_result() {
    let base = Url::parse("http://h/mcp?k=v").unwrap();
    for (status, location, follows) in [
        (307, "/elsewhere", true),
        (308, "/elsewhere", true),
        (301, "/mcp/", true),
        (302, "/mcp/?a=b", true),
        (301, "/elsewhere", false),
        (302, "/mcp/result", false),
    ] {
        let followed = follow(&base, status, Some(location.as_bytes())).unwrap();
        let expected = if follows { Ok(followed.clone()) } else { Err(NotFollowed::ToResult(status)) };
        assert_eq!(followed.unless_it_ran(&base, status), expected, "{status} {location}");
    }
}

proptest! {
    /// No `Location` leads to another origin, nor off TLS.
    #[test]
    fn the_origin_stays(location in "(https?:)?(//)?[a-z@:\\[\\]\\\\.]{0,12}[/?#]?[ -~\t\n]{0,24}", secure: bool) {
        let base = Url::parse(if secure { "https://host:8443/mcp" } else { "http://host/mcp" }).unwrap();
        if let Ok(followed) = follow(&base, 302, Some(location.as_bytes())) {
            prop_assert_eq!(followed.url.origin(), base.origin());
            prop_assert_eq!(followed.url.username(), "");
        }
    }
}
