//! The serial port of one VM: a stream to QEMU's socket that one person holds.
//!
//! A person who is gone without a word loses it after [`IDLE`]. While nobody
//! reads, QEMU is not read either: nothing piles up here.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::ask::view::ConsoleDataView;
use crate::ask::{Caller, Code, Hex, Refusal, Secret};
use crate::base::span;
use crate::host::Dial;
use crate::host::dial::Stream;

/// How long somebody keeps the port without reading it.
pub const IDLE: Duration = Duration::from_secs(60);
/// How long a read waits for something; less than a client's patience.
const WAIT: Duration = Duration::from_secs(5);
/// How long a write waits for QEMU to take it.
const TAKE: Duration = Duration::from_secs(2);
/// How long QEMU may take to let us in.
const CONNECT: Duration = Duration::from_secs(3);
/// The most that one read brings.
const PIECE: usize = 32 << 10;
/// The most that one write may bring.
const TYPED: usize = 64 << 10;

/// Who has the serial port of one VM; cheap to clone.
#[derive(Clone, Default)]
pub struct Consoles(Arc<Shared>);

#[derive(Default)]
struct Shared {
    slot: Mutex<Slot>,
    /// One person is let in after the other.
    opening: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Slot {
    now: Option<Arc<Session>>,
    /// The one before, for whoever still asks: their key, and why it is over.
    before: Option<(Key, String)>,
}

/// Who somebody is, and what they know.
#[derive(Clone, PartialEq, Eq)]
struct Key {
    uid: u32,
    session: Secret,
}

struct Session {
    key: Key,
    who: String,
    since: Instant,
    used: Mutex<Instant>,
    read: tokio::sync::Mutex<ReadHalf<Box<dyn Stream>>>,
    write: tokio::sync::Mutex<WriteHalf<Box<dyn Stream>>>,
    end: watch::Sender<Option<String>>,
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere cannot leave it half written.
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    fn touch(&self) {
        *lock(&self.used) = Instant::now();
    }
}

impl Consoles {
    /// Lets `caller` have the port; `session` is a new secret. `name` is for words.
    pub async fn open(
        &self,
        name: &str,
        (dial, socket): (&dyn Dial, &Path),
        caller: &Caller,
        session: Secret,
        take: bool,
    ) -> Result<(), Refusal> {
        let _turn = self.0.opening.lock().await;
        let has = lock(&self.0.slot).now.clone();
        if let Some(has) = has {
            if !take {
                let age = span::show(has.since.elapsed());
                let who = &has.who;
                let message = format!("`{name}`'s serial port is in use, by {who} for {age}");
                let hint = format!("`hostctl vm console {name} --take` takes it from them");
                return Err(Refusal::new(Code::Refused, message, hint));
            }
            self.end(&has, format!("{} has taken the serial port", caller.label));
        }
        let stream = dial.unix(socket, CONNECT).await.map_err(|error| {
            let message = format!("`{name}`'s serial port cannot be opened: {error}");
            let hint = "it is made when the VM starts with `serial` in its file: restart the VM";
            Refusal::new(Code::Refused, message, hint)
        })?;
        let (read, write) = split(stream);
        let now = Instant::now();
        let session = Arc::new(Session {
            key: Key { uid: caller.uid, session },
            who: caller.label.clone(),
            since: now,
            used: Mutex::new(now),
            read: tokio::sync::Mutex::new(read),
            write: tokio::sync::Mutex::new(write),
            end: watch::Sender::new(None),
        });
        tokio::spawn(forgotten(self.clone(), Arc::downgrade(&session)));
        lock(&self.0.slot).now = Some(session);
        Ok(())
    }

    /// What has come; waits for something a while.
    pub async fn read(&self, caller: &Caller, id: Secret) -> Result<ConsoleDataView, Refusal> {
        let session = match self.find(caller, id)? {
            Found::Now(session) => session,
            Found::Over(why) => return Ok(over(why)),
        };
        session.touch();
        let Ok(mut stream) = session.read.try_lock() else {
            let message = "somebody reads from this session at this moment";
            return Err(Refusal::new(Code::Refused, message, "read once at a time"));
        };
        let mut bytes = vec![0; PIECE];
        let mut end = session.end.subscribe();
        let got = tokio::select! {
            ended = end.wait_for(Option::is_some) => {
                return Ok(over(ended.ok().and_then(|why| why.clone()).unwrap_or_default()));
            }
            got = timeout(WAIT, stream.read(&mut bytes)) => got,
        };
        session.touch();
        let why = match got {
            Err(_) => return Ok(ConsoleDataView::default()),
            Ok(Ok(0)) => "QEMU has closed the serial port".to_owned(),
            Ok(Ok(count)) => {
                bytes.truncate(count);
                return Ok(ConsoleDataView { data: Hex(bytes), ..ConsoleDataView::default() });
            }
            Ok(Err(error)) => format!("the serial port is lost: {error}"),
        };
        self.end(&session, why.clone());
        Ok(over(why))
    }

