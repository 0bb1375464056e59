//! Channels that failed while something was measured or mined: done without, counted, and told.

use millstream_pipeline::Feed;
use millstream_pipeline::trace::ChannelStatus;
use serde::Serialize;

/// A channel that failed.
#[derive(Debug, PartialEq, Serialize)]
pub struct Failed {
    /// Its name.
    channel: String,
    /// Requests in which it failed.
    requests: usize,
    /// Why it did in the first of them.
    reason: String,
}

/// All that failed, in the order in which they first did.
#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Failing(Vec<Failed>);

impl Failing {
    /// Counts a channel's failure.
    pub fn count(&mut self, channel: &str, reason: &str) {
        match self.0.iter_mut().find(|f| f.channel == channel) {
            Some(failed) => failed.requests += 1,
            None => self.0.push(Failed { channel: channel.into(), requests: 1, reason: reason.into() }),
        }
    }

    /// Counts the channels that failed in these feeds.
    pub fn hear(&mut self, feeds: &[Feed]) {
        for channel in feeds.iter().flat_map(|feed| &feed.trace.channels) {
            if channel.status == ChannelStatus::Failed {
                self.count(&channel.name, channel.reason.as_deref().unwrap_or("it does not say why"));
            }
        }
    }

    /// Says on stderr what failed in so many requests, a line each.
    pub fn tell(&self, requests: usize) {
        for Failed { channel, requests: failed, reason } in &self.0 {
            eprintln!("note: channel `{channel}` failed in {failed} of {requests} requests: {reason}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_by_channel_with_the_first_reason() {
        let mut all = Failing::default();
        all.count("far", "refused");
        all.count("near", "panicked");
        all.count("far", "not asked");
        let failed = |channel: &str, requests, reason: &str| Failed {
            channel: channel.into(),
            requests,
            reason: reason.into(),
        };
        assert_eq!(all.0, [failed("far", 2, "refused"), failed("near", 1, "panicked")]);
        assert_eq!(serde_json::to_string(&Failing::default()).unwrap(), "[]");
    }
}
