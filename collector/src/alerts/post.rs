//! Alerts to a webhook: one POST for all that wait, at most a hundred.
//!
//! ```text
//! POST /… HTTP/1.1
//! Content-Type: application/json
//! X-Auditty-Signature: t=1767225600,v1=HEX     as of pushed grants
//!
//! {"alerts": [ … auditty.v1.Alert as canonical proto3 JSON, the oldest first … ]}
//! ```
//!
//! Any answer of 2xx means that all of them are taken. 400, 413 and 422 mean that
//! they never will be; everything else is tried again, with the same alert ids.

use std::{fs, path::PathBuf};

use auditty_proto::{json, v1};
use jiff::Timestamp;
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{
    AlarmError, Destination,
    deliver::{TIMEOUT, Undelivered, Way},
    filter,
};
use crate::webhook::{SIGNATURE_HEADER, SharedSecret};

/// A webhook that alerts are posted to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookTarget {
    /// Its name; how far it has the alerts is kept under it.
    pub name: String,
    /// Where: https, or http on this machine.
    pub url: String,
    /// Secret that both sides have; without, nothing is signed.
    pub secret: Option<PathBuf>,
    /// Authorities of its certificate (PEM); without, the system's.
    pub ca: Option<PathBuf>,
    /// Which alerts, as for ListAlerts.
    pub filter: String,
}

impl WebhookTarget {
    pub(super) fn load(&self) -> Result<Destination, AlarmError> {
        let of_client = |source| AlarmError::Client {
            name: self.name.clone(),
            source,
        };
        let mut client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none());
        if let Some(path) = &self.ca {
            let pem = fs::read(path).map_err(|error| AlarmError::File {
                path: path.clone(),
                reason: error.to_string(),
            })?;
            let authorities = reqwest::Certificate::from_pem_bundle(&pem).map_err(of_client)?;
            client = client.tls_certs_only(authorities);
        }
        let secret = self.secret.as_deref().map(SharedSecret::load).transpose();
        let secret = secret.map_err(|error| AlarmError::File {
            path: self.secret.clone().unwrap_or_default(),
            reason: error,
        })?;
        let post = Post {
            client: client.build().map_err(of_client)?,
            url: self.url.clone(),
            secret,
        };
        Ok(Destination {
            name: format!("webhook {}", self.name),
            filter: filter(&self.name, &self.filter)?,
            way: Way::Post(Box::new(post)),
        })
    }
}

/// A webhook.
pub(super) struct Post {
    client: reqwest::Client,
    url: String,
    secret: Option<SharedSecret>,
}

impl Post {
    pub(super) async fn send(&self, alerts: &[v1::Alert]) -> Result<(), Undelivered> {
        let alerts: Result<Vec<Value>, _> = alerts.iter().map(json::to_value).collect();
        let alerts = alerts.map_err(|error| Undelivered::Refused(error.to_string()))?;
        let body = json!({ "alerts": alerts }).to_string();
        let mut request = self.client.post(&self.url);
        request = request.header("content-type", "application/json");
        if let Some(secret) = &self.secret {
            let signature = secret.sign(Timestamp::now().as_second(), body.as_bytes());
            request = request.header(SIGNATURE_HEADER, signature);
        }
        let answer = request.body(body).send().await;
        // The URL may have a token in it.
        let answer = answer.map_err(|error| Undelivered::Passing(chain(&error.without_url())))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status @ (StatusCode::BAD_REQUEST
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNPROCESSABLE_ENTITY) => {
                Err(Undelivered::Refused(format!("the answer is {status}")))
            }
            status => Err(Undelivered::Passing(format!("the answer is {status}"))),
        }
    }
}

/// An error with what is behind it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}