    /// Types into the guest, as far as it takes it.
    pub async fn write(
        &self,
        caller: &Caller,
        id: Secret,
        data: &[u8],
    ) -> Result<ConsoleDataView, Refusal> {
        if data.len() > TYPED {
            let message = format!("{} bytes are too many at once", data.len());
            return Err(Refusal::new(Code::Usage, message, format!("at most {TYPED}")));
        }
        let session = match self.find(caller, id)? {
            Found::Now(session) => session,
            Found::Over(why) => return Ok(over(why)),
        };
        session.touch();
        let until = Instant::now() + TAKE;
        let mut taken = 0;
        let writing = async {
            let mut stream = session.write.lock().await;
            while let Some(rest) = data.get(taken..).filter(|rest| !rest.is_empty()) {
                match stream.write(rest).await {
                    Ok(0) => break,
                    Ok(count) => taken += count,
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        };
        // That it takes no more now is fine.
        if let Ok(Err(error)) = timeout_at(until, writing).await {
            let why = format!("the serial port is lost: {error}");
            self.end(&session, why.clone());
            return Ok(over(why));
        }
        Ok(ConsoleDataView { taken: taken as u64, ..ConsoleDataView::default() })
    }

    /// Lets go of the port; false when it was lost already.
    pub fn close(&self, caller: &Caller, id: Secret) -> Result<bool, Refusal> {
        match self.find(caller, id)? {
            Found::Now(session) => {
                self.end(&session, "it was closed".to_owned());
                Ok(true)
            }
            Found::Over(_) => Ok(false),
        }
    }

    fn find(&self, caller: &Caller, session: Secret) -> Result<Found, Refusal> {
        let key = Key { uid: caller.uid, session };
        let slot = lock(&self.0.slot);
        match (&slot.now, &slot.before) {
            (Some(now), _) if now.key == key => Ok(Found::Now(Arc::clone(now))),
            (_, Some((before, why))) if *before == key => Ok(Found::Over(why.clone())),
            _ => {
                let message = "there is no such session of the serial port";
                Err(Refusal::new(Code::NotFound, message, "open the serial port again"))
            }
        }
    }

    fn end(&self, session: &Arc<Session>, why: String) {
        let mut slot = lock(&self.0.slot);
        if slot.now.as_ref().is_some_and(|now| Arc::ptr_eq(now, session)) {
            slot.now = None;
            slot.before = Some((session.key.clone(), why.clone()));
        }
        drop(slot);
        session.end.send_replace(Some(why));
    }
}

enum Found {
    Now(Arc<Session>),
    Over(String),
}

fn over(why: String) -> ConsoleDataView {
    ConsoleDataView { ended: Some(why), ..ConsoleDataView::default() }
}

/// Takes the port from whoever does not read it any more.
async fn forgotten(consoles: Consoles, session: Weak<Session>) {
    loop {
        let Some(until) = session.upgrade().map(|session| *lock(&session.used) + IDLE) else {
            return;
        };
        sleep_until(until).await;
        let Some(session) = session.upgrade() else { return };
        if session.end.borrow().is_some() {
            return;
        }
        let used = *lock(&session.used);
        if used.elapsed() >= IDLE {
            let why = format!("nobody has read from it for {} s", IDLE.as_secs());
            return consoles.end(&session, why);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tokio::net::{UnixListener, UnixStream};

    use super::*;
    use crate::host::dial::RealDial;

    struct Port {
        _dir: tempfile::TempDir,
        path: PathBuf,
        listener: UnixListener,
        consoles: Consoles,
    }

    fn caller(uid: u32) -> Caller {
        Caller { uid, label: format!("uid {uid}") }
    }

    fn id(text: &str) -> Secret {
        Secret::new(text)
    }

    impl Port {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("serial.sock");
            let listener = UnixListener::bind(&path).unwrap();
            Self { _dir: dir, path, listener, consoles: Consoles::default() }
        }

        async fn open(&self, uid: u32, session: &str, take: bool) -> Result<UnixStream, Refusal> {
            let at = (&RealDial as &dyn Dial, self.path.as_path());
            self.consoles.open("gaming", at, &caller(uid), id(session), take).await?;
            Ok(self.listener.accept().await.unwrap().0)
        }
    }

    #[tokio::test]
    async fn bytes_go_both_ways_until_qemu_ends() {
        let port = Port::new();
        let mut guest = port.open(7, "a", false).await.unwrap();
        let wrote = port.consoles.write(&caller(7), id("a"), b"ls\r").await.unwrap();
        assert_eq!(wrote.taken, 3);
        let mut heard = [0; 3];
        guest.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"ls\r");
        guest.write_all(&[0, 27, 255]).await.unwrap();
        let read = port.consoles.read(&caller(7), id("a")).await.unwrap();
        assert_eq!(read.data.0, [0, 27, 255]);
        drop(guest);
        for _ in 0..2 {
            let read = port.consoles.read(&caller(7), id("a")).await.unwrap();
            assert_eq!(read.ended.as_deref(), Some("QEMU has closed the serial port"));
        }
        port.open(8, "b", false).await.unwrap();
    }

    #[tokio::test]
    async fn it_is_one_persons_at_a_time_and_can_be_taken() {
        let port = Port::new();
        let _guest = port.open(7, "a", false).await.unwrap();
        let busy = port.open(8, "b", false).await.unwrap_err();
        assert_eq!(busy.message, "`gaming`'s serial port is in use, by uid 7 for 0s");
        assert!(busy.hint.contains("--take"), "{}", busy.hint);
        // Neither another user who has found out the session, nor a guess.
        for (uid, session) in [(8, "a"), (7, "b")] {
            let denied = port.consoles.read(&caller(uid), id(session)).await.unwrap_err();
            assert_eq!(denied.code, Code::NotFound);
        }
        let (consoles, me) = (port.consoles.clone(), caller(7));
        let waiting = tokio::spawn(async move { consoles.read(&me, id("a")).await });
        tokio::task::yield_now().await;
        let _guest = port.open(8, "b", true).await.unwrap();
        let told = waiting.await.unwrap().unwrap();
        assert_eq!(told.ended.as_deref(), Some("uid 8 has taken the serial port"));
        assert!(!port.consoles.close(&caller(7), id("a")).unwrap());
        assert!(port.consoles.close(&caller(8), id("b")).unwrap());
    }

    #[tokio::test]
    async fn what_the_guest_does_not_take_is_said_and_nothing_is_lost() {
        let port = Port::new();
        let mut guest = port.open(7, "a", false).await.unwrap();
        let piece = vec![b'x'; TYPED];
        let mut taken = 0;
        loop {
            let now = port.consoles.write(&caller(7), id("a"), &piece).await.unwrap().taken;
            taken += now;
            if now < TYPED as u64 {
                break;
            }
        }
        port.consoles.close(&caller(7), id("a")).unwrap();
        let mut all = Vec::new();
        guest.read_to_end(&mut all).await.unwrap();
        assert_eq!(all.len() as u64, taken);
        let much = vec![0; TYPED + 1];
        let refused = port.consoles.write(&caller(7), id("a"), &much).await.unwrap_err();
        assert_eq!(refused.code, Code::Usage);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_gone_without_a_word_loses_it() {
        let port = Port::new();
        let _guest = port.open(7, "a", false).await.unwrap();
        let read = port.consoles.read(&caller(7), id("a")).await.unwrap();
        assert_eq!(read, ConsoleDataView::default(), "silence is fine");
        tokio::time::sleep(IDLE * 2).await;
        let read = port.consoles.read(&caller(7), id("a")).await.unwrap();
        assert_eq!(read.ended.as_deref(), Some("nobody has read from it for 60 s"));
        port.open(8, "b", false).await.unwrap();
    }

    #[tokio::test]
    async fn a_vm_without_a_port_is_said() {
        let at = (&RealDial as &dyn Dial, Path::new("/nonexistent"));
        let opened = Consoles::default().open("gaming", at, &caller(7), id("a"), false).await;
        assert!(opened.unwrap_err().message.starts_with("`gaming`'s serial port cannot be opened"));
    }
}
