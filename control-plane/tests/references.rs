//! Secrets by reference, on both databases: who may refer to what, what is read where and when, and that edges get it.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

#[macro_use]
#[path = "support/database.rs"]
mod database;
#[path = "support/control.rs"]
mod control;
#[path = "support/desk.rs"]
mod desk;
#[path = "support/edge_end.rs"]
mod edge_end;
#[path = "support/secret_stores.rs"]
mod secret_stores;
#[path = "support/upstream.rs"]
mod upstream;

use std::sync::Arc;
use std::time::Duration;

use control::{Control, upstream_at};
use database::Database;
use desk::{Desk, Transport, somebody};
use edge_end::{EdgeEnd, PATIENCE, holds};
use prost::Message as _;
use secret_stores::SecretStores;
use serde_json::{Value, json};
use tempfile::TempDir;
use trunkline::edge::v1 as edge;
use trunkline::edge::v1::StreamType;
use trunkline::registry::v1::credential::Kind;
use trunkline::registry::v1::secret_reference::Source;
use trunkline::registry::v1::upstream_service_client::UpstreamServiceClient;
use trunkline::registry::v1::{
    BearerCredential, Credential, EnvironmentSource, FileSource, GetUpstreamRequest, KubernetesSource,
    RefreshUpstreamRequest, SecretReference, Upstream as Registered, UpstreamState, UpstreamStatus,
    VaultSource,
};
use trunkline_control_plane::config::Config;
use trunkline_control_plane::rights::Rights;
use upstream::Upstream;

suite! {
    a_developer_refers_to_the_secrets_of_their_team_and_to_no_others,
    a_reference_stays_where_it_was_written_for,
    references_go_through_files_and_are_read_back,
    what_is_not_open_is_refused,
    secrets_of_every_store_reach_edges,
    a_secret_that_changes_reaches_edges_under_another_version,
    what_cannot_be_read_again_stays_and_the_status_says_so,
    without_its_secret_an_upstream_is_not_called_until_it_is_there,
    replicas_give_the_same_version_to_the_same_secret,
}

const CREATE: &str = "registry.v1.UpstreamService/CreateUpstream";
const UPDATE: &str = "registry.v1.UpstreamService/UpdateUpstream";
const GET: &str = "registry.v1.UpstreamService/GetUpstream";
const PROBE: &str = "registry.v1.UpstreamService/ProbeUpstream";
const TUNNEL: &str = "registry.v1.UpstreamService/CreateTunnelCredential";
const APPLY: &str = "admin.v1.BulkService/ApplyResources";
const HERE: &str = "http://127.0.0.1:1/mcp";
const DENIED: &str = "PERMISSION_DENIED";

fn bearer(from: Value) -> Value {
    json!({"bearer": {"tokenFrom": from}})
}

fn env(name: &str) -> Value {
    json!({"env": {"name": name}})
}

fn file(path: &str) -> Value {
    json!({"file": {"path": path}})
}

/// An upstream of a team, or of nobody but who makes it.
fn upstream(url: &str, team: &str, credential: Value) -> Value {
    let meta = match team {
        "" => json!({}),
        team => json!({"team": format!("teams/{team}"), "visibility": "VISIBILITY_TEAM"}),
    };
    json!({"meta": meta, "http": {"url": url}, "credential": credential, "disabled": true})
}

fn create(id: &str, upstream: Value) -> Value {
    json!({"upstreamId": id, "noWait": true, "upstream": upstream})
}

fn update(id: &str, mut fields: Value, mask: &str) -> Value {
    fields["name"] = format!("upstreams/{id}").into();
    json!({"upstream": fields, "updateMask": mask})
}

/// A registry with two teams, and somebody who develops in both.
async fn start(database: &Database) -> (Desk, Arc<Rights>, Arc<Rights>) {
    let desk = Desk::open_on(database.url().to_owned(), TempDir::new().unwrap()).await;
    let administrator = Rights::administrator();
    let teams = json!({"manifests": [{"team": {"name": "teams/a"}}, {"team": {"name": "teams/b"}}]});
    desk.ok(&administrator, APPLY, teams).await;
    let held = [("developer", "teams/a"), ("developer", "teams/b")];
    let sql = "insert into principals (uid, name, email, title, owner, team, state, epoch, revision, created, updated, signed_in) \
               values ('uid-ann', 'users/ann', 'ann', '', '', '', 2, 0, 0, 0, 0, 0)";
    database.run(sql).await;
    (desk, administrator, somebody("ann", &held, &["teams/a", "teams/b"]))
}

