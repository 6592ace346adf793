//! Client certificates: whose token a caller is by one, what a bearer changes, and what ends when a token, or an authority, does not
//! name it any more.

use rcgen::date_time_ymd;
use trunkline::edge::v1 as wire;
use trunkline_edge_proxy::config::limits::Limits;
use trunkline_edge_proxy::config::published::PublishedNames;

use crate::streams::until;
use crate::support::tls::{Authority, Pair, Tls, client_params, connect, https};
use crate::support::{Edge, PATIENCE, Reply, eventually, initialize};

const AGENT: &str = "spiffe://example.org/ns/prod/sa/agent";
const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#;

/// An edge that believes certificates of one authority.
struct World {
    edge: Edge,
    server: Authority,
    clients: Authority,
    tls: Tls,
}

impl World {
    /// `tokens/all` names these identities.
    fn new(certificates: &[&str]) -> Self {
        let (server, clients) = (Authority::new(), Authority::new());
        let tls = Tls::new(&server, Some(&clients), false);
        let (limits, published) = (Limits::default(), PublishedNames::default());
        let mut edge = Edge::with_port("http://127.0.0.1:9/mcp", limits, &published, tls.port());
        edge.snapshot.access().certificates = certificates.iter().map(|&name| name.to_owned()).collect();
        edge.publish();
        Self { edge, server, clients, tls }
    }

    /// Has the requests of the edge come with a certificate of these names.
    fn present(&mut self, names: &[&str], http1_only: bool) {
        self.edge.client = https(&self.server, Some(&self.clients.client(names)), http1_only);
    }

