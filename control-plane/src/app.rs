//! Wires everything: the only place where the parts meet, and which nobody imports.

mod http;
mod services;
mod warnings;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::middleware::{from_fn, from_fn_with_state};
use egress::CheckedResolver;
use inbound::names::AllowedNames;
use inbound::tls::Certificate;
use inbound::{BodyBudget, Connections, TransportRule};
use secrecy::{ExposeSecret as _, SecretString};
use startup::DirectoryLock;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tunnel::Tunnels;

use crate::api::Registry;
use crate::api::bodies::RequestBodies;
use crate::approvals::Approvals;
use crate::approvals::announcer::Announcer;
use crate::approvals::keeper::ApprovalKeeper;
use crate::approvals::signature::SecretFile;
use crate::audit::{AuditKeeper, AuditRecorder, AuditRetention};
use crate::auth::admin::AdminToken;
use crate::auth::audit_seal::AuditSeals;
use crate::auth::credential::EdgeCredentials;
use crate::auth::keys::Signer;
use crate::auth::master::MasterKey;
use crate::auth::vault::Vault;
use crate::config::{Config, days, hours};
use crate::discovery::audit_service::AuditApi;
use crate::discovery::authenticate::EdgeAuthenticator;
use crate::discovery::enrollment::Enrollment;
use crate::discovery::fleet::Fleet;
use crate::discovery::roster::Roster;
use crate::discovery::stream_admission::StreamAdmission;
use crate::discovery::usage_service::Usage;
use crate::listener;
use crate::references::{References, Stores};
use crate::snapshot::Publisher;
use crate::store::edges::Edges;
use crate::store::keys::{Keys, Purpose};
use crate::store::leases::Leases;
use crate::store::quotas::Quotas;
use crate::store::replicas::{ReplicaRow, Replicas};
use crate::store::usage::UsageTable;
use crate::store::{self, Store};
use crate::sync::{Agreement, CatalogueSync, Housekeeping, Notifications, Supervisor};

/// The interval at which the database is polled for a new revision when no notification comes.
const POLL: Duration = Duration::from_secs(2);
/// The embedded database, within the data directory.
const DATABASE: &str = "registry.db";

/// The file of the master key in the data directory.
const MASTER_KEY: &str = "master.key";

/// A control plane that runs.
pub struct Running {
    /// The address it listens on.
    pub addr: SocketAddr,
    /// The bearer of administrators. Empty: it is switched off.
    pub admin_token: SecretString,
    /// The secret of the link by which somebody becomes the first administrator, where this start made one.
    pub setup_link: Option<SecretString>,
    enrollment: Enrollment,
    /// The join tokens that end with this process.
    join_tokens: Vec<String>,
    replica: String,
    store: Store,
    fleet: Arc<Fleet>,
    leases: Leases,
    audit: (AuditRecorder, AuditKeeper),
    drain: CancellationToken,
    stop: CancellationToken,
    server: tokio::task::JoinHandle<()>,
    tasks: JoinSet<()>,
    /// Has the certificate read anew, where there is one.
    renew: Option<Arc<Notify>>,
    /// What nobody else may open meanwhile.
    lock: Option<DirectoryLock>,
}

/// The parts that the services are made of.
struct Parts {
    /// Names this run of this process among its replicas.
    replica: String,
    store: Store,
    vault: Arc<Vault>,
    signer: Arc<Signer>,
    enrollment: Enrollment,
    edge_authenticator: EdgeAuthenticator,
    admin: AdminToken,
    edges: Edges,
    fleet: Arc<Fleet>,
    admission: Arc<StreamAdmission>,
    usage: UsageTable,
    usage_service: Usage,
    audit: AuditRecorder,
    audit_service: AuditApi,
    tunnels: Arc<Tunnels>,
    /// Where replicas agree on what is shared, if they do.
    redis: Option<redis::Client>,
    sync: CatalogueSync,
    connections: Connections,
    bodies: RequestBodies,
    sign_in: SignIn,
    approvals: Approvals,
    /// What signs webhooks about approvals, if anything does.
    webhook_secrets: Option<SecretFile>,
    drain: CancellationToken,
}

/// How people may send what proves who they are.
struct SignIn {
    transport: TransportRule,
    takes_basic: bool,
}

/// Starts a control plane on the address that `config` says.
pub async fn start(config: Config) -> anyhow::Result<Running> {
    let lock = lock(&config)?;
    let listener = TcpListener::bind(config.listen).await;
    let listener = listener.with_context(|| format!("cannot listen on {}", config.listen))?;
    Ok(Running { lock, ..start_on(config, listener).await? })
}

