//! What processes of a session do to files.

use auditty_recording::event::{self, Body, GapClass};

use super::Sessions;
use super::sink::Sink;
use crate::capture::event::{FileAccess, FileOperation, KernelEvent};

impl Sessions {
    /// A process did something to a file.
    pub(super) fn file(&mut self, event: &KernelEvent, access: &FileAccess, sink: &mut dyn Sink) {
        let KernelEvent { boot_ns, pid, .. } = *event;
        // sshd's own files, such as the log of logins, are nobody's activity.
        let Some(key) = self.session_of(event) else {
            return;
        };
        let Some((session, mut out)) = self.open(key, sink) else {
            return;
        };
        session.transfer(&mut out, (boot_ns, pid), access);
        // The capture tells reads of sensitive paths, and those that a program
        // which transfers files could not begin.
        let failed_read = access.operation == FileOperation::OpenRead && access.error != 0;
        let no_more = failed_read && session.is_transport(pid);
        let Some(operation) = operation(access.operation).filter(|_| !no_more) else {
            return;
        };
        if !session.file_allowance.take(boot_ns) {
            session.bounded.add(GapClass::File, (1, 0), boot_ns);
            return;
        }
        let body = event::File {
            pid,
            operation,
            path: access.path.clone(),
            target: (!access.target.is_empty()).then(|| access.target.clone()),
            path_as_given: !access.resolved,
            mode: mode(access),
            uid: access.uid,
            gid: access.gid,
            errno: (access.error != 0).then_some(access.error),
        };
        session.emit(&mut out, boot_ns, Body::File(body));
    }
}

/// The mode where the kernel says one: of a name that is gone, or that could
/// not be opened, it does not.
fn mode(access: &FileAccess) -> Option<u32> {
    let known = access.mode != 0 || access.operation == FileOperation::Chmod;
    known.then_some(access.mode & 0o7777)
}

fn operation(operation: FileOperation) -> Option<event::FileOperation> {
    Some(match operation {
        FileOperation::Create => event::FileOperation::Create,
        FileOperation::OpenWrite => event::FileOperation::OpenWrite,
        FileOperation::OpenRead => event::FileOperation::OpenRead,
        FileOperation::Delete => event::FileOperation::Delete,
        FileOperation::Rename => event::FileOperation::Rename,
        FileOperation::Chmod => event::FileOperation::Chmod,
        FileOperation::Chown => event::FileOperation::Chown,
        FileOperation::Mkdir => event::FileOperation::Mkdir,
        FileOperation::Rmdir => event::FileOperation::Rmdir,
        FileOperation::Link => event::FileOperation::Link,
        FileOperation::Symlink => event::FileOperation::Symlink,
        FileOperation::Truncate => event::FileOperation::Truncate,
        FileOperation::Execute => event::FileOperation::Execute,
        FileOperation::Close => return None,
    })
}
