//! Confused deputies: a server that would call upstreams of others for whoever may write its members, labels or owner. What the
//! upstreams were sent is the proof; it must not know where the control plane looks.

use trunkline::admin::v1::bulk_service_client::BulkServiceClient;
use trunkline::admin::v1::manifest::Resource;
use trunkline::admin::v1::{ApplyResourcesRequest, Manifest};
use trunkline::identity::v1::Team;

use crate::support::fake::{Fake, tool};
use crate::support::gateway::{Gateway, Store};
use crate::support::wire::Client;
use crate::support::{PATIENCE, eventually};

async fn teams(gateway: &Gateway, names: &[&str]) {
    let team = |name: &&str| Manifest {
        resource: Some(Resource::Team(Team { name: format!("teams/{name}"), ..Team::default() })),
    };
    let manifests = names.iter().map(team).collect();
    let mut bulk = BulkServiceClient::new(gateway.admin.authorized());
    bulk.apply_resources(ApplyResourcesRequest { manifests, ..Default::default() }).await.unwrap();
}

/// Waits until a server exposes these tools, and no others.
async fn exposes(gateway: &Gateway, server: &str, bearer: &str, expected: &[&str]) {
    let url = gateway.url(0, server);
    eventually(&format!("what {server} exposes"), PATIENCE, || async {
        let tools = Client::open(&url, bearer).await?.tools().await?;
        if tools == expected { Ok(()) } else { Err(format!("{tools:?}")) }
    })
    .await;
}

async fn no_server_calls_upstreams_of_others(store: Store) {
    let gateway = Gateway::start(store, 1).await;
    teams(&gateway, &["thieves", "victims"]).await;
    let victim = Fake::start(&format!("[{}]", tool("spend")), |_, _| Vec::new()).await;
    let own = Fake::start(&format!("[{}]", tool("mine")), |_, _| Vec::new()).await;
    gateway.ctl(&format!("create upstream bank --url {} --team victims --label pick=me", victim.url())).await;
    gateway.ctl(&format!("create upstream own --url {} --team thieves --label pick=me", own.url())).await;
    // By a pattern, by the name of a tool on any upstream, and by what everybody may set: labels.
    gateway.ctl("create server thief --team thieves --tool */*").await;
    gateway.ctl("create server picker --team thieves --tool */spend --tool own/*").await;
    gateway.ctl("create server fair --team victims --tool bank/*").await;
    let bearer_of = async |server: &str| gateway.admin.create_token(server, server, &["*"]).await;
    let (thief, picker, fair) =
        (bearer_of("thief").await, bearer_of("picker").await, bearer_of("fair").await);
    exposes(&gateway, "fair", &fair, &["bank_spend"]).await;
    exposes(&gateway, "thief", &thief, &["own_mine"]).await;
    exposes(&gateway, "picker", &picker, &["own_mine"]).await;
    let client = Client::open(&gateway.url(0, "thief"), &thief).await.unwrap();
    for name in ["bank_spend", "spend", "own_spend"] {
        let answer = client.call(name, "{}").await.unwrap();
        assert!(!answer.json()["error"].is_null(), "{name}: {:?}", answer.json());
    }
    assert!(victim.received("tools/call").is_empty(), "nothing that a thief called reached the victim");
    // To name it is refused, whoever writes it; so is to take the server to the victims to get at it.
    let named = gateway.try_ctl(&["update", "server", "thief", "--tool", "bank/spend", "--yes"]).await;
    let said = String::from_utf8_lossy(&named.stderr).into_owned();
    assert!(!named.status.success() && said.contains("is not for a server of teams/thieves"), "{said}");
    // What is shown to everybody is for everybody, until it is not.
    gateway.ctl("update upstream bank --visibility public").await;
    exposes(&gateway, "thief", &thief, &["bank_spend", "own_mine"]).await;
    gateway.ctl("update upstream bank --visibility team").await;
    exposes(&gateway, "thief", &thief, &["own_mine"]).await;
    exposes(&gateway, "fair", &fair, &["bank_spend"]).await;
    // One of the installation takes what it names, and by a pattern nothing that somebody made for themselves.
    gateway.ctl("create server every --tool */*").await;
    assert_eq!(gateway.ctl("get server every -o jsonpath={.status.toolCount}").await, "0\n");
    gateway.ctl("create server all --tool bank/* --tool own/*").await;
    let all = bearer_of("all").await;
    exposes(&gateway, "all", &all, &["bank_spend", "own_mine"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_server_calls_upstreams_of_others_on_sqlite() {
    no_server_calls_upstreams_of_others(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_server_calls_upstreams_of_others_on_postgresql() {
    no_server_calls_upstreams_of_others(Store::Postgres).await;
}
