//! A gateway as an operator runs it: a control plane and edges, each a process of its own, on free ports and
//! in a folder that disappears unless the test fails. It must not know what is called through it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tokio::process::Child;

use super::admin::Admin;
use super::folder::Folder;
use super::process::Process;
use super::terminal::{Size, Terminal};
use super::{PATIENCE, binary, eventually, free_port};

/// Where the registry is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    Sqlite,
    Postgres,
}

/// The upstreams of tests are on this machine. Options of a test come before it.
pub(crate) const EGRESS: [(&str, &str); 1] = [("TRUNKLINE_EGRESS_ALLOW", "loopback")];

const ADMIN_TOKEN: &str = "an-admin-token-for-tests-only-0123456789abcdef";

/// Everything is stopped and removed when it is dropped.
pub(crate) struct Gateway {
    // Before the folder: what runs ends before its files go.
    edges: Vec<Edge>,
    control: Option<Process>,
    control_address: String,
    /// Options and environment of the control plane, besides those that every test needs.
    control_options: Vec<String>,
    control_environment: Vec<(String, String)>,
    database: Option<String>,
    pub(crate) admin: Admin,
    folder: Folder,
}

struct Edge {
    process: Option<Process>,
    address: String,
    operations: String,
    join_token: String,
    options: Vec<String>,
    /// Where other edges connect.
    siblings: String,
}

impl Gateway {
    /// Starts a control plane and `edges` edges, and waits until every edge is connected.
    pub(crate) async fn start(store: Store, edges: usize) -> Self {
        Self::start_with(store, edges, &[]).await
    }

    /// The same, with options for the edges.
    pub(crate) async fn start_with(store: Store, edges: usize, options: &[&str]) -> Self {
        let folder = Folder::new();
        let control_address = format!("127.0.0.1:{}", free_port());
        let admin = Admin::new(&control_address, ADMIN_TOKEN);
        let database = (store == Store::Postgres).then(fresh_schema);
        let mut gateway = Self {
            edges: Vec::new(),
            control: None,
            control_address,
            control_options: Vec::new(),
            control_environment: Vec::new(),
            database,
            admin,
            folder,
        };
        gateway.start_control().await;
        let join_token = gateway.admin.join_token().await.unwrap();
        for _ in 0..edges {
            gateway.push_edge(join_token.clone(), options).await;
        }
        gateway.all_connected().await;
        gateway.write_context();
        gateway
    }

    /// One more edge, enrolled and connected.
    pub(crate) async fn add_edge(&mut self, options: &[&str]) {
        let join_token = self.admin.join_token().await.unwrap();
        self.push_edge(join_token, options).await;
        self.all_connected().await;
        self.write_context();
    }

    async fn push_edge(&mut self, join_token: String, options: &[&str]) {
        self.edges.push(Edge {
            process: None,
            address: format!("127.0.0.1:{}", free_port()),
            operations: format!("127.0.0.1:{}", free_port()),
            join_token,
            options: options.iter().map(|o| (*o).to_owned()).collect(),
            siblings: format!("127.0.0.1:{}", free_port()),
        });
        self.start_edge(self.edges.len() - 1).await;
    }

