//! A guest's serial port in the terminal: bytes both ways, as they are.
//!
//! The terminal is raw meanwhile, and is put back however this ends. Where
//! standard input is no terminal it is a pipe: its bytes are sent, and hostctl
//! leaves when the guest has been silent for a while after the last of them.

use std::io::{self, IsTerminal};
use std::time::Duration;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::exit;
use super::out::{self, Out, WriteError};
use crate::api::client::Client;
use crate::ask::view::ConsoleDataView;
use crate::ask::{Answer, Ask, Code, Hex, Refusal, Reply, Secret};
use crate::base::Name;

/// Ctrl-].
const ESCAPE: u8 = 0x1d;
/// The most that is sent at once.
const PIECE: usize = 16 << 10;
/// How long the guest is silent before a pipe ends.
const QUIET: Duration = Duration::from_secs(2);
/// Before the rest is sent to a guest that takes nothing.
const AGAIN: Duration = Duration::from_millis(200);
/// How long letting go may take: it happens by itself after a while.
const PARTING: Duration = Duration::from_secs(2);

/// Why it is over.
enum End {
    /// The person has left, or the pipe has ended.
    Left,
    /// We are told to end.
    Told(SignalKind),
    /// There will be no more, in words.
    Over(String),
    /// It did not work.
    Failed(Refusal),
}

/// Talks until the person leaves or the guest ends.
pub async fn run(
    out: Out,
    client: &Client,
    name: &Name,
    take: bool,
    follow: bool,
) -> Result<u8, WriteError> {
    if out.json {
        let message = "`vm console` is a conversation, not a document";
        let hint =
            "without --json; `hostctl vm log --serial --json` has what the guest has written";
        return out.refuse(&Refusal::new(Code::Usage, message, hint));
    }
    let open = Ask::VmConsoleOpen { name: name.clone(), take };
    let session = match client.ask(&open).await {
        Ok(Reply::Console(view)) => view.session,
        Ok(_) => return out.refuse(&strange()),
        Err(refusal) => return out.refuse(&refusal),
    };
    let ends = match Ends::new() {
        Ok(ends) => ends,
        Err(error) => return out.refuse(&Refusal::new(Code::Failed, error.to_string(), "")),
    };
    let terminal = io::stdin().is_terminal();
    if terminal {
        out.note(&format!("this is `{name}`'s serial port; Ctrl-] leaves"));
    }
    let raw = terminal.then(Raw::enter).flatten();
    let talk = Talk { client, name, session, escape: raw.is_some(), stays: terminal || follow };
    let end = talk.converse(ends).await;
    let close = Ask::VmConsoleClose { name: name.clone(), session: talk.session.clone() };
    // It happens by itself after a while.
    let _ = timeout(PARTING, client.ask(&close)).await;
    if raw.is_some() {
        // The guest's last line may not be ended.
        out::speak("\r\n");
    }
    drop(raw);
    match end? {
        End::Left => Ok(exit::FINE),
        End::Told(kind) => Ok(u8::try_from(128 + kind.as_raw_value()).unwrap_or(exit::FAILED)),
        End::Over(why) => {
            out.note(&why);
            Ok(exit::FINE)
        }
        End::Failed(refusal) => out.refuse(&refusal),
    }
}

fn strange() -> Refusal {
    let hint = format!("hostctl is {}; is hostd another version?", env!("CARGO_PKG_VERSION"));
    Refusal::new(Code::Failed, "hostd's answer makes no sense", hint)
}

struct Talk<'a> {
    client: &'a Client,
    name: &'a Name,
    session: Secret,
    /// Ctrl-] is ours.
    escape: bool,
    /// The end of standard input is no reason to leave.
    stays: bool,
}

