//! [`Store`] and [`Recording`]: what is in a folder of recordings, read with
//! `zstd`, `sha256sum` and a JSON parser, never with our own reader.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;

use crate::{SOON, scene::files_below, scene::output, wait_for};

/// A folder of recordings.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

/// One recording.
#[derive(Clone, Debug)]
pub struct Recording {
    /// Its folder.
    pub folder: PathBuf,
    /// All events in order, without the headers of the chunks.
    pub events: Vec<Value>,
    /// `manifest.json`, when it is finished.
    pub manifest: Option<Value>,
}

impl Store {
    /// The store in this folder, prefix included or not.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// All recordings so far, in the order of their ids, which is that of time.
    pub fn recordings(&self) -> Result<Vec<Recording>> {
        let mut folders: Vec<_> = files_below(&self.folder)?
            .into_iter()
            .filter(|path| path.to_string_lossy().ends_with(".jsonl.zst"))
            .filter_map(|path| path.parent().map(Path::to_path_buf))
            .collect();
        folders.sort();
        folders.dedup();
        folders
            .iter()
            .map(|folder| Recording::read(folder))
            .collect()
    }

    /// Waits until there are `count` finished recordings of logins to this
    /// server, and gives them. Unfinished ones must not be beside them.
    pub fn finished(&self, server_port: u16, count: usize) -> Result<Vec<Recording>> {
        let mut seen = String::new();
        wait_for(&format!("{count} finished recordings"), SOON, || {
            let sessions = self.finished_sessions()?;
            let ours = sessions
                .iter()
                .filter(|session| session["connection"]["server_port"] == server_port);
            let ours: Vec<_> = ours.collect();
            seen = format!("{ours:?}");
            Ok((ours.len() >= count).then_some(()))
        })
        .with_context(|| {
            let files = files_below(&self.folder).unwrap_or_default();
            format!("finished are: {seen}\nfiles are: {files:#?}")
        })?;
        let mut ours = self.recordings()?;
        ours.retain(|recording| recording.server_port() == Some(u64::from(server_port)));
        let list: String = ours.iter().map(Recording::describe).collect();
        ensure!(ours.len() == count, "not {count} recordings:\n{list}");
        Ok(ours)
    }

    /// The sessions of all `manifest.json` that have their `SHA256SUMS`, which
    /// is written last.
    fn finished_sessions(&self) -> Result<Vec<Value>> {
        let files = files_below(&self.folder)?.into_iter();
        files
            .filter(|path| path.ends_with("manifest.json"))
            .filter(|path| path.with_file_name("SHA256SUMS").exists())
            .map(|path| {
                let manifest: Value = serde_json::from_slice(&fs::read(path)?)?;
                Ok(manifest["session"].clone())
            })
            .collect()
    }

    /// The one finished recording of a login to this server.
    pub fn only(&self, server_port: u16) -> Result<Recording> {
        let mut recordings = self.finished(server_port, 1)?;
        recordings.pop().context("one recording")
    }
}

impl Recording {
    /// Reads what is there so far.
    pub fn read(folder: &Path) -> Result<Self> {
        let chunks: Vec<_> = files_below(folder)?
            .into_iter()
            .filter(|path| path.to_string_lossy().ends_with(".jsonl.zst"))
            .collect();
        let text = output(Command::new("zstd").args(["-dcq"]).args(&chunks))?;
        let mut events = Vec::new();
        for line in text.lines() {
            let event: Value = serde_json::from_str(line).context("a line is not JSON")?;
            if event["kind"] != "header" {
                events.push(event);
            }
        }
        let manifest = folder.join("manifest.json");
        let manifest = if manifest.exists() {
            Some(serde_json::from_slice(&fs::read(manifest)?)?)
        } else {
            None
        };
        Ok(Self {
            folder: folder.to_owned(),
            events,
            manifest,
        })
    }

    /// `sha256sum -c`, no hole in the sequence, and the verdict COMPLETE.
    pub fn assert_complete(&self) -> Result<()> {
        self.assert_sound()?;
        let gaps = self.of("gap");
        ensure!(gaps.is_empty(), "gaps: {gaps:?}");
        let verdict = &self.session()["verdict"];
        ensure!(verdict == "complete", "the verdict is {verdict}");
        Ok(())
    }

    /// `sha256sum -c`, and no hole in the sequence.
    pub fn assert_sound(&self) -> Result<()> {
        output(
            Command::new("sha256sum")
                .args(["--check", "--strict", "--quiet", "SHA256SUMS"])
                .current_dir(&self.folder),
        )?;
        for (index, event) in self.events.iter().enumerate() {
            let expected = index as u64 + 1;
            ensure!(
                event["seq"] == expected,
                "seq {} instead of {expected}",
                event["seq"]
            );
        }
        Ok(())
    }

