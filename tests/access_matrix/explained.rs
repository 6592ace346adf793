//! What the control plane explains, held to the reference as edges are. It must not know how either decides.

use access::decide::{Request, decide};
use futures_util::StreamExt as _;
use futures_util::stream;
use trunkline::policy::v1::ExplainAccessRequest;
use trunkline::policy::v1::policy_service_client::PolicyServiceClient;

use super::cast::{Cast, Principal, SERVERS, now_s};
use crate::support::admin::Admin;

/// Requests that are explained at a time.
const AT_ONCE: usize = 8;
const ADDRESS: &str = "127.0.0.1";

const ASKED: [(&str, &str); 9] = [
    ("tools/list", ""),
    ("logging/setLevel", ""),
    ("tools/call", "granted"),
    ("tools/call", "withheld"),
    ("tools/call", "absent"),
    ("prompts/get", "granted"),
    ("prompts/get", "withheld"),
    ("resources/read", "file:///granted/listed.txt"),
    ("resources/read", "file:///withheld/listed.txt"),
];

/// Asks about everybody at every server. Returns how often, and what is not as the reference decides.
pub(super) async fn compare(admin: &Admin, cast: &Cast) -> (usize, Vec<String>) {
    let everybody = cast.principals.iter().filter_map(|one| Some((one, one.known_as.as_deref()?)));
    let all = everybody.flat_map(|(one, name)| {
        let requests = SERVERS.into_iter().flat_map(|server| ASKED.map(|asked| (server, asked)));
        requests.map(move |(server, asked)| differs(admin, cast, one, name, server, asked))
    });
    let found: Vec<Option<String>> = stream::iter(all).buffer_unordered(AT_ONCE).collect().await;
    (found.len(), found.into_iter().flatten().collect())
}

async fn differs(
    admin: &Admin,
    cast: &Cast,
    principal: &Principal,
    name: &str,
    server: &str,
    (method, target): (&str, &str),
) -> Option<String> {
    let server = format!("servers/{server}");
    let request = Request {
        principal: principal.name.clone(),
        server: server.clone(),
        method: method.to_owned(),
        target: (!target.is_empty()).then(|| target.to_owned()),
        address: ADDRESS.parse().ok(),
        now_s: now_s(),
        ..Request::default()
    };
    let expected = decide(&cast.world, &request).refused.map_or("", |reason| reason.as_str());
    let request = ExplainAccessRequest {
        principal: name.to_owned(),
        server: server.clone(),
        method: method.to_owned(),
        target: target.to_owned(),
        from: ADDRESS.to_owned(),
        time: None,
        ..ExplainAccessRequest::default()
    };
    let mut client = PolicyServiceClient::new(admin.authorized());
    let found = client.explain_access(request).await.map(|answer| answer.into_inner().decision);
    let fine =
        matches!(&found, Ok(Some(found)) if found.reason == expected && found.allowed == expected.is_empty());
    (!fine).then(|| {
        format!("explained: {name} at {server}, {method} {target}: expected {expected:?}, and there came {found:?}")
    })
}
