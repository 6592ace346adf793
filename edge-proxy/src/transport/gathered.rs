//! The chunks of one body, put together within a bound. It must not know where they come from.

use bytes::{Bytes, BytesMut};

/// More came than may be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge;

/// What has come of a body. One chunk is handed on as it is; only more than one are copied together.
#[derive(Debug)]
pub struct Gathered {
    limit: usize,
    first: Bytes,
    joined: BytesMut,
}

impl Gathered {
    /// Nothing yet, and never more than `limit` bytes.
    pub fn within(limit: usize) -> Self {
        Self { limit, first: Bytes::new(), joined: BytesMut::new() }
    }

    /// Takes the next chunk.
    ///
    /// # Errors
    /// When it would be more than the bound; nothing of it is kept.
    pub fn push(&mut self, data: Bytes) -> Result<(), TooLarge> {
        if self.first.len() + self.joined.len() + data.len() > self.limit {
            return Err(TooLarge);
        }
        if self.first.is_empty() && self.joined.is_empty() {
            self.first = data;
            return Ok(());
        }
        self.joined.extend_from_slice(&std::mem::take(&mut self.first));
        self.joined.extend_from_slice(&data);
        Ok(())
    }

    /// The body.
    pub fn finish(self) -> Bytes {
        if self.joined.is_empty() { self.first } else { self.joined.freeze() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gather(limit: usize, chunks: &[&'static str]) -> Result<Bytes, TooLarge> {
        let mut gathered = Gathered::within(limit);
        chunks.iter().try_for_each(|chunk| gathered.push(Bytes::from_static(chunk.as_bytes())))?;
        Ok(gathered.finish())
    }

    #[test]
    fn chunks_are_put_together_up_to_the_bound() {
        assert_eq!(gather(3, &[]), Ok(Bytes::new()));
        assert_eq!(gather(3, &["abc"]), Ok(Bytes::from_static(b"abc")));
        assert_eq!(gather(3, &["", "a", "", "bc"]), Ok(Bytes::from_static(b"abc")));
        assert_eq!(gather(3, &["ab", "cd"]), Err(TooLarge));
        assert_eq!(gather(0, &["a"]), Err(TooLarge));
    }

    #[test]
    fn one_chunk_is_not_copied() {
        let chunk = Bytes::from(vec![1, 2, 3]);
        let mut gathered = Gathered::within(3);
        gathered.push(chunk.clone()).unwrap();
        assert_eq!(gathered.finish().as_ptr(), chunk.as_ptr());
    }
}
