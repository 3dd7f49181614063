//! `hostctl service list`.

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
        let none = Reply::Services(ServicesView::default());
        assert_eq!(shown(&none, Detail::List), "no watched services\n");
    }
}
