//! Looks up the present enrolments of edges: whoever asks while the table is read shares the next read, so that a thousand
//! edges that come at once are a few statements, on one connection.
//!
//! It must not know why somebody asks.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::error::Error;
use crate::store::edges::Edges;

/// The table of edges, for those who ask for one edge each.
#[derive(Debug)]
pub(super) struct EnrollmentLookup {
    edges: Edges,
    waiting: Mutex<Vec<Asker>>,
    /// Held by the one who reads, for all who wait.
    reading: tokio::sync::Mutex<()>,
}

/// The id of the enrolment; `None`: the edge is not enrolled.
type Answer = Result<Option<String>, Error>;

#[derive(Debug)]
struct Asker {
    edge: String,
    answer: oneshot::Sender<Answer>,
}

impl EnrollmentLookup {
    /// Reads this table.
    pub(super) fn new(edges: Edges) -> Self {
        Self { edges, waiting: Mutex::default(), reading: tokio::sync::Mutex::default() }
    }

    /// Returns the id of the present enrolment of an edge, as the table says after this was called. `None`: it has none.
    pub(super) async fn present(&self, edge: &str) -> Answer {
        loop {
            let (answer, mut answered) = oneshot::channel();
            self.waiting().push(Asker { edge: edge.to_owned(), answer });
            let reading = tokio::select! {
                biased;
                answer = &mut answered => match answer {
                    Ok(answer) => return answer,
                    // Whoever read for all was cancelled.
                    Err(_) => continue,
                },
                reading = self.reading.lock() => reading,
            };
            if let Ok(answer) = answered.try_recv() {
                return answer;
            }
            self.read().await;
            drop(reading);
            if let Ok(answer) = answered.try_recv() {
                return answer;
            }
        }
    }

    /// Reads for all who wait.
    async fn read(&self) {
        let mut askers = std::mem::take(&mut *self.waiting());
        askers.retain(|asker| !asker.answer.is_closed());
        let mut ids: Vec<&str> = askers.iter().map(|asker| asker.edge.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        let found = self.edges.enrollments_of(&ids).await.map_err(Error::from);
        for Asker { edge, answer } in askers {
            let answered = match &found {
                Ok(found) => Ok(found.get(&edge).cloned()),
                Err(error) => Err(Error::new(error.code(), error.reason(), error.to_string())),
            };
            // Who was cancelled meanwhile does not read it.
            let _ = answer.send(answered);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Asker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::Store;

    #[tokio::test]
    async fn those_who_ask_meanwhile_share_a_read() {
        const ASKERS: usize = 250;
        let edges = Edges::new(&Store::open("sqlite::memory:").await.unwrap());
        let lookup = Arc::new(EnrollmentLookup::new(edges.clone()));
        let reading = lookup.reading.lock().await;
        let ask = |at| {
            let lookup = lookup.clone();
            tokio::spawn(async move { lookup.present(&format!("e{at}")).await.unwrap() })
        };
        let mut askers: Vec<_> = (0..ASKERS).map(ask).collect();
        // The one that would be next to read, and with it all others, goes on without the one that is cancelled.
        while lookup.waiting().len() < ASKERS {
            tokio::task::yield_now().await;
        }
        askers.remove(0).abort();
        drop(reading);
        for asker in askers {
            assert_eq!(asker.await.unwrap(), None);
        }
        assert_eq!(edges.statements().lookups(), 1);
    }

    #[tokio::test]
    async fn a_failure_is_told_to_all() {
        let store = Store::open("sqlite::memory:").await.unwrap();
        let lookup = EnrollmentLookup::new(Edges::new(&store));
        store.close().await;
        let reading = lookup.reading.lock().await;
        let release = async {
            while lookup.waiting().len() < 2 {
                tokio::task::yield_now().await;
            }
            drop(reading);
        };
        let (one, other, ()) = tokio::join!(lookup.present("a"), lookup.present("b"), release);
        for error in [one.unwrap_err(), other.unwrap_err()] {
            assert_eq!(error.reason(), "STORE_UNAVAILABLE");
        }
        assert_eq!(lookup.edges.statements().lookups(), 1);
    }
}
