//! Every hop in TLS: `mcpctl` and edges to the control plane, control plane and edges to upstreams. Whoever shows
//! a certificate of another authority is not spoken to. Certificates are renewed while all runs.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::refusals::{Asked, ask};
use crate::support::fake::{Fake, id, json, tool};
use crate::support::folder::Folder;
use crate::support::gateway::{EGRESS, Gateway, Store};
use crate::support::process::Process;
use crate::support::{PATIENCE, binary, eventually, free_port};

const ADMIN_TOKEN: &str = "an-admin-token-for-tests-only-0123456789abcdef";

/// An authority and a certificate of it for this machine.
pub(crate) struct Authority {
    pub(crate) ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
    server: Arc<rustls::ServerConfig>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // OpenSSL takes one that is named as its issuer for self-signed.
        params.distinguished_name.push(rcgen::DnType::CommonName, format!("{name} authority"));
        let ca_key = KeyPair::generate().unwrap();
        let root = params.self_signed(&ca_key).unwrap();
        let issuer = Issuer::new(params, ca_key);
        let key = KeyPair::generate().unwrap();
        let names = ["127.0.0.1", "localhost"].map(str::to_owned);
        let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        let write = |part: &str, pem: String| {
            let path = folder.join(format!("{name}-{part}.pem"));
            std::fs::write(&path, pem).unwrap();
            path
        };
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], private)
            .unwrap();
        Self {
            ca: write("ca", root.pem()),
            certificate: write("cert", leaf.pem()),
            key: write("key", key.serialize_pem()),
            server: Arc::new(server),
            issuer,
        }
    }

    /// The files of the certificate and the key of a client with this URI.
    fn client(&self, folder: &Path, uri: &str) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = vec![rcgen::SanType::URI(uri.try_into().unwrap())];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files = (folder.join("client.pem"), folder.join("client-key.pem"));
        std::fs::write(&files.0, certificate.pem()).unwrap();
        std::fs::write(&files.1, key.serialize_pem()).unwrap();
        files
    }
}

/// Takes the TLS off and leads on to `target`. Returns where it listens.
pub(crate) async fn behind_tls(authority: &Authority, target: String) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(Arc::clone(&authority.server));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, target) = (acceptor.clone(), target.clone());
            tokio::spawn(async move {
                let mut inside = acceptor.accept(stream).await.ok()?;
                let mut outside = TcpStream::connect(target).await.ok()?;
                tokio::io::copy_bidirectional(&mut inside, &mut outside).await.ok()
            });
        }
    });
    port
}

/// A gateway of one control plane, in TLS.
struct Secure {
    control: String,
    // Before the folder: what runs ends before its files go.
    process: Process,
    ours: Authority,
    theirs: Authority,
    folder: Folder,
}

impl Secure {
    async fn start() -> Self {
        let folder = Folder::new();
        let (ours, theirs) = (Authority::new(folder.path(), "ours"), Authority::new(folder.path(), "theirs"));
        let address = format!("127.0.0.1:{}", free_port());
        let process = control_plane(folder.path(), &address, &ours);
        std::fs::write(folder.path().join("admin"), ADMIN_TOKEN).unwrap();
        let secure = Self { control: format!("https://{address}"), folder, process, ours, theirs };
        secure.context("ours", &secure.ours.ca).await;
        eventually("the control plane answers in TLS", PATIENCE, || async {
            let listed = secure.ctl(&["get", "edges"]).await;
            listed.status.success().then_some(()).ok_or_else(|| text(&listed))
        })
        .await;
        secure
    }

    /// SIGTERM to the control plane, and another one in its place.
    fn restart(&mut self) {
        let status = self.process.terminate(PATIENCE);
        assert!(status.success(), "the control plane ended with {status}");
        let address = self.control.trim_start_matches("https://");
        self.process = control_plane(self.folder.path(), address, &self.ours);
    }

    /// Puts the certificate and the key of the others in the place of ours.
    fn replace_certificate(&self) {
        std::fs::copy(&self.theirs.certificate, &self.ours.certificate).unwrap();
        std::fs::copy(&self.theirs.key, &self.ours.key).unwrap();
    }

    /// Asks the control plane as an administrator.
    async fn ask(&self, client: &reqwest::Client) -> Result<(), String> {
        let url = format!("{}/trunkline.registry.v1.UpstreamService/ListUpstreams", self.control);
        let request = client.post(url).bearer_auth(ADMIN_TOKEN).json(&serde_json::json!({}));
        let answer = request.send().await.and_then(reqwest::Response::error_for_status);
        // To its end, so that the connection is free for the next one.
        let text = answer.map_err(|error| format!("{error:?}"))?.text().await;
        text.map(drop).map_err(|error| format!("{error:?}"))
    }