impl Talk<'_> {
    async fn read(&self) -> Result<ConsoleDataView, Refusal> {
        let (name, session) = (self.name.clone(), self.session.clone());
        data(self.client.ask(&Ask::VmConsoleRead { name, session }).await)
    }

    /// Sends all of it; some reason when there is no use in it any more.
    async fn send(&self, mut bytes: Vec<u8>) -> Result<Option<String>, Refusal> {
        while !bytes.is_empty() {
            let (name, session) = (self.name.clone(), self.session.clone());
            let write = Ask::VmConsoleWrite { name, session, data: Hex(bytes.clone()) };
            let wrote = data(self.client.ask(&write).await)?;
            if wrote.ended.is_some() {
                return Ok(wrote.ended);
            }
            let taken = usize::try_from(wrote.taken).unwrap_or(0).min(bytes.len());
            bytes.drain(..taken);
            if taken == 0 {
                sleep(AGAIN).await;
            }
        }
        Ok(None)
    }

    async fn converse(&self, mut ends: Ends) -> Result<End, WriteError> {
        let mut stdin = tokio::io::stdin();
        let mut buffer = vec![0; PIECE];
        let (mut open, mut leaving) = (true, false);
        let mut quiet = Instant::now();
        let mut reading = Box::pin(self.read());
        // What is being sent; nothing more is read before it has gone.
        let mut sending = None;
        loop {
            let over = leaving || (!open && !self.stays && Instant::now() >= quiet);
            if over && sending.is_none() {
                return Ok(End::Left);
            }
            tokio::select! {
                kind = ends.next() => return Ok(End::Told(kind)),
                read = &mut reading => {
                    let read = match read {
                        Ok(read) => read,
                        Err(refusal) => return Ok(End::Failed(refusal)),
                    };
                    if !read.data.0.is_empty() {
                        quiet = Instant::now() + QUIET;
                        if !out::bytes(&read.data.0)? {
                            return Ok(End::Left);
                        }
                    }
                    if let Some(why) = read.ended {
                        return Ok(End::Over(why));
                    }
                    reading.set(self.read());
                }
                sent = async { match &mut sending {
                    Some(sending) => std::pin::Pin::as_mut(sending).await,
                    None => std::future::pending().await,
                } } => {
                    sending = None;
                    quiet = Instant::now() + QUIET;
                    match sent {
                        Ok(None) => {}
                        Ok(Some(why)) => return Ok(End::Over(why)),
                        Err(refusal) => return Ok(End::Failed(refusal)),
                    }
                }
                count = stdin.read(&mut buffer), if open && sending.is_none() => {
                    // What cannot be read has ended as well.
                    let count = count.unwrap_or(0);
                    let typed = buffer.get(..count).unwrap_or_default();
                    let (typed, escaped) = if self.escape { escape(typed) } else { (typed, false) };
                    (open, leaving) = (count > 0, escaped);
                    quiet = Instant::now() + QUIET;
                    if !typed.is_empty() {
                        sending = Some(Box::pin(self.send(typed.to_vec())));
                    }
                }
                () = sleep_until(quiet), if !open && !self.stays => {}
            }
        }
    }
}

fn data(answer: Answer) -> Result<ConsoleDataView, Refusal> {
    match answer? {
        Reply::ConsoleData(view) => Ok(view),
        _ => Err(strange()),
    }
}

/// What was typed before Ctrl-], and whether that was typed.
fn escape(typed: &[u8]) -> (&[u8], bool) {
    match typed.iter().position(|byte| *byte == ESCAPE) {
        Some(at) => (typed.get(..at).unwrap_or_default(), true),
        None => (typed, false),
    }
}

/// The signals that end us: the terminal is put back, and the port let go.
struct Ends([(SignalKind, Signal); 3]);

impl Ends {
    fn new() -> io::Result<Self> {
        let one = |kind| Ok::<_, io::Error>((kind, signal(kind)?));
        let [a, b, c] = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        Ok(Self([one(a)?, one(b)?, one(c)?]))
    }

    async fn next(&mut self) -> SignalKind {
        let [(interrupt, a), (terminate, b), (hangup, c)] = &mut self.0;
        tokio::select! {
            _ = a.recv() => *interrupt,
            _ = b.recv() => *terminate,
            _ = c.recv() => *hangup,
        }
    }
}

/// The terminal as it was; it is put back when this is dropped, which a panic
/// does too.
struct Raw(Termios);

impl Raw {
    /// None when it is no terminal that takes it.
    fn enter() -> Option<Self> {
        let stdin = io::stdin();
        let before = tcgetattr(&stdin).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // There is nobody to tell.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_before_the_escape_is_sent() {
        assert_eq!(escape(b"ls\r"), (&b"ls\r"[..], false));
        assert_eq!(escape(b"ls\x1drm"), (&b"ls"[..], true));
        assert_eq!(escape(b"\x1d"), (&b""[..], true));
    }
}