    /// The session in the manifest; null while open.
    pub fn session(&self) -> &Value {
        self.manifest
            .as_ref()
            .map_or(&Value::Null, |manifest| &manifest["session"])
    }

    /// Its id.
    pub fn session_id(&self) -> String {
        let name = self
            .folder
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        name.trim_start_matches("session=").to_owned()
    }

    /// All events of a kind.
    pub fn of(&self, kind: &str) -> Vec<&Value> {
        self.events
            .iter()
            .filter(|event| event["kind"] == kind)
            .collect()
    }

    /// The bytes of a stream: `kind` is `output` or `input`; `stream` is
    /// `terminal` (the client's own), `stdin`, `stdout` or `stderr`. Offsets
    /// must follow each other; what is masked or omitted is left out.
    pub fn bytes(&self, kind: &str, stream: &str) -> Result<Vec<u8>> {
        let outer = |event: &Value| {
            event["stream"] == stream && event["terminal"].as_u64().unwrap_or(0) == 0
        };
        self.bytes_where(kind, outer)
    }

    /// The bytes of the terminal with this number, inner ones included.
    pub fn bytes_of_terminal(&self, kind: &str, terminal: u64) -> Result<Vec<u8>> {
        self.bytes_where(kind, |event| event["terminal"] == terminal)
    }

    fn bytes_where(&self, kind: &str, chosen: impl Fn(&Value) -> bool) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut position = None;
        for event in self.of(kind).into_iter().filter(|event| chosen(event)) {
            let offset = event["offset"].as_u64().context("an offset")?;
            ensure!(
                position.is_none_or(|position| position == offset),
                "{kind} goes on at {offset} instead of {position:?}: {event}"
            );
            let data = bytes_of(event)?;
            let withheld = ["masked_bytes", "omitted_bytes"];
            let withheld = withheld.iter().filter_map(|field| event[*field].as_u64());
            position = Some(offset + data.len() as u64 + withheld.sum::<u64>());
            bytes.extend(data);
        }
        Ok(bytes)
    }

    /// What the client's terminal showed, as text.
    pub fn shown(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.bytes("output", "terminal")?).into_owned())
    }

    /// What was typed at the client's terminal, as text.
    pub fn typed(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.bytes("input", "terminal")?).into_owned())
    }

    /// The arguments of every exec.
    pub fn argvs(&self) -> Vec<Vec<String>> {
        self.of("exec")
            .iter()
            .map(|event| words(&event["argv"]))
            .collect()
    }

    /// The first exec with these arguments.
    pub fn exec(&self, argv: &[&str]) -> Result<&Value> {
        let mut execs = self.of("exec").into_iter();
        execs
            .find(|exec| words(&exec["argv"]) == argv)
            .with_context(|| format!("no {argv:?} among {:?}", self.argvs()))
    }

    /// How the program ended that this exec began.
    pub fn exit_of(&self, exec: &Value) -> Result<&Value> {
        let mut exits = self.of("exit").into_iter();
        exits
            .find(|exit| exit["exec_seq"] == exec["seq"])
            .with_context(|| format!("no exit of {exec}"))
    }

    /// The last session_end.
    pub fn end(&self) -> Result<&Value> {
        self.of("session_end")
            .pop()
            .context("no session_end on the timeline")
    }

    fn server_port(&self) -> Option<u64> {
        let start = self.events.first()?;
        start["connection"]["server_port"].as_u64()
    }

    fn describe(&self) -> String {
        let kind = self.events.first().map(|event| &event["session_kind"]);
        let finished = self.manifest.is_some();
        let events = self.events.len();
        let id = self.session_id();
        format!("  {id}: {kind:?}, {events} events, finished: {finished}\n")
    }
}

/// The words of a JSON list of strings.
pub fn words(list: &Value) -> Vec<String> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter()
        .map(|word| word.as_str().unwrap_or_default().to_owned())
        .collect()
}

/// The exact bytes of an event: `base64` where it stands, else `text`.
pub fn bytes_of(event: &Value) -> Result<Vec<u8>> {
    match event["base64"].as_str() {
        Some(exact) => Ok(BASE64_STANDARD.decode(exact)?),
        None => Ok(event["text"]
            .as_str()
            .unwrap_or_default()
            .as_bytes()
            .to_vec()),
    }
}
