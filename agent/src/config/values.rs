//! One value each: from text to what is meant, or what is accepted instead.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;

use super::error::{ConfigError, Source};
use super::places::{Address, ClientTls};
use super::raw::Text;
use super::units;

impl Source<'_> {
    /// One of `choices`; the first is the default.
    pub(super) fn choice<T: Copy, const N: usize>(
        &self,
        key: &str,
        text: Text,
        choices: &[(&str, T); N],
    ) -> Result<T, ConfigError> {
        const { assert!(N >= 2) };
        let [(_, default), ..] = choices.as_slice() else {
            return Err(self.rejected(key, 0..0, "nothing"));
        };
        let Some(text) = text else {
            return Ok(*default);
        };
        let named = choices.iter().find(|(name, _)| name == text.get_ref());
        named.map(|(_, value)| *value).ok_or_else(|| {
            let names = choices.iter().map(|(name, _)| format!("\"{name}\""));
            let names: Vec<String> = names.collect();
            let last = names.last().map_or("", String::as_str);
            let others = names.get(..N - 1).unwrap_or_default().join(", ");
            self.rejected(key, text.span(), format_args!("{others} or {last}"))
        })
    }

    /// An absolute path.
    pub(super) fn path(
        &self,
        key: &str,
        text: Text,
        default: &str,
    ) -> Result<PathBuf, ConfigError> {
        let (text, span) = text_or(text, default);
        let path = PathBuf::from(text);
        match path.is_absolute() {
            true => Ok(path),
            false => Err(self.rejected(key, span, "an absolute path")),
        }
    }

    /// A duration within `range`.
    pub(super) fn duration(
        &self,
        key: &str,
        text: Text,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Result<Duration, ConfigError> {
        let Some(text) = text else { return Ok(default) };
        units::parse_duration(text.get_ref())
            .filter(|duration| range.contains(duration))
            .ok_or_else(|| {
                let (from, to) = (
                    units::show_duration(*range.start()),
                    units::show_duration(*range.end()),
                );
                self.rejected(
                    key,
                    text.span(),
                    format_args!("{}, from {from} to {to}", units::DURATION),
                )
            })
    }

    /// A size in bytes within `range`.
    pub(super) fn size(
        &self,
        key: &str,
        text: Text,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> Result<u64, ConfigError> {
        let Some(text) = text else { return Ok(default) };
        units::parse_size(text.get_ref())
            .filter(|size| range.contains(size))
            .ok_or_else(|| {
                let (from, to) = (
                    units::show_size(*range.start()),
                    units::show_size(*range.end()),
                );
                self.rejected(
                    key,
                    text.span(),
                    format_args!("{}, from {from} to {to}", units::SIZE),
                )
            })
    }

    /// A size that fits 32 bits, by its range.
    pub(super) fn size_u32(
        &self,
        key: &str,
        text: Text,
        default: u32,
        range: RangeInclusive<u32>,
    ) -> Result<u32, ConfigError> {
        let range = u64::from(*range.start())..=u64::from(*range.end());
        let size = self.size(key, text, u64::from(default), range)?;
        Ok(u32::try_from(size).unwrap_or(u32::MAX))
    }

    /// The size of a kernel ring buffer.
    pub(super) fn ring_size(
        &self,
        key: &str,
        text: Text,
        default: u32,
    ) -> Result<u32, ConfigError> {
        let span = text.as_ref().map_or(0..0, Spanned::span);
        let size = self.size_u32(key, text, default, 256 << 10..=1 << 30)?;
        match size.is_power_of_two() {
            true => Ok(size),
            false => Err(self.rejected(key, span, "a power of two, from 256 KiB to 1 GiB")),
        }
    }

    /// An `http://` or `https://` URL.
    pub(super) fn http_url(&self, key: &str, url: Spanned<String>) -> Result<String, ConfigError> {
        match url
            .get_ref()
            .strip_prefix("http://")
            .or(url.get_ref().strip_prefix("https://"))
        {
            Some(rest) if !rest.is_empty() => Ok(url.into_inner()),
            _ => Err(self.rejected(key, url.span(), "\"http://host:port\" or \"https://host\"")),
        }
    }

    /// Where a collector elsewhere is reached.
    pub(super) fn remote_address(
        &self,
        key: &str,
        text: Spanned<String>,
    ) -> Result<Address, ConfigError> {
        let host = text
            .get_ref()
            .strip_prefix("http://")
            .filter(|host| !host.is_empty());
        let secured = text
            .get_ref()
            .strip_prefix("https://")
            .map(|authority| authority.trim_end_matches('/'))
            .filter(|authority| !authority.is_empty() && !authority.contains('/'));
        match (unix_path(text.get_ref()), secured, host) {
            (Some(path), ..) => Ok(Address::Unix(path)),
            (None, Some(authority), _) => {
                Ok(Address::Https(authority.to_owned(), ClientTls::default()))
            }
            (None, None, Some(_)) => Ok(Address::Http(text.into_inner())),
            (None, None, None) => Err(self.rejected(
                key,
                text.span(),
                "\"https://host:port\", \"http://host:port\" or \"unix:/path\"",
            )),
        }
    }

    /// Where the embedded collector listens. It asks nobody who they are, so
    /// it stays on this host.
    pub(super) fn listen_address(
        &self,
        key: &str,
        text: Spanned<String>,
    ) -> Result<Address, ConfigError> {
        let tcp = text
            .get_ref()
            .parse::<SocketAddr>()
            .ok()
            .filter(|address| address.ip().is_loopback());
        match (unix_path(text.get_ref()), tcp) {
            (Some(path), _) => Ok(Address::Unix(path)),
            (None, Some(address)) => Ok(Address::Tcp(address)),
            (None, None) => Err(self.rejected(
                key,
                text.span(),
                "\"unix:/path\" or a loopback \"127.0.0.1:port\"",
            )),
        }
    }
}

/// The text and its place, or the default.
pub(super) fn text_or(text: Text, default: impl Display) -> (String, Range<usize>) {
    match text {
        Some(text) => {
            let span = text.span();
            (text.into_inner(), span)
        }
        None => (default.to_string(), 0..0),
    }
}

fn unix_path(address: &str) -> Option<PathBuf> {
    let path = PathBuf::from(address.strip_prefix("unix:")?);
    path.is_absolute().then_some(path)
}
