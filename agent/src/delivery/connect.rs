//! Connections to a collector.

use std::io;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Error, Uri};
use tower::service_fn;

use super::tls;
use crate::config::Address;

/// A collector that does not answer a handshake in this time is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A batch is written to disk by the collector before it answers.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A collector that vanished while it is listened to is noticed after the two
/// together.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A channel that connects when it is used, and again when it was lost.
pub fn dial(address: &Address) -> Result<Channel, Error> {
    let endpoint = |uri: String| {
        Endpoint::from_shared(uri).map(|endpoint| {
            endpoint
                .connect_timeout(CONNECT_TIMEOUT)
                .timeout(REQUEST_TIMEOUT)
                .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
                .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        })
    };
    match address {
        Address::Http(uri) => Ok(endpoint(uri.clone())?.connect_lazy()),
        Address::Https(authority, tls) => {
            let tls = tls.clone();
            // The connector does TLS, with files as they are at that moment.
            let endpoint = endpoint(format!("http://{authority}"))?;
            Ok(
                endpoint.connect_with_connector_lazy(service_fn(move |uri: Uri| {
                    let tls = tls.clone();
                    async move {
                        let host = uri.host().unwrap_or_default();
                        let port = uri.port_u16().unwrap_or(443);
                        let connected = tls::connect(host, port, &tls).await;
                        Ok::<_, io::Error>(TokioIo::new(connected?))
                    }
                })),
            )
        }
        Address::Tcp(address) => Ok(endpoint(format!("http://{address}"))?.connect_lazy()),
        Address::Unix(path) => {
            let path = path.clone();
            // The name is only for the HTTP/2 authority; the connector ignores it.
            let endpoint = endpoint("http://localhost".to_owned())?;
            Ok(endpoint.connect_with_connector_lazy(service_fn(move |_| {
                let path = path.clone();
                async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
            })))
        }
    }
}
