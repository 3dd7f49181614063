//! A watched service restarted on request.

use std::time::Duration;

use crate::ask::view::DoneView;
use crate::ask::{Code, Refusal};
use crate::config::Service;
use crate::host::Host;
use crate::host::run::{Command, quoted};

/// A unit may take its time to stop: systemd itself gives it 90 s.
const DEADLINE: Duration = Duration::from_secs(120);

/// Restarts the unit of the service `name`; `None` when no such service is
/// watched.
pub async fn service(
    host: &Host,
    name: &str,
    service: Option<&Service>,
) -> Result<DoneView, Refusal> {
    let Some(service) = service else {
        let message = format!("no service {name} is watched");
        return Err(Refusal::new(Code::NotFound, message, "`hostctl service list` has the names"));
    };
    let Some(unit) = &service.unit else {
        let message = format!("{name} has no unit that could be restarted");
        let hint = "add `unit:` to it in host.yaml";
        return Err(Refusal::new(Code::Refused, message, hint));
    };
    let command = Command::new("systemctl", ["restart", "--", unit]).deadline(DEADLINE);
    let ran = host.runner.run(command.clone()).await.and_then(|output| output.success(&command));
    match ran {
        Ok(_) => Ok(DoneView::changed(format!("{unit} was restarted"))),
        Err(error) => {
            let hint = format!("`journalctl -u {} -e`", quoted(unit.as_ref()));
            Err(Refusal::new(Code::Failed, format!("{name} was not restarted: {error}"), hint))
        }
    }
}