/// Takes the embedded database for this process: another one would not hear of its writes. PostgreSQL is made for many.
fn lock(config: &Config) -> anyhow::Result<Option<DirectoryLock>> {
    let Some(url) = &config.database_url else {
        return Ok(Some(DirectoryLock::take(&config.data_dir()?, "control-plane", config.listen)?));
    };
    let path = store::sqlite_path(url.expose_secret());
    Ok(path.map(|path| DirectoryLock::take_beside(&path, config.listen)).transpose()?)
}

/// Starts a control plane on a listener that is bound already. Who calls it sees to it that the database is used by no other.
pub async fn start_on(config: Config, listener: TcpListener) -> anyhow::Result<Running> {
    let addr = listener.local_addr()?;
    warnings::warn(&config);
    let certificate = match (&config.tls.tls_cert, &config.tls.tls_key) {
        (Some(cert), Some(key)) => Some(Certificate::load(cert, key, None)?),
        _ => None,
    };
    let tls = certificate.as_ref().map(Certificate::in_force);
    let parts = parts(&config, addr).await?;
    let trust = hours(config.keys.trust_max_age);
    let roster = Roster::start(parts.edges.clone()).await?;
    let (store, vault, signer) = (parts.store.clone(), parts.vault.clone(), parts.signer.clone());
    let references = parts.sync.references().clone();
    let publisher = Publisher::start(store, vault, signer, references, trust, roster.siblings()).await?;
    let stop = CancellationToken::new();
    let setup_link = match config.sign_in.makes_setup_link {
        true => Registry::setup_link(&parts.store, parts.admin.is_off()).await?,
        false => None,
    };
    let names = AllowedNames::new(addr, &config.hosts.allowed_hosts, &[]).with_ip_literals();
    let router =
        services::router(&parts, &publisher)?.layer(from_fn_with_state(Arc::new(names), http::check_names));
    // Outermost, so that it hears out whoever is refused, by whatever.
    let router = router.layer(from_fn(http::hear_out));
    let hsts = tls.is_some().then(|| inbound::browser::hsts(config.tls.hsts_max_age)).flatten();
    let router = router.layer(from_fn_with_state(hsts, http::protect));
    let connections = parts.connections.clone();
    let server = tokio::spawn(listener::serve(listener, connections, tls, router, stop.clone()));
    let leases = Leases::new(&parts.store, parts.replica.clone());
    if config.audit.fail_closed {
        parts.store.audit_health().fail_closed();
    }
    let keeper = AuditKeeper {
        store: parts.store.clone(),
        seals: AuditSeals::new(parts.signer.clone()),
        leases: leases.clone(),
        retention: AuditRetention { age: days(config.audit.retention), records: config.audit.max_records },
    };
    let mut tasks = background(&config, &parts, publisher, leases.clone(), addr)?;
    tasks.spawn(roster.run(parts.fleet.siblings_changed()));
    tasks.spawn(parts.audit.clone().run());
    tasks.spawn(keeper.clone().run());
    let renew = certificate.map(|certificate| {
        let renew = Arc::new(Notify::new());
        tasks.spawn(certificate.keep_renewed(renew.clone()));
        renew
    });
    Ok(Running {
        addr,
        admin_token: parts.admin.expose().into(),
        setup_link: setup_link.map(SecretString::from),
        enrollment: parts.enrollment,
        join_tokens: Vec::new(),
        replica: parts.replica,
        store: parts.store,
        fleet: parts.fleet,
        audit: (parts.audit, keeper),
        leases,
        drain: parts.drain,
        stop,
        server,
        tasks,
        renew,
        lock: None,
    })
}

impl Running {
    /// Makes a join token that is good for one edge, in the same process.
    pub async fn create_join_token(&self) -> anyhow::Result<String> {
        Ok(self.enrollment.create_join_token().await?)
    }

    /// Makes a join token with which the edge of this id enrols as often as it must, until this control plane drains.
    pub async fn create_join_token_of(&mut self, edge: &str) -> anyhow::Result<String> {
        let made = self.enrollment.create_join_token_of(edge).await?;
        self.join_tokens.push(made.name);
        Ok(made.join_token)
    }

    /// Reads the certificate of the listener anew, for new connections.
    pub fn renew(&self) {
        match &self.renew {
            Some(renew) => renew.notify_one(),
            None => {
                tracing::info!("SIGHUP: there is no --tls-cert to read anew; other options take a restart")
            }
        }
    }

