//! Where the kernel keeps what the programs read.
//!
//! rustc emits no CO-RE relocations, so the agent looks each member up in the
//! running kernel's BTF, checks its size, and hands the offsets to the programs
//! as constants before they are verified.

/// A member of a kernel structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// `structure.member`; alternatives (renamed between kernels) separated by
    /// `|`.
    pub path: &'static str,
    /// Size the programs read it with, bytes; 0 for a structure that is only
    /// passed through.
    pub size: u32,
}

macro_rules! offsets {
    ($($field:ident = $path:literal, $size:literal;)*) => {
        /// Byte offset of each member, one field each.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[allow(missing_docs, reason = "each field is named after the member it locates")]
        pub struct Offsets { $(pub $field: u32,)* }

        impl Offsets {
            /// The members, in the order of the fields, which are 32 bits each.
            pub const MEMBERS: &'static [Member] =
                &[$(Member { path: $path, size: $size },)*];

            /// Number of fields.
            pub const COUNT: usize = Self::MEMBERS.len();

            /// What the programs hold before they are loaded.
            pub const ZERO: Self = Self { $($field: 0,)* };
        }
    };
}

offsets! {
    task_tgid = "task_struct.tgid", 4;
    task_thread_info = "task_struct.thread_info", 0;
    thread_info_status = "thread_info.status", 4;
    task_mm = "task_struct.mm", 8;
    task_fs = "task_struct.fs", 8;
    task_files = "task_struct.files", 8;
    task_cred = "task_struct.cred", 8;
    task_signal = "task_struct.signal", 8;
    task_real_parent = "task_struct.real_parent", 8;
    task_group_leader = "task_struct.group_leader", 8;
    task_exit_code = "task_struct.exit_code", 4;
    task_loginuid = "task_struct.loginuid", 4;
    cred_uid = "cred.uid", 4;
    cred_euid = "cred.euid", 4;
    signal_live = "signal_struct.live", 4;
    signal_leader = "signal_struct.leader", 4;
    signal_flags = "signal_struct.flags", 4;
    signal_group_exit_code = "signal_struct.group_exit_code", 4;
    signal_tty = "signal_struct.tty", 8;
    mm_arg_start = "mm_struct.arg_start", 8;
    mm_arg_end = "mm_struct.arg_end", 8;
    mm_exe_file = "mm_struct.exe_file", 8;
    fs_pwd = "fs_struct.pwd", 16;
    fs_root = "fs_struct.root", 16;
    path_mnt = "path.mnt", 8;
    path_dentry = "path.dentry", 8;
    dentry_parent = "dentry.d_parent", 8;
    dentry_name = "dentry.d_name", 16;
    qstr_len = "qstr.len", 4;
    qstr_name = "qstr.name", 8;
    vfsmount_root = "vfsmount.mnt_root", 8;
    mount_parent = "mount.mnt_parent", 8;
    mount_mountpoint = "mount.mnt_mountpoint", 8;
    mount_mnt = "mount.mnt", 0;
    files_fdt = "files_struct.fdt", 8;
    fdt_max_fds = "fdtable.max_fds", 4;
    fdt_fd = "fdtable.fd", 8;
    file_inode = "file.f_inode", 8;
    file_mode = "file.f_mode", 4;
    file_path = "file.f_path|file.__f_path", 16;
    file_private_data = "file.private_data", 8;
    file_pos = "file.f_pos", 8;
    inode_mode = "inode.i_mode", 2;
    inode_uid = "inode.i_uid", 4;
    inode_rdev = "inode.i_rdev", 4;
    inode_number = "inode.i_ino", 8;
    inode_nlink = "inode.i_nlink|inode.__i_nlink", 4;
    inode_size = "inode.i_size", 8;
    inode_mtime = "inode.i_mtime|inode.__i_mtime|inode.i_mtime_sec", 0;
    inode_mtime_nsec = "inode.i_mtime|inode.__i_mtime|inode.i_mtime_nsec", 0;
    kiocb_filp = "kiocb.ki_filp", 8;
    iter_type = "iov_iter.iter_type|iov_iter.type", 0;
    iter_offset = "iov_iter.iov_offset", 8;
    iter_segments = "iov_iter.nr_segs", 8;
    iter_vectors = "iov_iter.__iov|iov_iter.iov", 8;
    iter_buffer = "iov_iter.ubuf|iov_iter.__iov|iov_iter.iov", 8;
    msghdr_iter = "msghdr.msg_iter", 0;
    tty_file_tty = "tty_file_private.tty", 8;
    tty_link = "tty_struct.link", 8;
    tty_driver = "tty_struct.driver", 8;
    tty_driver_major = "tty_driver.major", 4;
    tty_flags = "tty_struct.flags", 8;
    tty_index = "tty_struct.index", 4;
    tty_termios = "tty_struct.termios", 0;
    tty_winsize = "tty_struct.winsize", 8;
    termios_lflag = "ktermios.c_lflag", 4;
    socket_sk = "socket.sk", 8;
    sk_family = "sock_common.skc_family", 2;
    sk_state = "sock_common.skc_state", 1;
    sk_daddr = "sock_common.skc_daddr", 4;
    sk_rcv_saddr = "sock_common.skc_rcv_saddr", 4;
    sk_v6_daddr = "sock_common.skc_v6_daddr", 16;
    sk_v6_rcv_saddr = "sock_common.skc_v6_rcv_saddr", 16;
    sk_dport = "sock_common.skc_dport", 2;
    sk_num = "sock_common.skc_num", 2;
    sk_flags = "sock_common.skc_flags", 8;
    sock_type = "sock.sk_type", 2;
    sock_protocol = "sock.sk_protocol", 2;
    inet_sport = "inet_sock.inet_sport", 2;
    tcp_bytes_sent = "tcp_sock.bytes_sent", 8;
    tcp_bytes_retrans = "tcp_sock.bytes_retrans", 8;
    tcp_bytes_received = "tcp_sock.bytes_received", 8;
    unix_peer = "unix_sock.peer", 8;
    unix_addr = "unix_sock.addr", 8;
    unix_address_len = "unix_address.len", 4;
    unix_address_name = "unix_address.name", 0;
    newtask_pid = "trace_event_raw_task_newtask.pid", 4;
    newtask_clone_flags = "trace_event_raw_task_newtask.clone_flags", 8;
    exec_filename = "trace_event_raw_sched_process_exec.__data_loc_filename", 4;
    exec_old_pid = "trace_event_raw_sched_process_exec.old_pid", 4;
    set_state_sock = "trace_event_raw_inet_sock_set_state.skaddr", 8;
    set_state_new = "trace_event_raw_inet_sock_set_state.newstate", 4;
    sys_enter_id = "trace_event_raw_sys_enter.id", 8;
    sys_enter_args = "trace_event_raw_sys_enter.args", 0;
    sys_exit_ret = "trace_event_raw_sys_exit.ret", 8;
}
