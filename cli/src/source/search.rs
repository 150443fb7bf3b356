//! Commands across the recordings of a store. Without an index every recording
//! that may match is read, the newest first; a page is full as soon as enough was
//! found.

use auditty_proto::filter::{CommandSearch, Comparison, Operator};
use auditty_proto::{names, page_token, v1};
use auditty_recording::key::SessionKey;

use super::content::Content;
use super::store::{
    DEFAULT_COMMANDS, Store, date_may_match, may_match, page_size, position, store_failure,
};
use crate::failure::{Failure, Result};
use crate::{describe, out};

/// Where a page begins: behind this command, session by session from the newest,
/// in each from its last command.
struct Place {
    session: uuid::Uuid,
    seq: u64,
}

impl Store {
    /// Commands that match: the newest session first, in each its last command
    /// first.
    pub(super) async fn search(
        &mut self,
        request: &v1::ListCommandsRequest,
    ) -> Result<v1::ListCommandsResponse> {
        let search = CommandSearch::parse(&request.filter).map_err(Failure::usage)?;
        let fields = ["ListCommands", &request.parent, &request.filter];
        let size = page_size(request.page_size, DEFAULT_COMMANDS);
        let after = match request.page_token.as_str() {
            "" => None,
            token => Some(position(&fields, token, |key| place(key).ok_or(()))?),
        };
        let mut keys = self.keys(&search.session).await?;
        keys.retain(|key| {
            let follows = |after: &Place| key.session_id() <= after.session;
            after.as_ref().is_none_or(follows) && may_have(&search, key)
        });
        let (mut answer, mut last, mut locked) = (v1::ListCommandsResponse::default(), None, 0);
        'sessions: for key in keys {
            let id = key.session_id();
            let Some(found) = self.matches_of(&search, key).await? else {
                locked += 1;
                continue;
            };
            for command in found.into_iter().rev() {
                let shown = |after: &Place| after.session == id && command.seq >= after.seq;
                if after.as_ref().is_some_and(shown) {
                    continue;
                }
                if answer.commands.len() == size {
                    answer.next_page_token = last.map_or_else(String::new, |place: Vec<u8>| {
                        page_token::encode(&fields, &place)
                    });
                    break 'sessions;
                }
                last = Some([id.as_bytes().as_slice(), &command.seq.to_be_bytes()].concat());
                answer.commands.push(command);
            }
        }
        if locked > 0 {
            let recordings = describe::count(locked, "encrypted recording", "encrypted recordings");
            out::warn(&format!(
                "{recordings} could not be searched: --identity names the file of a private key"
            ));
        }
        Ok(answer)
    }

    /// What matches in one session; `None` where no key opens it.
    async fn matches_of(
        &mut self,
        search: &CommandSearch,
        key: SessionKey,
    ) -> Result<Option<Vec<v1::Command>>> {
        let (store, keys) = (self.store.clone(), self.keys.clone());
        let content = Content::open(store, key, keys).await;
        let mut content = content.map_err(|error| store_failure(&error))?;
        let session = content.message();
        let mut found = Vec::new();
        if search.session.matches(&session) {
            match content.commands().await {
                Ok(commands) => found = commands,
                Err(failure) if failure.is_locked() => return Ok(None),
                Err(failure) => return Err(failure),
            }
        }
        self.problems.extend(content.take_problems());
        found.retain(|command| search.command.matches(command));
        let of = brief(session);
        for command in &mut found {
            command.session = Some(of.clone());
        }
        Ok(Some(found))
    }
}

/// Nothing happens in a session before the date it begins on.
fn may_have(search: &CommandSearch, key: &SessionKey) -> bool {
    let begins = |c: &&Comparison<v1::Command>| {
        let before = matches!(c.operator, Operator::Less | Operator::LessOrEqual);
        c.field.name == "start_time" && before
    };
    let mut bounds = search.command.comparisons.iter().filter(begins);
    bounds.all(|c| date_may_match(c.operator, &c.value, key)) && may_match(&search.session, key)
}

fn place(key: &[u8]) -> Option<Place> {
    let (session, seq) = key.split_first_chunk::<16>()?;
    Some(Place {
        session: uuid::Uuid::from_bytes(*session),
        seq: u64::from_be_bytes(seq.try_into().ok()?),
    })
}

fn brief(session: v1::Session) -> v1::CommandSession {
    let host = session.host.unwrap_or_default();
    let connection = session.connection.unwrap_or_default();
    let matched = session.grant.unwrap_or_default();
    let grant = matched.grant.unwrap_or_default();
    v1::CommandSession {
        name: names::session_name(session.session_id),
        host_id: host.host_id,
        hostname: host.hostname,
        user: session.login.unwrap_or_default().user,
        client_address: connection.client_address,
        grant_status: matched.status,
        request_id: grant.request_id,
        requester: grant.requester,
    }
}