async fn a_developer_refers_to_the_secrets_of_their_team_and_to_no_others(database: Database) {
    let (desk, administrator, ann) = start(&database).await;
    let global = [
        env("TRUNKLINE_SECRET_GITHUB"),
        file("github"),
        file("teams/b/x"),
        env("TRUNKLINE_SECRET_TEAMS_B_X"),
    ];
    for (at, reference) in global.iter().enumerate() {
        for team in ["", "a"] {
            let body = create("x", upstream(HERE, team, bearer(reference.clone())));
            let said = desk.fails(&ann, CREATE, body.clone(), DENIED).await;
            assert_eq!(said["metadata"]["permission"], "registry.all");
            assert_eq!(said["violations"][0][0], "upstream.credential.bearer.token_from");
            let apply = json!({"manifests": [{"upstream": {"name": "upstreams/x", "meta": body["upstream"]["meta"],
                "http": {"url": HERE}, "credential": bearer(reference.clone())}}]});
            desk.fails(&ann, APPLY, apply, DENIED).await;
            // A probe sends it just so.
            let probe = json!({"upstream": body["upstream"]});
            desk.fails(&ann, PROBE, probe, DENIED).await;
        }
        desk.ok(
            &administrator,
            CREATE,
            create(&format!("g{at}"), upstream(HERE, "a", bearer(reference.clone()))),
        )
        .await;
    }
    for form in [
        json!({"basic": {"username": "u", "passwordFrom": file("github")}}),
        json!({"headers": {"headersFrom": [{"name": "X-Key", "valueFrom": file("github")}]}}),
        json!({"queryParameter": {"parameter": "key", "valueFrom": file("github")}}),
    ] {
        desk.fails(&ann, CREATE, create("x", upstream(HERE, "a", form)), DENIED).await;
    }
    let own = [file("teams/a/github"), env("TRUNKLINE_SECRET_TEAMS_A_GITHUB")];
    for (at, reference) in own.iter().enumerate() {
        desk.ok(&ann, CREATE, create(&format!("own{at}"), upstream(HERE, "a", bearer(reference.clone()))))
            .await;
        // What is theirs alone is of no team.
        desk.fails(&ann, CREATE, create("x", upstream(HERE, "", bearer(reference.clone()))), DENIED).await;
    }
}

async fn a_reference_stays_where_it_was_written_for(database: Database) {
    let (desk, administrator, ann) = start(&database).await;
    let global = bearer(file("github"));
    desk.ok(&administrator, CREATE, create("up", upstream(HERE, "a", global.clone()))).await;
    // Whoever sees it may keep it, in a mask and in a whole message.
    desk.ok(&ann, UPDATE, update("up", json!({"title": "t"}), "title")).await;
    desk.ok(&ann, UPDATE, update("up", json!({"credential": global}), "credential")).await;
    desk.ok(&ann, UPDATE, update("up", json!({"http": {"url": "http://127.0.0.1:1/other"}}), "http")).await;
    let elsewhere = json!({"http": {"url": "http://127.0.0.1:2/mcp"}});
    desk.fails(&ann, UPDATE, update("up", elsewhere.clone(), "http"), DENIED).await;
    let tls = json!({"http": {"url": "https://127.0.0.1:1/mcp"}});
    desk.fails(&ann, UPDATE, update("up", tls, "http"), DENIED).await;
    desk.fails(&ann, UPDATE, update("up", json!({"tunnel": {}}), "tunnel"), DENIED).await;
    let mut both = elsewhere.clone();
    both["credential"] = global.clone();
    desk.fails(&ann, UPDATE, update("up", both, "http,credential"), DENIED).await;
    // In another place of the request it may be shown, such as in a page of errors.
    let form = json!({"queryParameter": {"parameter": "q", "valueFrom": file("github")}});
    desk.fails(&ann, UPDATE, update("up", json!({"credential": form}), "credential"), DENIED).await;
    // Another team has not been trusted with it.
    let handed = json!({"meta": {"team": "teams/b"}});
    desk.fails(&ann, UPDATE, update("up", handed, "meta.team"), DENIED).await;
    let copied = desk
        .call(&ann, Transport::Json, CREATE, &create("copy", upstream(HERE, "a", bearer(file("github")))))
        .await;
    assert_eq!(copied.reason, DENIED);
    desk.ok(&administrator, UPDATE, update("up", elsewhere, "http")).await;
    // Whoever opens its tunnel would get it.
    let mut dials_in = upstream(HERE, "a", global);
    dials_in.as_object_mut().unwrap().remove("http");
    dials_in["tunnel"] = json!({});
    desk.ok(&administrator, CREATE, create("inside", dials_in)).await;
    let open = json!({"name": "upstreams/inside"});
    desk.fails(&ann, TUNNEL, open.clone(), DENIED).await;
    desk.ok(&administrator, TUNNEL, open).await;
}

