//! Deletes resources of any kinds: all at one revision, or none.

use std::collections::BTreeSet;

use tonic::Code;
use trunkline::admin::v1::{DeleteResourcesRequest, DeleteResourcesResponse};

use super::bulk::MAX_MANIFESTS;
use super::rpc::Call;
use super::write::{Write, check_etag};
use crate::domain::{Kind, Violations, names};
use crate::error::Error;
use crate::store::Row;

impl Call<'_> {
    pub(super) async fn delete_many(
        &self,
        request: DeleteResourcesRequest,
    ) -> Result<DeleteResourcesResponse, Error> {
        let targets = targets(&request)?;
        self.check_may_write_kinds(targets.iter().map(|(kind, _)| *kind))?;
        let mut write = Write::begin(self).await?;
        let rows = find(&mut write, &targets).await?;
        for row in &rows {
            write.check_may_write(row).await?;
            let etag = request.etags.get(&row.name).map(String::as_str).unwrap_or_default();
            check_etag(&row.name, etag, Some(row))?;
        }
        for row in &rows {
            write.delete(row, request.force).await?;
        }
        let tx = write.finish().await?;
        let revision = if request.validate_only { tx.revision() } else { tx.commit().await? };
        Ok(DeleteResourcesResponse { revision })
    }
}

/// The kinds and names, each once.
fn targets(request: &DeleteResourcesRequest) -> Result<BTreeSet<(Kind, &str)>, Error> {
    let mut violations = Violations::default();
    let count = request.names.len();
    violations.require(count > 0, "names", "is required");
    violations.require(
        count <= MAX_MANIFESTS,
        "names",
        format!("has {count} names; the maximum is {MAX_MANIFESTS}"),
    );
    let mut targets = BTreeSet::new();
    for (index, name) in request.names.iter().enumerate() {
        match names::kind_of(name) {
            Some(kind) => drop(targets.insert((kind, name.as_str()))),
            None => violations.add(
                format!("names[{index}]"),
                format!("is `{name}`, which is not the name of a resource, such as `servers/dev`"),
            ),
        }
    }
    if violations.is_empty() { Ok(targets) } else { Err(Error::invalid(violations)) }
}

async fn find(write: &mut Write<'_>, targets: &BTreeSet<(Kind, &str)>) -> Result<Vec<Row>, Error> {
    let (mut rows, mut missing) = (Vec::new(), Vec::new());
    for (kind, name) in targets {
        match write.look(*kind, name).await?.seen() {
            Some(row) => rows.push(row),
            None => missing.push((*kind, *name)),
        }
    }
    match missing.as_slice() {
        [] => Ok(rows),
        [(kind, name)] => Err(Error::not_found(*kind, name)),
        _ => {
            let names = missing.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(", ");
            let text = format!("{names} do not exist");
            Err(Error::new(Code::NotFound, "RESOURCE_NOT_FOUND", text).with("names", names))
        }
    }
}
