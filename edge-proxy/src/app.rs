//! Puts an edge together: the only module that knows all rooms, and that nobody imports.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use trunkline::discovery::v1::Edge;

use crate::admin::Admin;
use crate::advertise::Advertised;
use crate::config::{Config, ConfigError};
use crate::ended::Ended;
use crate::enroll::Enrollment;
use crate::held::Held;
use crate::observe::{Exporter, InForce, Metrics};
use crate::peers::{Certificate, Peers};
use crate::snapshot::build::Builder;
use crate::snapshot::client::{Client, Machine, Publication};
use crate::snapshot::disk::{Disk, DiskKey, Found, KeyError, Saver};
use crate::snapshot::{Budget, Current, PageLimits};
use crate::tunnels::Tunnels;
use crate::usage::{Reporter, Shard};
use crate::worker::Shared;
use crate::{clock, files, identity, listener};

/// An edge that runs.
#[derive(Debug)]
pub struct Running {
    /// Where clients connect.
    pub client_addr: SocketAddr,
    /// Where operators do.
    pub ops_addr: SocketAddr,
    drain: watch::Sender<bool>,
    patience: Duration,
    threads: Vec<JoinHandle<()>>,
    ended: oneshot::Receiver<()>,
    alone: DropGuard,
}

/// Sockets that are bound already, for those who want to know their ports before.
#[derive(Debug, Default)]
pub struct Listeners {
    /// For clients; else what the configuration says.
    pub client: Option<TcpListener>,
    /// For operators; else what the configuration says.
    pub ops: Option<TcpListener>,
    /// For other edges; else what the configuration says.
    pub peers: Option<TcpListener>,
}

