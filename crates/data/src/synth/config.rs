//! The knobs of a world, with their defaults and limits.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::Error;

type Result<T> = std::result::Result<T, Error>;

/// Milliseconds of a day.
pub const DAY_MS: i64 = 86_400_000;

/// Everything that determines a world: the same configuration gives the same world and the same log.
///
/// Every key may be left out of the TOML file; an unknown key is an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorldConfig {
    /// Seed of everything random (1).
    pub seed: u64,
    /// Number of users (5,000).
    pub users: u32,
    /// Number of items over the whole run, dead and unborn ones included (20,000).
    pub items: u32,
    /// Number of impressions in the log (1,000,000).
    pub exposures: u64,
    /// Length of the run in days (30).
    pub days: u32,
    /// First moment of the run, epoch milliseconds (2025-01-01T00:00:00Z).
    pub start_ms: i64,
    /// Width D of the latent interests (16).
    pub latent: u32,
    /// Number of categories (40).
    pub categories: u32,
    /// Topics within each category; titles and interests are about topics (4).
    pub topics: u32,
    /// Number of authors (1,500).
    pub authors: u32,
    /// Number of regions (8).
    pub regions: u32,
    /// Number of languages (4).
    pub languages: u32,
    /// Mean number of simultaneous interests of a user (3).
    pub interests: u32,
    /// Mean number of times a user swaps an interest for a new one, per 30 days (1).
    pub drift: f64,
    /// Spread of the users' activity, sigma of a log-normal (0.8).
    pub activity_spread: f64,
    /// Skew of item popularity in the logging policy, sigma of a log-normal (1.3).
    pub popularity_skew: f64,
    /// Exponent b of the examination model, P(examined at position p) = (1 + p)^-b, p from 0 (0.4).
    pub position_bias: f64,
    /// Share of the items that are born during the run (0.35).
    pub born_during: f64,
    /// Mean life of an item in days; live rooms live a tenth of it (60).
    pub mean_life_days: f64,
    /// Impressions per request (10).
    pub slate: u32,
    /// Mean click rate of the logging policy for users who have clicked nothing yet; sets the
    /// intercept of the truth (0.08). The log's own rate is a tenth to a fifth lower, the more so the
    /// longer it is, because what a user has clicked is not shown to them again.
    pub click_rate: f64,
    /// Shares of the content kinds.
    pub kinds: KindShares,
    /// Mixture of the logging policy.
    pub policy: PolicyMix,
    /// Strength of each cause of a click.
    pub truth: Effects,
}

/// Shares of the content kinds; they must sum to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KindShares {
    /// Product cards (0.5).
    pub product: f64,
    /// Live rooms (0.1).
    pub live: f64,
    /// Short videos (0.4).
    pub video: f64,
}

/// How the slots of a logged slate are filled; the shares must sum to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyMix {
    /// Slots drawn by popularity (0.3).
    pub popularity: f64,
    /// Slots drawn from the user's own categories, best of three noisy guesses (0.5).
    pub interest: f64,
    /// Slots drawn uniformly over living items, so that each has support (0.2).
    pub random: f64,
}

/// Strengths of the causes of a click, all in logits.
///
/// ```text
/// logit P(click | examined) = intercept + affinity·⟨u(t), v⟩ + quality·q + kind·k_u + price·s_u·z
///                           + recency·max(0, 1 - age / recency_days)
///                           + [same region]·region - [other language]·language
/// ```
/// with |v| = 1, |u| about 1, and q, k_u, s_u, z standard normal (z is the item's log price).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Effects {
    /// Match of interests, the dominant cause (4.5).
    pub affinity: f64,
    /// Intrinsic quality of the item (0.8).
    pub quality: f64,
    /// Novelty of an item just born (0.5).
    pub recency: f64,
    /// Days until novelty has faded, linearly (3).
    pub recency_days: f64,
    /// Users' preference for a kind (0.4).
    pub kind: f64,
    /// Penalty of a foreign language (1.2).
    pub language: f64,
    /// Bonus of the user's own region (0.3).
    pub region: f64,
    /// Users' sensitivity to price, either way (0.3).
    pub price: f64,
}

