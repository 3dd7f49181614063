//! What systemd says of units, and their changes as they happen.
//!
//! A look is one `ListUnitsByNames`, which also loads a unit that nobody has
//! asked about before, and then the few properties that it does not list: not
//! `GetAll`, for which systemd reads the unit's control group.

use futures_util::StreamExt;
use futures_util::stream::{self, SelectAll};
use tokio::time::timeout;
use zbus::fdo::{DBusProxy, PropertiesProxy};
use zbus::names::InterfaceName;
use zbus::{Connection, OwnedObjectPath, OwnedVariant};

use super::{ANSWER, Systemd, UnitError, absent, is_called};
use crate::base::Timestamp;
use crate::host::units::{Changes, UnitState};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
/// The longest list that is taken.
const MOST: usize = 4096;
/// The longest word.
const WORD: usize = 256;

/// Name, description, load state, active state, sub state, the unit that it
/// follows, its object, its job's number, kind and object.
pub(super) type Row =
    (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

impl Systemd {
    /// The units in any of these states whose names match; all, where none are given.
    pub(super) async fn rows(
        &self,
        what: &str,
        states: &[&str],
        patterns: &[&str],
    ) -> Result<Vec<(String, UnitState)>, UnitError> {
        let manager = self.manager().await?;
        let listed = manager.list_units_by_patterns(states, patterns);
        Ok(within(what, listed).await?.into_iter().take(MOST).map(|row| read(row).0).collect())
    }

    /// All that is known of one unit.
    pub(super) async fn look(&self, unit: &str) -> Result<UnitState, UnitError> {
        let manager = self.manager().await?;
        let what = format!("say how {unit} is");
        let mut rows = within(&what, manager.list_units_by_names(&[unit])).await?;
        // A name that cannot be one of a unit is left out.
        let Some(row) = rows.pop() else {
            return Ok(UnitState::new("not-found", "inactive", "dead"));
        };
        let ((_, mut state), path) = read(row);
        if state.load != "loaded" {
            return Ok(state);
        }
        let kind = interface(unit);
        let properties = properties(manager.inner().connection(), &path);
        let properties = within(&what, properties).await?;
        let get = |interface: &'static str, name: &'static str| {
            let properties = &properties;
            // Kinds of units differ in what they have.
            async move {
                let interface = InterfaceName::try_from(interface).ok()?;
                properties.get(interface, name).await.ok()
            }
        };
        let all = async {
            Ok(tokio::join!(
                get(kind, "Result"),
                get(kind, "NRestarts"),
                get(kind, "MainPID"),
                get(kind, "ExecMainStatus"),
                get(UNIT, "StateChangeTimestamp"),
            ))
        };
        let (result, restarts, pid, status, since) = within(&what, all).await?;
        state.result = result
            .and_then(|it| String::try_from(it).ok())
            .map_or_else(String::new, |text| word(&text));
        state.restarts = number::<u32>(restarts).map(u64::from);
        state.pid = number(pid).filter(|pid| *pid > 0);
        state.status = number(status);
        state.since = number::<u64>(since)
            .filter(|micros| *micros > 0)
            .map(|micros| Timestamp::from_secs(0).plus(std::time::Duration::from_micros(micros)));
        Ok(state)
    }

    /// Whether the next boot starts it.
    pub(super) async fn enabled(&self, unit: &str) -> Result<bool, UnitError> {
        let manager = self.manager().await?;
        let what = format!("say whether {unit} is enabled");
        let asked = async {
            match manager.get_unit_file_state(unit).await {
                // Its file is gone.
                Err(error) if is_called(&error, "NoSuchUnit") => Ok(String::new()),
                other => other,
            }
        };
        let state = within(&what, asked).await?;
        Ok(matches!(&*state, "enabled" | "enabled-runtime" | "alias" | "generated"))
    }

    /// Over a connection of its own: it lives as long as the stream, and
    /// nobody else waits for who reads it.
    pub(super) async fn listen(&self, units: &[String]) -> Result<Changes, UnitError> {
        self.is_booted()?;
        let (connection, manager) = self.connect().await?;
        let made = async {
            let mut all = SelectAll::new();
            for unit in units {
                let path = manager.load_unit(unit).await?;
                let properties = properties(&connection, &path).await?;
                let unit = unit.clone();
                let changes = properties.receive_properties_changed_with_args(&[(0, UNIT)]).await?;
                all.push(changes.map(move |_| Some(unit.clone())).boxed());
            }
            // systemd has executed itself anew, or has gone.
            let bus = DBusProxy::new(&connection).await?;
            let owner = bus.receive_name_owner_changed_with_args(&[(0, SYSTEMD)]).await?;
            all.push(owner.map(|_| None).boxed());
            // The streams alone do not end with the connection.
            let lost = connection.clone();
            all.push(stream::once(async move { lost.closed().await }).map(|()| None).boxed());
            Ok(all)
        };
        let all = within("tell its changes", made).await?;
        Ok(all
            .take_while(|change| std::future::ready(change.is_some()))
            .filter_map(std::future::ready)
            .boxed())
    }
}

async fn properties(
    connection: &Connection,
    path: &OwnedObjectPath,
) -> zbus::Result<PropertiesProxy<'static>> {
    PropertiesProxy::builder(connection).destination(SYSTEMD).path(path.clone()).build().await
}

/// The interface of a unit's kind.
fn interface(unit: &str) -> &'static str {
    match unit.rsplit_once('.').map(|(_, kind)| kind) {
        Some("socket") => "org.freedesktop.systemd1.Socket",
        Some("mount") => "org.freedesktop.systemd1.Mount",
        Some("timer") => "org.freedesktop.systemd1.Timer",
        Some("path") => "org.freedesktop.systemd1.Path",
        Some("scope") => "org.freedesktop.systemd1.Scope",
        _ => "org.freedesktop.systemd1.Service",
    }
}

fn read(row: Row) -> ((String, UnitState), OwnedObjectPath) {
    let (name, _, load, active, sub, _, path, ..) = row;
    let state = UnitState {
        load: word(&load),
        active: word(&active),
        sub: word(&sub),
        ..UnitState::default()
    };
    ((word(&name), state), path)
}

/// A word from outside, bounded and without control characters.
fn word(text: &str) -> String {
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().take(WORD).map(plain).collect()
}

fn number<T: TryFrom<OwnedVariant>>(value: Option<OwnedVariant>) -> Option<T> {
    value.and_then(|value| T::try_from(value).ok())
}

async fn within<T>(
    what: &str,
    asked: impl Future<Output = zbus::Result<T>>,
) -> Result<T, UnitError> {
    match timeout(ANSWER, asked).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source @ zbus::Error::InputOutput(_))) => Err(absent(&source)),
        Ok(Err(source)) => Err(UnitError::Refused { what: what.to_owned(), source }),
        Err(_) => Err(UnitError::Deadline { what: what.to_owned(), within: ANSWER }),
    }
}
