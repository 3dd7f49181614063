//! hostctl as a person runs it: its streams, exit codes and documents,
//! against a daemon of canned answers on a private socket, or none.
#![allow(clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use assert_cmd::Command;
use hostd::api::Changes;
use hostd::api::gate::Rule;
use hostd::api::socket;
use hostd::ask::view::{
    ConsoleDataView, ConsoleView, DoneView, IommuView, LogView, QuirksView, RomDumpView, RomView,
    ScreenshotView, StatusLine, StatusView, VmState, VmView, VmsView,
};
use hostd::ask::{Answer, Ask, Asked, Code, Hex, Refusal, Reply, Secret};
use hostd::base::{Severity, Timestamp};
use serde_json::Value;
use tokio::sync::{mpsc, watch};

fn hostctl() -> Command {
    let mut command = Command::cargo_bin("hostctl").expect("hostctl is built");
    command
        .env("RUST_BACKTRACE", "1")
        .env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus")
        .env_remove("NO_COLOR")
        .timeout(Duration::from_secs(60));
    command
}

/// What a run has printed and how it ended.
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ran {
    fn document(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}", self.stdout))
    }
}

fn run(command: &mut Command) -> Ran {
    let output = command.output().expect("hostctl runs");
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).expect("text"),
        stderr: String::from_utf8(output.stderr).expect("text"),
    }
}

fn without_daemon(args: &[&str]) -> Ran {
    run(hostctl().args(["--socket", "/nonexistent"]).args(args))
}

fn vm(state: VmState, step: &str) -> VmView {
    let name = "gaming".parse().expect("a name");
    VmView {
        step: step.into(),
        ..VmView::new(name, state, Timestamp::from_secs(0), "asked by uid 0")
    }
}

fn answer(ask: &Ask, changes: &Changes) -> Answer {
    match ask {
        Ask::Status => Ok(Reply::Status(StatusView {
            host: "nas".into(),
            version: "0.1.0".into(),
            started: Timestamp::from_secs(0),
            generation: 1,
            health: Severity::Warning,
            lines: vec![StatusLine {
                kind: "pool".into(),
                name: "tank".into(),
                health: Severity::Warning,
                state: "DEGRADED".into(),
                summary: "tolerates 1 more failure".into(),
            }],
            unavailable: Vec::new(),
        })),
        Ask::IommuList => Ok(Reply::Iommu(IommuView {
            groups: Vec::new(),
            notes: vec!["the IOMMU is off".into()],
        })),
        Ask::IommuShow { group: Some(group) } => Err(Refusal::new(
            Code::NotFound,
            format!("there is no IOMMU group {group}: the IOMMU is off"),
            "`hostctl iommu list` shows all groups",
        )),
        Ask::IommuShow { group: None } => {
            Ok(Reply::Iommu(IommuView { groups: Vec::new(), notes: vec!["asked in full".into()] }))
        }
        Ask::VmList => Ok(Reply::Vms(VmsView { vms: vec![vm(VmState::Running, "")] })),
        Ask::VmStart { name } if name.as_str() == "gaming" => {
            for (state, step) in
                [(VmState::Preparing, "binding 0000:01:00.0"), (VmState::Starting, "")]
            {
                changes.send(vm(state, step));
                std::thread::sleep(Duration::from_millis(100));
            }
            Ok(Reply::Done(DoneView {
                changed: true,
                message: "gaming runs".into(),
                warnings: vec!["huge pages are short".into()],
            }))
        }
        Ask::VmStart { name } => Err(Refusal::new(
            Code::NotFound,
            format!("there is no VM {name}"),
            "`hostctl vm list` shows those there are",
        )),
        Ask::GpuQuirks { gpu } => Ok(Reply::Quirks(QuirksView {
            gpus: Vec::new(),
            notes: vec![format!("asked for {gpu:?}")],
        })),
        Ask::GpuRomDump { gpu, strip } => Ok(Reply::RomDump(RomDumpView {
            rom: RomView { gpu: Some(gpu.clone()), size: 3, usable: *strip, ..RomView::default() },
            data: "55aa01".into(),
        })),
        Ask::VmLog { .. } => {
            Ok(Reply::Log(LogView { text: "x\n".repeat(100_000), path: "/l".into() }))
        }
        Ask::VmConsoleOpen { name, .. } => {
            Ok(Reply::Console(ConsoleView { session: Secret::new(name.as_str()) }))
        }
        Ask::VmConsoleRead { session, .. } if session.reveal() == "gaming" => {
            let ended = Some("`gaming` is off: the guest shut down on request".to_owned());
            let data = Hex(b"bye\x1b[0m\r\n\xff".to_vec());
            Ok(Reply::ConsoleData(ConsoleDataView { data, taken: 0, ended }))
        }
        Ask::VmConsoleRead { .. } => {
            std::thread::sleep(Duration::from_millis(50));
            Ok(Reply::ConsoleData(ConsoleDataView::default()))
        }
        Ask::VmConsoleWrite { data, .. } => {
            // Piece by piece.
            let taken = data.0.len().min(3) as u64;
            Ok(Reply::ConsoleData(ConsoleDataView { taken, ..ConsoleDataView::default() }))
        }
        Ask::VmScreenshot { .. } => Ok(Reply::Screenshot(ScreenshotView {
            bytes: 4,
            width: 720,
            height: 400,
            data: Hex(b"\x89PNG".to_vec()),
            ..ScreenshotView::default()
        })),
        Ask::VmSendKey { keys, text, hold, .. } => {
            let keys: Vec<_> = keys.iter().map(Secret::reveal).collect();
            let message = format!("{keys:?} {:?} {hold:?}", text.reveal());
            Ok(Reply::Done(DoneView { changed: true, message, warnings: Vec::new() }))
        }
        Ask::EventQuery { .. } => {
            Err(Refusal::new(Code::Usage, "wrong\n  state \u{202e}== 1\n        ^", "read it"))
        }
        other => Err(Refusal::new(Code::Refused, format!("{other:?} is refused"), "")),
    }
}

