//! `auditty bundle`: one session with everything that proves it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use auditty_recording::digest::Digest;
use auditty_recording::key::{ObjectName, SessionKey};
use auditty_recording::manifest::Manifest;
use auditty_recording::signature::{PublicKey, SigningKey};
use auditty_recording::store::{AnyStore, MAX_OBJECT_BYTES};
use auditty_recording::verify::{self, Known, Report, Scope};

use super::receipts;
use super::verify::{outcome, session_of, trusted, verified};
use crate::args::Bundle;
use crate::config::Config;
use crate::failure::{Failure, Result};
use crate::out;
use crate::source::store_failure;

const README: &str = include_str!("bundle_readme.txt");

/// Namespace of the signature over an archive's list of files.
const NAMESPACE: &str = "auditty-bundle@v1";

pub(super) async fn run(args: &Bundle, config: &Config) -> Result<()> {
    let report = pack(args, config).await.map_err(Failure::unchecked)?;
    for finding in &report.findings {
        out::warn(&format!("{}: {}", finding.object, finding.detail));
    }
    for problem in &report.unchecked {
        out::warn(&format!("not checked: {problem}"));
    }
    outcome(&report)
}

async fn pack(args: &Bundle, config: &Config) -> Result<Report> {
    let mut known = Known {
        keys: args.keys.as_deref().map(trusted).transpose()?,
        identities: config.keys.clone(),
        ..Known::default()
    };
    let signer = args.sign_with.as_deref().map(signing_key).transpose()?;
    let (store, session) = session_of(&args.session, config).await?;
    let scope = Scope::Session(session.clone());
    let receipts = match config.beside {
        Some(_) => Some(receipts::compare(config, &scope, None, &mut known).await?),
        None => None,
    };
    let report = verified(&store, &scope, &known).await?;
    let mut archive = Archive::create(&args.out, &session)?;
    let mut written = fill(&mut archive, &store, &session, args, &report).await;
    if let (Ok(()), Some((keys, receipts))) = (&written, &receipts) {
        written = add_receipts(&mut archive, keys, receipts);
    }
    let written = match written {
        Ok(()) => archive.finish(signer.as_ref()),
        Err(failure) => Err(failure),
    };
    if let Err(failure) = written {
        // Half an archive is none.
        let _ = std::fs::remove_file(&args.out);
        return Err(failure);
    }
    Ok(report)
}

async fn fill(
    archive: &mut Archive,
    store: &AnyStore,
    session: &SessionKey,
    args: &Bundle,
    report: &Report,
) -> Result<()> {
    let failed = |error| store_failure(&error);
    for key in verify::evidence(store, session).await.map_err(failed)? {
        match store.get(&key, MAX_OBJECT_BYTES).await {
            Ok(body) => archive.add(&key, &body)?,
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(failed(error)),
        }
    }
    let keys = match &args.keys {
        Some(path) => std::fs::read_to_string(path)?,
        None => verify::load_keys(store, session.host_id())
            .await
            .map_err(failed)?
            .allowed_signers(),
    };
    archive.add("allowed_signers", keys.as_bytes())?;
    if let Some(metadata) = metadata(store, session).await {
        archive.add("session.json", &metadata)?;
    }
    let json = serde_json::to_vec_pretty(report).map_err(Failure::error)?;
    archive.add("report.json", &json)?;
    archive.add("verify.sh", verify::SCRIPT.as_bytes())?;
    let readme = README
        .replace("{session}", &session.session_id().to_string())
        .replace("{host}", &url_name(session))
        .replace("{folder}", &session.to_string());
    archive.add("README.txt", readme.as_bytes())
}

fn add_receipts(
    archive: &mut Archive,
    keys: &[PublicKey],
    receipts: &[receipts::Checked],
) -> Result<()> {
    archive.add("collector_signers", receipts::signers(keys).as_bytes())?;
    for (number, receipt) in receipts.iter().enumerate() {
        let name = format!("receipts/{number:06}.json");
        archive.add(&name, receipt.signed.json.as_bytes())?;
        archive.add(&format!("{name}.sig"), receipt.signed.signature.as_bytes())?;
    }
    Ok(())
}

/// The host as it stands in object keys.
fn url_name(session: &SessionKey) -> String {
    let folder = session.to_string();
    let host = folder.split('/').nth(1).unwrap_or_default();
    host.trim_start_matches("host=").to_owned()
}

/// The session with its login and grant, from the manifest.
async fn metadata(store: &AnyStore, session: &SessionKey) -> Option<Vec<u8>> {
    let key = session.object(ObjectName::Manifest).to_string();
    let json = store.get(&key, MAX_OBJECT_BYTES).await.ok()?;
    let manifest = Manifest::from_json(&json).ok()?;
    serde_json::to_vec_pretty(&manifest.session).ok()
}

fn signing_key(path: &Path) -> Result<SigningKey> {
    let shown = path.display();
    let text = std::fs::read(path)
        .map_err(|error| Failure::error(format!("cannot read {shown}: {error}")))?;
    SigningKey::from_openssh(&text).map_err(|error| Failure::error(format!("{shown}: {error}")))
}

/// The archive being written, with the digests of what is in it.
struct Archive {
    tar: tar::Builder<Output>,
    folder: String,
    sums: String,
    path: String,
}

enum Output {
    Plain(File),
    Compressed(zstd::Encoder<'static, File>),
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.write(bytes),
            Self::Compressed(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(file) => file.flush(),
            Self::Compressed(encoder) => encoder.flush(),
        }
    }
}

impl Archive {
    fn create(path: &Path, session: &SessionKey) -> Result<Self> {
        let shown = path.display().to_string();
        let failed = |error: io::Error| Failure::error(format!("cannot create {shown}: {error}"));
        let compressed = match path.extension().and_then(|suffix| suffix.to_str()) {
            Some("zst") => true,
            Some("tar") => false,
            _ => return Err(Failure::usage("name the archive FILE.tar.zst or FILE.tar")),
        };
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(failed)?;
        let output = match compressed {
            true => Output::Compressed(zstd::Encoder::new(file, 0).map_err(failed)?),
            false => Output::Plain(file),
        };
        Ok(Self {
            tar: tar::Builder::new(output),
            folder: format!("auditty-{}", session.session_id()),
            sums: String::new(),
            path: shown,
        })
    }

    fn add(&mut self, name: &str, content: &[u8]) -> Result<()> {
        self.sums += &format!("{}  {name}\n", Digest::of(content));
        self.append(name, content)
    }

    fn append(&mut self, name: &str, content: &[u8]) -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        let path = format!("{}/{name}", self.folder);
        let written = self.tar.append_data(&mut header, path, content);
        written.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &io::Error) -> Failure {
        Failure::error(format!("cannot write {}: {error}", self.path))
    }

    /// Adds the list of files, signed where that is wanted.
    fn finish(mut self, signer: Option<&SigningKey>) -> Result<()> {
        let sums = std::mem::take(&mut self.sums);
        self.append("SHA256SUMS", sums.as_bytes())?;
        if let Some(signer) = signer {
            let signature = signer
                .sign(NAMESPACE, sums.as_bytes())
                .map_err(Failure::error)?;
            self.append("SHA256SUMS.sig", signature.as_bytes())?;
        }
        let Self { tar, path, .. } = self;
        let failed = |error| Failure::error(format!("cannot write {path}: {error}"));
        let file = match tar.into_inner().map_err(failed)? {
            Output::Plain(file) => file,
            Output::Compressed(encoder) => encoder.finish().map_err(failed)?,
        };
        file.sync_all().map_err(failed)
    }
}
