//! Who this host is: an id that stays the same over restarts and reboots.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use uuid::Uuid;

use super::sections::{Host, is_host_id};

/// systemd asks applications not to expose the machine id itself but a hash
/// keyed by the application (machine-id(5)).
const APPLICATION: &str = "auditty host id v1";

/// Half of a SHA-256, in hexadecimal: short in object keys, and no two hosts
/// share it.
const ID_BYTES: usize = 16;

/// Why the host's id could not be established.
#[derive(Debug, thiserror::Error)]
#[error("cannot {call} the host id in {}: {source}", path.display())]
pub struct HostIdError {
    call: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl Host {
    /// The host's id: the configured one, else a hash of the machine id, else
    /// one that is generated once and kept.
    pub fn id(&self) -> Result<String, HostIdError> {
        match &self.id {
            Some(id) => Ok(id.clone()),
            None => established(Path::new("/etc/machine-id"), &self.state_directory),
        }
    }

    /// What its administrator says of it.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// Where the agent keeps what it must remember.
    pub fn state_directory(&self) -> &Path {
        &self.state_directory
    }
}

fn established(machine_id: &Path, state_directory: &Path) -> Result<String, HostIdError> {
    // The file is empty, or says "uninitialized", in an image before its first boot.
    let machine_id = fs::read_to_string(machine_id).unwrap_or_default();
    if Uuid::try_parse(machine_id.trim()).is_ok_and(|id| !id.is_nil()) {
        let digest = digest(
            &SHA256,
            format!("{APPLICATION}\n{}", machine_id.trim()).as_bytes(),
        );
        return Ok(digest
            .as_ref()
            .iter()
            .take(ID_BYTES)
            .map(|byte| format!("{byte:02x}"))
            .collect());
    }
    kept(&state_directory.join("host-id"))
}

fn kept(path: &Path) -> Result<String, HostIdError> {
    let failed = |call| {
        move |source| HostIdError {
            call,
            path: path.to_owned(),
            source,
        }
    };
    match fs::read_to_string(path) {
        Ok(id) if is_host_id(id.trim()) => return Ok(id.trim().to_owned()),
        Ok(_) => return Err(failed("read")(io::Error::other("it is not a host id"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("read")(error)),
    }
    let id = Uuid::now_v7().simple().to_string();
    path.parent()
        .map_or(Ok(()), fs::create_dir_all)
        .map_err(failed("keep"))?;
    let unfinished = path.with_extension("new");
    fs::write(&unfinished, format!("{id}\n")).map_err(failed("keep"))?;
    fs::rename(&unfinished, path).map_err(failed("keep"))?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_id_gives_a_stable_id_that_does_not_show_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("machine-id");
        fs::write(&file, "0123456789abcdef0123456789abcdef\n").unwrap();
        let id = established(&file, folder.path()).unwrap();
        assert_eq!(id, established(&file, folder.path()).unwrap());
        assert!(is_host_id(&id) && id.len() == 32);
        assert!(!id.contains("0123456789abcdef"));
    }

    #[test]
    fn without_a_machine_id_one_is_generated_once() {
        let folder = tempfile::tempdir().unwrap();
        let (missing, state) = (folder.path().join("none"), folder.path().join("state"));
        let id = established(&missing, &state).unwrap();
        assert_eq!(id, established(&missing, &state).unwrap());
    }

    #[test]
    fn a_damaged_id_is_an_error_and_never_a_new_host() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("host-id"), "").unwrap();
        let error = established(&folder.path().join("none"), folder.path()).unwrap_err();
        assert!(error.to_string().contains("it is not a host id"), "{error}");
    }
}
