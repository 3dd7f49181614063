//! How full file systems are, asked where nobody has to wait: who asks a dead
//! mount may sleep where no signal reaches. A thread asks; where it does not
//! come back it is left to itself, and another asks the rest.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::sys::{SysError, SysRoot};

/// Threads that may be stuck at the same time; what is beyond is not asked.
const STUCK: usize = 8;
/// A thread asks the kernel and nothing else.
const STACK: usize = 64 << 10;

/// What `statvfs(3)` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Space {
    /// Bytes in all.
    pub total: u64,
    /// Bytes that are not used.
    pub free: u64,
    /// Bytes that are not used and not kept for root.
    pub available: u64,
    /// Inodes in all; 0 where there is no such limit.
    pub files: u64,
    /// Inodes that are not used.
    pub files_free: u64,
}

impl SysRoot {
    /// How full the file system at `path` is. Only the machine we run on can be
    /// asked, and fakes that have an answer. Blocks as long as the kernel does.
    pub fn space(&self, path: impl AsRef<Path>) -> Result<Space, SysError> {
        let path = path.as_ref();
        let asked = match &self.hook {
            Some(hook) => hook.space(path),
            None if self.is_real() => {
                Some(rustix::fs::statvfs(path).map_err(io::Error::from).map(|told| Space {
                    total: told.f_blocks.saturating_mul(told.f_frsize),
                    free: told.f_bfree.saturating_mul(told.f_frsize),
                    available: told.f_bavail.saturating_mul(told.f_frsize),
                    files: told.f_files,
                    files_free: told.f_ffree,
                }))
            }
            None => None,
        };
        let nobody = || SysError::Invalid {
            path: path.to_owned(),
            why: "these are the files of another machine".to_owned(),
        };
        asked.ok_or_else(nobody)?.map_err(|error| SysError::from_io(path, error))
    }

    /// Whether [`space`](Self::space) can answer at all.
    pub fn knows_space(&self) -> bool {
        self.is_real() || self.hook.is_some()
    }
}

/// What came of asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// An answer.
    Space(Space),
    /// The kernel refuses.
    Failed(String),
    /// No answer within the deadline, now or at an earlier time.
    Hangs,
    /// Too many others hang.
    NotAsked,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Space(space) => write!(f, "{} of {} bytes free", space.available, space.total),
            Self::Failed(why) => f.write_str(why),
            Self::Hangs => f.write_str("it does not answer"),
            Self::NotAsked => f.write_str("it was not asked, because too many others hang"),
        }
    }
}

type Answers = Arc<Mutex<Vec<Told>>>;

/// A thread that asks.
struct Worker {
    ask: Sender<(Vec<PathBuf>, Answers)>,
    done: Receiver<()>,
}

/// Asks many, and waits for none for ever.
#[derive(Default)]
pub struct Asker {
    worker: Option<Worker>,
    stuck: Vec<(PathBuf, Worker)>,
}

