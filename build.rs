//! Compiles the gRPC contract, and writes the descriptor set that reflection and proto-JSON read.

use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Not `proto` as a whole: an edit of the crate in `proto/mcp` must not compile the contract again.
    println!("cargo::rerun-if-changed=proto/trunkline");
    let mut files = Vec::new();
    collect(Path::new("proto/trunkline"), &mut files)?;
    files.sort();

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).include_imports(true).open_files(&files)?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;

    // Ordered maps: equal messages must encode to equal bytes, because etags and versions are hashes of them.
    tonic_prost_build::configure()
        .btree_map(".")
        .include_file("packages.rs")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            files.push(path.strip_prefix("proto").unwrap_or(&path).to_owned());
        }
    }
    Ok(())
}
