//! A message that was answered with `ok=false`. It may be one event's fault (a
//! hostd refuses others' events under its own names), or the receiver's.
//!
//! The message is sent once more, event by event. Those that are refused alone
//! while another passes are at fault: they are counted and left behind. When
//! none passes, an empty message is sent: if that is refused as well, the
//! receiver is at fault, and everything waits, as long as the outbox keeps it.
//! Else the same message is tried again after pauses, [`TRIES`] times in all
//! (about a minute), before its events are counted and left behind: a
//! receiver that refuses the same thing so often means it.

use std::collections::VecDeque;

use super::{Broken, Flight, Memory, Sender};
use crate::riemann::client::{Client, ClientError};
use crate::riemann::wire;

/// How often a message is tried that is refused as a whole.
pub(super) const TRIES: u32 = 8;

/// Single events under way at a time.
const AT_ONCE: usize = 64;

impl Sender {
    /// Takes the replies to everything under way, then sends what was refused
    /// event by event.
    pub(super) async fn refused(
        &self,
        link: &mut Client,
        memory: &mut Memory,
        first: Flight,
        flights: &mut VecDeque<Flight>,
        why: String,
    ) -> Result<(), Broken> {
        let mut done = vec![(first, Some(why))];
        while let Some(flight) = flights.pop_front() {
            match link.end().await {
                Ok(_) => done.push((flight, None)),
                Err(ClientError::Refused(why)) => done.push((flight, Some(why))),
                Err(error) => return Err(error.into()),
            }
        }
        for (flight, refused) in done {
            let passed = match refused {
                None => flight.events,
                Some(why) => self.one_by_one(link, memory, flight, why).await?,
            };
            self.delivered(memory, flight, passed).await;
        }
        Ok(())
    }

    /// How many of a message's events pass alone.
    async fn one_by_one(
        &self,
        link: &mut Client,
        memory: &mut Memory,
        flight: Flight,
        why: String,
    ) -> Result<u64, Broken> {
        let count = usize::try_from(flight.last - flight.after).unwrap_or(usize::MAX);
        let batch = self.mail.read(flight.after, count, usize::MAX).await;
        self.note_sent(memory, &batch);
        let events = self.fresh(batch);
        let (mut passed, mut refused, mut last_why) = (0, 0, why);
        for some in events.chunks(AT_ONCE) {
            for event in some {
                link.begin(&wire::events([event])).await?;
            }
            for _ in some {
                match link.end().await {
                    Ok(_) => passed += 1,
                    Err(ClientError::Refused(why)) => {
                        refused += 1;
                        last_why = why;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        if passed == 0 && refused > 0 {
            link.begin(&wire::Msg::default()).await?;
            match link.end().await {
                Ok(_) => memory.refusals += 1,
                Err(ClientError::Refused(_)) => return Err(Broken::RefusesAll(last_why)),
                Err(error) => return Err(error.into()),
            }
            if memory.refusals < TRIES {
                return Err(Broken::RefusesAll(last_why));
            }
        }
        self.standing.count(|totals| {
            totals.refused += refused;
            if refused > 0 {
                totals.problem = Some(format!("it refused {refused} events: {last_why}"));
            }
        });
        Ok(passed)
    }
}