    /// A request without a bearer: the status, the reason of a refusal, and the session.
    async fn ask(&self, headers: &[(&str, &str)]) -> (u16, String, String) {
        let mut request = self.edge.bare("POST", "dev", &initialize("2025-11-25", "{}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let reply = Reply::of(request).await;
        let body: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
        let reason = body["error"]["data"]["reason"].as_str().unwrap_or_default().to_owned();
        (reply.status, reason, reply.header("mcp-session-id").to_owned())
    }

    /// The status of a list without a bearer, and how many tools it has.
    async fn list(&self, session: &str) -> (u16, usize) {
        let request = self.edge.bare("POST", "dev", LIST).header("mcp-session-id", session);
        let reply = Reply::of(request).await;
        (reply.status, reply.body.matches("inputSchema").count())
    }
}

fn refused(reason: &str) -> (u16, String, String) {
    (401, reason.to_owned(), String::new())
}

#[tokio::test]
async fn a_certificate_is_the_token_that_names_it() {
    for (names, identity) in [
        (vec![AGENT, "cn:boss"], AGENT),
        (vec!["dns:Agent.example.org", "dns:other.example.org"], "dns:agent.example.org"),
        (vec!["cn:agent"], "cn:agent"),
    ] {
        for http1_only in [true, false] {
            let mut world = World::new(&[identity]);
            world.present(&names, http1_only);
            let (status, reason, session) = world.ask(&[]).await;
            assert_eq!((status, reason.as_str()), (200, ""), "{identity}");
            assert_eq!(world.list(&session).await, (200, 4));
            // What it may do is what its token may, at once.
            world.edge.snapshot.access().tools = vec!["u_echo".to_owned()];
            world.edge.publish();
            assert_eq!(world.list(&session).await, (200, 1));
            world.edge.snapshot.access().from = vec!["192.0.2.0/24".to_owned()];
            world.edge.publish();
            assert_eq!(world.list(&session).await.0, 403);
        }
    }
}

#[tokio::test]
async fn a_certificate_that_no_token_or_several_name_is_nobodys() {
    let mut world = World::new(&[AGENT, "dns:agent.example.org"]);
    for names in [
        vec!["spiffe://example.org/ns/prod/sa/other"],
        vec![AGENT, "spiffe://example.org/ns/prod/sa/other"],
        vec!["dns:*.example.org"],
        vec!["cn:agent.example.org"],
        vec!["dns:other.example.org", "cn:agent"],
        vec![],
    ] {
        world.present(&names, false);
        assert_eq!(world.ask(&[]).await, refused("certificate_unknown"), "{names:?}");
    }
    // Nobody else's word counts for one.
    world.present(&[], false);
    let told = format!("By=spiffe://example.org/proxy;URI={AGENT}");
    assert_eq!(world.ask(&[("x-forwarded-client-cert", &told)]).await, refused("certificate_unknown"));
    world.edge.client = https(&world.server, None, false);
    assert_eq!(world.ask(&[("x-forwarded-client-cert", &told)]).await, refused("bearer_missing"));
    // Another token that names one of them.
    world.present(&[AGENT], false);
    assert_eq!(world.ask(&[]).await.0, 200);
    let certificates = vec![AGENT.to_owned()];
    world.edge.snapshot.resources.tokens[1].access =
        Some(wire::Access { certificates, servers: vec!["servers/dev".into()], ..wire::Access::default() });
    world.edge.publish();
    assert_eq!(world.ask(&[]).await, refused("certificate_unknown"));
    world.present(&["dns:agent.example.org"], false);
    assert_eq!(world.ask(&[]).await.0, 200, "the other identity is still one token's");
    // One that was revoked takes nobody's place.
    world.edge.snapshot.resources.tokens[1].revoked = true;
    world.edge.publish();
    world.present(&[AGENT], false);
    assert_eq!(world.ask(&[]).await.0, 200);
    world.edge.snapshot.resources.tokens[0].revoked = true;
    world.edge.publish();
    assert_eq!(world.ask(&[]).await, refused("certificate_unknown"));
}

#[tokio::test]
async fn a_certificate_of_two_tokens_is_nobodys() {
    let mut world = World::new(&["dns:a.example.org"]);
    let certificates = vec!["dns:b.example.org".to_owned()];
    world.edge.snapshot.resources.tokens[1].access =
        Some(wire::Access { certificates, servers: vec!["servers/dev".into()], ..wire::Access::default() });
    world.edge.publish();
    world.present(&["dns:a.example.org", "dns:b.example.org"], false);
    assert_eq!(world.ask(&[]).await, refused("certificate_unknown"));
    world.present(&["dns:b.example.org"], false);
    let (status, _, session) = world.ask(&[]).await;
    assert_eq!((status, world.list(&session).await), (200, (200, 0)));
}

#[tokio::test]
async fn a_bearer_counts_before_the_certificate_and_a_page_has_none() {
    let mut world = World::new(&[AGENT]);
    world.present(&[AGENT], false);
    let some = format!("Bearer {}", world.edge.keys.bearer("some"));
    let (status, _, session) = world.ask(&[("authorization", &some)]).await;
    assert_eq!(status, 200);
    // Its session is that of another principal.
    assert_eq!(world.list(&session).await.0, 404);
    let request = world.edge.bare("POST", "dev", LIST).header("mcp-session-id", &session);
    let reply = Reply::of(request.header("authorization", &some)).await;
    assert_eq!((reply.status, reply.body.matches("inputSchema").count()), (200, 1));
    assert_eq!(world.ask(&[("authorization", "Bearer wrong")]).await, refused("bearer_invalid"));
    let page = format!("https://localhost:{}", world.edge.address.port());
    assert_eq!(world.ask(&[("origin", &page)]).await, refused("bearer_missing"));
    // Of an image or a link in a page a browser says no origin.
    assert_eq!(world.ask(&[("sec-fetch-site", "cross-site")]).await, refused("bearer_missing"));
    let ticket = Reply::of(world.edge.at("POST", "/servers/dev/ws/ticket", "")).await;
    assert_eq!(ticket.status, 400, "{ticket:?}");
    assert!(ticket.body.contains("a ticket stands for a bearer"), "{ticket:?}");
}

#[tokio::test]
async fn what_a_token_loses_ends_on_open_connections() {
    for http1_only in [true, false] {
        for lost in ["certificate", "revoked", "server", "another"] {
            let mut world = World::new(&[AGENT]);
            world.present(&[AGENT], http1_only);
            let (_, _, session) = world.ask(&[]).await;
            let get = world.edge.bare("GET", "dev", "").header("mcp-session-id", &session);
            let mut streams = vec![get.send().await.unwrap()];
            until(&mut streams[0], "id: 0").await;
            streams.push(world.edge.at("GET", "/servers/dev/sse", "").send().await.unwrap());
            until(&mut streams[1], "endpoint").await;
            match lost {
                "certificate" => world.edge.snapshot.access().certificates.clear(),
                "revoked" => world.edge.snapshot.resources.tokens[0].revoked = true,
                "server" => world.edge.snapshot.access().servers.clear(),
                _ => {
                    let certificates = vec![AGENT.to_owned()];
                    world.edge.snapshot.resources.tokens[1].access =
                        Some(wire::Access { certificates, ..wire::Access::default() });
                }
            }
            world.edge.publish();
            for stream in streams {
                let rest = tokio::time::timeout(PATIENCE, stream.text()).await;
                assert!(rest.is_ok(), "{lost}: a stream goes on");
            }
        }
    }
}

#[tokio::test]
async fn certificates_of_others_and_of_other_times_are_not_spoken_to() {
    let world = World::new(&[AGENT]);
    let mut params = client_params(&[AGENT]);
    params.not_after = date_time_ymd(2001, 1, 1);
    let expired = world.clients.sign(&params);
    let mut params = client_params(&[AGENT]);
    params.not_before = date_time_ymd(2190, 1, 1);
    let early = world.clients.sign(&params);
    let foreign = Authority::new().client(&[AGENT]);
    let mut params = client_params(&[AGENT]);
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let of_server = world.clients.sign(&params);
    for (count, (what, pair)) in
        [("expired", &expired), ("early", &early), ("foreign", &foreign), ("of a server", &of_server)]
            .into_iter()
            .enumerate()
    {
        assert!(!is_spoken_to(&world, Some(pair)).await, "{what}");
        let failed = || world.edge.metrics.tls_handshakes_failed.get() == count as u64 + 1;
        eventually("it is counted", failed).await;
    }
    assert!(is_spoken_to(&world, Some(&world.clients.client(&[AGENT]))).await);
    assert!(is_spoken_to(&world, None).await, "it is not required");
    let tls = Tls::new(&world.server, Some(&world.clients), true);
    let (limits, published) = (Limits::default(), PublishedNames::default());
    let edge = Edge::with_port("http://127.0.0.1:9/mcp", limits, &published, tls.port());
    let strict = World { edge, tls, ..world };
    assert!(!is_spoken_to(&strict, None).await);
    assert!(is_spoken_to(&strict, Some(&strict.clients.client(&["cn:anybody"]))).await);
}

/// Whether a client with this certificate gets an answer. In TLS 1.3 it believes the handshake made before the edge has looked.
async fn is_spoken_to(world: &World, pair: Option<&Pair>) -> bool {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let Ok(mut stream) = connect(&world.edge, &world.server, pair, "http/1.1").await else { return false };
    let mut answer = [0; 12];
    let asked = stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let read = tokio::time::timeout(PATIENCE, stream.read_exact(&mut answer)).await.expect("nothing comes");
    asked.is_ok() && read.is_ok() && answer.starts_with(b"HTTP/1.1")
}

#[tokio::test]
async fn an_authority_that_is_not_believed_any_more_loses_its_connections_and_no_other_does() {
    let mut world = World::new(&[AGENT]);
    let bearer = https(&world.server, None, false);
    world.present(&[AGENT], false);
    let (_, _, session) = world.ask(&[]).await;
    let get = |world: &World| world.edge.bare("GET", "dev", "").header("mcp-session-id", &session);
    let mut stream = get(&world).send().await.unwrap();
    until(&mut stream, "id: 0").await;
    // The same authority again changes nothing.
    world.tls.replace(&world.server, Some(&world.clients)).await;
    assert_eq!(world.list(&session).await, (200, 4));
    world.edge.client = bearer.clone();
    let held = world.edge.session("2025-11-25", "{}").await;
    let mut other = world.edge.request("GET", &[("mcp-session-id", &held)], "").send().await.unwrap();
    until(&mut other, "id: 0").await;
    let others = Authority::new();
    world.tls.replace(&world.server, Some(&others)).await;
    let rest = tokio::time::timeout(PATIENCE, stream.text()).await;
    assert!(rest.is_ok(), "the stream goes on");
    world.edge.snapshot.resources.servers[0].prompts.clear();
    world.edge.publish();
    until(&mut other, "list_changed").await;
    assert!(!is_spoken_to(&world, Some(&world.clients.client(&[AGENT]))).await);
    world.edge.client = https(&world.server, Some(&others.client(&[AGENT])), false);
    assert_eq!(world.list(&session).await.0, 200, "the session is the token's");
}