    /// Tells edges to go elsewhere, lets calls finish, and stops.
    pub async fn drain(mut self) {
        self.drain.cancel();
        self.stop.cancel();
        if let Err(error) = self.server.await {
            tracing::error!(%error, "the listener failed");
        }
        self.tasks.shutdown().await;
        for name in &self.join_tokens {
            if let Err(error) = self.enrollment.delete_join_token(name).await {
                tracing::debug!(%error, name, "cannot revoke a join token");
            }
        }
        self.audit.0.write(true).await;
        self.audit.1.close().await;
        // Otherwise other replicas would believe for a while that its edges are still here.
        if let Err(error) = self.fleet.flush().await {
            tracing::debug!(%error, "cannot record that edges disconnected");
        }
        // Otherwise the next replica would wait until they end by themselves.
        let leave = async {
            self.leases.release().await?;
            // Otherwise others would compare themselves with it for a while.
            Replicas::new(&self.store).leave(&self.replica).await
        };
        if let Err(error) = leave.await {
            tracing::debug!(%error, "cannot release the leases");
        }
        self.store.close().await;
        drop(self.lock);
    }
}

async fn parts(config: &Config, addr: SocketAddr) -> anyhow::Result<Parts> {
    let data_dir = config.data_dir()?;
    create_private(&data_dir).with_context(|| format!("cannot create {}", data_dir.display()))?;
    if config.database_url.is_none() {
        let path = data_dir.join(DATABASE);
        create_private_file(&path).with_context(|| format!("cannot open {}", path.display()))?;
    }
    let store = store::open(database_url(config, &data_dir).expose_secret()).await?;
    let keys = Keys::new(&store);
    let master = master_key(config, &keys, &data_dir).await?;
    let previous = config.keys.previous_master_key.as_ref();
    let previous = previous
        .map(|text| MasterKey::parse(text.expose_secret(), "TRUNKLINE_PREVIOUS_MASTER_KEY"))
        .transpose()?;
    let vault = Arc::new(Vault::open_keys(keys.clone(), master, previous.as_ref()).await?);
    let signer = Arc::new(Signer::open(keys, vault.clone(), config.keys.token_issuer.clone()).await?);
    let edges = Edges::new(&store);
    let credentials = EdgeCredentials::new(signer.clone());
    let replica = uuid::Uuid::new_v4().to_string();
    let fleet = Arc::new(Fleet::new(edges.clone(), replica.clone()));
    let tunnels = Arc::new(Tunnels::default());
    let usage = UsageTable::new(&store);
    Ok(Parts {
        replica,
        edge_authenticator: EdgeAuthenticator::new(credentials.clone(), fleet.clone()),
        enrollment: Enrollment::new(&store, credentials, fleet.clone(), vault.clone()),
        admin: AdminToken::load(config.keys.admin_token.as_ref(), &data_dir)?,
        usage_service: Usage::new(usage.clone(), fleet.clone(), days(config.usage_retention)),
        audit: AuditRecorder::new(store.clone()),
        audit_service: AuditApi::new(
            store.clone(),
            fleet.clone(),
            AuditSeals::new(signer.clone()),
            vault.clone(),
        ),
        fleet,
        admission: Arc::new(StreamAdmission::new(usize::from(config.stream_concurrency))),
        usage,
        sync: CatalogueSync::new(
            store.clone(),
            vault.clone(),
            signer.clone(),
            tunnels.clone(),
            Arc::new(resolver(config, &store, addr)),
            Arc::new(References::new(Stores::open(&config.secrets)?, config.secrets.secret_refresh)),
            usize::from(config.sync_concurrency),
        ),
        tunnels,
        redis: config.redis_url.as_ref().and_then(|url| redis::Client::open(url.expose_secret()).ok()),
        connections: config.limits.connections.connections(),
        bodies: RequestBodies {
            budget: Arc::new(BodyBudget::new(config.limits.max_body_memory_bytes)),
            timeout: config.limits.body_timeout,
        },
        sign_in: SignIn {
            transport: TransportRule {
                is_tls: config.tls.tls_cert.is_some(),
                allows_plain: config.sign_in.insecure_sign_in,
                balancers: config.limits.connections.balancer_addresses.clone(),
            },
            takes_basic: config.sign_in.basic_auth,
        },
        approvals: Approvals {
            timeout: config.approvals.timeout(),
            url: config.approvals.approval_url.clone(),
            are_told: config.approvals.approval_webhook_url.is_some(),
            ..Approvals::default()
        },
        webhook_secrets: webhook_secrets(config)?,
        drain: CancellationToken::new(),
        edges,
        signer,
        vault,
        store,
    })
}

/// What signs webhooks about approvals: a file that cannot be read is told of at the start, and not with the first approval.
fn webhook_secrets(config: &Config) -> anyhow::Result<Option<SecretFile>> {
    let path = config.approvals.approval_webhook_secret_file.as_ref();
    let open = |path| {
        SecretFile::open(path).map_err(|error| anyhow::anyhow!("--approval-webhook-secret-file: {error}"))
    };
    path.map(|path| open(path)).transpose()
}

