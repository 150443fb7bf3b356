//! An S3 server in the test's own process, with its objects in a folder.

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::S3;

pub const ID: &str = "id";
pub const SECRET: &str = "secret";

pub struct Server {
    pub s3: S3,
    /// Where the objects are, until the test ends.
    _folder: TempDir,
}

/// Serves one empty bucket, to who has [`ID`] and [`SECRET`].
pub async fn start() -> Server {
    let folder = tempfile::tempdir().unwrap();
    let bucket = "recordings";
    std::fs::create_dir(folder.path().join(bucket)).unwrap();
    let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder.path()).unwrap());
    builder.set_auth(SimpleAuth::from_single(ID, SECRET));
    let service = builder.build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let server = auto::Builder::new(TokioExecutor::new());
        while let Ok((client, _)) = listener.accept().await {
            let connection = server.serve_connection(TokioIo::new(client), service.clone());
            tokio::spawn(connection.into_owned());
        }
    });
    Server {
        s3: S3 {
            endpoint,
            bucket: bucket.to_owned(),
        },
        _folder: folder,
    }
}
