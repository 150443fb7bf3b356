//! Pipes: the streams of sessions without a terminal.
//!
//! sshd moves bytes through pipes before it is known whose they are; they wait
//! for the exec that has these inodes as its standard streams. A subsystem
//! inside sshd (`internal-sftp`) never execs: its child is known by reading what
//! its parent writes, which no other pipe of sshd's shows.

use auditty_recording::event::Stream;
use auditty_recording::session::SessionKind;

use super::Sessions;
use super::connection::{ClaimedPipe, PendingPipe};
use super::lineage::{Owner, SessionKey};
use super::opening::{Leader, Seed};
use super::sink::Sink;
use super::streams::{Piece, StreamId};
use super::timeline::Out;
use crate::capture::event::{Direction, Fd, KernelEvent, PipeData};

impl Sessions {
    pub(super) fn pipe(&mut self, event: &KernelEvent, data: &PipeData, sink: &mut dyn Sink) {
        let KernelEvent {
            boot_ns,
            connection: id,
            pid,
            ..
        } = *event;
        let bound = self.limits.pending_pipe_bytes;
        self.connection(id, boot_ns);
        self.learn_server(event);
        let Some(connection) = self.connection(id, boot_ns) else {
            self.counters.unattributed_bytes += u64::from(data.len);
            return;
        };
        if let Some(pipe) = connection.pipes.get(&data.inode).copied() {
            // The other end shows the same bytes.
            if pipe.direction == data.direction {
                let piece = Piece {
                    boot_ns,
                    offset: data.offset,
                    len: u64::from(data.len),
                    data: data.data.as_deref(),
                    transfer: data.transfer,
                };
                self.pipe_bytes(id, pipe, &piece, sink);
            }
            return;
        }
        if !connection.pending.push(boot_ns, pid, data, bound) {
            self.counters.unattributed_bytes += u64::from(data.len);
            return;
        }
        match data.direction {
            Direction::Output => self.find_internal_subsystem(id, boot_ns, pid, data.inode, sink),
            Direction::Input => self.find_internal_output(id, pid, data.inode, sink),
        }
    }

    /// The pipes on a root's standard streams are its session's.
    pub(super) fn claim_pipes(
        &mut self,
        id: u64,
        key: SessionKey,
        fds: &[Fd; 3],
        sink: &mut dyn Sink,
    ) {
        let ends = [
            (Stream::Stdin, Direction::Input),
            (Stream::Stdout, Direction::Output),
            (Stream::Stderr, Direction::Output),
        ];
        let mut claimed = Vec::new();
        for (fd, (stream, direction)) in fds.iter().zip(ends) {
            if let Fd::Pipe(inode) = fd {
                claimed.push((
                    *inode,
                    ClaimedPipe {
                        session: key,
                        stream,
                        direction,
                    },
                ));
            }
        }
        self.claim(id, &claimed, sink);
    }