impl Default for WorldConfig {
    fn default() -> Self {
        Self {
            seed: 1,
            users: 5_000,
            items: 20_000,
            exposures: 1_000_000,
            days: 30,
            start_ms: 1_735_689_600_000,
            latent: 16,
            categories: 40,
            topics: 4,
            authors: 1_500,
            regions: 8,
            languages: 4,
            interests: 3,
            drift: 1.0,
            activity_spread: 0.8,
            popularity_skew: 1.3,
            position_bias: 0.4,
            born_during: 0.35,
            mean_life_days: 60.0,
            slate: 10,
            click_rate: 0.08,
            kinds: KindShares::default(),
            policy: PolicyMix::default(),
            truth: Effects::default(),
        }
    }
}

impl Default for KindShares {
    fn default() -> Self {
        Self { product: 0.5, live: 0.1, video: 0.4 }
    }
}

impl Default for PolicyMix {
    fn default() -> Self {
        Self { popularity: 0.3, interest: 0.5, random: 0.2 }
    }
}

impl Default for Effects {
    fn default() -> Self {
        Self {
            affinity: 4.5,
            quality: 0.8,
            recency: 0.5,
            recency_days: 3.0,
            kind: 0.4,
            language: 1.2,
            region: 0.3,
            price: 0.3,
        }
    }
}

impl WorldConfig {
    /// Reads and validates a configuration; `source` names the text in errors.
    ///
    /// # Errors
    /// [`Error::Config`] for bad TOML, an unknown key or a value out of range.
    pub fn from_toml(text: &str, source: &str) -> Result<Self> {
        let parse = |e: toml::de::Error| Error::config(format!("{source}: {}", one_line(text, &e)));
        let table: toml::Table = toml::from_str(text).map_err(parse)?;
        refuse_unknown(&table, &known_keys()?, "", source)?;
        let config: Self = toml::from_str(text).map_err(parse)?;
        config.validate()?;
        Ok(config)
    }

    /// The configuration as TOML, readable by [`WorldConfig::from_toml`].
    ///
    /// # Errors
    /// [`Error::Config`] where a value has no TOML form (a seed above 2^63 - 1).
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| bad_value("seed", self.seed, format!("a TOML value ({e})")))
    }

    /// Checks every key.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first key whose value no world can have.
    pub fn validate(&self) -> Result<()> {
        self.validate_sizes()?;
        self.validate_shapes()?;
        self.validate_effects()?;
        let kinds = [
            ("kinds.product", self.kinds.product),
            ("kinds.live", self.kinds.live),
            ("kinds.video", self.kinds.video),
        ];
        shares("kinds", &kinds)?;
        let policy = [
            ("policy.popularity", self.policy.popularity),
            ("policy.interest", self.policy.interest),
            ("policy.random", self.policy.random),
        ];
        shares("policy", &policy)
    }

    fn validate_sizes(&self) -> Result<()> {
        // TOML integers are signed, and world.toml must hold the seed.
        within("seed", self.seed, 0..=i64::MAX as u64)?;
        within("users", self.users, 1..=10_000_000)?;
        within("slate", self.slate, 1..=200)?;
        within("items", self.items, 4 * self.slate..=10_000_000)?;
        within("exposures", self.exposures, 1..=2_000_000_000)?;
        within("days", self.days, 1..=3_650)?;
        within("start_ms", self.start_ms, 946_684_800_000..=4_102_444_800_000)?;
        within("latent", self.latent, 2..=256)?;
        within("categories", self.categories, 1..=5_000)?;
        within("topics", self.topics, 1..=20)?;
        within("authors", self.authors, 1..=10_000_000)?;
        within("regions", self.regions, 1..=1_000)?;
        within("languages", self.languages, 1..=200)?;
        within("interests", self.interests, 1..=20)
    }

    fn validate_shapes(&self) -> Result<()> {
        within("drift", self.drift, 0.0..=100.0)?;
        within("activity_spread", self.activity_spread, 0.0..=3.0)?;
        within("popularity_skew", self.popularity_skew, 0.0..=4.0)?;
        within("position_bias", self.position_bias, 0.0..=5.0)?;
        within("born_during", self.born_during, 0.0..=1.0)?;
        within("mean_life_days", self.mean_life_days, 0.01..=100_000.0)?;
        // A click rate near the rate of examination would need infinite logits.
        let examined: f64 =
            (0..self.slate).map(|p| examine(p, self.position_bias)).sum::<f64>() / f64::from(self.slate);
        within("click_rate", self.click_rate, 0.0001..=0.8 * examined)
    }

    fn validate_effects(&self) -> Result<()> {
        let t = &self.truth;
        within("truth.affinity", t.affinity, 0.0..=50.0)?;
        within("truth.quality", t.quality, 0.0..=10.0)?;
        within("truth.recency", t.recency, -10.0..=10.0)?;
        within("truth.recency_days", t.recency_days, 0.001..=10_000.0)?;
        within("truth.kind", t.kind, 0.0..=10.0)?;
        within("truth.language", t.language, 0.0..=50.0)?;
        within("truth.region", t.region, 0.0..=50.0)?;
        within("truth.price", t.price, 0.0..=10.0)
    }

    /// End of the run (exclusive), epoch milliseconds.
    pub fn end_ms(&self) -> i64 {
        self.start_ms + i64::from(self.days) * DAY_MS
    }
}

