//! Who may say by which client certificates a token is presented, and that each is of one token.
//!
//! Identities of workloads are nobody's own, so whoever gives one to a token may issue tokens everywhere.

use tonic::Code;
use trunkline::common::v1::Permission;
use trunkline::identity::v1::Token;

use super::write::Write;
use crate::domain::{Kind, KindRules, names};
use crate::error::Error;

impl Write<'_> {
    /// Checks that the caller may give a token the certificates that it names from now on.
    pub(super) fn check_certificates<K: KindRules>(
        &mut self,
        message: &K,
        before: Option<&K>,
    ) -> Result<(), Error> {
        let known = before.map(KindRules::certificates).unwrap_or_default();
        let given = message.certificates().iter().filter(|identity| !known.contains(identity));
        let given: Vec<String> = given.cloned().collect();
        if given.is_empty() {
            return Ok(());
        }
        if !self.call.caller.holds_for_all(Permission::TokensIssue) {
            let text = "giving a token the identity of a client certificate takes tokens.issue and registry.all everywhere";
            return Err(Error::new(Code::PermissionDenied, "PERMISSION_DENIED", text)
                .with("permission", "tokens.issue")
                .with("name", message.name()));
        }
        self.certificates.extend(given.into_iter().map(|identity| (message.name().to_owned(), identity)));
        Ok(())
    }

    /// Refuses certificates that another token names, once all is written. One that was revoked is over for ever.
    pub(super) async fn check_certificates_unique(&mut self) -> Result<(), Error> {
        for (name, identity) in std::mem::take(&mut self.certificates) {
            for other in self.tx.referrers(&names::certificate(&identity)).await? {
                if other != name && self.is_in_use(&other).await? {
                    let by = self.named_as_seen(vec![other]).await?;
                    let text = format!("{name} cannot have {identity}: it is a client certificate of {by}");
                    return Err(Error::new(Code::AlreadyExists, "CERTIFICATE_TAKEN", text)
                        .with("name", name)
                        .with("certificate", identity));
                }
            }
        }
        Ok(())
    }

    async fn is_in_use(&mut self, token: &str) -> Result<bool, Error> {
        let Some(row) = self.tx.get(Kind::Token, token).await? else { return Ok(false) };
        let token: Token = row.message()?;
        Ok(token.revoke_time.is_none())
    }
}
