//! Fair shares of the rings: a flood in one session must not cost another one
//! anything.
//!
//! A flow is one byte stream (a pty, a pipe), or one root for everything else.
//! It may put a record into a ring while what it has in there is less than
//! [`ALPHA`] times what is free: a flood alone gets four fifths of the ring,
//! n floods leave 1 / (1 + 4 n) of it free for whoever comes next (the dynamic
//! thresholds of Choudhury and Hahne, IEEE/ACM Trans. Networking 6(2), 1998).
//! What is refused is counted like any record that found the ring full.
//!
//! What a flow has in a ring is bounded from above without anybody counting it
//! down: bytes are counted by periods, and a period is over when the consumer
//! has passed its beginning. Then all that was put in before it is gone.

use core::ffi::c_void;

use aya_ebpf::helpers::generated;

use crate::maps::{CONTROL, CONTROL_BYTES, DATA, DATA_BYTES, FLOWS, FLOWS_LEN};

/// See above.
const ALPHA: u64 = 4;

/// `BPF_RB_CONS_POS`, `BPF_RB_PROD_POS`.
const CONSUMER: u64 = 2;
const PRODUCER: u64 = 3;

/// Length of a ring's own head of a record.
const RECORD_HEAD: u64 = 8;

/// Whether `flow` may put `bytes` into a ring, 1 or 0; counts them if so. Two
/// CPUs that count for one flow at the same moment can lose one of the two
/// counts: a share is no exact thing. A global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn admit(is_data: u64, flow: u64, bytes: u64) -> i32 {
    // Roots and connections are times, with a pid in the lower bits; streams
    // are kernel addresses: multiplication spreads both (Knuth 6.4).
    let slot = (flow.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u32 & (FLOWS_LEN - 1);
    let Some(flow) = FLOWS.get_ptr_mut(slot) else {
        return 1;
    };
    // SAFETY: a map value of integers.
    let (ring, size, share) = unsafe {
        if is_data != 0 {
            (&raw const DATA, DATA_BYTES.load(), &mut (*flow).data)
        } else {
            (
                &raw const CONTROL,
                CONTROL_BYTES.load(),
                &mut (*flow).control,
            )
        }
    };
    let ring = ring.cast_mut().cast::<c_void>();
    // SAFETY: `ring` is a ring.
    let (consumer, producer) = unsafe {
        (
            generated::bpf_ringbuf_query(ring, CONSUMER),
            generated::bpf_ringbuf_query(ring, PRODUCER),
        )
    };
    if consumer >= share.since {
        share.before = share.bytes;
        share.bytes = 0;
        share.since = producer;
    }
    let free = size.saturating_sub(producer.wrapping_sub(consumer));
    if share.bytes + share.before > free.wrapping_mul(ALPHA) {
        return 0;
    }
    share.bytes += bytes + RECORD_HEAD;
    1
}
