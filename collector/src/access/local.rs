//! Which user of this machine has the other end of a loopback connection, as
//! the kernel's table of sockets (`/proc/net/tcp`, `/proc/net/tcp6`) says it.

use std::{
    fs,
    io::{self, BufRead, BufReader},
    net::{IpAddr, SocketAddr},
};

/// The uid that made the socket whose own address is `peer` and whose other end
/// is `own`; `None` where there is none.
pub(super) fn uid(peer: SocketAddr, own: SocketAddr) -> Option<u32> {
    let table = match peer {
        SocketAddr::V4(_) => "/proc/net/tcp",
        SocketAddr::V6(_) => "/proc/net/tcp6",
    };
    find(
        fs::File::open(table).ok()?,
        &format!("{} {}", shown(peer), shown(own)),
    )
}

/// One line a socket: number, own address, other address, state, queues, timer,
/// retransmits, uid.
fn find(table: impl io::Read, ends: &str) -> Option<u32> {
    for line in BufReader::new(table).lines() {
        let line = line.ok()?;
        let mut words = line.split_ascii_whitespace().skip(1);
        let found = format!("{} {}", words.next()?, words.next()?);
        if found == ends {
            return words.nth(4)?.parse().ok();
        }
    }
    None
}

/// As the table has it: the address in words of the machine's byte order.
fn shown(address: SocketAddr) -> String {
    let bytes = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let words = bytes.chunks(4).map(|word| {
        let word = word.try_into().map_or(0, u32::from_ne_bytes);
        format!("{word:08X}")
    });
    format!("{}:{:04X}", words.collect::<String>(), address.port())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_other_end_of_a_loopback_connection_is_known() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                continue;
            };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (server, peer) = listener.accept().unwrap();
            let found = uid(peer, server.local_addr().unwrap());
            assert_eq!(found, Some(nix::unistd::geteuid().as_raw()));
            assert_eq!(
                uid(server.local_addr().unwrap(), server.local_addr().unwrap()),
                None
            );
            drop(client);
        }
    }
}