    /// A file or folder beside the gateway's own.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn control_address(&self) -> &str {
        &self.control_address
    }

    pub(crate) fn admin_token(&self) -> &'static str {
        ADMIN_TOKEN
    }

    pub(crate) fn edge_count(&self) -> usize {
        self.edges.len()
    }

    pub(crate) fn edge_address(&self, edge: usize) -> &str {
        &self.edges[edge].address
    }

    /// Where clients find a server on an edge.
    pub(crate) fn url(&self, edge: usize, server: &str) -> String {
        format!("http://{}/servers/{server}/mcp", self.edges[edge].address)
    }

    /// Where other edges connect to an edge.
    pub(crate) fn sibling_address(&self, edge: usize) -> &str {
        &self.edges[edge].siblings
    }

    /// Where operators connect to an edge.
    pub(crate) fn operations_address(&self, edge: usize) -> &str {
        &self.edges[edge].operations
    }

    /// Where an edge serves its metrics.
    pub(crate) fn metrics_url(&self, edge: usize) -> String {
        format!("http://{}/metrics", self.edges[edge].operations)
    }

    pub(crate) fn control(&self) -> &Process {
        self.control.as_ref().unwrap()
    }

    pub(crate) fn edge(&self, edge: usize) -> &Process {
        self.edges[edge].process.as_ref().unwrap()
    }

    /// Starts the control plane on its address, and waits until it answers.
    pub(crate) async fn start_control(&mut self) {
        let mut process = Process::start("control-plane", self.control_command(), self.folder.path());
        let admin = &self.admin;
        eventually("the control plane answers", PATIENCE, || {
            process.assert_alive();
            async { admin.edges().await.map_err(|e| e.to_string()) }
        })
        .await;
        self.control = Some(process);
    }

    /// Starts the control plane, and does not wait for it.
    pub(crate) fn spawn_control(&mut self) {
        let process = Process::start("control-plane", self.control_command(), self.folder.path());
        self.control = Some(process);
    }

    fn control_command(&self) -> Command {
        let mut command = Command::new(binary("trunkline-control-plane"));
        command.args(["--listen", &self.control_address]);
        command.arg("--data-dir").arg(self.folder.path().join("control"));
        if let Some(url) = &self.database {
            command.args(["--database-url", url]);
        }
        command.env("TRUNKLINE_ADMIN_TOKEN", ADMIN_TOKEN).envs(EGRESS);
        command.args(&self.control_options).envs(self.control_environment.iter().cloned());
        command
    }

    /// Starts a control plane that is not to start; what it says about that.
    pub(crate) fn refused_control(&self) -> String {
        let output = self.control_command().output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    }

    /// The URL of its database, if that is PostgreSQL.
    pub(crate) fn database(&self) -> Option<&str> {
        self.database.as_deref()
    }

    /// How the control plane is started from now on.
    pub(crate) fn configure_control(&mut self, options: &[&str], environment: &[(&str, &str)]) {
        self.control_options = options.iter().map(|o| (*o).to_owned()).collect();
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.control_environment = environment.iter().map(owned).collect();
    }

    /// How an edge is started from now on.
    pub(crate) fn configure_edge(&mut self, index: usize, options: &[&str]) {
        self.edges[index].options = options.iter().map(|o| (*o).to_owned()).collect();
    }

    /// The join token with which an edge is started from now on.
    pub(crate) fn give_join_token(&mut self, index: usize, join_token: &str) {
        self.edges[index].join_token = join_token.to_owned();
    }

    /// What the control plane has logged.
    pub(crate) fn control_said(&self) -> String {
        self.control.as_ref().unwrap().output()
    }

    /// Where an edge says whether it takes traffic.
    pub(crate) fn ready_url(&self, edge: usize) -> String {
        format!("http://{}/readyz", self.edges[edge].operations)
    }

    /// SIGTERM to the control plane: it drains, and ends without an error.
    pub(crate) fn stop_control(&mut self) {
        let status = self.control.take().unwrap().terminate(PATIENCE);
        assert!(status.success(), "the control plane ended with {status}");
    }

    /// SIGKILL.
    pub(crate) fn kill_control(&mut self) {
        self.control.take().unwrap().kill();
    }

    /// Starts an edge on its addresses, and waits until it accepts connections.
    pub(crate) async fn start_edge(&mut self, index: usize) {
        self.spawn_edge(index);
        let edge = &mut self.edges[index];
        let process = edge.process.as_mut().unwrap();
        eventually("the edge listens", PATIENCE, || {
            process.assert_alive();
            let connect = tokio::net::TcpStream::connect(edge.address.clone());
            async move { connect.await.map(drop).map_err(|e| e.to_string()) }
        })
        .await;
    }

    /// Starts the process of an edge.
    pub(crate) fn spawn_edge(&mut self, index: usize) {
        let data = self.folder.path().join(format!("edge{index}"));
        let control = format!("http://{}", self.control_address);
        let edge = &mut self.edges[index];
        let mut command = Command::new(binary("trunkline-edge-proxy"));
        command.args(["--listen", &edge.address, "--ops-listen", &edge.operations]);
        command
            .args(["--control-plane", &control, "--edge-id", &format!("e{index}")])
            .args(["--sibling-listen", &edge.siblings])
            .arg("--data-dir")
            .arg(data);
        command.args(&edge.options).env("TRUNKLINE_JOIN_TOKEN", &edge.join_token).envs(EGRESS);
        edge.process = Some(Process::start(&format!("edge{index}"), command, self.folder.path()));
    }

    /// SIGKILL.
    pub(crate) fn kill_edge(&mut self, index: usize) {
        self.edges[index].process.take().unwrap().kill();
    }

    /// Waits until what is in force at an edge is on its disk as well: one that is killed before that starts from what
    /// was on disk before.
    pub(crate) async fn on_disk(&self, index: usize) {
        let url = self.metrics_url(index);
        eventually("what is in force is on disk", PATIENCE, || async {
            let text = reqwest::get(&url).await.map_err(|e| e.to_string())?;
            let text = text.text().await.map_err(|e| e.to_string())?;
            let read = |name: &str| {
                text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<i64>().ok())
            };
            let behind = read("trunkline_edge_disk_snapshot_behind");
            let revisions =
                ["trunkline_edge_snapshot_revision", "trunkline_edge_disk_snapshot_revision"].map(read);
            match (behind, revisions) {
                (Some(0), [Some(in_force), Some(on_disk)]) if in_force == on_disk => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    /// SIGTERM: it drains, and ends without an error.
    pub(crate) fn stop_edge(&mut self, index: usize) {
        let status = self.edges[index].process.take().unwrap().terminate(Duration::from_secs(30));
        assert!(status.success(), "edge {index} ended with {status}");
    }

    /// Sends a signal to an edge.
    pub(crate) fn signal_edge(&self, index: usize, name: &str) {
        self.edge(index).signal(name);
    }

    /// Waits until the control plane sees every edge connected.
    pub(crate) async fn all_connected(&self) {
        let (admin, wanted) = (&self.admin, self.edges.len());
        eventually("every edge is connected", PATIENCE, || async move {
            let edges = admin.edges().await.map_err(|e| e.to_string())?;
            let connected = edges.iter().filter(|edge| edge.connected).count();
            if connected == wanted { Ok(()) } else { Err(format!("{edges:?}")) }
        })
        .await;
        self.admin.settled().await;
        self.all_acquainted().await;
    }

    /// Waits until every edge that runs is ready and knows all others.
    pub(crate) async fn all_acquainted(&self) {
        let others = self.edges.len().saturating_sub(1);
        let wanted = format!("trunkline_edge_sibling_known {others}");
        for edge in self.edges.iter().filter(|edge| edge.process.is_some()) {
            let (ready, metrics) =
                (format!("http://{}/readyz", edge.operations), format!("http://{}/metrics", edge.operations));
            eventually("the edges know each other", PATIENCE, || async {
                let get = async |url: &str| {
                    let answer = reqwest::get(url).await.and_then(reqwest::Response::error_for_status);
                    answer.map_err(|e| e.to_string())?.text().await.map_err(|e| e.to_string())
                };
                get(&ready).await?;
                let numbers = get(&metrics).await?;
                if numbers.lines().any(|line| line == wanted) { Ok(()) } else { Err(numbers) }
            })
            .await;
        }
    }

    /// The file that points `mcpctl` at this gateway.
    pub(crate) fn context(&self) -> PathBuf {
        self.folder.path().join("mcpctl.yaml")
    }

    fn write_context(&self) {
        let edge =
            self.edges.first().map_or_else(String::new, |e| format!("\n    edge: http://{}", e.address));
        let text = format!(
            "currentContext: test\ncontexts:\n  test:\n    control: http://{}{edge}\n    adminToken: {ADMIN_TOKEN}\n",
            self.control_address
        );
        std::fs::write(self.context(), text).unwrap();
    }

    /// Runs `mcpctl` with arguments written as in a shell, without quotes; it must succeed. Returns what it
    /// printed.
    pub(crate) async fn ctl(&self, line: &str) -> String {
        self.ctl_args(&line.split_whitespace().collect::<Vec<_>>()).await
    }

    /// The same, with the arguments one by one.
    pub(crate) async fn ctl_args(&self, arguments: &[&str]) -> String {
        let output = self.try_ctl(arguments).await;
        let (said, talk) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "mcpctl {arguments:?}: {}\n{said}\n{talk}", output.status);
        said.into_owned()
    }

    /// The same, whatever comes of it.
    pub(crate) async fn try_ctl(&self, arguments: &[&str]) -> Output {
        let mut command = self.ctl_command(arguments);
        command.stdin(Stdio::null());
        tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap()
    }

    /// The same, with more in its environment.
    pub(crate) async fn try_ctl_in(&self, arguments: &[&str], environment: &[(&str, String)]) -> Output {
        let mut command = self.ctl_command(arguments);
        command.stdin(Stdio::null()).env_remove("VISUAL").env_remove("EDITOR");
        command.envs(environment.iter().map(|(name, value)| (*name, value)));
        tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap()
    }

    /// `mcpctl` with its standard input and output at hand, until it is dropped.
    pub(crate) fn spawn_ctl(&self, arguments: &[&str]) -> Child {
        let mut command = self.ctl_command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
    }

    /// `mcpctl` on a terminal of its own.
    pub(crate) fn terminal(&self, arguments: &[&str], size: Size, environment: &[(&str, &str)]) -> Terminal {
        Terminal::start(self.ctl_command(arguments).into_std(), size, environment)
    }

    fn ctl_command(&self, arguments: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(binary("mcpctl"));
        command.args(arguments).env("MCPCTL_CONFIG", self.context()).env("NO_COLOR", "1");
        command.current_dir(self.folder.path()).kill_on_drop(true);
        command
    }
}

/// A schema of its own on the server that `tests/services.sh` started.
pub(crate) fn fresh_schema() -> String {
    let server = std::env::var("TEST_POSTGRES_URL")
        .expect("TEST_POSTGRES_URL is not set: run `make test`, or `tests/services.sh cargo test`");
    let schema = format!("t{}", uuid::Uuid::new_v4().simple());
    let sql = format!("CREATE SCHEMA {schema}");
    let output = Command::new("psql").args([&server, "-q", "-c", &sql]).output().unwrap();
    assert!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr));
    format!("{server}?options=-csearch_path%3D{schema}")
}
