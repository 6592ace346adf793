//! Servers that are odd and can be used: what they plainly mean is taken, and named.

use std::sync::Mutex;
use std::time::Duration;

use http::HeaderValue;
use mcp::client::{ClientError, Endpoint, Findings, Listing, ProbeError, Session, Transport, probe};
use mcp::method::Method;
use mcp::revision::Revision;

use crate::scripted_server::{
    Answer, Asked, SILENCE, ScriptedServer, events, info, json, quirk_names, stalling, text,
};

/// For anything that must happen: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

async fn open(server: &ScriptedServer) -> Session {
    let endpoint = Endpoint { timeout: PATIENCE, ..server.endpoint.clone() };
    Session::open(&endpoint, Transport::StreamableHttp, Revision::LATEST_LEGACY, info()).await.unwrap()
}

/// What is listed where `page` answers to the cursors, raw, in turn; and the quirks.
async fn listed(
    page: impl Fn(Option<&str>, &Asked) -> Answer + Send + Sync + 'static,
) -> (Listing, Vec<&'static str>, usize) {
    let server = ScriptedServer::start(move |asked| {
        asked.handshake().unwrap_or_else(|| {
            let params = mcp::message::Envelope::parse(asked.body.as_bytes()).unwrap().params.unwrap();
            let [cursor] = mcp::json::members(params, ["cursor"]).unwrap();
            page(cursor, asked)
        })
    })
    .await;
    let session = open(&server).await;
    let listing = session.list(Method::ToolsList, 100).await;
    let pages = server.asked().iter().filter(|asked| asked.is("tools/list")).count();
    (listing, quirk_names(&session.quirks()), pages)
}

