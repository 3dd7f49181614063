//! hostctl: what a person types, and what they see.
//!
//! Words come in as arguments and are turned into one
//! [`Ask`](crate::ask::Ask); the daemon, or [`local`](crate::local) where it
//! has none, answers; the answer goes out as text or JSON, with an exit code.
//! Standard output is data, standard error is speech.
//!
//! - [`args`]: the words, and the help that teaches them
//! - [`run`]: from words to answer to exit code
//! - [`console`]: a guest's serial port in the terminal
//! - [`exit`]: which answers are findings
//! - `plot`: the history as a picture
//! - [`progress`]: the live step of a VM that is starting or stopping
//! - [`out`]: the two streams; a closed pipe is not an error
//! - [`mod@reference`]: the page of all documents that `--json` prints
//! - [`view`]: replies as text; pure
//!
//! Read [`run`] first.

pub mod args;
pub mod console;
pub mod events;
pub mod exit;
pub mod out;
mod plot;
pub mod progress;
pub mod reference;
pub mod run;
pub mod view;

#[cfg(test)]
mod samples;

use std::process::ExitCode;

/// Runs hostctl with the arguments of this process.
pub fn main() -> ExitCode {
    // A person is not helped by a backtrace, whatever the environment says.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|at| format!(" ({}:{})", at.file(), at.line()));
        out::complain(&format!("internal error{}; please report it", place.unwrap_or_default()));
    }));
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            out::complain(&format!("cannot start: {error}"));
            return ExitCode::from(exit::FAILED);
        }
    };
    let code = runtime.block_on(run::run(std::env::args_os().collect()));
    // A read of standard input that nobody waits for any more must not hold us.
    runtime.shutdown_background();
    ExitCode::from(code)
}
