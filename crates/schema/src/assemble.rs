//! Examples to batches: joins user, item and history fields. Training and serving both go through
//! here, so what the server scores is what the trainer learned from.

use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

use crate::encode::{FIRST, GAP_BUCKETS, MISSING, Ragged, fold};
use crate::feature::{INTERVAL, SESSION};
use crate::{
    Batch, Column, Columns, Encoder, Error, EventKind, Examples, FeatureKind, History, Kinds, Rows, Side,
};

/// Joins encoded users and items to examples.
#[derive(Debug, Clone)]
pub struct Assembler {
    encoder: Arc<Encoder>,
    users: Columns,
    items: Columns,
    /// Places of the two rows that stand for strangers, appended to `users` and `items`.
    no_user: u32,
    no_item: u32,
}

impl Assembler {
    /// `users` and `items` are the encoded catalogue sides, one row per user and item; for plain tables
    /// both have no rows.
    pub fn new(encoder: Arc<Encoder>, users: Columns, items: Columns) -> Result<Self, Error> {
        let users = with_stranger(&encoder, Side::User, users)?;
        let items = with_stranger(&encoder, Side::Item, items)?;
        let (no_user, no_item) = (users.rows as u32 - 1, items.rows as u32 - 1);
        Ok(Self { encoder, users, items, no_user, no_item })
    }

    /// The encoder that made the columns.
    pub fn encoder(&self) -> &Arc<Encoder> {
        &self.encoder
    }

    /// Number of items in the catalogue.
    pub fn items(&self) -> usize {
        self.no_item as usize
    }

    /// Number of known users.
    pub fn users(&self) -> usize {
        self.no_user as usize
    }

    /// The batch of these examples. User and item rows that are not known are treated as strangers.
    ///
    /// # Errors
    /// A field has no column: the examples were made by another encoder.
    pub fn batch(&self, x: &Examples) -> Result<Batch, Error> {
        let user_rows: Vec<u32> = x.request_user.iter().map(|&u| u.min(self.no_user)).collect();
        let item_rows: Vec<u32> = x.candidate_item.iter().map(|&i| i.min(self.no_item)).collect();
        let mut columns: Vec<Column> = Vec::with_capacity(self.encoder.fields().len());
        for place in 0..self.encoder.fields().len() {
            let column = self.column(place, x, (&user_rows, &item_rows), &columns)?;
            columns.push(column);
        }
        let group = x.candidate_request.iter().map(|&r| x.request_user[r as usize]).collect();
        Ok(Batch {
            requests: x.requests(),
            request_time_ms: x.request_time_ms.clone(),
            candidate_request: x.candidate_request.clone(),
            columns,
            labels: x.labels.clone(),
            tasks: x.tasks,
            weights: x.weights.clone(),
            group,
            item: x.candidate_item.clone(),
        })
    }

    fn column(
        &self,
        place: usize,
        x: &Examples,
        (users, items): (&[u32], &[u32]),
        before: &[Column],
    ) -> Result<Column, Error> {
        let field = &self.encoder.fields()[place];
        let spec = &self.encoder.schema().features[field.feature];
        if let FeatureKind::Sequence { .. } = spec.kind {
            return self.sequence(place, x);
        }
        if let FeatureKind::Match { element, events, max_len } = &spec.kind {
            return self.matches(element, (events, *max_len), x, items);
        }
        if let FeatureKind::Cross { of, buckets } = &spec.kind {
            return self.cross(place, (of, *buckets), x, before);
        }
        let place = place as u32;
        if let Some(column) = x.context.get(place).or_else(|| x.exposure.get(place)) {
            return Ok(column.clone());
        }
        let (side, rows) = match spec.side {
            Side::User => (&self.users, users),
            Side::Item => (&self.items, items),
            Side::Context | Side::Exposure => {
                return Err(Error::Corrupt(format!("field `{}` has no column", field.name)));
            }
        };
        side.get(place)
            .map(|c| c.gather(rows))
            .ok_or_else(|| Error::Corrupt(format!("field `{}` has no column", field.name)))
    }

