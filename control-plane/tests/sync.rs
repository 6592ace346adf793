//! Catalogues of upstreams, over sockets: what a server that somebody else wrote offers is in the registry, and stays
//! there while the server is away; what a lying one sends is named and costs only itself.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

#[path = "support/control.rs"]
mod control;
#[path = "support/upstream.rs"]
mod upstream;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::response::IntoResponse;
use control::{Control, upstream_at};
use trunkline::registry::v1::probe_upstream_request::Target;
use trunkline::registry::v1::tool_service_client::ToolServiceClient;
use trunkline::registry::v1::upstream_service_client::UpstreamServiceClient;
use trunkline::registry::v1::{
    BearerCredential, Credential, GetUpstreamRequest, HeadersCredential, ListToolsRequest,
    ProbeUpstreamRequest, RefreshUpstreamRequest, Tool, UpdateToolRequest, Upstream as RegisteredUpstream,
    UpstreamState, UpstreamStatus, credential,
};
use upstream::Upstream;

const SEVEN: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];
/// For anything that must happen: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

async fn status(control: &Control, id: &str) -> UpstreamStatus {
    let request = control.admin(GetUpstreamRequest { name: format!("upstreams/{id}") });
    let mut client = UpstreamServiceClient::new(control.channel.clone());
    client.get_upstream(request).await.unwrap().into_inner().upstream.unwrap().status.unwrap_or_default()
}

