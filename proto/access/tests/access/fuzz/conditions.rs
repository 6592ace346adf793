//! No text makes the reader of a condition fail, what is read is written as what reads as the same, and no refusal is long.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use access::address::AddressRange;
use access::limit::Limit;
use access::method::Methods;
use access::window::Window;

/// Bytes of a refusal, whatever was written.
const MAX_REFUSAL: usize = 1_024;

pub(crate) fn check(text: &str) {
    reads_back(text, AddressRange::from_str);
    reads_back(text, Window::from_str);
    reads_back(text, Limit::rate);
    reads_back(text, Limit::quota);
    if let Err(refusal) = Methods::new(&[text.to_owned()]) {
        assert!(refusal.to_string().len() <= MAX_REFUSAL);
    }
}

fn reads_back<T: Display + PartialEq + Debug, E: Display + Debug>(
    text: &str,
    read: impl Fn(&str) -> Result<T, E>,
) {
    match read(text) {
        Ok(found) => assert_eq!(read(&found.to_string()).expect("what is shown is read"), found),
        Err(refusal) => assert!(refusal.to_string().len() <= MAX_REFUSAL),
    }
}
