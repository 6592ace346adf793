//! Decisions on URIs that templates produce: whatever a value holds, what is permitted is what the globs allow, for
//! servers that decode it, resolve it, or both; and it leads to what the caller sees listed.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use proptest::sample::select;

use super::*;

/// What a scope allows, by a glob for everything below it.
const ALLOWED: &str = "http://host/public/";

/// What RFC 6570 encodes in a value.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Decodes percent-encoding once, as servers do: what is none stays.
fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Removes the dot segments of a path (RFC 3986 §5.2.4), where backslashes may be slashes.
fn resolved(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split(['/', '\\']) {
        match segment {
            "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    segments.join("/")
}

/// Returns whether every server finds `uri` below what is allowed.
fn stays_below(uri: &str) -> bool {
    let mut text = uri.to_owned();
    for _ in 0..6 {
        let path = text.strip_prefix("http://host").map(resolved);
        // A server may take a query or fragment for a part of the path, or ignore it.
        let path = path.filter(|path| path.starts_with("/public/"));
        let ignored = text.split(['?', '#']).next().unwrap_or_default();
        if path.is_none() || text.contains('\0') || !ignored.starts_with(ALLOWED) {
            return false;
        }
        text = decoded(&text);
    }
    // Browsers, and the URL classes of most languages, resolve while they parse.
    url::Url::parse(uri).is_ok_and(|url| url.as_str().starts_with(ALLOWED))
}

/// A value of pieces with which people escape prefixes.
fn hostile() -> impl Strategy<Value = String> {
    let pieces = vec![
        "..",
        ".",
        "/",
        "//",
        "\\",
        "%2e",
        "%2E",
        "%2f",
        "%2F",
        "%5c",
        "%5C",
        "%25",
        "%252e",
        "%252F",
        "%00",
        "\0",
        "%c0%ae",
        "%C0%AF",
        "%E0%80%AE",
        "?",
        "#",
        ";",
        "&",
        "=",
        ":",
        "@",
        "public",
        "secret",
        "a",
        "%20",
        " ",
        "\t",
        "\u{ff0e}",
        "%EF%BC%8E",
        "%EF%BC%8F",
        "\u{2025}",
        "é",
        "%C3%A9",
        "%",
        "2e",
        "%u002e",
        "host",
        "http:",
        "{",
        "*",
    ];
    vec(select(pieces), 0..7).prop_map(|pieces| pieces.concat())
}

fn server(templates: &[&str], globs: &[&str]) -> Arc<Snapshot> {
    let set = templates.iter().map(|template| (*template).to_owned()).collect();
    let globs: Vec<String> = globs.iter().map(|glob| (*glob).to_owned()).collect();
    snapshot(&Names { templates: set, ..Names::default() }, vec![token("t", &globs)])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_048))]

    /// No value of a variable leads out of a prefix that a scope allows.
    #[test]
    fn no_value_leads_out_of_what_is_allowed(value in hostile(), rest in hostile()) {
        let templates =
            ["http://host/{+path}", "http://host/public/{name}", "http://{+all}", "http://host/{dir}/{+path}", "{+any}"];
        let (snapshot, principal) = (server(&templates, &["http://host/public/*"]), principal("t", None));
        let caller = admit(&snapshot, &principal, "dev", facts()).unwrap();
        for uri in [
            format!("http://host/public/{value}"),
            format!("http://host/{value}/{rest}"),
            format!("http://host{value}"),
            format!("http://host/public/{value}{rest}"),
        ] {
            if let Ok(permit) = check(&caller, Method::ResourcesRead, &NamedTarget::of(TargetKind::Resource, &uri)) {
                prop_assert!(uri.starts_with(ALLOWED) && stays_below(&uri), "{uri:?}");
                prop_assert_eq!(permit.original(), &*uri);
            }
        }
    }

    /// A value that is encoded as RFC 6570 says is permitted, unless it holds what no URI may hold.
    #[test]
    fn values_that_hold_no_separators_are_permitted(value in "[^/\\\\\\x00-\\x1f\\x7f-\\x9f%]{1,12}") {
        let (snapshot, principal) = (server(&["http://host/{+path}"], &["http://host/public/*"]), principal("t", None));
        let caller = admit(&snapshot, &principal, "dev", facts()).unwrap();
        let encoded = percent_encoding::utf8_percent_encode(&value, RESERVED).to_string();
        let uri = format!("http://host/public/a{encoded}");
        // A dot segment may follow one of the separators of parameters.
        let is_plain = value.chars().all(|character| character.is_alphanumeric() || " -_~".contains(character));
        let permitted = check(&caller, Method::ResourcesRead, &NamedTarget::of(TargetKind::Resource, &uri)).is_ok();
        prop_assert!(permitted || !is_plain, "{uri:?}");
    }
}

