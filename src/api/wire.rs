//! Asks, replies and refusals as they travel over D-Bus; both ends use this.
//!
//! A reply is one string, the JSON document that `hostctl --json` prints. A
//! refusal is a D-Bus error `org.hostd.Error.<Code>` whose body is two
//! strings: the message, where every D-Bus tool looks for it, and the hint.

use serde::Serialize;
use serde::de::DeserializeOwned;
use zbus::message::{Header, Message};
use zbus::names::ErrorName;

use crate::ask::{Ask, Code, Refusal, Reply};

/// The reply as the document that scripts rely on.
pub fn document(reply: &Reply, pretty: bool) -> Result<String, serde_json::Error> {
    match reply {
        Reply::Status(view) => text(view, pretty),
        Reply::Doctor(view) => text(view, pretty),
        Reply::Iommu(view) => text(view, pretty),
        Reply::Gpus(view) => text(view, pretty),
        Reply::Quirks(view) => text(view, pretty),
        Reply::Rom(view) => text(view, pretty),
        Reply::RomDump(view) => text(view, pretty),
        Reply::Plan(view) => text(view, pretty),
        Reply::BootPlan(view) => text(view, pretty),
        Reply::BootStatus(view) => text(view, pretty),
        Reply::Vms(view) => text(view, pretty),
        Reply::Console(view) => text(view, pretty),
        Reply::ConsoleData(view) => text(view, pretty),
        Reply::Screenshot(view) => text(view, pretty),
        Reply::Log(view) => text(view, pretty),
        Reply::Usb(view) => text(view, pretty),
        Reply::VmPlan(view) => text(view, pretty),
        Reply::VmArgv(view) => text(view, pretty),
        Reply::Snapshots(view) => text(view, pretty),
        Reply::Pools(view) => text(view, pretty),
        Reply::Care(view) => text(view, pretty),
        Reply::Disks(view) => text(view, pretty),
        Reply::Machine(view) => text(view, pretty),
        Reply::Services(view) => text(view, pretty),
        Reply::Tail(view) => text(view, pretty),
        Reply::HistoryList(view) => text(view, pretty),
        Reply::History(view) => text(view, pretty),
        Reply::Events(view) => text(view, pretty),
        Reply::Replay(view) => text(view, pretty),
        Reply::Done(view) => text(view, pretty),
    }
}

fn text(view: &impl Serialize, pretty: bool) -> Result<String, serde_json::Error> {
    if pretty { serde_json::to_string_pretty(view) } else { serde_json::to_string(view) }
}

/// The reply to `ask` back from its document.
pub fn reply(ask: &Ask, document: &str) -> Result<Reply, serde_json::Error> {
    fn view<V: DeserializeOwned>(
        document: &str,
        wrap: fn(V) -> Reply,
    ) -> Result<Reply, serde_json::Error> {
        serde_json::from_str(document).map(wrap)
    }
    match ask {
        Ask::Status => view(document, Reply::Status),
        Ask::Doctor { .. } => view(document, Reply::Doctor),
        Ask::IommuList | Ask::IommuShow { .. } => view(document, Reply::Iommu),
        Ask::GpuList => view(document, Reply::Gpus),
        Ask::GpuQuirks { .. } => view(document, Reply::Quirks),
        Ask::GpuRomDump { .. } => view(document, Reply::RomDump),
        Ask::GpuPlan { .. } => view(document, Reply::Plan),
        Ask::BootPlan { .. } => view(document, Reply::BootPlan),
        Ask::BootStatus => view(document, Reply::BootStatus),
        Ask::VmList | Ask::VmStatus { .. } => view(document, Reply::Vms),
        Ask::VmPlan { .. } => view(document, Reply::VmPlan),
        Ask::VmArgv { .. } => view(document, Reply::VmArgv),
        Ask::UsbList => view(document, Reply::Usb),
        Ask::VmSnapshots { .. } => view(document, Reply::Snapshots),
        Ask::VmConsoleOpen { .. } => view(document, Reply::Console),
        Ask::VmConsoleRead { .. } | Ask::VmConsoleWrite { .. } => {
            view(document, Reply::ConsoleData)
        }
        Ask::VmScreenshot { .. } => view(document, Reply::Screenshot),
        Ask::VmLog { .. } | Ask::VmSerialLog { .. } => view(document, Reply::Log),
        Ask::PoolStatus { .. } => view(document, Reply::Pools),
        Ask::CareList { .. } => view(document, Reply::Care),
        Ask::DiskStatus { .. } => view(document, Reply::Disks),
        Ask::MachineStatus => view(document, Reply::Machine),
        Ask::ServiceList | Ask::ServiceStatus { .. } => view(document, Reply::Services),
        Ask::EventTail { .. } => view(document, Reply::Tail),
        Ask::HistoryList { .. } => view(document, Reply::HistoryList),
        Ask::HistoryShow { .. } => view(document, Reply::History),
        Ask::EventQuery { .. } => view(document, Reply::Events),
        Ask::GpuBind { .. }
        | Ask::GpuRelease { .. }
        | Ask::GpuReset { .. }
        | Ask::BootSetup { .. }
        | Ask::BootRemove
        | Ask::VmStart { .. }
        | Ask::VmStop { .. }
        | Ask::VmRestart { .. }
        | Ask::VmPause { .. }
        | Ask::VmResume { .. }
        | Ask::VmReset { .. }
        | Ask::VmHibernate { .. }
        | Ask::VmKill { .. }
        | Ask::VmAttach { .. }
        | Ask::VmDetach { .. }
        | Ask::VmMedia { .. }
        | Ask::VmSnapshotCreate { .. }
        | Ask::VmSnapshotRevert { .. }
        | Ask::VmSnapshotDelete { .. }
        | Ask::VmConsoleClose { .. }
        | Ask::VmSendKey { .. }
        | Ask::PoolScrub { .. }
        | Ask::ServiceRestart { .. }
        | Ask::EventSend { .. } => view(document, Reply::Done),
    }
}

