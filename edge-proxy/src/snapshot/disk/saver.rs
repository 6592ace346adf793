//! Writes copies as snapshots are published, off the path of calls.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, interval, timeout};

use super::{Disk, Image};
use crate::observe::Metrics;
use crate::os::clock;
use crate::snapshot::Current;

/// The first change is copied at once; those within this time make one more copy.
const WRITE_INTERVAL: Duration = Duration::from_millis(200);
const NOTE_CONTACT_EVERY: Duration = Duration::from_secs(30);

/// Keeps the copy on disk current.
#[derive(Debug)]
pub struct Saver {
    disk: Arc<Disk>,
    images: watch::Receiver<Option<Arc<Image>>>,
    current: Arc<Current>,
    metrics: Arc<Metrics>,
    pub(super) write_interval: Duration,
    pub(super) note_contact_every: Duration,
}

impl Saver {
    /// Writes each image of `images` to `disk`.
    pub fn new(
        disk: Arc<Disk>,
        images: watch::Receiver<Option<Arc<Image>>>,
        current: Arc<Current>,
        metrics: Arc<Metrics>,
    ) -> Saver {
        Saver {
            disk,
            images,
            current,
            metrics,
            write_interval: WRITE_INTERVAL,
            note_contact_every: NOTE_CONTACT_EVERY,
        }
    }

    /// Runs until there are no more images; writes the last one before it ends.
    pub async fn run(mut self) {
        let mut note = interval(self.note_contact_every);
        loop {
            tokio::select! {
                changed = self.images.changed() => match changed {
                    Ok(()) => {
                        self.save().await;
                        self.pause().await;
                    }
                    // The last image was seen before this: there is nothing left to write.
                    Err(_) => return self.note_contact().await,
                },
                _ = note.tick() => {
                    // The disk may have room again.
                    if self.metrics.disk_behind.get() == 1 {
                        self.save().await;
                    }
                    self.note_contact().await;
                }
            }
        }
    }

    /// Pauses between copies. The end cuts the pause short.
    async fn pause(&self) {
        let mut images = self.images.clone();
        let ended = async { while images.changed().await.is_ok() {} };
        let _ = timeout(self.write_interval, ended).await;
    }

    async fn save(&mut self) {
        let Some(image) = self.images.borrow_and_update().clone() else { return };
        let (disk, revision, began) = (Arc::clone(&self.disk), image.revision, Instant::now());
        let saved = tokio::task::spawn_blocking(move || disk.save(&image)).await;
        match saved {
            Ok(Ok(())) => {
                self.saved(revision);
                tracing::debug!(took = ?began.elapsed(), "the copy of the snapshot was written");
            }
            Ok(Err(error)) => tracing::error!(%error, "cannot write the copy of the snapshot"),
            Err(error) => tracing::error!(%error, "writing the copy of the snapshot was interrupted"),
        }
    }

    fn saved(&self, revision: i64) {
        self.metrics.disk_saved_at.set(i64::try_from(clock::now()).unwrap_or(i64::MAX));
        self.metrics.disk_revision.set(revision);
        // While the newest image is borrowed, no newer one can come.
        let newest = self.images.borrow();
        if !newest.has_changed() {
            self.metrics.disk_behind.set(0);
        }
    }

    async fn note_contact(&self) {
        let (disk, last_contact) = (Arc::clone(&self.disk), self.current.last_contact());
        if last_contact == 0 {
            return;
        }
        let noted = tokio::task::spawn_blocking(move || disk.note_contact(last_contact)).await;
        if !matches!(noted, Ok(Ok(()))) {
            tracing::error!("cannot record the last contact with a control plane");
        }
    }
}
