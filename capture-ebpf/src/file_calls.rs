//! System calls that do something to a file: how each lays out its arguments.
//!
//! Numbers differ between architectures, and each operation has two to four
//! calls. The agent therefore hands the programs a table by number, and they
//! have no code of their own for each call.

/// Length of the table by system call number; the newest call that is in it
/// has 452 (`fchmodat2`, Linux 6.6).
pub const FILE_CALLS: usize = 512;

/// The call has no such argument.
pub const NO_ARGUMENT: u8 = u8::MAX;

/// Opens `path` with the flags in `value`; without `value`, as `creat` does.
pub const SHAPE_OPEN: u8 = 1;
/// Opens `path` as the `struct open_how` says that `value` points to.
pub const SHAPE_OPEN_HOW: u8 = 2;
/// Does something to a name.
pub const SHAPE_NAME: u8 = 3;
/// Does something to the file behind the descriptor in the first argument.
pub const SHAPE_DESCRIPTOR: u8 = 4;
/// From here on: moves the bytes of an open file, or closes it. Reads from the
/// first argument.
pub const SHAPE_READ: u8 = 5;
/// Writes to the first argument.
pub const SHAPE_WRITE: u8 = 6;
/// Moves bytes from the second argument to the first.
pub const SHAPE_SEND: u8 = 7;
/// Moves bytes from the first argument to the third.
pub const SHAPE_COPY: u8 = 8;
/// Closes the first argument.
pub const SHAPE_CLOSE: u8 = 9;
/// Moves the position of the first argument by or to the second; the third says
/// which.
pub const SHAPE_SEEK: u8 = 10;

/// One call: positions (0 to 3) of its arguments, or [`NO_ARGUMENT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileCall {
    /// One of the `SHAPE_*` constants.
    pub shape: u8,
    /// One of the `FILE_*` constants, 0 where the shape tells.
    pub operation: u8,
    /// Directory that `path` is relative to; else the working directory.
    pub directory: u8,
    /// The name.
    pub path: u8,
    /// Directory that `target` is relative to; else the working directory.
    pub target_directory: u8,
    /// The second name.
    pub target: u8,
    /// Flags of an open or unlink, a mode, or a user id with the group id behind
    /// it.
    pub value: u8,
}

impl FileCall {
    /// As one word of the table; 0 stands for a call of no interest.
    #[must_use]
    pub const fn pack(self) -> u64 {
        u64::from_le_bytes([
            self.shape,
            self.operation,
            self.directory,
            self.path,
            self.target_directory,
            self.target,
            self.value,
            0,
        ])
    }

    /// What [`FileCall::pack`] was given.
    #[must_use]
    pub const fn unpack(word: u64) -> Self {
        let [
            shape,
            operation,
            directory,
            path,
            target_directory,
            target,
            value,
            _,
        ] = word.to_le_bytes();
        Self {
            shape,
            operation,
            directory,
            path,
            target_directory,
            target,
            value,
        }
    }
}

/// Bytes of a name that opens for reading are filtered by: what is longer
/// counts by its beginning. The last byte is always 0.
pub const NAME_KEY: usize = 32;

/// Names that are looked at: that of the file, and of this many directories
/// above it, less one.
pub const NAME_LEVELS: u32 = 4;

/// Names that can be configured at most.
pub const NAMES_MAX: u32 = 512;