impl Asker {
    /// One answer for each path. Takes at most `deadline` for each that hangs
    /// for the first time.
    pub fn ask(&mut self, sys: &SysRoot, paths: &[PathBuf], deadline: Duration) -> Vec<Told> {
        // One that has come back is not needed: dropped, it ends.
        self.stuck.retain(|(_, worker)| matches!(worker.done.try_recv(), Err(TryRecvError::Empty)));
        let mut told = vec![Told::NotAsked; paths.len()];
        let mut open = Vec::new();
        for (index, path) in paths.iter().enumerate() {
            if self.stuck.iter().any(|(stuck, _)| stuck == path) {
                told[index] = Told::Hangs;
            } else {
                open.push(index);
            }
        }
        while !open.is_empty() && self.stuck.len() < STUCK {
            let asked: Vec<PathBuf> = open.iter().map(|index| paths[*index].clone()).collect();
            let answers = Answers::default();
            let Some(worker) = self.worker.take().or_else(|| Worker::start(sys)) else { break };
            // A worker that has gone is as good as one that has not answered.
            let _ = worker.ask.send((asked, Arc::clone(&answers)));
            let ended = loop {
                let before = count(&answers);
                match worker.done.recv_timeout(deadline) {
                    Ok(()) => break true,
                    // It goes on: the deadline is each one's own.
                    Err(RecvTimeoutError::Timeout) if count(&answers) > before => {}
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break false,
                }
            };
            let answers =
                std::mem::take(&mut *answers.lock().unwrap_or_else(PoisonError::into_inner));
            let came = answers.len();
            for (index, answer) in open.iter().zip(answers) {
                told[*index] = answer;
            }
            if ended {
                self.worker = Some(worker);
                break;
            }
            let mut rest = open.split_off(came.min(open.len()));
            if let Some(index) = (!rest.is_empty()).then(|| rest.remove(0)) {
                told[index] = Told::Hangs;
                self.stuck.push((paths[index].clone(), worker));
            }
            open = rest;
        }
        told
    }
}

fn count(answers: &Answers) -> usize {
    answers.lock().unwrap_or_else(PoisonError::into_inner).len()
}

impl Worker {
    fn start(sys: &SysRoot) -> Option<Self> {
        let (ask, asked) = channel::<(Vec<PathBuf>, Answers)>();
        let (tell, done) = channel();
        let sys = sys.clone();
        let work = move || {
            for (paths, answers) in asked {
                for path in paths {
                    let told = match sys.space(&path) {
                        Ok(space) => Told::Space(space),
                        Err(error) => Told::Failed(error.why()),
                    };
                    answers.lock().unwrap_or_else(PoisonError::into_inner).push(told);
                }
                if tell.send(()).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("mounts".into()).stack_size(STACK);
        thread.spawn(work).ok()?;
        Some(Self { ask, done })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;
    use crate::host::sys::WriteHook;

    /// `/dead` answers when the test lets it.
    struct Dead(Barrier);

    impl WriteHook for Dead {
        fn write(&self, _: &SysRoot, _: &Path, _: &[u8]) -> io::Result<()> {
            Ok(())
        }

        fn space(&self, path: &Path) -> Option<io::Result<Space>> {
            if path == Path::new("/dead") {
                self.0.wait();
            }
            let ill = path == Path::new("/ill");
            Some(if ill {
                Err(io::ErrorKind::StaleNetworkFileHandle.into())
            } else {
                Ok(Space::default())
            })
        }
    }

    #[test]
    fn one_that_hangs_keeps_nobody_waiting() {
        let hook = Arc::new(Dead(Barrier::new(2)));
        let sys = SysRoot::new("/nowhere").with_hook(Arc::clone(&hook) as Arc<dyn WriteHook>);
        let mut asker = Asker::default();
        let paths: Vec<PathBuf> = ["/a", "/dead", "/ill", "/b"].map(PathBuf::from).into();
        let well = Told::Space(Space::default());
        for round in 0..3 {
            let told = asker.ask(&sys, &paths, Duration::from_secs(1));
            assert_eq!((&told[0], &told[1], &told[3]), (&well, &Told::Hangs, &well), "{round}");
            assert!(matches!(&told[2], Told::Failed(why) if why.contains("stale")), "{told:?}");
            assert_eq!(asker.stuck.len(), 1, "it is asked once");
        }
        // It wakes up, and the thread that asked is let go.
        hook.0.wait();
        while !asker.stuck.is_empty() {
            assert_eq!(
                asker.ask(&sys, &paths[..1], Duration::from_secs(60)),
                std::slice::from_ref(&well)
            );
        }
    }

    #[test]
    fn only_this_machine_is_asked() {
        assert!(SysRoot::new("/").space("/").unwrap().total > 0);
        let other = SysRoot::new("/tmp");
        assert!(!other.knows_space());
        assert!(other.space("/").unwrap_err().why().contains("another machine"));
    }
}
