//! Rates and quotas of a token over a fleet: what all edges together let through is the limit, within the bound that
//! docs/OPERATIONS.md states, whatever happens to edges and control planes meanwhile.

use std::time::{Duration, Instant};

use trunkline::identity::v1::token_service_client::TokenServiceClient;
use trunkline::identity::v1::{Conditions, CreateTokenRequest, Scope, Token};

use crate::support::PATIENCE;
use crate::support::fake::{Fake, id, json as answer_json, tool as definition};
use crate::support::gateway::{Gateway, Store};
use crate::support::wire::{Answer, Client};

/// The calls that an edge holds at most of a quota of 300: of what is left, three edges hold a quarter. An answer may be on its way
/// besides.
const HELD: usize = 2 * 25;
/// After so long a pause a quota is used up: until an edge has asked it says a tenth of a second.
const USED_UP_MS: u64 = 10_000;
/// Before a call that was refused is tried again.
const PAUSE: Duration = Duration::from_millis(10);

/// A gateway of three edges, an upstream with a tool `echo`, and a token with these limits; a client at each edge.
async fn start(store: Store, edges: usize, rates: &[&str], quotas: &[&str]) -> (Gateway, Fake, Vec<Client>) {
    let gateway = Gateway::start(store, edges).await;
    let fake = Fake::start(&format!("[{}]", definition("echo")), |_, request| {
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[]}}}}"#, id(request));
        vec![answer_json(200, &answer)]
    })
    .await;
    gateway.admin.create_upstream("fake", &fake.url()).await;
    gateway.admin.create_server("dev", &["fake/*"]).await;
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let all = || vec!["*".to_owned()];
    let token = Token {
        scope: Some(Scope { servers: all(), tools: all(), ..Scope::default() }),
        conditions: Some(Conditions { rates: texts(rates), quotas: texts(quotas), ..Conditions::default() }),
        ..Token::default()
    };
    let request = CreateTokenRequest { token_id: "t".to_owned(), token: Some(token), ..Default::default() };
    let mut client = TokenServiceClient::new(gateway.admin.authorized());
    let bearer = client.create_token(request).await.unwrap().into_inner().bearer;
    gateway.admin.settled().await;
    let first = Client::open(&gateway.url(0, "dev"), &bearer).await.unwrap();
    let clients = (0..edges).map(|edge| first.at(&gateway.url(edge, "dev"))).collect();
    (gateway, fake, clients)
}

/// Whether a call passed; else why not, and when it may.
async fn call(client: &Client) -> Result<(), (String, u64)> {
    let answer = client.call("echo", "{}").await.unwrap();
    if answer.status == 200 {
        assert!(answer.json()["result"]["content"].is_array(), "{answer:?}");
        return Ok(());
    }
    Err(refusal(&answer))
}

fn refusal(answer: &Answer) -> (String, u64) {
    let message = answer.json();
    let data = &message["error"]["data"];
    let again_ms = data["retry_after_ms"].as_u64().unwrap();
    assert_eq!((answer.status, message["error"]["code"].as_i64()), (429, Some(-31012)), "{message}");
    let seconds: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert_eq!(seconds, again_ms.div_ceil(1_000).max(1), "{message}");
    (data["reason"].as_str().unwrap().to_owned(), again_ms)
}

/// Calls at each of these edges in turn, until so many calls have passed. Returns how many have.
async fn pass(clients: &[&Client], count: usize) -> usize {
    let mut passed = 0;
    let calling = async {
        while passed < count {
            for client in clients {
                match call(client).await {
                    Ok(()) => passed += 1,
                    Err(_) => tokio::time::sleep(PAUSE).await,
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, calling).await.expect("calls pass");
    passed
}

/// Calls at each of these edges in turn, until each says that the quota is used up. Returns the calls that passed.
async fn use_up(clients: &[&Client]) -> usize {
    let (mut passed, mut used_up) = (0, 0);
    let start = Instant::now();
    while used_up < clients.len() {
        assert!(start.elapsed() < PATIENCE, "{used_up} edges say that it is used up after {passed} calls");
        used_up = 0;
        for client in clients {
            match call(client).await {
                Ok(()) => passed += 1,
                Err((reason, again_ms)) => {
                    // A rate may have to be asked for again, when there is a control plane again.
                    used_up += usize::from(reason == "quota_exceeded" && again_ms > USED_UP_MS);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
    passed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_holds_over_three_edges_though_one_is_killed_and_the_control_plane_too() {
    const QUOTA: usize = 300;
    for store in [Store::Sqlite, Store::Postgres] {
        let (mut gateway, fake, clients) = start(store, 3, &["100000/s"], &["300/month"]).await;
        let all: Vec<&Client> = clients.iter().collect();
        let mut passed = pass(&all, QUOTA / 3).await;
        gateway.kill_edge(2);
        gateway.kill_control();
        // Both go on with what they have leased, and not past it.
        let mut refused = 0;
        while refused < 200 {
            for client in &clients[..2] {
                match call(client).await {
                    Ok(()) => (passed, refused) = (passed + 1, 0),
                    Err(_) => refused += 1,
                }
            }
        }
        assert!(passed <= QUOTA / 3 + 3 + 3 * HELD, "{passed}");
        gateway.start_control().await;
        passed += use_up(&[&clients[0], &clients[1]]).await;
        // Above it by what passed on credit, one at each edge; below it by what was held by who died, or was on its way.
        assert!(passed <= QUOTA + 3, "{passed}");
        assert!(passed >= QUOTA - 3 * HELD, "{passed}");
        assert_eq!(fake.received("tools/call").len(), passed, "what was refused was not sent");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_drains_gives_back_what_it_has_not_used() {
    let (mut gateway, _fake, clients) = start(Store::Sqlite, 2, &[], &["60/month"]).await;
    // On credit; then of what it has leased.
    let mut passed = pass(&[&clients[0]], 2).await;
    gateway.stop_edge(0);
    passed += use_up(&[&clients[1]]).await;
    assert!((60..=61).contains(&passed), "{passed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_is_shared_and_moves_to_where_calls_come() {
    let (gateway, _fake, clients) = start(Store::Sqlite, 3, &["600/min"], &[]).await;
    // Each edge gets a share, though the first one had all of it at first.
    for client in &clients {
        pass(&[client], 3).await;
    }
    let answer = clients[0].call("echo", "{}").await.unwrap();
    if answer.status == 200 {
        assert_eq!(answer.headers["ratelimit-policy"], r#""r0";q=600;w=60"#);
    }
    for edge in 0..gateway.edge_count() {
        let metrics = reqwest::get(gateway.metrics_url(edge)).await.unwrap().text().await.unwrap();
        assert!(metrics.contains("\ntrunkline_edge_limit_leases_connected 1\n"), "{metrics}");
        assert!(metrics.contains("\ntrunkline_edge_limit_buckets 1\n"), "{metrics}");
    }
}