async fn references_go_through_files_and_are_read_back(database: Database) {
    let (desk, administrator, ann) = start(&database).await;
    let headers = json!({"headers": {
        "headers": {"X-Tenant": "s3cret"},
        "headersFrom": [{"name": "X-Key", "valueFrom": {"file": {"path": "teams/a/keys.json", "key": "k"}}}]
    }});
    desk.ok(&ann, CREATE, create("up", upstream(HERE, "a", headers))).await;
    let read = desk.ok(&ann, GET, json!({"name": "upstreams/up"})).await;
    let mut credential = read["upstream"]["credential"].clone();
    let version = credential["version"].take();
    assert_eq!(credential["headers"]["headers"], json!({"X-Tenant": ""}));
    assert_eq!(
        credential["headers"]["headersFrom"][0]["valueFrom"]["file"],
        json!({"path": "teams/a/keys.json", "key": "k"})
    );
    // Written back as it was read, nothing changes.
    let again = json!({
        "name": "upstreams/up", "meta": {"team": "teams/a", "visibility": "VISIBILITY_TEAM"}, "disabled": true,
        "http": {"url": HERE}, "credential": {"headers": credential["headers"]}
    });
    let applied = desk.ok(&ann, APPLY, json!({"manifests": [{"upstream": again}]})).await;
    assert_eq!(applied["changes"][0]["action"], "CHANGE_ACTION_UNCHANGED", "{applied}");
    // A secret in the place of the reference, and a reference in the place of a secret.
    let value = json!({"credential": {"headers": {"headers": {"X-Tenant": "", "X-Key": "s3cret"}}}});
    let updated = desk.ok(&ann, UPDATE, update("up", value, "credential")).await;
    assert_ne!(updated["upstream"]["credential"]["version"], version);
    let both = json!({"credential": {"bearer": {"token": "s3cret", "tokenFrom": file("teams/a/x")}}});
    let said = desk.fails(&ann, UPDATE, update("up", both, "credential"), "INVALID_FIELD").await;
    assert_eq!(said["violations"][0][0], "upstream.credential.bearer.token_from");
    assert!(!said.to_string().contains("s3cret"), "{said}");
    // What is left out is not taken from the reference that was there.
    let from = json!({"credential": bearer(file("teams/a/x"))});
    desk.ok(&ann, UPDATE, update("up", from, "credential")).await;
    let nothing = json!({"credential": {"bearer": {}}});
    desk.fails(&administrator, UPDATE, update("up", nothing, "credential"), "INVALID_FIELD").await;
}

async fn what_is_not_open_is_refused(database: Database) {
    let (desk, administrator, ann) = start(&database).await;
    for (reference, why) in [
        (env("TRUNKLINE_MASTER_KEY"), "names an option of the control plane, to which nobody refers"),
        (env("PATH"), "names a variable that does not begin with TRUNKLINE_SECRET_ (--secret-env-prefix)"),
        (file("../../etc/passwd"), "must be a path of plain segments"),
        (json!({"vault": {"path": "a", "key": "k"}}), "(--secret-vault-address)"),
        (json!({"kubernetes": {"name": "trunkline-secret-a", "key": "k"}}), "(--secret-kubernetes)"),
        (json!({}), "names no store"),
    ] {
        let body = create("x", upstream(HERE, "", bearer(reference.clone())));
        let said = desk.fails(&administrator, CREATE, body.clone(), "INVALID_FIELD").await;
        assert!(said["violations"][0][1].as_str().unwrap().contains(why), "{reference}: {said}");
        let answer = desk.call(&ann, Transport::Json, CREATE, &body).await;
        assert_ne!(answer.reason, "OK", "{reference}");
    }
}

