//! Names and words: ids, categories, languages, titles.

use super::items::Item;
use super::rng::{self, Part, mix};
use super::{ItemRow, UserRow};
use rand::SeedableRng;

const CATEGORIES: [&str; 40] = [
    "shoes",
    "phones",
    "skincare",
    "snacks",
    "dresses",
    "laptops",
    "toys",
    "coffee",
    "makeup",
    "kitchen",
    "fitness",
    "books",
    "garden",
    "pets",
    "watches",
    "cameras",
    "bags",
    "furniture",
    "audio",
    "cycling",
    "baby",
    "gaming",
    "jewellery",
    "camping",
    "cars",
    "music",
    "cooking",
    "travel",
    "comedy",
    "football",
    "dance",
    "art",
    "knitting",
    "fishing",
    "yoga",
    "news",
    "science",
    "history",
    "cinema",
    "language",
];
const LANGUAGES: [&str; 12] = ["en", "es", "pt", "hi", "id", "ar", "fr", "de", "ja", "tr", "vi", "sw"];
const AGES: [&str; super::space::AGES] = ["18-24", "25-34", "35-44", "45-54", "55-64", "65+"];
const GENDERS: [&str; super::space::GENDERS] = ["female", "male", "other"];
const SYLLABLES: [&str; 40] = [
    "ba", "be", "bi", "co", "cu", "da", "de", "do", "fa", "fi", "ga", "go", "hu", "ja", "ka", "ke", "ki",
    "la", "le", "lo", "lu", "ma", "mi", "mo", "na", "ne", "no", "pa", "pe", "po", "ra", "ri", "ro", "sa",
    "se", "si", "ta", "to", "va", "zu",
];
/// Words of a topic, of a category and of everybody.
const TOPIC_WORDS: u32 = 14;
const CATEGORY_WORDS: u32 = 18;
const COMMON_WORDS: u32 = 60;

/// Name of a category.
pub(super) fn category(index: u16) -> String {
    known_or(&CATEGORIES, index.into(), "category-")
}

/// Code of a language.
pub(super) fn language(index: u16) -> String {
    known_or(&LANGUAGES, index.into(), "lang-")
}

/// Name of a region.
pub(super) fn region(index: u16) -> String {
    format!("region-{index}")
}

/// Name of an age band.
pub(super) fn age(index: u8) -> &'static str {
    AGES.get(index as usize).copied().unwrap_or("")
}

/// Name of a gender.
pub(super) fn gender(index: u8) -> &'static str {
    GENDERS.get(index as usize).copied().unwrap_or("")
}

fn known_or(known: &[&str], index: usize, prefix: &str) -> String {
    match known.get(index) {
        Some(name) => (*name).to_owned(),
        None => format!("{prefix}{index}"),
    }
}

/// Title of an item: two or three words of its topic, one or two of its category, at most one of everybody.
pub(super) fn title(seed: u64, row: ItemRow, item: &Item) -> String {
    let rng = &mut rng::Rng::seed_from_u64(mix(seed ^ mix(u64::from(row) << 8 | Part::Words as u64)));
    let topic = 1 + (u64::from(item.category) << 16 | u64::from(item.topic)) * 2;
    let category = 2 + u64::from(item.category) * 2;
    let plan = [
        (topic, 2 + rng::below(rng, 2), TOPIC_WORDS),
        (category, 1 + rng::below(rng, 2), CATEGORY_WORDS),
        (0, rng::below(rng, 2), COMMON_WORDS),
    ];
    let mut title = String::with_capacity(48);
    for (place, count, size) in plan {
        for _ in 0..count {
            if !title.is_empty() {
                title.push(' ');
            }
            push_word(&mut title, mix(seed ^ mix(place)), rng::below(rng, size));
        }
    }
    title
}

/// Appends word `index` of a vocabulary: three syllables chosen by its hash.
fn push_word(title: &mut String, vocabulary: u64, index: u32) {
    let mut hash = mix(vocabulary ^ u64::from(index));
    for _ in 0..3 {
        title.push_str(SYLLABLES[(hash % SYLLABLES.len() as u64) as usize]);
        hash /= SYLLABLES.len() as u64;
    }
}

/// Id of a user, as in `u000123`.
pub(super) fn user_id(row: UserRow) -> String {
    format!("u{row:06}")
}

/// Id of an item, as in `i0004567`.
pub(super) fn item_id(row: ItemRow) -> String {
    format!("i{row:07}")
}

/// Id of a request, as in `r00000012`.
pub(super) fn request_id(request: u32) -> String {
    format!("r{request:08}")
}

/// The row of an id made by `name`, if it is one of the first `count`.
pub(super) fn row_of(id: &str, count: usize, name: impl Fn(u32) -> String) -> Option<u32> {
    let row: u32 = id.get(1..)?.parse().ok()?;
    ((row as usize) < count && name(row) == id).then_some(row)
}
