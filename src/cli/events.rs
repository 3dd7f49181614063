//! `hostctl event tail` and `event send`: the commands about events that are
//! more than one ask, or read standard input.

use std::io::{BufRead, Read};

use super::args::Sent;
use super::exit;
use super::out::{self, Out, WriteError};
use super::view::{self, Detail};
use crate::api::client::Client;
use crate::ask::view::{EventView, TailView};
use crate::ask::{Ask, Code, Refusal, Reply};

/// The most that is read from standard input; a D-Bus message holds it.
const MAX_INPUT: u64 = 16 << 20;

/// Prints events as they come, until nobody reads them or hostd ends.
pub async fn tail(out: Out, client: &Client, query: &str) -> Result<u8, WriteError> {
    let mut session = None;
    loop {
        let view = match client.ask(&Ask::EventTail { query: query.to_owned(), session }).await {
            Ok(Reply::Tail(view)) => view,
            Ok(_) => {
                return out.refuse(&Refusal::new(
                    Code::Failed,
                    "hostd's answer makes no sense",
                    "",
                ));
            }
            Err(refusal) => return out.refuse(&refusal),
        };
        session = Some(view.session);
        if view.lost > 0 {
            out.note(&format!(
                "{} events were lost: they come faster than they are read",
                view.lost
            ));
        }
        if !out::bytes(lines(out, view).as_bytes())? {
            return Ok(exit::FINE);
        }
    }
}

fn lines(out: Out, view: TailView) -> String {
    let document = |event: &EventView| serde_json::to_string(event).unwrap_or_default() + "\n";
    if out.json {
        view.events.iter().map(document).collect()
    } else {
        view::view(&Reply::Tail(view), Detail::List, out.look())
    }
}

/// The events to send, as a JSON list.
pub fn given(sent: Sent) -> Result<String, Refusal> {
    let events = if sent.stdin { read(std::io::stdin().lock())? } else { vec![one(sent)] };
    let usage = |error: serde_json::Error| Refusal::new(Code::Usage, error.to_string(), "");
    serde_json::to_string(&events).map_err(usage)
}

fn one(sent: Sent) -> EventView {
    EventView {
        host: sent.of,
        service: sent.service,
        state: sent.state,
        description: sent.description,
        metric: sent.metric,
        tags: sent.tags,
        ttl: sent.ttl,
        time: None,
        attributes: sent.attributes.into_iter().collect(),
    }
}

fn read(input: impl BufRead) -> Result<Vec<EventView>, Refusal> {
    let usage = |why: String| {
        let hint = r#"one object a line: {"service":"backup nas","state":"ok","metric":12.5}"#;
        Refusal::new(Code::Usage, why, hint)
    };
    let mut text = String::new();
    let read = input.take(MAX_INPUT + 1).read_to_string(&mut text);
    read.map_err(|error| usage(format!("standard input: {error}")))?;
    if text.len() as u64 > MAX_INPUT {
        return Err(usage(format!("standard input has more than {} MiB", MAX_INPUT >> 20)));
    }
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(at, line)| {
            serde_json::from_str(line)
                .map_err(|error| usage(format!("line {} of standard input: {error}", at + 1)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_events_and_a_wrong_one_is_named() {
        let events =
            read(&b"{\"service\":\"a\",\"metric\":1}\n\n{\"service\":\"b\"}\n"[..]).unwrap();
        assert_eq!(events.len(), 2);
        assert_eq!(events[0].metric, Some(1.0));
        let refused = read(&b"{\"service\":\"a\"}\n{\"servise\":\"b\"}\n"[..]).unwrap_err();
        assert!(refused.message.starts_with("line 2 of standard input: unknown field `servise`"));
        assert!(read(&b"\xff"[..]).is_err());
    }
}
