use mcp::session_loss::{Ending, Ping, Refusal, Verdict, suspicious, verdict};
use proptest::prelude::*;

const UNTOUCHED: Verdict = Verdict::Lost { untouched: true };
const TOUCHED: Verdict = Verdict::Lost { untouched: false };

/// A JSON-RPC error with this id.
fn error(id: &str, code: i64, message: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"{message}"}}}}"#)
}

fn call(status: u16, body: &str) -> Refusal {
    Refusal::read(status, body.as_bytes())
}

fn ping(status: u16, body: &str) -> Ping {
    Ping::of(Refusal::read(status, body.as_bytes()))
}

#[test]
fn what_makes_a_ping_worth_it() {
    for (status, body, worth) in [
        (400, "Bad Request: No valid session ID provided".to_owned(), true),
        (401, String::new(), true),
        (403, String::new(), true),
        (404, error("null", -32001, "Session not found"), true),
        (422, error("7", -32602, "Invalid request parameters"), true),
        (500, "oops".to_owned(), true),
        (503, String::new(), true),
        (200, error("7", -32000, "Server not initialized"), true),
        (200, error("7", -32602, "Invalid request parameters"), true),
        (200, error("7", -32603, "oops"), true),
        (429, "slow down".to_owned(), false),
        (302, String::new(), false),
        (200, error("7", -32601, "Method not found"), false),
        // A router that does not know the session has no method for it.
        (404, error("7", -32601, "Method not found"), true),
        (400, error("7", -32601, "Unknown method tools/call"), true),
        (429, error("7", -32601, "Method not found"), false),
        (404, error("7", -32700, "Parse error"), false),
        (400, error("null", -32700, "Parse error"), false),
        (200, error("7", -32042, "visit a URL"), false),
        (200, "no error at all".to_owned(), false),
    ] {
        assert_eq!(suspicious(&call(status, &body)), worth, "{status} {body}");
        // A redirect or a page of some proxy is no answer at all.
        let is_unanswered = (300..400).contains(&status) || (status == 200 && !body.starts_with('{'));
        let is_suspicious = Ending::read(status, body.as_bytes()).is_suspicious();
        assert_eq!(is_suspicious, worth || is_unanswered, "{status} {body}");
    }
    assert!(Ending::Unanswered.is_suspicious());
}

