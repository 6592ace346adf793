//! The kinds of resource, and what the generic core asks of each; not what it does with the answers.

use std::fmt;
use std::net::IpAddr;

use super::kinds::each_kind;
use super::{Surroundings, Violations, meta};
use crate::rights::Ownership;
use trunkline::admin::v1::manifest;
use trunkline::common::v1::{Meta, Permission};
use trunkline::identity::v1::{Scope, Team};
use trunkline::registry::v1::{Credential, Server};

/// A name of another resource that a resource holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// The field that holds it.
    pub field: String,
    /// The resource it names.
    pub target: String,
    /// True where the target must exist when the reference is written.
    pub required: bool,
}

/// The accessors of a kind's message, generated from its row in the table of kinds.
///
/// A message has three parts: identity (`name` and the output-only fields of `meta`, kept in columns),
/// the *spec* (what people write: the body) and the *status* (the other output-only fields).
pub trait KindMessage: prost::Message + Default + Clone + PartialEq + Send + Sync + 'static {
    /// Its kind.
    const KIND: Kind;
    /// The full name of the message, for reflection.
    const MESSAGE: &'static str;
    /// Output-only fields, by their names in the contract; `meta` has its own.
    const OUTPUT_ONLY: &'static [&'static str];

    /// `name`.
    fn name(&self) -> &str;
    /// Sets `name`.
    fn set_name(&mut self, name: String);
    /// `meta`.
    fn meta(&self) -> Option<&Meta>;
    /// Access to `meta`.
    fn meta_slot(&mut self) -> &mut Option<Meta>;
    /// Takes the output-only fields off, and returns a message with nothing but them.
    fn take_status(&mut self) -> Self;
    /// Wraps it for a manifest.
    fn into_manifest(self) -> manifest::Resource;
}

/// What a kind looks at of people, and of what they use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeesPeople {
    /// Nothing.
    Nothing,
    /// Whether its owner is disabled, and when it was used.
    OwnersAndUses,
    /// The members of teams.
    Members,
}

/// The rules of a kind: what its messages may say, and what follows from them.
pub trait KindRules: KindMessage {
    /// Fills the defaults in, and what follows from other fields.
    fn set_defaults(&mut self) {}
    /// Checks everything that can be checked without looking at other resources.
    fn validate(&self, violations: &mut Violations);
    /// The other resources it names.
    fn references(&self) -> Vec<Reference> {
        Vec::new()
    }
    /// Whether it says itself whose it is. What is under an upstream is of whoever the upstream is.
    const HAS_OWNER: bool = !Self::KIND.in_catalogue();
    /// Whose it is.
    fn ownership(&self) -> Ownership {
        meta::ownership(self.meta())
    }
    /// What it lets others call, where it does.
    fn scope(&self) -> Option<&Scope> {
        None
    }
    /// The identities of client certificates that it names, each of which is of one resource.
    fn certificates(&self) -> &[String] {
        &[]
    }
    /// The other resources it names, its team included.
    fn all_references(&self) -> Vec<Reference> {
        let team = self.meta().map(|meta| meta.team.clone()).filter(|team| !team.is_empty());
        let team = team.map(|target| Reference { field: "meta.team".to_owned(), target, required: true });
        self.references().into_iter().chain(team).collect()
    }
    /// The field that holds secrets, where there is one.
    fn secret(&mut self) -> Option<&mut Option<Credential>> {
        None
    }
    /// The same to read: a credential, whose secrets may be elsewhere.
    fn credential(&self) -> Option<&Credential> {
        None
    }
    /// Where its secrets are sent: who gets there gets them.
    fn destination(&self) -> Option<String> {
        None
    }
    /// The address that it will be connected to, and the field that has it, where it is written there and not found by a
    /// name.
    fn literal_address(&self) -> Option<(&'static str, IpAddr)> {
        None
    }
    /// The virtual server that it is, where it is one: its exposed names must not collide.
    fn exposes(&self) -> Option<&Server> {
        None
    }
    /// The team that it is, where it is one: its rules hold at its servers.
    fn rules_servers(&self) -> Option<&Team> {
        None
    }
    /// The texts in which bare words of a filter are looked for, beside its name.
    fn search(&self) -> Vec<&str>;
    /// Says in the status what follows from what people changed since `before`.
    fn note_write(&mut self, _before: &Self, _now_us: i64) {}
    /// True where the whole status follows from the catalogue: `evaluate` fills it in on every read, and it is not stored.
    const EVALUATED: bool = false;
    /// The fields that `evaluate` fills in.
    const COMPUTED: &'static [&'static str];
    /// True where `evaluate` looks at the catalogue.
    const SEES_CATALOGUE: bool = true;
    /// True where `evaluate` looks at the states of upstreams.
    const SEES_UPSTREAM_STATES: bool = false;
    /// What of people, and of what they use, `evaluate` looks at.
    const SEES_PEOPLE: SeesPeople = SeesPeople::Nothing;
    /// Fills in what is not stored, because it changes with the time and with other resources: the state.
    fn evaluate(&mut self, around: &Surroundings<'_>);
}