fn permitted(names: &Names, globs: &[&str], uri: &str) -> Result<String, Denied> {
    let globs: Vec<String> = globs.iter().map(|glob| (*glob).to_owned()).collect();
    let (snapshot, principal) = (snapshot(names, vec![token("t", &globs)]), principal("t", None));
    let caller = admit(&snapshot, &principal, "dev", facts()).unwrap();
    check(&caller, Method::ResourcesRead, &NamedTarget::of(TargetKind::Resource, uri))
        .map(|permit| permit.entry().exposed.to_string())
}

#[test]
fn a_uri_leads_to_what_is_listed_first_and_the_more_specific_template_first() {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let names = Names {
        uris: set(&["x:ab", "x:a b"]),
        templates: set(&["x:{v}", "x:a{v}", "x:{+v}", "x:{v}c"]),
        ..Names::default()
    };
    for (globs, uri, expected) in [
        (&["*"][..], "x:ab", Ok("x:ab")),
        (&["*"], "x:a b", Ok("x:a b")),
        (&["*"], "x:a", Ok("x:a{v}")),
        (&["*"], "x:abc", Ok("x:a{v}")),
        (&["*"], "x:bc", Ok("x:{v}c")),
        (&["*"], "x:b", Ok("x:{v}")),
        (&["*"], "x:b/c", Ok("x:{+v}")),
        // Listed alone is what the caller sees, so it is what it gets.
        (&["x:{v}"], "x:abc", Ok("x:{v}")),
        (&["x:{v}"], "x:ab", Ok("x:{v}")),
        (&["x:{+v}", "x:a*"], "x:bc", Ok("x:{+v}")),
        (&["x:{v}c"], "x:abc", Ok("x:{v}c")),
        // None is listed: the most specific one.
        (&["x:bc"], "x:bc", Ok("x:{v}c")),
        (&["x:{v}"], "x:b/c", Err(Denied::OutOfScope)),
        (&["x:{v}"], "x:a b", Err(Denied::NotCanonical(mcp::uri::NotCanonical::Character(' ')))),
        (&["x:b"], "x:ab", Err(Denied::OutOfScope)),
    ] {
        let expected = expected.map(str::to_owned);
        assert_eq!(permitted(&names, globs, uri), expected, "{globs:?} {uri}");
    }
}

#[test]
fn what_a_server_lists_is_used_as_it_is_listed() {
    let uris = ["memo://a b", "urn:x:y", "file:///C:/a/../b", "x:é", "x:%2e%2e/%00"];
    let names = Names {
        uris: uris.into_iter().map(str::to_owned).collect(),
        templates: ["file:///{+path}".to_owned()].into(),
        ..Names::default()
    };
    for uri in uris {
        for glob in ["*", uri] {
            assert_eq!(permitted(&names, &[glob], uri), Ok(uri.to_owned()), "{glob} {uri}");
        }
        assert!(permitted(&names, &["file:///public/*", "file:///C:/a/*", "x:%*"], uri).is_err(), "{uri}");
    }
}

