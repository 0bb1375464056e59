//! A small generated catalogue with every part a pipeline can have.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};

use millstream_models::recall::bspm::{Bspm, BspmConfig};
use millstream_models::recall::item_cf::{ItemCf, ItemCfConfig};
use millstream_models::recall::popularity::Popularity;
use millstream_models::recall::positives::Positives;
use millstream_schema::examples::Action;
use millstream_schema::{
    BadValues, Batch, Column, Encoder, EventKind, Fitter, Frame, ItemRow, Record, Schema, Side,
};

use super::server;
use crate::channel::{Call, Channel, ChannelDef, Setup, UserVectors, find};
use crate::near_line::{Best, BestKept};
use crate::queries::Embedded;
use crate::{
    CandidateScorer, Catalogue, CatalogueConfig, ContentVectors, DenseVectors, Error, Item, Live, Pipeline,
    PipelineConfig, Request, Resources, Retrieval, Takers, VectorSearch,
};

pub const NOW: i64 = 1_700_000_000_000;
pub const DAY: i64 = 86_400_000;
pub const ITEMS: u32 = 200;
pub const USERS: u32 = 40;
/// Removed from the catalogue; retired; not born yet.
pub const DEAD: [u32; 3] = [17, 23, 31];

pub fn encoder() -> Arc<Encoder> {
    let schema: Schema = r#"
        [[feature]]
        name = "user_id"
        side = "user"
        kind = "categorical"
        encoding = "hash"
        [[feature]]
        name = "item_id"
        side = "item"
        kind = "categorical"
        encoding = "hash"
        [[feature]]
        name = "price"
        side = "item"
        kind = "numeric"
        [[feature]]
        name = "device"
        side = "context"
        kind = "categorical"
        encoding = "hash"
        [[feature]]
        name = "hour"
        side = "context"
        kind = "numeric"
        [[feature]]
        name = "position"
        side = "exposure"
        kind = "numeric"
        [[feature]]
        name = "past"
        kind = "sequence"
        elements = ["item_id"]
    "#
    .parse()
    .unwrap();
    let mut fitter = Fitter::new(&schema);
    fitter.observe(&[Side::User], &Frame::new("users", &["user_id"])).unwrap();
    Arc::new(fitter.finish().unwrap())
}

pub fn item(row: u32) -> Item {
    let mut record = Record { id: format!("i{row}"), ..Record::default() };
    let mut set = |key: &str, value: String| record.fields.insert(key.into(), value);
    set("price", format!("{}", row % 13));
    set("category", format!("c{}", row % 5));
    set("author", format!("a{}", row % 7));
    set("kind", ["product", "live", "video"][row as usize % 3].into());
    set("mood", format!("m{}|m{}", row % 3, row * row % 8));
    set("title", format!("Word{} word{} and w{}", row % 11, row * 7 % 29, row));
    Item {
        record,
        created_ms: match row {
            31 => Some(NOW + DAY),
            r if r % 4 == 0 => Some(NOW - i64::from(r) * DAY / 10),
            _ => None,
        },
        retired_ms: (row == 23).then_some(NOW - DAY),
    }
}

pub fn user(row: u32) -> Record {
    let mut record = Record { id: format!("u{row}"), ..Record::default() };
    record.fields.insert("likes".into(), format!("m{}", row % 8));
    record.fields.insert("about".into(), format!("WORD{}, the first", row % 29));
    record
}

pub fn meanings() -> CatalogueConfig {
    let all = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
    CatalogueConfig {
        tags: all(&["category", "mood"]),
        keywords: all(&["title"]),
        ..PipelineConfig::default().catalogue
    }
}

pub fn catalogue() -> Arc<Catalogue> {
    let users = (0..USERS).map(user).collect();
    let items = (0..ITEMS).map(item).collect();
    let made = Catalogue::new(meanings(), encoder(), users, items).unwrap();
    made.remove_item("i17").unwrap();
    Arc::new(made)
}

pub fn noise(a: u64, b: u64) -> f32 {
    let x = (a ^ 0x9E37_79B9).wrapping_mul(0xBF58_476D_1CE4_E5B9) ^ b.wrapping_mul(0x94D0_49BB_1331_11EB);
    ((x ^ (x >> 31)).wrapping_mul(0xD6E8_FEB8_6659_FD93) >> 40) as f32 / (1u64 << 24) as f32
}

