//! What somebody should look at: found in what hosts report and in their silence,
//! kept in the database, told to who follows, and delivered to webhooks, syslog and
//! Amazon SNS.
//!
//! ```text
//! reports → causes  ─┐ one transaction
//! silence → cause   ─┴→ alerts ─→ ListAlerts, WatchAlerts
//!                              └→ destinations, each with a cursor of its own
//! ```
//!
//! A cause is one alert, however often it is reported. A destination gets each
//! alert at least once: its cursor goes on after it has taken them.

mod deliver;
mod post;
mod rules;
mod silence;
mod sns;
mod syslog;
mod watcher;

use std::{path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use auditty_proto::{
    filter::{Filter, FilterError},
    page_token,
    v1::{self, alert_service_server::AlertService},
};
use futures::{Stream, stream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::{
    access::{Asked, Principal},
    latest::Latest,
    query::{failed, invalid_filter, limit, position},
    store::Store,
};
use watcher::Watcher;

pub use deliver::Destination;
pub(crate) use deliver::deliver;
pub use post::WebhookTarget;
pub(crate) use rules::causes;
pub use rules::{Rule, RuleText};
pub use silence::note_silent;
pub(crate) use silence::watch as watch_silence;
pub use sns::{SnsTarget, Topic};
pub use syslog::{SyslogAddress, SyslogTarget};

const DEFAULT_ALERTS: usize = 100;
/// Agents report every ten seconds; what is heard is written five later at most.
pub const DEFAULT_SILENCE: Duration = Duration::from_secs(18);

/// What is an alert, and where alerts go.
#[derive(Debug)]
pub struct Alarm {
    /// How long a host may say nothing before that is an alert.
    pub silence: Duration,
    /// Commands that are an alert.
    pub rules: Arc<[Rule]>,
    /// Where alerts are delivered.
    pub destinations: Vec<Destination>,
}

impl Default for Alarm {
    fn default() -> Self {
        Self {
            silence: DEFAULT_SILENCE,
            rules: Arc::default(),
            destinations: Vec::new(),
        }
    }
}

/// `[alerts]`, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlarmSettings {
    /// How long a host may say nothing before that is an alert.
    pub silence: Duration,
    /// Commands that are an alert.
    pub rules: Vec<RuleText>,
    /// Where alerts are posted.
    pub webhooks: Vec<WebhookTarget>,
    /// The system's log they go to.
    pub syslog: Option<SyslogTarget>,
    /// The topic they are published to.
    pub sns: Option<SnsTarget>,
}

/// The alarm cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum AlarmError {
    /// A filter is none.
    #[error("the filter of {name:?}: {source}")]
    Filter {
        /// Whose.
        name: String,
        /// What is wrong with it.
        source: FilterError,
    },
    /// A pattern is none, or too large.
    #[error("the pattern of {name:?}: {source}")]
    Pattern {
        /// Whose.
        name: String,
        /// What is wrong with it.
        source: regex::Error,
    },
    /// A file cannot be used.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The HTTP client cannot be made.
    #[error("the webhook {name:?}: {source}")]
    Client {
        /// Whose.
        name: String,
        /// Why.
        source: reqwest::Error,
    },
}

impl Alarm {
    /// Reads the files and filters that the settings name.
    pub fn load(settings: &AlarmSettings) -> Result<Self, AlarmError> {
        let rules = settings.rules.iter().map(Rule::new);
        let mut destinations = Vec::new();
        for target in &settings.webhooks {
            destinations.push(target.load()?);
        }
        if let Some(target) = &settings.syslog {
            destinations.push(target.load()?);
        }
        if let Some(target) = &settings.sns {
            destinations.push(target.load()?);
        }
        Ok(Self {
            silence: settings.silence,
            rules: rules.collect::<Result<_, _>>()?,
            destinations,
        })
    }
}

/// A filter over alerts, for `name`.
fn filter(name: &str, text: &str) -> Result<Filter<v1::Alert>, AlarmError> {
    Filter::alerts(text).map_err(|source| AlarmError::Filter {
        name: name.to_owned(),
        source,
    })
}

/// `AlertService` over a store.
#[derive(Clone, Debug)]
pub struct Alerts {
    store: Store,
    latest: Latest,
    shutdown: CancellationToken,
}

impl Alerts {
    /// Answers from this store, and the work of noticing new alerts. Both end with
    /// `shutdown`.
    pub(crate) fn new(
        store: Store,
        shutdown: CancellationToken,
    ) -> (Self, impl Future<Output = ()>) {
        let latest = Latest::default();
        let asked = store.clone();
        let noticing = latest.clone().look(shutdown.clone(), move || {
            let store = asked.clone();
            async move { Ok(store.alert_revision().await?.revision) }
        });
        let service = Self {
            store,
            latest,
            shutdown,
        };
        (service, noticing)
    }

    /// What is news here.
    pub(crate) fn latest(&self) -> &Latest {
        &self.latest
    }
}

#[tonic::async_trait]
impl AlertService for Alerts {
    async fn list_alerts(
        &self,
        request: Request<v1::ListAlertsRequest>,
    ) -> Result<Response<v1::ListAlertsResponse>, Status> {
        Asked::note(&request);
        let allowed = Principal::of(&request)?.scope();
        let v1::ListAlertsRequest {
            page_size,
            page_token,
            filter: filter_text,
        } = request.into_inner();
        let limit = limit(page_size, DEFAULT_ALERTS)?;
        let filter = Filter::alerts(&filter_text).map_err(invalid_filter)?;
        let of = ["ListAlerts", &filter_text];
        let before = position(&of, &page_token, |key| {
            key.try_into().ok().map(u64::from_be_bytes)
        })?;
        let page = self.store.alerts(&allowed, &filter, before, limit).await;
        let page = page.map_err(failed)?;
        let last = page.items.last().filter(|_| page.more);
        let next_page_token = last.map_or_else(String::new, |last| {
            page_token::encode(&of, &last.revision.to_be_bytes())
        });
        Ok(Response::new(v1::ListAlertsResponse {
            alerts: page.items,
            next_page_token,
        }))
    }

    type WatchAlertsStream =
        Pin<Box<dyn Stream<Item = Result<v1::WatchAlertsResponse, Status>> + Send>>;

    async fn watch_alerts(
        &self,
        request: Request<v1::WatchAlertsRequest>,
    ) -> Result<Response<Self::WatchAlertsStream>, Status> {
        Asked::note(&request);
        let scope = Principal::of(&request)?.scope();
        let v1::WatchAlertsRequest {
            resume_token,
            filter,
        } = request.get_ref();
        let filter = Filter::alerts(filter).map_err(invalid_filter)?;
        let watcher = Watcher::new(self, scope, filter, resume_token).await?;
        let answers = stream::try_unfold(watcher, Watcher::next);
        Ok(Response::new(Box::pin(answers)))
    }
}
