//! People, service accounts, their sessions, keys and links, over real sockets and on both databases.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

#[path = "support/api.rs"]
mod api;
#[macro_use]
#[path = "support/database.rs"]
mod database;

use api::Api;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use database::Database;
use http::StatusCode;
use serde_json::{Value, json};
use trunkline::identity::v1::Role;
use trunkline_control_plane::config::Config;
use trunkline_control_plane::store::failures::TryPace;

const SESSIONS: &str = "identity.v1.SessionService";
const USERS: &str = "identity.v1.UserService";
const ACCOUNTS: &str = "identity.v1.ServiceAccountService";
const PASSWORD: &str = "correct horse battery";

suite!(
    the_first_administrator_is_made_once_by_the_link_of_the_first_start,
    whatever_is_wrong_with_a_sign_in_the_answer_is_the_same,
    guesses_from_elsewhere_do_not_keep_the_owner_out,
    each_try_past_those_that_are_free_waits_twice_as_long,
    so_many_tries_fit_into_a_window,
    who_must_choose_another_password_can_do_nothing_else,
    a_link_is_used_once_however_many_try,
    a_reset_ends_all_sessions_and_other_links,
    sessions_are_listed_and_end_when_they_are_revoked,
    another_password_ends_the_other_sessions,
    nobody_gets_more_by_whom_they_look_after,
    the_last_administrator_stays,
    who_owns_something_is_deleted_only_when_somebody_else_gets_it,
    what_somebody_looks_after_goes_to_nobody_but_themselves,
    what_was_made_with_a_session_or_a_key_ends_with_it,
    keys_work_until_they_are_revoked_and_never_more_than_their_role,
    a_service_account_stops_with_who_answers_for_it,
    people_see_only_themselves_and_whom_they_look_after,
    a_bearer_for_edges_names_its_principal_and_grants,
);

/// A control plane on a database.
async fn start_on(database: &Database, change: impl FnOnce(&mut Config)) -> Api {
    let url = database.url().to_owned();
    let start = Api::start_with(|config| {
        config.database_url = Some(url.into());
        config.keys.master_key = Some(STANDARD.encode([7; 32]).into());
        change(config);
    });
    start.await
}

async fn start(database: &Database) -> Api {
    start_on(database, |_| ()).await
}

/// Calls as the holder of a bearer.
async fn call(api: &Api, bearer: &str, rpc: &str, body: Value) -> (StatusCode, Value) {
    let authorization = if bearer.is_empty() { String::new() } else { format!("Bearer {bearer}") };
    api.raw_as(&authorization, rpc, &body.to_string()).await
}

/// Calls what must succeed.
async fn ok(api: &Api, bearer: &str, rpc: &str, body: Value) -> Value {
    let (status, answer) = call(api, bearer, rpc, body).await;
    assert_eq!(status, StatusCode::OK, "{rpc}: {answer}");
    answer
}

/// Calls what must fail. Returns the reason.
async fn fails(api: &Api, bearer: &str, rpc: &str, body: Value) -> String {
    let (status, answer) = call(api, bearer, rpc, body).await;
    assert_ne!(status, StatusCode::OK, "{rpc}: {answer}");
    reason(&answer)
}

