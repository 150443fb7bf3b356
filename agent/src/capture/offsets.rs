//! Locates, in the running kernel, every member the programs read.

use auditty_capture_ebpf::{Member, Offsets};

use super::btf::{Btf, BtfError};

/// What the programs take as given, because the verifier wants constants there.
const FIXED: [(Member, u32); 3] = [
    (
        Member {
            path: "trace_event_raw_sys_enter.id",
            size: 8,
        },
        8,
    ),
    (
        Member {
            path: "trace_event_raw_sys_enter.args",
            size: 0,
        },
        16,
    ),
    (
        Member {
            path: "trace_event_raw_sys_exit.ret",
            size: 8,
        },
        16,
    ),
];

/// The fields of [`Offsets`], in order.
pub type Values = [u32; Offsets::COUNT];

const _: () = assert!(size_of::<Values>() == size_of::<Offsets>());

/// Locates all members, or says which one is not what the programs expect.
pub fn resolve(btf: &Btf) -> Result<Values, BtfError> {
    let mut values = [0; Offsets::COUNT];
    // The fixed ones stand first.
    let found = check(btf).map(|(_, found)| found);
    let mut found = found.collect::<Result<Vec<u32>, _>>()?.into_iter();
    let located = found.by_ref().skip(FIXED.len());
    values
        .iter_mut()
        .zip(located)
        .for_each(|(value, at)| *value = at);
    Ok(values)
}

/// Each member that the programs read, and where it is.
pub fn check(btf: &Btf) -> impl Iterator<Item = (&'static str, Result<u32, BtfError>)> {
    let fixed = FIXED.iter().map(|(member, expected)| {
        let found = locate(btf, member).and_then(|offset| {
            if offset == *expected {
                Ok(offset)
            } else {
                Err(BtfError::Missing(format!(
                    "{} at offset {expected}",
                    member.path
                )))
            }
        });
        (member.path, found)
    });
    let others = Offsets::MEMBERS
        .iter()
        .map(|member| (member.path, locate(btf, member)));
    fixed.chain(others)
}

/// The first of the alternatives that exists, with its size checked.
fn locate(btf: &Btf, member: &Member) -> Result<u32, BtfError> {
    let mut missing = BtfError::Missing(member.path.to_owned());
    for path in member.path.split('|') {
        let Some((structure, name)) = path.split_once('.') else {
            continue;
        };
        match btf.locate(structure, name) {
            Ok(location) if member.size != 0 && location.size != member.size => {
                return Err(BtfError::Size {
                    member: path.to_owned(),
                    found: location.size,
                    expected: member.size,
                });
            }
            Ok(location) => return Ok(location.offset),
            Err(BtfError::Missing(_)) => {}
            Err(error) => missing = error,
        }
    }
    Err(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernel_has_every_member() {
        match Btf::running_kernel() {
            Ok(btf) => assert!(resolve(&btf).unwrap().iter().any(|offset| *offset > 0)),
            Err(error) => println!("SKIPPED the_running_kernel_has_every_member: {error}"),
        }
    }
}
