//! Compiles the gRPC contract: its packages, the tables of the types that it streams, and the descriptor set that reflection
//! and proto-JSON read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use protox::prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, Value};

/// The option of messages that are types of a stream.
const STREAM: &str = "trunkline.common.v1.stream";

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    // Not `proto` as a whole: an edit of a crate beside it must not compile the contract again.
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
    for (package, types) in streamed_types(&compiler.descriptor_pool())? {
        let path = out.join(format!("{package}.rs"));
        let code = std::fs::read_to_string(&path)? + &type_table(&types);
        std::fs::write(path, code)?;
    }
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

/// A message that declares `STREAM`.
struct StreamedType {
    message: MessageDescriptor,
    removed_at_once: bool,
}

/// Finds the streamed types of each package, by their order.
fn streamed_types(pool: &DescriptorPool) -> Result<BTreeMap<String, BTreeMap<u32, StreamedType>>, Error> {
    let option = pool.get_extension_by_name(STREAM).ok_or("the contract does not define the option")?;
    let mut packages: BTreeMap<String, BTreeMap<u32, StreamedType>> = BTreeMap::new();
    for message in pool.all_messages().filter(|message| message.options().has_extension(&option)) {
        let options = message.options().get_extension(&option).into_owned();
        let options = options.as_message().ok_or("the option is not a message")?;
        let order = field(options, "order").as_u32().unwrap_or_default();
        let removed_at_once = field(options, "removed_at_once").as_bool().unwrap_or_default();
        let types = packages.entry(message.package_name().to_owned()).or_default();
        let name = message.full_name().to_owned();
        if types.insert(order, StreamedType { message, removed_at_once }).is_some() {
            return Err(format!("{name}: another message has the same order").into());
        }
    }
    for (package, types) in &packages {
        if !types.keys().copied().eq(1..=u32::try_from(types.len())?) {
            return Err(format!("{package}: the order of its streamed types has a gap").into());
        }
    }
    Ok(packages)
}

fn field(options: &DynamicMessage, name: &str) -> Value {
    options.get_field_by_name(name).map_or(Value::Bool(false), |value| value.into_owned())
}

/// Renders the enum of a package's streamed types, which implements `TypeTable`.
fn type_table(types: &BTreeMap<u32, StreamedType>) -> String {
    let each = |render: &dyn Fn(&StreamedType) -> String| types.values().map(render).collect::<String>();
    let arms = |value: &dyn Fn(&StreamedType) -> String| {
        each(&|of| format!("Self::{} => {}, ", of.message.name(), value(of)))
    };
    format!(
        "
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamType {{ {variants} }}

impl crate::TypeTable for StreamType {{
    const ALL: &'static [Self] = &[{all}];

    fn index(self) -> usize {{ self as usize }}
    fn name(self) -> &'static str {{ match self {{ {names} }} }}
    fn url(self) -> &'static str {{ match self {{ {urls} }} }}
    fn is_removed_at_once(self) -> bool {{ match self {{ {removed_at_once} }} }}
}}
",
        variants = each(&|of| format!("{}, ", of.message.name())),
        all = each(&|of| format!("Self::{}, ", of.message.name())),
        names = arms(&|of| format!("{:?}", of.message.name())),
        urls = arms(&|of| format!("\"type.googleapis.com/{}\"", of.message.full_name())),
        removed_at_once = arms(&|of| of.removed_at_once.to_string()),
    )
}
