//! A reader for the kernel's own type information, as far as locating members
//! of structures goes.
//!
//! Format: <https://docs.kernel.org/bpf/btf.html>. Every access is bounds
//! checked: a damaged file is an error, never a panic.

use std::{collections::HashMap, io, path::Path};

use super::ladder::{Argument, Prototype};

/// Type information of the running kernel.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u32 = 0xeb9f;

/// Qualifiers, typedefs and anonymous structures nest a few levels deep; a
/// cycle would nest for ever.
const MAX_DEPTH: u32 = 32;

/// Why a member cannot be located.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The file cannot be read.
    #[error("reading the kernel's type information: {0}")]
    Read(#[from] io::Error),
    /// The file is not what it should be.
    #[error("the kernel's type information is damaged: {0}")]
    Damaged(&'static str),
    /// The structure or member does not exist.
    #[error("this kernel has no {0}")]
    Missing(String),
    /// A function is another one than the programs take it for.
    #[error("this kernel's function {0}")]
    Function(String),
    /// The member is not of the size the programs read it with.
    #[error("{member} is {found} bytes on this kernel, not {expected}")]
    Size {
        /// `structure.member`.
        member: String,
        /// Size in this kernel, bytes.
        found: u32,
        /// Size the programs know, bytes.
        expected: u32,
    },
}

/// Position and size of a member, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// From the start of the structure.
    pub offset: u32,
    /// Of the member.
    pub size: u32,
}

/// Parsed type information.
pub struct Btf {
    data: Vec<u8>,
    strings_at: usize,
    /// Position of each type's record; type ids count from 1.
    types: Vec<usize>,
    structures: HashMap<String, u32>,
}

/// The fixed part of a type's record.
struct Record {
    /// Where it begins.
    at: usize,
    kind: u32,
    members: usize,
    kind_flag: bool,
    size_or_type: u32,
    /// Where what follows the fixed part begins.
    body: usize,
}

mod kind {
    pub const INT: u32 = 1;
    pub const PTR: u32 = 2;
    pub const ARRAY: u32 = 3;
    pub const STRUCT: u32 = 4;
    pub const UNION: u32 = 5;
    pub const ENUM: u32 = 6;
    pub const TYPEDEF: u32 = 8;
    pub const VOLATILE: u32 = 9;
    pub const CONST: u32 = 10;
    pub const RESTRICT: u32 = 11;
    pub const FUNC: u32 = 12;
    pub const FUNC_PROTO: u32 = 13;
    pub const VAR: u32 = 14;
    pub const DATASEC: u32 = 15;
    pub const FLOAT: u32 = 16;
    pub const DECL_TAG: u32 = 17;
    pub const TYPE_TAG: u32 = 18;
    pub const ENUM64: u32 = 19;
}

impl Btf {
    /// Reads the running kernel's.
    pub fn running_kernel() -> Result<Self, BtfError> {
        Self::parse(std::fs::read(Path::new(VMLINUX))?)
    }

    /// Parses a file's content.
    pub fn parse(data: Vec<u8>) -> Result<Self, BtfError> {
        if word(&data, 0)? & 0xffff != MAGIC {
            return Err(BtfError::Damaged("no BTF magic"));
        }
        let header = word(&data, 4)? as usize;
        let types_at = header + word(&data, 8)? as usize;
        let types_end = types_at + word(&data, 12)? as usize;
        let strings_at = header + word(&data, 16)? as usize;
        let mut btf = Self {
            data,
            strings_at,
            types: Vec::new(),
            structures: HashMap::new(),
        };
        let mut at = types_at;
        while at < types_end {
            btf.types.push(at);
            let record = btf.record_at(at)?;
            if matches!(record.kind, kind::STRUCT | kind::UNION) {
                let name = btf.string(word(&btf.data, at)?)?.to_owned();
                let id = u32::try_from(btf.types.len())
                    .map_err(|_| BtfError::Damaged("too many types"))?;
                if !name.is_empty() {
                    btf.structures.entry(name).or_insert(id);
                }
            }
            at = record.body + record.body_len();
        }
        Ok(btf)
    }

