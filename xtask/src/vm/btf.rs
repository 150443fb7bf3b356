//! What the kernel programs rely on, checked against each kernel of the matrix
//! without booting it: its BTF is in the packaged image.
//!
//! A bzImage says itself where its payload is (the boot protocol's
//! `setup_sects`, `payload_offset` and `payload_length`,
//! <https://docs.kernel.org/arch/x86/boot.html>); the payload is a compressed
//! ELF file with the section `.BTF`.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use super::kernels::MATRIX;
use crate::{report::Report, workspace};

/// Bytes at the start of a compressed payload, the program that unpacks it, and
/// how many bytes the kernel's build appends to it: the unpacked size, which
/// gzip's own format ends with anyway.
const FORMATS: [(&[u8], &str, usize); 4] = [
    (&[0x02, 0x21, 0x4c, 0x18], "lz4", 4),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], "xz", 4),
    (&[0x28, 0xb5, 0x2f, 0xfd], "zstd", 4),
    (&[0x1f, 0x8b], "gzip", 0),
];

/// Runs `auditty-agent check --btf` on each kernel.
pub fn check(report: &mut Report) {
    let mut checked = Vec::new();
    for kernel in &MATRIX {
        let image = match kernel.image() {
            Ok(image) if checked.contains(&image.version) => continue,
            Ok(image) => image,
            Err(error) => {
                report.skip(&format!("btf {}", kernel.name), &format!("{error:#}"));
                continue;
            }
        };
        let name = format!("btf {}", image.version);
        let agent = workspace::root().map(|root| root.join("target/release/auditty-agent"));
        match agent.and_then(|agent| Ok((agent, extract(&image.path)?))) {
            Ok((agent, btf)) => {
                report.check(&name, Command::new(agent).args(["check", "--btf"]).arg(btf))
            }
            Err(error) => report.fail(&name, &error),
        }
        checked.push(image.version);
    }
}

/// Writes a kernel's BTF beside its image, and gives the path.
fn extract(image: &Path) -> Result<PathBuf> {
    let bytes = fs::read(image).with_context(|| format!("could not read {}", image.display()))?;
    let (payload, program) = payload(&bytes)
        .with_context(|| format!("{} is no bzImage with a known payload", image.display()))?;
    let packed = image.with_file_name("payload");
    let vmlinux = image.with_file_name("vmlinux");
    let btf = image.with_file_name("btf");
    fs::write(&packed, payload).context("could not write the payload")?;
    let unpack = Command::new(program)
        .arg("-dc")
        .stdin(File::open(&packed).context("could not open the payload")?)
        .stdout(File::create(&vmlinux).context("could not create vmlinux")?)
        .stderr(Stdio::inherit())
        .status();
    let status = unpack.with_context(|| format!("{program} did not start"))?;
    ensure!(status.success(), "{program} ended with {status}");
    let mut dump = Command::new("objcopy");
    dump.arg("--dump-section")
        .arg(format!(".BTF={}", btf.display()));
    dump.arg(&vmlinux).arg("/dev/null");
    workspace::run(&mut dump, "take the BTF out of the kernel")?;
    for file in [&packed, &vmlinux] {
        fs::remove_file(file).with_context(|| format!("could not remove {}", file.display()))?;
    }
    Ok(btf)
}

/// The compressed kernel in a bzImage, and what unpacks it.
fn payload(image: &[u8]) -> Option<(&[u8], &'static str)> {
    let word = |at: usize| -> Option<usize> {
        let bytes = image.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let sectors = usize::from(*image.get(0x1f1)?);
    let begin = (sectors + 1) * 512 + word(0x248)?;
    let payload = image.get(begin..begin + word(0x24c)?)?;
    let found = FORMATS
        .iter()
        .find(|(magic, ..)| payload.starts_with(magic));
    let (_, program, appended) = found?;
    Some((payload.get(..payload.len() - appended)?, program))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_is_found_by_the_header() {
        let mut image = vec![0; 2048];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248] = 16;
        image[0x24c] = 10;
        image[1040..1050].copy_from_slice(b"\x28\xb5\x2f\xfdabSIZE");
        assert_eq!(payload(&image), Some((&b"\x28\xb5\x2f\xfdab"[..], "zstd")));
        image[1040] = 0;
        assert_eq!(payload(&image), None);
        assert_eq!(payload(&image[..0x240]), None);
    }
}
