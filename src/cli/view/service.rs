//! `hostctl service list`, `service status`.

use std::fmt::Write as _;

use super::table::{cell, table};
use super::{Look, paint};
use crate::ask::view::{ServiceView, ServicesView};

fn latency(service: &ServiceView) -> String {
    service.latency.map_or_else(|| "-".to_owned(), |secs| format!("{:.0} ms", secs * 1000.0))
}

fn message(service: &ServiceView) -> String {
    let both = [service.message.as_str(), service.advice.as_str()];
    let said: Vec<_> = both.into_iter().filter(|text| !text.is_empty()).collect();
    cell(&said.join("; "))
}

pub fn list(view: &ServicesView, look: Look) -> String {
    if view.services.is_empty() {
        return "no watched services\n".to_owned();
    }
    let mut services: Vec<_> = view.services.iter().collect();
    services.sort_by_key(|service| std::cmp::Reverse(service.health));
    let rows = services.into_iter().map(|service| {
        [
            cell(&service.name),
            paint::word(service.health),
            look.age(service.since),
            cell(&service.layer),
            latency(service),
            message(service),
        ]
    });
    table(["SERVICE", "HEALTH", "FOR", "LAYER", "TOOK", "WHAT IS THE CASE"], rows, look)
}

/// All with each layer, and what is served.
pub fn show(view: &ServicesView, look: Look) -> String {
    let mut text = list(view, look);
    for service in &view.services {
        // A string takes what it is given.
        let _ = write!(text, "\n{}", cell(&service.name));
        let kind = if service.kind.is_empty() { "-" } else { service.kind.as_str() };
        let found = if service.discovered { ", found by hostd" } else { "" };
        let _ = writeln!(text, " ({}{found})", cell(kind));
        for layer in &service.layers {
            let (health, age) = (paint::word(layer.health), look.age(layer.since));
            let (name, said) = (cell(&layer.name), cell(&layer.message));
            let _ = writeln!(text, "    {name}: {health} for {age}  {said}");
        }
        for share in &service.shares {
            let _ = writeln!(text, "    serves {} from {}", cell(&share.name), cell(&share.path));
        }
        if let Some(sessions) = service.sessions {
            let _ = writeln!(text, "    sessions: {sessions}");
        }
        if service.restarts > 0 {
            let _ = writeln!(text, "    restarts in the last ten minutes: {}", service.restarts);
        }
        for (label, value) in &service.values {
            let _ = writeln!(text, "    {}: {}", cell(label), cell(value));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::ask::Reply;
    use crate::ask::view::ServicesView;
    use crate::cli::samples;
    use crate::cli::view::{Detail, tests::shown};

    #[test]
    fn services() {
        let reply = Reply::Services(samples::services());
        insta::assert_snapshot!("service_list", shown(&reply, Detail::List));
        insta::assert_snapshot!("service_status", shown(&reply, Detail::Full));
        let none = Reply::Services(ServicesView::default());
        assert_eq!(shown(&none, Detail::List), "no watched services\n");
    }
}
