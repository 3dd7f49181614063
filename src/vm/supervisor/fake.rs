//! QEMUs made of values, for the tests of the supervisor.
#![allow(clippy::disallowed_methods, reason = "it plays the kernel's part in /proc")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{oneshot, watch};

use crate::host::Command;
use crate::host::process::{FakeProcesses, Fate, Signal};
use crate::host::run::{Exit, Output, RunError, Runner, Running, Started};
use crate::vm::record::ProcessId;

/// What the guest is doing, as QEMU sees it.
#[derive(Clone, Default)]
pub(super) struct Guest {
    /// For `query-status`.
    pub status: &'static str,
    /// Shuts down when the button is pressed.
    pub obeys: bool,
    /// QEMU ignores `quit` and SIGTERM.
    pub stubborn: bool,
    /// QEMU says that it ends, because of this, and hangs.
    pub hangs: Option<&'static str>,
}

/// QEMUs made of values: each is a task of its own, which no supervisor owns.
pub(super) struct FakeQemu {
    pub processes: Arc<FakeProcesses>,
    pub proc: PathBuf,
    pub next: AtomicU32,
    pub guest: watch::Sender<Guest>,
    pub fails: Mutex<Option<&'static str>>,
}

impl FakeQemu {
    /// A process with this token, and who answers on its socket.
    pub fn begin(
        self: &Arc<Self>,
        args: &[String],
        tell: Option<oneshot::Sender<Exit>>,
    ) -> ProcessId {
        let pid = self.next.fetch_add(1, Ordering::Relaxed);
        let folder = self.proc.join(pid.to_string());
        std::fs::create_dir_all(&folder).unwrap();
        let started = u64::from(pid) * 10;
        let zeros = "0 ".repeat(18);
        std::fs::write(folder.join("stat"), format!("{pid} (qemu) S {zeros}{started} 0")).unwrap();
        std::fs::write(folder.join("cmdline"), args.join("\0")).unwrap();
        let fate = self.processes.begin(pid);
        let this = Arc::clone(self);
        let args = args.to_vec();
        tokio::spawn(async move {
            let exit = this.serve(&args, fate).await;
            std::fs::remove_dir_all(folder).unwrap();
            this.processes.end(pid);
            if let Some(tell) = tell {
                let _ = tell.send(exit);
            }
        });
        ProcessId { pid, started }
    }

    async fn serve(&self, args: &[String], mut fate: watch::Receiver<Fate>) -> Exit {
        let part = |begins: &str, key: &str| {
            let arg = args.iter().find_map(|arg| arg.strip_prefix(begins)).unwrap();
            arg.split(',').find_map(|part| part.strip_prefix(key)).unwrap().to_owned()
        };
        let socket = part("socket,id=qmp,", "path=");
        let token = part("null,", "id=");
        // One that was there before hostd has its folder already.
        std::fs::create_dir_all(std::path::Path::new(&socket).parent().unwrap()).unwrap();
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let killed = fate.wait_for(|fate| {
            fate.signals.iter().any(|signal| match signal {
                Signal::Kill => true,
                Signal::Term => !self.guest.borrow().stubborn,
            })
        });
        let answer = async {
            loop {
                let (peer, _) = listener.accept().await.unwrap();
                if let Some(exit) = self.talk(peer, &token).await {
                    return exit;
                }
            }
        };
        tokio::select! {
            _ = killed => Exit::Signal(9),
            exit = answer => exit,
        }
    }

    /// Some exit if QEMU ends by what was said.
    async fn talk(&self, mut peer: UnixStream, token: &str) -> Option<Exit> {
        let version = r#"{"QMP": {"version": {"qemu": {"major": 10}}}}"#;
        peer.write_all(format!("{version}\n").as_bytes()).await.ok()?;
        let (read, mut write) = peer.split();
        let mut lines = BufReader::new(read).lines();
        let mut changes = self.guest.subscribe();
        loop {
            let line = tokio::select! {
                line = lines.next_line() => line.ok()??,
                changed = changes.changed() => {
                    changed.ok()?;
                    let hangs = self.guest.borrow().hangs;
                    if let Some(reason) = hangs {
                        let data = format!("{{\"guest\": true, \"reason\": \"{reason}\"}}");
                        let event = format!("{{\"event\": \"SHUTDOWN\", \"data\": {data}}}\n");
                        write.write_all(event.as_bytes()).await.ok()?;
                        std::future::pending::<()>().await;
                    }
                    // What it is about, QEMU is asked then.
                    write.write_all(b"{\"event\": \"STOP\"}\n").await.ok()?;
                    continue;
                }
            };
            let said: serde_json::Value = serde_json::from_str(&line).unwrap();
            let (id, guest) = (&said["id"], self.guest.borrow().clone());
            let value = match said["execute"].as_str().unwrap() {
                // Carried out before it is answered.
                "stop" => {
                    self.guest.send_modify(|guest| guest.status = "paused");
                    serde_json::json!({})
                }
                "cont" | "system_wakeup" => {
                    self.guest.send_modify(|guest| guest.status = "running");
                    serde_json::json!({})
                }
                "query-status" => serde_json::json!({ "status": guest.status }),
                "query-chardev" => serde_json::json!([{ "label": token }]),
                _ => serde_json::json!({}),
            };
            let answer = serde_json::json!({ "return": value, "id": id });
            write.write_all(format!("{answer}\n").as_bytes()).await.ok()?;
            match said["execute"].as_str().unwrap() {
                "system_powerdown" if guest.obeys => {
                    let reason = r#""data": {"guest": true, "reason": "guest-shutdown"}"#;
                    let event = format!("{{\"event\": \"SHUTDOWN\", {reason}}}\n");
                    write.write_all(event.as_bytes()).await.ok()?;
                    return Some(Exit::Code(0));
                }
                "quit" if !guest.stubborn => return Some(Exit::Code(0)),
                _ => {}
            }
        }
    }
}

/// The runner that the host sees.
pub(super) struct Qemus(pub Arc<FakeQemu>);

impl Runner for Qemus {
    /// The owner's hooks: `true` and `false`.
    fn run(&self, command: Command) -> Running<'_> {
        Box::pin(async move {
            let code = match command.program.to_str() {
                Some("/bin/true") => 0,
                Some("/bin/false") => 3,
                _ => panic!("nobody runs `{command}`"),
            };
            let stdout = format!("{:?}", command.env).into_bytes();
            Ok(Output { exit: Exit::Code(code), stdout, stderr: b"why not\n".to_vec() })
        })
    }

    fn start(&self, command: Command, log: PathBuf) -> Result<Started, RunError> {
        let (tell, ended) = oneshot::channel();
        if let Some(words) = *self.0.fails.lock().unwrap() {
            std::fs::write(log, words).unwrap();
            tell.send(Exit::Code(1)).unwrap();
            return Ok(Started { pid: 1, ended });
        }
        let args: Vec<String> =
            command.args.iter().map(|arg| arg.to_str().unwrap().to_owned()).collect();
        self.0.guest.send_modify(|guest| guest.status = "prelaunch");
        Ok(Started { pid: self.0.begin(&args, Some(tell)).pid, ended })
    }

    fn stuck(&self) -> usize {
        0
    }
}
