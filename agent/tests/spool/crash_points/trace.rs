//! What `strace -f -y -x` says about calls that change files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Calls to be traced.
pub const CALLS: &str = "openat,write,pwrite64,ftruncate,fallocate,fsync,fdatasync,rename,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,rmdir";

/// A call that changed a file below the folder, or made one durable.
#[derive(Clone, PartialEq, Eq)]
pub enum Call {
    Open { path: PathBuf, truncate: bool },
    Write { path: PathBuf, bytes: Vec<u8> },
    Truncate { path: PathBuf, length: usize },
    Sync { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf },
    Link { from: PathBuf, to: PathBuf },
    Remove { path: PathBuf },
    Folder { path: PathBuf },
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Open { path, truncate } => write!(f, "open {} {truncate}", path.display()),
            Self::Write { path, bytes } => write!(f, "write {} to {}", bytes.len(), path.display()),
            Self::Truncate { path, length } => write!(f, "truncate {} {length}", path.display()),
            Self::Sync { path } => write!(f, "sync {}", path.display()),
            Self::Rename { from, to } => write!(f, "rename {} {}", from.display(), to.display()),
            Self::Link { from, to } => write!(f, "link {} {}", from.display(), to.display()),
            Self::Remove { path } => write!(f, "remove {}", path.display()),
            Self::Folder { path } => write!(f, "mkdir {}", path.display()),
        }
    }
}

/// The calls of a log that concern `folder`, in the order of their ends.
pub fn read(log: &str, folder: &Path) -> Vec<Call> {
    let mut unfinished: HashMap<&str, &str> = HashMap::new();
    let mut calls = Vec::new();
    for line in log.lines() {
        let Some((pid, rest)) = line.split_once(' ') else {
            continue;
        };
        let rest = rest.trim_start();
        if let Some(begun) = rest.strip_suffix(" <unfinished ...>") {
            unfinished.insert(pid, begun);
            continue;
        }
        let whole = match rest.split_once(" resumed>") {
            Some((_, end)) => match unfinished.remove(pid) {
                Some(begun) => format!("{begun}{end}"),
                None => continue,
            },
            None => rest.to_owned(),
        };
        calls.extend(call(&whole).filter(|call| concerns(call, folder)));
    }
    calls
}

fn concerns(call: &Call, folder: &Path) -> bool {
    match call {
        Call::Open { path, .. }
        | Call::Write { path, .. }
        | Call::Truncate { path, .. }
        | Call::Sync { path }
        | Call::Remove { path }
        | Call::Folder { path } => path.starts_with(folder) && !path.ends_with("lock"),
        Call::Rename { to, .. } | Call::Link { to, .. } => to.starts_with(folder),
    }
}

fn call(line: &str) -> Option<Call> {
    let (name, rest) = line.split_once('(')?;
    // The result stands in a column of its own, where the call is short.
    let (arguments, result) = rest.rsplit_once(" = ")?;
    let arguments = arguments.trim_end().strip_suffix(')')?;
    if result.starts_with('-') {
        return None;
    }
    let texts = texts(arguments);
    let text = |number: usize| Some(path(texts.get(number)?));
    let descriptor = || {
        let (_, rest) = arguments.split_once('<')?;
        Some(PathBuf::from(rest.split_once('>')?.0))
    };
    Some(match name {
        "openat" => {
            if !arguments.contains("O_CREAT") {
                return None;
            }
            let truncate = arguments.contains("O_TRUNC");
            Call::Open {
                path: text(0)?,
                truncate,
            }
        }
        "write" => Call::Write {
            path: descriptor()?,
            bytes: texts.first()?.clone(),
        },
        "ftruncate" => {
            let length = arguments.rsplit_once(", ")?.1.parse().ok()?;
            Call::Truncate {
                path: descriptor()?,
                length,
            }
        }
        "fsync" | "fdatasync" => Call::Sync {
            path: descriptor()?,
        },
        "rename" | "renameat2" => Call::Rename {
            from: text(0)?,
            to: text(1)?,
        },
        "link" | "linkat" => Call::Link {
            from: text(0)?,
            to: text(1)?,
        },
        // remove_dir_all removes by name in an open folder.
        "unlinkat" => match arguments.starts_with("AT_FDCWD") {
            true => Call::Remove { path: text(0)? },
            false => Call::Remove {
                path: descriptor()?.join(text(0)?),
            },
        },
        "unlink" | "rmdir" => Call::Remove { path: text(0)? },
        "mkdir" | "mkdirat" => Call::Folder { path: text(0)? },
        "fallocate" => return None,
        other => panic!("{other} is not understood: {line}"),
    })
}

fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(String::from_utf8(bytes.to_vec()).unwrap())
}

/// The quoted texts of a call, decoded.
fn texts(arguments: &str) -> Vec<Vec<u8>> {
    let (mut texts, mut bytes) = (Vec::new(), arguments.bytes().peekable());
    while let Some(byte) = bytes.next() {
        if byte != b'"' {
            continue;
        }
        let mut text = Vec::new();
        while let Some(byte) = bytes.next() {
            match byte {
                b'"' => break,
                b'\\' => match bytes.next().unwrap() {
                    b'n' => text.push(b'\n'),
                    b't' => text.push(b'\t'),
                    b'r' => text.push(b'\r'),
                    b'v' => text.push(0x0b),
                    b'f' => text.push(0x0c),
                    b'x' => {
                        let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                        let digits = std::str::from_utf8(&digits).unwrap();
                        text.push(u8::from_str_radix(digits, 16).unwrap());
                    }
                    digit @ b'0'..=b'7' => {
                        let mut value = u32::from(digit - b'0');
                        for _ in 0..2 {
                            match bytes.next_if(|byte| (b'0'..=b'7').contains(byte)) {
                                Some(digit) => value = value * 8 + u32::from(digit - b'0'),
                                None => break,
                            }
                        }
                        text.push(value as u8);
                    }
                    other => text.push(other),
                },
                other => text.push(other),
            }
        }
        texts.push(text);
    }
    texts
}
