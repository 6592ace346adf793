//! What becomes of what is somebody's when they are disabled or go: tokens stop and start again, and owners are replaced.

use tonic::Code;
use trunkline::common::v1::Permission;
use trunkline::identity::v1::{Token, UserState};

use super::people::check_above;
use super::proofs::denied;
use super::rpc::Call;
use crate::clock;
use crate::domain::token::is_over;
use crate::domain::{Kind, KindRules, each_kind};
use crate::error::Error;
use crate::store::principals::Principal;
use crate::store::withdrawals::Withdrawn;
use crate::store::{Row, Tx};

/// The belongings that an error names.
const NAMED: usize = 3;

/// Stops all by which a principal, or what it answers for, gets in anywhere.
pub(super) async fn stop(tx: &mut Tx, of: &Principal) -> Result<(), Error> {
    tx.delete_sessions(&of.uid, "").await?;
    tx.delete_links_of(&of.uid).await?;
    tx.withdraw(&of.uid, Withdrawn::All).await?;
    suspend_tokens(tx, &of.name, true).await?;
    for account in tx.service_accounts_of(&of.name).await? {
        tx.withdraw(&account.uid, Withdrawn::All).await?;
        suspend_tokens(tx, &account.name, true).await?;
    }
    Ok(())
}

/// Lets the tokens of a principal, and of what it answers for, work again.
pub(super) async fn start(tx: &mut Tx, of: &Principal) -> Result<(), Error> {
    suspend_tokens(tx, &of.name, false).await?;
    for account in tx.service_accounts_of(&of.name).await? {
        if account.state == UserState::Active {
            tx.touch_principal(&account.uid).await?;
            suspend_tokens(tx, &account.name, false).await?;
        }
    }
    Ok(())
}

async fn suspend_tokens(tx: &mut Tx, owner: &str, is_suspended: bool) -> Result<(), Error> {
    let now = clock::timestamp(tx.now_us());
    for (_, name) in tx.owned_by(owner).await?.into_iter().filter(|(kind, _)| *kind == Kind::Token) {
        let Some(row) = tx.get(Kind::Token, &name).await? else { continue };
        let mut token: Token = row.message()?;
        token.suspend_time = is_suspended.then(|| token.suspend_time.unwrap_or(now));
        tx.put_status(&row, &token).await?;
    }
    Ok(())
}

/// Gives what is somebody's to another one. Nobody: there must be nothing. Their tokens are revoked, and the keys and tokens of what they
/// answer for, because they may know them; unless `keep` says otherwise. Answers what goes on.
///
/// What changes hands has the rights of its heir from then on: a server selects what they may use. So whoever gives it takes it
/// themselves, and stands above who had it; to give it to others takes `registry.all`.
pub(super) async fn hand_over(
    call: &Call<'_>,
    tx: &mut Tx,
    of: &Principal,
    to: &str,
    keep: bool,
) -> Result<Vec<String>, Error> {
    let (owned, accounts) = (tx.owned_by(&of.name).await?, tx.service_accounts_of(&of.name).await?);
    if to.is_empty() {
        let names = owned.into_iter().map(|(_, name)| name).chain(accounts.into_iter().map(|it| it.name));
        refuse_owner(of, &names.collect::<Vec<_>>())?;
        return Ok(Vec::new());
    }
    let heir = tx.principal(to).await?.filter(|heir| heir.uid != of.uid && heir.state != UserState::Disabled);
    let Some(heir) = heir else {
        return Err(Error::field("transfer_to", format!("must name somebody else who can act: {to} cannot")));
    };
    if !accounts.is_empty() && heir.email.is_none() {
        return Err(Error::field(
            "transfer_to",
            "must be a user, where service accounts are to be answered for",
        ));
    }
    if !call.caller.everywhere().contains(Permission::RegistryAll) {
        if heir.name != call.caller.name {
            return Err(denied(
                Permission::RegistryAll,
                ", to give to others what is not your own; take it yourself",
            ));
        }
        check_above(call, tx, of).await?;
    }
    let mut kept = Vec::new();
    for (kind, name) in owned {
        let Some(row) = tx.get(kind, &name).await? else { continue };
        match kind {
            Kind::Token => {
                let hands = [of.uid.as_str(), call.caller.uid.as_str()];
                kept.extend(take_over_token(tx, &row, &heir.name, hands, keep).await?.then_some(name));
            }
            _ => hand_over_one(tx, &row, &heir.name).await?,
        }
    }
    for account in accounts {
        let hands = [of.uid.as_str(), call.caller.uid.as_str()];
        kept.extend(take_over_account(tx, account, &heir.name, hands, keep).await?);
    }
    // What was stopped with its owner works with the new one.
    start(tx, &heir).await?;
    Ok(kept)
}