/// Probabilities made of user, item and device keys: a batch that is put together wrongly scores wrongly.
pub struct FakeScorer {
    pub tasks: Vec<String>,
    /// Every so many-th item (by row) gets NaN; 0 for none.
    pub nan_every: u32,
    pub fails: bool,
    /// Set when asked for scores.
    pub asked: Arc<AtomicBool>,
}

impl FakeScorer {
    pub fn new() -> Self {
        Self { tasks: vec!["click".into(), "like".into()], nan_every: 0, fails: false, asked: Arc::default() }
    }
}

impl CandidateScorer for FakeScorer {
    fn score(&self, batch: &Batch) -> Result<Vec<f32>, Error> {
        self.asked.store(true, Ordering::SeqCst);
        if self.fails {
            return Err(Error::Part("the ranker is out of order".into()));
        }
        let keys = |at: usize| match &batch.columns[at] {
            Column::Key(keys) => keys.as_slice(),
            other => panic!("no keys: {other:?}"),
        };
        let (users, items, devices) = (keys(0), keys(1), keys(3));
        let mut out = Vec::new();
        for (row, &request) in batch.candidate_request.iter().enumerate() {
            let who = users[request as usize] ^ devices[request as usize].rotate_left(7);
            let nan = self.nan_every > 0 && batch.item[row].is_multiple_of(self.nan_every);
            for task in 0..self.tasks.len() as u64 {
                out.push(if nan { f32::NAN } else { noise(who ^ task, items[row]) });
            }
        }
        Ok(out)
    }

    fn tasks(&self) -> &[String] {
        &self.tasks
    }
}

/// Two interests per user, made of the user's key.
struct FakeUsers;

impl UserVectors for FakeUsers {
    fn users(&self, batch: &Batch) -> Result<Vec<f32>, Error> {
        let Column::Key(users) = &batch.columns[0] else { panic!("no keys") };
        Ok(users.iter().flat_map(|&u| (0..8).map(move |d| noise(u, d) - 0.5)).collect())
    }

    fn dim(&self) -> usize {
        4
    }
}

struct Brute(Vec<f32>);

impl VectorSearch for Brute {
    fn search(
        &self,
        query: &[f32],
        k: usize,
        keep: &dyn Fn(ItemRow) -> bool,
    ) -> Result<Vec<(ItemRow, f32)>, Error> {
        let dot = |v: &[f32]| v.iter().zip(query).map(|(a, b)| a * b).sum::<f32>();
        let rows = self.0.chunks(4).enumerate().map(|(i, v)| (i as u32, dot(v)));
        let mut all: Vec<_> = rows.filter(|x| keep(x.0)).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        all.truncate(k);
        Ok(all)
    }
}

pub fn vectors() -> Vec<f32> {
    (0..u64::from(ITEMS) * 4).map(|i| noise(i, 99) - 0.5).collect()
}

/// What the i-th action of a user took.
fn taken(user: u64, i: u64) -> u32 {
    (noise(user, i) * noise(user, i + 50) * ITEMS as f32) as u32
}

/// Actions of 300 users as (user, item, time).
pub fn actions() -> Vec<(u32, u32, i64)> {
    let of =
        |user: u64| (0..12).map(move |i| (user as u32, taken(user, i), NOW - (i * user % 97) as i64 * DAY));
    (0..300).flat_map(of).collect()
}

struct Ahead;

impl BestKept for Ahead {
    fn best(&self, user: &str) -> Result<Option<Best>, Error> {
        let Some(row) = user.strip_prefix('u').and_then(|row| row.parse::<u32>().ok()) else {
            return Ok(None);
        };
        let item = |i: u32| (format!("i{}", (row * 13 + i * 7) % (ITEMS + 20)), 1.0 / (i + 1) as f32);
        Ok(Some(Best { made_ms: NOW - DAY, items: (0..150).map(item).collect() }))
    }
}

/// The channel of this kind with these options, from all parts.
pub fn channel(kind: &str, options: &str) -> Arc<dyn Channel> {
    built(find(kind).unwrap(), options, &resources()).unwrap()
}

pub fn built(def: &ChannelDef, options: &str, parts: &Resources) -> Result<Arc<dyn Channel>, Error> {
    let options: toml::Table = options.parse().unwrap();
    let (meanings, all) = (meanings(), catalogue());
    let setup = Setup { name: def.name, options: &options, parts, catalogue: &meanings, names: all.names() };
    (def.build)(&setup)
}

