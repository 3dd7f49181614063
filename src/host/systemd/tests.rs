//! Against a systemd made of values, on a bus of our own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex as Plain};

use zbus::object_server::SignalEmitter;
use zbus::{ObjectPath, fdo};

use super::*;

/// A bus of our own; none where dbus-daemon is not installed.
struct Bus {
    dir: tempfile::TempDir,
    child: Option<tokio::process::Child>,
}

impl Bus {
    #[allow(clippy::disallowed_methods, reason = "starts a bus for these tests only")]
    async fn start() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let (config, socket) = (dir.path().join("bus.conf"), dir.path().join("bus.sock"));
        let text = format!(
            "<busconfig><listen>unix:path={}</listen><auth>EXTERNAL</auth>\
             <policy context=\"default\"><allow user=\"*\"/><allow own=\"*\"/>\
             <allow send_destination=\"*\"/><allow receive_sender=\"*\"/>\
             <allow send_type=\"method_call\"/></policy></busconfig>",
            socket.display()
        );
        std::fs::write(&config, text).unwrap();
        let child = tokio::process::Command::new("dbus-daemon")
            .arg("--nofork")
            .arg(format!("--config-file={}", config.display()))
            .kill_on_drop(true)
            .spawn();
        let Ok(child) = child else {
            eprintln!("skipped: dbus-daemon is not installed");
            return None;
        };
        for _ in 0..500 {
            if tokio::net::UnixStream::connect(&socket).await.is_ok() {
                return Some(Self { dir, child: Some(child) });
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("dbus-daemon does not start");
    }

    fn address(&self) -> String {
        format!("unix:path={}", self.dir.path().join("bus.sock").display())
    }
}

/// What the fake was asked, and how it behaves.
#[derive(Default)]
struct Seen {
    asked: Vec<String>,
    /// Names that are taken, until they are reset.
    taken: Vec<String>,
    /// How jobs end; `done` when empty, never when "never".
    result: String,
    /// How `user.slice` is.
    active: String,
    properties: HashMap<String, String>,
}

#[derive(Clone, Default)]
struct Fake(Arc<Plain<Seen>>);

impl Fake {
    fn with<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.0.lock().unwrap())
    }

    fn row(&self, name: String) -> look::Row {
        let own = str::to_owned;
        let path = |path| OwnedObjectPath::from(ObjectPath::try_from(path).unwrap());
        let unit = path("/org/freedesktop/systemd1/unit/user");
        let load = if name == "user.slice" { "loaded" } else { "not-found" };
        let active = self.with(|seen| seen.active.clone());
        (name, own(""), own(load), active, own("x"), own(""), unit, 0, own(""), path("/"))
    }

    async fn ended(&self, emitter: &SignalEmitter<'_>, unit: &str) -> OwnedObjectPath {
        let job = ObjectPath::try_from("/org/freedesktop/systemd1/job/7").unwrap();
        let other = ObjectPath::try_from("/org/freedesktop/systemd1/job/6").unwrap();
        let result = self.with(|seen| seen.result.clone());
        // Another job of the same unit ends first, and both before the answer.
        Self::job_removed(emitter, 6, other, unit, "failed").await.unwrap();
        match &*result {
            "never" => {}
            "" => Self::job_removed(emitter, 7, job.clone(), unit, "done").await.unwrap(),
            result => Self::job_removed(emitter, 7, job.clone(), unit, result).await.unwrap(),
        }
        job.into()
    }
}

#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.freedesktop.systemd1")]
enum Problem {
    #[zbus(error)]
    ZBus(zbus::Error),
    UnitExists(String),
    NoSuchUnit(String),
}

type Properties = Vec<(String, OwnedVariant)>;

#[allow(clippy::needless_pass_by_value, reason = "systemd's")]
#[zbus::interface(name = "org.freedesktop.systemd1.Manager")]
impl Fake {
    async fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: Properties,
        auxiliary: Vec<(String, Properties)>,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> Result<OwnedObjectPath, Problem> {
        assert!(auxiliary.is_empty());
        let taken = self.with(|seen| {
            seen.asked.push(format!("{mode} {name}"));
            seen.properties =
                properties.iter().map(|(key, value)| (key.clone(), value.to_string())).collect();
            seen.taken.iter().any(|taken| taken == name)
        });
        if taken {
            return Err(Problem::UnitExists(format!("Unit {name} was already loaded")));
        }
        Ok(self.ended(&emitter, name).await)
    }

