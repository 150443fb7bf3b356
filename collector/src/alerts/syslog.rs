//! Alerts to a system's log: one message of RFC 5424 each, over a Unix datagram
//! socket such as `/dev/log`, or UDP (RFC 5426).
//!
//! ```text
//! <PRI>1 TIME COLLECTOR auditty PID KIND - JSON
//!   PRI   facility 13, log audit, and severity 4, warning; 5, notice, for what is
//!         over (host_heard)
//!   KIND  such as ungranted_login
//!   JSON  the alert as canonical proto3 JSON, its time that of the alert
//! ```
//!
//! A log that takes nothing over its Unix socket is tried again. UDP knows of no
//! answer: what the network loses is lost there, and stands in the collector.

use std::{fmt, net::SocketAddr, path::PathBuf, process, str::FromStr};

use auditty_proto::{
    json,
    names::ShortName,
    v1::{self, AlertKind},
};
use tokio::net::{UdpSocket, UnixDatagram};

use super::{
    AlarmError, Destination,
    deliver::{Undelivered, Way},
    filter,
};

/// Facility "log audit".
const FACILITY: u8 = 13;
const WARNING: u8 = 4;
const NOTICE: u8 = 5;

/// Where a system's log listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyslogAddress {
    /// A Unix datagram socket.
    Unix(PathBuf),
    /// UDP.
    Udp(SocketAddr),
}

impl FromStr for SyslogAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || "must be \"unix:/dev/log\", or \"udp:ADDRESS:PORT\"".to_owned();
        match text.split_once(':') {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(("udp", address)) => address.parse().map(Self::Udp).map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for SyslogAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
            Self::Udp(address) => write!(formatter, "udp:{address}"),
        }
    }
}

/// A system's log that alerts go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyslogTarget {
    /// Where it listens.
    pub address: SyslogAddress,
    /// Which alerts, as for ListAlerts.
    pub filter: String,
}

impl SyslogTarget {
    pub(super) fn load(&self) -> Result<Destination, AlarmError> {
        let name = format!("syslog {}", self.address);
        Ok(Destination {
            filter: filter(&name, &self.filter)?,
            name,
            way: Way::Syslog(Syslog {
                address: self.address.clone(),
                collector: hostname(),
            }),
        })
    }
}

/// A system's log.
pub(super) struct Syslog {
    address: SyslogAddress,
    /// What this machine calls itself.
    collector: String,
}

impl Syslog {
    pub(super) async fn send(&self, alerts: &[v1::Alert]) -> Result<(), Undelivered> {
        let failed =
            |error: std::io::Error| Undelivered::Passing(format!("{}: {error}", self.address));
        match &self.address {
            SyslogAddress::Unix(path) => {
                let socket = UnixDatagram::unbound().map_err(failed)?;
                socket.connect(path).map_err(failed)?;
                for alert in alerts {
                    let line = self.line(alert)?;
                    socket.send(line.as_bytes()).await.map_err(failed)?;
                }
            }
            SyslogAddress::Udp(address) => {
                let any = match address {
                    SocketAddr::V4(_) => "0.0.0.0:0",
                    SocketAddr::V6(_) => "[::]:0",
                };
                let socket = UdpSocket::bind(any).await.map_err(failed)?;
                for alert in alerts {
                    let line = self.line(alert)?;
                    let sent = socket.send_to(line.as_bytes(), address).await;
                    sent.map_err(failed)?;
                }
            }
        }
        Ok(())
    }

    fn line(&self, alert: &v1::Alert) -> Result<String, Undelivered> {
        let json = json::to_string(alert).map_err(|e| Undelivered::Refused(e.to_string()))?;
        let severity = match alert.kind() {
            AlertKind::HostHeard | AlertKind::HookMended => NOTICE,
            _ => WARNING,
        };
        let time = alert.time.as_ref();
        let time = time.and_then(auditty_proto::convert::from_timestamp);
        // RFC 5424 has microseconds at most.
        let time = time.unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%S%.6fZ");
        Ok(format!(
            "<{}>1 {time} {} auditty {} {} - {json}",
            FACILITY * 8 + severity,
            self.collector,
            process::id(),
            alert.kind().short_name(),
        ))
    }
}

/// This machine's name as RFC 5424 has it: printable ASCII, at most 255 characters,
/// `-` where there is none.
fn hostname() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    let name = name.to_string_lossy().into_owned();
    let name: String = name
        .chars()
        .filter(char::is_ascii_graphic)
        .take(255)
        .collect();
    match name.is_empty() {
        true => "-".to_owned(),
        false => name,
    }
}
