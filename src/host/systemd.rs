//! systemd, over the system bus: `org.freedesktop.systemd1(5)`.
//!
//! One connection, made when it is first needed and again when it was lost.
//! Every job is waited for: its end comes as the signal `JobRemoved`.

use std::path::PathBuf;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use zbus::{Connection, OwnedObjectPath, OwnedVariant, Variant, connection};

use super::units::{Changes, Doing, Property, Scope, UnitError, UnitState, Units};

mod look;

/// There while systemd runs the machine: `sd_booted(3)`.
const BOOTED: &str = "/run/systemd/system";
/// What a scope may take: there is nothing to do but to move processes.
const SCOPE: Duration = Duration::from_secs(3);
/// What other jobs may take: systemd itself ends most after 90 s.
const JOB: Duration = Duration::from_secs(100);
/// What an answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// How long QEMU has after SIGTERM when systemd stops a scope.
const STOP: Duration = Duration::from_secs(30);
/// Between two looks at whether an old scope is gone.
const PAUSE: Duration = Duration::from_millis(20);

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: Vec<(&str, Variant<'_>)>,
        auxiliary: Vec<(&str, Vec<(&str, Variant<'_>)>)>,
    ) -> zbus::Result<OwnedObjectPath>;
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;
    fn set_unit_properties(
        &self,
        name: &str,
        runtime: bool,
        properties: Vec<(&str, Variant<'_>)>,
    ) -> zbus::Result<()>;
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn get_unit_file_state(&self, file: &str) -> zbus::Result<String>;
    fn list_units_by_names(&self, names: &[&str]) -> zbus::Result<Vec<look::Row>>;
    fn list_units_by_patterns(
        &self,
        states: &[&str],
        patterns: &[&str],
    ) -> zbus::Result<Vec<look::Row>>;
    fn subscribe(&self) -> zbus::Result<()>;
    #[zbus(signal)]
    fn job_removed(
        &self,
        id: u32,
        job: OwnedObjectPath,
        unit: String,
        result: String,
    ) -> zbus::Result<()>;
}

/// The machine's systemd.
pub struct Systemd {
    booted: PathBuf,
    bus: Option<String>,
    connection: Mutex<Option<Connection>>,
}

impl Systemd {
    /// That of the machine below this root.
    pub fn new(sys: &super::SysRoot) -> Self {
        Self { booted: sys.path(BOOTED), bus: None, connection: Mutex::new(None) }
    }

    /// That which is on another bus: `unix:path=…`.
    pub fn at(address: &str) -> Self {
        let bus = Some(address.to_owned());
        Self { booted: PathBuf::from("/"), bus, connection: Mutex::new(None) }
    }

    async fn manager(&self) -> Result<ManagerProxy<'static>, UnitError> {
        self.is_booted()?;
        let mut kept = self.connection.lock().await;
        if let Some(connection) = &*kept
            && !connection.is_closed()
        {
            return ManagerProxy::new(connection).await.map_err(|error| absent(&error));
        }
        let (connection, manager) = self.connect().await?;
        *kept = Some(connection);
        Ok(manager)
    }

    /// A connection of its own.
    async fn connect(&self) -> Result<(Connection, ManagerProxy<'static>), UnitError> {
        let builder = match &self.bus {
            None => connection::Builder::system(),
            Some(address) => connection::Builder::address(address.as_str()),
        };
        let made = async {
            let connection = builder.build().await?;
            let manager = ManagerProxy::new(&connection).await?;
            // Without it only the signals of our own jobs are sure to come.
            manager.subscribe().await?;
            Ok((connection, manager))
        };
        match timeout(ANSWER, made).await {
            Ok(Ok(made)) => Ok(made),
            Ok(Err(error)) => Err(absent(&error)),
            Err(_) => Err(UnitError::Absent("the system bus does not answer".to_owned())),
        }
    }

    fn is_booted(&self) -> Result<(), UnitError> {
        if super::SysRoot::new("/").exists(&self.booted) {
            return Ok(());
        }
        Err(UnitError::Absent("this machine does not run it".to_owned()))
    }

    /// Has a job done, and waits for its end.
    async fn job<F, J>(
        &self,
        unit: &str,
        what: String,
        within: Duration,
        begin: F,
    ) -> Result<(), UnitError>
    where
        F: FnOnce(ManagerProxy<'static>) -> J,
        J: Future<Output = zbus::Result<OwnedObjectPath>>,
    {
        let manager = self.manager().await?;
        let until = Instant::now() + within;
        let refused = |source| UnitError::Refused { what: what.clone(), source };
        let late = |_| UnitError::Deadline { what: what.clone(), within };
        // Before the job begins: it may end before we are told that it began.
        let about = [(2, unit)];
        let ended = manager.receive_job_removed_with_args(&about);
        let mut ended = timeout_at(until, ended).await.map_err(late)?.map_err(refused)?;
        let begun = timeout_at(until, begin(manager.clone())).await.map_err(late)?;
        let job = begun.map_err(refused)?;
        let result = timeout_at(until, async {
            while let Some(signal) = ended.next().await {
                if let Ok(args) = signal.args()
                    && *args.job() == job
                {
                    return Some(args.result().clone());
                }
            }
            None
        });
        match result.await.map_err(late)?.as_deref() {
            Some("done") => Ok(()),
            Some(result) => Err(UnitError::Job { what, result: result.to_owned() }),
            None => Err(UnitError::Absent("the system bus was lost".to_owned())),
        }
    }

    /// A property of a unit, by the interface of its kind.
    async fn property(
        &self,
        unit: &str,
        interface: &str,
        name: &str,
    ) -> Result<OwnedVariant, UnitError> {
        let what = format!("say {name} of {unit}");
        let manager = self.manager().await?;
        let asked = async {
            let path = manager.load_unit(unit).await?;
            let connection = manager.inner().connection();
            let reply = connection
                .call_method(
                    Some("org.freedesktop.systemd1"),
                    &path,
                    Some("org.freedesktop.DBus.Properties"),
                    "Get",
                    &(interface, name),
                )
                .await?;
            reply.body().deserialize::<OwnedVariant>()
        };
        match timeout(ANSWER, asked).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(source)) => Err(UnitError::Refused { what, source }),
            Err(_) => Err(UnitError::Deadline { what, within: ANSWER }),
        }
    }
}