fn reason(answer: &Value) -> String {
    answer["details"][0]["reason"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

fn text(answer: &Value, field: &str) -> String {
    answer[field].as_str().unwrap_or_else(|| panic!("{field}: {answer}")).to_owned()
}

fn rpc(service: &str, method: &str) -> String {
    format!("{service}/{method}")
}

/// Creates a user with roles. Returns the secret of the link.
async fn invite(api: &Api, bearer: &str, email: &str, roles: &[&str]) -> String {
    let bindings: Vec<_> = roles.iter().map(|role| json!({"role": role})).collect();
    let body = json!({"user": {"email": email, "bindings": bindings}});
    let made = ok(api, bearer, &rpc(USERS, "CreateUser"), body).await;
    text(&made["link"], "secret")
}

/// Creates a user who has chosen a password. Returns the session.
async fn person(api: &Api, email: &str, roles: &[&str]) -> String {
    let secret = invite(api, &api.admin, email, roles).await;
    let body = json!({"secret": secret, "password": PASSWORD});
    text(&ok(api, "", &rpc(SESSIONS, "RedeemLink"), body).await, "secret")
}

async fn sign_in(api: &Api, email: &str, password: &str, device: &str) -> (StatusCode, Value) {
    let body = json!({"email": email, "password": password, "device": device, "agent": "test"});
    call(api, "", &rpc(SESSIONS, "SignIn"), body).await
}

async fn who(api: &Api, bearer: &str) -> Value {
    ok(api, bearer, &rpc(SESSIONS, "GetCaller"), json!({})).await
}

/// A role beside those that are built in.
async fn role(database: &Database, name: &str, permissions: &[&str]) {
    let permissions = permissions.iter().map(|&name| name.to_owned()).collect();
    let role = Role { name: name.to_owned(), permissions, ..Role::default() };
    let store = database.open().await;
    let mut tx = store.write().await.unwrap();
    tx.put(&role, None, None).await.unwrap();
    tx.commit().await.unwrap();
}

async fn the_first_administrator_is_made_once_by_the_link_of_the_first_start(database: Database) {
    let api = start_on(&database, |config| config.sign_in.makes_setup_link = true).await;
    let secret = secrecy::ExposeSecret::expose_secret(api.running.setup_link.as_ref().unwrap()).to_owned();
    let redeem = rpc(SESSIONS, "RedeemLink");
    for (body, field) in [
        (json!({"secret": secret, "email": "ann@example.org", "password": "short"}), "password"),
        (json!({"secret": secret, "email": "ann@example.org", "password": "ann@example.org"}), "password"),
        (json!({"secret": secret, "password": PASSWORD}), "email"),
    ] {
        let (_, answer) = call(&api, "", &redeem, body).await;
        assert_eq!(answer["details"][1]["fieldViolations"][0]["field"], field, "{answer}");
    }
    let body = json!({"secret": secret, "email": "Ann@Example.org", "password": PASSWORD});
    let session = text(&ok(&api, "", &redeem, body.clone()).await, "secret");
    let caller = who(&api, &session).await;
    assert_eq!(caller["principal"], "users/ann@example.org");
    assert_eq!(caller["bindings"], json!([{"role": "roles/administrator"}]));
    assert_eq!(caller["permissions"].as_array().unwrap().len(), 21);
    assert_eq!(fails(&api, "", &redeem, body).await, "LINK_INVALID");
    let again = start_on(&database, |config| config.sign_in.makes_setup_link = true).await;
    assert!(again.running.setup_link.is_none());
}

async fn whatever_is_wrong_with_a_sign_in_the_answer_is_the_same(database: Database) {
    let api = start(&database).await;
    person(&api, "ann@example.org", &[]).await;
    person(&api, "off@example.org", &[]).await;
    invite(&api, &api.admin, "new@example.org", &[]).await;
    let off = json!({"name": "users/off@example.org"});
    ok(&api, &api.admin, &rpc(USERS, "DisableUser"), off).await;
    let expected = json!({
        "code": "UNAUTHENTICATED",
        "message": "the email address or the password is wrong",
        "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "domain": "trunkline.dev", "metadata": {}, "reason": "SIGN_IN_REFUSED"}],
    });
    for (email, password) in [
        ("ann@example.org", "correct horse batterx"),
        ("ann@example.org", ""),
        ("off@example.org", PASSWORD),
        ("new@example.org", PASSWORD),
        ("nobody@example.org", PASSWORD),
        ("no address", PASSWORD),
    ] {
        let (status, answer) = sign_in(&api, email, password, "").await;
        assert_eq!((status, &answer), (StatusCode::UNAUTHORIZED, &expected), "{email}");
    }
    let (status, answer) = sign_in(&api, " ANN@example.org ", PASSWORD, "").await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(who(&api, &text(&answer, "secret")).await["principal"], "users/ann@example.org");
}

async fn guesses_from_elsewhere_do_not_keep_the_owner_out(database: Database) {
    let api = start(&database).await;
    person(&api, "ann@example.org", &[]).await;
    let device = text(&sign_in(&api, "ann@example.org", PASSWORD, "").await.1, "device");
    for _ in 0..5 {
        let (_, answer) = sign_in(&api, "ann@example.org", "a guess of somebody", "").await;
        assert_eq!(reason(&answer), "SIGN_IN_REFUSED");
    }
    // However slow the machine is, the wait is not over.
    database.run("update sign_in_failures set until = until + 3600000000").await;
    let (_, answer) = sign_in(&api, "ann@example.org", PASSWORD, "").await;
    assert_eq!(reason(&answer), "TOO_MANY_SIGN_INS", "a right guess is not looked at either");
    assert_eq!(answer["details"][1]["@type"], "type.googleapis.com/google.rpc.RetryInfo");
    let (status, answer) = sign_in(&api, "ann@example.org", PASSWORD, &device).await;
    assert_eq!((status, text(&answer, "device")), (StatusCode::OK, device.clone()));
    // A device is known for its owner alone.
    person(&api, "bob@example.org", &[]).await;
    let (_, answer) = sign_in(&api, "bob@example.org", PASSWORD, &device).await;
    assert_ne!(text(&answer, "device"), device);
}

async fn each_try_past_those_that_are_free_waits_twice_as_long(database: Database) {
    let store = database.open().await;
    let pace = TryPace::Doubling { free: 3, first_us: 10, longest_us: 35, forget_us: 1_000 };
    let mut now_us = 5_000;
    let mut waits = Vec::new();
    for _ in 0..7 {
        assert_eq!(store.count_try("k", pace, now_us).await.unwrap(), None);
        let until = store.count_try("k", pace, now_us).await.unwrap();
        // What was let through at once counts, too.
        let Some(until) = until else { continue };
        assert_eq!(store.count_try("k", pace, until - 1).await.unwrap(), Some(until));
        waits.push(until - now_us);
        now_us = until;
    }
    assert_eq!(waits, [10, 20, 35, 35, 35, 35]);
    now_us += 1_001;
    for _ in 0..3 {
        assert_eq!(store.count_try("k", pace, now_us).await.unwrap(), None, "all is forgotten");
    }
    assert_eq!(store.count_try("k", pace, now_us).await.unwrap(), Some(now_us + 10));
    store.forget_tries("k").await.unwrap();
    assert_eq!(store.count_try("k", pace, now_us).await.unwrap(), None);
    store.forget_old_tries(now_us + 1, 10).await.unwrap();
    assert_eq!(store.count_try("k", pace, now_us).await.unwrap(), None);
}

async fn so_many_tries_fit_into_a_window(database: Database) {
    let store = database.open().await;
    let pace = TryPace::Window { most: 2, length_us: 100 };
    for now_us in [1_000, 1_050] {
        assert_eq!(store.count_try("k", pace, now_us).await.unwrap(), None);
    }
    assert_eq!(store.count_try("k", pace, 1_099).await.unwrap(), Some(1_100));
    store.take_back_tries(&["k"]).await.unwrap();
    assert_eq!(store.count_try("k", pace, 1_099).await.unwrap(), None);
    assert_eq!(store.count_try("k", pace, 1_099).await.unwrap(), Some(1_100));
    assert_eq!(store.count_try("k", pace, 1_100).await.unwrap(), None, "the next window");
    // The oldest keys make room.
    store.count_try("l", pace, 1_200).await.unwrap();
    store.forget_old_tries(0, 1).await.unwrap();
    for _ in 0..2 {
        assert_eq!(store.count_try("k", pace, 1_110).await.unwrap(), None);
    }
}

async fn who_must_choose_another_password_can_do_nothing_else(database: Database) {
    let api = start(&database).await;
    let session = person(&api, "ann@example.org", &["roles/administrator"]).await;
    let body = json!({"user": {"name": "users/ann@example.org", "mustChangePassword": true}});
    ok(&api, &api.admin, &rpc(USERS, "UpdateUser"), body).await;
    assert_eq!(who(&api, &session).await["mustChangePassword"], true);
    for method in ["registry.v1.ServerService/ListServers".to_owned(), rpc(SESSIONS, "ListSessions")] {
        assert_eq!(fails(&api, &session, &method, json!({})).await, "MUST_CHANGE_PASSWORD", "{method}");
    }
    let (_, answer) = sign_in(&api, "ann@example.org", PASSWORD, "").await;
    assert_eq!(answer["mustChangePassword"], true);
    let change = rpc(SESSIONS, "ChangePassword");
    let same = json!({"password": PASSWORD, "newPassword": PASSWORD});
    assert_eq!(fails(&api, &session, &change, same).await, "INVALID_FIELD");
    let wrong = json!({"password": "not the password", "newPassword": "another horse battery"});
    assert_eq!(fails(&api, &session, &change, wrong).await, "PASSWORD_WRONG");
    let right = json!({"password": PASSWORD, "newPassword": "another horse battery"});
    ok(&api, &session, &change, right).await;
    ok(&api, &session, "registry.v1.ServerService/ListServers", json!({})).await;
}

async fn a_link_is_used_once_however_many_try(database: Database) {
    let (api, other) = (start(&database).await, start(&database).await);
    let secret = invite(&api, &api.admin, "ann@example.org", &[]).await;
    let redeem = async |api: &Api| {
        let body = json!({"secret": secret, "password": PASSWORD});
        call(api, "", &rpc(SESSIONS, "RedeemLink"), body).await.0
    };
    let tries = (0..8).map(|n| redeem(if n % 2 == 0 { &api } else { &other }));
    let statuses = futures_util::future::join_all(tries).await;
    let good = statuses.iter().filter(|status| **status == StatusCode::OK).count();
    assert_eq!(good, 1, "{statuses:?}");
}

async fn a_reset_ends_all_sessions_and_other_links(database: Database) {
    let api = start(&database).await;
    let session = person(&api, "ann@example.org", &[]).await;
    let named = json!({"name": "users/ann@example.org"});
    let reset = async || {
        let answer = ok(&api, &api.admin, &rpc(USERS, "ResetPassword"), named.clone()).await;
        text(&answer["link"], "secret")
    };
    let (first, second) = (reset().await, reset().await);
    let redeem = rpc(SESSIONS, "RedeemLink");
    let body = |secret: &str| json!({"secret": secret, "password": "another horse battery"});
    assert_eq!(fails(&api, "", &redeem, body(&first)).await, "LINK_INVALID", "a later one replaces it");
    // Until then the password of before works.
    assert_eq!(sign_in(&api, "ann@example.org", PASSWORD, "").await.0, StatusCode::OK);
    let link = text(&ok(&api, &session, &rpc(SESSIONS, "CreateSignInLink"), json!({})).await, "secret");
    ok(&api, "", &redeem, body(&second)).await;
    assert_eq!(fails(&api, &session, &rpc(SESSIONS, "GetCaller"), json!({})).await, "SESSION_INVALID");
    assert_eq!(fails(&api, "", &redeem, json!({"secret": link})).await, "LINK_INVALID");
    assert_eq!(sign_in(&api, "ann@example.org", PASSWORD, "").await.0, StatusCode::UNAUTHORIZED);
    let (status, answer) = sign_in(&api, "ann@example.org", "another horse battery", "").await;
    assert_eq!(status, StatusCode::OK);
    let session = text(&answer, "secret");
    // A link that signs in elsewhere sets no password.
    let link = text(&ok(&api, &session, &rpc(SESSIONS, "CreateSignInLink"), json!({})).await, "secret");
    let (_, answer) = call(&api, "", &redeem, body(&link)).await;
    assert_eq!(reason(&answer), "INVALID_FIELD");
    let elsewhere = text(&ok(&api, "", &redeem, json!({"secret": link})).await, "secret");
    assert_eq!(who(&api, &elsewhere).await["principal"], "users/ann@example.org");
}

async fn sessions_are_listed_and_end_when_they_are_revoked(database: Database) {
    let api = start(&database).await;
    let session = person(&api, "ann@example.org", &[]).await;
    let other = text(&sign_in(&api, "ann@example.org", PASSWORD, "").await.1, "secret");
    let list = rpc(SESSIONS, "ListSessions");
    let listed = ok(&api, &session, &list, json!({})).await;
    let sessions = listed["sessions"].as_array().unwrap();
    let of = |name: &str| sessions.iter().find(|session| session["method"] == name).unwrap();
    let (by_link, by_password) = (of("SIGN_IN_METHOD_LINK"), of("SIGN_IN_METHOD_PASSWORD"));
    assert_eq!((sessions.len(), &by_link["current"]), (2, &json!(true)));
    assert_eq!((&by_password["agent"], &by_password["address"]), (&json!("test"), &json!("127.0.0.1")));
    let revoke = rpc(SESSIONS, "RevokeSession");
    let of_nobody = json!({"name": "users/ann@example.org/sessions/000000000000"});
    assert_eq!(fails(&api, &session, &revoke, of_nobody).await, "RESOURCE_NOT_FOUND");
    ok(&api, &session, &revoke, json!({"name": by_password["name"]})).await;
    assert_eq!(fails(&api, &other, &list, json!({})).await, "SESSION_INVALID");
    // Those of others take a permission.
    let bob = person(&api, "bob@example.org", &[]).await;
    let all = json!({"name": "users/ann@example.org/sessions/-"});
    assert_eq!(fails(&api, &bob, &revoke, all.clone()).await, "PERMISSION_DENIED");
    let of_ann = json!({"parent": "users/ann@example.org"});
    assert_eq!(fails(&api, &bob, &list, of_ann.clone()).await, "PERMISSION_DENIED");
    ok(&api, &api.admin, &list, of_ann).await;
    ok(&api, &api.admin, &revoke, all).await;
    assert_eq!(fails(&api, &session, &list, json!({})).await, "SESSION_INVALID");
    ok(&api, &bob, &rpc(SESSIONS, "SignOut"), json!({})).await;
    assert_eq!(fails(&api, &bob, &list, json!({})).await, "SESSION_INVALID");
}

async fn another_password_ends_the_other_sessions(database: Database) {
    let api = start(&database).await;
    let session = person(&api, "ann@example.org", &[]).await;
    let other = text(&sign_in(&api, "ann@example.org", PASSWORD, "").await.1, "secret");
    let body = json!({"password": PASSWORD, "newPassword": "another horse battery"});
    ok(&api, &session, &rpc(SESSIONS, "ChangePassword"), body).await;
    who(&api, &session).await;
    assert_eq!(fails(&api, &other, &rpc(SESSIONS, "GetCaller"), json!({})).await, "SESSION_INVALID");
    // Not by plain HTTP through a proxy on this machine, whoever is before that.
    let body = json!({"email": "ann@example.org", "password": "another horse battery"});
    let (headers, method) = ([("x-forwarded-proto", "http")], rpc(SESSIONS, "SignIn"));
    let (_, answer) = api.raw_with(&headers, &method, &body.to_string()).await;
    assert_eq!(reason(&answer), "INSECURE_TRANSPORT");
}

async fn nobody_gets_more_by_whom_they_look_after(database: Database) {
    let api = start(&database).await;
    role(&database, "roles/clerk", &["people.read", "people.write", "tokens.issue", "tokens.read"]).await;
    person(&api, "ann@example.org", &["roles/administrator"]).await;
    let clerk = person(&api, "clerk@example.org", &["roles/clerk"]).await;
    let ann = json!({"name": "users/ann@example.org"});
    let update = json!({"user": {"name": "users/ann@example.org", "email": "clerk2@example.org"}});
    for (method, body) in [
        ("ResetPassword", ann.clone()),
        ("DisableUser", ann.clone()),
        ("DeleteUser", ann.clone()),
        ("UpdateUser", update),
        (
            "CreateUser",
            json!({"user": {"email": "x@example.org", "bindings": [{"role": "roles/administrator"}]}}),
        ),
    ] {
        assert_eq!(fails(&api, &clerk, &rpc(USERS, method), body).await, "NOT_YOURS_TO_GIVE", "{method}");
    }
    let sessions = json!({"name": "users/ann@example.org/sessions/-"});
    assert_eq!(fails(&api, &clerk, &rpc(SESSIONS, "RevokeSession"), sessions).await, "NOT_YOURS_TO_GIVE");
    let bindings = json!([{"role": "roles/developer"}]);
    let account = json!({"serviceAccountId": "ci", "serviceAccount": {"bindings": bindings}});
    assert_eq!(
        fails(&api, &clerk, &rpc(ACCOUNTS, "CreateServiceAccount"), account).await,
        "NOT_YOURS_TO_GIVE"
    );
    let key = json!({"parent": "users/ann@example.org"});
    assert_eq!(fails(&api, &clerk, &rpc(ACCOUNTS, "CreateApiKey"), key).await, "NOT_YOURS_TO_GIVE");
    // What they have, they give.
    invite(&api, &clerk, "new@example.org", &["roles/clerk"]).await;
}

async fn the_last_administrator_stays(database: Database) {
    let api = start(&database).await;
    let ann = person(&api, "ann@example.org", &["roles/administrator"]).await;
    let of = |email: &str| json!({"name": format!("users/{email}")});
    for method in ["DisableUser", "DeleteUser"] {
        let refused = fails(&api, &ann, &rpc(USERS, method), of("ann@example.org")).await;
        assert_eq!(refused, "LAST_ADMINISTRATOR", "{method}");
    }
    // One who has not chosen a password cannot sign in.
    invite(&api, &ann, "bob@example.org", &["roles/administrator"]).await;
    let disable = rpc(USERS, "DisableUser");
    assert_eq!(fails(&api, &ann, &disable, of("ann@example.org")).await, "LAST_ADMINISTRATOR");
    person(&api, "cyd@example.org", &["roles/administrator"]).await;
    let disabled = ok(&api, &ann, &disable, of("ann@example.org")).await;
    assert_eq!(disabled["user"]["state"], "USER_STATE_DISABLED");
    assert_eq!(fails(&api, &ann, &rpc(SESSIONS, "GetCaller"), json!({})).await, "SESSION_INVALID");
    // Whoever holds the administrator's bearer can make another one.
    ok(&api, &api.admin, &disable, of("cyd@example.org")).await;
    let enabled = ok(&api, &api.admin, &rpc(USERS, "EnableUser"), of("ann@example.org")).await;
    assert_eq!(enabled["user"]["state"], "USER_STATE_ACTIVE");
    let ended = fails(&api, &ann, &rpc(SESSIONS, "GetCaller"), json!({})).await;
    assert_eq!(ended, "SESSION_INVALID", "sessions of before stay ended");
}

async fn who_owns_something_is_deleted_only_when_somebody_else_gets_it(database: Database) {
    let api = start(&database).await;
    let ann = person(&api, "ann@example.org", &["roles/administrator"]).await;
    person(&api, "bob@example.org", &[]).await;
    let made = json!({"serviceAccountId": "ci", "serviceAccount": {"title": "builds"}});
    let made = ok(&api, &ann, &rpc(ACCOUNTS, "CreateServiceAccount"), made).await;
    assert_eq!(made["serviceAccount"]["owner"], "users/ann@example.org");
    let delete = rpc(USERS, "DeleteUser");
    let named = |transfer_to: &str| json!({"name": "users/ann@example.org", "transferTo": transfer_to});
    assert_eq!(fails(&api, &api.admin, &delete, named("")).await, "STILL_AN_OWNER");
    for nobody in ["users/none@example.org", "users/ann@example.org", "serviceAccounts/ci"] {
        assert_eq!(fails(&api, &api.admin, &delete, named(nobody)).await, "INVALID_FIELD", "{nobody}");
    }
    ok(&api, &api.admin, &delete, named("users/bob@example.org")).await;
    let get = rpc(ACCOUNTS, "GetServiceAccount");
    let kept = ok(&api, &api.admin, &get, json!({"name": "serviceAccounts/ci"})).await;
    assert_eq!(kept["serviceAccount"]["owner"], "users/bob@example.org");
    let gone =
        fails(&api, &api.admin, &rpc(USERS, "GetUser"), json!({"name": "users/ann@example.org"})).await;
    assert_eq!(gone, "RESOURCE_NOT_FOUND");
    assert_eq!(fails(&api, &ann, &rpc(SESSIONS, "GetCaller"), json!({})).await, "SESSION_INVALID");
}

async fn keys_work_until_they_are_revoked_and_never_more_than_their_role(database: Database) {
    let api = start_on(&database, |config| config.sign_in.basic_auth = true).await;
    let ann = person(&api, "ann@example.org", &["roles/administrator"]).await;
    let create = rpc(ACCOUNTS, "CreateApiKey");
    let made = ok(&api, &ann, &create, json!({"title": "nightly", "role": "roles/viewer"})).await;
    let key = text(&made, "secret");
    assert!(made["apiKey"]["expireTime"].is_string(), "{made}");
    let caller = who(&api, &key).await;
    assert_eq!(
        (&caller["principal"], &caller["through"]),
        (&json!("users/ann@example.org"), &made["apiKey"]["name"])
    );
    assert_eq!(caller["permissions"], json!(["registry.read", "tokens.read", "usage.read"]));
    ok(&api, &key, "registry.v1.ServerService/ListServers", json!({})).await;
    let (status, denied) = call(&api, &key, &rpc(USERS, "ListUsers"), json!({})).await;
    assert_eq!(
        (status, denied["details"][0]["metadata"].clone()),
        (StatusCode::FORBIDDEN, json!({"permission": "people.read"}))
    );
    // Who may only ask sends no more than questions have.
    let long = json!({"noSuchField": "x".repeat(1_100_000)});
    let list = "registry.v1.ServerService/ListServers";
    assert_eq!(fails(&api, &key, list, long.clone()).await, "BODY_TOO_LARGE");
    assert_eq!(fails(&api, &ann, list, long).await, "MALFORMED_JSON");
    // A key that may make keys makes none that may more.
    role(&database, "roles/issuer", &["registry.read", "tokens.issue", "tokens.read"]).await;
    let issuer = text(&ok(&api, &ann, &create, json!({"role": "roles/issuer"})).await, "secret");
    assert_eq!(fails(&api, &issuer, &create, json!({})).await, "NOT_YOURS_TO_GIVE");
    ok(&api, &issuer, &create, json!({"role": "roles/issuer"})).await;
    assert_eq!(fails(&api, &issuer, &rpc(SESSIONS, "CreateSignInLink"), json!({})).await, "NO_SESSION");
    assert_eq!(fails(&api, &issuer, &rpc(SESSIONS, "CreateAccessBearer"), json!({})).await, "KEY_IS_LIMITED");
    // HTTP Basic, where it is switched on.
    let basic = |password: &str| format!("Basic {}", STANDARD.encode(format!("anything:{password}")));
    let get_caller = rpc(SESSIONS, "GetCaller");
    assert_eq!(api.raw_as(&basic(&key), &get_caller, "{}").await.0, StatusCode::OK);
    assert_eq!(reason(&api.raw_as(&basic(PASSWORD), &get_caller, "{}").await.1), "API_KEY_INVALID");
    let off = start(&database).await;
    assert_eq!(reason(&off.raw_as(&basic(&key), &get_caller, "{}").await.1), "ADMIN_REQUIRED");
    // Many programs send a password only when they are asked for one.
    let challenged = async |api: &Api, page: &[(&'static str, &'static str)]| {
        let url = format!("http://{}/trunkline.{get_caller}", api.addr);
        let request = reqwest::Client::new().post(url).json(&json!({}));
        let request = page.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let answer = request.send().await.unwrap();
        let challenge =
            answer.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
        (answer.status().as_u16(), challenge)
    };
    let basic = r#"Basic realm="Trunkline", charset="UTF-8""#;
    assert_eq!(challenged(&api, &[]).await, (401, Some(basic.to_owned())));
    assert_eq!(challenged(&api, &[("sec-fetch-site", "none")]).await, (401, None));
    assert_eq!(challenged(&off, &[]).await, (401, None));

    let listed = ok(&api, &ann, &rpc(ACCOUNTS, "ListApiKeys"), json!({"pageSize": 2})).await;
    assert_eq!(listed["apiKeys"].as_array().unwrap().len(), 2);
    let next = json!({"pageSize": 2, "pageToken": listed["nextPageToken"]});
    let rest = ok(&api, &ann, &rpc(ACCOUNTS, "ListApiKeys"), next).await;
    assert_eq!(
        (&rest["apiKeys"][0]["name"], &rest["apiKeys"][0]["state"]),
        (&made["apiKey"]["name"], &json!("API_KEY_STATE_VALID"))
    );
    ok(&api, &ann, &rpc(ACCOUNTS, "RevokeApiKey"), json!({"name": made["apiKey"]["name"]})).await;
    assert_eq!(fails(&api, &key, &get_caller, json!({})).await, "API_KEY_INVALID");
    for forged in ["tlk_", &format!("{}x", issuer), &issuer.replace("tlk_", "tlk_0")] {
        assert_eq!(fails(&api, forged, &get_caller, json!({})).await, "API_KEY_INVALID", "{forged}");
    }
    database.run("update api_keys set expires = 1").await;
    // What was found out about it is believed for a second.
    let until_ended = async {
        while call(&api, &issuer, &get_caller, json!({})).await.0 == StatusCode::OK {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), until_ended).await.unwrap();
}

async fn a_service_account_stops_with_who_answers_for_it(database: Database) {
    let api = start(&database).await;
    let ann = person(&api, "ann@example.org", &["roles/administrator"]).await;
    let bindings = json!([{"role": "roles/viewer"}]);
    let account = json!({"serviceAccountId": "ci", "serviceAccount": {"bindings": bindings}});
    ok(&api, &ann, &rpc(ACCOUNTS, "CreateServiceAccount"), account).await;
    let parent = json!({"parent": "serviceAccounts/ci", "neverExpires": true});
    let key = text(&ok(&api, &ann, &rpc(ACCOUNTS, "CreateApiKey"), parent).await, "secret");
    assert_eq!(who(&api, &key).await["principal"], "serviceAccounts/ci");
    let get_caller = rpc(SESSIONS, "GetCaller");
    let set = async |body: Value| ok(&api, &api.admin, &rpc(ACCOUNTS, "UpdateServiceAccount"), body).await;
    let disabled = |disabled: bool| json!({"serviceAccount": {"name": "serviceAccounts/ci", "disabled": disabled}, "updateMask": "disabled"});
    set(disabled(true)).await;
    assert_eq!(fails(&api, &key, &get_caller, json!({})).await, "API_KEY_INVALID");
    set(disabled(false)).await;
    who(&api, &key).await;
    let named = json!({"name": "users/ann@example.org"});
    ok(&api, &api.admin, &rpc(USERS, "DisableUser"), named.clone()).await;
    assert_eq!(fails(&api, &key, &get_caller, json!({})).await, "API_KEY_INVALID");
    let keys = json!({"parent": "serviceAccounts/ci"});
    let listed = ok(&api, &api.admin, &rpc(ACCOUNTS, "ListApiKeys"), keys).await;
    assert_eq!(listed["apiKeys"][0]["state"], "API_KEY_STATE_SUSPENDED");
    let suspended = async || {
        let get = json!({"name": "serviceAccounts/ci"});
        let shown = ok(&api, &api.admin, &rpc(ACCOUNTS, "GetServiceAccount"), get).await;
        shown["serviceAccount"]["suspended"].clone()
    };
    assert_eq!(suspended().await, true);
    ok(&api, &api.admin, &rpc(USERS, "EnableUser"), named).await;
    assert_eq!(suspended().await, Value::Null);
    who(&api, &key).await;
    // It looks after nobody, and signs in nowhere.
    assert_eq!(fails(&api, &key, &rpc(USERS, "ListUsers"), json!({})).await, "PERMISSION_DENIED");
    assert_eq!(fails(&api, &key, &rpc(SESSIONS, "SignOut"), json!({})).await, "NO_SESSION");
}

async fn people_see_only_themselves_and_whom_they_look_after(database: Database) {
    let api = start(&database).await;
    let ann = person(&api, "ann@example.org", &["roles/developer"]).await;
    person(&api, "bob@example.org", &["roles/developer"]).await;
    for (owner, id) in [("ann", "anns"), ("bob", "bobs")] {
        let owner = format!("users/{owner}@example.org");
        let body = json!({"serviceAccountId": id, "serviceAccount": {"owner": owner}});
        ok(&api, &api.admin, &rpc(ACCOUNTS, "CreateServiceAccount"), body).await;
    }
    let listed = ok(&api, &ann, &rpc(ACCOUNTS, "ListServiceAccounts"), json!({})).await;
    let names: Vec<_> =
        listed["serviceAccounts"].as_array().unwrap().iter().map(|account| &account["name"]).collect();
    assert_eq!(names, ["serviceAccounts/anns"]);
    let text_of = async |name: &str| {
        call(&api, &ann, &rpc(ACCOUNTS, "GetServiceAccount"), json!({"name": name})).await.1["message"]
            .clone()
    };
    // What one may not see does not exist.
    assert_eq!(text_of("serviceAccounts/bobs").await, "serviceAccounts/bobs does not exist");
    assert_eq!(text_of("serviceAccounts/none").await, "serviceAccounts/none does not exist");
    let keys = json!({"parent": "users/bob@example.org"});
    assert_eq!(fails(&api, &ann, &rpc(ACCOUNTS, "ListApiKeys"), keys).await, "RESOURCE_NOT_FOUND");
    let users =
        ok(&api, &api.admin, &rpc(USERS, "ListUsers"), json!({"search": "BOB@", "pageSize": 1})).await;
    assert_eq!(users["users"][0]["name"], "users/bob@example.org");
    assert!(users.get("nextPageToken").is_none(), "{users}");
    for (body, field) in [
        (json!({"user": {"email": "no address"}}), "user.email"),
        (
            json!({"user": {"email": "x@example.org", "bindings": [{"role": "roles/none"}]}}),
            "user.bindings[0].role",
        ),
        (json!({"user": {"email": "x@example.org", "title": "a\u{0}"}}), "user.title"),
        (json!({"user": {"email": "x@example.org"}, "team": "teams/none"}), "team"),
    ] {
        let (_, answer) = call(&api, &api.admin, &rpc(USERS, "CreateUser"), body).await;
        assert_eq!(answer["details"][1]["fieldViolations"][0]["field"], field, "{answer}");
    }
    for taken in ["bob@example.org", "BOB@example.org"] {
        let body = json!({"user": {"email": taken}});
        assert_eq!(fails(&api, &api.admin, &rpc(USERS, "CreateUser"), body).await, "RESOURCE_EXISTS");
    }
    let stale = json!({"user": {"name": "users/bob@example.org", "title": "Bob", "etag": "stale"}});
    assert_eq!(fails(&api, &api.admin, &rpc(USERS, "UpdateUser"), stale).await, "ETAG_MISMATCH");
}

async fn a_bearer_for_edges_names_its_principal_and_grants(database: Database) {
    let api = start(&database).await;
    let ann = person(&api, "ann@example.org", &["roles/developer"]).await;
    let bearer = rpc(SESSIONS, "CreateAccessBearer");
    let made = ok(&api, &ann, &bearer, json!({})).await;
    let claims = text(&made, "bearer").split('.').nth(1).map(|part| URL_SAFE_NO_PAD.decode(part).unwrap());
    let claims: Value = serde_json::from_slice(&claims.unwrap()).unwrap();
    let user = ok(&api, &api.admin, &rpc(USERS, "GetUser"), json!({"name": "users/ann@example.org"})).await;
    assert_eq!(
        [&claims["iss"], &claims["aud"], &claims["sub"], &claims["uid"], &claims["ep"]],
        [
            &json!("trunkline"),
            &json!("trunkline"),
            &json!("users/ann@example.org"),
            &user["user"]["uid"],
            &json!(0)
        ]
    );
    assert_eq!(claims["gr"].as_array().unwrap().len(), 1);
    assert_eq!(claims["gr"][0][1], "");
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 3_600);
    let none = json!({"team": "teams/none"});
    assert_eq!(fails(&api, &ann, &bearer, none).await, "INVALID_FIELD");
    assert_eq!(fails(&api, &api.admin, &bearer, json!({})).await, "NO_PRINCIPAL");
}

/// The epoch that a new bearer for edges names: those of a lower one are not believed any more.
async fn epoch(api: &Api, bearer: &str) -> i64 {
    let made = ok(api, bearer, &rpc(SESSIONS, "CreateAccessBearer"), json!({})).await;
    let claims = text(&made, "bearer").split('.').nth(1).map(|part| URL_SAFE_NO_PAD.decode(part).unwrap());
    let claims: Value = serde_json::from_slice(&claims.unwrap()).unwrap();
    claims["ep"].as_i64().unwrap()
}

async fn what_somebody_looks_after_goes_to_nobody_but_themselves(database: Database) {
    let api = start(&database).await;
    person(&api, "root@example.org", &["roles/administrator"]).await;
    let ann = person(&api, "ann@example.org", &["roles/developer"]).await;
    let role = json!([{"role": "roles/developer"}]);
    let account = json!({"serviceAccountId": "ci", "serviceAccount": {"bindings": role}});
    ok(&api, &ann, &rpc(ACCOUNTS, "CreateServiceAccount"), account).await;
    let key = json!({"parent": "serviceAccounts/ci"});
    let key = text(&ok(&api, &ann, &rpc(ACCOUNTS, "CreateApiKey"), key).await, "secret");
    let server = json!({"serverId": "all", "server": {"tools": [{"match": "*/*"}]}});
    ok(&api, &key, "registry.v1.ServerService/CreateServer", server).await;
    let token = json!({"tokenId": "t", "token": {"scope": {"servers": ["servers/all"], "tools": ["*"]}}});
    ok(&api, &key, "identity.v1.TokenService/CreateToken", token).await;
    let delete = |to: &str| json!({"name": "serviceAccounts/ci", "transferTo": to});
    let method = rpc(ACCOUNTS, "DeleteServiceAccount");
    // The server would select what the administrator may use, and the token call it.
    assert_eq!(fails(&api, &ann, &method, delete("users/root@example.org")).await, "PERMISSION_DENIED");
    ok(&api, &ann, &method, delete("users/ann@example.org")).await;
    let server = json!({"name": "servers/all"});
    let server = ok(&api, &ann, "registry.v1.ServerService/GetServer", server).await;
    assert_eq!(server["server"]["meta"]["owner"], "users/ann@example.org");
    let token = ok(&api, &ann, "identity.v1.TokenService/GetToken", json!({"name": "tokens/t"})).await;
    assert_eq!(token["token"]["meta"]["owner"], "users/ann@example.org");
    assert_eq!(token["token"]["state"], "TOKEN_STATE_REVOKED", "whoever had the account knows the bearer");
}

async fn what_was_made_with_a_session_or_a_key_ends_with_it(database: Database) {
    let api = start(&database).await;
    let first = person(&api, "ann@example.org", &["roles/developer"]).await;
    let link = ok(&api, &first, &rpc(SESSIONS, "CreateSignInLink"), json!({})).await;
    let before = epoch(&api, &first).await;
    let all = json!({"name": "users/ann@example.org/sessions/-"});
    ok(&api, &api.admin.clone(), &rpc(SESSIONS, "RevokeSession"), all).await;
    let redeem = json!({"secret": link["secret"]});
    assert_eq!(fails(&api, "", &rpc(SESSIONS, "RedeemLink"), redeem).await, "LINK_INVALID");

    let second = text(&sign_in(&api, "ann@example.org", PASSWORD, "").await.1, "secret");
    let third = text(&sign_in(&api, "ann@example.org", PASSWORD, "").await.1, "secret");
    let after = epoch(&api, &third).await;
    assert!(after > before, "bearers that were made with the sessions go on");
    let link = ok(&api, &second, &rpc(SESSIONS, "CreateSignInLink"), json!({})).await;
    ok(&api, &second, &rpc(SESSIONS, "SignOut"), json!({})).await;
    let redeem = json!({"secret": link["secret"]});
    assert_eq!(fails(&api, "", &rpc(SESSIONS, "RedeemLink"), redeem).await, "LINK_INVALID");
    let signed_out = epoch(&api, &third).await;
    assert!(signed_out > after, "bearers that were made with the session go on");

    let made = ok(&api, &third, &rpc(ACCOUNTS, "CreateApiKey"), json!({})).await;
    epoch(&api, &text(&made, "secret")).await;
    ok(&api, &third, &rpc(ACCOUNTS, "RevokeApiKey"), json!({"name": made["apiKey"]["name"]})).await;
    assert!(epoch(&api, &third).await > signed_out, "bearers that were made with the key go on");
}