/// P(examined | position), position from 0: (1 + position)^-bias, in (0, 1].
pub(super) fn examine(position: u32, bias: f64) -> f64 {
    (1.0 + f64::from(position)).powf(-bias)
}

/// "world config: `key` is `got`, expected `expected`".
pub(super) fn bad_value(key: &str, got: impl Display, expected: impl Display) -> Error {
    Error::config(format!("world config: `{key}` is {got}, expected {expected}"))
}

fn within<T: PartialOrd + Display>(key: &str, value: T, range: RangeInclusive<T>) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    let expected = format!("{} to {}", range.start(), range.end());
    Err(bad_value(key, value, expected))
}

fn shares(key: &str, parts: &[(&str, f64)]) -> Result<()> {
    for &(name, value) in parts {
        within(name, value, 0.0..=1.0)?;
    }
    let sum: f64 = parts.iter().map(|p| p.1).sum();
    if (sum - 1.0).abs() > 1e-6 {
        return Err(bad_value(key, format!("a mix of sum {sum}"), "shares of sum 1"));
    }
    Ok(())
}

fn known_keys() -> Result<toml::Table> {
    toml::Table::try_from(WorldConfig::default())
        .map_err(|e| Error::config(format!("world config has no TOML form: {e}")))
}

fn refuse_unknown(got: &toml::Table, known: &toml::Table, prefix: &str, source: &str) -> Result<()> {
    for (key, value) in got {
        let Some(model) = known.get(key) else {
            let name = format!("{prefix}{key}");
            let full: Vec<String> = known.keys().map(|k| format!("{prefix}{k}")).collect();
            return Err(Error::config(format!("{source}: {}", unknown_key(&name, &full))));
        };
        if let (toml::Value::Table(got), toml::Value::Table(known)) = (value, model) {
            refuse_unknown(got, known, &format!("{key}."), source)?;
        }
    }
    Ok(())
}

fn unknown_key(name: &str, known: &[String]) -> String {
    millstream_schema::suggest::unknown("world config key", name, known.iter().map(String::as_str))
}

fn one_line(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().replace('\n', " ");
    match error.span() {
        Some(span) => {
            let line =
                1 + text.as_bytes()[..span.start.min(text.len())].iter().filter(|&&b| b == b'\n').count();
            format!("line {line}: {message}")
        }
        None => message,
    }
}
