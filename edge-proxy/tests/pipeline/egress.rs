//! Connections to upstreams go to addresses that the egress rule allows, and to no others.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use egress::{CheckedResolver, Class, Resolve, Rule};
use futures_util::future::BoxFuture;
use trunkline::edge::v1::UpstreamTransport;

use crate::support::{Edge, META, Reply, Upstream, json, mcp, modern};

/// Answers each time with the next of these addresses, and at last with the last.
#[derive(Debug, Clone)]
struct Turns {
    turns: Arc<Mutex<VecDeque<Vec<IpAddr>>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Turns {
    fn new(turns: &[&[&str]]) -> Self {
        let parse = |turn: &&[&str]| turn.iter().map(|text| text.parse().unwrap()).collect();
        Self { turns: Arc::new(Mutex::new(turns.iter().map(parse).collect())), asked: Arc::default() }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Resolve for Turns {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        self.asked.lock().unwrap().push(host.to_owned());
        let mut turns = self.turns.lock().unwrap();
        let turn = if turns.len() > 1 { turns.pop_front() } else { turns.front().cloned() };
        let found = turn.into_iter().flatten().map(|address| SocketAddr::new(address, port)).collect();
        Box::pin(async move { Ok(found) })
    }
}

fn rule(allow: &str) -> Rule {
    Rule::new(allow.parse::<egress::Ranges>().unwrap().0, Vec::new())
}

async fn call(edge: &Edge) -> Reply {
    call_tool(edge, "u_echo").await
}

async fn call_tool(edge: &Edge, tool: &str) -> Reply {
    let call =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}",{META}}}}}"#);
    edge.post(&modern("tools/call", Some(tool)), &call).await
}

/// An upstream that keeps no connection unless `keeps`, and its URL under a name that no system knows.
async fn upstream(keeps: bool) -> (Upstream, String) {
    let upstream = Upstream::start(move |request| {
        let mut response =
            json(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[]}}}}"#, request.id()));
        if !keeps {
            response.headers_mut().insert("connection", "close".parse().unwrap());
        }
        response
    })
    .await;
    let url = upstream.url.replace("127.0.0.1", "upstream.invalid");
    (upstream, url)
}

const SERVED: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;
const REFUSED: &str = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-31113,"message":"upstream u: cannot connect: the egress rule of edge edge does not allow its address; start that edge with --egress-allow","data":{"reason":"upstream_not_allowed","upstream":"u"}}}"#;

#[tokio::test]
async fn a_name_that_changes_its_address_is_checked_for_every_connection() {
    let (upstream, url) = upstream(false).await;
    let turns = Turns::new(&[&["127.0.0.1"], &["169.254.169.254"], &["127.0.0.1"], &["127.0.0.2"]]);
    let edge = Edge::resolving(&url, CheckedResolver::new(rule("127.0.0.1"), turns.clone()));
    for expected in [SERVED, REFUSED, SERVED, REFUSED] {
        let reply = call(&edge).await;
        assert_eq!((reply.status, reply.body.as_str()), (200, expected));
    }
    // One look for each connection: what was found is what was checked and connected to.
    assert_eq!(turns.asked(), ["upstream.invalid"; 4]);
    assert_eq!(upstream.calls("tools/call").len(), 2);
    let refused = [Class::Metadata, Class::Loopback].map(|class| edge.metrics.egress_refused(class).get());
    assert_eq!(refused, [1, 1]);
}

#[tokio::test]
async fn of_several_addresses_only_those_that_are_allowed_are_tried() {
    let (upstream, url) = upstream(false).await;
    let turns = Turns::new(&[&["127.0.0.2", "::1", "10.0.0.1", "127.0.0.1"]]);
    let edge = Edge::resolving(&url, CheckedResolver::new(rule("127.0.0.1"), turns));
    assert_eq!(call(&edge).await.body, SERVED);
    assert_eq!(upstream.calls("tools/call").len(), 1);
}

#[tokio::test]
async fn a_connection_that_is_kept_costs_no_look() {
    let (upstream, url) = upstream(true).await;
    let turns = Turns::new(&[&["127.0.0.1"]]);
    let edge = Edge::resolving(&url, CheckedResolver::new(rule("loopback"), turns.clone()));
    for _ in 0..10 {
        assert_eq!(call_tool(&edge, "u_safe").await.body, SERVED);
    }
    // Each of the two workers has connections of its own.
    assert!(turns.asked().len() <= 2, "{:?}", turns.asked());
    assert_eq!(upstream.calls("tools/call").len(), 10);
}

#[tokio::test]
async fn every_transport_is_under_the_rule() {
    for transport in
        [UpstreamTransport::StreamableHttp, UpstreamTransport::HttpSse, UpstreamTransport::Websocket]
    {
        for host in ["127.0.0.1", "localhost", "0x7f.1", "2130706433", "[::ffff:127.0.0.1]"] {
            let (upstream, _) = upstream(true).await;
            let url = upstream.url.replace("127.0.0.1", host);
            let mut edge = Edge::resolving(&url, CheckedResolver::system(rule("private")));
            mcp(&mut edge.snapshot.resources.upstreams[0]).set_transport(transport);
            edge.publish();
            let reply = call(&edge).await;
            assert_eq!((reply.status, reply.body.as_str()), (200, REFUSED), "{transport:?} {host}");
            assert_eq!(upstream.requests().len(), 0, "{transport:?} {host}");
            assert!(edge.metrics.egress_refused(Class::Loopback).get() > 0, "{transport:?} {host}");
        }
    }
}
