//! A sink that keeps what it accepts in maps, and refuses bodies that begin with `!`.

use std::collections::{BTreeMap, BTreeSet};

use delta::ByType;
use delta::client::{Candidate, Refusal, Sink};

use crate::library::Kind;

#[derive(Debug, Default)]
pub(crate) struct MapSink {
    /// Versions and bodies, by name.
    pub(crate) accepted: ByType<Kind, BTreeMap<String, (String, String)>>,
    pub(crate) refused: BTreeSet<(Kind, String)>,
}

/// What was accepted at a revision: bodies by type and name.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) revision: i64,
    pub(crate) bodies: BTreeMap<(Kind, String), String>,
}

impl Sink for MapSink {
    type Kind = Kind;
    type Compiled = Compiled;

    fn accept(&mut self, candidate: Candidate<Kind>) -> Result<(), Refusal<Kind>> {
        let Candidate { kind, name, version, body } = candidate;
        let body = String::from_utf8(body.into()).unwrap();
        if body.starts_with('!') {
            self.refused.insert((kind, name.clone()));
            return Err(Refusal { kind, name, reason: body });
        }
        self.refused.remove(&(kind, name.clone()));
        self.accepted[kind].insert(name, (version, body));
        Ok(())
    }

    fn remove(&mut self, kind: Kind, name: &str) {
        self.refused.remove(&(kind, name.to_owned()));
        self.accepted[kind].remove(name);
    }

    fn versions(&self, kind: Kind) -> BTreeMap<String, String> {
        self.accepted[kind].iter().map(|(name, (version, _))| (name.clone(), version.clone())).collect()
    }

    fn forget_refused(&mut self) {
        self.refused.clear();
    }

    fn compile(&mut self, revision: i64) -> Compiled {
        let of_kind = |kind: Kind| {
            self.accepted[kind].iter().map(move |(name, (_, body))| ((kind, name.clone()), body.clone()))
        };
        let bodies = [Kind::Author, Kind::Book, Kind::Card, Kind::List].into_iter().flat_map(of_kind);
        Compiled { revision, bodies: bodies.collect() }
    }
}