    /// Locates `structure.member`, looking through anonymous structures and
    /// unions.
    pub fn locate(&self, structure: &str, member: &str) -> Result<Location, BtfError> {
        let missing = || BtfError::Missing(format!("{structure}.{member}"));
        let id = *self.structures.get(structure).ok_or_else(missing)?;
        self.member(id, member, 0)?.ok_or_else(missing)
    }

    /// Checks that a function is what the programs take it for.
    pub fn check_function(&self, wanted: &Prototype) -> Result<(), BtfError> {
        let Prototype {
            name,
            arguments,
            has_result,
        } = wanted;
        let other = |what: String| BtfError::Function(format!("{name} {what}"));
        let mut prototype = None;
        for name in name.split('|') {
            prototype = prototype.or(self.function(name)?);
        }
        let prototype = prototype.ok_or_else(|| BtfError::Missing(format!("function {name}")))?;
        if prototype.members != arguments.len() {
            return Err(other(format!(
                "takes {} arguments, not {}",
                prototype.members,
                arguments.len()
            )));
        }
        for (index, argument) in arguments.iter().enumerate() {
            let id = word(&self.data, prototype.body + 8 * index + 4)?;
            if !self.is_argument(id, *argument)? {
                return Err(other(format!("has another argument {}", index + 1)));
            }
        }
        let result = prototype.size_or_type;
        if *has_result && (result == 0 || !self.is_argument(result, Argument::Integer)?) {
            return Err(other("returns something else".to_owned()));
        }
        Ok(())
    }

    /// The value of an enumerator, whatever its type is called.
    pub fn enumerator(&self, wanted: &str) -> Result<Option<u32>, BtfError> {
        for at in &self.types {
            let record = self.record_at(*at)?;
            if record.kind != kind::ENUM {
                continue;
            }
            for index in 0..record.members {
                let at = record.body + 8 * index;
                if self.string(word(&self.data, at)?)? == wanted {
                    return word(&self.data, at + 4).map(Some);
                }
            }
        }
        Ok(None)
    }

    /// The prototype of a function.
    fn function(&self, wanted: &str) -> Result<Option<Record>, BtfError> {
        for at in &self.types {
            let record = self.record_at(*at)?;
            if record.kind == kind::FUNC && self.string(word(&self.data, *at)?)? == wanted {
                let prototype = self.resolve(record.size_or_type, 0)?;
                return Ok((prototype.kind == kind::FUNC_PROTO).then_some(prototype));
            }
        }
        Ok(None)
    }

    fn is_argument(&self, id: u32, wanted: Argument) -> Result<bool, BtfError> {
        let record = self.resolve(id, 0)?;
        if wanted == Argument::Integer {
            return Ok(record.kind == kind::INT && matches!(record.size_or_type, 4 | 8));
        }
        if record.kind != kind::PTR || record.size_or_type == 0 {
            return Ok(false);
        }
        let target = self.resolve(record.size_or_type, 0)?;
        Ok(match wanted {
            Argument::Structure(name) => {
                target.kind == kind::STRUCT && self.string(word(&self.data, target.at)?)? == name
            }
            _ => target.kind == kind::INT && target.size_or_type == 1,
        })
    }

    fn member(&self, id: u32, wanted: &str, depth: u32) -> Result<Option<Location>, BtfError> {
        let record = self.resolve(id, depth)?;
        if !matches!(record.kind, kind::STRUCT | kind::UNION) {
            return Ok(None);
        }
        for index in 0..record.members {
            let at = record.body + 12 * index;
            let name = self.string(word(&self.data, at)?)?;
            let member_type = word(&self.data, at + 4)?;
            let position = word(&self.data, at + 8)?;
            // With the flag, the upper eight bits are a bit field's size.
            let bits = if record.kind_flag {
                position & 0xff_ffff
            } else {
                position
            };
            if name == wanted {
                return Ok(Some(Location {
                    offset: bits / 8,
                    size: self.size(member_type, 0)?,
                }));
            }
            if name.is_empty()
                && let Some(inner) = self.member(member_type, wanted, depth + 1)?
            {
                return Ok(Some(Location {
                    offset: bits / 8 + inner.offset,
                    size: inner.size,
                }));
            }
        }
        Ok(None)
    }