macro_rules! define {
    ($($(#[$doc:meta])* $kind:ident {
        package: $package:ident, collection: $collection:literal, under_upstream: $under_upstream:literal,
        manifest: $variant:ident $field:literal, read: $read:ident, write: $write:ident,
        output_only: [$($output_only:ident),*],
    })*) => {
        /// A kind of resource of the log.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// All of them, what is referred to before what refers.
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];

            /// The word for it in tables, manifests and errors.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => stringify!($kind),)*
                }
            }

            /// The full name of its message, for reflection.
            pub const fn message_name(self) -> &'static str {
                match self {
                    $(Self::$kind => concat!("trunkline.", stringify!($package), ".v1.", stringify!($kind)),)*
                }
            }

            /// The word for many of it, as in names.
            pub const fn collection(self) -> &'static str {
                match self {
                    $(Self::$kind => $collection,)*
                }
            }

            /// Tells whether it lives under an upstream, whose catalogue it is part of.
            pub const fn in_catalogue(self) -> bool {
                match self {
                    $(Self::$kind => $under_upstream,)*
                }
            }

            /// The field of a manifest that holds it.
            pub const fn manifest_field(self) -> &'static str {
                match self {
                    $(Self::$kind => $field,)*
                }
            }

            /// The permission that it takes to see it.
            pub const fn read(self) -> Permission {
                match self {
                    $(Self::$kind => Permission::$read,)*
                }
            }

            /// The permission that it takes to create, change and delete it.
            pub const fn write(self) -> Permission {
                match self {
                    $(Self::$kind => Permission::$write,)*
                }
            }

            /// The kind and name of what a manifest holds.
            pub fn of_manifest(resource: &manifest::Resource) -> (Self, &str) {
                match resource {
                    $(manifest::Resource::$variant(message) => (Self::$kind, &message.name),)*
                }
            }
        }

        $(impl KindMessage for trunkline::$package::v1::$kind {
            const KIND: Kind = Kind::$kind;
            const MESSAGE: &'static str = concat!("trunkline.", stringify!($package), ".v1.", stringify!($kind));
            const OUTPUT_ONLY: &'static [&'static str] = &[$(stringify!($output_only)),*];

            fn name(&self) -> &str {
                &self.name
            }
            fn set_name(&mut self, name: String) {
                self.name = name;
            }
            fn meta(&self) -> Option<&Meta> {
                self.meta.as_ref()
            }
            fn meta_slot(&mut self) -> &mut Option<Meta> {
                &mut self.meta
            }
            fn take_status(&mut self) -> Self {
                Self { $($output_only: std::mem::take(&mut self.$output_only),)* ..Self::default() }
            }
            fn into_manifest(self) -> manifest::Resource {
                manifest::Resource::$variant(self)
            }
        })*
    };
}
each_kind!(define);

impl Kind {
    /// Reads what `as_str` gives.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == word)
    }

    /// The kinds that make up the catalogue of an upstream.
    pub fn catalogue() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|kind| kind.in_catalogue())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
