use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use tokio::sync::watch;

use super::super::build::Resources;
use super::super::{Budget, Current};
use super::*;
use crate::config::Secret;
use crate::observe::Metrics;
use trunkline::edge::v1 as wire;

/// The time limit of anything: machines are slow at times.
const PATIENCE: Duration = Duration::from_secs(60);

fn key() -> DiskKey {
    let text = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    DiskKey::get(Some(&Secret::new(text)), Path::new("/nowhere")).unwrap()
}

fn image() -> Image {
    let resources = Resources {
        secrets: vec![wire::Secret {
            name: "upstreams/time".into(),
            headers: vec![wire::SecretParameter { name: "authorization".into(), value: "s3cr3t".into() }],
            query_parameters: Vec::new(),
        }],
        tokens: vec![wire::Token { name: "tokens/t".into(), uid: "u".into(), ..Default::default() }],
        ..Default::default()
    };
    let record = |candidate: Candidate| Record {
        kind: candidate.kind,
        name: candidate.name.into(),
        version: candidate.version.into(),
        body: candidate.body,
    };
    Image {
        revision: 9,
        last_contact: 1_000,
        records: resources.candidates().into_iter().map(record).collect(),
    }
}

fn load(disk: &Disk) -> Option<LoadedCopy> {
    disk.load(PageLimits::default(), Budget::default())
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_copy_is_found_again_and_shows_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path(), key());
    assert!(load(&disk).is_none(), "there is none at first");
    disk.save(&image()).unwrap();
    let bytes = std::fs::read(folder.path().join("snapshot")).unwrap();
    assert!(!bytes.windows(6).any(|window| window == b"s3cr3t" || window == b"tokens"));

    let found = load(&disk).unwrap();
    assert_eq!((found.revision, found.last_contact), (9, 1_000));
    assert_eq!(found.builder.accepted(StreamType::Secret).count(), 1);
    assert_eq!(found.builder.accepted(StreamType::Token).next().unwrap().0, "tokens/t");
    assert_eq!(names(folder.path()), ["snapshot"]);
}

#[test]
fn a_copy_that_cannot_be_used_is_moved_aside_and_the_start_goes_on() {
    let good = format::seal(&key(), &image()).unwrap();
    let edit = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] ^= value;
        bytes
    };
    let last = good.len() - 1;
    for (what, bytes, expected) in [
        ("empty", Vec::new(), FileError::Truncated),
        ("another file", b"hello, this is another file".to_vec(), FileError::Magic),
        ("an earlier version", edit(8, 0x03), FileError::Version(1)),
        ("a later version", edit(8, 0x7d), FileError::Version(0x7f)),
        ("cut in the header", good[..10].to_vec(), FileError::Truncated),
        ("cut in the checksum", good[..20].to_vec(), FileError::Truncated),
        ("cut in the nonce", good[..50].to_vec(), FileError::Checksum),
        ("cut at the end", good[..last].to_vec(), FileError::Checksum),
        ("longer", [good.clone(), vec![0]].concat(), FileError::Checksum),
        ("a bit in the checksum", edit(12, 1), FileError::Checksum),
        ("a bit in the content", edit(last, 1), FileError::Checksum),
    ] {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(format::open(&key(), &bytes), Err(expected), "{what}");
        std::fs::write(folder.path().join("snapshot"), &bytes).unwrap();
        let disk = Disk::new(folder.path(), key());
        assert!(load(&disk).is_none(), "{what}");
        let names = names(folder.path());
        assert!(names.len() == 1 && names[0].starts_with("snapshot.bad-"), "{what}: {names:?}");
        disk.save(&image()).unwrap();
        assert!(load(&disk).is_some(), "{what}: the next copy is good");
    }
    let other = DiskKey::get(None, tempfile::tempdir().unwrap().path()).unwrap();
    assert_eq!(format::open(&other, &good), Err(FileError::Key));
}

#[test]
fn records_that_cannot_be_used_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path(), key());
    let mut image = image();
    image.records[0].body = Bytes::from_static(b"\xff");
    disk.save(&image).unwrap();
    let found = load(&disk).unwrap();
    assert_eq!(found.builder.accepted(StreamType::Secret).count(), 0);
    assert_eq!(found.builder.accepted(StreamType::Token).count(), 1);
}

#[test]
fn when_a_control_plane_was_heard_outlives_the_copy() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path(), key());
    disk.save(&image()).unwrap();
    disk.note_contact(1_030).unwrap();
    assert_eq!(load(&disk).unwrap().last_contact, 1_030);
    std::fs::write(folder.path().join("snapshot.heard"), "soon").unwrap();
    assert_eq!(load(&disk).unwrap().last_contact, 1_000, "an unreadable note can only close earlier");
}

#[test]
fn keys_are_made_once_or_given() {
    let folder = tempfile::tempdir().unwrap();
    let made = DiskKey::get(None, folder.path()).unwrap();
    let sealed = format::seal(&made, &image()).unwrap();
    let again = DiskKey::get(None, folder.path()).unwrap();
    assert_eq!(format::open(&again, &sealed), Ok(image()));
    assert_eq!(names(folder.path()), ["snapshot.key"]);
    let path = folder.path().join("snapshot.key");
    std::fs::write(&path, "damaged").unwrap();
    let anew = DiskKey::get(None, folder.path()).unwrap();
    assert_eq!(format::open(&anew, &sealed), Err(FileError::Key));
    assert_eq!(names(folder.path()).len(), 2, "the damaged one is kept beside");
    for bad in ["", "AAEC", "not base64 at all, nor 32 bytes long"] {
        assert!(DiskKey::get(Some(&Secret::new(bad)), folder.path()).is_err(), "{bad:?}");
    }
}

