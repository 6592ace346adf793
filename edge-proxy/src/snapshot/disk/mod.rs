//! The last known good snapshot on disk: an edge starts from it when no control plane answers.
//!
//! `format` is the file, `key` encrypts it, `Saver` writes it off the path of calls.

mod format;
mod key;
mod saver;

use std::path::{Path, PathBuf};

use delta::client::Sink as _;
use trunkline::TypeTable as _;
use trunkline::edge::v1::StreamType;

use super::build::{Builder, Candidate};
use super::client::Subscriber;
use super::{PageLimits, build};
use crate::os::files;

pub use format::{FileError, Image, Record, parse};
pub use key::{DiskKey, KeyError};
pub use saver::Saver;

/// The copies in one folder.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
    key: DiskKey,
}

/// A copy that was loaded.
#[derive(Debug)]
pub struct LoadedCopy {
    /// The accepted resources.
    pub builder: Builder,
    /// The registry revision of the copy.
    pub revision: i64,
    /// The time of the last contact with a control plane.
    pub last_contact: u64,
}

const SNAPSHOT: &str = "snapshot";
const HEARD: &str = "snapshot.heard";

impl Disk {
    /// Creates the copies in `folder`, encrypted with `key`.
    pub fn new(folder: &Path, key: DiskKey) -> Disk {
        Disk { folder: folder.to_owned(), key }
    }

    /// Loads the copy. One that cannot be used is reported and moved aside, and the edge starts without.
    pub fn load(&self, limits: PageLimits, budget: super::Budget) -> Option<LoadedCopy> {
        let path = self.folder.join(SNAPSHOT);
        let bytes = files::read(&path)
            .inspect_err(|error| tracing::error!(path = %path.display(), %error, "cannot read the copy"));
        let bytes = bytes.ok()??;
        match format::open(&self.key, &bytes) {
            Ok(image) => Some(self.take_in(image, Builder::new(limits, budget))),
            Err(error) => {
                files::move_aside(&path, &error.to_string());
                None
            }
        }
    }

    fn take_in(&self, image: Image, mut builder: Builder) -> LoadedCopy {
        for Record { kind, name, version, body } in image.records {
            let candidate = Candidate { kind, name: name.into(), version: version.into(), body };
            if let Err(build::Refusal { kind, name, reason }) = builder.accept(candidate) {
                tracing::warn!(kind = kind.name(), name, reason, "the copy contains unusable resources");
            }
        }
        let last_contact = image.last_contact.max(self.last_contact());
        LoadedCopy { builder, revision: image.revision, last_contact }
    }

    /// Writes a copy.
    pub fn save(&self, image: &Image) -> std::io::Result<()> {
        let sealed = format::seal(&self.key, image).map_err(std::io::Error::other)?;
        files::write(&self.folder.join(SNAPSHOT), &sealed)
    }

    /// Notes the last contact with a control plane, between copies.
    pub fn note_contact(&self, unix_s: u64) -> std::io::Result<()> {
        files::write(&self.folder.join(HEARD), unix_s.to_string().as_bytes())
    }

    /// An unreadable note is ignored: the copy's own time is older, so bearers are refused earlier at worst.
    fn last_contact(&self) -> u64 {
        let note = files::read(&self.folder.join(HEARD)).ok().flatten();
        note.and_then(|text| String::from_utf8(text).ok()?.trim().parse().ok()).unwrap_or(0)
    }
}

impl Image {
    /// Takes an image of what `subscriber` has accepted.
    pub fn of(subscriber: &Subscriber, last_contact: u64) -> Image {
        let of_kind = |kind: StreamType| {
            subscriber.sink().accepted(kind).map(move |(name, accepted)| Record {
                kind,
                name: name.into(),
                version: accepted.version.clone(),
                body: accepted.body.clone(),
            })
        };
        let records = StreamType::ALL.iter().copied().flat_map(of_kind).collect();
        Image { revision: subscriber.revision(), last_contact, records }
    }
}

#[cfg(test)]
mod tests;
