//! The recording format, version 1: the specification.
//!
//! A *recording* is all events of one SSH session. It is a folder of immutable
//! objects, written while the session runs, readable with `zstd`, `jq` and
//! `sha256sum`.
//!
//! # Objects
//!
//! ```text
//! <prefix>/v1/host=<host id>/date=YYYY-MM-DD/session=<uuid>/
//!     000000.jsonl.zst        chunk 0
//!     000001.jsonl.zst        chunk 1, …
//!     000000.jsonl.zst.age    the same, encrypted
//!     000001.input.jsonl.zst.age   encrypted, for others: what was typed meanwhile
//!     manifest-000002.json    checkpoint manifest: the agent stopped after 2 chunks
//!     manifest-000002.json.sig   its signature
//!     manifest.json           manifest: the recording is finished
//!     manifest.json.sig       its signature
//!     SHA256SUMS              digests of the chunks and of manifest.json
//! ```
//!
//! Beside the recordings of a host stand its key log and its digest chain:
//! [`crate::host`] specifies them.
//!
//! `<prefix>` is the store's choice and no part of the format. The date is the
//! UTC date of the session's start. In the host id every byte outside
//! `A-Z a-z 0-9 . _ -` is percent-encoded. Chunk numbers have six digits, more
//! only above 999999. A key, once written, never changes its content.
//!
//! # Chunk
//!
//! One or several concatenated zstd frames (window at most 8 MiB) that
//! decompress to JSON Lines: UTF-8, every line one JSON object closed by `\n`,
//! at most 16 MiB a line and 256 MiB a chunk. Every line has `kind`. The first
//! line is the header, so that a chunk explains itself:
//!
//! ```text
//! kind                 "header"
//! format               "auditty.recording/1"
//! host_id              string, not percent-encoded
//! boot_id              string; boot_ns of all events here counts from this boot
//! session_id           UUID
//! chunk                number of the chunk, from 0
//! previous_chain_head  chain head after the chunk before, 64 hex digits
//! first_seq            seq of the first event
//! created_at           RFC 3339
//! input                true: an input chunk (see Encryption); else absent
//! ```
//!
//! Every further line is an event ([`crate::event`]): `seq`, `time`, `boot_ns`,
//! `kind` and the fields of its kind. `seq` counts from 1 through the whole
//! recording without a hole; chunks follow each other without a hole as well.
//! Bytes stand as `text` when they are valid UTF-8, else as `base64` (exact),
//! with a lossy `text` beside it where most of it is text. When `base64` is
//! there, it is the truth.
//!
//! # Kinds of events
//!
//! | kind | tells |
//! |---|---|
//! | `session_start`, `session_end` | where and how it began; why it ended, and how many processes ran on |
//! | `login`, `grant` | who logged in and how that is known; who allowed it |
//! | `terminal_open`, `resize` | a pty: number 0 is the client's own, others are inner ones (tmux, screen, script, sudo) with the process that holds them |
//! | `output`, `input` | bytes of one stream at `offset`: `terminal` by its number, or a pipe; `masked_bytes` and `omitted_bytes` (file transfers) stand for bytes that are not stored, `encrypted_bytes` for ones in the input chunk |
//! | `exec`, `exit` | a program that started, ended |
//! | `file` | a file was created, changed, deleted, or read where the host watches that |
//! | `transfer` | a file went over the connection by sftp, scp, rsync or git |
//! | `connect`, `disconnect` | a network connection of a process, or one sshd forwards for the client |
//! | `link` | a tie to another session: its client, or a terminal that shows another one |
//! | `handoff` | work handed to the service manager, at, cron, a container engine, D-Bus |
//! | `gap` | a declared loss |
//! | `marker` | a note about the recording |
//!
//! Of a session that does very much of one kind (20 000 events at once, 500
//! a second for ever; files and network apart) the rest is not recorded, and a
//! `gap` of cause `bound` has its exact number.
//!
//! # Encryption
//!
//! A host that is told to (`[encryption]`) stores chunks as
//! [age](https://age-encryption.org/v1) files, encrypted to public keys of
//! auditors: the age file's content is the chunk as above. Digests, hash chain,
//! manifest and `SHA256SUMS` are over the encrypted bytes, so that everything is
//! verified without a private key. One recording may have chunks of both forms,
//! when the host's settings changed.
//!
//! Where the input has recipients of its own, an `input` event has
//! `encrypted_bytes` (their number) in place of the bytes, and the chunk behind,
//! the *input chunk*, holds the same events whole. It is numbered, chained and
//! listed like any other; only its `seq` repeat some of the chunk before. Chunks
//! without input have none.
//!
//! The manifest's `encryption` says to whom, from which chunk on. What stays
//! readable for whoever has the objects: the manifest (who, where, when, grant,
//! counts, gaps, verdict; not the command of an `exec` session, which is left
//! out), sizes and times of chunks, key log and digests.
//!
//! A chunk is encrypted as a whole when it ends, because an age file is only
//! valid with its end. A host that dies meanwhile leaves chunks of a fraction of
//! a second each, five for each second with events at most: the recording is
//! whole, in more objects. A running host stores as many objects as without
//! encryption, or twice as many where input has its own recipients.
//!
//! # Hash chain
//!
//! ```text
//! head(-1) = 32 zero bytes
//! head(n)  = SHA-256( head(n-1) || SHA-256(chunk n as stored) || key(n) )
//! ```
//!
//! `key(n)` is the chunk's object key from `v1/` on, without `<prefix>`: a
//! copied bucket still verifies.
//!
//! # Manifest
//!
//! `manifest.json` ([`crate::manifest::Manifest`]) is written last, when nothing
//! more will be appended: `format`, `session` (who, where, when, by whose grant,
//! verdict), `chunks` (key, number, digest, sizes, sequence and time range,
//! chain head), `chain_head`, `gaps`, `sealed_at`, `signed_by`, and `encryption`
//! where chunks are encrypted. A checkpoint manifest is the
//! same with `"checkpoint": true`, written when the agent stops while the
//! session goes on; the number in its name is the number of chunks it lists.
//! Without `manifest.json` the recording is open: the checkpoint with the
//! highest number counts, and further chunks may follow it. `SHA256SUMS` is for
//! `sha256sum -c` run inside the folder.
//!
//! # Signature
//!
//! `manifest.json.sig` is an OpenSSH signature (SSHSIG, armoured) with Ed25519 and
//! SHA-512 over the bytes of `manifest.json`, in the namespace
//! `auditty-manifest@v1`; a checkpoint's likewise. `signed_by` names the key log,
//! the number of the key in it and its fingerprint; `sealed_at` lies within that
//! key's validity ([`crate::host`]). The manifest binds the chunks by key, size,
//! digest and chain head, and so the signature binds the whole recording.
//! The signature and `SHA256SUMS` are stored before the manifest they belong to.
//!
//! # What a reader does with what it does not know
//!
//! * another folder than `v1/`: not its business;
//! * another `format`: it refuses the chunk or manifest and names the format.
//!   Additions do not change the format name, so that old readers go on;
//! * an unknown `kind`: it skips the line, and counts its `seq` as present;
//! * an unknown field: it ignores the field;
//! * other objects in the folder: it ignores them;
//! * a damaged or truncated chunk: everything before the damage is good and is
//!   shown, and the damage is named.
//!
//! # Reading it with stock tools
//!
//! Everything, in order (inside the folder):
//!
//! ```sh
//! zstd -dc *.jsonl.zst | jq .
//! ```
//!
//! Where chunks are encrypted (`-i` takes a key file of age or an OpenSSH private
//! key; for what was typed, `*.input.jsonl.zst.age` likewise):
//!
//! ```sh
//! for chunk in *[0-9].jsonl.zst.age; do age -d -i key "$chunk"; done | zstd -dc | jq .
//! ```
//!
//! Is it what was stored?
//!
//! ```sh
//! sha256sum -c SHA256SUMS
//! ```
//!
//! By this host, at that time? (`allowed_signers` from `auditty keys export`;
//! `verify.sh` of [`crate::verify::SCRIPT`] checks everything.)
//!
//! ```sh
//! TZ=UTC ssh-keygen -Y verify -f allowed_signers -I "$HOST_ID" -n auditty-manifest@v1 \
//!   -O verify-time=$(jq -r .sealed_at manifest.json | sed 's/[-:T]//g; s/[.Z].*//') \
//!   -s manifest.json.sig < manifest.json
//! ```
//!
//! Which commands ran?
//!
//! ```sh
//! zstd -dc *.jsonl.zst | jq -r 'select(.kind == "exec") | [.time, .uid, (.argv | join(" "))] | @tsv'
//! ```
//!
//! The exact bytes of the client's terminal (any `kind`/`stream` likewise):
//!
//! ```sh
//! zstd -dc *.jsonl.zst \
//!   | jq -r 'select(.kind == "output" and .terminal == 0) | .base64 // (.text // "" | @base64)' \
//!   | while read -r line; do printf %s "$line" | base64 -d; done
//! ```
//!
//! Who, and who approved?
//!
//! ```sh
//! jq '.session | {login, grant, verdict}' manifest.json
//! ```
//!
//! Every command on every host in a month, with DuckDB:
//!
//! ```sql
//! SELECT host, session, time, argv FROM read_json('v1/*/*/*/*.jsonl.zst', hive_partitioning = true,
//!   columns = {kind: 'VARCHAR', time: 'TIMESTAMP', argv: 'VARCHAR[]'}, format = 'newline_delimited')
//! WHERE kind = 'exec' AND date BETWEEN '2026-11-01' AND '2026-11-30';
//! ```

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::digest::Digest;

/// Name and version of the format, in every header and manifest.
pub const FORMAT: &str = "auditty.recording/1";

/// The first line of a chunk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename = "header")]
pub struct Header {
    /// [`FORMAT`].
    pub format: String,
    /// Id of the host, not percent-encoded.
    pub host_id: String,
    /// Boot id of the kernel that `boot_ns` of the events belongs to.
    pub boot_id: String,
    /// The session.
    pub session_id: Uuid,
    /// Number of the chunk, from 0.
    pub chunk: u32,
    /// Chain head after the chunk before; zero for chunk 0.
    pub previous_chain_head: Digest,
    /// Sequence number of the first event.
    pub first_seq: u64,
    /// When the chunk was begun.
    pub created_at: Timestamp,
    /// It holds what the client typed in the time of the chunk before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub input: bool,
}

impl Header {
    /// The `kind` of a header line.
    pub const KIND: &str = "header";
}