#[tokio::test]
async fn the_saver_writes_the_last_image_before_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(Disk::new(folder.path(), key()));
    let (current, metrics) = <(Arc<Current>, Arc<Metrics>)>::default();
    current.note_contact(2_000);
    let (images, receiver) = watch::channel(None);
    let saver = Saver::new(disk.clone(), receiver, current, metrics.clone());
    let running = tokio::spawn(saver.run());
    images.send_replace(Some(Arc::new(Image { revision: 1, ..image() })));
    images.send_replace(Some(Arc::new(image())));
    drop(images);
    running.await.unwrap();
    let found = load(&disk).unwrap();
    assert_eq!((found.revision, found.last_contact), (9, 2_000));
    assert!(metrics.disk_saved_at.get() > 0);
}

/// A saver under way, and the way to put images in force.
struct Saving {
    folder: tempfile::TempDir,
    disk: Arc<Disk>,
    metrics: Arc<Metrics>,
    images: watch::Sender<Option<Arc<Image>>>,
    running: tokio::task::JoinHandle<()>,
}

impl Saving {
    fn start(write_interval: Duration, note_contact_every: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disk = Arc::new(Disk::new(folder.path(), key()));
        let metrics = Arc::<Metrics>::default();
        let (images, receiver) = watch::channel(None);
        let mut saver = Saver::new(disk.clone(), receiver, Arc::default(), metrics.clone());
        (saver.write_interval, saver.note_contact_every) = (write_interval, note_contact_every);
        Self { folder, disk, metrics, images, running: tokio::spawn(saver.run()) }
    }

    fn put_in_force(&self, revision: i64) {
        self.images.send_modify(|newest| {
            *newest = Some(Arc::new(Image { revision, ..image() }));
            self.metrics.disk_behind.set(1);
        });
    }

    fn behind_and_revision(&self) -> (i64, i64) {
        (self.metrics.disk_revision.get(), self.metrics.disk_behind.get())
    }

    async fn says(&self, wanted: (i64, i64)) {
        let behind_and_revision = async {
            while self.behind_and_revision() != wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, behind_and_revision)
            .await
            .unwrap_or_else(|_| panic!("{:?}", self.behind_and_revision()));
    }
}

#[tokio::test]
async fn the_saver_writes_the_first_image_at_once_and_says_while_it_is_behind() {
    let saving = Saving::start(Duration::from_secs(3_600), Duration::from_secs(3_600));
    saving.put_in_force(1);
    saving.says((1, 0)).await;
    assert_eq!(load(&saving.disk).unwrap().revision, 1);

    saving.put_in_force(2);
    saving.put_in_force(3);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(saving.behind_and_revision(), (1, 1), "there is time for it");
    let Saving { folder: _folder, disk, metrics, images, running } = saving;
    drop(images);
    tokio::time::timeout(PATIENCE, running).await.unwrap().unwrap();
    assert_eq!((metrics.disk_revision.get(), metrics.disk_behind.get()), (3, 0));
    assert_eq!(load(&disk).unwrap().revision, 3, "the end waits for no pause");
}

#[tokio::test]
async fn the_saver_tries_again_where_the_disk_refused() {
    let saving = Saving::start(Duration::ZERO, Duration::from_millis(20));
    let in_the_way = saving.folder.path().join("snapshot.new");
    std::fs::create_dir(&in_the_way).unwrap();
    saving.put_in_force(1);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(saving.behind_and_revision(), (0, 1));
    std::fs::remove_dir(&in_the_way).unwrap();
    saving.says((1, 0)).await;
    assert_eq!(load(&saving.disk).unwrap().revision, 1);
}

#[test]
fn types_have_the_numbers_of_older_copies() {
    let names = "Secret TrustBundle Upstream Tool Resource Prompt Token Server Sibling Grant Withdrawal";
    let numbered: Vec<&str> = (0..11).map(|number| format::kind(number).unwrap().name()).collect();
    assert_eq!(numbered.join(" "), names);
    assert_eq!(format::kind(11), None);
}

proptest! {
    #[test]
    fn the_parser_survives_anything(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(Bytes::from(bytes));
    }

    #[test]
    fn what_was_written_is_read(names in proptest::collection::vec(("\\PC{0,8}", 0u8..11, any::<Vec<u8>>()), 0..6)) {
        let record = |(name, kind, body): (String, u8, Vec<u8>)| Record {
            kind: format::kind(kind).unwrap(),
            version: name.as_str().into(),
            name: name.into(),
            body: body.into(),
        };
        let image = Image { revision: -1, last_contact: u64::MAX, records: names.into_iter().map(record).collect() };
        let sealed = format::seal(&key(), &image).unwrap();
        prop_assert_eq!(format::open(&key(), &sealed), Ok(image));
    }
}
