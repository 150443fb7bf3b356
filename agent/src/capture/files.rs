//! Records of file activity → [`FileAccess`].
//!
//! The paths of one come before it, as records with the same process and
//! moment.

use std::collections::HashMap;

use auditty_capture_ebpf as layout;

use super::{
    decode::{Fields, MAX_PARTIAL, join_path, readable},
    event::{FileAccess, FileOperation},
    sensitive::SensitivePaths,
};

/// Joins the pieces, and keeps only what is wanted.
#[derive(Default)]
pub struct FileDecoder {
    partial: HashMap<(u32, u64), Paths>,
    sensitive: SensitivePaths,
}

#[derive(Default)]
struct Paths {
    /// Position in the ring of the first piece.
    position: u64,
    file_base: String,
    file: String,
    target_base: String,
    target: String,
}

impl FileDecoder {
    /// Reads are wanted of these paths only.
    pub fn new(sensitive: SensitivePaths) -> Self {
        Self {
            partial: HashMap::new(),
            sensitive,
        }
    }

    /// Position of the oldest piece since `boot_ns` whose end is still to come.
    pub fn oldest_piece(&self, boot_ns: u64) -> Option<u64> {
        let waiting = self.partial.iter().filter(|((_, at), _)| *at >= boot_ns);
        waiting.map(|(_, paths)| paths.position).min()
    }

    /// A path, or what a path is relative to, of the process' event of that
    /// moment.
    pub fn piece(
        &mut self,
        (position, pid, boot_ns): (u64, u32, u64),
        body: &mut Fields<'_>,
        payload: &[u8],
    ) {
        if self.partial.len() >= MAX_PARTIAL {
            // Their ends were lost, and counted where they were lost.
            self.partial.clear();
        }
        let new = Paths {
            position,
            ..Paths::default()
        };
        let paths = self.partial.entry((pid, boot_ns)).or_insert(new);
        let which = body.u32();
        let truncated = body.u32() != 0;
        let path = if body.u32() == 0 {
            join_path(payload, truncated)
        } else {
            readable(payload.split(|byte| *byte == 0).next().unwrap_or_default())
        };
        match which {
            layout::PATH_FILE => paths.file = path,
            layout::PATH_FILE_BASE => paths.file_base = path,
            layout::PATH_TARGET => paths.target = path,
            layout::PATH_TARGET_BASE => paths.target_base = path,
            _ => {}
        }
    }

    /// What was done, and the position of its first piece.
    pub fn access(
        &mut self,
        pid: u32,
        boot_ns: u64,
        body: &mut Fields<'_>,
    ) -> (Option<u64>, Access) {
        let paths = self.partial.remove(&(pid, boot_ns));
        let first = paths.as_ref().map(|paths| paths.position);
        (first, self.join(pid, paths.unwrap_or_default(), body))
    }

    fn join(&self, pid: u32, paths: Paths, body: &mut Fields<'_>) -> Access {
        let (read, written, opened_boot_ns) = (body.u64(), body.u64(), body.u64());
        let Some(operation) = operation(body.u32()) else {
            return Access::Malformed;
        };
        let (error, flags, mode) = (body.u32(), body.u32(), body.u32());
        let (uid, gid) = (body.u32(), body.u32());
        let (resolved, transfer) = (body.u32() != 0, body.u32() != 0);
        let is_chown = operation == FileOperation::Chown;
        let id = |id| (is_chown && id != u32::MAX).then_some(id);
        let target = match operation {
            FileOperation::Symlink => paths.target,
            _ => absolute(&paths.target_base, paths.target),
        };
        let access = FileAccess {
            operation,
            path: absolute(&paths.file_base, paths.file),
            target,
            resolved,
            error,
            flags,
            mode,
            uid: id(uid),
            gid: id(gid),
            read,
            written,
            opened_boot_ns,
        };
        if self.is_wanted(pid, &access, transfer) {
            Access::Wanted(access)
        } else {
            Access::Unwanted
        }
    }

    /// Reads are facts where they are sensitive or fail a transfer. What a process
    /// sets of itself through `/proc` is no file of anybody.
    fn is_wanted(&self, pid: u32, access: &FileAccess, transfer: bool) -> bool {
        if access.operation == FileOperation::OpenRead {
            return transfer || self.sensitive.matches(&access.path);
        }
        let own = access.path.strip_prefix("/proc/").is_some_and(|rest| {
            let process = rest.split('/').next().unwrap_or_default();
            process == "self" || process == "thread-self" || process.parse() == Ok(pid)
        });
        !own
    }
}

