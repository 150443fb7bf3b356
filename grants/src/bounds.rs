//! How large a grant may be: it is copied into the metadata and the timeline of
//! every session it covers.

use super::GrantRule;

/// Longest id of a request, bytes.
const MAX_ID_LEN: usize = 256;
/// Longest text of any other kind, bytes.
const MAX_TEXT_LEN: usize = 4096;
/// Most approvers.
const MAX_APPROVERS: usize = 100;
/// Most users, keys, certificates, hosts or labels.
const MAX_SELECTORS: usize = 1000;
/// All texts of a grant together, bytes.
const MAX_GRANT_LEN: usize = 64 * 1024;

impl GrantRule {
    /// What is too long or too many, if anything is.
    pub(super) fn excess(&self) -> Option<String> {
        let grant = &self.grant;
        let texts = [
            ("request_id", &grant.request_id, MAX_ID_LEN),
            ("requester", &grant.requester, MAX_TEXT_LEN),
            ("access_flow", &grant.access_flow, MAX_TEXT_LEN),
            ("reason", &grant.reason, MAX_TEXT_LEN),
            ("ticket", &grant.ticket, MAX_TEXT_LEN),
        ];
        let long = texts.iter().find(|(_, text, most)| text.len() > *most);
        if let Some((name, text, most)) = long {
            let len = text.len();
            return Some(format!(
                "`{name}` is {len} bytes long, at most {most} are kept"
            ));
        }
        let lists = [
            ("approvers", grant.approvers.len(), MAX_APPROVERS),
            ("unix_users", self.unix_users.len(), MAX_SELECTORS),
            ("keys", self.keys.len(), MAX_SELECTORS),
            ("certificates", self.certificates.len(), MAX_SELECTORS),
            ("hosts", self.hosts.len(), MAX_SELECTORS),
            ("host_labels", self.host_labels.len(), MAX_SELECTORS),
        ];
        let many = lists.iter().find(|(_, count, most)| count > most);
        if let Some((name, count, most)) = many {
            return Some(format!(
                "`{name}` has {count} entries, at most {most} are kept"
            ));
        }
        let listed = grant.approvers.iter().chain(&self.unix_users);
        let listed = listed.chain(&self.keys).chain(&self.hosts);
        let listed = listed.chain(self.host_labels.keys());
        let listed = listed.chain(self.host_labels.values());
        let listed = listed.chain(self.certificates.iter().flat_map(|c| &c.key_id));
        let listed = listed.chain(self.certificates.iter().flat_map(|c| &c.ca));
        let mut longest = 0;
        let mut sum: usize = texts.iter().map(|(_, text, _)| text.len()).sum();
        for text in listed {
            longest = text.len().max(longest);
            sum += text.len();
        }
        if longest > MAX_TEXT_LEN {
            return Some(format!(
                "an entry of a list is {longest} bytes long, at most {MAX_TEXT_LEN} are kept"
            ));
        }
        (sum > MAX_GRANT_LEN)
            .then(|| format!("the grant is {sum} bytes long, at most {MAX_GRANT_LEN} are kept"))
    }
}