impl Units for Systemd {
    fn scope<'a>(&'a self, scope: &'a Scope, pids: &'a [u32]) -> Doing<'a, ()> {
        Box::pin(async move {
            let name = &*scope.name;
            let until = Instant::now() + SCOPE;
            loop {
                let what = format!("make {name}");
                let made = self.job(name, what, SCOPE, |manager| async move {
                    let properties = scope_properties(scope, pids);
                    manager.start_transient_unit(name, "fail", properties, Vec::new()).await
                });
                match made.await {
                    // The one of the last run is just going, or has failed.
                    Err(UnitError::Refused { source, .. })
                        if is_called(&source, "UnitExists") && Instant::now() < until =>
                    {
                        if let Ok(manager) = self.manager().await {
                            // It is in the way only if it has failed.
                            let _ = timeout(ANSWER, manager.reset_failed_unit(name)).await;
                        }
                        sleep(PAUSE).await;
                    }
                    other => return other,
                }
            }
        })
    }

    fn set_properties<'a>(&'a self, unit: &'a str, properties: &'a [Property]) -> Doing<'a, ()> {
        Box::pin(async move {
            let what = format!("set properties of {unit}");
            let manager = self.manager().await?;
            let properties = properties.iter().map(value).collect();
            match timeout(ANSWER, manager.set_unit_properties(unit, true, properties)).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(source)) => Err(UnitError::Refused { what, source }),
                Err(_) => Err(UnitError::Deadline { what, within: ANSWER }),
            }
        })
    }

    fn allowed_cpus<'a>(&'a self, unit: &'a str) -> Doing<'a, Vec<u32>> {
        Box::pin(async move {
            let kind = match unit.rsplit_once('.').map(|(_, kind)| kind) {
                Some("slice") => "org.freedesktop.systemd1.Slice",
                Some("scope") => "org.freedesktop.systemd1.Scope",
                _ => "org.freedesktop.systemd1.Service",
            };
            let mask = self.property(unit, kind, "AllowedCPUs").await?;
            let mask = Vec::<u8>::try_from(mask).map_err(|source| UnitError::Refused {
                what: format!("say AllowedCPUs of {unit} in bytes"),
                source,
            })?;
            Ok(cpus_of(&mask))
        })
    }

    fn is_active<'a>(&'a self, unit: &'a str) -> Doing<'a, bool> {
        Box::pin(async move {
            let state = self.property(unit, "org.freedesktop.systemd1.Unit", "ActiveState").await?;
            let state = String::try_from(state).map_err(|source| UnitError::Refused {
                what: format!("say ActiveState of {unit} in words"),
                source,
            })?;
            Ok(matches!(&*state, "active" | "reloading" | "activating" | "refreshing"))
        })
    }

    fn start_unit<'a>(&'a self, unit: &'a str) -> Doing<'a, ()> {
        Box::pin(self.job(unit, format!("start {unit}"), JOB, move |manager| async move {
            manager.start_unit(unit, "replace").await
        }))
    }

    fn stop_unit<'a>(&'a self, unit: &'a str) -> Doing<'a, ()> {
        Box::pin(self.job(unit, format!("stop {unit}"), JOB, move |manager| async move {
            manager.stop_unit(unit, "replace").await
        }))
    }

    fn restart_unit<'a>(&'a self, unit: &'a str) -> Doing<'a, ()> {
        Box::pin(self.job(unit, format!("restart {unit}"), JOB, move |manager| async move {
            // It has not failed, or is not there: the restart will tell.
            let _ = manager.reset_failed_unit(unit).await;
            manager.restart_unit(unit, "replace").await
        }))
    }

    fn state<'a>(&'a self, unit: &'a str) -> Doing<'a, UnitState> {
        Box::pin(self.look(unit))
    }

    fn loaded<'a>(&'a self, units: &'a [&'a str]) -> Doing<'a, Vec<(String, UnitState)>> {
        Box::pin(async move {
            let rows = self.rows("list units", &[], units).await?;
            Ok(rows.into_iter().filter(|(_, state)| state.load == "loaded").collect())
        })
    }

    fn is_enabled<'a>(&'a self, unit: &'a str) -> Doing<'a, bool> {
        Box::pin(self.enabled(unit))
    }

    fn failed(&self) -> Doing<'_, Vec<String>> {
        Box::pin(async move {
            let rows = self.rows("list what has failed", &["failed"], &[]).await?;
            Ok(rows.into_iter().map(|(name, _)| name).collect())
        })
    }

    fn changes<'a>(&'a self, units: &'a [String]) -> Doing<'a, Changes> {
        Box::pin(self.listen(units))
    }
}