    /// One field of a sequence: an element's keys, the time gaps, the intervals or the sessions; latest `max_len` actions.
    fn sequence(&self, place: usize, x: &Examples) -> Result<Column, Error> {
        let field = &self.encoder.fields()[place];
        let spec = &self.encoder.schema().features[field.feature];
        let FeatureKind::Sequence { events, max_len, strength, elements, times, .. } = &spec.kind else {
            return Err(Error::Corrupt(format!("field `{}` is not a sequence", field.name)));
        };
        let element = field.name.strip_prefix(&spec.name).and_then(|n| n.strip_prefix('.')).unwrap_or("");
        let of = match times.session_gap_mins() {
            _ if elements.iter().any(|e| e == element) => Part::Keys(self.item_keys(element)?),
            Some(mins) if element == SESSION => Part::Session { longest_ms: i64::from(mins) * 60_000 },
            _ if element == INTERVAL => Part::Interval,
            _ => Part::Gap,
        };
        let mut ragged = Ragged::new(*strength);
        let kinds = Kinds::of(events);
        let (mut picked, mut keys) = (Vec::new(), Vec::new());
        for request in 0..x.requests() {
            latest(&x.history, request, &kinds, *max_len, &mut picked);
            self.keys_of(&of, (x, request), &picked, &mut keys);
            for (&at, &key) in picked.iter().zip(&keys).rev() {
                ragged.push(key, x.history.value[at]);
            }
            ragged.end_row();
        }
        Ok(ragged.column())
    }

    /// The keys of the actions `picked`, latest first.
    fn keys_of(
        &self,
        of: &Part<'_>,
        (x, request): (&Examples, usize),
        picked: &[usize],
        keys: &mut Vec<u64>,
    ) {
        let time_ms = |at: usize| x.history.time_ms[at];
        keys.clear();
        match of {
            Part::Keys(all) => {
                keys.extend(picked.iter().map(|&at| all[x.history.item[at].min(self.no_item) as usize]));
            }
            Part::Gap => keys.extend(
                picked.iter().map(|&at| gap_key(x.request_time_ms[request].saturating_sub(time_ms(at)))),
            ),
            Part::Interval => {
                let before = picked.iter().skip(1).map(|&at| Some(time_ms(at))).chain([None]);
                let since = |(&at, before): (&usize, Option<i64>)| {
                    before.map_or(MISSING, |b| gap_key(time_ms(at).saturating_sub(b)))
                };
                keys.extend(picked.iter().zip(before).map(since));
            }
            Part::Session { longest_ms } => {
                let (mut session, mut after) = (FIRST, None);
                for &at in picked {
                    let ended = |after: i64| after.saturating_sub(time_ms(at)) > *longest_ms;
                    session += u64::from(after.is_some_and(ended));
                    after = Some(time_ms(at));
                    keys.push(session);
                }
            }
        }
    }

    /// ln(1 + m) and m / L per candidate, m being how many of the L latest actions' items share the
    /// candidate's value.
    fn matches(
        &self,
        element: &str,
        (events, max_len): (&[EventKind], usize),
        x: &Examples,
        items: &[u32],
    ) -> Result<Column, Error> {
        let column = self.encoder.field(element).and_then(|place| self.items.get(place as u32));
        let column =
            column.ok_or_else(|| Error::Corrupt(format!("item feature `{element}` has no column")))?;
        let kinds = Kinds::of(events);
        let mut values = Vec::with_capacity(2 * items.len());
        let (mut picked, mut past, mut current) = (Vec::new(), Vec::new(), None);
        for (&item, &request) in items.iter().zip(&x.candidate_request) {
            if current != Some(request) {
                current = Some(request);
                latest(&x.history, request as usize, &kinds, max_len, &mut picked);
                past.clear();
                for &at in &picked {
                    past.extend_from_slice(row_keys(column, x.history.item[at].min(self.no_item) as usize));
                }
                past.sort_unstable();
            }
            let own = row_keys(column, item as usize);
            let shared: usize =
                own.iter().filter(|&&key| key != MISSING).map(|key| count_of(&past, *key)).sum();
            let m = shared as f32 / own.len().max(1) as f32;
            values.extend([m.ln_1p(), m / picked.len().max(1) as f32]);
        }
        Ok(Column::Dense { width: 2, values })
    }

    fn item_keys(&self, feature: &str) -> Result<&[u64], Error> {
        let column = self.encoder.field(feature).and_then(|place| self.items.get(place as u32));
        match column {
            Some(Column::Key(keys)) => Ok(keys),
            _ => Err(Error::Corrupt(format!("item feature `{feature}` has no keys for a sequence"))),
        }
    }