/// A page with the tools of these names.
fn page(names: &str, next: &str) -> String {
    let tools: Vec<_> = names.chars().map(|name| format!(r#"{{"name":"{name}"}}"#)).collect();
    format!(r#"{{"tools":[{}]{next}}}"#, tools.join(","))
}

/// The first letters of what is listed.
fn names(listing: &Listing) -> String {
    listing.entries.iter().filter_map(|raw| raw.chars().nth(9)).collect()
}

#[tokio::test]
async fn pages_that_do_not_end_are_kept() {
    let count = Mutex::new(0);
    let number = move || {
        let mut count = count.lock().unwrap();
        *count += 1;
        *count
    };
    /// What it is about, what is listed, the trouble, the quirks.
    type Expected = (&'static str, &'static str, Option<&'static str>, &'static [&'static str]);
    type Page = Box<dyn Fn(Option<&str>, &Asked) -> Answer + Send + Sync>;
    let always = |names: &'static str, next: &'static str| -> Page {
        Box::new(move |_, asked| json(200, asked.result(&page(names, next))))
    };
    let then = |next: &'static str, second: fn(&Asked) -> Answer| -> Page {
        Box::new(move |cursor, asked| match cursor {
            None => json(200, asked.result(&page("a", &format!(r#","nextCursor":{next}"#)))),
            Some(cursor) => {
                assert_eq!(cursor, next, "a cursor is sent as it came");
                second(asked)
            }
        })
    };
    let b: fn(&Asked) -> Answer = |asked| json(200, asked.result(&page("b", "")));
    let invalid: fn(&Asked) -> Answer = |asked| {
        let error = r#""error":{"code":-32602,"message":"Invalid cursor"}"#;
        json(200, format!(r#"{{"jsonrpc":"2.0","id":{},{error}}}"#, asked.id()))
    };
    let broken: fn(&Asked) -> Answer = |_| text(500, "");
    let invalid_cursor = Some("error -32602: Invalid cursor");
    let twice = Some("the server returned the same page of tools/list twice");
    let loops: &'static [&'static str] = &["paging-loops"];
    let nulls: &'static [&'static str] = &["null-members"];
    let cases: [(Expected, Page); 17] = [
        (("no cursor", "ab", None, &[]), always("ab", "")),
        (("null", "ab", None, nulls), always("ab", r#","nextCursor":null"#)),
        (("false", "ab", None, nulls), always("ab", r#","nextCursor":false"#)),
        (("an empty list", "ab", None, nulls), always("ab", r#","nextCursor":[]"#)),
        (("an empty object", "ab", None, nulls), always("ab", r#","nextCursor":{ }"#)),
        (("an empty cursor for the end", "a", None, loops), always("a", r#","nextCursor":"""#)),
        (("an empty list and an empty cursor", "", None, loops), always("", r#","nextCursor":"""#)),
        (("the same cursor", "ab", None, loops), always("ab", r#","nextCursor":"b""#)),
        (("the same cursor without entries", "", twice, &[]), always("", r#","nextCursor":"b""#)),
        (
            ("new cursors for ever", "ab", None, loops),
            Box::new(move |_, asked| {
                json(200, asked.result(&page("ab", &format!(r#","nextCursor":"{}""#, number()))))
            }),
        ),
        (("an empty cursor that leads on", "ab", None, &[]), then(r#""""#, b)),
        (("an empty cursor that is none", "a", None, loops), then(r#""""#, invalid)),
        (("an empty cursor that breaks the server", "a", None, loops), then(r#""""#, broken)),
        (("a number that is none", "a", None, loops), then("0", broken)),
        (("a word that is none", "a", None, loops), then(r#""null""#, invalid)),
        (("a number that may be one", "a", Some("HTTP 500: no text"), &[]), then("2", broken)),
        (("a number", "ab", None, &[]), then("2", b)),
    ];
    for ((case, expected, trouble, quirks), page) in cases {
        let (listing, met, pages) = listed(page).await;
        assert_eq!(names(&listing), expected, "{case}");
        assert_eq!(listing.trouble.map(|error| error.to_string()).as_deref(), trouble, "{case}");
        assert_eq!(met, quirks, "{case}");
        assert!(pages <= 6, "{case}: {pages} pages");
    }
    let (listing, _, _) = listed(then(r#""x""#, invalid)).await;
    assert_eq!(names(&listing), "a", "what came before an error");
    assert_eq!(listing.trouble.map(|error| error.to_string()).as_deref(), invalid_cursor);
}

#[tokio::test]
async fn lists_of_other_shapes_are_empty_or_say_what_they_are() {
    for (result, quirk, trouble) in [
        ("null", true, None),
        ("[]", true, None),
        ("{}", true, None),
        (r#"{"tools":null}"#, true, None),
        (r#"{"tools":{ }}"#, true, None),
        (r#"{"other":1}"#, true, None),
        (r#"{"tools":[]}"#, false, None),
        (r#"{"tools":{"a":1}}"#, false, Some("\"tools\" is an object instead of a list")),
        (r#"{"tools":"none"}"#, false, Some("\"tools\" is a text instead of a list")),
        (r#""none""#, false, Some("the result is a text instead of an object")),
        (r#"[1]"#, false, Some("the result is a list instead of an object")),
        (r#"{"isError":true,"content":[]}"#, false, Some("the result says that it is an error")),
    ] {
        let (listing, quirks, _) = listed(move |_, asked| json(200, asked.result(result))).await;
        assert!(listing.entries.is_empty(), "{result}");
        // A list that is a result is odd in itself.
        let met = ["list-shape", "null-members"];
        let met = if result == "[]" { &met[..] } else { &met[..usize::from(quirk)] };
        assert_eq!(quirks, met, "{result}");
        let says = listing.trouble.map(|error| error.to_string());
        match trouble {
            None => assert_eq!(says, None, "{result}"),
            Some(part) => {
                assert!(says.as_ref().is_some_and(|says| says.contains(part)), "{result}: {says:?}")
            }
        }
    }
}

#[tokio::test]
async fn entries_are_found_in_lists_of_other_shapes() {
    let (a, b) = (r#"{"name":"a"}"#, r#"{"name":"b","x":{"name":1}}"#);
    for (tools, expected) in [
        (format!(r#"{{"0":{a},"2":{b}}}"#), "ab"),
        (format!(r#"{{"first":{a},"name":{b}}}"#), "ab"),
        (b.to_owned(), "b"),
        (format!("[[{a},{b}]]"), "ab"),
        (format!("[ [{a}] ]"), "a"),
    ] {
        let result = format!(r#"{{"tools":{tools}}}"#);
        let (listing, quirks, _) = listed(move |_, asked| json(200, asked.result(&result))).await;
        assert_eq!((names(&listing).as_str(), listing.trouble), (expected, None), "{tools}");
        assert_eq!(quirks, ["list-shape"], "{tools}");
    }
}

#[tokio::test]
async fn a_server_that_refuses_initialized_or_has_odd_capabilities_is_used() {
    for (refusal, capabilities, expected) in [
        (Some(400), r#""capabilities":{}"#, vec!["refuses-initialized"]),
        (Some(404), r#""capabilities":{}"#, vec!["refuses-initialized"]),
        (Some(405), r#""capabilities":{}"#, vec!["refuses-initialized"]),
        (Some(500), r#""capabilities":{}"#, vec!["refuses-initialized"]),
        (None, r#""capabilities":null"#, vec!["capabilities-shape"]),
        (None, r#""capabilities":["tools"]"#, vec!["capabilities-shape"]),
        (None, r#""x":1"#, vec!["capabilities-shape"]),
        (None, r#""capabilities":{}"#, vec![]),
    ] {
        let server = ScriptedServer::start(move |asked| match asked.is("initialize") {
            true => json(200, asked.result(&format!(r#"{{"protocolVersion":"2025-06-18",{capabilities}}}"#))),
            false if asked.is("notifications/initialized") => text(refusal.unwrap_or(202), ""),
            false => json(200, asked.result("{}")),
        })
        .await;
        let session = open(&server).await;
        assert_eq!(session.server().capabilities, "{}");
        assert_eq!(session.request("ping", "{}").await.as_deref(), Ok("{}"));
        assert_eq!(quirk_names(&session.quirks()), expected, "{refusal:?} {capabilities}");
    }
}

/// The revisions that are offered to a server that refuses all but `own`, and what came of it.
async fn offered(own: &'static str, refusal: fn(&Asked) -> Answer) -> (Vec<String>, Findings) {
    let server = ScriptedServer::start(move |asked| {
        let right = asked.body.contains(&format!(r#""protocolVersion":"{own}""#));
        match asked.is("initialize") {
            true if right => {
                json(200, asked.result(&format!(r#"{{"protocolVersion":"{own}","capabilities":{{}}}}"#)))
            }
            true => refusal(asked),
            false if asked.is("server/discover") => text(404, ""),
            false => json(202, ""),
        }
    })
    .await;
    let findings = probe(&server.endpoint, &info()).await;
    let asked = server.asked();
    let offers = asked.iter().filter(|asked| asked.is("initialize")).map(|asked| {
        let at = asked.body.find("\"protocolVersion\":\"").unwrap() + 19;
        asked.body[at..at + 10].to_owned()
    });
    (offers.collect(), findings)
}

#[tokio::test]
async fn a_server_that_refuses_newer_revisions_is_offered_those_that_it_names_or_older_ones() {
    let with_data: fn(&Asked) -> Answer = |asked| {
        let data = r#"{"supported":["2024-11-05","2025-03-26"],"requested":"2025-11-25"}"#;
        let error = format!(r#"{{"code":-32602,"message":"Unsupported protocol version","data":{data}}}"#);
        json(200, format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, asked.id()))
    };
    let with_text: fn(&Asked) -> Answer = |_| {
        text(400, "Bad Request: Unsupported protocol version (supported versions: 2025-03-26, 2024-11-05)")
    };
    let mute: fn(&Asked) -> Answer = |asked| {
        let error = r#"{"code":-32600,"message":"Unsupported MCP protocol version: 2025-11-25"}"#;
        json(200, format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, asked.id()))
    };
    for (own, refusal, expected) in [
        ("2025-03-26", with_data, vec!["2025-11-25", "2025-03-26"]),
        ("2025-03-26", with_text, vec!["2025-11-25", "2025-03-26"]),
        ("2024-11-05", mute, vec!["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"]),
    ] {
        let (offers, findings) = offered(own, refusal).await;
        assert_eq!(offers, expected);
        assert_eq!(findings.verdict.unwrap().legacy.unwrap().version.as_str(), own);
        assert_eq!(quirk_names(&findings.quirks), ["refuses-newer-versions"]);
    }
    // What is about something else is not tried again, and what is refused to the end says what was refused first.
    let other: fn(&Asked) -> Answer = |asked| {
        let error = r#"{"code":-32000,"message":"no room"}"#;
        json(200, format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, asked.id()))
    };
    let (offers, findings) = offered("1999-01-01", other).await;
    assert_eq!(
        (offers.len(), findings.verdict.unwrap_err().to_string().as_str()),
        (1, "error -32000: no room")
    );
    let foreign: fn(&Asked) -> Answer = |asked| {
        let error =
            r#"{"code":-32602,"message":"Unsupported protocol version","data":{"supported":["2099-01-01"]}}"#;
        json(200, format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, asked.id()))
    };
    assert_eq!(offered("1999-01-01", foreign).await.0, ["2025-11-25"]);
    let (offers, findings) = offered("1999-01-01", mute).await;
    assert_eq!((offers.len(), findings.quirks), (4, vec![]));
    assert!(matches!(findings.verdict, Err(ProbeError::Protocol(why)) if why.contains("2025-11-25")));
}

/// An error that refuses a revision, or a text, with this status.
type RevisionRefusal = fn(&Asked, &str) -> Answer;

/// A server that agrees to every revision, gives out a session for each, and takes requests of `own` ones only.
fn agreeing(
    own: &'static [&'static str],
    refusal: RevisionRefusal,
) -> impl Fn(&Asked) -> Answer + Send + Sync {
    move |asked| {
        if asked.is("initialize") {
            let params = mcp::message::Envelope::parse(asked.body.as_bytes()).unwrap().params.unwrap();
            let [version] = mcp::json::members(params, ["protocolVersion"]).unwrap();
            let result = format!(r#"{{"protocolVersion":{},"capabilities":{{}}}}"#, version.unwrap());
            let (status, mut headers, body) = json(200, asked.result(&result));
            headers.push(("mcp-session-id", version.unwrap().replace('"', "")));
            return (status, headers, body);
        }
        let version = asked.headers.get("mcp-protocol-version").map(|value| value.to_str().unwrap());
        match (asked.verb.as_str(), version) {
            (_, Some(version)) if !own.contains(&version) => refusal(asked, version),
            ("DELETE", _) => json(204, ""),
            _ if asked.is("notifications/initialized") => json(202, ""),
            _ => json(200, asked.result(&page("a", ""))),
        }
    }
}

#[tokio::test]
async fn a_revision_that_was_agreed_to_and_is_refused_afterwards_is_agreed_on_anew() {
    fn error(asked: &Asked, status: u16, error: &str) -> Answer {
        let id = if asked.body.contains("\"id\":") { asked.id() } else { "null".to_owned() };
        json(status, format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{{error}}}}}"#))
    }
    const LISTS: &str =
        "Bad Request: Unsupported protocol version (supported versions: 2025-03-26, 2025-06-18)";
    const TWO: &[&str] = &["2025-03-26", "2025-06-18"];
    const OLDEST: &[&str] = &["2024-11-05"];
    let newest_known = vec!["2025-11-25", "2025-06-18"];
    let all = vec!["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
    let cases: [(&str, &'static [&'static str], RevisionRefusal, Vec<&str>); 7] = [
        (
            "an error that lists",
            TWO,
            |a, _| error(a, 400, &format!(r#""code":-32000,"message":"{LISTS}""#)),
            newest_known.clone(),
        ),
        ("a text that lists", TWO, |_, _| text(400, LISTS), newest_known.clone()),
        (
            "a text that lists nothing",
            OLDEST,
            |_, _| text(400, "Unsupported MCP-Protocol-Version"),
            all.clone(),
        ),
        ("another status", OLDEST, |_, _| text(415, "unknown protocol version"), all),
        (
            "data that lists",
            TWO,
            |a, _| {
                let data = r#""data":{"supported":["2025-03-26","2025-06-18"]}"#;
                error(a, 400, &format!(r#""code":-32602,"message":"Unsupported protocol version",{data}"#))
            },
            newest_known.clone(),
        ),
        (
            "errors under 200",
            TWO,
            |a, v| error(a, 200, &format!(r#""code":-32600,"message":"Unsupported protocol version {v}""#)),
            newest_known.clone(),
        ),
        (
            "notifications are taken without a look",
            TWO,
            |a, _| match a.is("notifications/initialized") {
                true => json(202, ""),
                false => error(a, 400, &format!(r#""code":-32602,"message":"{LISTS}""#)),
            },
            newest_known,
        ),
    ];
    for (case, own, refusal, expected) in cases {
        let server = ScriptedServer::start(agreeing(own, refusal)).await;
        let findings = probe(&server.endpoint, &info()).await;
        let version = findings.verdict.unwrap().legacy.unwrap().version;
        assert_eq!(Some(&version.as_str()), expected.last(), "{case}");
        assert!(quirk_names(&findings.quirks).contains(&"refuses-newer-versions"), "{case}");
        let asked = server.asked();
        let sessions: Vec<&str> = asked
            .iter()
            .filter(|asked| asked.verb == "DELETE")
            .map(|asked| asked.headers["mcp-session-id"].to_str().unwrap())
            .collect();
        assert_eq!(sessions, expected, "{case}: each session is ended");
        assert_eq!(asked.iter().filter(|asked| asked.is("initialize")).count(), expected.len(), "{case}");
        // What the probe has found is taken at once.
        let session =
            Session::open(&server.endpoint, Transport::StreamableHttp, version, info()).await.unwrap();
        assert_eq!(names(&session.list(Method::ToolsList, 9).await), "a", "{case}");
    }
}

#[tokio::test]
async fn a_server_that_takes_no_revision_says_so_and_one_that_speaks_of_versions_is_not_offered_others() {
    let refusal: RevisionRefusal =
        |_, version| text(400, &format!("Unsupported protocol version: {version}"));
    let server = ScriptedServer::start(agreeing(&[], refusal)).await;
    let findings = probe(&server.endpoint, &info()).await;
    let error = findings.verdict.unwrap_err().to_string();
    assert!(error.contains("Unsupported protocol version: 2025-11-25"), "{error}");
    assert_eq!(server.asked().iter().filter(|asked| asked.is("initialize")).count(), 4);
    // `notifications/initialized` is refused with such words, and nothing else.
    let server = ScriptedServer::start(|asked| match asked.is("notifications/initialized") {
        true => text(400, "protocol version 1 has no notifications"),
        false => agreeing(&["2025-11-25"], |_, _| text(400, ""))(asked),
    })
    .await;
    let findings = probe(&server.endpoint, &info()).await;
    assert_eq!(findings.verdict.unwrap().legacy.unwrap().version, Revision::V2025_11_25);
    assert_eq!(quirk_names(&findings.quirks), ["refuses-initialized"]);
    // A session in which the revision is refused later is not called lost.
    let server =
        ScriptedServer::start(|asked| match asked.is("initialize") || asked.body.contains("notif") {
            true => agreeing(&["2025-11-25"], |_, _| text(400, ""))(asked),
            false => text(400, "Unsupported protocol version"),
        })
        .await;
    let trouble = open(&server).await.list(Method::ToolsList, 9).await.trouble.unwrap();
    assert_eq!(trouble.to_string(), "HTTP 400: Unsupported protocol version");
    assert!(!server.asked().iter().any(|asked| asked.is("ping")));
}

#[tokio::test]
async fn revisions_are_read_as_what_they_can_only_mean() {
    for (said, expected) in [
        (" 2025-06-18 ", Ok(Revision::V2025_06_18)),
        ("2024-10-07", Ok(Revision::V2024_11_05)),
        ("2026-07-28", Err("2026-07-28")),
        ("2025-06", Err("2025-06")),
    ] {
        let server = ScriptedServer::start(move |asked| match asked.is("initialize") {
            true => {
                json(200, asked.result(&format!(r#"{{"protocolVersion":"{said}","capabilities":{{}}}}"#)))
            }
            false => json(202, ""),
        })
        .await;
        let opened =
            Session::open(&server.endpoint, Transport::StreamableHttp, Revision::LATEST_LEGACY, info()).await;
        let found = opened.map(|session| session.revision());
        assert_eq!(found, expected.map_err(|offered| ClientError::Version { offered: offered.to_owned() }));
    }
}

#[tokio::test]
async fn a_server_that_describes_itself_at_length_is_used_and_its_texts_are_cut() {
    for (capabilities, name, version, instructions, long) in [
        (65_536, 1_024, 1_024, 65_536, false),
        (65_537, 0, 0, 0, true),
        (24, 1_025, 0, 0, true),
        (24, 1, 1_026, 0, true),
        (24, 0, 0, 300_000, true),
    ] {
        // Two bytes each: a cut must not go through one.
        let text = |bytes: usize| "é".repeat(bytes / 2) + &"x".repeat(bytes % 2);
        let said = format!(
            r#""capabilities":{{"tools":{{}},"x":"{}"}},"instructions":"{}""#,
            "x".repeat(capabilities - 19),
            text(instructions)
        );
        let own = format!(r#"{{"name":"{}","version":"{}"}}"#, text(name), text(version));
        let server = ScriptedServer::start(move |asked| {
            let result = match (asked.is("server/discover"), asked.is("initialize")) {
                (true, _) => format!(
                    r#"{{"supportedVersions":["2026-07-28"],{said},"_meta":{{"io.modelcontextprotocol/serverInfo":{own}}}}}"#
                ),
                (_, true) => format!(r#"{{"protocolVersion":"2025-06-18",{said},"serverInfo":{own}}}"#),
                _ => return json(202, ""),
            };
            json(200, asked.result(&result))
        })
        .await;
        let findings = probe(&server.endpoint, &info()).await;
        assert_eq!(quirk_names(&findings.quirks), ["long-self-description"][..usize::from(long)]);
        let found = findings.verdict.unwrap();
        assert_eq!(found.server_name.len(), name.min(1_024));
        assert_eq!(found.server_version.len(), version.min(1_024));
        assert_eq!(found.instructions.map(|text| text.len()), Some(instructions.min(65_536)));
        for kept in [found.modern.unwrap().capabilities, found.legacy.unwrap().capabilities] {
            assert!(kept.starts_with(r#"{"tools":{}"#) && kept.len() <= 65_536, "{}", kept.len());
            assert_eq!(kept.contains("\"x\""), capabilities <= 65_536);
        }
    }
}

#[tokio::test]
async fn what_refuses_server_discover_does_not_keep_initialize_from_being_tried() {
    let error = |code: i64| format!(r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":{code},"message":"no"}}}}"#);
    let mut answers: Vec<(u16, String)> =
        [401, 403, 404, 411, 429, 500, 502, 503, 504, 530].map(|status| (status, "no".to_owned())).into();
    answers.extend([-32020, -32021, -32022, -32601].map(|code| (400, error(code))));
    for (status, body) in answers {
        let said = body.clone();
        let server = ScriptedServer::start(move |asked| match asked.is("server/discover") {
            true => json(status, said.clone()),
            false => asked.handshake().unwrap_or_else(|| json(200, asked.result("{}"))),
        })
        .await;
        let found = probe(&server.endpoint, &info()).await.verdict;
        assert!(found.is_ok_and(|found| found.legacy.is_some()), "{status} {body}");
    }
}

#[tokio::test]
async fn the_url_of_a_stream_is_found_however_a_post_to_it_is_refused() {
    fn posted(status: u16, body: &'static str) -> Post {
        Box::new(move |_| text(status, body))
    }
    type Post = Box<dyn Fn(&Asked) -> Answer + Send + Sync>;
    let statuses = [400, 401, 403, 404, 405, 406, 410, 411, 415, 422, 500, 501, 200, 202, 204];
    let mut posts: Vec<(String, Post)> =
        statuses.map(|status| (status.to_string(), posted(status, "<html>"))).into();
    posts.push(("JSON".to_owned(), Box::new(|_| json(200, "{}"))));
    posts.push((
        "a POST for a GET".to_owned(),
        Box::new(|_| events(stalling("event: endpoint\ndata: /x\n\n"))),
    ));
    for (case, post) in posts {
        // The POST of a message is answered where it was sent, which is taken, too.
        let server = ScriptedServer::start(move |asked| match (asked.verb.as_str(), asked.path.as_str()) {
            ("GET", _) => events(stalling("event: endpoint\ndata: /said\n\n")),
            (_, "/said") => asked.handshake().unwrap_or_else(|| json(202, "")),
            _ => post(asked),
        })
        .await;
        let findings = probe(&server.endpoint, &info()).await;
        let found = findings.verdict.unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(found.transport, Transport::HttpSse, "{case}");
    }
    // Without a stream the refusal of the POST stays the error, but where the stream alone says what is missing.
    for (post, get, expected) in [
        (422, 404, "HTTP 422: not an MCP server: no"),
        (422, 401, "HTTP 422: not an MCP server: no"),
        (500, 401, "HTTP 500: unavailable: no"),
        (404, 401, "HTTP 401: not authorized"),
    ] {
        let server =
            ScriptedServer::start(move |asked| text(if asked.verb == "GET" { get } else { post }, "no"))
                .await;
        assert_eq!(probe(&server.endpoint, &info()).await.verdict.unwrap_err().to_string(), expected);
    }
}

/// What comes of a call that is answered with `answer`.
async fn called(
    answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
) -> (Result<String, String>, Vec<&'static str>) {
    let server = ScriptedServer::start(move |asked| asked.handshake().unwrap_or_else(|| answer(asked))).await;
    let session = open(&server).await;
    let result = session.request("tools/call", r#"{"name":"x"}"#).await.map_err(|error| error.to_string());
    (result, quirk_names(&session.quirks()))
}

#[tokio::test]
async fn messages_that_have_one_meaning_are_taken() {
    let good = Ok("{\"n\":1}".to_owned());
    type Case = (&'static str, fn(&Asked) -> Answer, &'static [&'static str]);
    let cases: [Case; 14] = [
        (
            "a last event without its empty line, on a stream that stays open",
            |a| events(stalling(&format!("data: {}", a.result(r#"{"n":1}"#)))),
            &["unended-events"],
        ),
        (
            "a last event without its empty line",
            |a| events(format!("data: {}\n", a.result(r#"{"n":1}"#))),
            &["unended-events"],
        ),
        ("JSON as events", |a| events(a.result(r#"{"n":1}"#)), &["wrong-label"]),
        (
            "JSON as events, on a stream that stays open",
            |a| events(stalling(&a.result(r#"{"n":1}"#))),
            &["wrong-label"],
        ),
        ("events as JSON", |a| json(200, format!("data: {}\n\n", a.result(r#"{"n":1}"#))), &["wrong-label"]),
        (
            "events as JSON, on a stream that stays open",
            |a| json(200, stalling(&format!("event: message\ndata: {}\n\n", a.result(r#"{"n":1}"#)))),
            &["wrong-label"],
        ),
        (
            "a text id",
            |a| json(200, format!(r#"{{"jsonrpc":"2.0","id":"{}","result":{{"n":1}}}}"#, a.id())),
            &["ids-respelt"],
        ),
        ("no id", |_| json(200, r#"{"jsonrpc":"2.0","result":{"n":1}}"#), &["ids-missing"]),
        ("no jsonrpc", |a| json(200, format!(r#"{{"id":{},"result":{{"n":1}}}}"#, a.id())), &["no-jsonrpc"]),
        ("a list of one", |a| json(200, format!("[{}]", a.result(r#"{"n":1}"#))), &["list-of-one"]),
        ("a mark", |a| json(200, format!("\u{feff}{}", a.result(r#"{"n":1}"#))), &["byte-order-mark"]),
        ("no label", |a| (200, vec![], a.result(r#"{"n":1}"#).into()), &["wrong-label"]),
        (
            "events without a label",
            |a| (200, vec![], format!("data: {}\n\n", a.result(r#"{"n":1}"#)).into()),
            &["wrong-label"],
        ),
        (
            "what is no message, and what is no MCP, before the answer",
            |a| {
                events(format!("event: ping\ndata: 1\n\ndata: alive\n\ndata: {}\n\n", a.result(r#"{"n":1}"#)))
            },
            &["foreign-events", "unreadable-messages"],
        ),
    ];
    for (case, answer, quirks) in cases {
        assert_eq!(called(answer).await, (good.clone(), quirks.to_vec()), "{case}");
    }
}

#[tokio::test]
async fn what_cannot_be_meant_is_quoted() {
    type Case = (&'static str, fn(&Asked) -> Answer, &'static str);
    let cases: [Case; 4] = [
        (
            "another id",
            |_| json(200, r#"{"jsonrpc":"2.0","id":0,"result":{}}"#),
            "answered request 0, but was asked 2",
        ),
        ("no message", |_| events("data: Traceback header-secret\n\n"), "it says \"Traceback [redacted]\""),
        (
            "an unreadable answer",
            |a| {
                events(stalling(&format!(
                    "data: {{\"jsonrpc\":\"2.0\",\"id\":{},\"result\":{{]}}\n\n",
                    a.id()
                )))
            },
            "it says",
        ),
        (
            "a coding that is not decoded",
            |_| {
                (
                    200,
                    vec![
                        ("content-encoding", "br".to_owned()),
                        ("content-type", "application/json".to_owned()),
                    ],
                    "x".into(),
                )
            },
            "br",
        ),
    ];
    for (case, answer, expected) in cases {
        let (result, _) = called(answer).await;
        let error = result.unwrap_err();
        assert!(error.contains(expected), "{case}: {error}");
        assert!(!error.contains("header-secret"), "{case}: {error}");
    }
}

#[tokio::test]
async fn a_refusal_may_be_events_and_a_handshake_may_carry_another_label() {
    let refusal = |asked: &Asked| {
        format!(r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":-32602,"message":"words"}}}}"#, asked.id())
    };
    let (result, _) = called(move |asked| {
        if asked.is("ping") {
            return json(200, asked.result("{}"));
        }
        let (_, headers, body) = events(format!("event: ping\ndata: 1\n\ndata: {}\n\n", refusal(asked)));
        (400, headers, body)
    })
    .await;
    assert_eq!(result, Err("error -32602: words".to_owned()));
    let forms: [fn(String) -> Answer; 3] = [
        |body| json(200, stalling(&format!("data: {body}\n\n"))),
        |body| events(stalling(&body)),
        |body| (200, vec![], body.into()),
    ];
    for form in forms {
        let server = ScriptedServer::start(move |asked| match asked.is("initialize") {
            true => form(asked.result(r#"{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"n","version":"1"}}"#)),
            false => asked.handshake().unwrap_or_else(|| text(404, "none")),
        })
        .await;
        let findings = probe(&Endpoint { timeout: PATIENCE, ..server.endpoint.clone() }, &info()).await;
        assert_eq!(findings.verdict.unwrap().server_name, "n");
        assert_eq!(quirk_names(&findings.quirks), ["wrong-label"]);
    }
}

#[tokio::test]
async fn redirects_within_the_origin_keep_method_and_body() {
    for status in [301, 302, 307, 308] {
        let server = ScriptedServer::start(move |asked| match asked.path.as_str() {
            "/mcp" => (status, vec![("location", "/mcp/".to_owned())], "".into()),
            _ => asked.handshake().unwrap_or_else(|| json(200, asked.result(&page("a", "")))),
        })
        .await;
        let session = open(&server).await;
        assert_eq!(names(&session.list(Method::ToolsList, 9).await), "a", "{status}");
        assert_eq!(quirk_names(&session.quirks()), ["redirects"]);
        let asked = server.asked();
        let (sent, followed): (Vec<_>, Vec<_>) = asked.iter().partition(|asked| asked.path == "/mcp");
        let said =
            |asked: &[&Asked]| -> Vec<_> { asked.iter().map(|a| (a.verb.clone(), a.body.clone())).collect() };
        assert_eq!(said(&sent), said(&followed), "{status}");
    }
    let server = ScriptedServer::start(|_| (307, vec![("location", "/mcp".to_owned())], "".into())).await;
    let error = probe(&server.endpoint, &info()).await.verdict.unwrap_err();
    assert!(
        matches!(&error, ProbeError::NotMcp { status: 307, excerpt } if excerpt.contains("without end")),
        "{error}"
    );
    assert!(server.asked().len() <= 12 * 2);
}

#[tokio::test]
async fn a_call_is_not_led_to_its_result() {
    for (status, follows) in [(302, false), (301, false), (307, true)] {
        let server = ScriptedServer::start(move |asked| match asked.path.as_str() {
            "/mcp" if asked.is("tools/call") => (status, vec![("location", "/result".to_owned())], "".into()),
            _ => asked.handshake().unwrap_or_else(|| json(200, asked.result("{}"))),
        })
        .await;
        let session = open(&server).await;
        let called = session.request("tools/call", r#"{"name":"x"}"#).await;
        assert_eq!(called.is_ok(), follows, "{status}: {called:?}");
        let sent = server.asked().iter().filter(|asked| asked.is("tools/call")).count();
        assert_eq!(sent, if follows { 2 } else { 1 }, "{status}");
    }
}

#[tokio::test]
async fn a_list_that_is_not_there_loses_no_session_and_a_lost_session_is_seen_by_a_ping() {
    for (status, ping, expected) in [
        (404, 200, "HTTP 404: no text"),
        (500, 200, "HTTP 500: no text"),
        (404, 404, "the server no longer knows the session"),
        (400, 400, "the server no longer knows the session"),
    ] {
        let server = ScriptedServer::start(move |asked| {
            asked.handshake().unwrap_or_else(|| match asked.is("ping") {
                true if ping == 200 => json(200, asked.result("{}")),
                true => text(ping, ""),
                false => text(status, ""),
            })
        })
        .await;
        let trouble = open(&server).await.list(Method::PromptsList, 9).await.trouble.unwrap();
        assert_eq!(trouble.to_string(), expected, "{status} {ping}");
    }
}

#[tokio::test]
async fn odd_ids_of_sessions_and_cookies_of_streams_are_sent_back() {
    for (id, expected) in [("s 1", Some("s 1")), ("", None), ("  ", None)] {
        let server = ScriptedServer::start(move |asked| {
            let (status, mut headers, body) =
                asked.handshake().unwrap_or_else(|| json(200, asked.result("{}")));
            headers.retain(|(name, _)| *name != "mcp-session-id");
            headers.push(("mcp-session-id", id.to_owned()));
            (status, headers, body)
        })
        .await;
        let session = open(&server).await;
        assert_eq!(session.request("ping", "{}").await.as_deref(), Ok("{}"), "{id:?}");
        assert_eq!(session.is_sessionful(), expected.is_some());
        let last = server.asked().pop().unwrap();
        assert_eq!(last.headers.get("mcp-session-id").map(|id| id.to_str().unwrap()), expected);
    }
    let long = ScriptedServer::start(|asked| {
        let (status, _, body) = asked.handshake().unwrap_or_else(|| json(200, asked.result("{}")));
        (
            status,
            vec![("content-type", "application/json".to_owned()), ("mcp-session-id", "x".repeat(4_097))],
            body,
        )
    })
    .await;
    // Edges could not send it back either.
    let error = probe(&long.endpoint, &info()).await.verdict.unwrap_err().to_string();
    assert_eq!(
        error,
        "violates the protocol: its Mcp-Session-Id is not at most 4096 visible ASCII characters"
    );
    let pinned = ScriptedServer::start(|asked| match (asked.verb.as_str(), asked.path.as_str()) {
        ("GET", _) => {
            let (status, mut headers, body) = events(stalling("event: endpoint\ndata: /said\n\n"));
            headers.push(("set-cookie", "node=a; Path=/".to_owned()));
            (status, headers, body)
        }
        (_, "/said") if asked.headers.get("cookie").is_some_and(|cookie| cookie == "node=a") => {
            asked.handshake().unwrap_or_else(|| json(202, ""))
        }
        _ => text(405, ""),
    })
    .await;
    let findings = probe(&pinned.endpoint, &info()).await;
    assert_eq!(findings.verdict.unwrap().transport, Transport::HttpSse);
    assert_eq!(quirk_names(&findings.quirks), ["affinity-cookies", "answers-in-post"]);
}

#[tokio::test]
async fn a_modern_server_that_writes_absent_members_is_used() {
    for (versions, meta) in
        [(r#"["2026-07-28"]"#, "null"), (r#"["2026-07-28"]"#, "[]"), (r#""2026-07-28""#, "{}")]
    {
        let server = ScriptedServer::start(move |asked| match asked.is("server/discover") {
            true => json(
                200,
                asked.result(&format!(
                    r#"{{"supportedVersions":{versions},"capabilities":{{}},"_meta":{meta}}}"#
                )),
            ),
            false => text(404, ""),
        })
        .await;
        let found = probe(&server.endpoint, &info()).await.verdict.unwrap();
        assert_eq!(found.modern.unwrap().versions, [Revision::LATEST], "{versions} {meta}");
    }
}

#[tokio::test]
async fn a_session_that_cannot_be_ended_holds_nobody() {
    let server = ScriptedServer::start(|asked| match asked.verb.as_str() {
        "DELETE" => (SILENCE, vec![], "".into()),
        _ => asked.handshake().unwrap_or_else(|| text(404, "")),
    })
    .await;
    let endpoint = Endpoint { timeout: PATIENCE * 2, ..server.endpoint };
    let findings = tokio::time::timeout(PATIENCE, probe(&endpoint, &info())).await.unwrap();
    assert!(findings.verdict.is_ok());
    assert_eq!(quirk_names(&findings.quirks), ["no-delete"]);
}

#[tokio::test]
async fn cookies_of_a_session_go_with_it_and_those_of_the_endpoint_stay() {
    let server = ScriptedServer::start(|asked| {
        let (status, mut headers, body) = asked.handshake().unwrap_or_else(|| json(200, asked.result("{}")));
        if asked.is("initialize") {
            for cookie in ["route=a; Path=/; HttpOnly", "gone=1; Max-Age=0", "=nameless", "lb=b"] {
                headers.push(("set-cookie", cookie.to_owned()));
            }
        }
        (status, headers, body)
    })
    .await;
    for (own, expected) in [(None, "route=a; lb=b"), (Some("own=1"), "own=1; route=a; lb=b")] {
        let mut endpoint = server.endpoint.clone();
        endpoint.headers.extend(own.map(|own| (http::header::COOKIE, HeaderValue::from_static(own))));
        let session =
            Session::open(&endpoint, Transport::StreamableHttp, Revision::V2025_06_18, info()).await.unwrap();
        session.request("ping", "{}").await.unwrap();
        let last = server.asked().pop().unwrap();
        assert_eq!(last.headers["cookie"], expected);
        let quirks = session.quirks();
        assert_eq!((quirk_names(&quirks), quirks[0].first.as_str()), (vec!["affinity-cookies"], "route, lb"));
    }
    let many = ScriptedServer::start(|asked| {
        let (status, mut headers, body) = asked.handshake().unwrap_or_else(|| json(200, asked.result("{}")));
        headers.extend((0..20).map(|at| ("set-cookie", format!("c{at}={}", "x".repeat(900)))));
        (status, headers, body)
    })
    .await;
    open(&many).await.request("ping", "{}").await.unwrap();
    let last = many.asked().pop().unwrap();
    let sent = last.headers["cookie"].to_str().unwrap();
    assert!(sent.len() <= 4_096 && sent.split("; ").count() == 4, "{sent}");
}

#[tokio::test]
async fn a_timeout_is_no_lost_session() {
    let server =
        ScriptedServer::start(|asked| asked.handshake().unwrap_or_else(|| events(stalling("")))).await;
    let session = Session::open(&server.endpoint, Transport::StreamableHttp, Revision::V2025_06_18, info())
        .await
        .unwrap();
    let trouble = session.list(Method::PromptsList, 9).await.trouble;
    assert_eq!(trouble, Some(ClientError::Timeout(server.endpoint.timeout)));
    assert!(!server.asked().iter().any(|asked| asked.is("ping")));
}

#[tokio::test]
async fn who_waits_in_vain_is_told_what_came() {
    let server = ScriptedServer::start(|asked| match (asked.verb.as_str(), asked.path.as_str()) {
        ("GET", _) => events(stalling(
            "event: ping\ndata: 1\n\nevent: endpoint\ndata: /said\n\nevent: response\ndata: {}\n\n",
        )),
        (_, "/said") => json(202, ""),
        _ => text(405, ""),
    })
    .await;
    let findings = probe(&server.endpoint, &info()).await;
    assert_eq!(quirk_names(&findings.quirks), ["foreign-events"]);
    assert!(findings.quirks[0].first.contains("ping"), "{:?}", findings.quirks);
    let error = findings.verdict.unwrap_err().to_string();
    assert!(
        error.starts_with("no response within 1.5s; it sends events") && error.contains("ping"),
        "{error}"
    );
}