/// A D-Bus string holds no NUL; whoever wrote one meant nothing by it.
pub fn clean(text: &str) -> String {
    text.replace('\0', "")
}

/// A refusal on its way out as a D-Bus error.
#[derive(Debug)]
pub struct Refused(pub Refusal);

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

fn error_name(code: Code) -> &'static str {
    match code {
        Code::Usage => "org.hostd.Error.Usage",
        Code::Denied => "org.hostd.Error.Denied",
        Code::NoDaemon => "org.hostd.Error.NoDaemon",
        Code::NotFound => "org.hostd.Error.NotFound",
        Code::Refused => "org.hostd.Error.Refused",
        Code::Failed => "org.hostd.Error.Failed",
    }
}

const CODES: [Code; 6] =
    [Code::Usage, Code::Denied, Code::NoDaemon, Code::NotFound, Code::Refused, Code::Failed];

impl zbus::DBusError for Refused {
    fn create_reply(&self, call: &Header<'_>) -> zbus::Result<Message> {
        let body = (clean(&self.0.message), clean(&self.0.hint));
        Message::error(call, error_name(self.0.code)).build(&body)
    }

    fn name(&self) -> ErrorName<'_> {
        ErrorName::from_static_str_unchecked(error_name(self.0.code))
    }

    fn description(&self) -> Option<&str> {
        Some(&self.0.message)
    }
}

/// What went wrong with a call, as the refusal that the daemon gave or as one
/// of our own.
pub fn refusal(error: &zbus::Error) -> Refusal {
    use zbus::fdo;
    match error {
        zbus::Error::MethodError(name, description, message) => {
            let code = CODES.into_iter().find(|code| error_name(*code) == name.as_str());
            let Some(code) = code else {
                let said = description.clone().unwrap_or_default();
                return Refusal::new(Code::Failed, format!("{}: {said}", name.as_str()), "");
            };
            let (message, hint) = match message.body().deserialize::<(String, String)>() {
                Ok(both) => both,
                Err(_) => (description.clone().unwrap_or_default(), String::new()),
            };
            Refusal::new(code, message, hint)
        }
        zbus::Error::FDO(known) => match known.as_ref() {
            fdo::Error::AccessDenied(why) => {
                Refusal::new(Code::Denied, format!("the bus refuses to carry this: {why}"), "")
            }
            fdo::Error::ServiceUnknown(_)
            | fdo::Error::NameHasNoOwner(_)
            | fdo::Error::NoReply(_)
            | fdo::Error::Disconnected(_) => lost(error),
            fdo::Error::UnknownMethod(why)
            | fdo::Error::UnknownInterface(why)
            | fdo::Error::UnknownObject(why) => Refusal::new(
                Code::Failed,
                format!("the daemon does not know this request: {why}"),
                format!(
                    "hostctl is {}; `hostctl status` shows the daemon's version",
                    env!("CARGO_PKG_VERSION")
                ),
            ),
            fdo::Error::InvalidArgs(why) => {
                Refusal::new(Code::Usage, format!("the daemon cannot read this request: {why}"), "")
            }
            other => Refusal::new(Code::Failed, other.to_string(), ""),
        },
        other => lost(other),
    }
}

fn lost(error: &zbus::Error) -> Refusal {
    Refusal::new(
        Code::NoDaemon,
        format!("the connection to hostd was lost before it answered: {error}"),
        "`journalctl -u hostd -e` tells why; `hostctl status` shows what was done meanwhile",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::names;
    use zbus::DBusError;

    #[test]
    fn refusals_come_back_exactly() {
        let call = Message::method_call(names::OBJECT, "Start").build(&()).unwrap();
        for code in CODES {
            let sent = Refusal::new(code, "vm gaming: group 11 is shared\nwith 01:00.2", "unplug");
            let error = Refused(sent.clone()).create_reply(&call.header()).unwrap();
            assert_eq!(refusal(&error.into()), sent);
            assert!(error_name(code).starts_with(names::ERROR));
        }
    }

    #[test]
    fn a_nul_does_not_break_the_bus() {
        let call = Message::method_call(names::OBJECT, "Start").build(&()).unwrap();
        let sent = Refusal::new(Code::Failed, "a\0b", "");
        let error = Refused(sent).create_reply(&call.header()).unwrap();
        assert_eq!(refusal(&error.into()).message, "ab");
    }

    #[test]
    fn documents_are_what_scripts_see() {
        let sent = Reply::Vms(crate::ask::view::VmsView::default());
        let text = document(&sent, false).unwrap();
        assert_eq!(text, r#"{"vms":[]}"#);
        assert_eq!(reply(&Ask::VmList, &text).unwrap(), sent);
    }
}
