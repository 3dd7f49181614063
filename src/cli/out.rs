//! The two streams: standard output is data, standard error is speech.

use std::io::{self, IsTerminal, Write};

use anstream::ColorChoice;
use rustix::termios::tcgetwinsize;

use super::args::{Color, Global};
use super::view::Look;
use crate::ask::Refusal;
use crate::base::Timestamp;

/// How this run of hostctl talks.
#[derive(Debug, Clone, Copy)]
pub struct Out {
    /// Documents instead of text.
    pub json: bool,
    quiet: bool,
    verbose: bool,
    color: Color,
}

/// Data could not be written, and not because the reader has left.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
pub struct WriteError(#[source] pub io::Error);

impl Out {
    /// As the options have it.
    pub fn new(global: &Global) -> Self {
        let Global { json, quiet, verbose, color, .. } = *global;
        Self { json, quiet, verbose, color }
    }

    /// As it is when the options could not be read.
    pub fn plain(json: bool) -> Self {
        Self { json, quiet: false, verbose: false, color: Color::Never }
    }

    /// How views are to look on standard output now.
    pub fn look(self) -> Look {
        let stdout = io::stdout();
        let color = match self.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => colors(),
        };
        let terminal = stdout.is_terminal();
        let width = terminal.then(|| tcgetwinsize(&stdout).ok()).flatten().map(|size| size.ws_col);
        // Narrower than this the tables are of no use; pseudo-terminals may say 0.
        let width = width.filter(|width| *width >= 20);
        Look { width, color, now: Timestamp::from(std::time::SystemTime::now()) }
    }

    /// Whether progress is shown, and whether on one line that changes.
    pub fn progress(self) -> Option<bool> {
        let live = io::stderr().is_terminal() && !self.verbose;
        (!self.quiet && (live || self.verbose)).then_some(live)
    }

    /// Something to know that is not data.
    pub fn note(self, text: &str) {
        if !self.quiet {
            complain(text);
        }
    }

    /// Says why not: as a document where documents are wanted.
    pub fn refuse(self, refusal: &Refusal) -> Result<u8, WriteError> {
        if self.json {
            let document = serde_json::json!({ "error": refusal });
            data(&format!("{document:#}\n"))?;
        } else {
            let hint = match refusal.hint.as_str() {
                "" => String::new(),
                hint => format!("\n  hint: {hint}"),
            };
            // Lines that point into each other must stay in line.
            let begin = if refusal.message.contains('\n') { "\n" } else { "" };
            complain(&format!("{begin}{}{hint}", refusal.message));
        }
        Ok(refusal.code.exit())
    }
}

/// Writes data; that nobody reads it any more is fine.
pub fn data(text: &str) -> Result<(), WriteError> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(WriteError(error)),
        _ => Ok(()),
    }
}

/// Writes bytes as they are; false when nobody reads them any more.
pub fn bytes(bytes: &[u8]) -> Result<bool, WriteError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(WriteError(error)),
    }
}

/// Speaks on standard error; if that is closed there is nobody to tell.
pub fn complain(text: &str) {
    let space = if text.starts_with('\n') { "" } else { " " };
    speak(&format!("hostctl:{space}{}\n", super::view::printable(text)));
}

/// Raw text on standard error.
pub fn speak(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

/// Columns of the terminal on standard error.
pub fn width() -> usize {
    tcgetwinsize(io::stderr()).map_or(80, |size| usize::from(size.ws_col)).max(20)
}

/// Whether standard output is a terminal that wants colours.
pub fn colors() -> bool {
    anstream::AutoStream::choice(&io::stdout()) != ColorChoice::Never
}