/// A daemon that answers until it is dropped.
struct Daemon {
    dir: tempfile::TempDir,
    _end: watch::Sender<bool>,
}

impl Daemon {
    async fn start(acts: bool) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let private = socket::listen(&dir.path().join("s")).await.expect("a socket");
        let (asks, mut asked) = mpsc::channel::<Asked>(8);
        let changes = Changes::new(16);
        let (end, stop) = watch::channel(false);
        let rule = Rule::new(move |_| Ok(acts));
        tokio::spawn(socket::serve_socket(private, asks, changes.clone(), rule, stop));
        tokio::task::spawn_blocking(move || {
            while let Some(Asked { ask, answer: to, .. }) = asked.blocking_recv() {
                // The asker may have left.
                let _ = to.send(answer(&ask, &changes));
            }
        });
        Self { dir, _end: end }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    fn run(&self, args: &[&str]) -> Ran {
        run(hostctl().arg("--socket").arg(self.path()).args(args))
    }
}

#[test]
fn wrong_words_are_usage() {
    for args in [
        &["vm", "strat", "gaming"][..],
        &["vm", "start"],
        &["vm", "start", "../etc"],
        &["--host", "nas", "status"],
    ] {
        let ran = without_daemon(args);
        assert_eq!(ran.code, 2, "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.starts_with("hostctl: "), "{}", ran.stderr);
        assert!(ran.stdout.is_empty());
        let ran = run(hostctl().arg("--json").args(args));
        assert_eq!(ran.code, 2, "{args:?}");
        assert_eq!(ran.document()["error"]["code"], "usage");
    }
    let group = run(hostctl().args(["--json", "iommu", "show", "x"])).document();
    let message = group["error"]["message"].as_str().unwrap_or_default();
    assert!(message.ends_with("a group's number is wanted, from `hostctl iommu list`"), "{group}");
    let none = run(hostctl().args(["--json", "gpu", "rom", "check", "/nonexistent"])).document();
    assert_eq!(none["error"]["hint"], "look whether the path is right");
    let tip = run(hostctl().args(["--json", "vm", "strat", "gaming"])).document();
    let error = &tip["error"];
    assert_eq!(error["message"], "unrecognized subcommand 'strat'");
    assert!(error["hint"].as_str().is_some_and(|hint| hint.contains("start")), "{error}");
    let none = run(&mut hostctl());
    assert_eq!((none.code, none.stdout.as_str()), (2, ""));
    assert!(none.stderr.contains("Exit codes:"), "{}", none.stderr);
}

#[test]
fn help_and_version_are_data() {
    let help = run(hostctl().arg("--help"));
    assert_eq!((help.code, help.stderr.as_str()), (0, ""));
    assert!(help.stdout.contains("Exit codes:"), "{}", help.stdout);
    let version = run(hostctl().arg("--version"));
    assert_eq!(version.stdout, format!("hostctl {}\n", env!("CARGO_PKG_VERSION")));
    for shell in ["bash", "zsh", "fish"] {
        let script = run(hostctl().args(["completions", shell]));
        assert!(script.code == 0 && script.stdout.contains("hostctl"), "{shell}");
    }
}

#[test]
fn nobody_answers() {
    let ran = without_daemon(&["status"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (4, ""));
    assert_eq!(
        ran.stderr,
        "hostctl: no hostd answers (/nonexistent: no such socket)\n  hint: start it with \
         `systemctl start hostd`; `journalctl -u hostd -e` tells why it is not running\n"
    );
    let ran = without_daemon(&["--json", "vm", "start", "gaming"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (4, ""));
    assert_eq!(ran.document()["error"]["code"], "no-daemon");
    let auto = run(hostctl().arg("status"));
    if auto.code == 4 {
        assert!(auto.stderr.contains("no system bus on this machine; "), "{}", auto.stderr);
    }
}

#[test]
fn what_can_be_read_directly_is_and_that_is_said() {
    for args in [&["iommu", "list"][..], &["gpu", "list"], &["pool", "list"], &["pool", "status"]] {
        let ran = without_daemon(args);
        assert_ne!(ran.code, 4, "{args:?}");
        assert!(ran.stderr.contains("this is read directly"), "{args:?}: {}", ran.stderr);
        let mut quiet = args.to_vec();
        quiet.push("--quiet");
        assert!(!without_daemon(&quiet).stderr.contains("read directly"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_have_text_documents_and_codes() {
    let daemon = Daemon::start(true).await;
    let ran = daemon.run(&["status"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (1, ""));
    assert!(
        ran.stdout.contains("tank  warning  DEGRADED  tolerates 1 more failure"),
        "{}",
        ran.stdout
    );
    assert_eq!(daemon.run(&["status", "--json"]).document()["lines"][0]["name"], "tank");
    let ran = daemon.run(&["vm", "list", "--json"]);
    assert_eq!(ran.code, 0);
    assert_eq!(ran.document()["vms"][0]["state"], "running");
    assert_eq!(daemon.run(&["iommu", "list"]).code, 1);
    let ran = daemon.run(&["iommu", "show", "11"]);
    assert_eq!(ran.code, 5);
    assert!(ran.stderr.starts_with("hostctl: there is no IOMMU group 11: the IOMMU is off\n"));
    let ran = daemon.run(&["iommu", "list", "--full"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, "asked in full\n"));
    assert!(daemon.run(&["--color", "always", "status"]).stdout.contains("\u{1b}[33mwarning"));
}

#[tokio::test(flavor = "multi_thread")]
async fn acting_shows_progress_only_when_wanted() {
    let daemon = Daemon::start(true).await;
    let ran = daemon.run(&["vm", "start", "gaming"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "gaming runs\n"));
    assert_eq!(ran.stderr, "hostctl: warning: huge pages are short\n");
    let ran = daemon.run(&["vm", "start", "gaming", "--verbose"]);
    let step = ran.stderr.lines().next().unwrap_or_default();
    assert!(step.ends_with("s  binding 0000:01:00.0"), "{}", ran.stderr);
    let ran = daemon.run(&["vm", "start", "gaming", "--quiet"]);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("gaming runs\n", ""));
    let ran = daemon.run(&["vm", "start", "none"]);
    assert_eq!(ran.code, 5);
    assert_eq!(
        ran.stderr,
        "hostctl: there is no VM none\n  hint: `hostctl vm list` shows those there are\n"
    );
    let refused = daemon.run(&["vm", "kill", "gaming", "--json"]);
    assert_eq!((refused.code, &refused.document()["error"]["code"]), (5, &"refused".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_is_a_pipe_where_there_is_no_terminal() {
    let daemon = Daemon::start(true).await;
    let console = |name: &str, typed: &'static str| {
        let path = daemon.path();
        let mut command = hostctl();
        command.arg("--socket").arg(path).args(["vm", "console", name]).write_stdin(typed);
        command.output().expect("hostctl runs")
    };
    let ran = console("gaming", "");
    assert_eq!((ran.status.code(), ran.stdout.as_slice()), (Some(0), &b"bye\x1b[0m\r\n\xff"[..]));
    let said = "hostctl: `gaming` is off: the guest shut down on request\n";
    assert_eq!(String::from_utf8_lossy(&ran.stderr), said);
    // It goes when the guest has been silent for a while.
    let ran = console("silent", "ls -l\n");
    assert_eq!((ran.status.code(), ran.stdout.len(), ran.stderr.len()), (Some(0), 0, 0));
    let ran = daemon.run(&["vm", "console", "gaming", "--json"]);
    assert_eq!((ran.code, &ran.document()["error"]["code"]), (2, &"usage".into()));
    let looks = Daemon::start(false).await;
    let ran = looks.run(&["vm", "console", "gaming"]);
    assert_eq!(ran.code, 3);
    assert!(
        ran.stderr.contains("may not see what guests show or type into them"),
        "{}",
        ran.stderr
    );
    assert_eq!(looks.run(&["vm", "log", "gaming", "--serial"]).code, 3);
}

/// On a terminal of its own, which util-linux' `script` makes.
fn on_a_terminal(daemon: &Daemon, line: &str, typed: &'static str) -> String {
    let hostctl = format!("{} --socket {}", env!("CARGO_BIN_EXE_hostctl"), daemon.path().display());
    let line = line.replace("hostctl", &hostctl);
    let mut script = Command::new("script");
    let after = format!("{line}; echo left $?; stty -a");
    script.args(["-qec", &after, "/dev/null"]).write_stdin(typed).timeout(Duration::from_secs(60));
    let output = script.output().expect("script runs");
    // What the guest says is not always text.
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_terminal_is_as_it_was_after_a_console() {
    let daemon = Daemon::start(true).await;
    for (line, typed, code) in [
        ("hostctl vm console silent", "ls\u{1d}", 0),
        ("hostctl vm console gaming", "", 0),
        // What timeout says when its time was up.
        ("timeout --foreground -s TERM 3 hostctl vm console silent", "", 124),
        ("timeout --foreground --preserve-status -s HUP 3 hostctl vm console silent", "", 129),
    ] {
        let shown = on_a_terminal(&daemon, line, typed);
        assert!(shown.contains("Ctrl-] leaves"), "{line}: {shown}");
        assert!(shown.contains(&format!("left {code}")), "{line}: {shown}");
        let set: Vec<_> = shown.split_whitespace().collect();
        for word in ["icanon", "echo", "isig", "opost", "icrnl"] {
            assert!(set.contains(&word), "{line}: {word} is off: {shown}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_comes_from_the_daemon_and_is_written_here() {
    let daemon = Daemon::start(true).await;
    let to = daemon.dir.path().join("shot.png");
    let file = to.to_str().expect("text");
    let ran = daemon.run(&["vm", "screenshot", "gaming", file]);
    assert_eq!((ran.code, ran.stdout), (0, format!("{file}: 720x400, 4 bytes\n")));
    #[allow(clippy::disallowed_methods, reason = "looks at what was written")]
    let written = std::fs::read(&to).expect("written");
    assert_eq!(written, b"\x89PNG");
    let document = daemon.run(&["vm", "screenshot", "gaming", file, "--json"]).document();
    let wanted = serde_json::json!({"file": file, "bytes": 4, "width": 720, "height": 400});
    assert_eq!(document, wanted);
    let lost = daemon.run(&["vm", "screenshot", "gaming", "/nonexistent/x.png"]);
    assert_eq!(lost.code, 5);
    assert!(lost.stderr.contains("/nonexistent is not a folder"), "{}", lost.stderr);
    let mut command = hostctl();
    command.arg("--socket").arg(daemon.path()).args(["vm", "screenshot", "gaming", "-"]);
    assert_eq!(command.output().expect("hostctl runs").stdout, b"\x89PNG");
    let named = run(hostctl()
        .current_dir(daemon.dir.path())
        .arg("--socket")
        .arg(daemon.path())
        .args(["vm", "screenshot", "gaming"]));
    assert!(
        named.stdout.starts_with("gaming-20") && named.stdout.contains(".png: "),
        "{}",
        named.stdout
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_words_and_text() {
    let daemon = Daemon::start(true).await;
    let ran = daemon.run(&["vm", "sendkey", "gaming", "meta_l-r", "ret", "--text", "hi"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "[\"meta_l-r\", \"ret\"] \"hi\" None\n"));
    let ran = daemon.run(&["vm", "sendkey", "gaming", "a", "--hold", "500"]);
    assert_eq!(ran.stdout, "[\"a\"] \"\" Some(500)\n");
    assert_eq!(daemon.run(&["vm", "sendkey", "gaming"]).code, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caret_stays_below_what_it_points_at() {
    let daemon = Daemon::start(true).await;
    let ran = daemon.run(&["event", "query", "state == 1"]);
    assert_eq!(ran.code, 2);
    let told = "hostctl:\nwrong\n  state == 1\n        ^\n  hint: read it\n";
    assert_eq!(ran.stderr, told, "without the character that turns text around");
}

#[tokio::test(flavor = "multi_thread")]
async fn those_without_the_right_are_told() {
    let daemon = Daemon::start(false).await;
    let ran = daemon.run(&["vm", "start", "gaming", "--json"]);
    assert_eq!((ran.code, &ran.document()["error"]["code"]), (3, &"denied".into()));
    assert_eq!(daemon.run(&["vm", "list"]).code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_pipe_is_no_error() {
    let daemon = Daemon::start(true).await;
    for args in [&["vm", "log", "gaming"][..], &["completions", "bash"], &["--help"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        #[allow(clippy::disallowed_methods, reason = "needs a pipe of its own")]
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_hostctl"))
            .arg("--socket")
            .arg(daemon.path())
            .args(args)
            .stdout(writer)
            .stderr(std::process::Stdio::piped())
            .output()
            .expect("hostctl runs");
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rom_comes_from_the_daemon_and_is_written_here() {
    let daemon = Daemon::start(true).await;
    let to = daemon.dir.path().join("card.rom");
    let file = to.to_str().expect("text");
    let ran = daemon.run(&["gpu", "rom", "dump", "gaming", file]);
    assert_eq!((ran.code, to.exists()), (1, false), "what is not usable is not written");
    assert!(ran.stdout.contains("was not written"), "{}", ran.stdout);
    let ran = daemon.run(&["gpu", "rom", "dump", "gaming", file, "--strip", "--json"]);
    let document = ran.document();
    assert_eq!((&document["written"], &document["data"]), (&Value::from(true), &Value::Null));
    #[allow(clippy::disallowed_methods, reason = "looks at what was written")]
    let written = std::fs::read(&to).expect("written");
    assert_eq!(written, [0x55, 0xaa, 1]);
    let lost = daemon.run(&["gpu", "rom", "dump", "gaming", "/nonexistent/x.rom", "--strip"]);
    assert_eq!(lost.code, 5);
    assert!(lost.stderr.contains("/nonexistent is not a folder"), "{}", lost.stderr);

    let ran = daemon.run(&["gpu", "quirks", "gaming", "--json"]);
    assert_eq!(ran.document()["notes"][0], "asked for Some(\"gaming\")");
    let ran = daemon.run(&["gpu", "quirks", "--json"]);
    assert_eq!((ran.code, &ran.document()["notes"][0]), (1, &Value::from("asked for None")));

    let looks = Daemon::start(false).await;
    assert_eq!(looks.run(&["gpu", "rom", "dump", "gaming", file]).code, 3);
    assert_eq!(looks.run(&["gpu", "quirks"]).code, 1);
}

/// A folder with an `ssh` that runs `script` instead.
fn ssh(script: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("ssh");
    #[allow(clippy::disallowed_methods, reason = "a script for this test")]
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("set");
    dir
}

fn through(ssh: &Path, args: &[&str]) -> Ran {
    let path = format!("{}:/usr/bin:/bin", ssh.display());
    run(hostctl().env("PATH", path).args(["--host", "ssh://me@nas"]).args(args))
}

#[tokio::test(flavor = "multi_thread")]
async fn another_machine_is_reached_through_ssh() {
    let daemon = Daemon::start(true).await;
    let far = |socket: &Path| {
        format!(
            "[ \"$*\" = '-T -o ConnectTimeout=15 -- ssh://me@nas hostctl --stdio' ] || exit 9\n\
             exec {} --stdio --socket {}",
            env!("CARGO_BIN_EXE_hostctl"),
            socket.display()
        )
    };
    let good = ssh(&far(&daemon.path()));
    let ran = through(good.path(), &["vm", "start", "gaming", "-v"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "gaming runs\n"), "{}", ran.stderr);
    assert!(ran.stderr.contains("binding 0000:01:00.0"), "{}", ran.stderr);

    let none = ssh(&far(Path::new("/nonexistent")));
    let ran = through(none.path(), &["iommu", "list"]);
    assert_eq!(ran.code, 4, "the machine here is not read instead: {}", ran.stdout);
    assert!(ran.stderr.contains("/nonexistent: no such socket"), "{}", ran.stderr);

    let noise = ssh("echo 'hostctl: command not found'");
    let ran = through(noise.path(), &["status"]);
    assert_eq!(ran.code, 4);
    assert!(ran.stderr.contains("did not run `hostctl --stdio`"), "{}", ran.stderr);

    let broken = ssh("exit 255");
    let ran = through(broken.path(), &["status"]);
    assert_eq!(ran.code, 4);
    assert!(ran.stderr.contains("does not answer: it ended"), "{}", ran.stderr);
}

#[test]
fn a_vm_of_another_program_becomes_a_file() {
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/import/samples");
    let (xml, conf) = (format!("{samples}/windows.xml"), format!("{samples}/100.conf"));
    let ran = without_daemon(&["vm", "import", &xml, "--name", "gaming"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("\nprofile: windows-11\n"), "{}", ran.stdout);
    assert!(ran.stderr.contains("/var/lib/hostd/vms/gaming/OVMF_VARS.fd"), "{}", ran.stderr);
    let ran = without_daemon(&["vm", "import", &conf, "--json"]);
    let document = ran.document();
    assert_eq!((ran.code, &document["name"]), (0, &Value::from("win11")));
    assert!(document["notes"][0]["line"].is_u64(), "{document}");
    let ran = without_daemon(&["vm", "import", &format!("{samples}/nothing.xml")]);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
}

/// What only the machine can say of a VM's file, all at once and each with its
/// place: more than any machine has, and a card that is not there.
#[test]
#[allow(clippy::disallowed_methods, reason = "the owner writes the files")]
fn a_vm_that_does_not_fit_this_machine_is_told_with_places() {
    let dir = tempfile::tempdir().expect("a folder");
    let vms = dir.path().join("vms");
    std::fs::create_dir(&vms).expect("a folder");
    std::fs::write(dir.path().join("host.yaml"), "").expect("a file");
    let lines = [
        "memory: 8T",
        "cpus: 1",
        "accel: tcg",
        "machine: pc-q35-99.0",
        "numa-node: 1023",
        "pinning: {vcpus: [8190]}",
        "gpu: ffff:1f:00.0",
        "disks: [{nvme: ffff:1e:00.0}, /no/such/disk]",
        "network: {bridge: no-bridge-here}",
    ];
    std::fs::write(vms.join("huge.yaml"), lines.join("\n")).expect("a file");
    let ran = without_daemon(&["config", "check", &dir.path().display().to_string()]);
    assert_eq!(ran.code, 2, "{}", ran.stdout);
    for (line, column, words) in [
        (1, 9, "8T of memory are more than the host has"),
        (4, 10, "has no machine type `pc-q35-99.0`"),
        (5, 12, "this host has no NUMA node 1023"),
        (6, 1, "this host has no processor 8190"),
        (7, 6, ""),
        (8, 1, "there is no NVMe controller at ffff:1e:00.0"),
        (8, 31, "the disk /no/such/disk does not exist"),
        (9, 1, "there is no bridge `no-bridge-here`"),
    ] {
        let place = format!("huge.yaml:{line}:{column}: ");
        let found = ran.stdout.lines().any(|said| said.contains(&place) && said.contains(words));
        assert!(found, "{place}{words} is not in\n{}", ran.stdout);
    }
}

#[test]
fn recorded_events_go_through_the_streams_without_a_daemon() {
    let dir = tempfile::tempdir().expect("a folder");
    let (config, events) = (dir.path().join("host.yaml"), dir.path().join("events.json"));
    let streams =
        "streams:\n  - rate: 5s\n    do: [index]\n  - where: metric > 1\n    do: [graphite]\n";
    std::fs::write(&config, streams).expect("written");
    let lines = "{\"service\":\"a\",\"metric\":1,\"time\":0}\n{\"service\":\"a\",\"metric\":4,\"time\":3}\n";
    std::fs::write(&events, lines).expect("written");
    let (config, events) = (config.display().to_string(), events.display().to_string());
    let test = ["--config", &config, "event", "test-stream", "--after", "3s", &events];

    let ran = without_daemon(&test);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{}", ran.stdout);
    assert!(lines[1].starts_with("1970-01-01T00:00:03.000Z  graphite"), "{}", ran.stdout);
    assert!(lines[2].starts_with("1970-01-01T00:00:05.000Z  index"), "{}", ran.stdout);

    let document = without_daemon(&[&["--json"], &test[..]].concat()).document();
    assert_eq!(document["outputs"][0]["to"], "graphite");
    assert_eq!(document["outputs"][1]["event"]["metric"], 1.0);

    let none = dir.path().join("none.json").display().to_string();
    assert_eq!(without_daemon(&["--config", &config, "event", "test-stream", &none]).code, 2);
    std::fs::write(dir.path().join("host.yaml"), "streams:\n  - rate: 5\n    do: [index]\n")
        .expect("written");
    let wrong = without_daemon(&test);
    assert_eq!(wrong.code, 2);
    assert!(wrong.stderr.contains("host.yaml:2:11"), "{}", wrong.stderr);
}
