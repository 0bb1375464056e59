//! What happened: an impression, an action, and when.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

use crate::Error;

/// The kind of an event: the six built-in ones, or one of the user's own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventKind {
    /// The item was shown.
    Impression,
    /// The item was opened.
    Click,
    /// The item was put into the cart.
    Cart,
    /// The item was bought.
    Order,
    /// The item was liked.
    Like,
    /// The item was played; the event's value is the completion in [0, 1].
    Play,
    /// A kind of the user's own: lower-case letters, digits and `_`, 1 to 32 of them.
    Custom(Box<str>),
}

const BUILT_IN: [(&str, EventKind); 6] = [
    ("impression", EventKind::Impression),
    ("click", EventKind::Click),
    ("cart", EventKind::Cart),
    ("order", EventKind::Order),
    ("like", EventKind::Like),
    ("play", EventKind::Play),
];

impl EventKind {
    /// Least code of a kind of the user's own. Those between it and the built-in ones were given in earlier versions.
    pub const CUSTOM: u16 = 256;

    /// The name in files and at the API.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Impression => "impression",
            Self::Click => "click",
            Self::Cart => "cart",
            Self::Order => "order",
            Self::Like => "like",
            Self::Play => "play",
            Self::Custom(name) => name,
        }
    }

    /// Whether the event is something the user did, as against something shown to them.
    pub fn is_action(&self) -> bool {
        *self != Self::Impression
    }

    /// What stands for the kind inside histories: the built-in kinds have 0 to 5, custom ones a hash from
    /// [`EventKind::CUSTOM`] on. Data with two kinds that share a code is refused when it is prepared.
    pub fn code(&self) -> u16 {
        match self {
            Self::Impression => 0,
            Self::Click => 1,
            Self::Cart => 2,
            Self::Order => 3,
            Self::Like => 4,
            Self::Play => 5,
            Self::Custom(name) => {
                let room = u64::from(u16::MAX - Self::CUSTOM) + 1;
                Self::CUSTOM + (xxhash_rust::xxh3::xxh3_64(name.as_bytes()) % room) as u16
            }
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for EventKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some((_, kind)) = BUILT_IN.iter().find(|(name, _)| *name == text) {
            return Ok(kind.clone());
        }
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if text.is_empty() || text.len() > 32 || !text.chars().all(plain) {
            return Err(Error::config(format!(
                "event kind `{}` must be 1 to 32 lower-case letters, digits or `_`",
                text.chars().take(40).collect::<String>()
            )));
        }
        Ok(Self::Custom(text.into()))
    }
}

impl Serialize for EventKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for EventKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

fn one() -> f32 {
    1.0
}

/// One event of the log or of the feedback API.
///
/// ```
/// use millstream_schema::Event;
/// let text = r#"{"user":"u1","item":"i9","kind":"play","time_ms":1700000000000,"value":0.8}"#;
/// let event: Event = serde_json::from_str(text).unwrap();
/// assert_eq!(event.kind.as_str(), "play");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// The user's external id.
    pub user: String,
    /// The item's external id.
    pub item: String,
    /// What happened.
    pub kind: EventKind,
    /// When, in epoch milliseconds.
    pub time_ms: i64,
    /// Strength of the action, such as completion or rating; 1 when nothing is said.
    #[serde(default = "one")]
    pub value: f32,
    /// The request that showed the item, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Position in that request's feed, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_kinds_read_back_as_themselves() {
        for (name, kind) in BUILT_IN {
            assert_eq!(name.parse::<EventKind>().unwrap(), kind);
            assert_eq!(kind.as_str(), name);
        }
    }

    #[test]
    fn a_custom_kind_has_a_plain_name_and_a_high_code() {
        let kind: EventKind = "quick_skip".parse().unwrap();
        assert!(kind.code() >= EventKind::CUSTOM);
        // These shared a code when it was a byte.
        for (a, b) in [("follow", "skip"), ("share", "apply"), ("addfav", "complete")] {
            let code = |name: &str| name.parse::<EventKind>().unwrap().code();
            assert_ne!(code(a), code(b));
        }
        assert!("Quick skip".parse::<EventKind>().is_err());
        assert!("".parse::<EventKind>().is_err());
    }
}