/// Finds the addresses of upstreams. Where several control planes may share the database, a refusal says whose rule it was: what
/// one of them finds is shown by all.
fn resolver(config: &Config, store: &Store, addr: SocketAddr) -> CheckedResolver {
    let resolver = CheckedResolver::system(config.egress.rule());
    if store.is_sqlite() { resolver } else { resolver.of(place(addr)) }
}

/// Where this control plane is, for people.
fn place(addr: SocketAddr) -> String {
    let files = ["/proc/sys/kernel/hostname", "/etc/hostname"];
    let name = files.iter().find_map(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
    let host: String = name.trim().chars().filter(char::is_ascii_graphic).take(64).collect();
    format!(
        "the control plane at {addr} on {}",
        if host.is_empty() { "a host without a name" } else { &host }
    )
}

fn background(
    config: &Config,
    parts: &Parts,
    publisher: Publisher,
    leases: Leases,
    addr: SocketAddr,
) -> anyhow::Result<JoinSet<()>> {
    let notifications = notifications(config, &config.data_dir()?)?;
    let housekeeping = Housekeeping {
        store: parts.store.clone(),
        leases: leases.clone(),
        vault: parts.vault.clone(),
        signer: parts.signer.clone(),
        edges: parts.edges.clone(),
        usage: parts.usage.clone(),
        quotas: Quotas::new(&parts.store),
        signing: days(config.keys.signing_key_rotation),
        sealing: days(config.keys.sealing_key_rotation),
        retention: days(config.usage_retention),
    };
    let mut tasks = JoinSet::new();
    look_after_approvals(config, parts, &leases, &mut tasks)?;
    let store = parts.store.clone();
    tasks.spawn(async move { store.follow(POLL).await });
    let database = database_url(config, &config.data_dir()?);
    if !parts.store.is_sqlite() {
        tasks.spawn(parts.store.clone().watch_reach(database.expose_secret().to_owned()));
        let own = ReplicaRow {
            id: parts.replica.clone(),
            place: place(addr),
            egress: parts.sync.egress_rule().to_string(),
        };
        tasks.spawn(Agreement::new(Replicas::new(&parts.store), own).run());
    }
    tasks.spawn(notifications.run(parts.store.clone()));
    tasks.spawn(publisher.run());
    tasks.spawn(parts.sync.references().clone().run());
    tasks.spawn(parts.fleet.clone().run());
    tasks.spawn(Supervisor::new(parts.sync.clone(), leases).run());
    tasks.spawn(housekeeping.run());
    Ok(tasks)
}

fn look_after_approvals(
    config: &Config,
    parts: &Parts,
    leases: &Leases,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<()> {
    let (store, approvals) = (parts.store.clone(), parts.approvals.clone());
    let keeper =
        ApprovalKeeper { store: store.clone(), leases: leases.clone(), counters: approvals.counters.clone() };
    tasks.spawn(keeper.run());
    if let (Some(url), Some(secrets)) = (&config.approvals.approval_webhook_url, &parts.webhook_secrets) {
        let webhook = (url.clone(), secrets.clone());
        tasks.spawn(Announcer::new(store, leases.clone(), webhook, approvals)?.run());
    }
    Ok(())
}

async fn master_key(config: &Config, keys: &Keys, data_dir: &Path) -> anyhow::Result<MasterKey> {
    let configured = config.keys.master_key.as_ref();
    let is_sealed = !keys.list(Purpose::Data).await?.is_empty();
    let path = data_dir.join(MASTER_KEY);
    if !is_sealed && configured.is_none() && path.exists() {
        tracing::warn!(
            "the database is new, although {} is of an earlier one: if that was lost, stop and restore it",
            path.display()
        );
    }
    Ok(MasterKey::load(configured, &path, is_sealed)?)
}

fn database_url(config: &Config, data_dir: &Path) -> SecretString {
    let embedded = || format!("sqlite://{}?mode=rwc", data_dir.join(DATABASE).display()).into();
    config.database_url.clone().unwrap_or_else(embedded)
}

fn notifications(config: &Config, data_dir: &Path) -> anyhow::Result<Notifications> {
    let database = database_url(config, data_dir);
    match &config.redis_url {
        Some(url) if redis::Client::open(url.expose_secret()).is_err() => {
            anyhow::bail!("--redis-url (TRUNKLINE_REDIS_URL) must be a URL such as redis://HOST:6379")
        }
        Some(url) => Ok(Notifications::Redis(url.clone())),
        None if database.expose_secret().starts_with("postgres") => Ok(Notifications::Postgres(database)),
        None => Ok(Notifications::None),
    }
}

fn create_private(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Makes a file that only its owner reads, where there is none. What SQLite puts beside it has the same rights.
fn create_private_file(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path).map(drop)
}