/// The stores, and a folder with what the options name.
struct Open {
    stores: SecretStores,
    folder: TempDir,
    url: String,
}

impl Open {
    async fn on(database: &Database) -> Self {
        let (stores, folder) = (SecretStores::start("t1").await, TempDir::new().unwrap());
        std::fs::create_dir(folder.path().join("secrets")).unwrap();
        for (name, text) in [("token", "t1\n"), ("namespace", "ns\n")] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        Self { stores, folder, url: database.url().to_owned() }
    }

    fn configure(&self, config: &mut Config) {
        config.database_url = Some(self.url.clone().into());
        let (options, folder) = (&mut config.secrets, self.folder.path());
        // Of the test itself: it cannot set variables.
        options.secret_env_prefix = "CARGO_PKG_".to_owned();
        options.secret_dir = Some(folder.join("secrets"));
        options.secret_vault_address = Some(self.stores.url());
        options.secret_vault_token_file = Some(folder.join("token"));
        options.secret_vault_prefix = Some("secret/trunkline".to_owned());
        options.secret_kubernetes = true;
        options.secret_kubernetes_api = Some(self.stores.url());
        options.secret_kubernetes_account = folder.to_owned();
        options.secret_refresh = Duration::from_millis(200);
    }

    async fn control(&self) -> Control {
        Control::start_with(|config| self.configure(config)).await
    }

    fn write(&self, path: &str, text: &str) {
        let (path, new) = (self.folder.path().join(path), self.folder.path().join("new"));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, path).unwrap();
    }
}

fn from_file(path: &str) -> Source {
    Source::File(FileSource { path: path.to_owned(), key: String::new() })
}

fn from_vault() -> Source {
    let (path, key, mount) = ("trunkline/github".to_owned(), "token".to_owned(), String::new());
    Source::Vault(VaultSource { path, key, mount })
}

fn with_bearer_from(url: &str, source: Source) -> Registered {
    let bearer =
        BearerCredential { token_from: Some(SecretReference { source: Some(source) }), ..Default::default() };
    let credential = Credential { kind: Some(Kind::Bearer(bearer)), ..Default::default() };
    Registered { credential: Some(credential), ..upstream_at(url) }
}

async fn connect(control: &Control, id: &str) -> EdgeEnd {
    let credential = control.enrol(id).await;
    EdgeEnd::connect(&control.channel, id, &credential, edge_end::Held::new()).await.unwrap()
}

/// The header that an edge sends to an upstream. `None`: it must not call it.
fn sent(held: &edge_end::Held, name: &str) -> Option<String> {
    let (_, body) = held.get(&(StreamType::Secret, name.to_owned()))?;
    let secret = edge::Secret::decode(body.as_slice()).unwrap();
    Some(secret.headers[0].value.clone())
}

/// The version of the credential, as edges know it.
fn version(held: &edge_end::Held, name: &str) -> Option<String> {
    let (_, body) = held.get(&(StreamType::Upstream, name.to_owned()))?;
    let upstream = edge::Upstream::decode(body.as_slice()).unwrap();
    assert!(upstream.has_secret, "without it, it must not be called");
    Some(upstream.credential_version)
}

