//! A command whose standard input and output are one connection: ssh, when it
//! carries our protocol to another machine.
#![allow(clippy::disallowed_methods, reason = "this is the door")]

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use super::run::{Command, RunError};

/// A carrier that runs; it is killed when this is dropped.
pub struct Carrier {
    _child: tokio::process::Child,
}

/// Starts the command in our own process group, so that it may ask for a
/// password on the terminal and ends with Ctrl-C as we do. Its standard error
/// is ours. Deadline, limit and input of the command do not apply.
pub fn start(command: &Command) -> Result<(UnixStream, Carrier), RunError> {
    let fail = |source: io::Error| RunError::Start { command: command.to_string(), source };
    let (ours, theirs) = UnixStream::pair().map_err(fail)?;
    let input = OwnedFd::from(theirs.try_clone().map_err(fail)?);
    let child = tokio::process::Command::new(&command.program)
        .args(&command.args)
        .stdin(Stdio::from(input))
        .stdout(Stdio::from(OwnedFd::from(theirs)))
        .kill_on_drop(true)
        .spawn()
        .map_err(fail)?;
    Ok((ours, Carrier { _child: child }))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[tokio::test]
    async fn carries_both_ways_and_says_when_it_is_missing() {
        let (mut stream, _carrier) = start(&Command::new("cat", [""; 0])).unwrap();
        stream.write_all(b"there and back").unwrap();
        let mut back = [0; 14];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"there and back");
        assert!(start(&Command::new("no-such-carrier", [""; 0])).err().unwrap().is_missing());
    }
}
