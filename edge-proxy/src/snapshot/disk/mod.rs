//! The last known good snapshot on disk: an edge starts from it when no control plane answers.
//!
//! `format` is the file, `key` what it is encrypted with, `Saver` writes it off the road of calls.

mod format;
mod key;
mod saver;

use std::path::{Path, PathBuf};

use super::build::{Builder, Offer};
use super::client::Machine;
use super::{Kind, PageLimits, build};
use crate::{clock, files};

pub use format::{FileError, Image, Record, parse};
pub use key::{DiskKey, KeyError};
pub use saver::Saver;

/// Where the copies lie.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
    key: DiskKey,
}

/// What was found on disk.
#[derive(Debug)]
pub struct Found {
    /// What the copy holds, taken in.
    pub builder: Builder,
    /// The registry revision it was made at.
    pub revision: i64,
    /// When a control plane was last heard.
    pub heard_at: u64,
}

const SNAPSHOT: &str = "snapshot";
const HEARD: &str = "snapshot.heard";

impl Disk {
    /// The copies in `folder`, encrypted with `key`.
    pub fn new(folder: &Path, key: DiskKey) -> Disk {
        Disk { folder: folder.to_owned(), key }
    }

    /// Takes in the copy. One that cannot be used is reported and moved aside: the start goes on without.
    pub fn load(&self, limits: PageLimits, budget: super::Budget) -> Option<Found> {
        let path = self.folder.join(SNAPSHOT);
        let bytes = files::read(&path)
            .inspect_err(|error| tracing::error!(path = %path.display(), %error, "cannot read the copy"));
        let bytes = bytes.ok()??;
        match format::open(&self.key, &bytes) {
            Ok(image) => Some(self.take_in(image, Builder::new(limits, budget))),
            Err(error) => {
                self.move_aside(&path, &error);
                None
            }
        }
    }

    fn take_in(&self, image: Image, mut builder: Builder) -> Found {
        for Record { kind, name, version, body } in image.records {
            let offer = Offer { kind, name: name.into(), version: version.into(), body };
            if let Err(build::Refusal { kind, name, reason }) = builder.put(offer) {
                tracing::warn!(kind = kind.as_str(), name, reason, "the copy contains unusable resources");
            }
        }
        let heard_at = image.heard_at.max(self.heard_at());
        Found { builder, revision: image.revision, heard_at }
    }

    fn move_aside(&self, path: &Path, error: &FileError) {
        let aside = path.with_extension(format!("bad-{}", clock::now()));
        let moved = std::fs::rename(path, &aside);
        tracing::error!(
            path = %path.display(),
            aside = %aside.display(),
            moved = moved.is_ok(),
            %error,
            "the copy of the snapshot cannot be used; it is moved aside"
        );
    }

    /// Writes a copy.
    pub fn save(&self, image: &Image) -> std::io::Result<()> {
        let sealed = format::seal(&self.key, image).map_err(std::io::Error::other)?;
        files::write(&self.folder.join(SNAPSHOT), &sealed)
    }

    /// Notes when a control plane was last heard, between copies.
    pub fn note_heard(&self, unix_s: u64) -> std::io::Result<()> {
        files::write(&self.folder.join(HEARD), unix_s.to_string().as_bytes())
    }

    /// An unreadable note is no note: the copy's own, older one counts, which can only close earlier.
    fn heard_at(&self) -> u64 {
        let note = files::read(&self.folder.join(HEARD)).ok().flatten();
        note.and_then(|text| String::from_utf8(text).ok()?.trim().parse().ok()).unwrap_or(0)
    }
}

impl Image {
    /// What `machine` holds.
    pub fn of(machine: &Machine, heard_at: u64) -> Image {
        let of_kind = |kind: Kind| {
            machine.builder().held(kind).map(move |(name, held)| Record {
                kind,
                name: name.into(),
                version: held.version.clone(),
                body: held.body.clone(),
            })
        };
        let records = Kind::ALL.into_iter().flat_map(of_kind).collect();
        Image { revision: machine.revision(), heard_at, records }
    }
}

#[cfg(test)]
mod tests;
