//! The collector's receipts: which chain heads it vouches for.

use std::path::Path;

use auditty_proto::{names, v1};
use auditty_recording::receipt::{RECEIPT_NAMESPACE, Receipt, SignedReceipt};
use auditty_recording::signature::PublicKey;
use auditty_recording::verify::{Known, KnownChain, Scope};

use super::registry;
use super::verify::trusted;
use crate::config::Config;
use crate::failure::{Failure, Result};
use crate::source::Collector;

/// Who signs, in an `allowed_signers` file.
pub(super) const PRINCIPAL: &str = "auditty-collector";

/// Receipts on a page.
const PAGE: i32 = 1000;

/// The collector that is asked, or compared with.
pub(super) async fn collector(config: &Config) -> Result<Collector> {
    let address = config.beside.as_deref().ok_or_else(|| {
        Failure::usage("this needs a collector").hint("--collector ADDR says which")
    })?;
    Collector::connect(address, &config.identity).await
}

/// The key it says it has.
pub(super) async fn public_key(collector: &mut Collector) -> Result<PublicKey> {
    let text = collector.public_key().await?;
    text.parse()
        .map_err(|error| Failure::error(format!("the collector's key: {error}")))
}

/// The keys as lines of an `allowed_signers` file.
pub(super) fn signers(keys: &[PublicKey]) -> String {
    let line = |key| format!("{PRINCIPAL} namespaces=\"{RECEIPT_NAMESPACE}\" {key}\n");
    keys.iter().map(line).collect()
}

/// A receipt whose signature was checked.
pub(super) struct Checked {
    pub(super) receipt: Receipt,
    pub(super) signed: SignedReceipt,
}

impl Checked {
    /// What it says, for a verification.
    fn known(&self) -> KnownChain {
        let Receipt {
            recording,
            chunks,
            chain_head,
            time,
            ..
        } = &self.receipt;
        KnownChain {
            session: recording.clone(),
            chunks: *chunks,
            chain_head: *chain_head,
            by: format!("the collector's receipt of {time}"),
        }
    }
}

/// The collector's receipts for a scope, and the keys that may have signed them.
/// They are added to what is known, and so is what hosts have registered.
pub(super) async fn compare(
    config: &Config,
    scope: &Scope,
    key: Option<&Path>,
    known: &mut Known,
) -> Result<(Vec<PublicKey>, Vec<Checked>)> {
    let mut collector = collector(config).await?;
    let keys = match key {
        Some(path) => given(path)?,
        None => vec![public_key(&mut collector).await?],
    };
    registry::compare(&mut collector, scope, known).await?;
    let receipts = fetch(&mut collector, scope, &keys).await?;
    known.chain_heads = receipts.iter().map(Checked::known).collect();
    Ok((keys, receipts))
}

async fn fetch(
    collector: &mut Collector,
    scope: &Scope,
    keys: &[PublicKey],
) -> Result<Vec<Checked>> {
    let (parent, host_id) = match scope {
        Scope::Session(session) => (names::session_name(session.session_id()), String::new()),
        Scope::Host(host) | Scope::Date(_, Some(host)) => (String::new(), host.clone()),
        Scope::All | Scope::Date(_, None) => Default::default(),
    };
    let mut request = v1::ListReceiptsRequest {
        parent,
        host_id,
        page_size: PAGE,
        page_token: String::new(),
    };
    let mut checked = Vec::new();
    loop {
        let page = collector.list_receipts(request.clone()).await?;
        for receipt in page.receipts {
            let receipt = check(receipt, keys)?;
            let in_scope = match scope {
                Scope::Date(date, _) => receipt.receipt.recording.date() == *date,
                Scope::Session(session) => receipt.receipt.recording == *session,
                Scope::All | Scope::Host(_) => true,
            };
            if in_scope {
                checked.push(receipt);
            }
        }
        if page.next_page_token.is_empty() {
            return Ok(checked);
        }
        request.page_token = page.next_page_token;
    }
}

fn check(receipt: v1::Receipt, keys: &[PublicKey]) -> Result<Checked> {
    let signed = SignedReceipt {
        json: receipt.json,
        signature: receipt.signature,
    };
    let mut problem = None;
    for key in keys {
        match signed.verify(key) {
            Ok(receipt) => return Ok(Checked { receipt, signed }),
            Err(error) => problem = Some(error),
        }
    }
    let problem = problem.map_or_else(String::new, |error| error.to_string());
    let session = receipt.session_id;
    let text = format!("the collector's receipt for {session}: {problem}");
    Err(Failure::error(text).hint(
        "where the collector got another key in the meantime, --collector-key FILE names all \
         of them",
    ))
}

/// The keys in a file that somebody kept.
fn given(path: &Path) -> Result<Vec<PublicKey>> {
    let keys: Vec<_> = trusted(path)?.0.iter().map(|key| key.key).collect();
    match keys.is_empty() {
        false => Ok(keys),
        true => Err(Failure::usage(format!("{} has no key", path.display()))),
    }
}
