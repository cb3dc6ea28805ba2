//! One order of one name, made by one of the programs that share a storage.

use tokio::time::sleep;

use crate::certificate::Certificate;
use crate::failure::Failure;
use crate::issuer::Issuer;
use crate::storage::{CLAIM_PAUSE, Shared, Storage, StorageError};

/// What an order came to.
pub(crate) enum Ordered {
    Done(Result<Certificate, Failure>),
    /// Another program had got one already.
    Found(Certificate),
    /// Another program orders it, or nobody can say who does.
    Elsewhere,
}

/// Claimed beside the name by whoever has no account yet, lest each program makes its own. No name is empty.
pub(crate) const ACCOUNT: &str = "";

/// The claims stay for the caller to release, when what came of it is written.
pub(crate) async fn order(
    issuer: &Issuer,
    storage: &dyn Storage,
    name: &str,
    old: Option<&Certificate>,
) -> Ordered {
    let Some(shared) = storage.shared() else {
        said(name, old);
        return Ordered::Done(issuer.issue(name, old, None).await);
    };
    let claims = match claim(issuer, storage, shared, name, old).await {
        Ok(Claimed::Ours(claims)) => claims,
        Ok(Claimed::Found(certificate)) => return Ordered::Found(certificate),
        Ok(Claimed::Others) => return Ordered::Elsewhere,
        Err(error) => {
            tracing::debug!(name, %error, "no order can be claimed");
            return Ordered::Elsewhere;
        }
    };
    said(name, old);
    let hold = async {
        loop {
            sleep(CLAIM_PAUSE).await;
            for claim in &claims {
                // One that is lost costs an order too many at worst.
                let _ = shared.claim(claim).await;
            }
        }
    };
    tokio::select! {
        result = issuer.issue(name, old, Some(shared)) => Ordered::Done(result),
        () = hold => unreachable!("it holds for ever"),
    }
}

fn said(name: &str, old: Option<&Certificate>) {
    tracing::info!(name, is_renewal = old.is_some(), "ordering a certificate");
}

enum Claimed<'a> {
    Ours(Vec<&'a str>),
    Found(Certificate),
    Others,
}

async fn claim<'a>(
    issuer: &Issuer,
    storage: &dyn Storage,
    shared: &dyn Shared,
    name: &'a str,
    old: Option<&Certificate>,
) -> Result<Claimed<'a>, StorageError> {
    if !shared.claim(name).await? {
        return Ok(Claimed::Others);
    }
    // Only now: whoever had the claim before wrote down what came of it, and released it then.
    let kept = storage.load().await?;
    let is_newer = |kept: &Certificate| old.is_none_or(|old| kept.issued_at > old.issued_at);
    let found = kept.certificates.into_iter().find(|kept| kept.name == name && is_newer(kept));
    if let Some(certificate) = found {
        return Ok(Claimed::Found(certificate));
    }
    issuer.adopt(&kept.accounts).await;
    if issuer.has_account().await {
        return Ok(Claimed::Ours(vec![name]));
    }
    let is_ours = shared.claim(ACCOUNT).await?;
    Ok(if is_ours { Claimed::Ours(vec![name, ACCOUNT]) } else { Claimed::Others })
}
