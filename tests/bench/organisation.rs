//! Many people in teams, and the tokens that they own: what an edge keeps of them, and whether an edit takes longer where they are. It must
//! not know how edges are told of them.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::CONTROL_PLANE;
use crate::memory::{median, megabytes, resident};
use crate::support::gateway::{Gateway, Store};
use crate::{cpu, upstream};

/// People of a team, and people for each token.
const OF_A_TEAM: usize = 20;
const FOR_A_TOKEN: usize = 5;
/// Manifests of the largest apply there is.
const MOST: usize = 10_000;
/// What an edge may grow by.
const BUDGET_MIB: f64 = 20.0;

/// Measures and prints.
pub(crate) async fn run(people: usize, repeats: usize) {
    let folder = tempfile::Builder::new().prefix("trunkline-bench-").tempdir().unwrap();
    let upstream = upstream::start(folder.path()).await;
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    gateway.admin.create_upstream("ten", &format!("http://{}/10", upstream.address())).await;
    gateway.admin.create_server("ten", &["ten/*"]).await;
    gateway.admin.settled().await;
    let (teams, tokens) = (people / OF_A_TEAM, people / FOR_A_TOKEN);
    println!(
        "\n{people} people in {teams} teams, and {tokens} tokens of theirs; one control plane, one edge"
    );
    let edge = gateway.edge(0).pid();
    let before = resident(edge);
    let alone = edits(&gateway, repeats).await;
    println!("{:60} {alone:.0} ms", "apply --wait: the title of a server, without them");

    let start = Instant::now();
    apply(&gateway, &(0..teams).map(team).collect::<String>()).await;
    for number in 0..people {
        gateway
            .admin
            .invite(&id(number), &[("roles/developer", &format!("teams/t{}", number % teams))])
            .await;
    }
    apply(&gateway, &(0..tokens).map(|number| token(number, number * FOR_A_TOKEN)).collect::<String>()).await;
    gateway.admin.settled().await;
    println!("{:60} {:.0} ms", "all of them made", start.elapsed().as_secs_f64() * 1e3);
    let control = cpu::child(CONTROL_PLANE).unwrap();
    println!("{:60} control plane {}, edge {}", "memory with them", megabytes(control), megabytes(edge));
    let grown = resident(edge) - before;
    println!(
        "{} {:60} {grown:.1} MiB (at most {BUDGET_MIB})",
        mark(grown <= BUDGET_MIB),
        "growth of the edge"
    );
    let beside = edits(&gateway, repeats).await;
    let times = beside / alone;
    println!(
        "{} {:60} {beside:.0} ms, {times:.2} times",
        mark(times <= 1.1),
        "the same apply with them (at most 1.1 times)"
    );

    let many: String = (0..MOST).map(|number| token(people + number, number % people)).collect();
    for what in [
        format!("apply of {MOST} new tokens of theirs"),
        "the same again, of which nothing changes".to_owned(),
    ] {
        let start = Instant::now();
        apply(&gateway, &many).await;
        println!("{what:60} {:.0} ms", start.elapsed().as_secs_f64() * 1e3);
    }
}

fn mark(is_kept: bool) -> &'static str {
    if is_kept { "pass" } else { "FAIL" }
}

fn id(number: usize) -> String {
    format!("p{number}")
}

fn team(number: usize) -> String {
    format!("---\nkind: Team\nname: t{number}\n")
}

/// A token of somebody.
fn token(number: usize, owner: usize) -> String {
    let mut text =
        format!("---\nkind: Token\nname: t{number}\nmeta: {{owner: 'users/{}@example.org'}}\n", id(owner));
    writeln!(text, "scope: {{servers: [servers/ten], tools: [echo, 'tool_{number}*']}}").unwrap();
    text
}

async fn apply(gateway: &Gateway, manifests: &str) {
    let file = gateway.folder().join("many.yaml");
    std::fs::write(&file, manifests).unwrap();
    gateway.ctl_args(&["apply", "-f", file.to_str().unwrap(), "--no-save"]).await;
}

/// How long an edit takes until the edge has it: the middle one, in milliseconds.
async fn edits(gateway: &Gateway, repeats: usize) -> f64 {
    let mut took: Vec<Duration> = Vec::new();
    for _ in 0..repeats.max(1) {
        let file = gateway.folder().join("edit.yaml");
        let title = format!("{:?}", Instant::now());
        std::fs::write(
            &file,
            format!("kind: Server\nname: ten\ntitle: '{title}'\ntools: [{{match: 'ten/*'}}]\n"),
        )
        .unwrap();
        let start = Instant::now();
        gateway.ctl_args(&["apply", "-f", file.to_str().unwrap(), "--wait"]).await;
        took.push(start.elapsed());
    }
    median(&took)
}
