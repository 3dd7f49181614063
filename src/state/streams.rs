//! What the streams tell of themselves.

use crate::base::{Event, Metric, Severity};

/// How the streams are doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamsState {
    /// Events in their windows, batches and buffers.
    pub events: usize,
    /// Children of `by`.
    pub children: usize,
    /// Events and children that their bounds have cost since the last time.
    pub lost: u64,
    /// Outputs that steps name and that are not configured.
    pub nowhere: Vec<String>,
}

/// The event `hostd streams`; metric = losses.
pub fn event(state: &StreamsState) -> Event {
    let holds = format!("{} events and {} children are held", state.events, state.children);
    let (severity, text) = match (state.lost, state.nowhere.as_slice()) {
        (0, []) => (Severity::Ok, holds),
        (0, names) => {
            let names = names.join(", ");
            (Severity::Warning, format!("streams send to what is not configured: {names}"))
        }
        (lost, _) => {
            let why = "too many for the bounds of the streams";
            (Severity::Warning, format!("{lost} events or children were let go of, {why}; {holds}"))
        }
    };
    Event::new("hostd streams", severity, text)
        .metric(Metric::Int(i64::try_from(state.lost).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_worse_than_what_is_not_configured() {
        let said = |lost: u64, nowhere: &[&str]| {
            let nowhere = nowhere.iter().map(|&name| name.to_owned()).collect();
            let told = event(&StreamsState { lost, nowhere, ..StreamsState::default() });
            (told.state.unwrap_or_default(), told.description.unwrap_or_default())
        };
        assert_eq!(said(0, &[]).0, "ok");
        let (state, text) = said(0, &["graphite"]);
        assert_eq!(state, "warning");
        assert!(text.ends_with("not configured: graphite"), "{text}");
        let (state, text) = said(3, &["graphite"]);
        assert_eq!(state, "warning");
        assert!(text.starts_with("3 events or children"), "{text}");
    }
}
