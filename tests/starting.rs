//! Starts that cannot succeed say so at once, in one line, and change nothing; a database that comes later is waited for.

use std::process::{Command, Output};

use tokio::net::{TcpListener, TcpStream};

use crate::support::folder::Folder;
use crate::support::gateway::{Gateway, Store, fresh_schema};
use crate::support::process::Process;
use crate::support::{PATIENCE, binary, eventually, free_port};

/// A control plane on a free port, with these options besides.
fn control_plane(folder: &Folder, options: &[&str]) -> Command {
    let mut command = Command::new(binary("trunkline-control-plane"));
    command.args(["--listen", &format!("127.0.0.1:{}", free_port())]);
    command.arg("--data-dir").arg(folder.path().join("data")).args(options);
    // What a backtrace would be printed with.
    command.env("RUST_BACKTRACE", "1").env("NO_COLOR", "1");
    command
}

/// The one line that a start failed with.
fn line(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), text.lines().count()), (Some(1), 1), "{text}");
    text.trim_end().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_programs_do_not_share_a_data_directory() {
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    let text = gateway.refused_control();
    let data = gateway.folder().join("control");
    let (pid, address) = (gateway.control().pid(), gateway.control_address());
    assert_eq!(
        text,
        format!(
            "trunkline-control-plane: {} is in use by trunkline-control-plane, process {pid}, on {address}; \
             stop that first, or use another --data-dir\n",
            data.display()
        )
    );
    // The same database by another way.
    let folder = Folder::new();
    let url = format!("sqlite://{}?mode=rwc", folder.path().join("registry.db").display());
    let first = Process::start("first", control_plane(&folder, &["--database-url", &url]), folder.path());
    eventually("it runs", PATIENCE, || {
        let text = first.output();
        async move { if text.contains("is ready") { Ok(()) } else { Err(text) } }
    })
    .await;
    let other = Folder::new();
    let text = line(&control_plane(&other, &["--database-url", &url]).output().unwrap());
    let holder = format!("registry.db is in use by trunkline-control-plane, process {}, on ", first.pid());
    assert!(text.contains(&holder), "{text}");

    let mut edge = Command::new(binary("trunkline-edge-proxy"));
    edge.args(["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--sibling-listen", "off"]);
    edge.args(["--control-plane", &format!("http://{}", gateway.control_address())]);
    edge.arg("--data-dir").arg(gateway.folder().join("edge0")).env("RUST_BACKTRACE", "1");
    let text = line(&edge.output().unwrap());
    let holder = format!("edge0 is in use by trunkline-edge-proxy, process {}, on ", gateway.edge(0).pid());
    assert!(text.starts_with("trunkline-edge-proxy: ") && text.contains(&holder), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_a_newer_version_is_left_alone_on_sqlite() {
    let mut gateway = Gateway::start(Store::Sqlite, 0).await;
    gateway.stop_control();
    let database = gateway.folder().join("control/registry.db");
    let script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('insert into migrations values (99, 0)'); c.commit()";
    assert!(Command::new("python3").args(["-c", script]).arg(&database).status().unwrap().success());
    assert_newer(&gateway.refused_control());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_a_newer_version_is_left_alone_on_postgres() {
    let mut gateway = Gateway::start(Store::Postgres, 0).await;
    gateway.stop_control();
    let url = gateway.database().unwrap();
    let insert = ["-q", "-c", "insert into migrations values (99, 0)"];
    assert!(Command::new("psql").arg(url).args(insert).status().unwrap().success());
    assert_newer(&gateway.refused_control());
}

fn assert_newer(text: &str) {
    let start = "trunkline-control-plane: the database was written by a newer version of Trunkline (schema 99; this version knows ";
    let end = "); start the newer version, or restore a copy from before";
    let text = text.trim_end();
    assert!(text.starts_with(start) && text.ends_with(end) && text.lines().count() == 1, "{text}");
}

#[test]
fn a_database_that_is_none_is_named_at_once() {
    let folder = Folder::new();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("registry.db"), "no database\n".repeat(1_000)).unwrap();
    assert_eq!(
        line(&control_plane(&folder, &[]).output().unwrap()),
        format!(
            "trunkline-control-plane: the database {} is damaged, or is no database of SQLite (file is not a database); \
             restore a copy of it, or start with another --data-dir",
            data.join("registry.db").display()
        )
    );
    assert_eq!(
        line(&control_plane(&folder, &["--database-url", "mysql://host/registry"]).output().unwrap()),
        "trunkline-control-plane: --database-url must begin with `sqlite:` or `postgres://`"
    );
    let folder = Folder::new();
    assert_eq!(
        line(&control_plane(&folder, &["--redis-url", "nonsense"]).output().unwrap()),
        "trunkline-control-plane: --redis-url (TRUNKLINE_REDIS_URL) must be a URL such as redis://HOST:6379"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_empty_or_lost_opens_nothing() {
    let folder = Folder::new();
    let refused = |origin: &str| {
        format!(
            "trunkline-control-plane: the admin token in {origin} must be at least 16 visible ASCII characters; generate one \
             with `openssl rand -base64 32`, or remove it, and one is generated; `off` switches it off"
        )
    };
    let mut command = control_plane(&folder, &[]);
    command.env("TRUNKLINE_ADMIN_TOKEN", "");
    assert_eq!(line(&command.output().unwrap()), refused("TRUNKLINE_ADMIN_TOKEN (--admin-token)"));
    let file = folder.path().join("data/admin-token");
    let write = "umask 077; : > \"$0\"";
    assert!(Command::new("sh").args(["-c", write]).arg(&file).status().unwrap().success());
    assert_eq!(line(&control_plane(&folder, &[]).output().unwrap()), refused(&file.display().to_string()));

    let mut gateway = Gateway::start(Store::Sqlite, 0).await;
    gateway.stop_control();
    let key = gateway.folder().join("control/master.key");
    std::fs::remove_file(&key).unwrap();
    assert_eq!(
        gateway.refused_control(),
        format!(
            "trunkline-control-plane: {} is missing, and the database is sealed with it; restore the file, or pass the key as \
             TRUNKLINE_MASTER_KEY\n",
            key.display()
        )
    );
    assert!(!key.exists(), "a key was made that opens nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_says_why_it_reaches_no_control_plane() {
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    let folder = Folder::new();
    let edge = |control_plane: &str| {
        let mut edge = Command::new(binary("trunkline-edge-proxy"));
        edge.args(["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--sibling-listen", "off"]);
        edge.args(["--control-plane", control_plane, "--join-token", "tlj_none"]).env("NO_COLOR", "1");
        edge.arg("--data-dir").arg(folder.path().join("edge"));
        edge
    };
    let own = gateway.edge_address(0);
    let address = own.rsplit('/').next().unwrap();
    for (url, reason) in [
        (
            format!("https://{}", gateway.control_address()),
            "it is unreachable: it does not speak TLS there; its URL begins with http://; check --control-plane",
        ),
        (format!("http://{address}"), "it cannot be spoken to: "),
    ] {
        let process = Process::start("edge", edge(&url), folder.path());
        eventually("it says why", PATIENCE, || {
            let text = process.output();
            async move { if text.contains(reason) { Ok(()) } else { Err(text) } }
        })
        .await;
    }
    let rubbish = folder.path().join("ca.pem");
    std::fs::write(&rubbish, "rubbish").unwrap();
    let output = edge("https://127.0.0.1:1").arg("--control-plane-ca").arg(&rubbish).output().unwrap();
    assert_eq!(
        line(&output),
        format!(
            "trunkline-edge-proxy: --control-plane-ca {}: it contains no certificate; one begins with \
             -----BEGIN CERTIFICATE-----",
            rubbish.display()
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_that_comes_later_is_waited_for() {
    let folder = Folder::new();
    let url = fresh_schema();
    let (server, port) = (url::server(&url), free_port());
    let address = format!("127.0.0.1:{port}");
    let command = || control_plane(&folder, &["--database-url", &url.replace(&server, &address)]);
    let said = |process: &Process, what: &'static str| {
        let text = process.output();
        async move { if text.contains(what) { Ok(()) } else { Err(text) } }
    };
    let waits = format!("waiting for PostgreSQL at {address}: ");
    let mut process = Process::start("stopped", command(), folder.path());
    eventually("it says what it waits for", PATIENCE, || said(&process, "waiting for PostgreSQL at ")).await;
    assert!(process.output().contains(&waits), "{}", process.output());
    let status = process.terminate(PATIENCE);
    assert!(status.success(), "{status}: {}", process.output());

    let process = Process::start("patient", command(), folder.path());
    eventually("it says what it waits for", PATIENCE, || said(&process, "waiting for PostgreSQL at ")).await;
    let forward = Forward::start(&address, &server).await;
    eventually("it starts when the server is there", PATIENCE, || said(&process, "control plane is ready"))
        .await;
    drop(process);
    drop(forward);

    let text = line(
        &control_plane(&folder, &["--database-url", &format!("{}/nosuch", url::base(&url))])
            .output()
            .unwrap(),
    );
    assert!(
        text.contains("refuses the connection (database \"nosuch\" does not exist); correct --database-url"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_that_is_lost_is_said_at_once() {
    let folder = Folder::new();
    let url = fresh_schema();
    let (server, port) = (url::server(&url), free_port());
    let address = format!("127.0.0.1:{port}");
    let forward = Forward::start(&address, &server).await;
    let mut command = control_plane(&folder, &["--database-url", &url.replace(&server, &address)]);
    command.env("TRUNKLINE_ADMIN_TOKEN", ADMIN_TOKEN);
    let process = Process::start("control", command, folder.path());
    let started = eventually("it is ready", PATIENCE, || {
        let text = process.output();
        async move {
            let line = text.lines().find(|line| line.contains("control plane is ready"));
            line.and_then(|line| line.rsplit_once("address=")).map(|(_, it)| it.to_owned()).ok_or(text)
        }
    })
    .await;
    let context = format!(
        "currentContext: x\ncontexts: {{x: {{control: 'http://{started}', adminToken: {ADMIN_TOKEN}}}}}\n"
    );
    let file = folder.path().join("mcpctl.yaml");
    std::fs::write(&file, context).unwrap();
    let get = || {
        let mut command = Command::new(binary("mcpctl"));
        let command = command.args(["get", "upstreams"]).env("MCPCTL_CONFIG", &file);
        // Longer than anybody would wait for a connection of the pool.
        command.args(["--timeout", "300s"]).output().unwrap()
    };
    assert!(get().status.success());
    drop(forward);
    let text = eventually("it says what is lost", PATIENCE, || async {
        let output = get();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.code() == Some(7) && text.contains("cannot reach") { Ok(text) } else { Err(text) }
    })
    .await;
    let start = format!("error: the control plane cannot reach its database (PostgreSQL at {address}: ");
    assert!(text.starts_with(&start), "{text}");
    assert!(text.trim_end().ends_with(&format!("); mend that at http://{started}, and retry")), "{text}");
    let _forward = Forward::start(&address, &server).await;
    eventually("it answers again", PATIENCE, || async {
        let output = get();
        if output.status.success() { Ok(()) } else { Err(format!("{output:?}")) }
    })
    .await;
}

const ADMIN_TOKEN: &str = "an-admin-token-of-this-test-0123456789";

/// Passes connections on until it is dropped.
struct Forward(tokio::task::JoinHandle<()>);

impl Forward {
    async fn start(address: &str, server: &str) -> Self {
        let (listener, server) = (TcpListener::bind(address).await.unwrap(), server.to_owned());
        Self(tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let server = server.clone();
                open.spawn(async move {
                    let mut server = TcpStream::connect(server).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        }))
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn options_come_by_name_and_from_the_environment() {
    let folder = Folder::new();
    // Empty variables are none, and localhost is an address of this machine.
    let mut command = Command::new(binary("trunkline-control-plane"));
    command.args(["--listen", &format!("localhost:{}", free_port())]).arg("--data-dir");
    command.arg(folder.path().join("data")).env("NO_COLOR", "1");
    for variable in
        ["TRUNKLINE_LOG", "TRUNKLINE_TOKEN_ISSUER", "TRUNKLINE_REDIS_URL", "TRUNKLINE_BODY_TIMEOUT"]
    {
        command.env(variable, "");
    }
    let process = Process::start("control", command, folder.path());
    eventually("it is ready", PATIENCE, || {
        let text = process.output();
        async move { if text.contains("control plane is ready address=127.0.0.1:") { Ok(()) } else { Err(text) } }
    })
    .await;

    let first = |command: &mut Command| {
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        (text.lines().next().unwrap_or_default().to_owned(), output.status.code())
    };
    let mut command = control_plane(&folder, &[]);
    let (text, code) = first(command.env("TRUNKLINE_BODY_TIMEOUT", "soon"));
    let start = "error: invalid value 'soon' for '--body-timeout <SECONDS> (from TRUNKLINE_BODY_TIMEOUT)': ";
    assert!(text.starts_with(start) && code == Some(2), "{text}");
    let mut command = Command::new(binary("trunkline-control-plane"));
    let (text, code) = first(command.args(["--listen", "4445"]));
    let why = "give an IP address or a name, and a port, as in 127.0.0.1:4445";
    assert_eq!(
        (text, code),
        (format!("error: invalid value '4445' for '--listen <LISTEN>': {why}"), Some(2))
    );

    let url = "postgres://tl:S3C@RET/x@127.0.0.1:1/db";
    let text = line(&control_plane(&folder, &["--database-url", url]).output().unwrap());
    assert_eq!(
        text,
        "trunkline-control-plane: --database-url has an @, / or # in its user name or password; percent-encode them there \
         (@ is %40, / is %2F, # is %23)"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_is_ready_when_it_has_a_snapshot() {
    let mut gateway = Gateway::start(Store::Sqlite, 1).await;
    let told = |gateway: &Gateway, what: &'static str| {
        let text = gateway.edge(0).output();
        async move { if text.contains(what) { Ok(()) } else { Err(text) } }
    };
    eventually("the edge is ready", PATIENCE, || told(&gateway, "the edge is ready")).await;
    gateway.on_disk(0).await;
    gateway.stop_edge(0);
    let data = gateway.folder().join("edge0");
    // Without its control plane and its copy it serves nothing, and does not say otherwise.
    gateway.stop_control();
    std::fs::write(data.join("snapshot.key"), "damaged").unwrap();
    std::fs::remove_file(gateway.folder().join("edge0.log")).unwrap();
    gateway.start_edge(0).await;
    eventually("it waits", PATIENCE, || told(&gateway, "waiting for a first snapshot from a control plane"))
        .await;
    eventually("it says why", PATIENCE, || told(&gateway, "a file cannot be used; it is moved aside")).await;
    assert!(!gateway.edge(0).output().contains("the edge is ready"));
    gateway.start_control().await;
    eventually("the edge is ready", PATIENCE, || told(&gateway, "the edge is ready")).await;
    let ready = reqwest::get(gateway.ready_url(0)).await.unwrap();
    assert!(ready.status().is_success(), "{ready:?}");
}

/// Parts of the URL of a server for tests.
mod url {
    /// Host and port.
    pub(super) fn server(url: &str) -> String {
        let rest = url.split_once('@').unwrap().1;
        rest.split('/').next().unwrap().to_owned()
    }

    /// The URL up to the name of the database.
    pub(super) fn base(url: &str) -> &str {
        url.split('?').next().unwrap().rsplit_once('/').unwrap().0
    }
}
