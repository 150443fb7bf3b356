//! Foreign clients: Python, with grpcio by reflection and boto3.

use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{scene::output, tools};

/// A script of `tests/python` in the environment that setup made.
pub fn script(name: &str) -> Command {
    let mut command = Command::new(tools().join("python/bin/python"));
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/python").to_owned() + "/" + name);
    command
}

/// Calls a method of the collector; the client knows of the API only what
/// reflection says.
pub fn call(address: &str, method: &str, request: &Value) -> Result<Value> {
    let answer = output(script("call.py").args([address, method, &request.to_string()]))?;
    serde_json::from_str(&answer).with_context(|| format!("not JSON: {answer}"))
}

/// The services that reflection names.
pub fn services(address: &str) -> Result<Vec<String>> {
    let answer = output(script("call.py").args([address, "list"]))?;
    Ok(answer.lines().map(str::to_owned).collect())
}

/// All sessions of a filter, page after page.
pub fn sessions(address: &str, filter: &str) -> Result<Vec<Value>> {
    let request = json!({ "filter": filter, "pageSize": 100 });
    pages(
        address,
        "auditty.v1.SessionService/ListSessions",
        request,
        "sessions",
    )
}

/// All commands of a session, page after page.
pub fn commands(address: &str, session_id: &str) -> Result<Vec<Value>> {
    let request = json!({ "parent": format!("sessions/{session_id}"), "pageSize": 500 });
    pages(
        address,
        "auditty.v1.SessionService/ListCommands",
        request,
        "commands",
    )
}

fn pages(address: &str, method: &str, mut request: Value, field: &str) -> Result<Vec<Value>> {
    let mut rows = Vec::new();
    loop {
        let answer = call(address, method, &request)?;
        rows.extend(answer[field].as_array().cloned().unwrap_or_default());
        match answer["nextPageToken"].as_str() {
            Some(token) if !token.is_empty() => request["pageToken"] = token.into(),
            _ => return Ok(rows),
        }
    }
}
