//! Who may do what, over the wire: tokens of every kind and people of every kind, at servers of every kind, by every method, over every
//! transport in every era, at the edge where a session began and at another. What is expected is what the reference decides, and each
//! cell is one request over a real socket.

mod asks;
mod cast;
mod expected;
mod explained;
mod limited;
mod lines;
mod upstream;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use mcp::revision::Era;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use self::asks::Ask;
use self::cast::{Cast, Principal, SERVERS};
use self::expected::{Refusal, Seat};
use self::lines::{Line, Said, Transport, Visitor, WAYS, Way};
use self::upstream::RESUMED;
use crate::support::gateway::{Gateway, Store};
use crate::support::wire::Client;
use crate::support::{PATIENCE, eventually};

const EDGES: usize = 2;
/// Those who are at the edges at a time.
const AT_ONCE: usize = 12;
/// Fewer cells than this, and something is left out.
const LEAST: usize = 5_000;
/// Failures that are printed.
const SHOWN: usize = 60;

/// What somebody else began at a server, that nobody but them may go on with.
#[derive(Clone, Default)]
struct Stolen {
    task: String,
    event: String,
}

/// Everything that the cells have in common.
struct Stage {
    cast: Cast,
    http: reqwest::Client,
    edges: Vec<String>,
    stolen: BTreeMap<&'static str, Stolen>,
}

/// The cells of one principal at one server.
struct Cells<'a> {
    stage: &'a Stage,
    principal: &'a Principal,
    server: &'static str,
    allowed: usize,
    denied: usize,
    failures: Vec<String>,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cell_is_allowed_or_denied_as_the_reference_decides() {
    let upstream = upstream::start().await;
    let gateway = Gateway::start(Store::Sqlite, EDGES).await;
    let cast = Cast::assemble(&gateway, &upstream.url()).await;
    gateway.admin.settled().await;
    for edge in 0..EDGES {
        eventually("a token expires", PATIENCE, || async {
            let client = Client::new(&gateway.url(edge, "core"), &cast.expiring.bearer);
            let answer = client.modern("tools/list", "", None).await?;
            if answer.status == 401 { Ok(()) } else { Err(format!("{answer:?}")) }
        })
        .await;
    }
    let edges = (0..EDGES).map(|edge| gateway.edge_address(edge).to_owned()).collect();
    let http = lines::http();
    let mut stage = Stage { cast, http, edges, stolen: BTreeMap::new() };
    for server in SERVERS {
        let stolen = stage.begin_as_victim(if server == "absent" { "core" } else { server }).await;
        stage.stolen.insert(server, stolen);
    }
    let (explained, mut failures) = explained::compare(&gateway.admin, &stage.cast).await;
    let stage = Arc::new(stage);
    let start = Instant::now();
    let (allowed, denied) = run(&stage, &mut failures).await;
    let count = allowed + denied;
    println!(
        "{count} cells of {} principals at {} servers: {allowed} allowed, {denied} denied, in {:.1?}; {explained} decisions explained",
        stage.cast.principals.len(),
        SERVERS.len(),
        start.elapsed()
    );
    failures.sort_unstable();
    let shown = failures.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(failures.is_empty(), "{} of {}:\n{shown}", failures.len(), count + explained);
    assert!(
        count >= LEAST && allowed > LEAST / 5 && denied > LEAST / 5,
        "{allowed} allowed, {denied} denied"
    );
}

/// Runs all cells, some principals at a time. Returns how many were to be allowed, and how many to be denied.
async fn run(stage: &Arc<Stage>, failures: &mut Vec<String>) -> (usize, usize) {
    let (seats, mut tasks) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
    for principal in 0..stage.cast.principals.len() {
        for server in SERVERS {
            let (stage, seats) = (Arc::clone(stage), Arc::clone(&seats));
            tasks.spawn(async move {
                let _seat = seats.acquire_owned().await.unwrap();
                let mut cells = Cells::new(&stage, principal, server);
                cells.all().await;
                (cells.allowed, cells.denied, cells.failures)
            });
        }
    }
    let (mut allowed, mut denied) = (0, 0);
    while let Some(done) = tasks.join_next().await {
        let done = done.unwrap();
        allowed += done.0;
        denied += done.1;
        failures.extend(done.2);
    }
    (allowed, denied)
}

impl Stage {
    fn visitor<'a>(&'a self, principal: &'a Principal, server: &'a str) -> Visitor<'a> {
        Visitor { http: &self.http, edges: &self.edges, server, bearer: &principal.bearer }
    }

    /// A task, and a stream that was left, of a token that may do everything.
    async fn begin_as_victim(&self, server: &str) -> Stolen {
        let visitor = self.visitor(&self.cast.victim, server);
        let mut line = Line::open(visitor, WAYS[0], 0).await.unwrap().unwrap();
        line.hello(0).await.unwrap();
        let task = begin_task(&mut line).await.unwrap();
        let event = line.break_off(0, "granted_stream").await.unwrap().expect("a stream without an event id");
        Stolen { task, event }
    }
}

async fn begin_task(line: &mut Line<'_>) -> Result<String, String> {
    let call = json!({"name": "granted", "arguments": {}, "task": {"ttl": 60_000}});
    let begun = line.ask(0, "tools/call", &call).await?.message;
    let id = begun["result"]["task"]["taskId"].as_str();
    id.map(str::to_owned).ok_or_else(|| format!("no task: {begun}"))
}

impl<'a> Cells<'a> {
    fn new(stage: &'a Stage, principal: usize, server: &'static str) -> Self {
        let principal = &stage.cast.principals[principal];
        Self { stage, principal, server, allowed: 0, denied: 0, failures: Vec::new() }
    }

