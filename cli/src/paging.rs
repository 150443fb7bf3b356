//! Lists that come page after page.

use auditty_proto::v1;

use crate::args::Paging;
use crate::failure::Result;

/// One page of a list.
pub trait Page {
    /// Where the next one is; empty on the last.
    fn next_page_token(&mut self) -> &mut String;

    /// Takes what stands on the page behind it, and where that leads.
    fn append(&mut self, next: Self);
}

macro_rules! pages {
    ($($answer:ident . $items:ident,)*) => {$(
        impl Page for v1::$answer {
            fn next_page_token(&mut self) -> &mut String {
                &mut self.next_page_token
            }

            fn append(&mut self, next: Self) {
                self.$items.extend(next.$items);
                self.next_page_token = next.next_page_token;
            }
        }
    )*};
}

pages! {
    ListSessionsResponse.sessions,
    ListCommandsResponse.commands,
    ListActivitiesResponse.activities,
    ListAuditRecordsResponse.records,
    ListHostsResponse.hosts,
    ListAlertsResponse.alerts,
    ListFailedLoginsResponse.failed_logins,
    ListGrantsResponse.grants,
    ListHostKeysResponse.keys,
    ListDigestHeadsResponse.heads,
}

/// The page that was asked for; with `--all`, that and all behind it as one. `ask`
/// gets the token of each.
///
/// # Errors
/// As of `ask`.
pub async fn list<P: Page>(
    paging: &Paging,
    mut ask: impl AsyncFnMut(String) -> Result<P>,
) -> Result<P> {
    let first = paging.page_token.clone().unwrap_or_default();
    match paging.all {
        true => all(first, ask).await,
        false => ask(first).await,
    }
}

/// A page and all behind it as one.
///
/// # Errors
/// As of `ask`.
pub async fn all<P: Page>(
    first: String,
    mut ask: impl AsyncFnMut(String) -> Result<P>,
) -> Result<P> {
    let mut answer = ask(first).await?;
    while !answer.next_page_token().is_empty() {
        let token = std::mem::take(answer.next_page_token());
        answer.append(ask(token).await?);
    }
    Ok(answer)
}