#[test]
fn how_a_ping_ends() {
    for (status, body, expected) in [
        (200, error("\"there?\"", 0, "").replace("\"error\":", "\"result\":"), Ping::Answered),
        (200, r#"{"jsonrpc":"2.0","id":"there?","result":[]}"#.to_owned(), Ping::Answered),
        (200, error("\"there?\"", -32601, "Method not found"), Ping::Answered),
        (202, String::new(), Ping::Unanswered),
        (200, "<html>".to_owned(), Ping::Unanswered),
        (302, "moved".to_owned(), Ping::Unanswered),
    ] {
        assert_eq!(Ping::read(status, body.as_bytes()), expected, "{status} {body}");
    }
    for (status, body) in [
        // Only the session after it tells whether it is the ping or the session that is not known.
        (404, error("\"there?\"", -32601, "Method not found")),
        (200, error("\"there?\"", -32602, "m")),
        (302, error("\"there?\"", -32602, "m")),
        (400, "no session".to_owned()),
        (500, String::new()),
    ] {
        let ping = Ping::read(status, body.as_bytes());
        assert_eq!(ping, Ping::Refused(Refusal::read(status, body.as_bytes())), "{status} {body}");
    }
}

#[test]
fn a_session_in_which_nothing_is_answered_is_lost_if_another_is_better() {
    let (refused, no_ping) = (ping(400, "no such method"), ping(404, &error("null", -32601, "ping?")));
    for (after, expected) in [
        (Ping::Answered, Verdict::Alive),
        (Ping::Unanswered, TOUCHED),
        (refused, TOUCHED),
        (no_ping, Verdict::Alive),
        (Ping::Failed, Verdict::Unknown),
        (Ping::Unsent, Verdict::Unknown),
    ] {
        assert_eq!(Ending::Unanswered.verdict(&after), expected, "{after:?}");
    }
    for (before, of_new, is_better) in [
        (Ping::Unanswered, Ping::Answered, true),
        (Ping::Unanswered, no_ping, true),
        (refused, Ping::Answered, true),
        (Ping::Unanswered, refused, false),
        (refused, refused, false),
        (Ping::Unanswered, Ping::Unanswered, false),
        (Ping::Unanswered, Ping::Failed, false),
        (refused, Ping::Unsent, false),
    ] {
        assert_eq!(!Ending::Unanswered.is_no_better(&before, &of_new), is_better, "{before:?} {of_new:?}");
    }
    let call = Ending::Refused(call(400, "no session"));
    for (before, of_new, is_better) in [
        (ping(400, "no session"), ping(400, "no session"), false),
        (refused, refused, false),
        (ping(400, "no session"), refused, true),
        (ping(400, "no session"), Ping::Answered, true),
        (ping(400, "no session"), Ping::Failed, true),
    ] {
        assert_eq!(!call.is_no_better(&before, &of_new), is_better, "{before:?} {of_new:?}");
    }
}

#[test]
fn a_method_that_is_not_known_any_more_is_not_known_in_the_session() {
    let refused = call(404, &error("7", -32601, "Unknown method tools/call"));
    // What the tool says of what it calls may be the same.
    assert_eq!(verdict(&refused, &ping(404, &error("8", -32601, "Unknown method ping"))), TOUCHED);
    assert_eq!(verdict(&refused, &ping(200, &error("8", -32601, "Unknown method ping"))), Verdict::Alive);
    assert_eq!(verdict(&refused, &Ping::Answered), Verdict::Alive);
    let named = call(404, &error("7", -32601, "Session not found"));
    assert_eq!(verdict(&named, &ping(404, &error("8", -32601, "Session not found"))), UNTOUCHED);
}

#[test]
fn a_session_that_answers_a_ping_is_alive() {
    let refused = call(404, &error("null", -32001, "Session not found"));
    assert_eq!(verdict(&refused, &Ping::Answered), Verdict::Alive);
    assert_eq!(verdict(&refused, &ping(200, &error("8", -32601, "Method not found"))), Verdict::Alive);
    assert_eq!(verdict(&refused, &ping(404, &error("8", -32601, "Unknown method: ping"))), Verdict::Alive);
    assert_eq!(verdict(&refused, &Ping::Failed), Verdict::Unknown);
}

#[test]
fn the_same_words_for_a_ping_are_about_the_session() {
    for (status, call_body, ping_body, expected) in [
        (400, "unknown session 8c1f-22".to_owned(), "unknown session 8c1f-22".to_owned(), UNTOUCHED),
        (200, error("7", -32000, "not initialized"), error("8", -32000, "not initialized"), UNTOUCHED),
        (404, "gone".to_owned(), "gone".to_owned(), UNTOUCHED),
        (422, "Expected initialize request".to_owned(), "Expected initialize request".to_owned(), UNTOUCHED),
        (
            403,
            error("null", 1, "no session 6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
            error("null", 1, "no session 6ba7b811-9dad-11d1-80b4-00c04fd430c8"),
            UNTOUCHED,
        ),
        // Nothing in them says that the call has not run: a bridge whose command died says such things.
        (200, error("7", -32602, "request 7: Invalid"), error("8", -32602, "request 8: Invalid"), TOUCHED),
        (200, error("7", -32000, "Connection closed"), error("8", -32000, "Connection closed"), TOUCHED),
        (400, "Session terminated".to_owned(), "Session terminated".to_owned(), TOUCHED),
        (410, String::new(), String::new(), TOUCHED),
        (500, "unknown session".to_owned(), "unknown session".to_owned(), TOUCHED),
        (500, "oops".to_owned(), "oops".to_owned(), TOUCHED),
        (503, String::new(), String::new(), TOUCHED),
        (400, "Session expired".to_owned(), "Session expired".to_owned(), TOUCHED),
        // 404 is what the protocol says of a session, but not with the id of the request: a handler may have said it.
        (404, error("null", -32000, "gone"), error("null", -32000, "gone"), UNTOUCHED),
        (404, error("7", -32001, "Session not found"), error("8", -32001, "Session not found"), UNTOUCHED),
        (404, error("7", -32000, "record not found"), error("8", -32000, "record not found"), TOUCHED),
        (404, error("\"7\"", -32000, "disk full"), error("\"8\"", -32000, "disk full"), TOUCHED),
        // What broke may have broken half way.
        (200, error("7", -32603, "Internal error"), error("8", -32603, "Internal error"), TOUCHED),
        (403, "no session".to_owned(), "you may not ping".to_owned(), Verdict::PerhapsLost),
        (200, error("7", -32000, "no session"), error("8", -32000, "no ping"), Verdict::Unknown),
        (200, error("7", -32050, "a"), error("8", -32051, "a"), Verdict::Unknown),
    ] {
        assert_eq!(verdict(&call(status, &call_body), &ping(status, &ping_body)), expected, "{call_body}");
    }
}

#[test]
fn other_words_tell_only_where_they_name_the_session() {
    let pings = [
        (400, "Bad Request: no session".to_owned(), TOUCHED),
        (404, "gone".to_owned(), TOUCHED),
        (200, error("8", -32002, "Server not initialized"), TOUCHED),
        // Servers without pings say such things.
        (400, "no such method".to_owned(), Verdict::Unknown),
        (401, String::new(), Verdict::Unknown),
        (422, "bad".to_owned(), Verdict::Unknown),
        (404, error("8", -32000, "no such thing"), Verdict::Unknown),
        (200, error("8", -32000, "no"), Verdict::Unknown),
        (200, error("8", -32600, "Invalid Request"), Verdict::Unknown),
    ];
    for (status, body, expected) in &pings {
        let ping = ping(*status, body);
        for refused in [
            call(400, "call: a session?"),
            call(400, &error("null", -32099, "call")),
            call(200, &error("7", -32099, "call")),
            call(500, "call failed"),
        ] {
            assert_eq!(verdict(&refused, &ping), *expected, "{refused:?} {status} {body}");
        }
    }
}

#[test]
fn a_call_that_names_the_session_is_worth_another_where_the_ping_does_not_tell() {
    let pings =
        [ping(400, "no such method"), ping(401, ""), ping(200, &error("8", -32600, "Invalid Request"))];
    for ping in &pings {
        for (status, body, expected) in [
            (400, "Unknown session".to_owned(), Verdict::PerhapsLost),
            (401, error("null", -32000, "no valid session"), Verdict::PerhapsLost),
            (503, "Server not initialized".to_owned(), Verdict::PerhapsLost),
            // A tool may say so of what it calls a session.
            (200, error("7", -32602, "Unknown session"), Verdict::Unknown),
            (400, "bad request".to_owned(), Verdict::Unknown),
        ] {
            assert_eq!(verdict(&call(status, &body), ping), expected, "{status} {body} {ping:?}");
        }
    }
}

fn refusal() -> impl Strategy<Value = Refusal> {
    (200..600_u16, prop::option::of(-32_800..-31_000_i64), 0..3_u64, any::<(bool, bool)>()).prop_map(
        |(status, code, words, (names_session, has_number))| Refusal {
            status,
            code,
            words,
            names_session,
            has_number,
        },
    )
}

proptest! {
    /// What may have run is repeated by nobody.
    #[test]
    fn only_what_was_refused_before_it_ran_is_untouched(refused in refusal(), ping in refusal()) {
        prop_assert_eq!(verdict(&refused, &Ping::Answered), Verdict::Alive);
        for untold in [Ping::Unanswered, Ping::Failed, Ping::Unsent] {
            prop_assert_eq!(verdict(&refused, &untold), Verdict::Unknown);
        }
        prop_assert_ne!(Ending::Unanswered.verdict(&Ping::of(ping)), UNTOUCHED);
        if let Verdict::Lost { untouched: true } = verdict(&refused, &Ping::of(ping)) {
            prop_assert!(refused.status < 500);
            let alike = (refused.status, refused.words) == (ping.status, ping.words);
            prop_assert!(refused.code != Some(-32_603));
            prop_assert!(ping.code != Some(-32_601) || ping.status >= 400);
            prop_assert!(alike && (refused.names_session || refused.status == 404 && !refused.has_number));
        }
    }
}