    fn seat(&self) -> Seat<'a> {
        Seat { world: &self.stage.cast.world, principal: &self.principal.name, server: self.server }
    }

    async fn all(&mut self) {
        for way in WAYS {
            if let Err(problem) = self.by(way).await {
                self.failures.push(format!("{} at {}, {way:?}: {problem}", self.principal.name, self.server));
            }
        }
    }

    async fn by(&mut self, way: Way) -> Result<(), String> {
        let visitor = self.stage.visitor(self.principal, self.server);
        match Line::open(visitor, way, 0).await? {
            Ok(line) => self.on(line, way).await,
            Err(said) => {
                let door = self.seat().door();
                self.refused(way, 0, "open", door.as_ref(), &said);
                // Whoever is refused here is so there.
                match Line::open(visitor, way, 1).await? {
                    Ok(_) => self.failures.push(self.cell(way, 1, "open", "it is let in")),
                    Err(said) => self.refused(way, 1, "open", door.as_ref(), &said),
                }
                Ok(())
            }
        }
    }

    /// Everything that can be asked on a line.
    async fn on(&mut self, mut line: Line<'a>, way: Way) -> Result<(), String> {
        let is_let_in = self.seat().door().is_none();
        if way.era == Era::Legacy {
            let said = line.hello(0).await?;
            let hello = Ask { method: "initialize", target: None, params: Value::Null, template: None };
            self.judge(way, 0, &hello, &said);
        }
        for (at, ask) in asks::all(&self.stage.stolen[self.server].task).iter().enumerate() {
            // Both edges, or one of them in turn; a WebSocket is at its own.
            let edges = match (way.transport, is_let_in) {
                (Transport::Streamable, true) => 0..EDGES,
                (Transport::WebSocket, _) => 0..1,
                _ => at % EDGES..at % EDGES + 1,
            };
            for edge in edges {
                let said = line.ask(edge, ask.method, &ask.params).await?;
                self.judge(way, edge, ask, &said);
            }
        }
        if way.transport == Transport::Streamable && way.era == Era::Legacy {
            self.resume_stolen(&line, way).await?;
            if self.seat().may("tools/call", Some("granted")) {
                self.own_task(&mut line, way).await?;
                self.own_stream(&mut line, way).await?;
            }
        }
        Ok(())
    }

    fn judge(&mut self, way: Way, edge: usize, ask: &Ask, said: &Said) {
        let refusal = self.seat().refusal(way.era, ask);
        let what = format!("{} {}", ask.method, ask.target.unwrap_or_default());
        match &refusal {
            Some(_) => self.refused(way, edge, &what, refusal.as_ref(), said),
            None => {
                self.allowed += 1;
                let problem = self.seat().misanswered(ask, said);
                self.failures.extend(problem.map(|problem| self.cell(way, edge, &what, &problem)));
            }
        }
    }

    /// Judges what should be refused so; `None`: it should not.
    fn refused(&mut self, way: Way, edge: usize, what: &str, expected: Option<&Refusal>, said: &Said) {
        self.denied += 1;
        let problem = match expected {
            None => Some(format!("it should be let in, and there came {said:?}")),
            // How a connection is refused may come without a body.
            Some(expected) if said.message.is_null() && expected.status == said.status => None,
            Some(expected) => expected.differs(way, said),
        };
        self.failures.extend(problem.map(|problem| self.cell(way, edge, what, &problem)));
    }

    fn cell(&self, way: Way, edge: usize, what: &str, problem: &str) -> String {
        let Way { transport, era } = way;
        format!(
            "{} at {}, {transport:?} {era:?}, edge {edge}, {what}: {problem}",
            self.principal.name, self.server
        )
    }

    /// What somebody else's call was about to answer is told to nobody.
    async fn resume_stolen(&mut self, line: &Line<'_>, way: Way) -> Result<(), String> {
        for edge in 0..EDGES {
            match line.resume(edge, &self.stage.stolen[self.server].event).await? {
                Err(said) => {
                    let door = self.seat().door();
                    self.refused(way, edge, "resume", door.as_ref(), &said);
                }
                // The stream of the session begins.
                Ok(first) => {
                    self.denied += 1;
                    if first != "id: 0\ndata:\n\n" {
                        self.failures.push(self.cell(way, edge, "resume", &first));
                    }
                }
            }
        }
        Ok(())
    }

    /// A task that is one's own is reached by the methods that are granted, at each edge.
    async fn own_task(&mut self, line: &mut Line<'_>, way: Way) -> Result<(), String> {
        let task = begin_task(line).await?;
        for edge in 0..EDGES {
            for method in ["tasks/get", "tasks/result", "tasks/cancel"] {
                let said = line.ask(edge, method, &json!({"taskId": task})).await?;
                if !self.seat().may(method, None) {
                    self.refused(way, edge, method, Some(&Refusal::method(way.era)), &said);
                    continue;
                }
                self.allowed += 1;
                let result = &said.message["result"];
                let fine = if method == "tasks/result" {
                    result["content"][0]["text"] == "called"
                } else {
                    result["taskId"] == *task
                };
                if !fine {
                    self.failures.push(self.cell(way, edge, method, &format!("{said:?}")));
                }
            }
        }
        Ok(())
    }

    /// The stream of a call that is one's own goes on at each edge.
    async fn own_stream(&mut self, line: &mut Line<'_>, way: Way) -> Result<(), String> {
        let event = line.break_off(0, "granted_stream").await?.ok_or("a stream without an event id")?;
        for edge in 0..EDGES {
            self.allowed += 1;
            match line.resume(edge, &event).await? {
                Ok(rest) if rest.contains(RESUMED) => {}
                other => self.failures.push(self.cell(way, edge, "resume", &format!("{other:?}"))),
            }
        }
        Ok(())
    }
}
