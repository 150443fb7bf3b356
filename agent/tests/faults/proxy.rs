//! A proxy in front of an S3 server that does to requests what networks and
//! servers in trouble do.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The server is not asked; this status and code come back.
    Answer(u16, &'static str),
    /// The connection breaks before the server has the request.
    Reset,
    /// The server does it; the connection breaks before its answer.
    LoseAnswer,
    /// A bit of the body is another one on arrival.
    Flip,
    /// Nothing comes back.
    Hang,
}

/// A running proxy. Requests that nothing is planned for pass.
pub struct Proxy {
    /// `http://127.0.0.1:port`.
    pub endpoint: String,
    plan: Arc<Mutex<VecDeque<Fault>>>,
}

impl Proxy {
    /// Stands before `upstream`, `http://host:port`.
    pub async fn start(upstream: &str) -> Self {
        let upstream = upstream.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let plan: Arc<Mutex<VecDeque<Fault>>> = Arc::default();
        let planned = Arc::clone(&plan);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (upstream, planned) = (upstream.clone(), Arc::clone(&planned));
                tokio::spawn(async move {
                    // A client that goes away is none of the proxy's troubles.
                    let _ = pass(client, &upstream, &planned).await;
                });
            }
        });
        Self { endpoint, plan }
    }

    /// The next puts meet these, one each.
    pub fn plan(&self, faults: &[Fault]) {
        self.plan.lock().unwrap().extend(faults);
    }

    /// Whether every planned fault has happened.
    pub fn is_through(&self) -> bool {
        self.plan.lock().unwrap().is_empty()
    }
}

async fn pass(
    mut client: TcpStream,
    upstream: &str,
    plan: &Mutex<VecDeque<Fault>>,
) -> std::io::Result<()> {
    let (head, mut body) = read_request(&mut client).await?;
    let fault = match head.starts_with("PUT ") {
        true => plan.lock().unwrap().pop_front(),
        false => None,
    };
    match fault {
        Some(Fault::Answer(status, code)) => {
            let xml = format!("<Error><Code>{code}</Code><Message>planned</Message></Error>");
            let answer = format!(
                "HTTP/1.1 {status} Planned\r\nContent-Type: application/xml\r\n\
                 Connection: close\r\nContent-Length: {}\r\n\r\n{xml}",
                xml.len()
            );
            return client.write_all(answer.as_bytes()).await;
        }
        Some(Fault::Reset) => return Ok(()),
        Some(Fault::Hang) => {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            return Ok(());
        }
        Some(Fault::Flip) => {
            if let Some(byte) = body.last_mut() {
                *byte ^= 1;
            }
        }
        Some(Fault::LoseAnswer) | None => {}
    }
    let mut server = TcpStream::connect(upstream).await?;
    // The answer then ends with the connection.
    let head = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    server.write_all(head.as_bytes()).await?;
    server.write_all(&body).await?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).await?;
    match fault {
        Some(Fault::LoseAnswer) => Ok(()),
        _ => client.write_all(&answer).await,
    }
}

async fn read_request(client: &mut TcpStream) -> std::io::Result<(String, Vec<u8>)> {
    let mut read = Vec::new();
    let end = loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if client.read_buf(&mut read).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    };
    let mut body = read.split_off(end);
    let head = String::from_utf8_lossy(&read).into_owned();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    while body.len() < length.unwrap_or(0) {
        if client.read_buf(&mut body).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok((head, body))
}
