//! Where sshd's own program calls `read` and `write`.
//!
//! The calls go through the table of imported functions: directly, or by a stub
//! that jumps there. The program's instructions are decoded from the beginning
//! of its code, so that a probe is only ever set on the beginning of one.

use std::{fs, os::unix::fs::MetadataExt as _, path::PathBuf};

use iced_x86::{Code, Decoder, DecoderOptions, Instruction};
use object::{
    Object as _, ObjectSection as _, ObjectSymbol as _, ObjectSymbolTable as _, RelocationTarget,
};

/// Where distributions have the programs that serve connections: all of sshd
/// before OpenSSH 9.8, and its second part since.
const PROGRAMS: [&str; 6] = [
    "/usr/sbin/sshd",
    "/usr/lib/openssh/sshd-session",
    "/usr/libexec/openssh/sshd-session",
    "/usr/lib/ssh/sshd-session",
    "/usr/libexec/sshd-session",
    "/usr/local/sbin/sshd",
];

/// Longer is no sshd.
const MAX_PROGRAM: u64 = 64 << 20;

/// A call, by positions in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The file.
    pub program: PathBuf,
    /// The calling instruction.
    pub call: u64,
    /// The one behind.
    pub behind: u64,
    /// `write`, not `read`.
    pub writes: bool,
}

/// The programs that are there, and which files they are: device and inode.
pub fn programs() -> Vec<(&'static str, u64, u64)> {
    let identity = |path: &&'static str| {
        let file = fs::metadata(path).ok()?;
        Some((*path, file.dev(), file.ino()))
    };
    PROGRAMS.iter().filter_map(identity).collect()
}

/// All calls in all programs of sshd on this host; or why there are none.
pub fn sites() -> Result<Vec<Site>, String> {
    let mut sites = Vec::new();
    for program in PROGRAMS
        .iter()
        .map(PathBuf::from)
        .filter(|path| path.exists())
    {
        let found =
            sites_in(&program).map_err(|reason| format!("{}: {reason}", program.display()))?;
        sites.extend(found);
    }
    if sites.is_empty() {
        return Err("there is no sshd that calls read and write where it can be probed".to_owned());
    }
    Ok(sites)
}

fn sites_in(program: &PathBuf) -> Result<Vec<Site>, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let size = fs::metadata(program).map_err(|e| text(&e))?.len();
    if size > MAX_PROGRAM {
        return Err("it is too large".to_owned());
    }
    let data = fs::read(program).map_err(|e| text(&e))?;
    let file = object::File::parse(&*data).map_err(|e| text(&e))?;
    if file.architecture() != object::Architecture::X86_64 {
        return Err("it is not for x86-64".to_owned());
    }
    let imports = Imports::of(&file);
    let mut sites = Vec::new();
    for section in file
        .sections()
        .filter(|section| section.name() == Ok(".text"))
    {
        let (Ok(code), Some((offset, _))) = (section.data(), section.file_range()) else {
            continue;
        };
        let start = section.address();
        let mut decoder = Decoder::with_ip(64, code, start, DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        while decoder.can_decode() {
            decoder.decode_out(&mut instruction);
            if let Some(writes) = imports.called_by(&file, &instruction) {
                let call = offset + (instruction.ip() - start);
                sites.push(Site {
                    program: program.clone(),
                    call,
                    behind: call + instruction.len() as u64,
                    writes,
                });
            }
        }
    }
    Ok(sites)
}

/// Where the addresses of imported functions are kept, and whether it is `write`.
struct Imports(Vec<(u64, bool)>);

impl Imports {
    fn of(file: &object::File<'_>) -> Self {
        let symbols = file.dynamic_symbol_table();
        let relocations = file.dynamic_relocations().into_iter().flatten();
        let imports = relocations.filter_map(|(address, relocation)| {
            let RelocationTarget::Symbol(index) = relocation.target() else {
                return None;
            };
            let symbol = symbols.as_ref()?.symbol_by_index(index).ok()?;
            let writes = match symbol.name().ok()?.split('@').next()? {
                // With a check of the buffer's size, where the compiler knows it.
                "read" | "__read_chk" => false,
                "write" => true,
                _ => return None,
            };
            Some((address, writes))
        });
        Self(imports.collect())
    }

    /// Whether the instruction calls one of them, and whether that is `write`.
    fn called_by(&self, file: &object::File<'_>, instruction: &Instruction) -> Option<bool> {
        let entry = match instruction.code() {
            Code::Call_rel32_64 => stub_target(file, instruction.near_branch_target())?,
            Code::Call_rm64 if instruction.is_ip_rel_memory_operand() => {
                instruction.ip_rel_memory_address()
            }
            _ => return None,
        };
        let found = self.0.iter().find(|(address, _)| *address == entry);
        found.map(|(_, writes)| *writes)
    }
}

/// The entry of the table of imports that the stub at an address jumps through.
fn stub_target(file: &object::File<'_>, address: u64) -> Option<u64> {
    const LONGEST_STUB: usize = 16;
    let section = file.sections().find(|section| {
        section.name().is_ok_and(|name| name.starts_with(".plt"))
            && address
                .checked_sub(section.address())
                .is_some_and(|at| at < section.size())
    })?;
    let at = usize::try_from(address - section.address()).ok()?;
    let code = section.data().ok()?.get(at..)?;
    let code = code.get(..LONGEST_STUB).unwrap_or(code);
    let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    let mut instruction = decoder.decode();
    if instruction.code() == Code::Endbr64 {
        instruction = decoder.decode();
    }
    (instruction.code() == Code::Jmp_rm64 && instruction.is_ip_rel_memory_operand())
        .then(|| instruction.ip_rel_memory_address())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calls_of_this_hosts_sshd() {
        match sites() {
            Ok(sites) => {
                assert!(sites.iter().any(|site| site.writes));
                assert!(sites.iter().any(|site| !site.writes));
            }
            Err(reason) => println!("SKIPPED the_calls_of_this_hosts_sshd: {reason}"),
        }
    }
}