/// The least that a channel of this kind must be told.
pub fn least(kind: &str) -> String {
    match kind {
        "remote" => format!("url = \"{}\"\ntimeout_ms = 60000", server::echo()),
        _ => String::new(),
    }
}

/// What a model learns from who took what.
fn taught<M>(fit: impl Fn(&Positives<'_>) -> M) -> M {
    let mut offsets = vec![0u64];
    let mut items = Vec::new();
    for user in 0..300u64 {
        items.extend((0..12).map(|i| taken(user, i)));
        offsets.push(items.len() as u64);
    }
    fit(&Positives { items: ITEMS as usize, offsets: &offsets, item: &items, time_ms: &[] })
}

fn item_cf() -> ItemCf {
    taught(|positives| ItemCfConfig::default().build(positives).unwrap())
}

fn filter() -> Bspm {
    taught(|positives| BspmConfig { directions: 8, ..BspmConfig::default() }.fit(positives, 1).unwrap())
}

fn popularity() -> Popularity {
    let mut popularity = Popularity::new();
    for i in 0..5000u64 {
        let item = (noise(i, 1) * noise(i, 2) * (ITEMS as f32 - 40.0)) as u32;
        let time = NOW - (noise(i, 3) * 60.0 * DAY as f32) as i64;
        popularity.add(item, time, 1.0, Some(["fr", "it"][i as usize % 2]));
    }
    popularity
}

/// Vectors of length 1, as those of texts are.
fn texts() -> ContentVectors {
    let mut values: Vec<f32> = (0..u64::from(ITEMS) * 4).map(|i| noise(i, 123) - 0.5).collect();
    for vector in values.chunks_mut(4) {
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        vector.iter_mut().for_each(|x| *x /= length);
    }
    let search = Arc::new(Brute(values.clone()));
    ContentVectors { vectors: Arc::new(DenseVectors::new(4, values).unwrap()), search }
}

pub fn resources() -> Resources {
    let search: Arc<dyn VectorSearch> = Arc::new(Brute(vectors()));
    let queries = Arc::new(Embedded(Arc::new(FakeUsers)));
    let retrieval = Retrieval { queries, search: search.clone() };
    Resources {
        scorer: Some(Arc::new(FakeScorer::new())),
        retrievers: [("two_tower".to_owned(), retrieval)].into(),
        search: Some(search),
        item_vectors: Some(Arc::new(DenseVectors::new(4, vectors()).unwrap())),
        item_cf: Some(Arc::new(Live::new(item_cf()))),
        item_lists: Default::default(),
        content: Some(texts()),
        takers: Some(Arc::new(Live::new(Takers::new(300, ITEMS as usize, &actions()).unwrap()))),
        user_cf: Default::default(),
        user_rows: Default::default(),
        filters: [("bspm".to_owned(), Arc::new(filter()))].into(),
        near_line: Some(Arc::new(Ahead)),
        popularity: Arc::new(RwLock::new(popularity())),
        event_kinds: vec![
            EventKind::Click,
            EventKind::Cart,
            EventKind::Order,
            EventKind::Like,
            EventKind::Custom("search".into()),
        ],
    }
}

pub fn pipeline(config: &str, parts: Resources) -> Pipeline {
    Pipeline::new(PipelineConfig::parse(config, "test.toml").unwrap(), catalogue(), parts).unwrap()
}

pub fn request(user: u32, n: usize) -> Request {
    let mut request = Request::new(&format!("u{user}"), user, NOW, n);
    request.id = format!("r{user}");
    let action = |i: u64| Action {
        item: (noise(u64::from(user), i) * ITEMS as f32) as u32,
        time_ms: NOW - (20 - i as i64) * DAY,
        kind: 1,
        value: 1.0,
    };
    request.history = (0..10).map(action).collect();
    request.seen = Arc::new(request.history.iter().map(|a| a.item).collect());
    request.context.insert("device".into(), ["phone", "desk"][user as usize % 2].into());
    request.segment = Some("fr".into());
    request
}

pub fn call(request: Request) -> Call {
    let catalogue = catalogue().snapshot();
    let mut frame = Frame::new("context", &["device", "hour"]);
    frame.push_row(1, &["phone", "3"]);
    let context =
        catalogue.assembler().encoder().encode(&[Side::Context], &frame, &mut BadValues::default()).unwrap();
    Call { request, catalogue, context }
}
