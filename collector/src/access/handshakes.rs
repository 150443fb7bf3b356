//! Handshakes under way on one listener. Everybody is accepted at once: whoever
//! is slow waits for nobody, and nobody waits for them.
//!
//! At most [`MAX`] are unfinished. One more ends the oldest one of the address that
//! has most of them. So an address that has fewer than another one loses nothing,
//! whatever the other one does: a flood drives out itself. IPv6 addresses of one
//! /64 are one address, since one customer of a network has them all.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    net::{IpAddr, Ipv6Addr},
    time::Instant,
};

use tokio::task::{AbortHandle, JoinSet};

use super::tally::Tally;

/// Unfinished handshakes: half of the files that a program may have open where
/// nobody allows it more.
const MAX: usize = 512;
/// The part of an IPv6 address that says whose it is.
const NETWORK: u128 = u128::MAX << 64;

/// Each is a task of its own, and ends with `T`.
pub(super) struct Handshakes<T> {
    tasks: JoinSet<(u64, T)>,
    /// By their numbers: the oldest first.
    unfinished: BTreeMap<u64, (IpAddr, AbortHandle)>,
    /// How many each address has, never 0.
    counts: HashMap<IpAddr, usize>,
    begun: u64,
    dropped: Tally,
}

impl<T> Default for Handshakes<T> {
    fn default() -> Self {
        Self {
            tasks: JoinSet::new(),
            unfinished: BTreeMap::new(),
            counts: HashMap::new(),
            begun: 0,
            dropped: Tally::default(),
        }
    }
}

impl<T: Send + 'static> Handshakes<T> {
    /// Begins another one.
    pub(super) fn begin(
        &mut self,
        from: IpAddr,
        handshake: impl Future<Output = T> + Send + 'static,
    ) {
        let (number, from) = (self.begun, source(from));
        self.begun += 1;
        let task = self.tasks.spawn(async move { (number, handshake.await) });
        self.unfinished.insert(number, (from, task));
        *self.counts.entry(from).or_default() += 1;
        if self.unfinished.len() > MAX {
            self.drop_one();
        }
    }

    /// Drops the oldest one of the address that has most; of several such
    /// addresses, the oldest of all theirs.
    pub(super) fn drop_one(&mut self) {
        let most = self.counts.values().max().copied();
        let oldest = self
            .unfinished
            .iter()
            .find(|(_, (from, _))| self.counts.get(from).copied() == most)
            .map(|(number, (from, _))| (*number, *from));
        let Some((number, from)) = oldest else {
            return;
        };
        if let Some(task) = self.forget(number) {
            task.abort();
        }
        if let Some(count) = self.dropped.add(Instant::now()) {
            tracing::warn!(
                peer = %from,
                count,
                "too many connections begin at once: unfinished handshakes were dropped, \
                 this address has most of them"
            );
        }
    }

    /// The next one that ends; `None` where none is under way.
    pub(super) async fn next(&mut self) -> Option<T> {
        loop {
            match self.tasks.join_next().await? {
                Ok((number, ended)) => {
                    self.forget(number);
                    return Some(ended);
                }
                // A dropped one was forgotten at once.
                Err(error) if error.is_cancelled() => {}
                Err(error) => {
                    tracing::error!("a handshake ended unexpectedly: {error}");
                    self.forget_ended();
                }
            }
        }
    }

    fn forget(&mut self, number: u64) -> Option<AbortHandle> {
        let (from, task) = self.unfinished.remove(&number)?;
        if let Entry::Occupied(mut count) = self.counts.entry(from) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        Some(task)
    }

    fn forget_ended(&mut self) {
        let ended = self.unfinished.iter();
        let ended = ended.filter(|(_, (_, task))| task.is_finished());
        let ended: Vec<_> = ended.map(|(number, _)| *number).collect();
        for number in ended {
            self.forget(number);
        }
    }
}

/// Whose an address is.
pub(super) fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// How many of each address are unfinished.
    fn count(handshakes: &Handshakes<&str>, from: &str) -> usize {
        let count = handshakes.counts.get(&source(address(from)));
        count.copied().unwrap_or_default()
    }

    #[tokio::test]
    async fn a_flood_drives_out_itself() {
        let mut handshakes = Handshakes::default();
        handshakes.begin(address("192.0.2.1"), pending());
        for _ in 0..3 * MAX {
            handshakes.begin(address("192.0.2.66"), pending());
        }
        handshakes.begin(address("192.0.2.2"), pending());
        assert_eq!(handshakes.unfinished.len(), MAX);
        assert_eq!(count(&handshakes, "192.0.2.1"), 1);
        assert_eq!(count(&handshakes, "192.0.2.2"), 1);
        assert_eq!(count(&handshakes, "192.0.2.66"), MAX - 2);
        // What is ready comes through.
        handshakes.begin(address("192.0.2.3"), ready("done"));
        assert_eq!(handshakes.next().await, Some("done"));
        assert_eq!(count(&handshakes, "192.0.2.3"), 0);
        assert_eq!(handshakes.unfinished.len(), MAX - 1);
    }

    #[tokio::test]
    async fn the_oldest_goes_where_all_have_as_many() {
        let mut handshakes: Handshakes<&str> = Handshakes::default();
        for number in 0..=MAX {
            let from = Ipv6Addr::from_bits((0x2001_0db8_u128 << 96) | ((number as u128) << 64));
            handshakes.begin(from.into(), pending());
        }
        assert_eq!(count(&handshakes, "2001:db8::"), 0);
        assert_eq!(count(&handshakes, "2001:db8:0:1::"), 1);
        // A whole /64 is one.
        handshakes.begin(address("2001:db8:0:1:ffff::9"), pending());
        assert_eq!(
            count(&handshakes, "2001:db8:0:1::"),
            1,
            "it lost its oldest"
        );
        assert_eq!(handshakes.unfinished.len(), MAX);
        handshakes.begin(address("::ffff:192.0.2.1"), pending());
        assert_eq!(count(&handshakes, "192.0.2.1"), 1);
    }

    async fn fails() -> &'static str {
        panic!("as a test of it")
    }

    #[tokio::test]
    async fn one_that_fails_leaves_nothing() {
        let mut handshakes: Handshakes<&str> = Handshakes::default();
        handshakes.begin(address("192.0.2.1"), fails());
        handshakes.begin(address("192.0.2.1"), ready("done"));
        assert_eq!(handshakes.next().await, Some("done"));
        assert_eq!(handshakes.next().await, None);
        assert!(handshakes.counts.is_empty() && handshakes.unfinished.is_empty());
    }
}