    fn cross(
        &self,
        place: usize,
        (of, buckets): (&[String], Option<u64>),
        x: &Examples,
        before: &[Column],
    ) -> Result<Column, Error> {
        let field = &self.encoder.fields()[place];
        let mut parts = Vec::with_capacity(of.len());
        for name in of {
            let at = self.encoder.field(name).filter(|&at| at < before.len());
            let at =
                at.ok_or_else(|| Error::Corrupt(format!("cross `{}`: no field `{name}`", field.name)))?;
            let expand = field.rows == Rows::Candidate && self.encoder.fields()[at].rows == Rows::Request;
            parts.push((&before[at], expand));
        }
        let rows = if field.rows == Rows::Candidate { x.candidates() } else { x.requests() };
        let mut ragged = Ragged::new(false);
        let (mut keys, mut next) = (Vec::new(), Vec::new());
        for row in 0..rows {
            keys.clear();
            keys.push(0x4D53_u64);
            for (column, expand) in &parts {
                let at = if *expand { x.candidate_request[row] as usize } else { row };
                next.clear();
                for key in row_keys(column, at) {
                    next.extend(keys.iter().map(|&k| combine(k, *key)));
                }
                std::mem::swap(&mut keys, &mut next);
            }
            keys.iter().for_each(|&k| ragged.push(fold(k, buckets), 1.0));
            ragged.end_row();
        }
        Ok(match (ragged.column(), field.shape) {
            (Column::Keys { keys, .. }, crate::Shape::Key) => Column::Key(keys),
            (column, _) => column,
        })
    }
}

/// What a field of a sequence holds of each action.
enum Part<'a> {
    /// The keys `[items]` of an item feature.
    Keys(&'a [u64]),
    /// The time to the request.
    Gap,
    /// The time since the action before.
    Interval,
    /// How many sessions back it is, no two actions of one session being further apart from the next than so long.
    Session { longest_ms: i64 },
}

/// Adds the row that stands for a user or an item that is not known: every feature missing.
fn with_stranger(encoder: &Encoder, side: Side, mut known: Columns) -> Result<Columns, Error> {
    let columns = encoder.schema().columns(side);
    let mut frame = crate::Frame::new("stranger", &columns);
    frame.push_row(0, &[]);
    let stranger = encoder.encode(&[side], &frame, &mut Default::default())?;
    if stranger.fields.is_empty() {
        known.rows += 1;
        return Ok(known);
    }
    if known.fields.is_empty() && known.rows > 0 {
        return Err(Error::Corrupt("the catalogue has rows but no fields".into()));
    }
    known.append(&stranger)?;
    Ok(known)
}

/// Places of the request's latest `max_len` actions of these kinds latest first.
fn latest(history: &History, request: usize, kinds: &Kinds, max_len: usize, out: &mut Vec<usize>) {
    out.clear();
    let wanted = |&at: &usize| kinds.holds(history.kind[at]);
    out.extend(history.span(request).rev().filter(wanted).take(max_len));
}

/// ⌊log₂(seconds + 1)⌋ in [0, 30], after [`FIRST`].
pub fn gap_key(gap_ms: i64) -> u64 {
    let seconds = gap_ms.max(0) as u64 / 1000;
    FIRST + u64::from((seconds + 1).ilog2()).min(GAP_BUCKETS - 1)
}

/// How often `key` is in the sorted `keys`.
fn count_of(keys: &[u64], key: u64) -> usize {
    let start = keys.partition_point(|&k| k < key);
    keys[start..].iter().take_while(|&&k| k == key).count()
}

fn row_keys(column: &Column, row: usize) -> &[u64] {
    match column {
        Column::Key(keys) => &keys[row..=row],
        Column::Keys { offsets, keys, .. } => &keys[offsets[row] as usize..offsets[row + 1] as usize],
        Column::Dense { .. } => &[],
    }
}

fn combine(a: u64, b: u64) -> u64 {
    let mut bytes = [0u8; 16];
    bytes[..8].copy_from_slice(&a.to_le_bytes());
    bytes[8..].copy_from_slice(&b.to_le_bytes());
    xxh3_64(&bytes)
}
