//! What a modern client brings back with its answers: where its call waits for them, sealed, so that any edge goes on.
//!
//! It must not know how a call is parked or gone on with.

use mcp::method::Method;

use super::questions::Question;
use crate::clock::now;
use crate::held::Place;
use crate::session::Owner;
use crate::session::seal::{self, Binding, Purpose, SealError};
use crate::snapshot::Trust;

/// A call that waits for its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::upstream) struct Parked {
    /// When it is given up, in seconds since the Unix epoch.
    pub expires: u64,
    /// The id of the upstream.
    pub upstream: Box<str>,
    /// The session there; empty where it has none.
    pub session: Box<[u8]>,
    /// The revision of that session.
    pub version: Box<[u8]>,
    /// The id and progress token of the call in that session; of a task, its progress token.
    pub number: u64,
    /// The raw id of the task that is waited for; empty where there is none.
    pub task: Box<str>,
    /// How the call goes on.
    pub way: Way,
    /// Who looks after it.
    pub place: Option<Place>,
    /// What was asked, and is not answered yet.
    pub open: Vec<Asked>,
    /// How many questions there were so far.
    pub asked: u32,
    /// The raw ids of questions that were answered: they may be asked once more when a stream is replayed.
    pub answered: Vec<Box<str>>,
}

/// How a call goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::upstream) enum Way {
    /// Its stream is resumed after this event, by whoever has the answers.
    Event(Box<[u8]>),
    /// Its task goes on by itself, and its result is asked for again.
    Task,
    /// Its stream is held open.
    Held,
    /// It is made again: it has not begun yet.
    Again,
}

/// A question that the client has been asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::upstream) struct Asked {
    /// Its number among the questions of the call.
    pub number: u32,
    /// The question.
    pub question: Question,
}

impl Asked {
    /// The key that the client answers under.
    pub(in crate::upstream) fn key(&self) -> String {
        format!("question-{}", self.number)
    }
}

/// What a parked call belongs to; it opens for nothing else.
#[derive(Debug, Clone, Copy)]
pub(in crate::upstream) struct Belongs<'a> {
    /// Whose call it is.
    pub owner: Owner<'a>,
    /// Its method.
    pub method: Method,
    /// What the client called.
    pub exposed: &'a str,
    /// The digest of its arguments.
    pub digest: &'a str,
}

impl Belongs<'_> {
    fn seal(self, trust: &Trust, content: &[u8]) -> Result<String, SealError> {
        let about = [self.method.as_str(), self.exposed, self.digest];
        seal::seal(trust, self.binding(&about), content)
    }

    fn open(self, trust: &Trust, text: &str) -> Option<Vec<u8>> {
        let about = [self.method.as_str(), self.exposed, self.digest];
        seal::open(trust, self.binding(&about), text)
    }

    fn binding<'b>(&'b self, about: &'b [&'b str]) -> Binding<'b> {
        let Owner { server, token } = self.owner;
        Binding { purpose: Purpose::Parked, server, token, about }
    }
}

/// What stands for the arguments of a call.
pub(super) fn digest(arguments: Option<&str>) -> String {
    use base64::Engine as _;
    let text = arguments.unwrap_or_default();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest)
}

impl Parked {
    /// The `requestState` that the client is given.
    pub(super) fn seal(&self, trust: &Trust, belongs: Belongs<'_>) -> Result<String, SealError> {
        belongs.seal(trust, &self.encode())
    }

    /// What a `requestState` of ours says, unless it is another's, about another call, or too old.
    pub(super) fn open(trust: &Trust, belongs: Belongs<'_>, text: &str) -> Option<Self> {
        let parked = Self::decode(&belongs.open(trust, text)?)?;
        (now() < parked.expires).then_some(parked)
    }

    fn encode(&self) -> Vec<u8> {
        let numbers = [self.expires, self.number, u64::from(self.asked), self.open.len() as u64];
        let numbers: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
        let (way, event): (&[u8], &[u8]) = match &self.way {
            Way::Event(event) => (b"event", event),
            Way::Task => (b"task", b""),
            Way::Held => (b"held", b""),
            Way::Again => (b"again", b""),
        };
        let place = self.place.as_ref();
        let holder = place.map_or(0, |place| place.number).to_be_bytes();
        let edge = place.map_or(b"".as_slice(), |place| place.edge.as_bytes());
        let (upstream, task) = (self.upstream.as_bytes(), self.task.as_bytes());
        let mut parts: Vec<&[u8]> =
            vec![&numbers, upstream, &self.session, &self.version, task, way, event, edge, &holder];
        let keys: Vec<[u8; 4]> = self.open.iter().map(|asked| asked.number.to_be_bytes()).collect();
        for (key, Asked { question, .. }) in keys.iter().zip(&self.open) {
            parts.push(key);
            parts.push(question.id.as_bytes());
            parts.push(question.method.as_str().as_bytes());
            parts.push(question.params.as_bytes());
        }
        parts.extend(self.answered.iter().map(|id| id.as_bytes()));
        seal::join_all(&parts)
    }

