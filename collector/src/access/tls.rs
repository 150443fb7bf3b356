//! TLS for TCP listeners. Its files are looked at every few seconds: a renewed
//! certificate, another authority or revocation list holds for new connections,
//! without a restart; files that are wrong are reported and change nothing.
//! Sessions are not resumed, so that every connection is verified anew, and the
//! server ends connections that are an hour old.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier},
};
use rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject,
};
use tokio_util::sync::CancellationToken;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Where keys and certificates are, all PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, followed by those between it and its root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Authorities whose client certificates are taken; without it, none are.
    pub client_ca: Option<PathBuf>,
    /// Revocation lists of those authorities.
    pub client_crl: Option<PathBuf>,
}

/// What is wrong with the files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path}: {reason}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// The server's side of TLS.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    current: RwLock<(Contents, Arc<ServerConfig>)>,
}

/// What was in the files.
#[derive(Debug, PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
    client_crl: Option<Vec<u8>>,
}

impl Tls {
    /// Reads the files.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let contents = Contents::read(&files)?;
        let config = contents.config(&files)?;
        Ok(Self {
            files,
            current: RwLock::new((contents, Arc::new(config))),
        })
    }

    /// What holds for the next connection.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&current.1)
    }

    /// Reads the files again; says whether they are other ones now.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let contents = Contents::read(&self.files)?;
        {
            let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
            if current.0 == contents {
                return Ok(false);
            }
        }
        let config = Arc::new(contents.config(&self.files)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = (contents, config);
        Ok(true)
    }

    /// Reads the files whenever they change, until `shutdown`.
    pub(crate) async fn watch(&self, shutdown: &CancellationToken) {
        let mut trouble = String::new();
        while shutdown
            .run_until_cancelled(tokio::time::sleep(LOOK))
            .await
            .is_some()
        {
            match self.reload() {
                Ok(true) => tracing::info!("new TLS files are in use"),
                Ok(false) => {}
                Err(error) if error.to_string() != trouble => {
                    tracing::error!("the TLS files are not taken over: {error}");
                    trouble = error.to_string();
                    continue;
                }
                Err(_) => continue,
            }
            trouble.clear();
        }
    }
}

impl Contents {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let read = |path: &Path| {
            fs::read(path).map_err(|source| TlsError::Read {
                path: path.to_owned(),
                source,
            })
        };
        Ok(Self {
            certificate: read(&files.certificate)?,
            key: read(&files.key)?,
            client_ca: files.client_ca.as_deref().map(read).transpose()?,
            client_crl: files.client_crl.as_deref().map(read).transpose()?,
        })
    }

    fn config(&self, files: &TlsFiles) -> Result<ServerConfig, TlsError> {
        let wrong = |path: &Path, reason: String| TlsError::Content {
            path: path.to_owned(),
            reason,
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(&files.certificate, error.to_string()))?;
        let builder = match (&files.client_ca, &self.client_ca) {
            (Some(path), Some(pem)) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path, pem)? {
                    let added = roots.add(certificate);
                    added.map_err(|error| wrong(path, error.to_string()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
                    .with_crls(self.revocations(files)?)
                    // People come with tokens.
                    .allow_unauthenticated()
                    .build()
                    .map_err(|error| match (&error, &files.client_crl) {
                        (VerifierBuilderError::InvalidCrl(_), Some(list)) => {
                            wrong(list, format!("{error} (it must be a list of version 2)"))
                        }
                        _ => wrong(path, error.to_string()),
                    })?;
                builder.with_client_cert_verifier(verifier)
            }
            _ => builder.with_no_client_auth(),
        };
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| wrong(&files.key, format!("no private key in PEM: {error}")))?;
        let mut config = builder
            .with_single_cert(certificates(&files.certificate, &self.certificate)?, key)
            .map_err(|error| wrong(&files.certificate, error.to_string()))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    fn revocations(
        &self,
        files: &TlsFiles,
    ) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
        let (Some(path), Some(pem)) = (&files.client_crl, &self.client_crl) else {
            return Ok(Vec::new());
        };
        CertificateRevocationListDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|error| TlsError::Content {
                path: path.clone(),
                reason: error.to_string(),
            })
    }
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |reason: String| TlsError::Content {
        path: path.to_owned(),
        reason,
    };
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(error.to_string()))?;
    match certificates.is_empty() {
        true => Err(wrong("no certificate in PEM".to_owned())),
        false => Ok(certificates),
    }
}
