//! No text that no edge sealed opens as a handle of any kind, and none makes the edge fail.

use std::sync::{Arc, LazyLock};

use trunkline::edge::v1::{SealingKey, TrustBundle};
use trunkline_edge_proxy::session::cursor::Cursor;
use trunkline_edge_proxy::session::ticket::Ticket;
use trunkline_edge_proxy::session::{Conversation, HandleOwner, HeldState, post_address};
use trunkline_edge_proxy::snapshot::Snapshot;
use trunkline_edge_proxy::snapshot::build::{Resources, compile};
use trunkline_edge_proxy::upstream::Task;

static SNAPSHOT: LazyLock<Arc<Snapshot>> = LazyLock::new(|| {
    let trust = TrustBundle {
        name: "default".into(),
        issuer: "trunkline".into(),
        audience: "trunkline".into(),
        sealing_keys: vec![SealingKey { key_id: 1, key: vec![7; 32] }],
        max_age: Some(prost_types::Duration { seconds: 3_600, nanos: 0 }),
        ..Default::default()
    };
    let (snapshot, refusals) = compile(&Resources { trust_bundles: vec![trust], ..Default::default() });
    assert!(refusals.is_empty(), "{refusals:?}");
    snapshot
});

pub(crate) fn check(text: &str) {
    let (trust, owner) = (&SNAPSHOT.trust, HandleOwner { server: "s", principal: "t" });
    assert!(post_address::open(trust, owner, text).is_none());
    assert!(Ticket::open(trust, "dev", "s", text, 0).is_none());
    assert!(Conversation::open(trust, "s", "t", text, 0).is_none());
    assert!(Cursor::open(trust, owner, "tools", text).is_none());
    assert!(HeldState::open(trust, owner, "x", text, 0).is_none());
    assert!(Task::open(trust, owner, text).is_none());
}
