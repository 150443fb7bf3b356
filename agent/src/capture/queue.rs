//! The way from the capture to the recorder: bounded by bytes, because a slow
//! disk can hold the recorder up for a second or two, and a flood fills the
//! kernel's ring in less.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::event::{Fact, KernelEvent};
use super::loss::Declared;
use super::ring::Marks;

/// Waiting events take this much memory at most, and one drain of the rings
/// more. Beyond, the rings in the kernel take the load.
const MAX_WAITING_BYTES: usize = 64 << 20;

/// Events in the order they happened.
#[derive(Debug, Default)]
pub struct Batch {
    /// Everything before this moment has been handed over; nanoseconds since
    /// boot.
    pub now_boot_ns: u64,
    /// The events, by `boot_ns`.
    pub events: Vec<KernelEvent>,
    /// How far the rings have been handed over, this batch included.
    pub marks: Marks,
    /// What was declared lost so far, this batch included, where that is new.
    pub declared: Option<Declared>,
    /// The rings wait for an acknowledgement.
    pub urgent: bool,
}

impl Batch {
    /// Memory it takes, about.
    pub fn bytes(&self) -> usize {
        let payload = |event: &KernelEvent| match &event.fact {
            Fact::Terminal(data) => data.data.as_ref().map_or(0, Vec::len),
            Fact::Pipe(data) => data.data.as_ref().map_or(0, Vec::len),
            Fact::Exec(exec) => size_of_val(&**exec) + exec.args.len() + exec.exe.len(),
            Fact::File(file) => size_of_val(&**file) + file.path.len() + file.target.len(),
            Fact::Monitor(message) => message.body.len(),
            _ => 0,
        };
        let events = self.events.iter().map(payload).sum::<usize>();
        events + self.events.len() * size_of::<KernelEvent>()
    }
}

/// What the rings need not hold any more ends here.
#[derive(Clone, Copy, Debug)]
pub struct Floors {
    /// In the ring of processes and connections.
    pub control: u64,
    /// In the ring of terminal and pipe bytes.
    pub data: u64,
}

/// The capture's end.
#[derive(Debug)]
pub struct BatchSender {
    batches: Sender<Batch>,
    waiting: Arc<AtomicUsize>,
    acknowledged: Arc<[AtomicU64; 2]>,
}

/// The recorder's end.
#[derive(Debug)]
pub struct BatchReceiver {
    batches: Receiver<Batch>,
    waiting: Arc<AtomicUsize>,
    acknowledged: Arc<[AtomicU64; 2]>,
}

/// A new queue.
pub fn queue() -> (BatchSender, BatchReceiver) {
    let (sender, receiver) = channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let acknowledged = Arc::<[AtomicU64; 2]>::default();
    let sender = BatchSender {
        batches: sender,
        waiting: Arc::clone(&waiting),
        acknowledged: Arc::clone(&acknowledged),
    };
    let receiver = BatchReceiver {
        batches: receiver,
        waiting,
        acknowledged,
    };
    (sender, receiver)
}

impl BatchSender {
    /// Whether more may wait.
    pub fn has_room(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) < MAX_WAITING_BYTES
    }

    /// What need not be kept in the rings any more.
    pub fn acknowledged(&self) -> Floors {
        let [control, data] = &*self.acknowledged;
        Floors {
            control: control.load(Ordering::Acquire),
            data: data.load(Ordering::Acquire),
        }
    }

    /// Hands a batch over; `false` when nobody receives any more.
    pub fn send(&self, batch: Batch) -> bool {
        self.waiting.fetch_add(batch.bytes(), Ordering::Relaxed);
        self.batches.send(batch).is_ok()
    }
}

impl BatchReceiver {
    /// Everything before `marks` is where a dead agent's successor finds it.
    pub fn acknowledge(&self, marks: &Marks) {
        let [control, data] = &*self.acknowledged;
        control.store(marks.control.floor, Ordering::Release);
        data.store(marks.data.floor, Ordering::Release);
    }

    /// The next batch. Fails when none comes in time, or none will come.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Batch, RecvTimeoutError> {
        let batch = self.batches.recv_timeout(timeout)?;
        self.waiting.fetch_sub(batch.bytes(), Ordering::Relaxed);
        Ok(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::event::{Direction, PipeData};

    #[test]
    fn waiting_bytes_are_bounded_and_given_back() {
        let (sender, receiver) = queue();
        let data = PipeData {
            inode: 1,
            direction: Direction::Output,
            offset: Some(0),
            len: 0,
            data: Some(vec![0; MAX_WAITING_BYTES]),
            transfer: false,
        };
        let event = KernelEvent {
            boot_ns: 1,
            connection: 1,
            root: 0,
            pid: 1,
            fact: Fact::Pipe(data),
        };
        assert!(sender.has_room());
        assert!(sender.send(Batch {
            now_boot_ns: 1,
            events: vec![event],
            ..Batch::default()
        }));
        assert!(!sender.has_room());
        receiver.recv_timeout(Duration::ZERO).unwrap();
        assert!(sender.has_room());
        drop(receiver);
        assert!(!sender.send(Batch {
            now_boot_ns: 2,
            ..Batch::default()
        }));
    }
}