/// Lets somebody else answer for a service account. Answers what of it goes on.
async fn take_over_account(
    tx: &mut Tx,
    account: Principal,
    owner: &str,
    hands: [&str; 2],
    keep: bool,
) -> Result<Vec<String>, Error> {
    let before = tx.standing_of(&account.uid).await?;
    let account = Principal { owner: owner.to_owned(), ..account };
    tx.put_principal(&account).await?;
    let mut kept = Vec::new();
    if keep {
        kept.extend((tx.count_api_keys_of(&account.uid).await? > 0).then(|| account.name.clone()));
    } else {
        tx.delete_api_keys_of(&account.uid).await?;
        tx.withdraw(&account.uid, Withdrawn::All).await?;
    }
    for (_, name) in tx.owned_by(&account.name).await?.into_iter().filter(|(kind, _)| *kind == Kind::Token) {
        let Some(row) = tx.get(Kind::Token, &name).await? else { continue };
        kept.extend(take_over_token(tx, &row, &account.name, hands, keep).await?.then_some(name));
    }
    if let Some(before) = before {
        tx.note_rights(&before.rights).await?;
    }
    Ok(kept)
}

fn refuse_owner(of: &Principal, owned: &[String]) -> Result<(), Error> {
    if owned.is_empty() {
        return Ok(());
    }
    let named = owned.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = if owned.len() > NAMED { format!(" and {} more", owned.len() - NAMED) } else { String::new() };
    let text = format!("{} owns {named}{more}; say who gets that with `transfer_to`", of.name);
    Err(Error::new(Code::FailedPrecondition, "STILL_AN_OWNER", text).with("name", of.name.clone()))
}

/// Gives a token to somebody, revoked unless `keep`. Answers whether it goes on. `hands`: the uids of who had it and of who gives it, which
/// are remembered.
async fn take_over_token(
    tx: &mut Tx,
    row: &Row,
    owner: &str,
    hands: [&str; 2],
    keep: bool,
) -> Result<bool, Error> {
    let mut token: Token = row.message()?;
    owner.clone_into(&mut token.meta.get_or_insert_default().owner);
    if !keep {
        token.revoke_time.get_or_insert(clock::timestamp(tx.now_us()));
    }
    tx.put(&token, Some(row), None).await?;
    for uid in hands {
        tx.note_token_maker(&row.uid, uid).await?;
    }
    if !keep {
        tx.end_approvals_of(&row.uid).await?;
    }
    Ok(!is_over(&token, tx.now_us()))
}

async fn replace_owner<K: KindRules>(tx: &mut Tx, row: &Row, owner: &str) -> Result<(), Error> {
    let mut message: K = row.message()?;
    owner.clone_into(&mut message.meta_slot().get_or_insert_default().owner);
    tx.put(&message, Some(row), None).await?;
    Ok(())
}

macro_rules! by_kind {
    ($($(#[$doc:meta])* $kind:ident { package: $package:ident, $($rest:tt)* })*) => {
        async fn hand_over_one(tx: &mut Tx, row: &Row, owner: &str) -> Result<(), Error> {
            match row.kind {
                $(Kind::$kind => replace_owner::<trunkline::$package::v1::$kind>(tx, row, owner).await,)*
            }
        }
    };
}
each_kind!(by_kind);
