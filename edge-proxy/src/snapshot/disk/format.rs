//! The file: a header, a checksum and everything else encrypted.
//!
//! ```text
//! "TRUNKSNP"  version u32  SHA-256 of what follows  nonce (12)  AES-256-GCM of the image
//! image: revision i64  last_contact u64  count u32  { kind u8  name  version  body }*     strings: length u32, bytes
//! ```
//! Numbers are little-endian. The checksum tells damage from another key.

use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};
use aws_lc_rs::digest::{SHA256, digest};
use bytes::{Buf, Bytes};

use super::key::DiskKey;
use trunkline::TypeTable as _;
use trunkline::edge::v1::StreamType;

const MAGIC: &[u8; 8] = b"TRUNKSNP";
const VERSION: u32 = 2;
const CHECKSUM_LEN: usize = 32;
const HEADER_LEN: usize = MAGIC.len() + 4;

/// The content of the copy.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    /// The registry revision of the copy.
    pub revision: i64,
    /// The time of the last contact with a control plane, in seconds since the Unix epoch.
    pub last_contact: u64,
    /// Every accepted resource.
    pub records: Vec<Record>,
}

/// A resource as it was accepted.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// Its type.
    pub kind: StreamType,
    /// Its name.
    pub name: Box<str>,
    /// A hash of its content.
    pub version: Box<str>,
    /// Its message, encoded. It may be a secret.
    pub body: Bytes,
}

/// The reason that a copy cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FileError {
    /// It does not begin as a copy does.
    #[error("it is not a copy of a snapshot")]
    Magic,
    /// It is of a later or unknown version of the format.
    #[error("it has version {0} of the format; only {VERSION} is supported")]
    Version(u32),
    /// It ends too early.
    #[error("it ends too early")]
    Truncated,
    /// Its checksum is not that of its content.
    #[error("it is damaged: the checksum does not match")]
    Checksum,
    /// It does not decrypt.
    #[error("it was encrypted with another key")]
    Key,
    /// The image within breaks the format.
    #[error("{0}")]
    Content(&'static str),
    /// It could not be encrypted.
    #[error("it could not be encrypted")]
    Seal,
}

pub(super) fn seal(key: &DiskKey, image: &Image) -> Result<Vec<u8>, FileError> {
    let mut plain = encode(image);
    let nonce_bytes: [u8; NONCE_LEN] = rand::random();
    let nonce = Nonce::assume_unique_for_key(nonce_bytes);
    let header = header();
    key.aead()
        .seal_in_place_append_tag(nonce, Aad::from(&header), &mut plain)
        .map_err(|_| FileError::Seal)?;
    let mut content = nonce_bytes.to_vec();
    content.append(&mut plain);
    let mut file = header;
    file.extend_from_slice(digest(&SHA256, &content).as_ref());
    file.append(&mut content);
    Ok(file)
}

pub(super) fn open(key: &DiskKey, file: &[u8]) -> Result<Image, FileError> {
    let (magic, rest) = file.split_at_checked(MAGIC.len()).ok_or(FileError::Truncated)?;
    if magic != MAGIC {
        return Err(FileError::Magic);
    }
    let (mut version, rest) = rest.split_at_checked(4).ok_or(FileError::Truncated)?;
    match version.get_u32_le() {
        VERSION => {}
        other => return Err(FileError::Version(other)),
    }
    let (checksum, content) = rest.split_at_checked(CHECKSUM_LEN).ok_or(FileError::Truncated)?;
    if digest(&SHA256, content).as_ref() != checksum {
        return Err(FileError::Checksum);
    }
    let (nonce, sealed) = content.split_at_checked(NONCE_LEN).ok_or(FileError::Truncated)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| FileError::Truncated)?;
    let mut sealed = sealed.to_vec();
    let plain =
        key.aead().open_in_place(nonce, Aad::from(header()), &mut sealed).map_err(|_| FileError::Key)?;
    let length = plain.len();
    sealed.truncate(length);
    parse(Bytes::from(sealed))
}

fn header() -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER_LEN);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&VERSION.to_le_bytes());
    header
}

fn encode(image: &Image) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&image.revision.to_le_bytes());
    out.extend_from_slice(&image.last_contact.to_le_bytes());
    out.extend_from_slice(&length(image.records.len()));
    for record in &image.records {
        out.push(number(record.kind));
        for part in [record.name.as_bytes(), record.version.as_bytes(), &record.body] {
            out.extend_from_slice(&length(part.len()));
            out.extend_from_slice(part);
        }
    }
    out
}

/// Messages are at most a few MiB, and memory bounds their number long before 2^32.
fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes()
}

/// Parses an image. Never allocates more than the input is long.
pub fn parse(mut input: Bytes) -> Result<Image, FileError> {
    let revision = input.try_get_i64_le().map_err(|_| FileError::Truncated)?;
    let last_contact = input.try_get_u64_le().map_err(|_| FileError::Truncated)?;
    let count = input.try_get_u32_le().map_err(|_| FileError::Truncated)?;
    let mut records = Vec::new();
    for _ in 0..count {
        records.push(record(&mut input)?);
    }
    if input.has_remaining() {
        return Err(FileError::Content("it has data after its end"));
    }
    Ok(Image { revision, last_contact, records })
}

fn record(input: &mut Bytes) -> Result<Record, FileError> {
    let number = input.try_get_u8().map_err(|_| FileError::Truncated)?;
    let kind = kind(number).ok_or(FileError::Content("it holds an unknown type"))?;
    Ok(Record { kind, name: text(input)?, version: text(input)?, body: part(input)? })
}

/// The number of a type in the file. It stays as it is when types are added or change their order.
fn number(kind: StreamType) -> u8 {
    match kind {
        StreamType::Secret => 0,
        StreamType::TrustBundle => 1,
        StreamType::Upstream => 2,
        StreamType::Tool => 3,
        StreamType::Resource => 4,
        StreamType::Prompt => 5,
        StreamType::Token => 6,
        StreamType::Server => 7,
        StreamType::Sibling => 8,
        StreamType::Grant => 9,
        StreamType::Withdrawal => 10,
    }
}

pub(super) fn kind(of_number: u8) -> Option<StreamType> {
    StreamType::ALL.iter().copied().find(|kind| number(*kind) == of_number)
}

fn text(input: &mut Bytes) -> Result<Box<str>, FileError> {
    let bytes = part(input)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| FileError::Content("a name is not UTF-8"))?;
    Ok(text.into())
}

fn part(input: &mut Bytes) -> Result<Bytes, FileError> {
    let length = input.try_get_u32_le().map_err(|_| FileError::Truncated)? as usize;
    if length > input.len() {
        return Err(FileError::Truncated);
    }
    Ok(input.split_to(length))
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let records = self.records.len();
        f.debug_struct("Image")
            .field("revision", &self.revision)
            .field("records", &records)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record")
            .field("name", &self.name)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}
