//! The catalogue: what the items are, when they live, how good they are.

use super::config::{DAY_MS, WorldConfig};
use super::rng::{self, Cumulative, Part, Rng};
use super::space::{Space, near, normalise, unit_noise};

/// Content kind of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareKind {
    /// A product card.
    Product = 0,
    /// A live room.
    Live = 1,
    /// A short video.
    Video = 2,
}

impl ShareKind {
    /// Name as written to files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Product => "product",
            Self::Live => "live",
            Self::Video => "video",
        }
    }
}

/// What is known of an item from the outside; numbers are indices.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Item {
    /// Category, 0..categories.
    pub category: u16,
    /// Topic within the category, 0..topics.
    pub topic: u16,
    /// Author, 0..authors.
    pub author: u32,
    /// Content kind.
    pub kind: ShareKind,
    /// Region, 0..regions.
    pub region: u16,
    /// Language, 0..languages.
    pub language: u16,
    /// Price, positive, in units of money.
    pub price: f32,
    /// First moment of life, epoch milliseconds.
    pub born_ms: i64,
    /// First moment after life, epoch milliseconds; `i64::MAX` for items that never die.
    pub dies_ms: i64,
}

impl Item {
    /// Whether the item may be shown at `time_ms`.
    pub fn alive(&self, time_ms: i64) -> bool {
        self.born_ms <= time_ms && time_ms < self.dies_ms
    }
}

/// The part of an item that the truth reads, besides its latent vector.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    pub(super) born_ms: i64,
    pub(super) dies_ms: i64,
    /// Standard normal.
    pub(super) quality: f32,
    /// Standardised log price.
    pub(super) price: f32,
    pub(super) region: u16,
    pub(super) language: u16,
    pub(super) kind: u8,
}

/// All items.
pub(super) struct Items {
    pub(super) facts: Vec<Item>,
    pub(super) terms: Vec<Terms>,
    /// Unit vectors, [items, stride]; columns beyond D are zero.
    pub(super) latent: Vec<f32>,
    /// Share of attention in the logging policy, positive.
    pub(super) weight: Vec<f32>,
}

struct Author {
    category: u16,
    region: u16,
    language: u16,
    taste: Vec<f32>,
}

/// Latent rows are padded to whole blocks of eight so that the dot product has no remainder.
pub(super) fn stride(width: usize) -> usize {
    width.next_multiple_of(8)
}

impl Items {
    pub(super) fn new(config: &WorldConfig, space: &Space) -> Self {
        let (authors, output) = make_authors(config, space);
        let rng = &mut rng::stream(config.seed, Part::Items);
        let n = config.items as usize;
        let mut items = Self {
            facts: Vec::with_capacity(n),
            terms: Vec::with_capacity(n),
            latent: vec![0.0; n * stride(space.width)],
            weight: Vec::with_capacity(n),
        };
        let levels: Vec<f32> = (0..config.categories).map(|_| rng::normal(rng)).collect();
        for row in 0..n {
            let author = output.draw(rng);
            items.push(config, space, rng, (row, author, &authors[author], &levels));
        }
        items
    }

    fn push(
        &mut self,
        config: &WorldConfig,
        space: &Space,
        rng: &mut Rng,
        (row, author_row, author, levels): (usize, usize, &Author, &[f32]),
    ) {
        let category = if rng::uniform(rng) < 0.85 {
            author.category as usize
        } else {
            rng::weighted(rng, &space.demand)
        };
        let topic = rng::below(rng, config.topics) as usize;
        let kind = draw_kind(config, rng);
        let mut v = near(rng, space.topic(category, topic), 0.4);
        v.iter_mut().zip(&author.taste).for_each(|(v, a)| *v += 0.4 * a);
        normalise(&mut v);
        self.latent[row * stride(space.width)..][..space.width].copy_from_slice(&v);
        let log_price = (levels[category] + 0.7 * rng::normal(rng)) / 1.22;
        let (born_ms, dies_ms) = draw_life(config, rng, row, kind);
        let region =
            if rng::uniform(rng) < 0.8 { author.region } else { rng::below(rng, config.regions) as u16 };
        let quality = rng::normal(rng);
        // Attention follows quality only in part, as it does elsewhere.
        let fame = 0.7 * quality + 0.714 * rng::normal(rng);
        self.weight.push((config.popularity_skew as f32 * fame).exp());
        self.terms.push(Terms {
            born_ms,
            dies_ms,
            quality,
            price: log_price,
            region,
            language: author.language,
            kind: kind as u8,
        });
        self.facts.push(Item {
            category: category as u16,
            topic: topic as u16,
            author: author_row as u32,
            kind,
            region,
            language: author.language,
            price: ((20.0 * log_price.exp() * 100.0).round() / 100.0).max(0.5),
            born_ms,
            dies_ms,
        });
    }

    /// Latent vector of an item, [stride].
    pub(super) fn vector(&self, row: usize, stride: usize) -> &[f32] {
        &self.latent[row * stride..][..stride]
    }
}

fn make_authors(config: &WorldConfig, space: &Space) -> (Vec<Author>, Cumulative) {
    let rng = &mut rng::stream(config.seed, Part::Authors);
    let authors: Vec<Author> = (0..config.authors)
        .map(|_| {
            let region = rng::below(rng, config.regions);
            Author {
                category: rng::weighted(rng, &space.demand) as u16,
                region: region as u16,
                language: draw_language(config, rng, region) as u16,
                taste: unit_noise(rng, space.width),
            }
        })
        .collect();
    let output = Cumulative::new((0..config.authors).map(|_| rng::log_normal(rng, 1.0, 0.9)));
    (authors, output)
}

/// Each region speaks mostly one language.
pub(super) fn draw_language(config: &WorldConfig, rng: &mut Rng, region: u32) -> u32 {
    if rng::uniform(rng) < 0.85 { region % config.languages } else { rng::below(rng, config.languages) }
}

fn draw_kind(config: &WorldConfig, rng: &mut Rng) -> ShareKind {
    let x = rng::uniform(rng);
    if x < config.kinds.product {
        ShareKind::Product
    } else if x < config.kinds.product + config.kinds.live {
        ShareKind::Live
    } else {
        ShareKind::Video
    }
}

/// Birth and death. The first two slates' worth of items never die: there is always something to show.
fn draw_life(config: &WorldConfig, rng: &mut Rng, row: usize, kind: ShareKind) -> (i64, i64) {
    let run_ms = (config.end_ms() - config.start_ms) as f64;
    let during = rng::uniform(rng) < config.born_during;
    let offset = rng::uniform(rng);
    let share = if kind == ShareKind::Live { 0.1 } else { 1.0 };
    let life = rng::exponential(rng) * share * config.mean_life_days * DAY_MS as f64;
    let before = config.start_ms - (offset * 60.0 * DAY_MS as f64) as i64 - 1;
    if row < 2 * config.slate as usize {
        return (before, i64::MAX);
    }
    if during {
        let born = config.start_ms + (offset * run_ms) as i64;
        return (born, born.saturating_add(life as i64 + 1));
    }
    // Lives are memoryless: what remains at the start is distributed like a whole life.
    (before, config.start_ms.saturating_add(life as i64 + 1))
}