    fn decode(content: &[u8]) -> Option<Self> {
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(Box::<str>::from);
        let parts = seal::split_all(content)?;
        let (fixed, rest) = parts.split_first_chunk::<9>()?;
        let [numbers, upstream, session, version, task, way, event, edge, holder] = *fixed;
        let (numbers, excess) = numbers.as_chunks::<8>();
        let [expires, number, asked, open] = *numbers else { return None };
        let count = usize::try_from(u64::from_be_bytes(open)).ok()?;
        let (open, answered) = rest.split_at_checked(count.checked_mul(4)?)?;
        let (open, _) = open.as_chunks::<4>();
        let edge = text(edge)?;
        let holder = u64::from_be_bytes(holder.try_into().ok()?);
        Some(Self {
            expires: u64::from_be_bytes(expires),
            upstream: text(upstream)?,
            session: session.into(),
            version: version.into(),
            number: u64::from_be_bytes(number),
            task: text(task)?,
            way: match way {
                b"event" => Way::Event(event.into()),
                b"task" => Way::Task,
                b"held" => Way::Held,
                b"again" => Way::Again,
                _ => return None,
            },
            place: (!edge.is_empty()).then_some(Place { edge, number: holder }),
            open: open.iter().map(|parts| Asked::decode(*parts)).collect::<Option<_>>()?,
            asked: u32::try_from(u64::from_be_bytes(asked)).ok().filter(|_| excess.is_empty())?,
            answered: answered.iter().map(|id| text(id)).collect::<Option<_>>()?,
        })
    }
}

impl Asked {
    fn decode([number, id, method, params]: [&[u8]; 4]) -> Option<Self> {
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(Box::<str>::from);
        let method = Method::parse(&text(method)?)?;
        let question = Question { id: text(id)?, method, params: text(params)? };
        Some(Self { number: u32::from_be_bytes(number.try_into().ok()?), question })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::session::seal::tests::trust;

    fn question() -> impl Strategy<Value = Question> {
        let methods = [Method::ElicitationCreate, Method::SamplingCreateMessage, Method::RootsList];
        (any::<String>(), proptest::sample::select(methods.to_vec()), any::<String>())
            .prop_map(|(id, method, params)| Question { id: id.into(), method, params: params.into() })
    }

    fn bytes() -> impl Strategy<Value = Box<[u8]>> {
        any::<Vec<u8>>().prop_map(Vec::into_boxed_slice)
    }

    prop_compose! {
        fn parked()(
            (expires, number, asked, upstream, task) in any::<(u64, u64, u32, String, String)>(),
            session in bytes(),
            version in bytes(),
            way in prop_oneof![bytes().prop_map(Way::Event), Just(Way::Task), Just(Way::Held), Just(Way::Again)],
            place in proptest::option::of(("[a-z]{1,8}", any::<u64>())),
            open in prop::collection::vec((any::<u32>(), question()), 0..4),
            answered in prop::collection::vec(any::<String>(), 0..4),
        ) -> Parked {
            Parked {
                expires: expires | 1 << 63,
                upstream: upstream.into(),
                session,
                version,
                number,
                task: task.into(),
                way,
                place: place.map(|(edge, number)| Place { edge: edge.into(), number }),
                open: open.into_iter().map(|(number, question)| Asked { number, question }).collect(),
                asked,
                answered: answered.into_iter().map(Into::into).collect(),
            }
        }
    }

    const MINE: Belongs<'static> = Belongs {
        owner: Owner { server: "s", token: "t" },
        method: Method::ToolsCall,
        exposed: "u_echo",
        digest: "d",
    };

    proptest! {
        #[test]
        fn what_is_parked_is_found_again_by_its_own_call_alone(parked in parked()) {
            let trust = trust(&[1]);
            let text = parked.seal(&trust, MINE).unwrap();
            prop_assert_eq!(Parked::open(&trust, MINE, &text), Some(parked.clone()));
            for other in [
                Belongs { owner: Owner { server: "s", token: "u" }, ..MINE },
                Belongs { method: Method::PromptsGet, ..MINE },
                Belongs { exposed: "u_other", ..MINE },
                Belongs { digest: "e", ..MINE },
            ] {
                prop_assert_eq!(Parked::open(&trust, other, &text), None);
            }
            let late = Parked { expires: 1, ..parked };
            prop_assert_eq!(Parked::open(&trust, MINE, &late.seal(&trust, MINE).unwrap()), None);
        }

        #[test]
        fn junk_is_never_a_parked_call_that_panics(content: Vec<u8>, parked in parked(), cut: prop::sample::Index) {
            let _: Option<Parked> = Parked::decode(&content);
            let whole = parked.encode();
            let _: Option<Parked> = Parked::decode(&whole[..cut.index(whole.len())]);
        }
    }
}