async fn status_when(
    control: &Control,
    id: &str,
    wanted: impl Fn(&UpstreamStatus) -> bool,
) -> UpstreamStatus {
    let mut client = UpstreamServiceClient::new(control.channel.clone());
    let look = async {
        loop {
            let request = control.admin(GetUpstreamRequest { name: format!("upstreams/{id}") });
            let upstream = client.get_upstream(request).await.unwrap().into_inner().upstream.unwrap();
            let status = upstream.status.unwrap_or_default();
            if wanted(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.unwrap()
}

async fn secrets_of_every_store_reach_edges(database: Database) {
    let open = Open::on(&database).await;
    open.write("secrets/token", "of-a-file\n");
    open.stores.put("trunkline/github", "token", "of-vault");
    open.stores.put("trunkline-secret-github", "token", "of-kubernetes\n");
    let control = open.control().await;
    let kubernetes = KubernetesSource {
        name: "trunkline-secret-github".to_owned(),
        key: "token".to_owned(),
        namespace: "ns".to_owned(),
    };
    for (id, source) in [
        ("env", Source::Env(EnvironmentSource { name: "CARGO_PKG_NAME".to_owned() })),
        ("file", from_file("token")),
        ("vault", from_vault()),
        ("kubernetes", Source::Kubernetes(kubernetes)),
    ] {
        control.upstream(id, with_bearer_from(HERE, source), false).await;
    }
    let mut edge = connect(&control, "e1").await;
    for (id, expected) in [
        ("env", "Bearer trunkline-control-plane"),
        ("file", "Bearer of-a-file"),
        ("vault", "Bearer of-vault"),
        ("kubernetes", "Bearer of-kubernetes"),
    ] {
        let name = format!("upstreams/{id}");
        edge.until(|held| holds(held, StreamType::Secret, &name)).await;
        assert_eq!(sent(&edge.held, &name).as_deref(), Some(expected));
    }
    control.running.drain().await;
}

async fn a_secret_that_changes_reaches_edges_under_another_version(database: Database) {
    let open = Open::on(&database).await;
    open.write("secrets/token", "one");
    open.stores.put("trunkline/github", "token", "one");
    let control = open.control().await;
    control.upstream("file", with_bearer_from(HERE, from_file("token")), false).await;
    control.upstream("vault", with_bearer_from(HERE, from_vault()), false).await;
    let mut edge = connect(&control, "e1").await;
    let is = |id: &str, secret: &str| {
        let (name, secret) = (format!("upstreams/{id}"), format!("Bearer {secret}"));
        move |held: &edge_end::Held| sent(held, &name).as_ref() == Some(&secret)
    };
    // A secret comes before the upstream that says its version.
    let file = |held: &edge_end::Held| version(held, "upstreams/file");
    edge.until(|held| is("file", "one")(held) && is("vault", "one")(held) && file(held).is_some()).await;
    let first = file(&edge.held);
    open.write("secrets/token", "two");
    edge.until(|held| is("file", "two")(held) && file(held) != first).await;
    // With it Vault's token is rotated, which is read from its file each time.
    open.stores.put("trunkline/github", "token", "two");
    open.stores.take("t2");
    open.write("token", "t2");
    edge.until(is("vault", "two")).await;
    open.write("secrets/token", "one");
    // The version follows from the secret.
    edge.until(|held| is("file", "one")(held) && file(held) == first).await;
    control.running.drain().await;
}

async fn what_cannot_be_read_again_stays_and_the_status_says_so(database: Database) {
    let (open, up) = (Open::on(&database).await, Upstream::start(&["a"]));
    open.stores.put("trunkline/github", "token", "one");
    let control = open.control().await;
    let created = control.upstream("up", with_bearer_from(&up.url(), from_vault()), true).await;
    assert_eq!(created.status.unwrap().state(), UpstreamState::Ready);
    let mut edge = connect(&control, "e1").await;
    edge.until(|held| holds(held, StreamType::Secret, "upstreams/up")).await;
    open.stores.fail(Some(403));
    let status = status_when(&control, "up", |status| !status.reason.is_empty()).await;
    assert_eq!(status.state(), UpstreamState::Ready, "{status:?}");
    let (before, after) = (
        "credential.bearer.token_from cannot be read since ",
        ": vault answered 403; what was read before is used",
    );
    assert!(status.reason.starts_with(before) && status.reason.ends_with(after), "{}", status.reason);
    assert_eq!(status.warnings.first(), Some(&status.reason));
    assert_eq!(sent(&edge.held, "upstreams/up").as_deref(), Some("Bearer one"));
    open.stores.put("trunkline/github", "token", "two");
    open.stores.fail(None);
    edge.until(|held| sent(held, "upstreams/up").as_deref() == Some("Bearer two")).await;
    let status = status_when(&control, "up", |status| status.reason.is_empty()).await;
    assert_eq!(status.state(), UpstreamState::Ready);
    assert!(!status.warnings.iter().any(|warning| warning.starts_with("credential.")), "{status:?}");
    control.running.drain().await;
}

async fn without_its_secret_an_upstream_is_not_called_until_it_is_there(database: Database) {
    let (open, up) = (Open::on(&database).await, Upstream::start(&["a"]));
    let control = open.control().await;
    let created = control.upstream("up", with_bearer_from(&up.url(), from_file("token")), true).await;
    let status = created.status.unwrap();
    assert_eq!(status.state(), UpstreamState::Unauthorized);
    let why = "its credential cannot be had: credential.bearer.token_from: token: the file does not exist";
    assert_eq!(status.reason, why);
    let mut edge = connect(&control, "e1").await;
    edge.until(|held| holds(held, StreamType::Upstream, "upstreams/up")).await;
    edge.until_alive().await;
    assert_eq!(sent(&edge.held, "upstreams/up"), None);
    assert!(version(&edge.held, "upstreams/up").is_some());
    open.write("secrets/token", "there");
    edge.until(|held| sent(held, "upstreams/up").as_deref() == Some("Bearer there")).await;
    status_when(&control, "up", |status| status.state() == UpstreamState::Ready).await;
    // What is no header is not sent, and not shown; edges go on with what they have.
    open.write("secrets/token", "s3cret with spaces");
    let status = status_when(&control, "up", |status| !status.reason.is_empty()).await;
    assert_eq!(status.state(), UpstreamState::Ready, "{status:?}");
    let why = "what was read contains characters that are not allowed in a header";
    assert!(status.reason.contains(why), "{}", status.reason);
    assert!(status.reason.ends_with("; what was read before is used"), "{}", status.reason);
    assert!(!format!("{status:?}").contains("s3cret"));
    edge.until_alive().await;
    assert_eq!(sent(&edge.held, "upstreams/up").as_deref(), Some("Bearer there"));
    control.running.drain().await;
}

async fn replicas_give_the_same_version_to_the_same_secret(database: Database) {
    let open = Open::on(&database).await;
    open.write("secrets/token", "one");
    let first = open.control().await;
    first.upstream("up", with_bearer_from(HERE, from_file("token")), false).await;
    let second = first.replica_with(|config| open.configure(config)).await;
    let (mut one, mut two) = (connect(&first, "e1").await, connect(&second, "e2").await);
    for edge in [&mut one, &mut two] {
        edge.until(|held| {
            holds(held, StreamType::Secret, "upstreams/up")
                && holds(held, StreamType::Upstream, "upstreams/up")
        })
        .await;
    }
    let items = |edge: &EdgeEnd| {
        let of = [StreamType::Upstream, StreamType::Secret].map(|kind| (kind, "upstreams/up".to_owned()));
        of.map(|key| edge.held[&key].0.clone())
    };
    assert_eq!(items(&one), items(&two));
    second.running.drain().await;
    first.running.drain().await;
}

/// Many upstreams that refer to keys of one secret cost one request at a time, and what an upstream refuses is read again at once.
#[tokio::test(flavor = "multi_thread")]
async fn one_request_is_made_for_many_references() {
    let database = Database::sqlite();
    let open = Open::on(&database).await;
    open.stores.put("trunkline/github", "token", "one");
    let control = Control::start_with(|config| {
        open.configure(config);
        config.secrets.secret_refresh = Duration::from_secs(3_600);
    })
    .await;
    for id in ["a", "b", "c", "d"] {
        control.upstream(id, with_bearer_from(HERE, from_vault()), true).await;
    }
    let mut client = UpstreamServiceClient::new(control.channel.clone());
    let request = RefreshUpstreamRequest { name: "upstreams/a".to_owned(), ..Default::default() };
    client.refresh_upstream(control.admin(request)).await.unwrap();
    assert_eq!(open.stores.requests(), 1);
    control.running.drain().await;
}

/// An upstream that takes nobody.
async fn refusing() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let router = axum::Router::new().fallback(|| async { axum::http::StatusCode::UNAUTHORIZED });
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_upstream_refuses_is_read_again() {
    let database = Database::sqlite();
    let (open, url) = (Open::on(&database).await, refusing().await);
    open.stores.put("trunkline/github", "token", "one");
    let control = Control::start_with(|config| {
        open.configure(config);
        config.secrets.secret_refresh = Duration::from_secs(3_600);
    })
    .await;
    let created = control.upstream("up", with_bearer_from(&url, from_vault()), true).await;
    assert_eq!(created.status.unwrap().state(), UpstreamState::Unauthorized);
    open.stores.put("trunkline/github", "token", "two");
    let mut edge = connect(&control, "e1").await;
    // It is asked again and again, and the secret is read again because it refuses.
    edge.until(|held| sent(held, "upstreams/up").as_deref() == Some("Bearer two")).await;
    let requests = open.stores.requests();
    assert!(requests < 10, "{requests} requests");
    control.running.drain().await;
}
