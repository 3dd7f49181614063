//! A child that goes on talking: its lines as they come, for as long as they
//! are wanted. It ends when its [`Following`] is dropped.
#![allow(clippy::disallowed_methods, reason = "this is the door")]

use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr};
use tokio::time::timeout;

use super::run::{Command, RunError};

/// The longest line that is kept; what is longer is cut.
pub const LINE: usize = 4096;
/// How long a child that has closed its output has to say why.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The output of a child that goes on talking.
pub struct Following {
    lines: Box<dyn AsyncBufRead + Send + Unpin>,
    partial: Vec<u8>,
    child: Option<(Child, Option<ChildStderr>)>,
}

impl Following {
    /// Starts a command; its deadline and limit do not apply.
    pub(super) fn start(command: &Command) -> Result<Self, RunError> {
        let fail = |source| RunError::Start { command: command.to_string(), source };
        let mut child = command
            .to_process()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(fail)?;
        let stdout = child.stdout.take().ok_or_else(|| fail(io::ErrorKind::BrokenPipe.into()))?;
        let stderr = child.stderr.take();
        let lines = Box::new(BufReader::new(stdout));
        Ok(Self { lines, partial: Vec::new(), child: Some((child, stderr)) })
    }

    /// One that says this and ends; there is no child.
    pub fn of(text: Vec<u8>) -> Self {
        Self { lines: Box::new(io::Cursor::new(text)), partial: Vec::new(), child: None }
    }

    /// The next line without its newline, cut at [`LINE`]; `None` at the end.
    /// May be dropped while it waits without losing anything.
    pub async fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let some = self.lines.fill_buf().await?;
            if some.is_empty() {
                let rest = std::mem::take(&mut self.partial);
                return Ok((!rest.is_empty()).then_some(rest));
            }
            let end = some.iter().position(|&byte| byte == b'\n');
            let part = some.get(..end.unwrap_or(some.len())).unwrap_or_default();
            let room = LINE.saturating_sub(self.partial.len()).min(part.len());
            self.partial.extend_from_slice(part.get(..room).unwrap_or_default());
            let taken = end.map_or(some.len(), |end| end + 1);
            self.lines.consume(taken);
            if end.is_some() {
                return Ok(Some(std::mem::take(&mut self.partial)));
            }
        }
    }

    /// Why it has ended, in its own words; after its last line.
    pub async fn why(mut self) -> String {
        let Some((child, stderr)) = &mut self.child else { return "it has ended".to_owned() };
        let said = async {
            let mut said = Vec::new();
            if let Some(stderr) = stderr {
                // What cannot be read is not said.
                let _ = stderr.take(LINE as u64).read_to_end(&mut said).await;
            }
            (String::from_utf8_lossy(&said).trim().to_owned(), child.wait().await)
        };
        match timeout(LAST_WORDS, said).await {
            Ok((said, Ok(_))) if !said.is_empty() => said,
            Ok((_, Ok(status))) => super::run::Exit::from(status).to_string(),
            Ok((_, Err(error))) => error.to_string(),
            Err(_) => "it has closed its output and goes on".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Following {
        Following::start(&Command::new("sh", ["-c", script])).unwrap()
    }

    #[tokio::test]
    async fn lines_come_one_by_one_and_long_ones_are_cut() {
        let mut child =
            sh("echo one; echo; printf '%05000d\\n' 7; printf end; echo why >&2; exit 3");
        assert_eq!(child.line().await.unwrap().unwrap(), b"one");
        assert_eq!(child.line().await.unwrap().unwrap(), b"");
        assert_eq!(child.line().await.unwrap().unwrap().len(), LINE);
        assert_eq!(child.line().await.unwrap().unwrap(), b"end");
        assert_eq!(child.line().await.unwrap(), None);
        assert_eq!(child.why().await, "why");
        assert_eq!(sh("exit 3").why().await, "exit status 3");
    }

    #[tokio::test]
    async fn a_dropped_child_is_gone() {
        let mut child = sh("echo $$; exec sleep 600");
        let pid = String::from_utf8(child.line().await.unwrap().unwrap()).unwrap();
        drop(child);
        for _ in 0..500 {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            if stat.is_empty() || stat.contains(") Z ") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{pid} goes on");
    }
}