/// What a view says that a template reaches is never less than what is permitted.
#[test]
fn a_view_reaches_the_templates_that_produce_what_is_allowed() {
    for (globs, expected) in [
        (&["x:a/*"][..], 1),
        (&["*/b"], 1),
        (&["x:a"], 1),
        (&["y:*"], 0),
        (&["x:a#*b"], 1),
        (&["x:{v}"], 1),
        (&[], 0),
    ] {
        let (snapshot, principal) = (server(&["x:{+v}"], globs), principal("t", None));
        let caller = admit(&snapshot, &principal, "dev", facts()).unwrap();
        assert_eq!(caller.view().readable_upstreams().len(), expected, "{globs:?}");
    }
}

/// A scope and a client may name `ui://u/…` as `u+ui://…`, as it was before that scheme was kept.
#[test]
fn the_former_names_of_uris_allow_and_find_the_same() {
    let names = Names {
        uris: ["ui://w/1", "docs://a"].map(str::to_owned).into(),
        templates: ["ui://p/{id}"].map(str::to_owned).into(),
        ..Names::default()
    };
    let read = |glob: &str, uri: &str| {
        let mut made = resources(&names, vec![token("t", &[glob.to_owned()])]);
        let server = &mut made.servers[0];
        for entry in server.resources.iter_mut().chain(&mut server.resource_templates) {
            entry.exposed_name = mcp::uri::naming::expose("u+", &entry.exposed_name);
            entry.uri_prefix = "u+".into();
        }
        let (snapshot, refusals) = compile(&made);
        assert_eq!(refusals, []);
        let principal = principal("t", None);
        let caller = admit(&snapshot, &principal, "dev", facts()).unwrap();
        check(&caller, Method::ResourcesRead, &NamedTarget::of(TargetKind::Resource, uri))
            .map(|permit| permit.original().to_owned())
    };
    for (glob, uri, original) in [
        ("u+*", "ui://u/w/1", "ui://w/1"),
        ("u+ui://w/*", "ui://u/w/1", "ui://w/1"),
        ("u+ui://w/1", "ui://u/w/1", "ui://w/1"),
        ("ui://u/*", "u+ui://w/1", "ui://w/1"),
        ("u+ui://p/*", "ui://u/p/7", "ui://p/7"),
        ("ui://u/p/*", "u+ui://p/7", "ui://p/7"),
        ("u+ui://p/7", "u+ui://p/7", "ui://p/7"),
        ("u+docs://*", "u+docs://a", "docs://a"),
    ] {
        assert_eq!(read(glob, uri).as_deref().ok(), Some(original), "{glob} {uri}");
    }
    for (glob, uri) in [
        ("u+ui://w/*", "ui://u/p/7"),
        ("u+ui://p/*", "ui://u/w/1"),
        ("ui://w/*", "ui://u/w/1"),
        ("*", "other+ui://w/1"),
        ("*", "ui://w/1"),
        ("u+ui://p/*", "ui://u/p/%2e%2e%2fw"),
    ] {
        assert!(read(glob, uri).is_err(), "{glob} {uri}");
    }
}

proptest! {
    /// The index finds what a look at each template finds, in the same order.
    #[test]
    fn every_template_that_may_have_produced_a_uri_is_found_in_order(
        templates in btree_set("x:[ab]{0,3}(\\{[+?/]?v\\}[ab]{0,2}){1,2}", 0..12),
        uri in "x:[ab/?]{0,6}",
    ) {
        let templates: Vec<&str> = templates.iter().map(|template| &**template).collect();
        let snapshot = server(&templates, &["*"]);
        let server = snapshot.servers.get("dev").unwrap();
        let template = |at: usize| UriTemplate::new(&server.resource_templates.entries[at].exposed);
        let found = server.templates_to_match(&uri);
        let all = 0..templates.len();
        let mut expected: Vec<usize> = all.clone().filter(|at| uri.starts_with(template(*at).fixed())).collect();
        expected.sort_by_key(|at| template(*at).generality());
        prop_assert_eq!(&found, &expected);
        for at in all {
            prop_assert!(found.contains(&at) || !template(at).matches(&uri), "{}", templates[at]);
        }
    }
}
