//! sshd's privilege-separation monitor protocol: the login, as its processes
//! tell each other.

use auditty_capture_ebpf::{
    CAUSE_READ_FAILED, CLASS_LOGIN, KIND_MONITOR, MonitorBody, PAYLOAD_MAX, monitor,
};
use aya_ebpf::helpers::generated;

use crate::{
    emit::{self, emit_user},
    kernel::{self, Origin},
    loss,
};

/// A write to a Unix socket: perhaps the header of a monitor message (length
/// and type, five bytes), or the body of the one whose header was just written.
/// <https://github.com/openssh/openssh-portable/blob/V_9_2_P1/monitor_wrap.c#L118>
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn emit_monitor(buffer: u64, len: u64) -> i32 {
    const HEADER_LEN: u64 = 5;
    let pid = kernel::current_pid();
    let Some(process) = kernel::process(pid) else {
        return 0;
    };
    let kind = process.monitor_kind;
    process.monitor_kind = 0;
    if kind != 0 && u64::from(process.monitor_len) == len + 1 {
        let Some(scratch) = emit::begin(
            KIND_MONITOR,
            Origin::from(&*process),
            pid,
            kernel::boot_ns(),
        ) else {
            return 0;
        };
        let body = emit::body::<MonitorBody>(scratch);
        body.kind = kind;
        body.bytes = len as u32;
        let most = if kind == monitor::ANS_PWNAM {
            1
        } else {
            PAYLOAD_MAX as u64
        };
        emit_user(buffer, if len > most { most } else { len });
        return 0;
    }
    if len != HEADER_LEN {
        return 0;
    }
    let mut header = [0u8; 8];
    // SAFETY: writes five of the eight bytes.
    let failed = unsafe {
        generated::bpf_probe_read_user(
            header.as_mut_ptr().cast(),
            HEADER_LEN as u32,
            buffer as *const _,
        ) != 0
    };
    if failed {
        loss::count(
            Origin::from(&*process),
            CAUSE_READ_FAILED,
            CLASS_LOGIN,
            1,
            0,
        );
        return 0;
    }
    let [a, b, c, d, kind, ..] = header;
    if is_harmless(u32::from(kind)) {
        process.monitor_kind = u32::from(kind);
        process.monitor_len = u32::from_be_bytes([a, b, c, d]);
    }
    0
}

#[inline(always)]
fn is_harmless(kind: u32) -> bool {
    kind == monitor::PWNAM
        || kind == monitor::ANS_PWNAM
        || kind == monitor::ANS_AUTHPASSWORD
        || kind == monitor::KEYALLOWED
        || kind == monitor::ANS_KEYALLOWED
        || kind == monitor::KEYVERIFY
        || kind == monitor::ANS_KEYVERIFY
        || kind == monitor::ANS_GSSUSEROK
        || kind == monitor::ANS_PAM_QUERY
        || kind == monitor::ANS_PAM_RESPOND
}
