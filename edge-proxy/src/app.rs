//! Assembles an edge: the only module that knows all rooms, and that nobody imports.

mod background;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use egress::CheckedResolver;
use inbound::Connections;
use inbound::names::AllowedNames;
use inbound::tls::UnusableCertificate;
use startup::{DirectoryLock, LockError};
use tokio::runtime::Runtime;
use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use trunkline::discovery::v1::Edge;

use background::Background;

use crate::admin::{self, Admin};
use crate::audit::AuditReporter;
use crate::config::{AuditedCalls, Config, ConfigError, ControlPlanes};
use crate::context::EdgeState;
use crate::enrollment::{AdvertisedAddress, Enrollment, edge_id};
use crate::fleet::{Certificate, Fleet, Waiters};
use crate::limits::LeaseKeeper;
use crate::listener;
use crate::observe::{Exporter, Inbound, Metrics, SnapshotReaders};
use crate::os::sockets::listen;
use crate::os::{clock, files};
use crate::session::TerminatedFile;
use crate::snapshot::build::Builder;
use crate::snapshot::client::{Client, MissingLog, Publication, Subscriber};
use crate::snapshot::disk::{Disk, DiskKey, KeyError, LoadedCopy, Saver};
use crate::snapshot::{Budget, Current, PageLimits};
use crate::transport::ClientPort;
use crate::tunnels::{TunnelServer, Tunnels};
use crate::usage::{Reporter, Shard};

/// A running edge.
#[derive(Debug)]
pub struct Running {
    /// The address for clients.
    pub client_addr: SocketAddr,
    /// The address for operators.
    pub ops_addr: SocketAddr,
    drain: watch::Sender<bool>,
    drain_timeout: Duration,
    threads: Vec<JoinHandle<()>>,
    ended: oneshot::Receiver<()>,
    tunnels: Arc<Tunnels>,
    control_planes: Arc<ControlPlanes>,
    renew: Arc<Notify>,
    stop: DropGuard,
    /// The data directory: two edges in one would end each other's streams for ever.
    _lock: DirectoryLock,
}

/// Sockets that are bound already, for callers who must know the ports before.
#[derive(Debug, Default)]
pub struct Listeners {
    /// For clients; else as configured.
    pub client: Option<TcpListener>,
    /// For operators; else as configured.
    pub ops: Option<TcpListener>,
    /// For siblings; else as configured.
    pub siblings: Option<TcpListener>,
}

