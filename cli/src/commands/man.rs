//! `mcpctl man`: the pages of the manual, made from the commands themselves.

use std::path::PathBuf;

use clap_mangen::Man;

use crate::args;
use crate::error::{Error, Result};
use crate::output;

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write a page for every command into this folder, which is created
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
}

/// Runs `man`.
pub fn run(args: Args) -> Result {
    let Some(folder) = args.write else {
        let mut page = Vec::new();
        Man::new(args::command()).render(&mut page)?;
        return output::print(&String::from_utf8_lossy(&page));
    };
    let failure = |error| Error::failure(format!("cannot write into {}: {error}", folder.display()));
    std::fs::create_dir_all(&folder).map_err(failure)?;
    clap_mangen::generate_to(args::command(), &folder).map_err(failure)?;
    output::eprint(format!("wrote the pages into {}; read them with `man -l FILE`", folder.display()));
    Ok(())
}