    /// Opens a connection that trusts our authority.
    async fn connect(&self) -> TlsStream<TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.ours.ca).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(self.control.trim_start_matches("https://")).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }

    /// A context that trusts the authority in a file, which becomes the current one.
    async fn context(&self, name: &str, ca: &Path) {
        let (admin, ca) = (self.folder.path().join("admin"), ca.to_str().unwrap().to_owned());
        let admin = admin.to_str().unwrap();
        let arguments = ["--control", &self.control, "--admin-token-file", admin, "--ca-file", &ca];
        self.ok(&[&["config", "set-context", name], &arguments[..]].concat()).await;
        self.ok(&["config", "use-context", name]).await;
    }

    async fn ok(&self, arguments: &[&str]) -> String {
        let output = self.ctl(arguments).await;
        assert!(output.status.success(), "mcpctl {arguments:?}: {}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    async fn ctl(&self, arguments: &[&str]) -> Output {
        self.ctl_in(arguments, &[]).await
    }

    /// The same with these variables.
    async fn ctl_in(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        let mut command = tokio::process::Command::new(binary("mcpctl"));
        command.args(arguments).env("MCPCTL_CONFIG", self.folder.path().join("mcpctl.yaml"));
        command.env("NO_COLOR", "1").envs(variables.iter().copied()).stdin(Stdio::null()).kill_on_drop(true);
        tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap()
    }

    /// An edge that trusts `control_ca` for the control plane and our authority for upstreams.
    async fn edge(&self, name: &str, control_ca: &Path) -> (Process, String) {
        self.edge_with(name, control_ca, &[]).await
    }

    async fn edge_with(&self, name: &str, control_ca: &Path, options: &[&Path]) -> (Process, String) {
        let join_token = self.ok(&["create", "join-token"]).await;
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new(binary("trunkline-edge-proxy"));
        command.args([
            "--listen",
            &address,
            "--ops-listen",
            "127.0.0.1:0",
            "--sibling-listen",
            "127.0.0.1:0",
        ]);
        command.args(["--edge-id", name]).args(options);
        command.args(["--control-plane", &self.control]).arg("--control-plane-ca").arg(control_ca);
        command.arg("--data-dir").arg(self.folder.path().join(name));
        command.env("TRUNKLINE_JOIN_TOKEN", join_token.trim()).env("SSL_CERT_FILE", &self.ours.ca);
        command.envs(EGRESS);
        (Process::start(name, command, self.folder.path()), address)
    }
}

fn control_plane(folder: &Path, address: &str, authority: &Authority) -> Process {
    let mut command = Command::new(binary("trunkline-control-plane"));
    command.args(["--listen", address]).arg("--data-dir").arg(folder.join("control"));
    command.arg("--tls-cert").arg(&authority.certificate).arg("--tls-key").arg(&authority.key);
    command.env("TRUNKLINE_ADMIN_TOKEN", ADMIN_TOKEN).env("SSL_CERT_FILE", &authority.ca).envs(EGRESS);
    Process::start("control-plane", command, folder)
}

/// Asks the control plane as an administrator, over a connection that stays open.
async fn ask_over(connection: &mut TlsStream<TcpStream>) {
    let request = format!(
        "POST /trunkline.registry.v1.UpstreamService/ListUpstreams HTTP/1.1\r\nhost: localhost\r\n\
         authorization: Bearer {ADMIN_TOKEN}\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}"
    );
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut said = Vec::new();
    while !said.ends_with(b"\r\n\r\n{}") {
        assert_ne!(connection.read_buf(&mut said).await.unwrap(), 0, "{}", String::from_utf8_lossy(&said));
    }
    assert!(said.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&said));
}

/// A client without connections, which trusts an authority and no other.
fn trusting(authority: &Authority) -> reqwest::Client {
    let pem = std::fs::read(&authority.ca).unwrap();
    let ca = reqwest::Certificate::from_pem(&pem).unwrap();
    reqwest::Client::builder().tls_certs_only([ca]).build().unwrap()
}