    /// Claims pipes that nobody has claimed, and replays in order what waited.
    fn claim(&mut self, id: u64, pipes: &[(u64, ClaimedPipe)], sink: &mut dyn Sink) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let mut waiting = Vec::new();
        let mut lost = Vec::new();
        for (inode, pipe) in pipes {
            // One inode may be both stdout and stderr.
            if connection.pipes.contains_key(inode) {
                continue;
            }
            connection.pipes.insert(*inode, *pipe);
            let PendingPipe {
                pieces,
                lost: [input, output],
                ..
            } = connection.pending.take(*inode);
            let own = pieces
                .into_iter()
                .filter(|piece| piece.direction == pipe.direction);
            waiting.extend(own.map(|piece| (*pipe, piece)));
            let bytes = match pipe.direction {
                Direction::Input => input,
                Direction::Output => output,
            };
            lost.push((*pipe, bytes));
        }
        waiting.sort_by_key(|(_, piece)| piece.boot_ns);
        for (pipe, piece) in waiting {
            let piece = Piece {
                boot_ns: piece.boot_ns,
                offset: piece.offset,
                len: u64::from(piece.len),
                data: piece.data.as_deref(),
                transfer: piece.transfer,
            };
            self.pipe_bytes(id, pipe, &piece, sink);
        }
        for (pipe, bytes) in lost.into_iter().filter(|(_, bytes)| *bytes > 0) {
            let mut out = Out {
                sink,
                clock: self.clock,
                counters: &mut self.counters,
            };
            if let Some(session) = self.sessions.get_mut(&pipe.session) {
                let (streams, timeline) = (&mut session.streams, &mut session.timeline);
                let what = (bytes, self.now);
                let id = StreamId::pipe(pipe.stream, pipe.direction);
                streams.declare_lost(id, what, timeline, &mut out);
            }
        }
    }

    fn pipe_bytes(&mut self, id: u64, pipe: ClaimedPipe, piece: &Piece<'_>, sink: &mut dyn Sink) {
        let session = self.sessions.get_mut(&pipe.session);
        let connection = self.connections.get_mut(&id);
        let (Some(session), Some(connection)) = (session, connection) else {
            return;
        };
        let mut out = Out {
            sink,
            clock: self.clock,
            counters: &mut self.counters,
        };
        let id = StreamId::pipe(pipe.stream, pipe.direction);
        session.bytes(&mut out, id, piece, &mut connection.stream_loss);
    }

    /// `reader` read a pipe: when its parent wrote it and both are sshd, it is a
    /// subsystem inside sshd, and this its standard input.
    fn find_internal_subsystem(
        &mut self,
        id: u64,
        boot_ns: u64,
        reader: u32,
        inode: u64,
        sink: &mut dyn Sink,
    ) {
        let connection = self.connections.get(&id);
        let writer = connection
            .and_then(|c| c.pending.get(inode))
            .and_then(|pipe| pipe.writer);
        let child = self.processes.0.get(&reader).copied();
        let (Some(writer), Some(child)) = (writer, child) else {
            return;
        };
        let both_sshd =
            child.owner == Owner::Server && self.processes.owner(writer) == Owner::Server;
        if !both_sshd || child.parent != writer {
            return;
        }
        let seed = Seed {
            kind: SessionKind::Subsystem,
            command: "sftp".into(),
            uid: None,
            adopted: child.adopted && !child.present,
            unseen: false,
            leader: Some(Leader {
                pid: reader,
                start_boot_ns: child.start_boot_ns,
                server: writer,
            }),
        };
        let Some(key) = self.open_session(id, boot_ns, seed, sink) else {
            return;
        };
        self.set_owner(reader, Owner::Session(key));
        self.subsystem_started(key, (child.start_boot_ns, reader));
        let stdin = ClaimedPipe {
            session: key,
            stream: Stream::Stdin,
            direction: Direction::Input,
        };
        self.claim(id, &[(inode, stdin)], sink);
        let connection = self.connections.get(&id);
        for inode in connection
            .map(|c| c.pending.written_by(reader))
            .unwrap_or_default()
        {
            self.find_internal_output(id, reader, inode, sink);
        }
    }

    /// `writer` wrote a pipe: where it is a subsystem inside sshd, this is its
    /// output, or its second one for errors.
    fn find_internal_output(&mut self, id: u64, writer: u32, inode: u64, sink: &mut dyn Sink) {
        let Owner::Session(key) = self.processes.owner(writer) else {
            return;
        };
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let mut own = connection.pipes.values().filter(|pipe| pipe.session == key);
        let stream = match own.any(|pipe| pipe.stream == Stream::Stdout) {
            true => Stream::Stderr,
            false => Stream::Stdout,
        };
        let pipe = ClaimedPipe {
            session: key,
            stream,
            direction: Direction::Output,
        };
        self.claim(id, &[(inode, pipe)], sink);
    }
}