    fn size(&self, id: u32, depth: u32) -> Result<u32, BtfError> {
        let record = self.resolve(id, depth)?;
        match record.kind {
            kind::PTR => Ok(8),
            kind::ARRAY => {
                let element = self.size(word(&self.data, record.body)?, depth + 1)?;
                Ok(element.saturating_mul(word(&self.data, record.body + 8)?))
            }
            kind::INT | kind::STRUCT | kind::UNION | kind::ENUM | kind::ENUM64 | kind::FLOAT => {
                Ok(record.size_or_type)
            }
            _ => Err(BtfError::Damaged("a member without a size")),
        }
    }

    /// The type behind typedefs and qualifiers.
    fn resolve(&self, mut id: u32, depth: u32) -> Result<Record, BtfError> {
        for _ in depth..MAX_DEPTH {
            let index = (id as usize)
                .checked_sub(1)
                .ok_or(BtfError::Damaged("a member of type void"))?;
            let at = *self
                .types
                .get(index)
                .ok_or(BtfError::Damaged("a type id out of range"))?;
            let record = self.record_at(at)?;
            match record.kind {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    id = record.size_or_type;
                }
                _ => return Ok(record),
            }
        }
        Err(BtfError::Damaged("types nest without end"))
    }

    fn record_at(&self, at: usize) -> Result<Record, BtfError> {
        let info = word(&self.data, at + 4)?;
        Ok(Record {
            at,
            kind: info >> 24 & 0x1f,
            members: (info & 0xffff) as usize,
            kind_flag: info >> 31 == 1,
            size_or_type: word(&self.data, at + 8)?,
            body: at + 12,
        })
    }

    fn string(&self, offset: u32) -> Result<&str, BtfError> {
        self.data
            .get(self.strings_at + offset as usize..)
            .and_then(|rest| rest.split(|byte| *byte == 0).next())
            .and_then(|name| std::str::from_utf8(name).ok())
            .ok_or(BtfError::Damaged("a name out of range"))
    }
}

impl Record {
    /// Length of what follows the fixed part, bytes.
    fn body_len(&self) -> usize {
        match self.kind {
            kind::INT | kind::VAR | kind::DECL_TAG => 4,
            kind::ARRAY => 12,
            kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12 * self.members,
            kind::ENUM | kind::FUNC_PROTO => 8 * self.members,
            _ => 0,
        }
    }
}

fn word(data: &[u8], at: usize) -> Result<u32, BtfError> {
    data.get(at..)
        .and_then(|rest| rest.first_chunk::<4>())
        .map(|bytes| u32::from_ne_bytes(*bytes))
        .ok_or(BtfError::Damaged("it ends in the middle of a record"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locates_members_of_the_running_kernel() {
        let Ok(data) = std::fs::read(VMLINUX) else {
            println!("SKIPPED locates_members_of_the_running_kernel: no {VMLINUX}");
            return;
        };
        let btf = Btf::parse(data).unwrap();
        assert_eq!(
            btf.locate("winsize", "ws_col").unwrap(),
            Location { offset: 2, size: 2 }
        );
        // Inside an anonymous structure.
        assert_eq!(btf.locate("mm_struct", "arg_start").unwrap().size, 8);
        assert!(btf.enumerator("ITER_IOVEC").unwrap().is_some());
        assert_eq!(btf.enumerator("ITER_NONSENSE").unwrap(), None);
        assert!(matches!(
            btf.locate("mm_struct", "nonsense"),
            Err(BtfError::Missing(_))
        ));
    }

    #[test]
    fn truncation_anywhere_is_an_error_or_harmless() {
        let Ok(data) = std::fs::read(VMLINUX) else {
            return;
        };
        for len in (0..4096).chain([data.len() / 3, data.len() - 1]) {
            if let Ok(btf) = Btf::parse(data.iter().copied().take(len).collect()) {
                let _ = btf.locate("task_struct", "tgid");
            }
        }
    }
}
