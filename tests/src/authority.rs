//! [`Authority`]: certificates as `openssl` makes them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::scene::output;

/// A certificate authority in a folder.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
}

impl Authority {
    /// A new one.
    pub fn new(folder: PathBuf) -> Result<Self> {
        fs::create_dir_all(folder.join("issued"))?;
        fs::write(folder.join("index.txt"), "")?;
        fs::write(folder.join("number"), "01\n")?;
        fs::write(
            folder.join("ca.conf"),
            "[ca]\ndefault_ca = it\n[it]\ndatabase = index.txt\nnew_certs_dir = issued\n\
             rand_serial = yes\ncertificate = ca.pem\nprivate_key = ca.key\ndefault_md = sha256\n\
             default_days = 30\ndefault_crl_days = 30\nunique_subject = no\npolicy = any\n\
             copy_extensions = copy\ncrlnumber = number\ncrl_extensions = list\n\
             [list]\nauthorityKeyIdentifier = keyid\n[any]\ncommonName = supplied\n",
        )?;
        let authority = Self { folder };
        authority.openssl(
            "req -x509 -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
             -subj /CN=authority -addext keyUsage=critical,keyCertSign,cRLSign \
             -keyout ca.key -out ca.pem",
        )?;
        authority.revoked()?;
        Ok(authority)
    }

    /// Its certificate.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Certificate and key for a name, such as `DNS:localhost`.
    pub fn issue(&self, name: &str, alternative: &str) -> Result<(PathBuf, PathBuf)> {
        self.openssl(&format!(
            "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} \
             -addext subjectAltName={alternative} -keyout {name}.key -out {name}.csr"
        ))?;
        self.openssl(&format!(
            "ca -config ca.conf -batch -notext -in {name}.csr -out {name}.pem"
        ))?;
        let file = |ending: &str| self.folder.join(format!("{name}.{ending}"));
        Ok((file("pem"), file("key")))
    }

    /// Takes a certificate back; the list says so from now on.
    pub fn revoke(&self, certificate: &Path) -> Result<()> {
        let certificate = certificate.display();
        self.openssl(&format!("ca -config ca.conf -revoke {certificate}"))?;
        self.revoked().map(|_| ())
    }

    /// The list of what it took back, made anew.
    pub fn revoked(&self) -> Result<PathBuf> {
        // Whole or not there: who reads it may do so at any moment.
        self.openssl("ca -config ca.conf -gencrl -out crl.new")?;
        let list = self.folder.join("crl.pem");
        fs::rename(self.folder.join("crl.new"), &list).context("the revocation list")?;
        Ok(list)
    }

    fn openssl(&self, arguments: &str) -> Result<()> {
        let mut command = Command::new("openssl");
        command.args(arguments.split_whitespace());
        output(command.current_dir(&self.folder)).map(|_| ())
    }
}
