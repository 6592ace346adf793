//! Many edges that come at once: who is sent much waits for a turn, nobody else does, and the database is asked about all of
//! them together.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

#[path = "support/control.rs"]
mod control;
#[macro_use]
#[path = "support/database.rs"]
mod database;
#[path = "support/edge_end.rs"]
mod edge_end;

use std::sync::Arc;

use control::Control;
use database::Database;
use edge_end::{EdgeEnd, Held, PATIENCE, holds};
use tonic::Code;
use trunkline::discovery::v1::fleet_service_client::FleetServiceClient;
use trunkline::discovery::v1::{DeleteEdgeRequest, Edge};
use trunkline::edge::v1::StreamType;
use trunkline::registry::v1::Server;
use trunkline_control_plane::discovery::fleet::Fleet;
use trunkline_control_plane::store::Store;
use trunkline_control_plane::store::edges::Edges;

suite! {
    the_state_of_all_edges_is_written_together,
    what_could_not_be_written_is_written_later,
}

/// A control plane that brings one edge up to date at a time.
async fn one_at_a_time() -> Control {
    Control::start_with(|config| config.stream_concurrency = 1).await
}

async fn connect(control: &Control, id: &str) -> EdgeEnd {
    let credential = control.enrol(id).await;
    EdgeEnd::connect(&control.channel, id, &credential, Held::new()).await.unwrap()
}

/// Waits until so many edges are brought up to date, and so many wait for that.
async fn streams(control: &Control, admitted: usize, waiting: usize) {
    let wanted = [
        format!("trunkline_control_streams_admitted {admitted}"),
        format!("trunkline_control_streams_waiting {waiting}"),
    ];
    let there = async {
        loop {
            let metrics = control.metrics().await;
            if wanted.iter().all(|line| metrics.lines().any(|found| found == line)) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, there).await.unwrap();
}

#[tokio::test]
async fn edges_that_are_sent_much_take_turns_and_nobody_else_waits() {
    let control = one_at_a_time().await;
    control.server("before", Server::default()).await;
    // It takes its time to answer.
    let mut slow = connect(&control, "e1").await;
    let first = slow.next().await.unwrap().unwrap();
    let mut second = connect(&control, "e2").await;
    streams(&control, 1, 1).await;
    let mut third = connect(&control, "e3").await;
    streams(&control, 1, 2).await;

    // Who writes the registry, and what is small for those who are up to date, goes by them.
    let revision = control.server("meanwhile", Server::default()).await;
    assert!(revision > 0);

    slow.take(first).await;
    slow.until(|held| holds(held, StreamType::Server, "servers/meanwhile")).await;
    for edge in [&mut second, &mut third] {
        edge.until(|held| holds(held, StreamType::Server, "servers/meanwhile")).await;
        edge.until_alive().await;
    }
    streams(&control, 0, 0).await;
    let newest = control.server("after", Server::default()).await;
    assert!(newest > revision);
    for edge in [&mut slow, &mut second, &mut third] {
        edge.until(|held| holds(held, StreamType::Server, "servers/after")).await;
    }
}

#[tokio::test]
async fn an_edge_that_waits_is_told_when_its_stream_is_over() {
    let control = one_at_a_time().await;
    let mut slow = connect(&control, "e1").await;
    slow.next().await.unwrap().unwrap();
    let mut deleted = connect(&control, "e2").await;
    streams(&control, 1, 1).await;
    let gone = connect(&control, "e3").await;
    streams(&control, 1, 2).await;

    let mut fleet = FleetServiceClient::new(control.channel.clone());
    let request =
        control.admin(DeleteEdgeRequest { name: "edges/e2".to_owned(), force: true, ..Default::default() });
    fleet.delete_edge(request).await.unwrap();
    assert_eq!(deleted.until_end().await.0.unwrap().code(), Code::Unauthenticated);
    streams(&control, 1, 1).await;
    drop(gone);
    streams(&control, 1, 0).await;

    let mut waiting = connect(&control, "e4").await;
    streams(&control, 1, 1).await;
    let drained = tokio::spawn(control.running.drain());
    let (end, told) = waiting.until_end().await;
    assert!(told && end.is_none_or(|status| status.code() != Code::Internal));
    drop((slow, waiting));
    drained.await.unwrap();
}

/// Enrols so many edges, all of one enrolment's id.
async fn enrolled(database: &Database, edges: usize) {
    let nothing = if database.is_sqlite() { "x''" } else { "''" };
    let row = |at| format!("('e{at}', 1, 'enrolled', '', 0, 0, 0, '', '', '', '', 0, 0, 0, 0, {nothing})");
    let rows: Vec<String> = (0..edges).map(row).collect();
    let columns = "id, enroll_us, enrollment, replica, connection, beat_us, state_us, version, client_address, \
                   sibling_address, sibling_certificate, sent_revision, answered_revision, acked_revision, \
                   behind_us, refusals";
    database.run(&format!("insert into edges ({columns}) values {}", rows.join(", "))).await;
}

fn fleet(store: &Store) -> (Edges, Arc<Fleet>) {
    let edges = Edges::new(store);
    (edges.clone(), Arc::new(Fleet::new(edges, "here".to_owned())))
}

fn edge(at: usize) -> Edge {
    Edge { id: format!("e{at}"), version: "1".to_owned(), ..Default::default() }
}

async fn the_state_of_all_edges_is_written_together(database: Database) {
    const EDGES: usize = 200;
    let store = database.open().await;
    enrolled(&database, EDGES).await;
    let (edges, fleet) = fleet(&store);
    let mut here: Vec<_> = (0..EDGES).map(|at| fleet.join(&edge(at), "enrolled")).collect();
    fleet.flush().await.unwrap();
    assert_eq!(edges.statements().writes(), 1);
    assert_eq!(edges.get("e199").await.unwrap().unwrap().replica, "here");

    // One that leaves and comes back is here; one whose enrolment ended is not.
    drop(here.split_off(100));
    here.push(fleet.join(&edge(150), "enrolled"));
    here.push(fleet.join(&edge(160), "another"));
    fleet.flush().await.unwrap();
    assert_eq!(edges.statements().writes(), 3);
    let mut replicas = Vec::new();
    for id in ["e0", "e150", "e160", "e199"] {
        replicas.push(edges.get(id).await.unwrap().unwrap().replica);
    }
    assert_eq!(replicas, ["here", "here", "", ""]);
    assert_eq!(fleet.connected_here(), 101);
}

async fn what_could_not_be_written_is_written_later(database: Database) {
    let store = database.open().await;
    enrolled(&database, 3).await;
    let (edges, fleet) = fleet(&store);
    let left = fleet.join(&edge(0), "enrolled");
    fleet.flush().await.unwrap();
    drop(left);
    let _here = fleet.join(&edge(1), "enrolled");
    database.run("alter table edges rename to elsewhere").await;
    fleet.flush().await.unwrap_err();
    database.run("alter table elsewhere rename to edges").await;
    fleet.flush().await.unwrap();
    assert_eq!(edges.get("e0").await.unwrap().unwrap().replica, "");
    assert_eq!(edges.get("e1").await.unwrap().unwrap().replica, "here");
}