/// What a record says.
#[derive(Debug, PartialEq)]
pub enum Access {
    /// A fact.
    Wanted(FileAccess),
    /// Nothing that is asked for.
    Unwanted,
    /// Not a record of this layout.
    Malformed,
}

/// A path with what it is relative to; one that has no base stays as it is.
fn absolute(base: &str, path: String) -> String {
    if base.is_empty() {
        return path;
    }
    let mut absolute = base.trim_end_matches('/').to_owned();
    for name in path.split('/').filter(|name| !matches!(*name, "" | ".")) {
        absolute.push('/');
        absolute.push_str(name);
    }
    if absolute.is_empty() {
        absolute.push('/');
    }
    absolute
}

fn operation(value: u32) -> Option<FileOperation> {
    Some(match value {
        layout::FILE_CREATE => FileOperation::Create,
        layout::FILE_OPEN_WRITE => FileOperation::OpenWrite,
        layout::FILE_OPEN_READ => FileOperation::OpenRead,
        layout::FILE_CLOSE => FileOperation::Close,
        layout::FILE_DELETE => FileOperation::Delete,
        layout::FILE_RENAME => FileOperation::Rename,
        layout::FILE_CHMOD => FileOperation::Chmod,
        layout::FILE_CHOWN => FileOperation::Chown,
        layout::FILE_MKDIR => FileOperation::Mkdir,
        layout::FILE_RMDIR => FileOperation::Rmdir,
        layout::FILE_LINK => FileOperation::Link,
        layout::FILE_SYMLINK => FileOperation::Symlink,
        layout::FILE_TRUNCATE => FileOperation::Truncate,
        layout::FILE_EXECUTE => FileOperation::Execute,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PID: u32 = 5;

    fn piece(decoder: &mut FileDecoder, which: u32, given: u32, payload: &[u8]) {
        let body = [which.to_ne_bytes(), [0; 4], given.to_ne_bytes()].concat();
        decoder.piece((40, PID, 100), &mut Fields(&body), payload);
    }

    fn body(operation: u32, error: u32, ids: [u32; 2], resolved: u32) -> Vec<u8> {
        let longs = [7u64, 8, 9].map(u64::to_ne_bytes).concat();
        let [uid, gid] = ids;
        let words = [operation, error, 0o101, 0o644, uid, gid, resolved, 0, 0, 0];
        [longs, words.map(u32::to_ne_bytes).concat()].concat()
    }

    fn wanted(decoder: &mut FileDecoder, body: &[u8]) -> FileAccess {
        match decoder.access(PID, 100, &mut Fields(body)).1 {
            Access::Wanted(access) => access,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn names_get_the_directory_they_are_relative_to() {
        let mut decoder = FileDecoder::default();
        piece(&mut decoder, layout::PATH_FILE_BASE, 0, b"ann\0home\0");
        piece(&mut decoder, layout::PATH_FILE, 1, b"./old//name\0");
        piece(&mut decoder, layout::PATH_TARGET_BASE, 0, b"");
        piece(&mut decoder, layout::PATH_TARGET, 1, b"/tmp/n\xffw\0");
        let rename = wanted(
            &mut decoder,
            &body(layout::FILE_RENAME, 13, [u32::MAX; 2], 0),
        );
        assert_eq!(rename.operation, FileOperation::Rename);
        assert_eq!(rename.path, "/home/ann/old/name");
        assert_eq!(rename.target, "/tmp/n\\xffw");
        assert_eq!((rename.resolved, rename.error), (false, 13));
        assert_eq!((rename.uid, rename.gid), (None, None));
    }

    #[test]
    fn the_first_piece_is_held_until_the_end_comes() {
        let mut decoder = FileDecoder::default();
        piece(&mut decoder, layout::PATH_FILE_BASE, 0, b"tmp\0");
        decoder.piece((50, PID, 100), &mut Fields(&[3, 0, 0, 0]), b"a\0");
        assert_eq!(decoder.oldest_piece(100), Some(40));
        assert_eq!(decoder.oldest_piece(101), None);
        let delete = body(layout::FILE_DELETE, 0, [0; 2], 0);
        assert_eq!(decoder.access(PID, 100, &mut Fields(&delete)).0, Some(40));
        assert_eq!(decoder.oldest_piece(0), None);
    }

    #[test]
    fn a_symbolic_link_says_what_it_was_told() {
        let mut decoder = FileDecoder::default();
        piece(&mut decoder, layout::PATH_FILE_BASE, 0, b"tmp\0");
        piece(&mut decoder, layout::PATH_FILE, 1, b"link\0");
        piece(&mut decoder, layout::PATH_TARGET, 1, b"../etc\0");
        let link = wanted(
            &mut decoder,
            &body(layout::FILE_SYMLINK, 0, [u32::MAX; 2], 0),
        );
        assert_eq!(
            (link.path.as_str(), link.target.as_str()),
            ("/tmp/link", "../etc")
        );
    }

    #[test]
    fn a_close_has_its_counts_and_a_chown_its_ids() {
        let mut decoder = FileDecoder::default();
        piece(&mut decoder, layout::PATH_FILE, 0, b"file\0tmp\0");
        let close = wanted(&mut decoder, &body(layout::FILE_CLOSE, 0, [0; 2], 1));
        assert_eq!((close.read, close.written, close.opened_boot_ns), (7, 8, 9));
        assert_eq!((close.path.as_str(), close.resolved), ("/tmp/file", true));
        assert_eq!((close.flags, close.mode, close.uid), (0o101, 0o644, None));
        let chown = wanted(
            &mut decoder,
            &body(layout::FILE_CHOWN, 0, [1000, u32::MAX], 1),
        );
        assert_eq!((chown.uid, chown.gid), (Some(1000), None));
    }

    #[test]
    fn reads_are_wanted_of_sensitive_paths_only() {
        let sensitive = SensitivePaths::parse(["/etc/shadow"]).unwrap();
        let mut decoder = FileDecoder::new(sensitive);
        let read = body(layout::FILE_OPEN_READ, 0, [0; 2], 1);
        piece(&mut decoder, layout::PATH_FILE, 0, b"shadow\0etc\0");
        assert_eq!(wanted(&mut decoder, &read).path, "/etc/shadow");
        let mut failed = read.clone();
        failed[52] = 1;
        piece(&mut decoder, layout::PATH_FILE, 0, b"shadow\0tmp\0");
        assert_eq!(wanted(&mut decoder, &failed).path, "/tmp/shadow");
        piece(&mut decoder, layout::PATH_FILE, 0, b"shadow\0tmp\0");
        assert_eq!(
            decoder.access(PID, 100, &mut Fields(&read)).1,
            Access::Unwanted
        );
    }

    #[test]
    fn what_a_process_sets_of_itself_is_not_wanted() {
        let mut decoder = FileDecoder::default();
        let write = body(layout::FILE_OPEN_WRITE, 0, [0; 2], 1);
        piece(
            &mut decoder,
            layout::PATH_FILE,
            0,
            b"oom_score_adj\x005\0proc\0",
        );
        assert_eq!(
            decoder.access(PID, 100, &mut Fields(&write)).1,
            Access::Unwanted
        );
        piece(&mut decoder, layout::PATH_FILE, 0, b"mem\x0051\0proc\0");
        assert_eq!(wanted(&mut decoder, &write).path, "/proc/51/mem");
    }

    #[test]
    fn an_unknown_operation_is_malformed() {
        let mut decoder = FileDecoder::default();
        for operation in [0, 15, u32::MAX] {
            let body = body(operation, 0, [0; 2], 0);
            assert_eq!(
                decoder.access(PID, 100, &mut Fields(&body)).1,
                Access::Malformed
            );
        }
    }

    #[test]
    fn paths_whose_end_was_lost_do_not_pile_up() {
        let mut decoder = FileDecoder::default();
        for boot_ns in 0..3 * MAX_PARTIAL as u64 {
            let body = layout::PATH_FILE.to_ne_bytes();
            decoder.piece((0, PID, boot_ns), &mut Fields(&body), b"a\0");
        }
        assert!(decoder.partial.len() <= MAX_PARTIAL);
    }
}
