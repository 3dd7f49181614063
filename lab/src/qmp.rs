//! A small QMP client: one command at a time, events kept until asked for.

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

/// Events beyond this many are forgotten, the oldest first.
const EVENTS: usize = 256;

pub struct Qmp {
    reader: BufReader<UnixStream>,
    /// A line whose rest has not come before a deadline.
    partial: String,
    events: VecDeque<Value>,
}

impl Qmp {
    pub fn connect(path: &Path, limit: Duration) -> Result<Self> {
        let stream = UnixStream::connect(path)
            .with_context(|| format!("connecting to QEMU's monitor {}", path.display()))?;
        let mut qmp = Self { reader: BufReader::new(stream), partial: String::new(), events: VecDeque::new() };
        let end = Instant::now() + limit;
        let greeting = qmp.line(end)?;
        if greeting.get("QMP").is_none() {
            bail!("QEMU's monitor greets with {greeting}");
        }
        qmp.execute("qmp_capabilities", json!({}), limit)?;
        Ok(qmp)
    }

    pub fn execute(&mut self, command: &str, arguments: Value, limit: Duration) -> Result<Value> {
        let end = Instant::now() + limit;
        let request = json!({"execute": command, "arguments": arguments});
        self.reader
            .get_mut()
            .write_all(format!("{request}\n").as_bytes())
            .with_context(|| format!("sending {command} to QEMU"))?;
        loop {
            let answer = self.line(end).with_context(|| format!("waiting for QEMU's answer to {command}"))?;
            if let Some(value) = answer.get("return") {
                return Ok(value.clone());
            }
            if let Some(error) = answer.get("error") {
                let text = error.get("desc").and_then(Value::as_str).unwrap_or("no description");
                return Err(anyhow!("QEMU refuses {command} {arguments}: {text}"));
            }
            self.keep(answer);
        }
    }

    /// Waits for an event that `wanted` accepts, also among those already seen.
    pub fn event(&mut self, limit: Duration, wanted: impl Fn(&str, &Value) -> bool) -> Result<Value> {
        let end = Instant::now() + limit;
        let matches = |event: &Value| {
            event.get("event").and_then(Value::as_str).is_some_and(|name| wanted(name, &event["data"]))
        };
        loop {
            if let Some(found) = self.events.iter().position(matches) {
                return Ok(self.events.remove(found).unwrap_or_default());
            }
            let line = self.line(end)?;
            self.keep(line);
        }
    }

    fn keep(&mut self, event: Value) {
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    fn line(&mut self, end: Instant) -> Result<Value> {
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("QEMU's monitor says nothing within the time allowed");
            }
            self.reader.get_ref().set_read_timeout(Some(left))?;
            match self.reader.read_line(&mut self.partial) {
                Ok(0) => bail!("QEMU has closed its monitor"),
                Ok(_) if self.partial.ends_with('\n') => {
                    let line = std::mem::take(&mut self.partial);
                    return serde_json::from_str(&line)
                        .with_context(|| format!("QEMU's monitor says {line:?}"));
                }
                Ok(_) => {}
                Err(error) if is_timeout(&error) => {}
                Err(error) => return Err(error).context("reading QEMU's monitor"),
            }
        }
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted)
}
