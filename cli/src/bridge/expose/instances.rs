//! Instances of the command: a child of each era, and their sessions. All clients share one instance; with
//! `--env-from-header`, each set of header values has its own.
//!
//! The values are usually secrets and are never shown.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName};
use mcp::revision::Era;
use tokio_util::sync::CancellationToken;

use crate::bridge::child::Program;
use crate::bridge::expose::modern_child::ModernChild;
use crate::bridge::expose::sessions::Sessions;
use crate::bridge::expose::share::Source;
use crate::bridge::expose::supervised_child::SupervisedChild;
use crate::bridge::expose::{Eras, Settings};

/// Maximum number of instances at a time; one address starts half of them when alone.
pub const MAX_INSTANCES: usize = 32;
/// Idle time after which an instance is stopped; a shorter one applies when a new instance needs room.
const IDLE: Duration = Duration::from_secs(600);
const IDLE_WHEN_FULL: Duration = Duration::from_secs(60);
/// Interval between checks for idle instances.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);

/// An environment variable of the child, and the header that its value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvFromHeader {
    pub variable: String,
    pub header: HeaderName,
}

impl std::str::FromStr for EnvFromHeader {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (variable, header) = text.split_once('=').ok_or("expected NAME=HEADER")?;
        if variable.is_empty() || variable.contains('\0') {
            return Err("invalid variable name".to_owned());
        }
        let header = header.parse().map_err(|_| format!("{header:?} is not a valid header name"))?;
        Ok(Self { variable: variable.to_owned(), header })
    }
}

/// The children and sessions of all clients that send the same header values.
#[derive(Debug)]
pub struct Instance {
    pub(crate) legacy: Option<Arc<SupervisedChild>>,
    pub(crate) modern: Option<ModernChild>,
    pub(crate) sessions: Sessions,
    /// Who started it.
    source: Source,
    stop: CancellationToken,
    used: Mutex<Instant>,
}

/// The header values that a client sent, one for each variable.
type HeaderValues = Vec<Option<String>>;

/// All running instances, by header values.
pub struct Instances {
    program: Program,
    settings: Settings,
    stop: CancellationToken,
    running: Mutex<HashMap<HeaderValues, Arc<Instance>>>,
}

/// Leaves out the header values, which are secrets.
impl std::fmt::Debug for Instances {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instances").field("program", &self.program).finish_non_exhaustive()
    }
}

impl Instance {
    fn start(program: Program, settings: &Settings, source: Source, stop: CancellationToken) -> Arc<Self> {
        let legacy = (settings.eras != Eras::Modern)
            .then(|| SupervisedChild::start(program.clone(), Era::Legacy, settings, stop.clone()));
        let modern = (settings.eras != Eras::Legacy)
            .then(|| ModernChild::new(program, settings.clone(), stop.clone()));
        let used = Mutex::new(Instant::now());
        let instance = Arc::new(Self { legacy, modern, sessions: Sessions::default(), source, stop, used });
        tokio::spawn(probe_eras(instance.clone()));
        instance
    }

    /// Waits until its children have ended for good.
    pub async fn ended(&self) {
        if let Some(legacy) = &self.legacy {
            legacy.ended().await;
        }
        if let Some(modern) = &self.modern {
            modern.ended().await;
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.is_cancelled() || self.legacy.as_ref().is_some_and(|legacy| legacy.is_ended())
    }

    fn is_unused_for(&self, idle: Duration) -> bool {
        let used = *self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let busy = self.legacy.as_ref().is_some_and(|legacy| legacy.is_busy())
            || self.modern.as_ref().is_some_and(ModernChild::is_busy);
        used.elapsed() >= idle && !busy
    }

    fn mark_used(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// Probes for the modern era ahead of the first client that needs it, but not before the command has started once.
async fn probe_eras(instance: Arc<Instance>) {
    if let (Some(legacy), Some(modern)) = (&instance.legacy, &instance.modern) {
        let _ = legacy.ready().await;
        modern.is_modern().await;
    }
}

impl Instances {
    /// Prepares the instances without starting anything.
    pub fn new(program: Program, settings: Settings, stop: CancellationToken) -> Self {
        Self { program, settings, stop, running: Mutex::default() }
    }

    /// Returns the instance that all clients share; `None` if it depends on their headers.
    pub fn single(&self) -> Option<Arc<Instance>> {
        self.settings
            .env_from_headers
            .is_empty()
            .then(|| self.get_or_start(Vec::new(), Source::default()))
            .flatten()
    }

    /// Returns the instance for a client's headers, starting it if necessary; `None` if there are too many, or too many that
    /// `source` has started.
    pub fn for_headers(&self, headers: &HeaderMap, source: Source) -> Option<Arc<Instance>> {
        let value = |wanted: &EnvFromHeader| {
            let value = headers.get(&wanted.header)?.to_str().ok()?;
            Some(value.to_owned())
        };
        self.get_or_start(self.settings.env_from_headers.iter().map(value).collect(), source)
    }

    fn get_or_start(&self, values: HeaderValues, source: Source) -> Option<Arc<Instance>> {
        let mut running = self.lock();
        let fixed = self.settings.env_from_headers.is_empty();
        if let Some(instance) = running.get(&values).filter(|instance| fixed || !instance.is_stopped()) {
            instance.mark_used();
            return Some(instance.clone());
        }
        if !source.has_room(MAX_INSTANCES, running.values().map(|instance| instance.source)) {
            let is_full = running.len() >= MAX_INSTANCES;
            let mut candidates = running.iter().filter(|(_, instance)| is_full || instance.source == source);
            let unused = candidates
                .find(|(_, instance)| instance.is_stopped() || instance.is_unused_for(IDLE_WHEN_FULL));
            let unused = unused.map(|(values, _)| values.clone())?;
            running.remove(&unused).inspect(|instance| instance.stop.cancel());
        }
        let mut program = self.program.clone();
        let variables = self.settings.env_from_headers.iter().zip(&values);
        program.env.extend(variables.filter_map(|(wanted, value)| {
            let value = value.clone()?;
            Some((wanted.variable.clone(), value))
        }));
        let instance = Instance::start(program, &self.settings, source, self.stop.child_token());
        running.insert(values, instance.clone());
        Some(instance)
    }

    /// Stops idle instances periodically.
    pub async fn stop_idle(self: Arc<Self>) {
        while !self.settings.env_from_headers.is_empty() {
            tokio::select! {
                () = tokio::time::sleep(SWEEP_INTERVAL) => {}
                () = self.stop.cancelled() => return,
            }
            self.lock().retain(|_, instance| {
                let keep = !instance.is_stopped() && !instance.is_unused_for(IDLE);
                if !keep {
                    instance.stop.cancel();
                }
                keep
            });
        }
    }

    /// Returns all running instances.
    pub fn all(&self) -> Vec<Arc<Instance>> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<HeaderValues, Arc<Instance>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_and_a_header_are_told_apart() {
        let parsed = "API_KEY=X-Api-Key".parse();
        let header = HeaderName::from_static("x-api-key");
        assert_eq!(parsed, Ok(EnvFromHeader { variable: "API_KEY".to_owned(), header }));
        for wrong in ["API_KEY", "=X", "A=", "A=b c"] {
            assert!(wrong.parse::<EnvFromHeader>().is_err(), "{wrong}");
        }
    }
}