/// The reason that an edge did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Another process has the data directory.
    #[error(transparent)]
    InUse(#[from] LockError),
    /// An address cannot be listened on.
    #[error("{option} {address}: {error}")]
    Listen {
        /// The option that names the address.
        option: &'static str,
        /// The address.
        address: SocketAddr,
        /// The cause.
        error: std::io::Error,
    },
    /// The data directory cannot be used.
    #[error("the data directory {}: {error}", folder.display())]
    Data {
        /// The folder.
        folder: PathBuf,
        /// The cause.
        error: std::io::Error,
    },
    /// The key of the copy on disk cannot be read or made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The certificate of the client port cannot be used.
    #[error(transparent)]
    Certificate(#[from] UnusableCertificate),
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The metrics cannot be set up.
    #[error(transparent)]
    Metrics(#[from] crate::observe::ExportError),
    /// The system starts no more threads.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Starts an edge.
pub fn start(config: &Config) -> Result<Running, StartError> {
    start_on(config, Listeners::default())
}

/// Starts an edge on sockets that are bound already.
pub fn start_on(config: &Config, listeners: Listeners) -> Result<Running, StartError> {
    config.check_client_address()?;
    let client_certificate = config.tls.certificate()?;
    let folder = config.data_dir()?;
    let lock = DirectoryLock::take(&folder, "edge", config.listen)?;
    let client = bind(listeners.client, "--listen", config.listen)?;
    let ops = bind(listeners.ops, "--ops-listen", config.ops_listen)?;
    let (client_addr, ops_addr) = (address(&client)?, address(&ops)?);
    let sibling_listener = match (listeners.siblings, config.sibling_listen.0) {
        (Some(given), _) => Some(given),
        (None, Some(address)) => Some(bind(None, "--sibling-listen", address)?),
        (None, None) => None,
    };
    let sibling_addr = sibling_listener.as_ref().map(address).transpose()?;
    let data = |error| StartError::Data { folder: folder.clone(), error };
    files::make_folder(&folder).map_err(data)?;
    let edge_id = edge_id::load_or_create(config.edge_id.as_deref(), &folder).map_err(data)?;

    let (drain, draining) = watch::channel(false);
    let (metrics, current) = (Arc::new(Metrics::new()), Arc::new(Current::new()));
    let certificate = Certificate::load_or_create(&folder).map_err(data)?;
    let fingerprint = certificate.fingerprint();
    let siblings =
        sibling_listener.map(|listener| Ok::<_, StartError>((listener, runtime()?))).transpose()?;
    let waiters = Arc::new(Waiters::new(&edge_id));
    let fleet = match &siblings {
        Some((_, runtime)) => {
            let (current, metrics) = (Arc::clone(&current), Arc::clone(&metrics));
            let handle = runtime.handle().clone();
            Fleet::with_siblings(waiters, current, certificate, &config.limits, metrics, handle)
        }
        None => Fleet::alone(waiters),
    };
    let shared = EdgeState::new(
        Arc::clone(&current),
        config.limits.clone(),
        &config.published,
        client_addr,
        Arc::clone(&metrics),
        fleet,
        CheckedResolver::system(config.egress.rule()),
    )?;
    let client_port = ClientPort::new(&config.tls, client_certificate.as_ref(), &config.limits.connections);
    let link = watch::Sender::new(None);
    let shared = shared.with_client_port(client_port).with_control_plane(link.subscribe());
    let operators = admin::connections();
    let exporter = Exporter::new(&metrics, snapshot_readers(&current), inbound(&shared, &operators))?;
    let disk = Arc::new(Disk::new(&folder, DiskKey::get(config.snapshot_key.as_ref(), &folder)?));
    let edge = Edge {
        id: edge_id.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        client_address: config.client_address(client_addr),
        // Set with each connection to a control plane.
        sibling_address: String::new(),
        sibling_certificate_sha256: fingerprint.to_vec(),
        egress: config.stated_egress(),
    };
    let enrollment = Enrollment::new(edge_id.clone(), config.join_token()?, folder.join("edge.credential"));
    let (image, images) = watch::channel(None);
    let publication = Publication {
        current: Arc::clone(&current),
        image,
        link,
        missing: MissingLog::default(),
        metrics: Arc::clone(&metrics),
    };
    let keeper = LeaseKeeper::new(&shared.limits, publication.link.subscribe());
    let reporter = Reporter::new(publication.link.subscribe(), Arc::clone(&metrics), folder.join("usage"));
    if config.audit_calls == AuditedCalls::Digest {
        shared.audit.record_calls();
    }
    if config.audit_fail_closed {
        shared.audit.fail_closed();
    }
    let audit = AuditReporter::new(Arc::clone(&shared.audit), publication.link.subscribe());
    let subscriber = start_from_disk(config, &disk, &publication);

    let shared = Arc::new(shared);
    let terminated = TerminatedFile::load(folder.join("sessions.ended"), Arc::clone(&shared.terminated));
    let mut threads = workers(config, &client, &shared, &reporter, &draining)?;
    drop(client);
    let stop = CancellationToken::new();
    let tunnels = Arc::clone(&shared.environment.tunnels);
    let tunnels_stop = if siblings.is_some() { CancellationToken::new() } else { stop.clone() };
    threads.push(serve_tunnels(Arc::clone(&shared), tunnels_stop.clone())?);
    let drain_timeout = Duration::from_secs(config.drain_timeout);
    match siblings {
        Some((listener, runtime)) => {
            let late = drain_over(draining.clone(), drain_timeout);
            let end = SiblingsEnd { stop: stop.clone(), tunnels: tunnels_stop.drop_guard() };
            threads.push(serve_siblings(runtime, listener, shared, late, end)?);
        }
        None => current.set_synced(),
    }
    let control_planes = Arc::new(config.control_planes()?);
    let advertised = AdvertisedAddress::new(config.sibling_advertise.as_deref(), sibling_addr);
    let renew = Arc::new(Notify::new());
    let background = Background {
        current: Arc::clone(&current),
        client: Client::new(
            edge,
            subscriber,
            Arc::clone(&control_planes),
            Arc::new(enrollment),
            advertised,
            publication,
        ),
        saver: Saver::new(disk, images, Arc::clone(&current), metrics),
        terminated,
        reporter,
        keeper,
        audit,
        certificate: client_certificate.map(|certificate| (certificate, Arc::clone(&renew))),
    };
    tracing::info!(edge = edge_id, clients = %client_addr, operators = %ops_addr, "the edge listens");
    if !*current.complete().borrow() {
        tracing::info!("waiting for a first snapshot from a control plane");
    }
    let (end, ended) = oneshot::channel();
    threads.push(spawn("edge-background", runtime()?, move |runtime| {
        runtime.block_on(background.run());
        // An error means that nobody waits for the end.
        let _ = end.send(());
    })?);
    let published = &config.published;
    let names = AllowedNames::new(ops_addr, &published.hosts.allowed_hosts, &published.allowed_origins);
    let names = names.with_ip_literals();
    let admin =
        Admin { current, exporter, config: config.to_json(), names, draining, connections: operators };
    serve_operators(admin, ops)?;
    let stop = stop.drop_guard();
    Ok(Running {
        client_addr,
        ops_addr,
        drain,
        drain_timeout,
        threads,
        ended,
        tunnels,
        control_planes,
        renew,
        stop,
        _lock: lock,
    })
}

fn bind(
    given: Option<TcpListener>,
    option: &'static str,
    address: SocketAddr,
) -> Result<TcpListener, StartError> {
    given.map_or_else(|| listen(address), Ok).map_err(|error| StartError::Listen { option, address, error })
}

fn snapshot_readers(current: &Arc<Current>) -> SnapshotReaders {
    let (contact, trusted) = (Arc::clone(current), Arc::clone(current));
    SnapshotReaders {
        last_contact: Box::new(move || contact.last_contact()),
        trust_remaining: Box::new(move |now| trusted.trust_remaining(now)),
    }
}

/// The listeners whose connections and bodies are counted.
fn inbound(shared: &EdgeState, operators: &Connections) -> Inbound {
    let siblings = shared.environment.fleet.connections().map(|siblings| ("siblings", siblings.clone()));
    let others = [("clients", shared.connections.clone()), ("operators", operators.clone())];
    Inbound {
        listeners: others.into_iter().chain(siblings).collect(),
        bodies: Arc::clone(&shared.environment.bodies),
    }
}

fn address(listener: &TcpListener) -> Result<SocketAddr, StartError> {
    Ok(listener.local_addr()?)
}

/// Loads the copy on disk, if there is one, and puts it in force at once.
fn start_from_disk(config: &Config, disk: &Disk, publication: &Publication) -> Subscriber {
    let limits = PageLimits { entries: usize::from(config.page_size) };
    let budget = Budget::new(config.list_cache_bytes);
    let Some(LoadedCopy { builder, revision, last_contact }) = disk.load(limits, budget.clone()) else {
        return Subscriber::new(Builder::new(limits, budget), 0);
    };
    let mut subscriber = Subscriber::new(builder, revision);
    publication.current.note_contact(last_contact);
    let compiled = subscriber.start_from_accepted();
    publication.publish(&subscriber, compiled);
    publication.current.set_complete();
    if !publication.current.is_trust_fresh(clock::now()) {
        tracing::error!(
            "the copy on disk is too old to trust bearers; calls are refused until a control plane responds"
        );
    }
    subscriber
}

/// Starts one thread and one reactor for each worker: no call crosses threads.
fn workers(
    config: &Config,
    client: &TcpListener,
    shared: &Arc<EdgeState>,
    reporter: &Reporter,
    draining: &watch::Receiver<bool>,
) -> Result<Vec<JoinHandle<()>>, StartError> {
    let drain_timeout = Duration::from_secs(config.drain_timeout);
    let worker = |number: usize| {
        let (listener, shared) = (client.try_clone()?, Arc::clone(shared));
        let (usage, drain) = (reporter.counts(), draining.clone());
        spawn(&format!("edge-worker-{number}"), runtime()?, move |runtime| {
            let usage = Rc::new(Shard::new(usage));
            runtime.block_on(serve(listener, shared, usage, drain, drain_timeout));
        })
    };
    Ok((0..config.workers()).map(worker).collect::<std::io::Result<_>>()?)
}

async fn serve(
    listener: TcpListener,
    shared: Arc<EdgeState>,
    usage: Rc<Shard>,
    drain: watch::Receiver<bool>,
    drain_timeout: Duration,
) {
    let serving = listener::serve(listener, shared, Rc::clone(&usage), drain.clone());
    let cut_off = drain_over(drain, drain_timeout);
    tokio::select! {
        served = serving => {
            if let Err(error) = served {
                tracing::error!(%error, "a worker ended");
            }
        }
        () = cut_off => tracing::warn!("calls were interrupted because they took longer than --drain-timeout"),
    }
    usage.finish().await;
}

/// Waits until the edge has drained for as long as it may.
async fn drain_over(mut drain: watch::Receiver<bool>, drain_timeout: Duration) {
    // The sender is in `Running`; if that is dropped, the edge is to stop as well.
    let _ = drain.wait_for(|draining| *draining).await;
    tokio::time::sleep(drain_timeout).await;
}

/// How the siblings are served to the end.
struct SiblingsEnd {
    /// Set when the calls of this edge have ended.
    stop: CancellationToken,
    /// Closes the tunnels, once nothing of siblings goes through them.
    tunnels: DropGuard,
}

/// Serves the siblings until `end.stop`, and what they have begun until `late`: on a thread of its own, so that it never
/// waits for a snapshot to be compiled.
fn serve_siblings(
    runtime: Runtime,
    listener: TcpListener,
    shared: Arc<EdgeState>,
    late: impl Future<Output = ()> + Send + 'static,
    end: SiblingsEnd,
) -> std::io::Result<JoinHandle<()>> {
    let SiblingsEnd { stop, tunnels } = end;
    spawn("edge-siblings", runtime, move |runtime| {
        runtime.block_on(async {
            let late = async { tokio::join!(late, stop.cancelled()) };
            tokio::select! {
                served = Fleet::serve(listener, Arc::clone(&shared), stop.clone()) => {
                    if let Err(error) = served {
                        tracing::error!(%error, "other edges can no longer reach this one");
                        shared.environment.current.set_synced();
                        stop.cancelled().await;
                    }
                }
                _ = late => tracing::warn!(
                    "calls of other edges were interrupted because they took longer than --drain-timeout"
                ),
            }
        });
        drop(tunnels);
    })
}

/// Serves the tunnels to this edge until `stop`: on a thread of its own, so that they outlive the workers.
fn serve_tunnels(shared: Arc<EdgeState>, stop: CancellationToken) -> std::io::Result<JoinHandle<()>> {
    spawn("edge-tunnels", runtime()?, move |runtime| {
        runtime.block_on(async {
            let server = TunnelServer {
                tunnels: Arc::clone(&shared.environment.tunnels),
                fleet: Arc::clone(&shared.environment.fleet),
                current: Arc::clone(&shared.environment.current),
                metrics: Arc::clone(&shared.environment.metrics),
            };
            // Either way the edge is stopping.
            let _: Option<()> = stop.run_until_cancelled(server.run()).await;
        });
    })
}

fn serve_operators(admin: Admin, ops: TcpListener) -> Result<(), StartError> {
    // Not joined: it answers until the process ends, also while everything else is stopping.
    spawn("edge-ops", runtime()?, move |runtime| {
        if let Err(error) = runtime.block_on(admin.serve(ops)) {
            tracing::error!(%error, "the operators' port failed");
        }
    })?;
    Ok(())
}

fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn spawn(
    name: &str,
    runtime: Runtime,
    run: impl FnOnce(Runtime) + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(move || run(runtime))
}

impl Running {
    /// Reads the authorities of control planes, and the certificate of the client port, anew, for new connections.
    pub fn renew(&self) {
        self.control_planes.renew();
        self.renew.notify_one();
    }

    /// Stops accepting, hands its tunnels over to other edges, lets calls finish and streams end, those of other edges through
    /// its tunnels included, delivers or keeps usage, and returns when all that is done, at the latest a little after
    /// `--drain-timeout`.
    pub async fn drain(self) {
        tracing::info!(patience = ?self.drain_timeout, "draining");
        self.drain.send_replace(true);
        self.tunnels.drain();
        // An error means that the background tasks have ended already.
        let _ = self.ended.await;
        // Siblings may have waited for the last calls until now. Theirs that go through tunnels here end with these threads.
        drop(self.stop);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the edge panicked");
            }
        }
    }
}
