//! Whoever has no credential and wants one: guesses passwords from one address and from many, asks who exists, and asks for too much work
//! at once. Owners get in meanwhile.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::PATIENCE;
use crate::support::gateway::{Gateway, Store};

const PASSWORD: &str = "correct horse battery";
/// Addresses of this machine that attackers come from.
const ADDRESSES: u8 = 20;
/// Sign-ins at once.
const FLOOD: usize = 1_000;
/// What a hash takes, and how many are computed at once, with room for what the requests take.
const MEMORY: u64 = 96 << 20;

/// Somebody at an address of this machine.
struct Client {
    http: reqwest::Client,
    url: String,
}

impl Client {
    fn at(gateway: &Gateway, address: u8) -> Self {
        let address = IpAddr::V4(Ipv4Addr::new(127, 0, 1, address));
        let http = reqwest::Client::builder().local_address(address).timeout(PATIENCE).build().unwrap();
        Self { http, url: format!("http://{}/trunkline.identity.v1", gateway.control_address()) }
    }

    async fn call(&self, method: &str, bearer: &str, body: Value) -> Value {
        let request = self.http.post(format!("{}.{method}", self.url)).json(&body);
        let request = if bearer.is_empty() { request } else { request.bearer_auth(bearer) };
        request.send().await.unwrap().json().await.unwrap()
    }

    async fn sign_in(&self, email: &str, password: &str, device: &str) -> Value {
        let body = json!({"email": email, "password": password, "device": device});
        self.call("SessionService/SignIn", "", body).await
    }
}

/// The reason of a refusal; empty where there is none.
fn reason(answer: &Value) -> &str {
    answer["details"][0]["reason"].as_str().unwrap_or_default()
}

/// A user who has signed in once. Returns the secret of their device.
async fn owner(gateway: &Gateway, email: &str) -> String {
    let client = Client::at(gateway, 200);
    let user = json!({"user": {"email": email}});
    let made = client.call("UserService/CreateUser", gateway.admin_token(), user).await;
    let body = json!({"secret": made["link"]["secret"], "password": PASSWORD});
    let redeemed = client.call("SessionService/RedeemLink", "", body).await;
    redeemed["device"].as_str().unwrap_or_else(|| panic!("{made} {redeemed}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_from_many_addresses_are_bounded_and_the_owner_signs_in_meanwhile() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    let device = owner(&gateway, "ann@example.org").await;
    let mut looked_at = 0;
    for address in 1..=ADDRESSES {
        let attacker = Client::at(&gateway, address);
        for _ in 0..8 {
            match reason(&attacker.sign_in("ann@example.org", "a guess of somebody", "").await) {
                "SIGN_IN_REFUSED" => looked_at += 1,
                "TOO_MANY_SIGN_INS" => break,
                other => panic!("{other}"),
            }
        }
        if address % 5 == 0 {
            let answer = Client::at(&gateway, address).sign_in("ann@example.org", PASSWORD, &device).await;
            assert!(answer["secret"].is_string(), "{answer}");
        }
    }
    // Five are free at each address, and a hundred at all of them; a slow machine lets a wait of a second pass.
    assert!((90..=100).contains(&looked_at), "{looked_at}");
    // An attacker who knows the password by now is not told so.
    let answer = Client::at(&gateway, 100).sign_in("ann@example.org", PASSWORD, "").await;
    assert_eq!(reason(&answer), "TOO_MANY_SIGN_INS");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_guesses_for_few_accounts_only() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    let attacker = Client::at(&gateway, 1);
    let mut answers = Vec::new();
    for account in 0..40 {
        let answer = attacker.sign_in(&format!("a{account}@example.org"), "a guess of somebody", "").await;
        answers.push(reason(&answer).to_owned());
    }
    let refused = answers.iter().filter(|reason| *reason == "TOO_MANY_SIGN_INS").count();
    assert!(refused >= 5, "{answers:?}");
    let elsewhere = Client::at(&gateway, 2).sign_in("a1@example.org", "a guess of somebody", "").await;
    assert_eq!(reason(&elsewhere), "SIGN_IN_REFUSED");
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_the_text_nor_the_work_tells_who_exists() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    owner(&gateway, "ann@example.org").await;
    // Each address has five tries that are free; known and unknown take turns, so that what else the machine does hits both.
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for address in 1..=10 {
        let attacker = Client::at(&gateway, address);
        for _ in 0..3 {
            for (email, times) in [("ann@example.org", &mut known), ("bob@example.org", &mut unknown)] {
                let started = Instant::now();
                let answer = attacker.sign_in(email, "a guess of somebody", "").await;
                times.push(started.elapsed());
                assert_eq!(reason(&answer), "SIGN_IN_REFUSED");
                assert_eq!(answer["message"], "the email address or the password is wrong");
            }
        }
    }
    let (known, unknown) = (fastest(known), fastest(unknown));
    // Without the work for nobody, it would be a tenth.
    assert!(unknown * 2 > known && known * 2 > unknown, "{known:?} {unknown:?}");
}

/// The fastest: what the machine does beside it only makes others slower.
fn fastest(times: Vec<Duration>) -> Duration {
    times.into_iter().min().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_sign_ins_at_once_take_little_memory_and_the_owner_gets_in() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    let device = owner(&gateway, "ann@example.org").await;
    let before = gateway.control().resident();
    let clients: Vec<_> = (1..=ADDRESSES).map(|address| Client::at(&gateway, address)).collect();
    let tries = (0..FLOOD).map(|n| {
        let client = &clients[n % clients.len()];
        async move { client.sign_in(&format!("a{n}@example.org"), "a guess of somebody", "").await }
    });
    let watched = async {
        let mut most = 0;
        for _ in 0..40 {
            most = most.max(gateway.control().resident());
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        most
    };
    let signs_in = async {
        let client = Client::at(&gateway, 201);
        client.sign_in("ann@example.org", PASSWORD, &device).await
    };
    let (answers, most, owner) = tokio::join!(futures_util::future::join_all(tries), watched, signs_in);
    assert!(owner["secret"].is_string(), "{owner}");
    assert!(most.saturating_sub(before) < MEMORY, "{} MiB", (most - before) >> 20);
    let crowded = answers.iter().filter(|answer| reason(answer) == "OVERLOADED").count();
    assert!(crowded > 0, "nobody was told to come again");
    let known = ["SIGN_IN_REFUSED", "OVERLOADED", "TOO_MANY_SIGN_INS"];
    assert!(answers.iter().all(|answer| known.contains(&reason(answer))), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_database_holds_of_credentials_lets_nobody_in() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    owner(&gateway, "ann@example.org").await;
    let client = Client::at(&gateway, 1);
    let answer = client.sign_in("ann@example.org", PASSWORD, "").await;
    let session = answer["secret"].as_str().unwrap();
    let key = client
        .call(
            "ServiceAccountService/CreateApiKey",
            gateway.admin_token(),
            json!({"parent": "users/ann@example.org"}),
        )
        .await;
    let key = key["secret"].as_str().unwrap().to_owned();
    let folder = gateway.folder().join("control");
    let files =
        ["registry.db", "registry.db-wal"].map(|name| std::fs::read(folder.join(name)).unwrap_or_default());
    let device = answer["device"].as_str().unwrap();
    for secret in [session, &key, device, PASSWORD] {
        let is_there = |file: &Vec<u8>| file.windows(secret.len()).any(|bytes| bytes == secret.as_bytes());
        assert!(!files.iter().any(is_there), "{} is in the database", &secret[..4]);
    }
    assert!(!gateway.control_said().contains(session) && !gateway.control_said().contains(&key));
}
