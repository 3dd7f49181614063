//! Agents that behave, and guests that do not.

use super::*;
use crate::host::dial::RealDial;
use proptest::prelude::*;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

const SOON: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(20);

/// A socket that one client after the other is answered on, and its agent.
fn served<F: Future<Output = ()> + Send + 'static>(
    mut play: impl FnMut(UnixStream) -> F + Send + 'static,
) -> (tempfile::TempDir, Agent) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((peer, _)) = listener.accept().await {
            play(peer).await;
        }
    });
    (dir, Agent::at(Arc::new(RealDial), path))
}

/// What a good agent says to getting in step; everything else gets `answer`.
async fn behave(peer: UnixStream, answer: impl Fn(&str) -> Option<String>) {
    let mut peer = BufReader::new(peer);
    let mut bytes = Vec::new();
    while peer.read_until(b'\n', &mut bytes).await.is_ok_and(|count| count > 0) {
        let line = std::mem::take(&mut bytes);
        let text = line.rsplit(|byte| *byte == 0xff).next().unwrap();
        let asked: Value = serde_json::from_slice(text).unwrap();
        let said = match asked["execute"].as_str().unwrap() {
            "guest-sync-delimited" => {
                assert_eq!(line[0], 0xff, "half a command of an earlier client is forgotten");
                let id = &asked["arguments"]["id"];
                [b"\xff", json!({ "return": id }).to_string().as_bytes(), b"\n"].concat()
            }
            name => match answer(name) {
                Some(text) => format!("{text}\n").into_bytes(),
                None => continue,
            },
        };
        if peer.get_mut().write_all(&said).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn asks_and_is_answered_in_types() {
    let (_dir, agent) = served(|peer| {
        behave(peer, |name| {
            Some(match name {
                "guest-ping" => r#"{"return": {}}"#.to_owned(),
                "guest-get-host-name" => r#"{"return": {"host-name": "games\u0007"}}"#.to_owned(),
                "guest-fsfreeze-status" => r#"{"return": "thawed"}"#.to_owned(),
                "guest-suspend-ram" => {
                    r#"{"error": {"class": "CommandNotFound", "desc": "disabled"}}"#.to_owned()
                }
                "guest-set-time" => {
                    r#"{"error": {"class": "GenericError", "desc": "no"}}"#.to_owned()
                }
                _ => r#"{"return": 5}"#.to_owned(),
            })
        })
    });
    agent.ping(LONG).await.unwrap();
    assert_eq!(agent.host_name(LONG).await.unwrap(), "games ");
    assert!(!agent.thaw_if_frozen(LONG).await.unwrap());
    let error = agent.suspend_ram(LONG).await.unwrap_err();
    assert!(matches!(error, AgentError::Unsupported { .. }) && error.is_an_answer());
    let error = agent.set_time(None, LONG).await.unwrap_err();
    assert_eq!(error.to_string(), "the guest agent failed at guest-set-time: no");
    let error = agent.os_info(LONG).await.unwrap_err();
    assert!(matches!(error, AgentError::Strange { .. }), "{error}");
    // Success without an answer, and with one that nobody asked for.
    let (_dir, agent) = served(|peer| behave(peer, |_| None));
    agent.shutdown(Power::Down, LONG).await.unwrap();
    let (_dir, agent) = served(|peer| behave(peer, |_| Some(r#"{"return": {}}"#.into())));
    agent.shutdown(Power::Reboot, LONG).await.unwrap();
}

#[tokio::test]
async fn old_answers_and_other_numbers_are_skipped() {
    let (_dir, agent) = served(|mut peer| async move {
        // What an earlier client did not wait for, without an end.
        let old = b"{\"return\": \"old\"}\n\xff{\"return\": 5}\n{\"return\": {\"host-na";
        peer.write_all(old).await.unwrap();
        behave(peer, |_| Some(r#"{"return": {"host-name": "new"}}"#.to_owned())).await;
    });
    assert_eq!(agent.host_name(LONG).await.unwrap(), "new");
}

#[tokio::test]
async fn one_that_was_silent_once_is_dialled_again() {
    let mut first = true;
    let (_dir, agent) = served(move |peer| {
        let silent = std::mem::take(&mut first);
        behave(peer, move |_| (!silent).then(|| r#"{"return": {"host-name": "here"}}"#.into()))
    });
    let error = agent.host_name(SOON).await.unwrap_err();
    assert!(matches!(error, AgentError::Silent { .. }) && !error.is_an_answer(), "{error}");
    assert_eq!(agent.host_name(LONG).await.unwrap(), "here");
}

#[tokio::test]
async fn nobody_there_is_said_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let agent = Agent::at(Arc::new(RealDial), dir.path().join("none"));
    assert!(matches!(agent.ping(LONG).await.unwrap_err(), AgentError::Dial { .. }));
    assert!(agent.freeze(LONG).await.is_err());
}

#[tokio::test]
async fn a_closed_line_is_dialled_once_more() {
    let mut count = 0;
    let (_dir, agent) = served(move |peer| {
        count += 1;
        let gone = count == 2;
        async move {
            if !gone {
                behave(peer, |_| Some(r#"{"return": {}}"#.into())).await;
            }
        }
    });
    agent.ping(LONG).await.unwrap();
    *agent.0.line.lock().await = None;
    agent.ping(LONG).await.unwrap();
}

/// How often a guest was frozen and thawed.
#[derive(Default)]
struct Counts(std::sync::Mutex<Vec<&'static str>>);

impl Counts {
    fn answer(&self, name: &str, freezes: Option<&str>) -> Option<String> {
        let mut seen = self.0.lock().unwrap();
        match name {
            "guest-fsfreeze-freeze" => {
                seen.push("freeze");
                freezes.map(str::to_owned)
            }
            "guest-fsfreeze-thaw" => {
                seen.push("thaw");
                // The first is lost.
                let lost = seen.iter().filter(|what| **what == "thaw").count() == 1;
                let class = "GenericError";
                Some(if lost {
                    json!({"error": {"class": class, "desc": "busy"}}).to_string()
                } else {
                    r#"{"return": 2}"#.to_owned()
                })
            }
            _ => Some(r#"{"return": "frozen"}"#.to_owned()),
        }
    }
}

fn freezer(freezes: Option<&'static str>) -> (tempfile::TempDir, Agent, Arc<Counts>) {
    let counts = Arc::new(Counts::default());
    let shared = Arc::clone(&counts);
    let (dir, agent) = served(move |peer| {
        let counts = Arc::clone(&shared);
        behave(peer, move |name| counts.answer(name, freezes))
    });
    (dir, agent, counts)
}

async fn thawed(counts: &Counts, times: usize) {
    let all = async {
        while counts.0.lock().unwrap().iter().filter(|what| **what == "thaw").count() < times {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, all).await.unwrap();
}

#[tokio::test]
async fn what_is_frozen_thaws_whatever_happens() {
    let yes = Some(r#"{"return": 2}"#);
    let (_dir, agent, counts) = freezer(yes);
    let frozen = agent.freeze(LONG).await.unwrap();
    assert_eq!(frozen.count(), 2);
    frozen.thaw().await.unwrap();
    assert_eq!(*counts.0.lock().unwrap(), ["freeze", "thaw", "thaw"]);
    // Dropped.
    let (_dir, agent, counts) = freezer(yes);
    drop(agent.freeze(LONG).await.unwrap());
    thawed(&counts, 2).await;
    // Not known whether it is frozen.
    let (_dir, agent, counts) = freezer(None);
    assert!(matches!(agent.freeze(SOON).await, Err(AgentError::Silent { .. })));
    thawed(&counts, 2).await;
    // Given up while it freezes.
    let (_dir, agent, counts) = freezer(None);
    assert!(timeout(SOON, agent.freeze(LONG)).await.is_err());
    thawed(&counts, 2).await;
    // Refused: nothing is frozen.
    let (_dir, agent, counts) = freezer(Some(r#"{"error": {"desc": "no"}}"#));
    assert!(agent.freeze(LONG).await.is_err());
    assert!(agent.is_frozen(LONG).await.unwrap());
    assert_eq!(*counts.0.lock().unwrap(), ["freeze"]);
    // Left by a hostd that was killed.
    let (_dir, agent, _) = freezer(yes);
    assert!(agent.thaw_if_frozen(LONG).await.is_err(), "the first is lost");
    assert!(agent.thaw_if_frozen(LONG).await.unwrap());
}

#[tokio::test]
async fn a_flood_ends_at_the_deadline() {
    for what in [&b"{\"return\": 1}\n"[..], b"x", b"\n\n\n\n", b"\xff\n\xff"] {
        let (_dir, agent) = served(move |mut peer| async move {
            let flood = what.repeat(20_000 / what.len());
            while peer.write_all(&flood).await.is_ok() {}
        });
        let begun = std::time::Instant::now();
        assert!(agent.ping(SOON).await.is_err());
        assert!(begun.elapsed() < LONG);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever a guest says: an answer or an error, in time.
    #[test]
    fn garbage_is_an_error(said in proptest::collection::vec(
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..40),
            Just(b"{\"return\": {}}\n".to_vec()),
            Just(b"\xff{\"return\": 1}\n".to_vec()),
        ], 0..10)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcome = runtime.block_on(async {
            let (_dir, agent) = served(move |mut peer| {
                let said = said.concat();
                async move { let _ = peer.write_all(&said).await; }
            });
            agent.ping(LONG).await
        });
        // It has never said our number.
        prop_assert!(outcome.is_err());
    }
}
