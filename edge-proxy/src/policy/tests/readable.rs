//! The URIs by which what an upstream mentions can be read: which they are, and how much is compared to find them.

use super::super::readable::MAX_STEPS;
use super::*;

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Exposes everything under `u+`, but for resources of which `aliases` has another name.
fn renamed(names: &Names, globs: &[&str], aliases: &[(&str, &str)]) -> Arc<Snapshot> {
    let globs: Vec<String> = globs.iter().map(|glob| (*glob).to_owned()).collect();
    let mut made = resources(names, vec![token("t", &globs)]);
    let server = &mut made.servers[0];
    for entry in server.resources.iter_mut().chain(&mut server.resource_templates) {
        match aliases.iter().find(|(own, _)| *own == entry.exposed_name) {
            Some((_, alias)) => entry.exposed_name = (*alias).to_owned(),
            None => {
                entry.exposed_name = mcp::uri::naming::expose("u+", &entry.exposed_name);
                entry.uri_prefix = "u+".into();
            }
        }
    }
    let (snapshot, refusals) = compile(&made);
    assert_eq!(refusals, []);
    snapshot
}

/// Finds each of `uris` in one message; with the steps that it took.
fn find(snapshot: &Snapshot, uris: &[String]) -> (Vec<Option<Box<str>>>, usize) {
    let principal = principal("t", None);
    let caller = admit(snapshot, &principal, "dev", facts()).unwrap();
    let upstream = Arc::clone(&snapshot.upstreams["u"]);
    let mut readable = ReadableUris::new(Arc::clone(caller.view()), &upstream);
    let found = uris.iter().map(|uri| readable.find(uri)).collect();
    (found, readable.steps())
}

#[test]
fn what_the_caller_may_read_is_found_under_each_kind_of_name() {
    let names = Names {
        uris: set(&["docs://a", "docs://b", "ui://w/1", "docs://hidden"]),
        templates: set(&["memo://{id}", "ui://p/{id}"]),
        ..Names::default()
    };
    let globs = ["u+docs://a", "handbook", "ui://u/*", "u+memo://*"];
    let snapshot = renamed(&names, &globs, &[("docs://b", "handbook")]);
    for (own, exposed) in [
        ("docs://a", Some("u+docs://a")),
        ("docs://b", Some("handbook")),
        ("ui://w/1", Some("ui://u/w/1")),
        ("memo://7", Some("u+memo://7")),
        ("ui://p/7", Some("ui://u/p/7")),
        ("memo://7/8", None),
        ("docs://hidden", None),
        ("docs://elsewhere", None),
        // What is exposed is not what the upstream says.
        ("u+docs://a", None),
        ("handbook", None),
    ] {
        let (found, _) = find(&snapshot, &[own.to_owned()]);
        assert_eq!(found, [exposed.map(Box::from)], "{own}");
    }
}

/// Links are not compared with templates that begin otherwise, however many there are.
#[test]
fn the_work_for_links_does_not_grow_with_templates() {
    let uris: Vec<String> = (0..255).map(|n| format!("docs://x{n}/a")).chain(["docs://7/a".into()]).collect();
    let steps = |templates: usize| {
        let templates = (0..templates).map(|n| format!("docs://{n}/{{a}}")).collect();
        let snapshot = renamed(&Names { templates, ..Names::default() }, &["*"], &[]);
        let (found, steps) = find(&snapshot, &uris);
        assert_eq!(found.iter().flatten().map(|uri| &**uri).collect::<Vec<_>>(), ["u+docs://7/a"]);
        steps
    };
    assert_eq!(steps(400), steps(8));
    assert!(steps(400) < 2 * uris.len(), "{} steps", steps(400));
}

/// Templates that all begin as the links do, and which the caller may not use, take what a message has, and no more.
#[test]
fn what_is_compared_for_one_message_has_a_bound() {
    let nested = (0..400).map(|n| format!("docs://{}{{+a}}", "a".repeat(n)));
    let names = Names { templates: nested.collect(), uris: set(&["docs://listed"]), ..Names::default() };
    let snapshot = renamed(&names, &["u+docs://{+a}", "u+docs://listed"], &[]);
    let links = (0..1_000).map(|n| format!("docs://{}{n}", "a".repeat(500)));
    let uris: Vec<String> = links.chain(["docs://listed".into()]).collect();
    let (found, steps) = find(&snapshot, &uris);
    assert!(found[0].is_some(), "as long as there is time");
    assert!(found[uris.len() - 2].is_none());
    assert!(steps <= MAX_STEPS, "{steps} steps");
    assert_eq!(found[uris.len() - 1].as_deref(), Some("u+docs://listed"), "what is listed needs no time");
}