fn absent(error: &zbus::Error) -> UnitError {
    UnitError::Absent(format!("no system bus: {error}"))
}

fn is_called(error: &zbus::Error, name: &str) -> bool {
    let prefix = "org.freedesktop.systemd1.";
    matches!(error, zbus::Error::MethodError(called, ..)
        if called.as_str().strip_prefix(prefix) == Some(name))
}

/// What systemd is told about a scope.
fn scope_properties(scope: &Scope, pids: &[u32]) -> Vec<(&'static str, Variant<'static>)> {
    let units = |names: &[&'static str]| Variant::from(names.to_vec());
    let micros = u64::try_from(STOP.as_micros()).unwrap_or(u64::MAX);
    let mut all = vec![
        ("PIDs", Variant::from(pids.to_vec())),
        ("Slice", Variant::from(scope.slice.clone())),
        ("Description", Variant::from(scope.description.clone())),
        // Nothing of it stays once QEMU is gone, however it went.
        ("CollectMode", Variant::from("inactive-or-failed")),
        ("TimeoutStopUSec", Variant::from(micros)),
        // Stopping goes the other way round: first hostd-guests.service, which
        // gives the guests their time, then what is left of them, then hostd
        // and the disks.
        ("Before", units(&["hostd-guests.service"])),
        ("After", units(&["hostd.service", "zfs.target"])),
    ];
    all.extend(scope.properties.iter().map(value));
    if let Some(devices) = &scope.devices {
        let nodes: Vec<(String, String)> =
            devices.iter().map(|node| (node.display().to_string(), "rw".to_owned())).collect();
        all.push(("DevicePolicy", Variant::from("closed")));
        all.push(("DeviceAllow", Variant::from(nodes)));
    }
    all
}

fn value(property: &Property) -> (&'static str, Variant<'static>) {
    match property {
        Property::CpuWeight(weight) => ("CPUWeight", Variant::from(*weight)),
        Property::IoWeight(weight) => ("IOWeight", Variant::from(*weight)),
        Property::MemoryMax(bytes) => ("MemoryMax", Variant::from(*bytes)),
        Property::AllowedCpus(cpus) => ("AllowedCPUs", Variant::from(mask_of(cpus))),
        Property::DeviceAllow(nodes) => ("DeviceAllow", Variant::from(nodes.clone())),
    }
}

/// The largest processor number that is looked at; Linux has at most 8192.
const CPU_LIMIT: u32 = 8192;

/// systemd's mask: the first byte has the processors 0 to 7, 0 in its lowest bit
/// (`cpu_set_to_dbus` in systemd's `src/shared/cpu-set-util.c`).
fn mask_of(cpus: &[u32]) -> Vec<u8> {
    let mut mask = Vec::new();
    for cpu in cpus.iter().filter(|cpu| **cpu < CPU_LIMIT) {
        let byte = (cpu / 8) as usize;
        if mask.len() <= byte {
            mask.resize(byte + 1, 0u8);
        }
        mask[byte] |= 1 << (cpu % 8);
    }
    mask
}

fn cpus_of(mask: &[u8]) -> Vec<u32> {
    (0..CPU_LIMIT)
        .filter(|cpu| mask.get((cpu / 8) as usize).is_some_and(|byte| byte >> (cpu % 8) & 1 == 1))
        .collect()
}

#[cfg(test)]
mod tests;
