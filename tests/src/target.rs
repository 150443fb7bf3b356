//! [`Target`]: what forwards lead to.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
};

use anyhow::{Context as _, Result, ensure};

/// A TCP server on the loopback that takes [`ASKED`] bytes, gives
/// [`ANSWERED`] and closes. It lives as long as the test program.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its port.
    pub port: u16,
}

/// Bytes a client sends.
pub const ASKED: usize = 1_000;

/// Bytes it gets.
pub const ANSWERED: usize = 50_000;

impl Target {
    /// Starts it.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that goes away early shows in the test.
                thread::spawn(move || drop(answer(stream)));
            }
        });
        Ok(Self { port })
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

fn answer(mut stream: TcpStream) -> Result<()> {
    stream.read_exact(&mut [0; ASKED])?;
    stream.write_all(&[b'a'; ANSWERED])?;
    Ok(())
}

/// Asks a target, whatever lies between.
pub fn ask(mut stream: TcpStream) -> Result<()> {
    stream.write_all(&[b'q'; ASKED])?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("no answer")?;
    ensure!(answer.len() == ANSWERED, "{} bytes came", answer.len());
    Ok(())
}

/// Connects to a target through a SOCKS 5 proxy (RFC 1928) on the loopback.
pub fn through_socks(mut proxy: TcpStream, target: Target) -> Result<TcpStream> {
    let [high, low] = target.port.to_be_bytes();
    let (mut method, mut reply) = ([0; 2], [0; 10]);
    proxy.write_all(&[5, 1, 0])?;
    proxy.read_exact(&mut method)?;
    proxy.write_all(&[5, 1, 0, 1, 127, 0, 0, 1, high, low])?;
    proxy.read_exact(&mut reply)?;
    ensure!(method == [5, 0] && reply[1] == 0, "refused: {reply:?}");
    Ok(proxy)
}