/// Why an edge did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An address cannot be listened on.
    #[error("{option} {address}: {error}")]
    Listen {
        /// The option that names the address.
        option: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// The data directory cannot be used.
    #[error("the data directory {}: {error}", folder.display())]
    Data {
        /// The folder.
        folder: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The key of the copy on disk cannot be had.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The metrics cannot be set up.
    #[error(transparent)]
    Metrics(#[from] crate::observe::ExportError),
    /// The system gives no more threads.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Starts an edge.
pub fn start(config: &Config) -> Result<Running, StartError> {
    start_on(config, Listeners::default())
}

/// Starts an edge on sockets that are bound already.
pub fn start_on(config: &Config, listeners: Listeners) -> Result<Running, StartError> {
    let client = bind(listeners.client, "--listen", config.listen)?;
    let ops = bind(listeners.ops, "--ops-listen", config.ops_listen)?;
    let (client_addr, ops_addr) = (address(&client)?, address(&ops)?);
    let peer_listener = match (listeners.peers, config.peer_listen.0) {
        (Some(given), _) => Some(given),
        (None, Some(address)) => Some(bind(None, "--peer-listen", address)?),
        (None, None) => None,
    };
    let peer_addr = peer_listener.as_ref().map(address).transpose()?;
    let folder = config.data_dir()?;
    let data = |error| StartError::Data { folder: folder.clone(), error };
    files::make_folder(&folder).map_err(data)?;
    let edge_id = identity::of(config.edge_id.as_deref(), &folder).map_err(data)?;

    let (drain, draining) = watch::channel(false);
    let (metrics, current) = (Arc::new(Metrics::new()), Arc::new(Current::new()));
    let certificate = Certificate::of(&folder).map_err(data)?;
    let fingerprint = certificate.fingerprint();
    let peer_line = peer_listener.map(|listener| Ok::<_, StartError>((listener, runtime()?))).transpose()?;
    let held = Arc::new(Held::new(&edge_id));
    let peers = match &peer_line {
        Some((_, runtime)) => {
            let (current, metrics) = (Arc::clone(&current), Arc::clone(&metrics));
            let handle = runtime.handle().clone();
            Peers::among(held, current, certificate, &config.limits, metrics, handle)
        }
        None => Peers::new(held),
    };
    let shared = Shared::new(
        Arc::clone(&current),
        config.limits.clone(),
        &config.doors,
        client_addr,
        Arc::clone(&metrics),
        peers,
    )?;
    let exporter = Exporter::new(&metrics, in_force(&current))?;
    let disk = Arc::new(Disk::new(&folder, DiskKey::get(config.snapshot_key.as_ref(), &folder)?));
    let edge = Edge {
        id: edge_id.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        client_address: config.advertise_address.clone().unwrap_or_else(|| format!("http://{client_addr}")),
        // Known with each connection to a control plane.
        peer_address: String::new(),
        peer_certificate_sha256: fingerprint.to_vec(),
    };
    let enrollment = Enrollment::new(edge_id.clone(), config.join_token()?, folder.join("edge.credential"));
    let (image, images) = watch::channel(None);
    let told = Publication {
        current: Arc::clone(&current),
        image,
        link: watch::Sender::new(None),
        metrics: Arc::clone(&metrics),
    };
    let reporter = Reporter::new(told.link.subscribe(), Arc::clone(&metrics), folder.join("usage"));
    let machine = start_from_disk(config, edge, &disk, &told);

    let shared = Arc::new(shared);
    let ended = Ended::recall(folder.join("sessions.ended"), Arc::clone(&shared));
    let mut threads = workers(config, &client, &shared, &reporter, &draining)?;
    drop(client);
    let alone = CancellationToken::new();
    threads.push(tunnels(Arc::clone(&shared), alone.clone())?);
    match peer_line {
        Some((listener, runtime)) => threads.push(others(runtime, listener, shared, alone.clone())?),
        None => current.set_recalled(),
    }
    let advertised = Advertised::new(config.peer_advertise.as_deref(), peer_addr);
    let background = Background {
        client: Client::new(machine, config.endpoints()?, Arc::new(enrollment), advertised, told),
        saver: Saver::new(disk, images, Arc::clone(&current), metrics),
        ended,
        reporter,
    };
    let (ending, ended) = oneshot::channel();
    threads.push(spawn("edge-background", runtime()?, move |runtime| {
        runtime.block_on(background.run());
        // Nobody may be waiting.
        let _ = ending.send(());
    })?);
    let admin = Admin { current, exporter, config: config.to_json(), draining };
    operators(admin, ops)?;
    tracing::info!(edge = edge_id, clients = %client_addr, operators = %ops_addr, "the edge is ready");
    let patience = Duration::from_secs(config.drain_timeout);
    let alone = alone.drop_guard();
    Ok(Running { client_addr, ops_addr, drain, patience, threads, ended, alone })
}

fn bind(
    given: Option<TcpListener>,
    option: &'static str,
    address: SocketAddr,
) -> Result<TcpListener, StartError> {
    given.map_or_else(|| listen(address), Ok).map_err(|error| StartError::Listen { option, address, error })
}

/// A backlog that a burst of clients fits in.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(4_096)?;
    Ok(socket.into())
}

fn in_force(current: &Arc<Current>) -> InForce {
    let (heard, trusted) = (Arc::clone(current), Arc::clone(current));
    InForce {
        heard_at: Box::new(move || heard.heard_at()),
        trust_remaining: Box::new(move |now| trusted.trust_remaining(now)),
    }
}

fn address(listener: &TcpListener) -> Result<SocketAddr, StartError> {
    Ok(listener.local_addr()?)
}

/// What the stream goes on from: the copy on disk, put in force at once, or nothing.
fn start_from_disk(config: &Config, edge: Edge, disk: &Disk, told: &Publication) -> Machine {
    let limits = PageLimits { entries: usize::from(config.page_size) };
    let budget = Budget::new(config.list_cache_bytes);
    let Some(Found { builder, revision, heard_at }) = disk.load(limits, budget.clone()) else {
        return Machine::new(edge, Builder::new(limits, budget), 0);
    };
    let mut machine = Machine::new(edge, builder, revision);
    told.current.heard(heard_at);
    let compiled = machine.start_from_held();
    told.publish(&machine, compiled);
    told.current.set_whole();
    if !told.current.bearers_are_believed(clock::now()) {
        tracing::error!(
            "the copy on disk is too old to trust bearers; calls are refused until a control plane responds"
        );
    }
    machine
}

/// One thread and one reactor for each worker: nothing on the road of a call crosses threads.
fn workers(
    config: &Config,
    client: &TcpListener,
    shared: &Arc<Shared>,
    reporter: &Reporter,
    draining: &watch::Receiver<bool>,
) -> Result<Vec<JoinHandle<()>>, StartError> {
    let patience = Duration::from_secs(config.drain_timeout);
    let worker = |number: usize| {
        let (listener, shared) = (client.try_clone()?, Arc::clone(shared));
        let (usage, drain) = (reporter.counts(), draining.clone());
        spawn(&format!("edge-worker-{number}"), runtime()?, move |runtime| {
            let usage = Rc::new(Shard::new(usage));
            runtime.block_on(serve(listener, shared, usage, drain, patience));
        })
    };
    Ok((0..config.workers()).map(worker).collect::<std::io::Result<_>>()?)
}

async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    usage: Rc<Shard>,
    mut drain: watch::Receiver<bool>,
    patience: Duration,
) {
    let serving = listener::serve(listener, shared, Rc::clone(&usage), drain.clone());
    let late = async {
        // The sender is held by `Running`; where that is dropped, the edge is to stop as well.
        let _ = drain.wait_for(|draining| *draining).await;
        tokio::time::sleep(patience).await;
    };
    tokio::select! {
        served = serving => {
            if let Err(error) = served {
                tracing::error!(%error, "a worker ended");
            }
        }
        () = late => tracing::warn!("calls were interrupted because they took longer than --drain-timeout"),
    }
    usage.finish().await;
}

/// What happens beside the road of calls.
struct Background {
    client: Client,
    saver: Saver,
    ended: Ended,
    reporter: Reporter,
}

impl Background {
    /// Runs until the last worker has ended and its usage is delivered or kept.
    async fn run(mut self) {
        let saver = tokio::spawn(self.saver.run());
        let client = tokio::spawn(self.client.run());
        tokio::select! {
            () = self.reporter.run() => {}
            never = self.ended.keep() => match never {},
        }
        self.ended.write().await;
        // With the client go the images, and with them, after the last one is written, the saver.
        client.abort();
        let _ = client.await;
        let _ = saver.await;
    }
}

/// What goes between edges, until `alone`: on a thread of its own, so that it never waits for a snapshot to be compiled.
fn others(
    runtime: Runtime,
    listener: TcpListener,
    shared: Arc<Shared>,
    alone: CancellationToken,
) -> std::io::Result<JoinHandle<()>> {
    spawn("edge-peers", runtime, move |runtime| {
        runtime.block_on(async {
            let serving = alone.run_until_cancelled(Peers::serve(listener, Arc::clone(&shared)));
            if let Some(Err(error)) = serving.await {
                tracing::error!(%error, "other edges can no longer reach this one");
                shared.current.set_recalled();
                alone.cancelled().await;
            }
        });
    })
}

/// The tunnels of upstreams that dial in, until `alone`: on a thread of its own, so that they outlive the workers.
fn tunnels(shared: Arc<Shared>, alone: CancellationToken) -> std::io::Result<JoinHandle<()>> {
    spawn("edge-tunnels", runtime()?, move |runtime| {
        runtime.block_on(async {
            // Either way the edge is stopping.
            let _: Option<()> = alone.run_until_cancelled(Tunnels::serve(shared)).await;
        });
    })
}

fn operators(admin: Admin, ops: TcpListener) -> Result<(), StartError> {
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
    /// Stops accepting, lets calls finish and streams end, delivers or keeps usage, and returns when all that
    /// is done, at the latest a little after `--drain-timeout`.
    pub async fn drain(self) {
        tracing::info!(patience = ?self.patience, "draining");
        self.drain.send_replace(true);
        // An error means that the background has ended already.
        let _ = self.ended.await;
        // Calls that ended last may still have been waited for by other edges' clients.
        drop(self.alone);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the edge panicked");
            }
        }
    }
}
