//! A proxy for HTTP that fails as it is told.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is passed on.
    None,
    /// It is answered with an S3 error.
    Status(u16, &'static str),
    /// The connection is reset before an answer.
    Reset,
    /// The connection is reset when half of the body has come.
    ResetMidBody,
    /// It is passed on, and the answer is lost.
    LoseAnswer,
    /// It is passed on after a while.
    Slow(Duration),
    /// It is never answered.
    Hang,
    /// It is passed on with another bit in its body.
    Flip,
}

/// Faults that the next puts meet, one each.
#[derive(Clone, Default)]
pub struct Plan(Arc<Mutex<VecDeque<Fault>>>);

impl Plan {
    pub fn add(&self, faults: &[Fault]) {
        self.0.lock().unwrap().extend(faults);
    }

    /// Whether all of them have happened.
    pub fn is_through(&self) -> bool {
        self.0.lock().unwrap().is_empty()
    }
}

/// Where the requests go, and how many there were.
pub struct Layer {
    pub endpoint: String,
    requests: Arc<AtomicUsize>,
}

struct Request {
    head: Vec<u8>,
    body: Vec<u8>,
}

impl Layer {
    /// A layer whose puts meet what is planned.
    pub async fn planned(endpoint: &str) -> (Self, Plan) {
        let plan = Plan::default();
        let planned = plan.clone();
        let layer = Self::deciding(endpoint, move |method, _, _| {
            let next = || planned.0.lock().unwrap().pop_front();
            match method {
                "PUT" => next().unwrap_or(Fault::None),
                _ => Fault::None,
            }
        });
        (layer.await, plan)
    }

    /// A layer in front of `endpoint`; `fault` decides by path and number.
    pub async fn start(
        endpoint: &str,
        fault: impl Fn(&str, usize) -> Fault + Send + Sync + 'static,
    ) -> Self {
        Self::deciding(endpoint, move |_, path, number| fault(path, number)).await
    }

    async fn deciding(
        endpoint: &str,
        fault: impl Fn(&str, &str, usize) -> Fault + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let upstream = endpoint.trim_start_matches("http://").to_owned();
        let requests = Arc::new(AtomicUsize::new(0));
        let (count, fault) = (Arc::clone(&requests), Arc::new(fault));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (upstream, count, fault) =
                    (upstream.clone(), Arc::clone(&count), Arc::clone(&fault));
                tokio::spawn(async move {
                    // A client that goes away is no matter.
                    let _ = serve(client, &upstream, &count, &*fault).await;
                });
            }
        });
        Self {
            endpoint: format!("http://127.0.0.1:{port}"),
            requests,
        }
    }

    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

/// One request on one connection.
async fn serve(
    mut client: TcpStream,
    upstream: &str,
    count: &AtomicUsize,
    fault: &(dyn Fn(&str, &str, usize) -> Fault + Send + Sync),
) -> io::Result<()> {
    let (mut head, mut body) = head(&mut client).await?;
    let text = String::from_utf8_lossy(&head).into_owned();
    let mut words = text.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap_or_default());
    let fault = fault(method, path, count.fetch_add(1, Ordering::Relaxed));
    let length = header(&text, "content-length")
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    if header(&text, "expect").is_some() {
        client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    let wanted = match fault {
        Fault::ResetMidBody => length / 2,
        _ => length,
    };
    while body.len() < wanted {
        let mut piece = vec![0; 16 << 10];
        let read = client.read(&mut piece).await?;
        if read == 0 {
            return Ok(());
        }
        body.extend_from_slice(&piece[..read]);
    }
    match fault {
        Fault::Reset | Fault::ResetMidBody => return reset(client),
        Fault::Status(status, code) => return refuse(client, status, code).await,
        Fault::Hang => {
            tokio::time::sleep(Duration::from_secs(600)).await;
            return Ok(());
        }
        Fault::Slow(pause) => tokio::time::sleep(pause).await,
        Fault::Flip => {
            if let Some(byte) = body.last_mut() {
                *byte ^= 1;
            }
        }
        Fault::None | Fault::LoseAnswer => {}
    }
    head.truncate(head.len() - 2);
    head.extend_from_slice(b"connection: close\r\n\r\n");
    let answer = forward(upstream, Request { head, body }).await?;
    if matches!(fault, Fault::LoseAnswer) {
        return reset(client);
    }
    client.write_all(&answer).await?;
    client.shutdown().await
}

async fn forward(upstream: &str, request: Request) -> io::Result<Vec<u8>> {
    let is_head = request.head.starts_with(b"HEAD");
    let mut server = TcpStream::connect(upstream).await?;
    server.write_all(&request.head).await?;
    server.write_all(&request.body).await?;
    let (mut answer, mut rest) = head(&mut server).await?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    match header(&text, "content-length").and_then(|length| length.parse::<usize>().ok()) {
        Some(length) if !is_head => {
            while rest.len() < length {
                let mut piece = vec![0; 16 << 10];
                let read = server.read(&mut piece).await?;
                if read == 0 {
                    break;
                }
                rest.extend_from_slice(&piece[..read]);
            }
        }
        _ => {
            server.read_to_end(&mut rest).await?;
        }
    }
    if header(&text, "connection").is_none() {
        answer.truncate(answer.len() - 2);
        answer.extend_from_slice(b"connection: close\r\n\r\n");
    }
    answer.extend_from_slice(&rest);
    Ok(answer)
}

/// A head with its empty line, and what came behind it.
async fn head(stream: &mut TcpStream) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end {
            let rest = bytes.split_off(end + 4);
            return Ok((bytes, rest));
        }
        let mut piece = vec![0; 16 << 10];
        let read = stream.read(&mut piece).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&piece[..read]);
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.lines().skip(1);
    let mut fields = lines.filter_map(|line| line.split_once(':'));
    let found = fields.find(|(field, _)| field.eq_ignore_ascii_case(name))?;
    Some(found.1.trim())
}

fn reset(client: TcpStream) -> io::Result<()> {
    // Closing with a zero linger sends a reset.
    let client = client.into_std()?;
    client.set_nonblocking(false)?;
    let socket = nix::sys::socket::sockopt::Linger;
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    nix::sys::socket::setsockopt(&client, socket, &linger).map_err(Into::into)
}

async fn refuse(mut client: TcpStream, status: u16, code: &str) -> io::Result<()> {
    let body = format!("<Error><Code>{code}</Code><Message>a fault</Message></Error>");
    let answer = format!(
        "HTTP/1.1 {status} Fault\r\ncontent-type: application/xml\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    client.write_all(answer.as_bytes()).await?;
    client.shutdown().await
}
