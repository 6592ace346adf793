//! Several names on a command line: what fails with one keeps no other from being done.

use crate::error::{Error, Result};
use crate::output;

/// Does something for each name. All errors are told, the last one as that of the command.
pub async fn each(names: &[String], mut one: impl AsyncFnMut(&str) -> Result) -> Result {
    let mut failed = Vec::new();
    for name in names {
        if let Err(error) = one(name).await {
            failed.push(error);
        }
    }
    told(failed)
}

/// Tells all errors but the last one, which is that of the command.
pub fn told(mut failed: Vec<Error>) -> Result {
    let Some(last) = failed.pop() else { return Ok(()) };
    failed.iter().for_each(output::eprint_error);
    Err(last)
}