    async fn start_unit(
        &self,
        name: &str,
        mode: &str,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> Result<OwnedObjectPath, Problem> {
        self.with(|seen| seen.asked.push(format!("start {name} {mode}")));
        if name == "none.service" {
            return Err(Problem::NoSuchUnit(format!("Unit {name} not found.")));
        }
        Ok(self.ended(&emitter, name).await)
    }

    async fn stop_unit(
        &self,
        name: &str,
        mode: &str,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> Result<OwnedObjectPath, Problem> {
        self.with(|seen| seen.asked.push(format!("stop {name} {mode}")));
        Ok(self.ended(&emitter, name).await)
    }

    fn reset_failed_unit(&self, name: &str) {
        self.with(|seen| seen.taken.retain(|taken| taken != name));
    }

    fn set_unit_properties(&self, name: &str, runtime: bool, properties: Properties) {
        assert!(runtime);
        let words: Vec<_> =
            properties.iter().map(|(key, value)| format!("{key}={}", **value)).collect();
        self.with(|seen| seen.asked.push(format!("set {name} {}", words.join(" "))));
    }

    #[allow(clippy::unused_self, clippy::unnecessary_wraps, reason = "the interface wants it so")]
    fn load_unit(&self, name: &str) -> Result<OwnedObjectPath, fdo::Error> {
        assert_eq!(name, "user.slice");
        Ok(ObjectPath::try_from("/org/freedesktop/systemd1/unit/user").unwrap().into())
    }

    #[allow(clippy::unused_self, reason = "the interface wants it so")]
    fn subscribe(&self) {}

    async fn restart_unit(
        &self,
        name: &str,
        mode: &str,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> Result<OwnedObjectPath, Problem> {
        self.with(|seen| seen.asked.push(format!("restart {name} {mode}")));
        Ok(self.ended(&emitter, name).await)
    }

    #[allow(clippy::unused_self, reason = "the interface wants it so")]
    fn get_unit_file_state(&self, file: &str) -> Result<String, Problem> {
        match file {
            "none.service" => Err(Problem::NoSuchUnit("it is not there".to_owned())),
            _ => Ok("enabled".to_owned()),
        }
    }

    fn list_units_by_names(&self, names: Vec<String>) -> Vec<look::Row> {
        names.into_iter().map(|name| self.row(name)).collect()
    }

    fn list_units_by_patterns(&self, states: Vec<String>, patterns: Vec<String>) -> Vec<look::Row> {
        let failed = vec!["nut.service".to_owned()];
        let names = if states == ["failed"] { failed } else { patterns };
        names.into_iter().map(|name| self.row(name)).collect()
    }

    #[zbus(signal)]
    async fn job_removed(
        emitter: &SignalEmitter<'_>,
        id: u32,
        job: ObjectPath<'_>,
        unit: &str,
        result: &str,
    ) -> zbus::Result<()>;
}

/// `user.slice`, running on the processors 0, 1 and 9.
struct Slice;

#[zbus::interface(name = "org.freedesktop.systemd1.Slice")]
impl Slice {
    #[allow(clippy::unused_self, reason = "the interface wants it so")]
    #[zbus(property, name = "AllowedCPUs")]
    fn allowed_cpus(&self) -> Vec<u8> {
        vec![0b11, 0b10]
    }
}

struct Unit;

#[zbus::interface(name = "org.freedesktop.systemd1.Unit")]
impl Unit {
    #[allow(clippy::unused_self, reason = "the interface wants it so")]
    #[zbus(property)]
    fn active_state(&self) -> String {
        "active".to_owned()
    }

    #[allow(clippy::unused_self, reason = "the interface wants it so")]
    #[zbus(property)]
    fn state_change_timestamp(&self) -> u64 {
        1_795_000_000_000_000
    }
}

async fn fake(bus: &Bus) -> (Fake, Connection) {
    let fake = Fake::default();
    let unit = "/org/freedesktop/systemd1/unit/user";
    let connection = connection::Builder::address(bus.address().as_str())
        .serve_at("/org/freedesktop/systemd1", fake.clone())
        .serve_at(unit, Slice)
        .serve_at(unit, Unit)
        .name("org.freedesktop.systemd1")
        .build()
        .await
        .unwrap();
    (fake, connection)
}

fn scope() -> Scope {
    Scope {
        name: "hostd-vm-gaming.scope".to_owned(),
        slice: "hostd-vms.slice".to_owned(),
        description: "VM gaming".to_owned(),
        properties: vec![Property::CpuWeight(200), Property::AllowedCpus(vec![2, 3, 8])],
        devices: Some(vec!["/dev/kvm".into()]),
    }
}

#[tokio::test]
async fn a_scope_is_made_with_all_its_properties() {
    let Some(bus) = Bus::start().await else { return };
    let (fake, _connection) = fake(&bus).await;
    let systemd = Systemd::at(&bus.address());
    // The one of the last run has failed, and is in the way.
    fake.with(|seen| seen.taken.push("hostd-vm-gaming.scope".to_owned()));
    systemd.scope(&scope(), &[41, 42]).await.unwrap();
    let (asked, mut properties) = fake.with(|seen| {
        let all: Vec<_> = seen.properties.iter().map(|(k, v)| format!("{k} = {v}")).collect();
        (seen.asked.clone(), all)
    });
    assert_eq!(asked, ["fail hostd-vm-gaming.scope"; 2]);
    properties.sort();
    insta::assert_snapshot!(properties.join("\n"));
}

#[tokio::test]
async fn jobs_are_waited_for_and_their_failures_told() {
    let Some(bus) = Bus::start().await else { return };
    let (fake, _connection) = fake(&bus).await;
    let systemd = Systemd::at(&bus.address());
    systemd.start_unit("smbd.service").await.unwrap();
    systemd.stop_unit("smbd.service").await.unwrap();
    fake.with(|seen| "timeout".clone_into(&mut seen.result));
    let error = systemd.stop_unit("smbd.service").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "systemd could not stop smbd.service: the job's result is `timeout`"
    );
    let error = systemd.start_unit("none.service").await.unwrap_err();
    assert!(matches!(&error, UnitError::Refused { source, .. } if is_called(source, "NoSuchUnit")));
    assert_eq!(error.to_string(), "systemd does not start none.service");
    fake.with(|seen| "never".clone_into(&mut seen.result));
    let error = systemd.scope(&scope(), &[1]).await.unwrap_err();
    assert!(matches!(error, UnitError::Deadline { .. }), "{error}");
}

#[tokio::test]
async fn properties_are_set_and_read() {
    let Some(bus) = Bus::start().await else { return };
    let (fake, _connection) = fake(&bus).await;
    let systemd = Systemd::at(&bus.address());
    assert_eq!(systemd.allowed_cpus("user.slice").await.unwrap(), [0, 1, 9]);
    assert!(systemd.is_active("user.slice").await.unwrap());
    let cpus = [Property::AllowedCpus(vec![0, 9])];
    systemd.set_properties("user.slice", &cpus).await.unwrap();
    let asked = fake.with(|seen| seen.asked.clone());
    insta::assert_snapshot!(asked.join("\n"));
}

#[tokio::test]
async fn units_are_looked_at_and_their_changes_heard() {
    let Some(bus) = Bus::start().await else { return };
    let (fake, connection) = fake(&bus).await;
    let systemd = Systemd::at(&bus.address());
    fake.with(|seen| "active".clone_into(&mut seen.active));
    let state = systemd.state("user.slice").await.unwrap();
    // A slice has neither result nor processes of its own.
    let since = Some(crate::base::Timestamp::from_secs(1_795_000_000));
    assert_eq!(state, UnitState { since, ..UnitState::new("loaded", "active", "x") });
    assert_eq!(systemd.state("none.service").await.unwrap().load, "not-found");
    let loaded = systemd.loaded(&["user.slice"]).await.unwrap();
    assert_eq!(loaded, [("user.slice".to_owned(), UnitState::new("loaded", "active", "x"))]);
    assert_eq!(systemd.failed().await.unwrap(), ["nut.service"]);
    assert!(systemd.is_enabled("user.slice").await.unwrap());
    assert!(!systemd.is_enabled("none.service").await.unwrap());
    systemd.restart_unit("user.slice").await.unwrap();
    assert_eq!(fake.with(|seen| seen.asked.clone()), ["restart user.slice replace"]);
    let mut changes = systemd.changes(&["user.slice".to_owned()]).await.unwrap();
    let unit = connection
        .object_server()
        .interface::<_, Unit>("/org/freedesktop/systemd1/unit/user")
        .await
        .unwrap();
    unit.get().await.active_state_changed(unit.signal_emitter()).await.unwrap();
    assert_eq!(changes.next().await.as_deref(), Some("user.slice"));
    // systemd executes itself anew.
    connection.release_name("org.freedesktop.systemd1").await.unwrap();
    assert_eq!(changes.next().await, None);
}

#[tokio::test]
async fn the_end_of_the_bus_ends_the_changes() {
    let Some(mut bus) = Bus::start().await else { return };
    let (_fake, _connection) = fake(&bus).await;
    let systemd = Systemd::at(&bus.address());
    let mut changes = systemd.changes(&["user.slice".to_owned()]).await.unwrap();
    if let Some(mut child) = bus.child.take() {
        child.kill().await.unwrap();
    }
    assert_eq!(changes.next().await, None);
}

#[tokio::test]
async fn no_bus_and_no_systemd_are_told_and_a_lost_bus_is_found_again() {
    let error = Systemd::at("unix:path=/none").start_unit("x.service").await.unwrap_err();
    assert!(error.is_absent(), "{error}");
    let dir = tempfile::tempdir().unwrap();
    let without = Systemd::new(&super::super::SysRoot::new(dir.path()));
    let error = without.start_unit("x.service").await.unwrap_err();
    assert_eq!(error.to_string(), "systemd cannot be asked: this machine does not run it");
    let Some(mut bus) = Bus::start().await else { return };
    let systemd = Systemd::at(&bus.address());
    let (_fake, connection) = fake(&bus).await;
    systemd.start_unit("a.service").await.unwrap();
    drop(connection);
    if let Some(mut child) = bus.child.take() {
        child.kill().await.unwrap();
    }
    assert!(systemd.start_unit("a.service").await.is_err());
}

#[test]
fn masks_of_processors_are_bytes_from_the_lowest() {
    assert_eq!(mask_of(&[]), [0u8; 0]);
    assert_eq!(mask_of(&[0, 2, 15, 1 << 30]), [0b101, 0x80]);
    assert_eq!(cpus_of(&[0b101, 0x80]), [0, 2, 15]);
}