/// A fake upstream with the tool `quick`.
async fn quick() -> Fake {
    Fake::start(&format!("[{}]", tool("quick")), |_, request| {
        let body = r#""result":{"content":[{"type":"text","text":"done in secret"}]}}"#;
        vec![json(200, &format!(r#"{{"jsonrpc":"2.0","id":{},{body}"#, id(request)))]
    })
    .await
}

fn text(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What a host says to a bridge, which is all that it says.
const HELLO: &str = concat!(
    r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"#,
    r#""clientInfo":{"name":"host","version":"1"}}}"#,
    "\n"
);

#[tokio::test(flavor = "multi_thread")]
async fn mcpctl_presents_a_certificate_where_an_edge_wants_one() {
    const AGENT: &str = "spiffe://example.org/ns/prod/sa/agent";
    let fake = quick().await;
    let secure = Secure::start().await;
    let [cert, key, clients] =
        [&secure.ours.certificate, &secure.ours.key, &secure.theirs.ca].map(PathBuf::as_path);
    let [required, with_cert, with_key, with_ca] =
        ["--require-client-certificate", "--tls-cert", "--tls-key", "--client-ca"].map(Path::new);
    let options = [required, with_cert, cert, with_key, key, with_ca, clients];
    let (_edge, address) = secure.edge_with("strict", &secure.ours.ca, &options).await;
    let url = format!("https://{address}");
    secure.ok(&["config", "set-context", "ours", "--edge", &url]).await;
    secure.ok(&["create", "upstream", "good", "--url", &fake.url()]).await;
    secure.ok(&["create", "server", "dev", "--tool", "good/*"]).await;
    let bearer = secure.ok(&["create", "token", "laptop", "--server", "dev"]).await;
    let wanted = "it takes no connection without a client certificate; ";
    let call = ["call", "dev", "quick"];
    let refused = eventually("the edge wants a certificate", PATIENCE, || async {
        let called = secure.ctl(&call).await;
        if text(&called).contains(wanted) { Ok(called) } else { Err(text(&called)) }
    })
    .await;
    assert_eq!(refused.status.code(), Some(7));
    let advice = "set one with `mcpctl config set-context ours --client-cert FILE --client-key FILE`";
    assert!(text(&refused).contains(&format!("{wanted}{advice}")), "{}", text(&refused));

    // Without a file, from the environment.
    let (certificate, private) = secure.theirs.client(secure.folder.path(), AGENT);
    let (certificate, private) = (certificate.to_str().unwrap(), private.to_str().unwrap());
    let authorities = secure.ours.ca.to_str().unwrap();
    let named =
        [("MCPCTL_EDGE", url.as_str()), ("MCPCTL_CONFIG", "none.yaml"), ("TRUNKLINE_TOKEN", bearer.trim())];
    let untrusted = text(&secure.ctl_in(&call, &named).await);
    assert!(
        untrusted.contains("; to trust it, set MCPCTL_CA_FILE to the file of its authority"),
        "{untrusted}"
    );
    let trusting = [&named[..], &[("MCPCTL_CA_FILE", authorities)]].concat();
    let wants = format!("{wanted}set MCPCTL_CLIENT_CERT and MCPCTL_CLIENT_KEY");
    eventually("the variables are named", PATIENCE, || async {
        let called = text(&secure.ctl_in(&call, &trusting).await);
        if called.contains(&wants) { Ok(()) } else { Err(called) }
    })
    .await;
    let presented = [("MCPCTL_CLIENT_CERT", certificate), ("MCPCTL_CLIENT_KEY", private)];
    let known = [&trusting[..], &presented].concat();
    let said = eventually("the call arrives", PATIENCE, || async {
        let called = secure.ctl_in(&call, &known).await;
        if called.status.success() { Ok(text(&called)) } else { Err(text(&called)) }
    })
    .await;
    assert_eq!(said.trim(), "done in secret");

    let mixed = secure
        .ctl(&["config", "set-context", "ours", "--client-cert", certificate, "--client-key", certificate])
        .await;
    assert!(text(&mixed).contains("client.pem: contains no private key (PEM)"), "{}", text(&mixed));
    secure
        .ok(&["config", "set-context", "ours", "--client-cert", certificate, "--client-key", private])
        .await;
    assert_eq!(secure.ok(&call).await.trim(), "done in secret");
    secure.ok(&["ping", "dev"]).await;
    // Where no bearer is saved, the certificate is enough.
    secure.ok(&["create", "token", "agent", "--server", "dev", "--certificate", AGENT]).await;
    secure.ok(&["config", "delete-bearer", "laptop", "--yes"]).await;
    eventually("the certificate is enough", PATIENCE, || async {
        let called = secure.ctl(&call).await;
        if called.status.success() { Ok(()) } else { Err(text(&called)) }
    })
    .await;
    let looked = text(&secure.ctl(&["doctor"]).await);
    assert!(looked.contains(&format!("{url} answers as an edge does")), "{looked}");
    let mut bridge = tokio::process::Command::new(binary("mcpctl"));
    bridge.args(["connect", "dev"]).env("MCPCTL_CONFIG", secure.folder.path().join("mcpctl.yaml"));
    bridge.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut bridge = bridge.spawn().unwrap();
    bridge.stdin.take().unwrap().write_all(HELLO.as_bytes()).await.unwrap();
    let output = tokio::time::timeout(PATIENCE, bridge.wait_with_output()).await.unwrap().unwrap();
    assert!(text(&output).contains(r#""serverInfo""#), "{}", text(&output));
    assert!(text(&output).contains(&format!("with the certificate in {certificate}")), "{}", text(&output));
}

/// Over HTTP/1 in TLS a client that is still writing finds the connection broken, and sees no answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_arrives_though_the_client_is_still_writing() {
    let secure = Secure::start().await;
    // Whom it trusts is no matter here.
    let options = ["--insecure", "-H", "content-type: application/json", "-H", "expect:"];
    let path = "/trunkline.registry.v1.UpstreamService/ListUpstreams";
    let asked = Asked { path, options: &options, bearer: "wrong", body: 4_000_000 };
    for version in ["--http1.1", "--http2"].repeat(8) {
        let answer = ask(&secure.control, secure.folder.path(), version, &asked);
        let expected = ["401", "UNAUTHENTICATED", "ADMIN_INVALID"].map(str::to_owned);
        assert_eq!(<[String; 3]>::from(answer), expected, "{version}");
    }
}

#[tokio::test]
async fn every_hop_is_in_tls_and_strangers_are_not_spoken_to() {
    let fake = Fake::start(&format!("[{}]", tool("quick")), |_, request| {
        let body = r#""result":{"content":[{"type":"text","text":"done in secret"}]}}"#;
        vec![json(200, &format!(r#"{{"jsonrpc":"2.0","id":{},{body}"#, id(request)))]
    })
    .await;
    let plain = fake.url().trim_start_matches("http://").trim_end_matches("/mcp").to_owned();
    let secure = Secure::start().await;

    // A control plane's certificate must come from the authority that the edge was told.
    let (stranger, _) = secure.edge("stranger", &secure.theirs.ca).await;
    let (_edge, address) = secure.edge("friend", &secure.ours.ca).await;
    eventually("the friend is connected", PATIENCE, || async {
        let edges = secure.ok(&["get", "edges"]).await;
        if edges.contains("friend") { Ok(()) } else { Err(edges) }
    })
    .await;
    assert!(!secure.ok(&["get", "edges"]).await.contains("stranger"));
    eventually("the stranger says why", PATIENCE, || async {
        let said = stranger.output();
        if said.contains("certificate") || said.contains("UnknownIssuer") { Ok(()) } else { Err(said) }
    })
    .await;

    // So must an upstream's.
    let url = |port: u16| format!("https://127.0.0.1:{port}/mcp");
    let (good, bad) =
        (behind_tls(&secure.ours, plain.clone()).await, behind_tls(&secure.theirs, plain).await);
    secure.ok(&["create", "upstream", "good", "--url", &url(good)]).await;
    secure.ok(&["create", "upstream", "bad", "--url", &url(bad)]).await;
    let described = eventually("the bad upstream is refused", PATIENCE, || async {
        let described = secure.ok(&["describe", "upstream", "bad"]).await;
        if described.contains("certificate") { Ok(described) } else { Err(described) }
    })
    .await;
    assert!(described.contains("State:            unreachable"), "{described}");

    secure.ok(&["config", "set-context", "ours", "--edge", &format!("http://{address}")]).await;
    secure.ok(&["create", "server", "dev", "--tool", "good/*"]).await;
    secure.ok(&["create", "token", "laptop", "--server", "dev"]).await;
    let said = eventually("the call arrives", PATIENCE, || async {
        let called = secure.ctl(&["call", "dev", "quick"]).await;
        if called.status.success() { Ok(text(&called)) } else { Err(text(&called)) }
    })
    .await;
    assert_eq!(said.trim(), "done in secret");

    // And `mcpctl` does not tell its admin token to a control plane that it does not trust.
    secure.context("theirs", &secure.theirs.ca).await;
    let refused = secure.ctl(&["get", "edges"]).await;
    assert_ne!(refused.status.code(), Some(0));
    assert!(text(&refused).contains("certificate"), "{}", text(&refused));
}

/// What an initialize over HTTPS comes to: the protocol, the status, and the whole answer.
fn initialize(address: &str, ca: &Path, options: &[&str]) -> (String, String) {
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}"#;
    let mut command = Command::new("curl");
    command.args(["-sS", "-i", "-w", "\n%{http_version} %{http_code}", "--noproxy", "*", "--cacert"]).arg(ca);
    command.args([
        "-H",
        "content-type: application/json",
        "-H",
        "accept: application/json, text/event-stream",
    ]);
    command.args(options).args(["-d", body]).arg(format!("https://{address}/servers/dev/mcp"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let said = String::from_utf8(output.stdout).unwrap();
    let (answer, outcome) = said.rsplit_once('\n').unwrap();
    (outcome.to_owned(), answer.to_ascii_lowercase())
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_speak_tls_to_an_edge_and_are_known_by_their_certificates() {
    const AGENT: &str = "spiffe://example.org/ns/prod/sa/agent";
    let fake = quick().await;
    let secure = Secure::start().await;
    let [cert, key, clients] =
        [&secure.ours.certificate, &secure.ours.key, &secure.theirs.ca].map(PathBuf::as_path);
    let options =
        [Path::new("--tls-cert"), cert, Path::new("--tls-key"), key, Path::new("--client-ca"), clients];
    let (edge, address) = secure.edge_with("friend", &secure.ours.ca, &options).await;
    secure.ok(&["config", "set-context", "ours", "--edge", &format!("https://{address}")]).await;
    secure.ok(&["create", "upstream", "good", "--url", &fake.url()]).await;
    secure.ok(&["create", "server", "dev", "--tool", "good/*"]).await;
    secure.ok(&["create", "token", "laptop", "--server", "dev"]).await;
    let said = eventually("the call arrives", PATIENCE, || async {
        let called = secure.ctl(&["call", "dev", "quick"]).await;
        if called.status.success() { Ok(text(&called)) } else { Err(text(&called)) }
    })
    .await;
    assert_eq!(said.trim(), "done in secret");
    let made = secure.ctl(&["create", "token", "agent", "--server", "dev", "--certificate", AGENT]).await;
    assert!(made.status.success() && text(&made).contains("it has no bearer"), "{}", text(&made));
    let described = secure.ok(&["describe", "token", "agent"]).await;
    assert!(described.contains(AGENT), "{described}");

    let (certificate, private) = secure.theirs.client(secure.folder.path(), AGENT);
    let (certificate, private) = (certificate.to_str().unwrap(), private.to_str().unwrap());
    let presented = ["--cert", certificate, "--key", private];
    let ca = secure.ours.ca.clone();
    let ask = |options: &[&str]| initialize(&address, &ca, options);
    eventually("the edge knows the token", PATIENCE, || async {
        let (outcome, answer) = ask(&[&["--http2"], &presented[..]].concat());
        if outcome == "2 200" { Ok(()) } else { Err(format!("{outcome} {answer}")) }
    })
    .await;
    let (outcome, answer) = ask(&[&["--http1.1"], &presented[..]].concat());
    assert_eq!(outcome, "1.1 200");
    assert!(answer.contains("strict-transport-security: max-age=31536000"), "{answer}");
    let (outcome, answer) = ask(&["--http2"]);
    assert_eq!(outcome, "2 401");
    assert!(answer.contains("bearer_missing"), "{answer}");
    for (version, is_spoken) in [("-tls1_2", true), ("-tls1_3", true), ("-tls1_1", false)] {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &address, version, "-alpn", "h2", "-CAfile"]).arg(&ca);
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert_eq!(text(&output).contains("ALPN protocol: h2"), is_spoken, "{version}: {}", text(&output));
    }

    // A server that dials in does so over TLS, too.
    let mut exposed = tokio::process::Command::new(binary("mcpctl"));
    exposed.args(["expose", "--register", "far", "--connect", &secure.control, "--edge"]);
    exposed.arg(format!("https://{address}")).args(["--", "python3"]);
    exposed.arg(crate::support::root().join("cli/tests/bridges/stdio_server.py"));
    exposed.env("MCPCTL_CONFIG", secure.folder.path().join("mcpctl.yaml")).stdin(Stdio::null());
    let _exposed = exposed.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    eventually("the server is registered", PATIENCE, || async {
        let listed = text(&secure.ctl(&["get", "upstreams"]).await);
        if listed.contains("far") { Ok(()) } else { Err(listed) }
    })
    .await;
    secure.ok(&["create", "server", "far", "--tool", "far/*"]).await;
    secure.ok(&["create", "token", "far", "--server", "far"]).await;
    eventually("the call arrives through the tunnel", PATIENCE, || async {
        let called = secure.ctl(&["call", "far", "pid"]).await;
        if called.status.success() { Ok(()) } else { Err(text(&called)) }
    })
    .await;

    secure.ok(&["revoke", "token", "agent"]).await;
    eventually("the certificate is nobody's", PATIENCE, || async {
        let (outcome, answer) = ask(&[&["--http2"], &presented[..]].concat());
        if outcome == "2 401" && answer.contains("certificate_unknown") { Ok(()) } else { Err(answer) }
    })
    .await;
    secure.replace_certificate();
    edge.signal("HUP");
    eventually("the edge says that it was read", PATIENCE, || async {
        let said = edge.output();
        if said.contains("was read anew") { Ok(()) } else { Err(said) }
    })
    .await;
    assert_eq!(initialize(&address, &secure.theirs.ca, &["--http2"]).0, "2 401");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_for_new_connections_and_what_is_broken_changes_nothing() {
    let secure = Secure::start().await;
    let mut before = secure.connect().await;
    ask_over(&mut before).await;
    let said = async |part: &str| {
        eventually("the control plane says it", PATIENCE, || async {
            let said = secure.process.output();
            if said.contains(part) { Ok(()) } else { Err(said) }
        })
        .await;
    };

    let good = std::fs::read(&secure.ours.certificate).unwrap();
    std::fs::write(&secure.ours.certificate, "rubbish").unwrap();
    secure.process.signal("HUP");
    said("the certificate cannot be read anew; the one before stays in force").await;
    secure.ask(&trusting(&secure.ours)).await.unwrap();
    std::fs::write(&secure.ours.certificate, good).unwrap();

    secure.ask(&trusting(&secure.theirs)).await.unwrap_err();
    secure.replace_certificate();
    secure.process.signal("HUP");
    eventually("new connections see the new certificate", PATIENCE, || async {
        secure.ask(&trusting(&secure.theirs)).await
    })
    .await;
    said("was read anew valid_until=\"4096-01-01T00:00:00Z\"").await;
    ask_over(&mut before).await;
    let refused = secure.ask(&trusting(&secure.ours)).await.unwrap_err();
    assert!(refused.contains("InvalidCertificate"), "{refused}");
}

#[tokio::test]
async fn an_edge_reads_the_authorities_of_control_planes_anew() {
    let mut secure = Secure::start().await;
    let ca = secure.folder.path().join("edge-ca.pem");
    std::fs::copy(&secure.ours.ca, &ca).unwrap();
    let (edge, _) = secure.edge("friend", &ca).await;
    let connected = async |secure: &Secure| {
        eventually("the edge is connected", PATIENCE, || async {
            let edges = secure.ctl(&["get", "edges"]).await;
            let is_connected = text(&edges).split_whitespace().any(|word| word == "connected");
            if is_connected { Ok(()) } else { Err(text(&edges)) }
        })
        .await;
    };
    let said = async |part: &str| {
        eventually("the edge says it", PATIENCE, || async {
            let said = edge.output();
            if said.contains(part) { Ok(()) } else { Err(said) }
        })
        .await;
    };
    connected(&secure).await;
    edge.signal("HUP");
    said("has not changed").await;

    // The new authority has the name of the one before, so that the signature is what does not fit.
    secure.replace_certificate();
    secure.restart();
    said("signed by an authority that is not trusted here; pass the authority's certificate with --control-plane-ca").await;
    std::fs::copy(&secure.theirs.ca, &ca).unwrap();
    said("was read anew, for new connections").await;
    secure.context("theirs", &secure.theirs.ca).await;
    connected(&secure).await;
}

#[tokio::test]
async fn a_hangup_ends_nothing() {
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    let processes = [gateway.control(), gateway.edge(0)];
    for process in processes {
        process.signal("HUP");
        eventually("it says that there is nothing to read", PATIENCE, || async {
            let said = process.output();
            if said.contains("SIGHUP: there is no --") { Ok(()) } else { Err(said) }
        })
        .await;
    }
    gateway.all_connected().await;
}