/// The status, once it is as wanted, by itself.
async fn status_when(
    control: &Control,
    id: &str,
    wanted: impl Fn(&UpstreamStatus) -> bool,
) -> UpstreamStatus {
    let waiting = async {
        loop {
            let status = status(control, id).await;
            if wanted(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap()
}

async fn refresh(control: &Control, id: &str) -> UpstreamStatus {
    let request = control.admin(RefreshUpstreamRequest { name: format!("upstreams/{id}"), no_wait: false });
    let mut client = UpstreamServiceClient::new(control.channel.clone());
    client.refresh_upstream(request).await.unwrap().into_inner().upstream.unwrap().status.unwrap()
}

/// The tools of an upstream by their own names.
async fn tools(control: &Control, id: &str) -> BTreeMap<String, Tool> {
    let request =
        ListToolsRequest { parent: format!("upstreams/{id}"), page_size: 100, ..Default::default() };
    let mut client = ToolServiceClient::new(control.channel.clone());
    let listed = client.list_tools(control.admin(request)).await.unwrap().into_inner().tools;
    listed.into_iter().map(|tool| (tool.tool_name.clone(), tool)).collect()
}

async fn fresh_names(control: &Control, id: &str) -> Vec<String> {
    let tools = tools(control, id).await;
    tools.into_iter().filter(|(_, tool)| tool.stale_time.is_none()).map(|(name, _)| name).collect()
}

#[tokio::test]
async fn a_catalogue_is_imported_over_all_pages_and_follows_announcements() {
    let control = Control::start().await;
    let server = Upstream::start(&SEVEN);
    let created = control.upstream("shelf", upstream_at(server.url()), true).await;
    let status = created.status.unwrap();
    assert_eq!((status.state(), status.reason.as_str(), status.tool_count), (UpstreamState::Ready, "", 7));
    let probe = status.probe.unwrap();
    assert_eq!((probe.server_name.as_str(), probe.server_version.as_str()), ("shelf", "1.2.3"));
    assert_eq!(probe.modern.unwrap().versions, ["2026-07-28"]);
    assert_eq!(probe.legacy.unwrap().version, "2025-11-25");
    let imported = tools(&control, "shelf").await;
    assert_eq!(imported.keys().collect::<Vec<_>>(), SEVEN.iter().collect::<Vec<_>>());
    assert_eq!(imported["c"].name, "upstreams/shelf/tools/c");
    assert_eq!(imported["c"].description, "does it");

    announced(&control, &server).await;
    let vanished = tools(&control, "shelf").await;
    assert!(vanished["c"].stale_time.is_some(), "{:?}", vanished["c"]);
    assert_eq!(fresh_names(&control, "shelf").await, ["a", "b", "new"]);
    assert_eq!(vanished["a"].meta, imported["a"].meta, "what did not change took no revision");

    server.offer(&["a", "b", "c", "new"]);
    status_when(&control, "shelf", |status| status.tool_count == 4).await;
    let back = tools(&control, "shelf").await;
    assert_eq!(back["c"].stale_time, None);
    let uid = |tool: &Tool| tool.meta.clone().unwrap().uid;
    assert_eq!(uid(&back["c"]), uid(&imported["c"]), "it is the same tool");
}

/// Changes what the server offers until the control plane has heard of it: who begins to listen after a change
/// was announced finds it by asking, and hears nothing.
async fn announced(control: &Control, server: &Upstream) {
    let mut offers = [&["a", "b"][..], &["a", "b", "new"]].into_iter().cycle();
    let mut heard = 0;
    let waiting = async {
        loop {
            let offer = offers.next().unwrap();
            server.offer(offer);
            let expected = i32::try_from(offer.len()).unwrap();
            let status = status_when(control, "shelf", |status| status.tool_count == expected).await;
            assert_eq!(status.change_count, status.tools_change_count);
            assert_eq!((status.resources_change_count, status.prompts_change_count), (0, 0));
            if heard > 0 && status.tools_change_count > heard && expected == 3 {
                return;
            }
            heard = status.tools_change_count;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap();
}

#[tokio::test]
async fn an_outage_keeps_the_catalogue_and_says_since_when_and_why() {
    let control = Control::start().await;
    let mut server = Upstream::start(&SEVEN);
    let before = control.upstream("shelf", upstream_at(server.url()), true).await.status.unwrap();
    let imported = tools(&control, "shelf").await;
    server.stop();
    // What was in progress may end with other words than what finds nobody there.
    let refused = |status: &UpstreamStatus| {
        status.state() == UpstreamState::Unreachable && status.reason.contains("onnect")
    };
    let away = status_when(&control, "shelf", refused).await;
    let since = away.state_time.unwrap();
    let ready = before.state_time.unwrap();
    assert!((since.seconds, since.nanos) > (ready.seconds, ready.nanos));
    assert!(away.tool_count == 7 && away.refresh_time.is_some(), "{away:?}");
    assert_eq!(away.probe.map(|probe| probe.server_name).as_deref(), Some("shelf"));
    assert_eq!(tools(&control, "shelf").await, imported, "nothing is stale for that");
    assert_eq!(
        refresh(&control, "shelf").await.state_time,
        Some(since),
        "asked again, it began when it began"
    );

    server.restart();
    let back = status_when(&control, "shelf", |status| status.state() == UpstreamState::Ready).await;
    assert_eq!((back.reason.as_str(), back.tool_count), ("", 7));
    let again = back.state_time.unwrap();
    assert!((again.seconds, again.nanos) > (since.seconds, since.nanos));
    assert_eq!(tools(&control, "shelf").await, imported);
}

/// A legacy server that answers `tools/list` with whatever it is told to.
async fn liar(list: &Arc<Mutex<String>>) -> String {
    let list = list.clone();
    let answer = move |body: String| {
        let list = list.clone();
        async move { lie(&body, &list) }
    };
    let router = axum::Router::new().route("/mcp", axum::routing::post(answer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

fn lie(body: &str, list: &Mutex<String>) -> axum::response::Response {
    let message: serde_json::Value = serde_json::from_str(body).unwrap();
    let Some(id) = message.get("id") else { return http::StatusCode::ACCEPTED.into_response() };
    let answer = match message["method"].as_str().unwrap() {
        "initialize" => concat!(
            r#""result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"#,
            r#""serverInfo":{"name":"liar","version":"0"}}"#
        )
        .to_owned(),
        "tools/list" => format!(r#""result":{}"#, list.lock().unwrap()),
        _ => r#""error":{"code":-32601,"message":"unknown"}"#.to_owned(),
    };
    let body = format!(r#"{{"jsonrpc":"2.0","id":{id},{answer}}}"#);
    ([("content-type", "application/json")], body).into_response()
}

#[tokio::test]
async fn invalid_entries_of_an_upstream_are_named_and_the_rest_is_imported() {
    let control = Control::start().await;
    let good = r#"{"name":"good", "x":1.10,"inputSchema":{"type":"object"}}"#;
    let long = "n".repeat(129);
    let list = format!(
        r#"{{"tools":[{good},7,{{}},{{"name":"good"}},{{"name":"{long}"}},{{"name":"twice","name":"x"}},{{"name":"last"}}]}}"#
    );
    let list = Arc::new(Mutex::new(list));
    let url = liar(&list).await;
    let status = control.upstream("liar", upstream_at(url), true).await.status.unwrap();
    assert_eq!((status.state(), status.tool_count), (UpstreamState::Ready, 2), "{status:?}");
    let places: Vec<_> = status.warnings.iter().map(|text| text.split(':').next().unwrap()).collect();
    let expected = ["tools[1]", "tools[2]", "tools[3]", "tools[4]", "tools[5]"];
    assert_eq!(places[..5], expected, "{:?}", status.warnings);
    let imported = tools(&control, "liar").await;
    assert_eq!(imported.keys().collect::<Vec<_>>(), ["good", "last"]);
    assert_eq!(imported["good"].definition_json, good, "byte for byte");

    // A list that goes round in a circle is not read to its end, and what is known stays.
    *list.lock().unwrap() = r#"{"tools":[],"nextCursor":"again"}"#.to_owned();
    let status = refresh(&control, "liar").await;
    assert_eq!(status.state(), UpstreamState::Incompatible);
    assert_eq!(status.reason, "tools/list: the server returned the same page of tools/list twice");
    assert_eq!(fresh_names(&control, "liar").await, ["good", "last"]);
}

/// A legacy server that answers each list with what it is told to: a result, or `HTTP` and a status.
async fn four_lists(answers: &Arc<Mutex<BTreeMap<&'static str, String>>>) -> String {
    let answers = answers.clone();
    let answer = move |body: String| {
        let answers = answers.clone();
        async move {
            let message: serde_json::Value = serde_json::from_str(&body).unwrap();
            let Some(id) = message.get("id") else { return http::StatusCode::ACCEPTED.into_response() };
            let told = answers.lock().unwrap().get(message["method"].as_str().unwrap()).cloned();
            let told = told.unwrap_or_else(|| r#""error":{"code":-32601,"message":"unknown"}"#.to_owned());
            match told.strip_prefix("HTTP ") {
                Some(status) => http::StatusCode::from_bytes(status.as_bytes()).unwrap().into_response(),
                None => {
                    let body = format!(r#"{{"jsonrpc":"2.0","id":{id},{told}}}"#);
                    ([("content-type", "application/json")], body).into_response()
                }
            }
        }
    };
    let router = axum::Router::new().route("/mcp", axum::routing::post(answer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

const LISTS: [(&str, &str); 4] = [
    ("tools/list", r#""result":{"tools":[{"name":"t","inputSchema":{"type":"object"}}]}"#),
    ("resources/list", r#""result":{"resources":[{"uri":"a://b","name":"b"}]}"#),
    ("resources/templates/list", r#""result":{"resourceTemplates":[{"uriTemplate":"a://{c}","name":"c"}]}"#),
    ("prompts/list", r#""result":{"prompts":[{"name":"p"}]}"#),
];

/// Every list well, with these capabilities.
fn answers_well(capabilities: &str) -> BTreeMap<&'static str, String> {
    let initialize = format!(r#""result":{{"protocolVersion":"2025-06-18","capabilities":{capabilities}}}"#);
    let lists = LISTS.map(|(list, result)| (list, result.to_owned()));
    lists.into_iter().chain([("initialize", initialize), ("ping", r#""result":{}"#.to_owned())]).collect()
}

const DECLARED: &str = r#"{"tools":{},"resources":{},"prompts":{}}"#;

#[tokio::test]
async fn each_list_stands_alone_and_keeps_what_it_had_while_it_fails() {
    let control = Control::start().await;
    let answers = Arc::new(Mutex::new(answers_well(DECLARED)));
    let url = four_lists(&answers).await;
    let status = control.upstream("lists", upstream_at(url), true).await.status.unwrap();
    let counts = |status: &UpstreamStatus| [status.tool_count, status.resource_count, status.prompt_count];
    assert_eq!((counts(&status), status.reason.as_str()), ([1, 2, 1], ""));
    let seen: Vec<_> = status.lists.iter().map(|list| (list.list.as_str(), list.count)).collect();
    assert_eq!(seen, LISTS.map(|(list, _)| (list, 1)));

    for (list, _) in LISTS {
        for (trouble, says) in [
            ("HTTP 404", "HTTP 404: no text"),
            ("HTTP 500", "HTTP 500"),
            ("HTTP 401", "HTTP 401: not authorized"),
            (r#""error":{"code":-32603,"message":"boom"}"#, "error -32603: boom"),
            (r#""result":"none""#, "a text instead of an object"),
        ] {
            let mut odd = answers_well(DECLARED);
            odd.insert(list, trouble.to_owned());
            *answers.lock().unwrap() = odd;
            let status = refresh(&control, "lists").await;
            assert_eq!(status.state(), UpstreamState::Ready, "{list} {trouble}: {}", status.reason);
            assert!(status.reason.starts_with(list) && status.reason.contains(says), "{}", status.reason);
            assert_eq!(counts(&status), [1, 2, 1], "{list} {trouble}: what was there stays");
            let troubled: Vec<_> = status.lists.iter().filter(|status| !status.trouble.is_empty()).collect();
            assert_eq!(troubled.len(), 1);
            assert!(troubled[0].list == list && troubled[0].count == 0 && troubled[0].since.is_some());
            let probe = status.probe.unwrap();
            assert_eq!(
                (probe.quirks.as_slice(), probe.quirk_details.len()),
                (&["lists-fail".to_owned()][..], 1)
            );
        }
        // Whole again, and without its entry: now that one is gone.
        let mut empty = answers_well(DECLARED);
        empty.insert(list, r#""result":{}"#.to_owned());
        *answers.lock().unwrap() = empty;
        let status = refresh(&control, "lists").await;
        assert_eq!((status.reason.as_str(), counts(&status).iter().sum::<i32>()), ("", 3), "{list}");
        assert_eq!(status.probe.unwrap().quirks, ["list-shape"]);
        *answers.lock().unwrap() = answers_well(DECLARED);
        assert_eq!(counts(&refresh(&control, "lists").await), [1, 2, 1], "{list}");
    }

    // Where all fail, the upstream is not ready.
    let mut failing = answers_well(DECLARED);
    failing.extend(LISTS.map(|(list, _)| (list, "HTTP 401".to_owned())));
    *answers.lock().unwrap() = failing;
    let status = refresh(&control, "lists").await;
    assert_eq!((status.state(), counts(&status)), (UpstreamState::Unauthorized, [1, 2, 1]));
    assert!(status.reason.starts_with("tools/list: HTTP 401"), "{}", status.reason);
}

/// A legacy server that takes one request at a time: it refuses others meanwhile, also with `refusal`.
async fn one_at_a_time(refusal: &'static str) -> String {
    let (busy, refused) =
        (Arc::new(tokio::sync::Semaphore::new(1)), Arc::new(tokio::sync::Semaphore::new(0)));
    let answer = move |body: String| {
        let (busy, refused) = (Arc::clone(&busy), Arc::clone(&refused));
        async move {
            let message: serde_json::Value = serde_json::from_str(&body).unwrap();
            let Some(id) = message.get("id") else { return http::StatusCode::ACCEPTED.into_response() };
            let method = message["method"].as_str().unwrap();
            let answers = answers_well(DECLARED);
            let Ok(_turn) = busy.try_acquire() else {
                refused.add_permits(1);
                let answer =
                    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32000,"message":"busy"}}}}"#);
                return match refusal.strip_prefix("HTTP ") {
                    Some(status) => http::StatusCode::from_bytes(status.as_bytes()).unwrap().into_response(),
                    None => ([("content-type", "application/json")], answer).into_response(),
                };
            };
            // Those that are asked for together are: the first waits until another was refused.
            if method.ends_with("/list") {
                drop(tokio::time::timeout(std::time::Duration::from_secs(60), refused.acquire()).await);
                refused.add_permits(1);
            }
            let told = answers.get(method).cloned();
            let told = told.unwrap_or_else(|| r#""error":{"code":-32601,"message":"unknown"}"#.to_owned());
            ([("content-type", "application/json")], format!(r#"{{"jsonrpc":"2.0","id":{id},{told}}}"#))
                .into_response()
        }
    };
    let router = axum::Router::new().route("/mcp", axum::routing::post(answer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

#[tokio::test]
async fn a_server_that_takes_one_request_at_a_time_has_all_its_lists() {
    let control = Control::start().await;
    for (nth, refusal) in ["HTTP 500", "HTTP 503", "HTTP 409", "error"].into_iter().enumerate() {
        let url = one_at_a_time(refusal).await;
        let status = control.upstream(&format!("busy{nth}"), upstream_at(url), true).await.status.unwrap();
        assert_eq!((status.state(), status.reason.as_str()), (UpstreamState::Ready, ""), "{refusal}");
        let counts: Vec<_> = status.lists.iter().map(|list| (list.count, list.trouble.as_str())).collect();
        assert_eq!(counts, [(1, ""); 4], "{refusal}");
    }
}

/// Servers without pings refuse one in the words in which they refuse a list: that is not a session that is lost.
#[tokio::test]
async fn a_list_that_is_refused_as_a_ping_is_takes_no_other_along() {
    let control = Control::start().await;
    let answers = Arc::new(Mutex::new(answers_well(DECLARED)));
    let url = four_lists(&answers).await;
    control.upstream("no-pings", upstream_at(url), true).await;
    for (refusal, says) in [
        ("HTTP 400", "HTTP 400"),
        ("HTTP 405", "HTTP 405"),
        ("HTTP 501", "HTTP 501"),
        (r#""error":{"code":-32600,"message":"Unsupported method"}"#, "error -32600: Unsupported method"),
        (r#""error":{"code":-32603,"message":"not implemented"}"#, "error -32603: not implemented"),
        (r#""error":{"code":-32000,"message":"no session"}"#, "error -32000: no session"),
    ] {
        for refused in [&LISTS[3..], &LISTS[1..]] {
            let mut odd = answers_well(DECLARED);
            odd.insert("ping", refusal.to_owned());
            odd.extend(refused.iter().map(|(list, _)| (*list, refusal.to_owned())));
            *answers.lock().unwrap() = odd;
            let status = refresh(&control, "no-pings").await;
            assert_eq!(status.state(), UpstreamState::Ready, "{refusal}: {}", status.reason);
            let troubled = status.lists.iter().filter(|list| list.trouble.contains(says));
            assert_eq!(troubled.count(), refused.len(), "{refusal}: {:?}", status.lists);
            assert_eq!(status.lists[0].count, 1, "{refusal}: its tools are there");
        }
        // A server that refuses all of them says why, and not that it has lost a session that was just opened.
        let mut none = answers_well(DECLARED);
        none.insert("ping", refusal.to_owned());
        none.extend(LISTS.map(|(list, _)| (list, refusal.to_owned())));
        *answers.lock().unwrap() = none;
        let status = refresh(&control, "no-pings").await;
        assert_ne!(status.state(), UpstreamState::Ready, "{refusal}");
        assert!(status.reason.contains(says), "{refusal}: {}", status.reason);
    }
}

async fn probe(control: &Control, target: Target) -> UpstreamStatus {
    let request = control.admin(ProbeUpstreamRequest { target: Some(target) });
    let mut client = UpstreamServiceClient::new(control.channel.clone());
    client.probe_upstream(request).await.unwrap().into_inner().status.unwrap()
}

/// The status without the times.
fn timeless(mut status: UpstreamStatus) -> UpstreamStatus {
    (status.state_time, status.refresh_time) = (None, None);
    status.probe.iter_mut().for_each(|probe| probe.probe_time = None);
    status.lists.iter_mut().for_each(|list| list.since = None);
    status.events.clear();
    status
}

#[tokio::test]
async fn a_probe_finds_what_a_registration_does_and_stores_nothing() {
    let control = Control::start().await;
    let odd_tools = r#""result":{"tools":[{"name":"mended"},{"name":"withheld","inputSchema":"{}"},{"inputSchema":{}},
        {"name":"good","inputSchema":{"type":"object"}}]}"#;
    let failing = LISTS.map(|(list, _)| (list, "HTTP 401"));
    type Case<'a> = (&'a str, &'a [(&'static str, &'a str)], UpstreamState, [i32; 3], &'a [&'a str]);
    let cases: [Case<'_>; 4] = [
        ("sane", &[], UpstreamState::Ready, [1, 0, 0], &[]),
        (
            "odd",
            &[("tools/list", odd_tools)],
            UpstreamState::Ready,
            [4, 1, 1],
            &["entries-mended", "entries-withheld"],
        ),
        ("one-fails", &[("prompts/list", "HTTP 500")], UpstreamState::Ready, [1, 0, 0], &["lists-fail"]),
        ("all-fail", &failing, UpstreamState::Unauthorized, [0, 0, 0], &[]),
    ];
    for (name, odd, state, [count, withheld, mended], quirks) in cases {
        let mut answers = answers_well(DECLARED);
        answers.extend(odd.iter().map(|(list, answer)| (*list, (*answer).to_owned())));
        let url = four_lists(&Arc::new(Mutex::new(answers))).await;
        let unregistered = probe(&control, Target::Upstream(upstream_at(url.clone()))).await;
        assert_eq!(unregistered.state(), state, "{name}: {}", unregistered.reason);
        let tools = unregistered.lists.first().cloned().unwrap_or_default();
        assert_eq!(
            (tools.count, tools.withheld_count, tools.mended_count),
            (count, withheld, mended),
            "{name}"
        );
        let listed = |list: &str| unregistered.warnings.iter().filter(|line| line.starts_with(list)).count();
        assert_eq!(listed("tools[") > 0, name == "odd", "{name}: {:?}", unregistered.warnings);
        assert_eq!(unregistered.probe.as_ref().unwrap().quirks, quirks, "{name}");

        let registered = control.upstream(name, upstream_at(url), true).await.status.unwrap();
        if state == UpstreamState::Ready {
            assert_eq!(timeless(registered), timeless(unregistered.clone()), "{name}");
        } else {
            assert_eq!(
                (registered.state(), registered.reason),
                (state, unregistered.reason.clone()),
                "{name}"
            );
        }
        let again = probe(&control, Target::Name(format!("upstreams/{name}"))).await;
        assert_eq!(timeless(again), timeless(unregistered), "{name}");
    }
    // Of one that is disabled nothing is read but by a probe.
    let url = four_lists(&Arc::new(Mutex::new(answers_well(DECLARED)))).await;
    let mut asleep = upstream_at(url);
    asleep.disabled = true;
    control.upstream("asleep", asleep, false).await;
    let found = probe(&control, Target::Name("upstreams/asleep".to_owned())).await;
    assert_eq!((found.state(), found.tool_count), (UpstreamState::Ready, 1));
    let asleep = UpstreamStatus { reason: "it is disabled".to_owned(), ..UpstreamStatus::default() };
    let expected = UpstreamStatus { state: UpstreamState::Disabled.into(), ..asleep };
    assert_eq!(status(&control, "asleep").await, expected, "nothing was stored");
    assert!(tools(&control, "asleep").await.is_empty());
}

#[tokio::test]
async fn a_gateway_is_no_upstream_of_itself() {
    let control = Control::start().await;
    let bearer = control.token("t", "*").await.bearer;
    let url = four_lists(&Arc::new(Mutex::new(answers_well(DECLARED)))).await;
    let with = |kind| {
        let credential = Credential { kind: Some(kind), ..Default::default() };
        RegisteredUpstream { credential: Some(credential), ..upstream_at(url.clone()) }
    };
    let headers = |value: String| {
        credential::Kind::Headers(HeadersCredential {
            headers: [("Authorization".to_owned(), value)].into(),
            ..Default::default()
        })
    };
    let reason = "its credential is the bearer of tokens/t of this gateway, which cannot be an upstream of itself; select \
                  the same members in another server instead";
    let own = [
        (
            "bearer",
            credential::Kind::Bearer(BearerCredential { token: bearer.clone(), ..Default::default() }),
        ),
        ("header", headers(format!("Bearer {bearer}"))),
    ];
    for (name, kind) in own {
        let upstream = control.upstream(name, with(kind), true).await;
        let status = upstream.status.unwrap();
        assert_eq!((status.state(), status.reason.as_str()), (UpstreamState::Unauthorized, reason), "{name}");
        assert!(tools(&control, name).await.is_empty(), "{name}");
    }
    // That of another gateway, or of nobody, is only refused by whom it is shown to.
    let foreign = headers(format!("Bearer {}", bearer.replace("ey", "yE")));
    let status = control.upstream("foreign", with(foreign), true).await.status.unwrap();
    assert_eq!((status.state(), status.reason.as_str()), (UpstreamState::Ready, ""));
}

#[tokio::test]
async fn a_probe_that_fails_says_what_odd_things_it_saw() {
    let control = Control::start().await;
    let router = axum::Router::new()
        .fallback(|| async { ([("content-type", "text/event-stream")], "event: ping\ndata: 1\n\n") });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let found = probe(&control, Target::Upstream(upstream_at(url.clone()))).await;
    let stored = control.upstream("pings", upstream_at(url), true).await.status.unwrap();
    for status in [found, stored] {
        assert_eq!(status.state(), UpstreamState::Incompatible, "{}", status.reason);
        assert!(status.probe.is_none());
        let first = &status.attempts[0];
        assert!(!first.error.is_empty());
        assert_eq!(first.quirks, ["foreign-events"]);
        assert!(first.quirk_details[0].contains("ping"), "{:?}", first.quirk_details);
        assert!(status.attempts[1..].iter().all(|attempt| attempt.quirks.is_empty()), "each is named once");
    }
}

#[tokio::test]
async fn tools_that_are_not_declared_are_found() {
    let control = Control::start().await;
    for (at, (capabilities, tools)) in [
        ("{}", 1),
        ("null", 1),
        (r#"{"experimental":{}}"#, 1),
        (r#"{"prompts":{}}"#, 1),
        (r#"{"tools":{}}"#, 1),
    ]
    .into_iter()
    .enumerate()
    {
        let answers = Arc::new(Mutex::new(answers_well(capabilities)));
        let url = four_lists(&answers).await;
        let status = control.upstream(&format!("u{at}"), upstream_at(url), true).await.status.unwrap();
        assert_eq!((status.state(), status.tool_count), (UpstreamState::Ready, tools), "{capabilities}");
        let quirks = status.probe.unwrap().quirks;
        let declared = capabilities.contains("tools");
        assert_eq!(quirks.contains(&"undeclared-lists".to_owned()), !declared, "{capabilities}: {quirks:?}");
    }
    // Who has none may refuse the question as it likes.
    let refusals = ["HTTP 404", "HTTP 500", r#""error":{"code":-32600,"message":"no"}"#];
    for (at, refusal) in refusals.into_iter().enumerate() {
        let mut without = answers_well(r#"{"prompts":{}}"#);
        without.extend([("tools/list", refusal.to_owned()), ("ping", refusal.to_owned())]);
        let url = four_lists(&Arc::new(Mutex::new(without))).await;
        let id = format!("without{at}");
        let status = control.upstream(&id, upstream_at(url), true).await.status.unwrap();
        assert_eq!((status.state(), status.reason.as_str()), (UpstreamState::Ready, ""), "{refusal}");
        assert_eq!((status.tool_count, status.prompt_count), (0, 1), "{refusal}");
    }
}

#[tokio::test]
async fn a_server_without_pings_has_not_lost_its_session_when_it_refuses_a_list() {
    let control = Control::start().await;
    let refusals = [
        ("HTTP 400", "HTTP 400"),
        ("HTTP 404", "HTTP 404"),
        ("HTTP 500", "HTTP 500"),
        (r#""error":{"code":-32600,"message":"Unsupported method"}"#, "error -32600: Unsupported method"),
        (r#""error":{"code":-32603,"message":"not implemented"}"#, "error -32603: not implemented"),
    ];
    for (at, (refusal, says)) in refusals.into_iter().enumerate() {
        let mut answers = answers_well(DECLARED);
        answers.extend(
            ["prompts/list", "resources/templates/list", "ping"].map(|asked| (asked, refusal.to_owned())),
        );
        let url = four_lists(&Arc::new(Mutex::new(answers))).await;
        let status = control.upstream(&format!("p{at}"), upstream_at(url), true).await.status.unwrap();
        assert_eq!(status.state(), UpstreamState::Ready, "{refusal}: {}", status.reason);
        assert_eq!([status.tool_count, status.resource_count, status.prompt_count], [1, 1, 0], "{refusal}");
        assert!(status.reason.contains(says) && !status.reason.contains("session"), "{}", status.reason);
        // Where nothing else was asked, another session tells.
        let mut answers = answers_well(r#"{"prompts":{}}"#);
        answers.extend(["tools/list", "prompts/list", "ping"].map(|asked| (asked, refusal.to_owned())));
        let url = four_lists(&Arc::new(Mutex::new(answers))).await;
        let status = control.upstream(&format!("q{at}"), upstream_at(url), true).await.status.unwrap();
        assert!(
            status.reason.starts_with("prompts/list: ") && status.reason.contains(says),
            "{}",
            status.reason
        );
    }
}

#[tokio::test]
async fn stale_entries_are_bounded_and_what_people_disabled_stays_disabled() {
    const LISTED: usize = 700;
    let generation = |number: usize| {
        let tools: Vec<String> =
            (0..LISTED).map(|at| format!(r#"{{"name":"t{number}-{at}","inputSchema":{{}}}}"#)).collect();
        format!(r#"{{"tools":[{}]}}"#, tools.join(","))
    };
    let control = Control::start().await;
    let list = Arc::new(Mutex::new(generation(0)));
    let url = liar(&list).await;
    control.upstream("churn", upstream_at(url), true).await;
    let name = "upstreams/churn/tools/t0-0";
    let disabled = Tool { name: name.to_owned(), disabled: true, ..Default::default() };
    let mask = prost_types::FieldMask { paths: vec!["disabled".to_owned()] };
    let request = UpdateToolRequest { tool: Some(disabled), update_mask: Some(mask), ..Default::default() };
    let mut client = ToolServiceClient::new(control.channel.clone());
    client.update_tool(control.admin(request)).await.unwrap();
    for number in 1..5 {
        *list.lock().unwrap() = generation(number);
        refresh(&control, "churn").await;
    }
    let all = all_tools(&control, "churn").await;
    let stale = all.values().filter(|tool| tool.stale_time.is_some()).count();
    assert_eq!((all.len() - stale, stale), (LISTED, 1_001));
    // The youngest are kept, and those that people changed.
    assert!((0..LISTED).all(|at| all.contains_key(&format!("t3-{at}"))));
    *list.lock().unwrap() = generation(0);
    refresh(&control, "churn").await;
    let all = all_tools(&control, "churn").await;
    let returned = &all["t0-0"];
    assert_eq!((returned.disabled, returned.stale_time), (true, None));
}

async fn all_tools(control: &Control, id: &str) -> BTreeMap<String, Tool> {
    let mut client = ToolServiceClient::new(control.channel.clone());
    let (mut all, mut page_token) = (BTreeMap::new(), String::new());
    loop {
        let parent = format!("upstreams/{id}");
        let request = ListToolsRequest { parent, page_size: 500, page_token, ..Default::default() };
        let page = client.list_tools(control.admin(request)).await.unwrap().into_inner();
        all.extend(page.tools.into_iter().map(|tool| (tool.tool_name.clone(), tool)));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return all;
        }
    }
}
